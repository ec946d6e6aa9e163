"""The report of a run at a URL is that of the same run on the disk."""

import shutil
from pathlib import Path

import pytest

from tests.pipeline.remote import s3
from wsi_pipeline.remote import place
from wsi_pipeline.stages.report import report_run

pytestmark = pytest.mark.filterwarnings("default")
MADE = "2026-01-01T00:00:00+00:00"


def test_a_report_of_a_run_on_s3_has_the_bytes_of_the_local_one(
    undisturbed: Path, bucket: str, tmp_path: Path
) -> None:
    s3.upload(undisturbed, f"{bucket}/RUN")
    shutil.copytree(undisturbed, tmp_path / "RUN")
    local = report_run(tmp_path / "RUN", made=MADE).path.read_bytes()
    report_run(f"{bucket}/RUN", made=MADE)
    assert place(f"{bucket}/RUN/report.html").read_bytes() == local
    assert local.count(b"data:image/") > 4
