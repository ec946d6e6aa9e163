"""Who reads a run while a stage changes it reads all of the change or none of it, or is told to wait."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.written_runs import study, write_run
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.comparison_config import CompareConfig
from wsi_pipeline.labels.split_config import SplitConfig
from wsi_pipeline.stages import columns, split_audit, steady
from wsi_pipeline.stages.compare import compare_groups
from wsi_pipeline.stages.export import export_run
from wsi_pipeline.stages.export_config import ExportConfig
from wsi_pipeline.stages.report import report_run
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.split import split_run
from wsi_pipeline.stages.split_audit import audit_of_run, audit_split
from wsi_pipeline.stages.split_tables import slides_of_run
from wsi_pipeline.stages.steady import read_steady

FIRST = SplitConfig(test=2, validation=2)
OTHER = SplitConfig(test=2, validation=2, seed=7)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients of two slides each, split once; never written to by a test."""
    path = write_run(tmp_path_factory.mktemp("steady") / "RUN", study()[:16])
    split_run(path, FIRST)
    return path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "RUN")
    return tmp_path / "RUN"


def export(run: Path) -> None:
    export_run(run, ExportConfig(), {"geojson": run.parent / "out"})


READERS: dict[str, Callable[[Path], object]] = {
    "check": audit_split,
    "compare": lambda run: compare_groups(run, CompareConfig(stain_tiles=0)),
    "report": report_run,
    "export": export,
}


class KilledError(Exception):
    """What stands for SIGKILL between two files."""


def half_moved(run: Path, monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    """Split a run anew, and do something else when eight tables of sixteen are in their places."""
    move, moved = columns._move, list[Path]()

    def watched(path: Path, target: Path) -> None:
        if len(moved) == 8:
            moved.append(path)
            then()
        moved.append(path)
        move(path, target)

    monkeypatch.setattr(columns, "_move", watched)
    split_run(run, OTHER, overwrite=True)


def killed() -> None:
    raise KilledError


@pytest.mark.parametrize("name", READERS)
def test_a_change_under_way_is_not_read_by_halves(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def meanwhile() -> None:
        with pytest.raises(ConfigError) as refused:
            READERS[name](run)
        told.append(str(refused.value))

    half_moved(run, monkeypatch, meanwhile)
    assert len(told) == 1
    assert "another command is changing its tables at this moment" in told[0]
    assert "wait for it to end" in told[0]
    READERS[name](run)


@pytest.mark.parametrize("name", READERS)
def test_a_change_whose_command_died_is_finished_by_who_reads_next(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = audit_split(run)
    with pytest.raises(KilledError):
        half_moved(run, monkeypatch, killed)
    monkeypatch.undo()
    assert any(found.kind == "disagree" for found in audit_of_run(RunDirectory(path=run)).findings)
    READERS[name](run)
    assert not (run / ".state" / "changing").exists()
    assert audit_split(run) == before


def test_a_change_that_is_not_whole_yet_hides_nothing_and_waits_for_nobody(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, found = audit_split(run), []
    finish = columns.finish_change

    def meanwhile(directory: RunDirectory) -> None:
        found.append(audit_split(run))
        finish(directory)

    monkeypatch.setattr(columns, "publish_bytes", lambda *_: None)  # so that it never is
    monkeypatch.setattr(columns, "finish_change", meanwhile)
    columns.add_columns(
        RunDirectory(path=run),
        "split",
        lambda _, table: {"split": columns.words(["test"] * len(table))},
        slide_ids=[path.stem for path in (run / "manifest").iterdir()],
        about={},
    )
    assert found == [before]


def test_a_change_that_falls_between_two_tables_makes_them_be_read_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[RunDirectory] = []

    def changed_after(directory: RunDirectory) -> object:
        slides = slides_of_run(directory)
        reads.append(directory)
        if len(reads) == 1:
            split_run(run, OTHER, overwrite=True)
        return slides

    monkeypatch.setattr(split_audit, "slides_of_run", changed_after)
    assert audit_split(run).leaks == ()
    assert len(reads) == 2


def test_who_reads_a_run_that_never_rests_is_told_so(run: Path) -> None:
    def restless() -> None:
        split_run(run, OTHER, overwrite=True)

    with pytest.raises(ConfigError, match=r"were changed 3 times while they were read"):
        read_steady(RunDirectory(path=run), restless)


def test_a_run_at_rest_is_read_without_a_lease(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("one who only reads may not be allowed to write there")

    monkeypatch.setattr(steady, "sole_use", refused)
    assert audit_split(run).leaks == ()


@pytest.mark.parametrize("column", ["split", "fold"])
def test_the_page_and_the_check_find_the_same_disagreements(column: str, run: Path) -> None:
    split_run(run, SplitConfig(test=2, folds=3), overwrite=True)
    path = next(
        path
        for path in sorted((run / "manifest").iterdir())
        if pq.read_table(path, partitioning=None).column("fold").null_count == 0
    )
    table = pq.read_table(path, partitioning=None)
    other = {"split": "test", "fold": (table.column("fold")[0].as_py() + 1) % 3}[column]
    field = table.schema.field(column)
    moved = pa.array([other] * len(table)).cast(field.type)
    pq.write_table(table.set_column(table.schema.get_field_index(column), field, moved), path)
    found = [each for each in audit_split(run).leaks if each.kind == "disagree"]
    assert [each.names for each in found] == [(path.stem,)]
    assert f"({column} of the manifest)" in found[0].text
    assert found[0].text in report_run(run).path.read_text(encoding="utf-8")
