"""Quality of a run at a URL: the same columns and pictures as locally."""

import shutil
from pathlib import Path

import pytest

from tests.pipeline.remote import s3
from tests.pipeline.runs import digests
from wsi_pipeline.config import make_config
from wsi_pipeline.labels.comparison_config import CompareConfig
from wsi_pipeline.labels.quality_config import QcConfig
from wsi_pipeline.stages.compare import compare_groups
from wsi_pipeline.stages.qc import qc_run

# Server and client warn of what is not ours: sessions left open by a client that was dropped.
pytestmark = pytest.mark.filterwarnings("default")


def test_qc_and_compare_of_a_run_on_s3_write_what_they_write_locally(
    undisturbed: Path, bucket: str, scratch: Path, tmp_path: Path
) -> None:
    config = make_config(QcConfig, {"clusters": 3, "collage_tiles": 4})
    groups = make_config(CompareConfig, {"by": "slide_id"})
    shutil.copytree(undisturbed, tmp_path / "LOCAL")
    s3.upload(undisturbed, f"{bucket}/RUN")
    for run in (tmp_path / "LOCAL", f"{bucket}/RUN"):
        qc_run(run, config)
        qc_run(run, config)  # once more, with clusters and collages that are there
        compare_groups(run, groups)
    remote = s3.download(f"{bucket}/RUN", tmp_path / "REMOTE")
    assert digests(remote) == digests(tmp_path / "LOCAL")
    assert list(scratch.iterdir()) == []
