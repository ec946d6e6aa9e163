"""Importing once more: what is done stays, what was cut off is finished, what has changed is said."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline.images import class_folders, encoded, parquet_of_images, stored_bytes
from tests.pipeline.runs import (
    Command,
    InterruptedRunError,
    InterruptingPool,
    assert_same_run,
    digests,
    environment,
    leftovers,
    manifest,
    slides_of,
)
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.stages.import_tiles import ImportConfig, ImportOutcome, import_tiles
from wsi_pipeline.stages.verify import verify_run

SETTINGS = ImportConfig()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Parquet file of four slides, 70 tiles each, so that each has two shards."""
    images: list[bytes | None] = [encoded(number) for number in range(280)]
    slides = [f"s{number % 4}" for number in range(280)]
    parquet_of_images(tmp_path / "set.parquet", images, slide_id=slides)
    return tmp_path / "set.parquet"


def done_before(outcome: ImportOutcome) -> set[str | None]:
    return {record.reason for record in outcome.tiling.records}


def test_nothing_is_done_twice(source: Path, tmp_path: Path) -> None:
    import_tiles(source, tmp_path / "RUN", SETTINGS)
    shards = sorted((tmp_path / "RUN" / "tiles.zarr").rglob("c.*"))
    before = [path.stat().st_mtime_ns for path in shards]
    again = import_tiles(source, tmp_path / "RUN", SETTINGS)
    assert [path.stat().st_mtime_ns for path in shards] == before
    assert len(again.tiling.with_status("done")) == 4


def test_what_was_imported_before_is_not_told_as_new(
    source: Path, tmp_path: Path, wsi: Command
) -> None:
    line = ("import", source, "-o", tmp_path / "RUN")
    first = wsi(*line)
    assert "280 tiles in 4 arrays" in first.out
    assert ": 280 JPEG files kept byte for byte, 0 images" in first.out
    for name in ("s1", "s2"):
        (tmp_path / "RUN" / ".state" / "slides" / f"{name}.json").unlink()
    some = wsi(*line)
    assert "280 tiles in 4 arrays" in some.out
    assert ", 2 of them new: 140 JPEG files kept byte for byte, 0 images" in some.out
    none = wsi(*line)
    assert none.code == 0
    assert "nothing new: 280 tiles in 4 arrays" in none.out
    assert "kept" not in none.out
    said = json.loads(wsi(*line, "--json").out)
    assert (said["tiles"], said["tiles_new"]) == (280, 0)


@pytest.mark.parametrize("answers", [0, 1, 3])
def test_an_interrupted_import_goes_on_to_the_same_run(
    answers: int, source: Path, tmp_path: Path
) -> None:
    import_tiles(source, tmp_path / "WHOLE", SETTINGS)
    with pytest.raises(InterruptedRunError):
        import_tiles(source, tmp_path / "RUN", SETTINGS, pool=InterruptingPool(answers))
    assert len(slides_of(tmp_path / "RUN")) == answers
    import_tiles(source, tmp_path / "RUN", SETTINGS)
    (tmp_path / "RUN" / "import.json").unlink()  # holds times
    (tmp_path / "WHOLE" / "import.json").unlink()
    assert_same_run(tmp_path / "RUN", tmp_path / "WHOLE")


@pytest.mark.slow
def test_a_killed_import_goes_on_to_the_same_run(source: Path, tmp_path: Path) -> None:
    import_tiles(source, tmp_path / "WHOLE", SETTINGS)
    line = [sys.executable, "-m", "wsi_pipeline", "import", str(source), "-o", "RUN"]
    _kill_after(line, shards=3, cwd=tmp_path)
    ended = subprocess.run(
        line, cwd=tmp_path, env=environment(), capture_output=True, timeout=60, check=True
    )
    assert b"280 tiles in 4 arrays" in ended.stdout
    (tmp_path / "RUN" / "import.json").unlink()
    (tmp_path / "WHOLE" / "import.json").unlink()
    assert leftovers(tmp_path / "RUN") == []
    assert_same_run(tmp_path / "RUN", tmp_path / "WHOLE")


def _kill_after(line: list[str], *, shards: int, cwd: Path) -> None:
    """Start a command and kill it and its workers when so many shards are there."""
    store = cwd / "RUN" / "tiles.zarr"
    with subprocess.Popen(
        line, cwd=cwd, env=environment(), start_new_session=True, stderr=subprocess.DEVNULL
    ) as started:
        until = time.monotonic() + 60
        while len(list(store.glob("*/c.*"))) < shards and started.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.005)
        os.killpg(started.pid, signal.SIGKILL)


def test_other_content_is_said_and_nothing_is_touched(source: Path, tmp_path: Path) -> None:
    import_tiles(source, tmp_path / "RUN", SETTINGS)
    before = stored_bytes(tmp_path / "RUN", "s0")
    changed: list[bytes | None] = [encoded(number + (number == 0)) for number in range(280)]
    slides = [f"s{number % 4}" for number in range(280)]
    parquet_of_images(source, changed, slide_id=slides)
    outcome = import_tiles(source, tmp_path / "RUN", SETTINGS)
    (failed,) = outcome.tiling.with_status("failed")
    assert failed.slide_id == "s0"
    assert "done before from other content of these images" in (failed.reason or "")
    assert stored_bytes(tmp_path / "RUN", "s0") == before
    assert slides_of(tmp_path / "RUN")["s0"]["status"] == "done"
    import_tiles(source, tmp_path / "RUN", SETTINGS, overwrite=True)
    assert stored_bytes(tmp_path / "RUN", "s0")[0] == encoded(1)
    assert verify_run(tmp_path / "RUN").findings == ()


def test_a_copy_of_another_time_is_the_same_source(source: Path, tmp_path: Path) -> None:
    import_tiles(source, tmp_path / "RUN", SETTINGS)
    os.utime(source, ns=(1, 1))
    assert done_before(import_tiles(source, tmp_path / "RUN", SETTINGS)) == {None}
    assert {row["mtime_ns"] for row in slides_of(tmp_path / "RUN").values()} == {1}


def test_other_labels_are_other_rows(tmp_path: Path, wsi: Command) -> None:
    class_folders(tmp_path / "NCT", {"TUM": 2, "STR": 2})
    assert wsi("import", tmp_path / "NCT", "-o", tmp_path / "RUN").code == 0
    (tmp_path / "NCT" / "STR").rename(tmp_path / "NCT" / "MUC")
    ended = wsi("import", tmp_path / "NCT", "-o", tmp_path / "RUN")
    assert ended.code == 1
    assert "done before from other rows or with other import settings" in ended.err
    assert set(manifest(tmp_path / "RUN")["label"]) == {"TUM", "STR"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_images_that_a_new_column_groups_otherwise_are_not_taken_twice(
    tmp_path: Path, *, overwrite: bool
) -> None:
    class_folders(tmp_path / "tiles", {"a": 4})
    table, run = tmp_path / "tiles.csv", tmp_path / "RUN"
    names = [f"tiles/a/{number:04d}.jpg" for number in range(4)]
    table.write_text("\n".join(["path", *names]))
    import_tiles(table, run, ImportConfig())
    before = digests(run)
    lines = [f"{name},P{number % 2}" for number, name in enumerate(names)]
    table.write_text("\n".join(["path,patient_id", *lines]))
    with pytest.raises(ConfigError, match="they would be in the run twice"):
        import_tiles(table, run, ImportConfig(), overwrite=overwrite)
    assert digests(run) == before


def test_slides_that_have_left_the_source_stay_in_the_run(tmp_path: Path) -> None:
    class_folders(tmp_path / "tiles", {"a": 2})
    table, run = tmp_path / "tiles.csv", tmp_path / "RUN"
    table.write_text("path,slide_id\ntiles/a/0000.jpg,s0\n")
    import_tiles(table, run, ImportConfig())
    table.write_text("path,slide_id\ntiles/a/0001.jpg,s1\n")
    import_tiles(table, run, ImportConfig())
    assert sorted(manifest(run)["slide_id"]) == ["s0", "s1"]


def test_other_settings_are_refused_with_the_difference(tmp_path: Path, wsi: Command) -> None:
    class_folders(tmp_path / "NCT", {"TUM": 2})
    assert wsi("import", tmp_path / "NCT", "-o", tmp_path / "RUN").code == 0
    ended = wsi("import", tmp_path / "NCT", "-o", tmp_path / "RUN", "--codec", "zstd")
    assert ended.code == 2
    assert "codec: was jpeg:90, now zstd" in ended.err
    ended = wsi(
        "import", tmp_path / "NCT", "-o", tmp_path / "RUN", "--codec", "zstd", "--overwrite"
    )
    assert ended.code == 0
    assert verify_run(tmp_path / "RUN").findings == ()


def test_two_sources_share_a_run_and_no_name(tmp_path: Path) -> None:
    class_folders(tmp_path / "one", {"TUM": 2})
    class_folders(tmp_path / "two", {"STR": 3})
    import_tiles(tmp_path / "one", tmp_path / "RUN", SETTINGS)
    import_tiles(tmp_path / "two", tmp_path / "RUN", SETTINGS)
    assert manifest(tmp_path / "RUN").groupby("slide_id", observed=True).size().to_dict() == {
        "one": 2,
        "two": 3,
    }
    class_folders(tmp_path / "other" / "one", {"FAT": 1})
    with pytest.raises(ConfigError, match=r"slide_id: 'one' is .*, and now .*other/one"):
        import_tiles(tmp_path / "other" / "one", tmp_path / "RUN", SETTINGS)


def test_settings_come_from_a_file_and_flags_win(tmp_path: Path, wsi: Command) -> None:
    class_folders(tmp_path / "NCT", {"TUM": 2})
    (tmp_path / "settings.yaml").write_text("threshold: 100\nmpp: 0.5\nfolders: none\n")
    config = ("--config", tmp_path / "settings.yaml")
    ended = wsi("import", tmp_path / "NCT", "-o", tmp_path / "RUN", *config, "--threshold", "150")
    assert ended.code == 0
    assert slides_of(tmp_path / "RUN")["NCT"]["tissue_threshold"] == 150
    assert set(manifest(tmp_path / "RUN")["mpp"]) == {0.5}
    (tmp_path / "settings.yaml").write_text("tresholds: 100\n")
    ended = wsi("import", tmp_path / "NCT", "-o", tmp_path / "RUN", *config)
    assert ended.code == 2
    assert "unknown key tresholds (did you mean threshold?)" in ended.err
    ended = wsi("import", tmp_path / "NCT", "-o", tmp_path / "RUN", "--folders", "colour")
    assert ended.code == 2
    assert "folders: expected none, or some of label" in ended.err
    ended = wsi("import", tmp_path / "NCT", "-o", tmp_path / "RUN", "--column", "label")
    assert ended.code == 2
    assert "column: expected NAME=COLUMN such as label=tumor, got 'label'" in ended.err
