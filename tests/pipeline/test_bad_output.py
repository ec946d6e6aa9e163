"""Output that cannot be written, or that holds another run already."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.pipeline.runs import (
    GOOD,
    Command,
    Drawn,
    assert_same_run,
    assert_whole,
    digests,
    good_folder,
    leftovers,
    process,
    slides_of,
    tile,
)
from wsi_pipeline.stages.verify import verify_run

SETTINGS = ("--tile-size", "128", "--codec", "zstd")
MOUNT, UMOUNT = shutil.which("mount") or "/bin/mount", shutil.which("umount") or "/bin/umount"
SmallDisk = Callable[[str], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, SmallDisk]]:
    """A disk of its own, and how to give it another size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    line = [MOUNT, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(line, check=False, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here: mounting a tmpfs is refused")

    def resize(size: str) -> None:
        subprocess.run([MOUNT, "-o", f"remount,size={size}", str(folder)], check=True)

    yield folder, resize
    if subprocess.run([UMOUNT, str(folder)], check=False).returncode:
        subprocess.run([UMOUNT, "--lazy", str(folder)], check=True)
        pytest.fail("a file on the full disk is still open, so its space is still taken")


def test_a_file_where_the_run_should_be_is_refused(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    (tmp_path / "RUN").write_text("mine", encoding="utf-8")
    ended = wsi("tile", drawn.plain, "-o", tmp_path / "RUN")
    assert ended.code == 2
    assert f"{tmp_path / 'RUN'}: expected a folder to write to" in ended.err
    assert "a file; choose another with -o" in ended.err
    assert ended.err.count("\n") == 1
    assert (tmp_path / "RUN").read_text("utf-8") == "mine"


def test_a_real_process_refuses_a_file_where_the_run_should_be(
    drawn: Drawn, tmp_path: Path
) -> None:
    (tmp_path / "RUN").write_text("mine", encoding="utf-8")
    ended = process("tile", drawn.plain, "-o", tmp_path / "RUN")
    assert ended.code == 2
    assert "a file; choose another with -o" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("inside", ["file/RUN", "file/deep/RUN"])
def test_a_run_below_a_file_ends_with_a_sentence(
    inside: str, drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    ended = wsi("tile", drawn.plain, "-o", tmp_path / inside)
    assert ended.code in {1, 2}
    assert "choose another" in ended.err
    assert "Traceback" not in ended.err


def test_a_folder_that_is_no_run_but_holds_files_keeps_them(drawn: Drawn, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    tile(tmp_path, drawn.plain)
    assert_whole(tmp_path, done=["plain"])
    assert (tmp_path / "mine.txt").read_text("utf-8") == "mine"


def test_a_damaged_run_json_is_refused_with_its_name(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    tile(tmp_path / "RUN", drawn.plain)
    (tmp_path / "RUN" / "run.json").write_text("{", encoding="utf-8")
    for arguments in (("tile", drawn.plain, "-o"), ("verify",)):
        ended = wsi(*arguments, tmp_path / "RUN")
        assert ended.code == 2
        assert "run.json: cannot be read" in ended.err


@pytest.mark.parametrize("size", ["16k", "64k", "200k", "400k", "700k", "1m", "1500k"])
def test_a_full_disk_ends_with_a_sentence_and_the_same_call_goes_on(
    size: str, drawn: Drawn, tmp_path: Path, disk: tuple[Path, SmallDisk], wsi: Command
) -> None:
    folder, resize = disk
    slides = good_folder(drawn, tmp_path / "slides")
    resize(size)
    ended = wsi("tile", slides, "-o", folder / "RUN", *SETTINGS)
    assert ended.code == 1
    assert_full_disk(ended.err)
    assert leftovers(folder) == []
    resize("200m")
    assert wsi("tile", slides, "-o", folder / "RUN", *SETTINGS).code == 0
    assert wsi("tile", slides, "-o", tmp_path / "RUN", *SETTINGS).code == 0
    assert_whole(folder / "RUN", done=GOOD)
    assert_same_run(folder / "RUN", tmp_path / "RUN")
    assert verify_run(folder / "RUN").findings == ()


def test_a_full_disk_under_worker_processes(
    drawn: Drawn, tmp_path: Path, disk: tuple[Path, SmallDisk]
) -> None:
    folder, resize = disk
    slides = good_folder(drawn, tmp_path / "slides")
    line = ("tile", slides, "-o", folder / "RUN", *SETTINGS, "--workers", "2")
    ended = process(*line)
    assert ended.code == 1
    assert_full_disk(ended.err)
    assert leftovers(folder) == []
    resize("200m")
    again = process(*line)
    assert again.code == 0, again.err
    assert_whole(folder / "RUN", done=GOOD)
    assert verify_run(folder / "RUN").findings == ()


def test_a_run_of_other_settings_is_refused_with_the_difference(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    tile(tmp_path / "RUN", drawn.plain)
    before = digests(tmp_path / "RUN")
    ended = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", "--tile-size", "64", "--edge", "drop")
    assert ended.code == 2
    assert "edge: was pad, now drop; tile_size: was 128, now 64" in ended.err
    assert "--overwrite" in ended.err
    assert ended.err.count("\n") == 1
    assert digests(tmp_path / "RUN") == before
    dry = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", "--tile-size", "64", "--dry-run")
    assert dry.code == 2


def test_overwrite_redoes_a_run_of_other_settings(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    tile(tmp_path / "RUN", drawn.plain, drawn.he)
    settings = ("--tile-size", "64", "--codec", "zstd")
    line = ("tile", drawn.plain, drawn.he)
    assert wsi(*line, "-o", tmp_path / "RUN", *settings, "--overwrite").code == 0
    assert wsi(*line, "-o", tmp_path / "OTHER", *settings).code == 0
    assert_whole(tmp_path / "RUN", done=GOOD)
    assert_same_run(tmp_path / "RUN", tmp_path / "OTHER")
    assert verify_run(tmp_path / "RUN").findings == ()


def test_overwriting_without_a_store_removes_the_stored_tiles(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    tile(tmp_path / "RUN", drawn.plain)
    settings = ("--tile-size", "128", "--store", "none", "--overwrite")
    assert wsi("tile", drawn.plain, "-o", tmp_path / "RUN", *settings).code == 0
    assert_whole(tmp_path / "RUN", done=["plain"], store=False)
    assert verify_run(tmp_path / "RUN").findings == ()


def test_slides_of_other_settings_never_pass_for_done_after_others_were_overwritten(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    tile(tmp_path / "RUN", drawn.plain, drawn.he)
    settings = ("-o", tmp_path / "RUN", "--tile-size", "64")
    partly = wsi("tile", drawn.plain, *settings, "--overwrite")
    again = wsi("tile", drawn.plain, drawn.he, *settings)
    digests_now = {row["config_digest"] for row in slides_of(tmp_path / "RUN").values()}
    assert len(digests_now) == 1 or again.code != 0, (partly, again)
    assert verify_run(tmp_path / "RUN").findings == ()


def test_a_part_that_overwrites_leaves_no_slide_of_other_settings_that_passes_for_done(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    tile(tmp_path / "RUN", drawn.plain, drawn.he)
    settings = ("-o", tmp_path / "RUN", "--tile-size", "64")
    first = wsi("tile", drawn.plain, drawn.he, *settings, "--part", "1/2", "--overwrite")
    second = wsi("tile", drawn.plain, drawn.he, *settings, "--part", "2/2")
    digests_now = {row["config_digest"] for row in slides_of(tmp_path / "RUN").values()}
    assert len(digests_now) == 1 or second.code != 0, (first, second)


def assert_full_disk(err: str) -> None:
    """Assert one sentence, the last line, that names the full disk and what to do."""
    last = err.splitlines()[-1]
    assert last.startswith("error: cannot write ")
    assert last.endswith("the disk or the quota is full: make room and run the same command again")
    assert "Traceback" not in err
