"""A training on a run at a URL: its model is there too, and goes on where it was cut off."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.remote import s3  # noqa: E402
from tests.pipeline.trainable import labelled_run, same_weights, small, weights_of  # noqa: E402
from wsi_pipeline.train.checkpoint import read_checkpoint  # noqa: E402
from wsi_pipeline.train.observer import SilentTrainObserver  # noqa: E402
from wsi_pipeline.training import load_network, train  # noqa: E402


class Stops(SilentTrainObserver):
    """Ends a training as a crash would."""

    def on_step(self, row: Mapping[str, Any]) -> None:
        if row["step"] == 4:
            raise ZeroDivisionError


def test_a_model_of_a_remote_run_is_that_of_a_local_one(bucket: str, tmp_path: Path) -> None:
    local = labelled_run(tmp_path)
    s3.upload(local, f"{bucket}/RUN")
    config, work = small(epochs=2)
    _, often = small(epochs=2, checkpoint_minutes=1e-9)
    here = train(local, config, name="model", work=work)
    with pytest.raises(ZeroDivisionError):
        train(f"{bucket}/RUN", config, name="model", work=often, observer=Stops())
    there = train(f"{bucket}/RUN", config, name="model", work=work)
    content = read_checkpoint(there.directory.last)
    assert content is not None
    assert same_weights(content["learner"]["network"], weights_of(here.directory))
    assert load_network(f"{bucket}/RUN/models/model").classes == ("benign", "cancer")
    assert there.best_loss == here.best_loss
