"""Labels of a run at a URL, from annotations at a URL, are those of the local ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.annotating import rectangle, write_geojson
from tests.pipeline.remote import s3
from tests.pipeline.runs import manifest
from wsi_pipeline.labels.rules import LabelConfig
from wsi_pipeline.stages.label import label_run

pytestmark = pytest.mark.filterwarnings("default")


def test_labels_on_s3_are_those_of_the_local_run(
    run: Path, drawings: Path, bucket: str, tmp_path: Path
) -> None:
    write_geojson(drawings / "he.geojson.gz", [rectangle("tumor", 10, 20, 400, 300)])
    Image.fromarray(np.ones((70, 90), dtype=np.uint8)).save(drawings / "plain_mask.png")
    s3.upload(run, f"{bucket}/RUN")
    s3.upload(drawings, f"{bucket}/drawings")
    for place, folder in ((f"{bucket}/RUN", f"{bucket}/drawings"), (str(run), str(drawings))):
        config = LabelConfig(annotations=folder, mask_values={"stroma": (1,)})
        outcome = label_run(place, config)
        assert outcome.failed == ()
    remote = s3.download(f"{bucket}/RUN", tmp_path / "REMOTE")
    assert manifest(remote).equals(manifest(run))
    assert manifest(run)["label_share_tumor"].max() == 1
