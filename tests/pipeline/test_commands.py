"""What commands print: dry runs, JSON, ``info``, ``doctor``, versions, help, the demo."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.runs import (
    SIZE,
    Command,
    Drawn,
    Ended,
    assert_whole,
    environment,
    process,
    slides_of,
    tile,
    with_status,
)
from wsi_pipeline import __version__
from wsi_pipeline.cli.app import app
from wsi_pipeline.stages.split_audit import audit_split
from wsi_pipeline.stages.verify import verify_run

SETTINGS = ("--tile-size", "128")


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("codec", ["jpeg:90", "zstd"])
def test_a_dry_run_says_what_is_cut_then_and_writes_nothing(
    codec: str, drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    line = ("tile", drawn.folder, "-o", tmp_path / "RUN", "--tile-size", "64", "--codec", codec)
    before = tree(drawn.folder)
    dry = wsi(*line, "--dry-run", "--json")
    assert dry.code == 0
    assert not (tmp_path / "RUN").exists()
    assert tree(drawn.folder) == before
    said = json.loads(dry.out)
    assert wsi(*line).code == 0
    rows = slides_of(tmp_path / "RUN")
    estimated = {each["slide_id"]: each for each in said["slides"]}
    assert {name: each["tiles"] for name, each in estimated.items()} == {
        name: row["tiles"] for name, row in rows.items()
    }
    assert said["tiles"] == sum(row["tiles"] for row in rows.values())
    stored_bytes = sum(row["stored_bytes"] for row in rows.values())
    assert said["stored_bytes"] == pytest.approx(stored_bytes, rel=0.3)
    assert said["seconds"] > 0


def test_a_dry_run_prints_a_table_with_reasons(drawn: Drawn, tmp_path: Path, wsi: Command) -> None:
    shutil.copy(drawn.plain, tmp_path)
    (tmp_path / "empty.svs").touch()
    (tmp_path / "README").touch()
    dry = wsi("tile", tmp_path, "-o", tmp_path / "RUN", *SETTINGS, "--dry-run")
    assert "the file is empty (0 bytes)" in dry.out
    assert "nothing was written" in dry.out
    assert not (tmp_path / "RUN").exists()


def test_a_dry_run_leaves_out_what_is_done(drawn: Drawn, tmp_path: Path, wsi: Command) -> None:
    tile(tmp_path / "RUN", drawn.plain)
    before = tree(tmp_path / "RUN")
    line = ("tile", drawn.plain, drawn.he, "-o", tmp_path / "RUN", *SETTINGS, "--dry-run", "--json")
    said = json.loads(wsi(*line).out)
    assert [each["slide_id"] for each in said["slides"]] == ["he"]
    again = json.loads(wsi(*line, "--overwrite").out)
    assert [each["slide_id"] for each in again["slides"]] == ["he", "plain"]
    assert tree(tmp_path / "RUN") == before


def test_a_dry_run_in_real_processes(drawn: Drawn, tmp_path: Path) -> None:
    dry = process("tile", drawn.plain, "-o", tmp_path / "RUN", *SETTINGS, "--dry-run")
    assert dry.code == 0
    assert "would cut" in dry.out
    assert list(tmp_path.iterdir()) == []


def test_tile_prints_json_that_can_be_read(drawn: Drawn, tmp_path: Path) -> None:
    (tmp_path / "bad.svs").touch()
    line = ("tile", drawn.plain, tmp_path / "bad.svs", "-o", tmp_path / "RUN", *SETTINGS, "--json")
    ended = process(*line)
    said = json.loads(ended.out)
    assert ended.code == said["exit_code"] == 1
    assert (said["done"], said["failed"], said["skipped"]) == (1, 1, 0)
    assert said["run"] == str(tmp_path / "RUN")
    assert {each["slide_id"]: each["status"] for each in said["slides"]} == {
        "bad": "failed",
        "plain": "done",
    }
    assert ended.err.splitlines()[-1].startswith("failed: bad")


def test_quiet_says_only_what_went_wrong(drawn: Drawn, tmp_path: Path, wsi: Command) -> None:
    (tmp_path / "bad.svs").touch()
    good = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", *SETTINGS, "--quiet")
    assert (good.code, good.out, good.err) == (0, "", "")
    bad = wsi("tile", tmp_path / "bad.svs", "-o", tmp_path / "RUN", *SETTINGS, "--quiet")
    assert (bad.code, bad.out) == (1, "")
    assert bad.err.startswith("failed: bad")
    assert bad.err.count("\n") == 1


def test_a_terminal_shows_progress_and_the_same_run(drawn: Drawn, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "wsi_pipeline", "tile", drawn.folder, "-o", tmp_path / "RUN"]
    settings = ["--tile-size", "64", "--min-tissue", "0"]
    with subprocess.Popen(
        [*map(str, line), *settings],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**environment(), "TERM": "xterm"},
    ) as running:
        os.close(theirs)
        drawn_bars = b""
        while True:
            try:
                read = os.read(ours, 65536)
            except OSError:  # the other end was closed
                break
            if not read:
                break
            drawn_bars += read
        os.close(ours)
    assert running.returncode == 0
    assert b"slides" in drawn_bars
    assert b"tiles/s" in drawn_bars
    assert_whole(tmp_path / "RUN", done=["he", "plain", "dark", "flat"])


def test_info_says_what_a_slide_is(drawn: Drawn, wsi: Command) -> None:
    ended = wsi("info", drawn.he, drawn.flat)
    assert ended.code == 0
    for words in ("aperio", "900 x 700", "0.5 x 0.5", "SS1234", "20 x", "225 x 175", "unknown"):
        assert words in ended.out


def test_info_prints_json_that_can_be_read(drawn: Drawn, wsi: Command) -> None:
    ended = wsi("info", drawn.folder, "--json")
    assert ended.code == 0
    said = {each["slide_id"]: each for each in json.loads(ended.out)}
    assert set(said) == {"he", "plain", "dark", "flat"}
    he = said["he"]
    assert (he["width"], he["height"], he["mpp_x"]) == (SIZE.width, SIZE.height, 0.5)
    assert (he["scanner"], he["objective_power"], len(he["levels"])) == ("SS1234", 20, 3)
    assert he["bounds"] == [0, 0, SIZE.width, SIZE.height]
    assert said["flat"]["mpp_x"] is None
    assert all(each["backend_reason"] for each in said.values())


def test_info_goes_on_after_a_bad_file_and_ends_with_1(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    (tmp_path / "bad.svs").write_text("no slide", encoding="utf-8")
    ended = wsi("info", tmp_path / "bad.svs", drawn.he, "--json")
    assert ended.code == 1
    bad, he = json.loads(ended.out)
    assert "no backend opens it" in bad["error"]
    assert "error" not in he


def test_info_of_what_is_not_there_ends_with_2(tmp_path: Path, wsi: Command) -> None:
    ended = wsi("info", tmp_path / "gone.svs")
    assert ended.code == 2
    assert "no such file, folder or match" in ended.err


def test_verify_prints_json_that_can_be_read(undisturbed: Path, wsi: Command) -> None:
    ended = wsi("verify", undisturbed, "--json")
    assert ended.code == 0
    said = json.loads(ended.out)
    assert said["findings"] == []
    assert [each["slide_id"] for each in said["slides"]] == ["dark", "flat", "he", "plain"]


def test_doctor_finds_everything_in_order(wsi: Command) -> None:
    ended = wsi("doctor", "--json")
    assert ended.code == 0
    checks = {check["name"]: check for check in json.loads(ended.out)}
    assert {"python", "wsi-pipeline", "storing jpeg", "storing zstd", "cores"} <= set(checks)
    assert {check["state"] for check in checks.values()} <= {"ok", "absent"}
    assert wsi("doctor").code == 0


def test_the_module_and_the_console_script_are_the_same_command() -> None:
    script = Path(sys.executable).with_name("wsi-pipeline")
    if not script.exists():
        pytest.skip(f"the console script is not installed beside {sys.executable}")
    for arguments in (["--version"], ["--help"], ["tile", "--help"], ["tile"], ["no-such"]):
        ran = [
            subprocess.run(
                [*line, *arguments], capture_output=True, text=True, check=False, env=environment()
            )
            for line in ([str(script)], [sys.executable, "-m", "wsi_pipeline"])
        ]
        assert (ran[0].returncode, ran[0].stdout, ran[0].stderr) == (
            ran[1].returncode,
            ran[1].stdout,
            ran[1].stderr,
        )


def test_the_version_is_the_packages(wsi: Command) -> None:
    ended = wsi("--version")
    assert (ended.code, ended.out) == (0, f"wsi-pipeline {__version__}\n")


@pytest.mark.parametrize(
    "command",
    [
        "",
        "tile",
        "info",
        "verify",
        "demo",
        "doctor",
        "label",
        "qc",
        "split",
        "report",
        "compare",
        "import",
        "export",
    ],
)
def test_help_ends_with_0_and_loads_nothing_heavy(command: str) -> None:
    probe = (
        "import sys\n"
        f"sys.argv = ['wsi-pipeline', {f'{command!r}, ' if command else ''}'--help']\n"
        "from wsi_pipeline.cli.app import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as left:\n"
        "    heavy = {'torch', 'dask', 'distributed', 'zarr', 'openslide', 'pandas', 'pyarrow'}\n"
        "    print(left.code or 0, sorted(heavy & sys.modules.keys()), file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=environment()
    )
    assert ended.stderr == "0 []\n"
    assert "Usage" in ended.stdout


def test_every_command_stands_once_and_steps_of_a_run_stand_in_their_order() -> None:
    names = [
        each.name or each.callback.__name__ for each in app.registered_commands if each.callback
    ]
    steps = ["tile", "label", "qc", "compare", "split", "report", "export"]
    assert len(set(names)) == len(names)
    assert [name for name in names if name in steps] == steps


def test_wrong_usage_ends_with_2(tmp_path: Path, wsi: Command) -> None:
    for line in (("tile",), ("tile", "a.svs"), ("verify",), ("info",), ("no-such-command",)):
        assert wsi(*line).code == 2
    assert wsi("tile", "a.svs", "-o", tmp_path / "RUN", "--tile-size", "many").code == 2


def test_the_demo_ends_well_and_names_files_that_are_there(demo: tuple[Path, Ended]) -> None:
    folder, ended = demo
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    named = [line.split()[0] for line in ended.out.splitlines() if line.startswith("  DIR/")]
    assert len(named) >= 4
    assert all((folder / name).exists() for name in named), named
    run = folder / "DIR" / "RUN"
    assert with_status(run, "done") == set(slides_of(run))
    assert len(list((run / "overlays").iterdir())) == len(slides_of(run)) == 12
    assert "wrong" not in ended.err
    assert verify_run(run).findings == ()


def test_no_two_slides_of_the_demo_are_called_alike(demo: tuple[Path, Ended]) -> None:
    found = audit_split(demo[0] / "DIR" / "RUN")
    assert "slides that look alike" in found.checked
    assert not [text for text in found.unchecked if text.startswith("slides that look alike")]
    assert found.findings == ()


def test_the_demo_again_ends_well_and_cuts_nothing_anew(
    demo: tuple[Path, Ended], wsi: Command
) -> None:
    run = demo[0] / "DIR" / "RUN"
    tables = {path: path.read_bytes() for path in (run / "manifest").iterdir()}
    before = tree(run / "tiles.zarr")
    assert wsi("demo", run.parent).code == 0
    assert tree(run / "tiles.zarr") == before
    assert {path: path.read_bytes() for path in (run / "manifest").iterdir()} == tables
