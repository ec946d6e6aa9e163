"""Slides at URLs: found, fetched, known again, and nothing of them stays in scratch."""

import errno
import json
from pathlib import Path

import pytest

from tests.pipeline.remote import s3
from tests.pipeline.remote.s3 import assert_same_but_for_places
from tests.pipeline.runs import (
    CONFIG,
    Command,
    Drawn,
    slides_of,
)
from tests.writers.dicom import write_dicom
from tests.writers.pixels import pyramid, tissue
from wsi_pipeline.remote import owner
from wsi_pipeline.slides.find import SlideSource, find_slides
from wsi_pipeline.slides.staging import staged
from wsi_pipeline.stages.tile import tile_slides

# Server and client warn of what is not ours: sessions left open by a client that was dropped.
pytestmark = pytest.mark.filterwarnings("default")
SETTINGS = ("--tile-size", "128")


def test_done_slides_on_s3_are_skipped_without_fetching_them(
    drawn: Drawn, bucket: str, wsi: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.upload(drawn.folder, f"{bucket}/slides")
    line = ("tile", f"{bucket}/slides", "-o", f"{bucket}/RUN", *SETTINGS)
    assert wsi(*line).code == 0
    with monkeypatch.context() as patched:
        patched.setattr("wsi_pipeline.slides.staging._fetch", None)
        again = wsi(*line)
    assert again.code == 0, again.err
    assert "4 slides done (4 before), 0 failed" in again.out


def test_a_slide_put_again_is_known_by_its_bytes_and_another_one_is_refused(
    drawn: Drawn, bucket: str, wsi: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.upload(drawn.folder, f"{bucket}/slides")
    line = ("tile", f"{bucket}/slides/he.svs", "-o", f"{bucket}/RUN", *SETTINGS)
    assert wsi(*line).code == 0
    later = "wsi_pipeline.slides.staging._seen"
    seen = staged.__wrapped__.__globals__["_seen"]  # type: ignore[attr-defined]
    monkeypatch.setattr(later, lambda part: (seen(part)[0], seen(part)[1] + 10**9))
    assert "1 slides done (1 before), 0 failed" in wsi(*line).out
    data = bytearray(drawn.he.read_bytes())
    data[len(data) // 3] ^= 1
    s3.file_system(bucket).pipe_file(f"{bucket}/slides/he.svs", bytes(data))
    monkeypatch.setattr(later, lambda part: (seen(part)[0], seen(part)[1] + 2 * 10**9))
    again = wsi(*line)
    assert again.code == 1
    assert "its tiles are untouched: --overwrite redoes it" in again.err


def test_a_table_names_slides_here_and_there(drawn: Drawn, bucket: str, tmp_path: Path) -> None:
    s3.upload(drawn.folder, f"{bucket}/slides")
    rows = f"path,centre\nplain.tif,north\n{bucket}/slides/he.svs,south\n{drawn.dark},east\n"
    s3.file_system(bucket).pipe_file(f"{bucket}/slides/slides.csv", rows.encode())
    sources = find_slides([f"{bucket}/slides/slides.csv"])
    assert {each.path: each.columns["centre"] for each in sources} == {
        f"{bucket}/slides/plain.tif": "north",
        f"{bucket}/slides/he.svs": "south",
        str(drawn.dark): "east",
    }
    (tmp_path / "slides.csv").write_text(f"path\n{bucket}/slides/he.svs\n", encoding="utf-8")
    outcome = tile_slides([str(tmp_path / "slides.csv")], tmp_path / "RUN", CONFIG)
    assert [record.path for record in outcome.with_status("done")] == [f"{bucket}/slides/he.svs"]


def test_globs_match_on_s3(drawn: Drawn, bucket: str) -> None:
    s3.upload(drawn.folder, f"{bucket}/a/slides")
    found = [each.path for each in find_slides([f"{bucket}/*/slides/*.tif"])]
    assert found == [f"{bucket}/a/slides/{name}.tif" for name in ("dark", "plain")]


def test_a_slide_of_several_files_is_fetched_with_all_of_them(
    bucket: str, scratch: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "slides"
    (folder / "a").mkdir(parents=True)
    files = {"a.mrxs": b"1", "a/Slidedat.ini": b"22", "a/Data0000.dat": b"333", "b.mrxs": b"4"}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    s3.upload(folder, f"{bucket}/slides")
    assert [each.slide_id for each in find_slides([f"{bucket}/slides"])] == ["a", "b"]
    with staged(SlideSource(slide_id="a", path=f"{bucket}/slides/a.mrxs")) as here:
        beside = Path(here.path).parent
        found = {
            str(path.relative_to(beside)): path.read_bytes()
            for path in beside.rglob("*")
            if path.is_file()
        }
        assert found == {name: data for name, data in files.items() if name != "b.mrxs"}
    assert list(scratch.iterdir()) == []


def test_a_dicom_series_on_s3_is_one_slide(bucket: str, scratch: Path, tmp_path: Path) -> None:
    levels = pyramid(tissue(352, 264), 2, 4)
    (tmp_path / "slides" / "case").mkdir(parents=True)
    write_dicom(tmp_path / "slides" / "case", levels, transfer="none", names="level", series=2)
    s3.upload(tmp_path / "slides", f"{bucket}/slides")
    for slides, run in ((str(tmp_path / "slides"), "LOCAL"), (f"{bucket}/slides", "RUN")):
        tile_slides([slides], tmp_path / run, CONFIG)
    assert slides_of(tmp_path / "RUN")["case"]["path"] == f"{bucket}/slides/case/level0.dcm"
    assert_same_but_for_places(tmp_path / "RUN", tmp_path / "LOCAL")
    assert list(scratch.iterdir()) == []


def test_a_slide_that_cannot_be_opened_leaves_nothing_in_scratch(
    drawn: Drawn, bucket: str, scratch: Path, wsi: Command
) -> None:
    s3.upload(drawn.folder, f"{bucket}/slides")
    s3.file_system(bucket).pipe_file(f"{bucket}/slides/none.svs", b"no slide at all")
    ended = wsi("tile", f"{bucket}/slides", "-o", f"{bucket}/RUN", *SETTINGS)
    assert ended.code == 1
    assert "failed: none" in ended.err
    assert "4 slides done, 1 failed" in ended.out
    assert list(scratch.iterdir()) == []


def test_a_slide_that_does_not_fit_into_scratch_says_so_and_the_others_are_cut(
    drawn: Drawn, bucket: str, scratch: Path, wsi: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_key: str, copy: str) -> None:
        Path(copy).write_bytes(b"as much as there is room for")
        raise OSError(errno.ENOSPC, "No space left on device")

    s3.upload(drawn.folder, f"{bucket}/slides")
    monkeypatch.setattr(s3.file_system(bucket), "get_file", full)
    ended = wsi("tile", f"{bucket}/slides/he.svs", drawn.plain, "-o", f"{bucket}/RUN", *SETTINGS)
    assert ended.code == 1
    assert "1 slides done, 1 failed" in ended.out
    assert f"does not fit into {scratch}: name a larger folder with TMPDIR" in ended.err
    assert list(scratch.iterdir()) == []


def test_what_a_killed_process_left_in_scratch_is_removed(
    drawn: Drawn, bucket: str, scratch: Path
) -> None:
    host = owner().rpartition("-")[0]
    left = scratch / f"wsi-pipeline-{host}-4194305-x"  # above any process number
    others = scratch / "wsi-pipeline-elsewhere-1-x"
    left.mkdir()
    others.mkdir()
    s3.upload(drawn.folder, bucket)
    with staged(SlideSource(slide_id="he", path=f"{bucket}/he.svs")):
        assert not left.exists()
    assert list(scratch.iterdir()) == [others]


def test_info_and_dry_run_look_at_remote_slides(
    drawn: Drawn, bucket: str, scratch: Path, wsi: Command
) -> None:
    s3.upload(drawn.folder, f"{bucket}/slides")
    told = wsi("info", f"{bucket}/slides/he.svs", "--json")
    assert json.loads(told.out)[0]["width"] == 900
    dry = wsi("tile", f"{bucket}/slides", "-o", f"{bucket}/RUN", *SETTINGS, "--dry-run")
    assert dry.code == 0
    assert not s3.file_system(bucket).exists(f"{bucket}/RUN")
    assert list(scratch.iterdir()) == []


def test_a_row_that_names_no_object_is_that_slides_failure(
    drawn: Drawn, bucket: str, tmp_path: Path
) -> None:
    table = tmp_path / "slides.csv"
    table.write_text(f"path\n{drawn.he}\n{bucket}/none.svs\n", encoding="utf-8")
    outcome = tile_slides([str(table)], tmp_path / "RUN", CONFIG)
    failed = outcome.with_status("failed")
    assert [record.reason for record in failed] == [
        "cannot be fetched: there is no such object; check bucket and key"
    ]
    assert len(outcome.with_status("done")) == 1
