"""``split`` gives every slide of a run its part, keeps it, refuses leakage; ``--check`` finds it anywhere."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pipeline.runs import Command, Drawn, digests, manifest, tile
from tests.written_runs import WrittenSlide, record_of, study, write_run
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.split_config import SplitConfig
from wsi_pipeline.schema import SPLIT_TABLE_COLUMNS, arrow_schema
from wsi_pipeline.stages import columns, split
from wsi_pipeline.stages.run_directory import RunDirectory, write_record
from wsi_pipeline.stages.split import split_run
from wsi_pipeline.stages.split_audit import audit_split

STUDY = SplitConfig(test=5, validation=4)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study in small: 30 patients, each on two scanners; never written to by a test."""
    return write_run(tmp_path_factory.mktemp("written") / "RUN", study())


@pytest.fixture
def run(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "RUN")
    return tmp_path / "RUN"


@pytest.fixture(scope="module")
def once_divided(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That run, split as the study is; never written to by a test."""
    run = tmp_path_factory.mktemp("divided") / "RUN"
    shutil.copytree(written, run)
    split_run(run, STUDY)
    return run


@pytest.fixture
def divided(once_divided: Path, tmp_path: Path) -> Path:
    shutil.copytree(once_divided, tmp_path / "DIVIDED")
    return tmp_path / "DIVIDED"


def splits(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run / "splits.parquet")


def test_the_study_is_split_by_patient_and_its_test_part_divided_by_scanner(
    run: Path, wsi: Command
) -> None:
    ended = wsi("split", run, "--test", "5", "--validation", "4", "--json")
    said = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert [(part["part"], part["patients"], part["slides"]) for part in said["parts"]] == [
        ("train", 21, 42),
        ("validation", 4, 8),
        ("test", 5, 10),
    ]
    tiles = manifest(run)
    assert (tiles.groupby("patient_id", observed=True)["split"].nunique() == 1).all()
    assert tiles["split"].dtype == "category"
    test = tiles[tiles["split"] == "test"]
    assert test.groupby("scanner", observed=True)["patient_id"].nunique().to_dict() == {
        "A": 5,
        "B": 5,
    }
    assert test["label"].nunique() == 2
    table = splits(run)
    assert pq.read_schema(run / "splits.parquet").equals(arrow_schema(SPLIT_TABLE_COLUMNS))
    assert pd.read_csv(run / "splits.csv")["split"].tolist() == table["split"].tolist()
    assert (table.set_index("slide_id")["tiles"] == 36).all()
    summary = json.loads((run / "split.json").read_text())
    assert summary["settings"]["test"] == 5
    assert summary["parts"] == said["parts"]
    assert summary["audit"]["findings"] == []


def test_a_split_is_a_function_of_run_and_settings(run: Path, once_divided: Path) -> None:
    split_run(run, STUDY)
    assert digests(run) == digests(once_divided)
    before = digests(run)
    assert split_run(run, STUDY).plan.kept == 30
    assert {name for name in before if digests(run)[name] != before[name]} <= {"split.json"}


def test_slides_that_are_added_get_a_part_and_the_others_keep_theirs(run: Path) -> None:
    config = SplitConfig(test=0.2, validation=0.2)
    split_run(run, config)
    before = splits(run).set_index("slide_id")["split"]
    more = [WrittenSlide(slide_id=f"n{number}", patient_id=f"N{number}") for number in range(10)]
    write_run(run, [*study(), *more, WrittenSlide(slide_id="again", patient_id="P00")])
    after = split_run(run, config)
    now = splits(run).set_index("slide_id")["split"]
    assert (now[before.index] == before).all()
    assert now["again"] == before["p00_A"]
    assert (after.plan.kept, after.plan.drawn) == (30, 10)
    assert now[[slide.slide_id for slide in more]].value_counts()["test"] == 2
    assert manifest(run)["split"].notna().all()


def test_a_slide_that_fails_for_a_while_comes_back_where_it_was(divided: Path) -> None:
    table = splits(divided)
    before = dict(zip(map(str, table["slide_id"]), map(str, table["split"]), strict=True))
    away = next(name for name, part in sorted(before.items()) if part == "test")
    patient = [name for name in before if name.rpartition("_")[0] == away.rpartition("_")[0]]
    records = {name: (divided / f".state/slides/{name}.json").read_bytes() for name in patient}
    tables = {name: (divided / f"manifest/{name}.parquet").read_bytes() for name in patient}
    for name in patient:
        (divided / f".state/slides/{name}.json").unlink()
        (divided / f"manifest/{name}.parquet").unlink()
    split_run(divided, STUDY)
    assert splits(divided).set_index("slide_id")["split"].to_dict() == before
    for name in patient:
        (divided / f".state/slides/{name}.json").write_bytes(records[name])
        (divided / f"manifest/{name}.parquet").write_bytes(tables[name])
    split_run(divided, STUDY)
    assert manifest(divided).groupby("slide_id", observed=True)["split"].first().to_dict() == before


def test_other_settings_are_refused_with_the_difference_and_overwrite_draws_again(
    run: Path, wsi: Command
) -> None:
    wsi("split", run, "--test", "5")
    refused = wsi("split", run, "--test", "6", "--seed", "3")
    assert refused.code == 2
    assert "was split with other settings (seed: was 0, now 3; test: was 5, now 6)" in refused.err
    assert wsi("split", run, "--test", "6", "--overwrite").code == 0
    assert splits(run).groupby("split")["patient_id"].nunique()["test"] == 6


def test_dry_run_writes_nothing(run: Path, wsi: Command) -> None:
    before = digests(run)
    ended = wsi("split", run, "--test", "5", "--dry-run")
    assert ended.code == 0
    assert "30 are new; nothing was written (--dry-run)" in ended.out
    assert digests(run) == before


def test_folds_and_repeats_are_columns_and_a_check_finds_nothing(run: Path, wsi: Command) -> None:
    ended = wsi("split", run, "--folds", "5", "--repeats", "2", "--test", "5")
    assert ended.code == 0
    tiles = manifest(run)
    assert pq.read_schema(run / "manifest" / "p00_A.parquet").field("fold_2").type == pa.int8()
    assert sorted(tiles["fold"].dropna().unique()) == [0, 1, 2, 3, 4]
    assert (tiles["fold"].isna() == (tiles["split"] == "test")).all()
    assert (tiles["split"] == tiles["split_2"]).all()
    assert (tiles["fold"].fillna(-1) != tiles["fold_2"].fillna(-1)).any()
    checked = wsi("split", run, "--check")
    assert (checked.code, checked.err) == (0, "")
    assert "0 leaks, 0 to look at" in checked.out


def test_a_shorter_split_takes_the_columns_of_a_longer_one_away(run: Path) -> None:
    split_run(run, SplitConfig(folds=3, repeats=2))
    split_run(run, STUDY, overwrite=True)
    assert not {"fold", "fold_2", "split_2"} & set(manifest(run))


def test_a_centre_is_held_out(run: Path, wsi: Command) -> None:
    ended = wsi("split", run, "--hold-out", "centre=south", "--validation", "4")
    assert ended.code == 0
    tiles = manifest(run)
    assert ((tiles["split"] == "test") == (tiles["centre"] == "south")).all()


def test_the_name_of_a_centre_may_have_a_comma(tmp_path: Path, wsi: Command) -> None:
    slides = [
        replace(slide, centre="Turku, FI") if slide.centre == "south" else slide
        for slide in study()[:24]
    ]
    (tmp_path / "split.yaml").write_text("hold_out: centre=Turku, FI\n")
    for flags in (("--hold-out", "centre=Turku, FI"), ("--config", tmp_path / "split.yaml")):
        run = write_run(tmp_path / flags[0], slides)
        assert wsi("split", run, *flags).code == 0
        tiles = manifest(run)
        assert ((tiles["split"] == "test") == (tiles["centre"] == "Turku, FI")).all()


def test_a_list_of_a_run_splits_another_one_of_the_same_patients(
    divided: Path, tmp_path: Path, wsi: Command
) -> None:
    other = [
        WrittenSlide(slide_id=f"fine_{slide.slide_id}", patient_id=slide.patient_id)
        for slide in study()
    ]
    write_run(tmp_path / "FINE", other)
    assert wsi("split", tmp_path / "FINE", "--from", divided / "splits.csv").code == 0
    both = pd.concat([manifest(divided), manifest(tmp_path / "FINE")])
    assert (both.astype({"patient_id": str}).groupby("patient_id")["split"].nunique() == 1).all()


def test_a_list_that_was_edited_is_another_setting(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    words = pd.DataFrame({"patient_id": [f"P{n:02d}" for n in range(30)], "split": "train"})
    words.to_csv(path, index=False)
    split_run(run, SplitConfig(from_file=str(path)))
    words.assign(split=["test"] * 5 + ["train"] * 25).to_csv(path)
    with pytest.raises(ConfigError, match=r"list: was [0-9a-f]{16}, now [0-9a-f]{16}"):
        split_run(run, SplitConfig(from_file=str(path)))
    split_run(run, SplitConfig(from_file=str(path)), overwrite=True)
    assert splits(run)["split"].value_counts()["test"] == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--test", "40"), "expected at least 1 of the 30 groups"),
        (("--test", "x"), "test: expected groups (5), or their share with a decimal point (0.2)"),
        (("--stratify", "stain"), "stratify: no slide has stain"),
        (("--hold-out", "scanner=B"), "every group has a slide with scanner=B"),
        (("--from", "nothing.csv"), "nothing.csv: expected a CSV or Parquet table"),
        (("--check", "--test", "5"), "--check and --test: a check divides nothing"),
        (("--folds", "1"), "folds: expected a number of folds from 2"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_changes(
    arguments: tuple[str, ...], message: str, written: Path, wsi: Command
) -> None:
    before = digests(written)
    ended = wsi("split", written, *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert digests(written) == before


def test_settings_come_from_a_file_and_flags_win(run: Path, tmp_path: Path, wsi: Command) -> None:
    settings = tmp_path / "split.yaml"
    settings.write_text("test: 5\nvalidation: 4\nstratify: [label]\nhold_out: []\n")
    assert wsi("split", run, "--config", settings, "--validation", "3").code == 0
    counts = splits(run).groupby("split")["patient_id"].nunique()
    assert counts.to_dict() == {"test": 5, "train": 22, "validation": 3}
    settings.write_text("tests: 5\n")
    assert "unknown key tests (did you mean test?)" in wsi("split", run, "--config", settings).err


def test_no_run_no_table_and_no_split_are_said(tmp_path: Path, written: Path, wsi: Command) -> None:
    assert "found no run.json" in wsi("split", tmp_path).err
    assert "found nothing" in wsi("split", tmp_path / "none", "--check").err
    assert "found none" in wsi("split", tmp_path, "--check").err
    assert "run wsi-pipeline split" in wsi("split", written, "--check").err


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder"])
def test_a_table_is_not_divided_but_can_be_checked(kind: str, tmp_path: Path, wsi: Command) -> None:
    table = pd.DataFrame({"slide_id": ["a", "b"], "patient_id": ["P1", "P2"]})
    path = _written(table, tmp_path / "theirs", kind)
    for flags in ((), ("--test", "1"), ("--dry-run",)):
        ended = wsi("split", path, *flags)
        assert ended.code == 2
        assert "theirs" in ended.err
        assert "a table can only be checked, with --check" in ended.err


@pytest.mark.parametrize("name", ["patient", "Patient ID", "case_id"])
def test_a_check_asks_whether_a_column_is_that_of_patients(
    name: str, tmp_path: Path, wsi: Command
) -> None:
    table = pd.DataFrame({name: ["P1", "P1"], "slide_id": ["a", "b"], "split": ["train", "test"]})
    path = _written(table, tmp_path / "theirs", "csv")
    ended = wsi("split", path, "--check")
    rename = f"table.rename(columns={{{name!r}: 'patient_id'}})"
    hint = f"is the column {name!r} meant? Rename it, in pandas: {rename}"
    assert f"not checked: patients: no patient_id is known; {hint}" in ended.out
    path = _written(table.drop(columns="slide_id"), tmp_path / "without", "csv")
    ended = wsi("split", path, "--check")
    assert ended.code == 2
    assert f"got {name}, split; {hint}" in ended.err
    path = _written(table.rename(columns={name: "patient_id"}), tmp_path / "renamed", "csv")
    assert wsi("split", path, "--check").code == 1


def test_slides_without_patients_are_refused_by_name(tmp_path: Path, wsi: Command) -> None:
    slides = [WrittenSlide(slide_id=f"s{number}") for number in range(5)]
    write_run(tmp_path / "RUN", slides)
    ended = wsi("split", tmp_path / "RUN")
    assert ended.code == 2
    assert "not known of 5 of 5 slides (s0, s1, s2, s3, s4)" in ended.err
    assert wsi("split", tmp_path / "RUN", "--group", "slide", "--test", "1").code == 0


def test_patients_can_be_added_to_a_run_without_cutting_again(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    slides = (drawn.he, drawn.plain, drawn.flat)
    tile(tmp_path / "RUN", *slides)
    assert "add the column patient_id" in wsi("split", tmp_path / "RUN").err
    lines = [f"{path},{path.stem},P{path.stem}" for path in slides]
    table = tmp_path / "slides.csv"
    table.write_text("\n".join(["path,slide_id,patient_id", *lines]))
    again = tile(tmp_path / "RUN", table)
    assert set(again.already_done) == {path.stem for path in slides}
    assert wsi("split", tmp_path / "RUN", "--test", "1", "--validation", "1").code == 0
    assert wsi("verify", tmp_path / "RUN").code == 0
    assert set(manifest(tmp_path / "RUN")["split"]) == {"train", "validation", "test"}


class KilledError(Exception):
    """What stands for SIGKILL between two files."""


def test_a_split_that_is_cut_off_goes_on_as_it_was_decided(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KilledError

    monkeypatch.setattr(split, "add_columns", killed)
    with pytest.raises(KilledError):
        split_run(run, STUDY)
    monkeypatch.undo()
    decided = splits(run)
    assert "split" not in manifest(run)
    assert split_run(run, STUDY).plan.kept == 30
    pd.testing.assert_frame_equal(splits(run), decided)
    assert audit_split(run).findings == ()


def test_a_change_cut_off_in_the_middle_is_finished(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "finish_change", lambda _: None)
    split_run(run, STUDY)
    monkeypatch.undo()
    split_run(run, STUDY)
    assert manifest(run)["split"].notna().all()


def test_a_manifest_that_is_not_what_was_decided_is_found(divided: Path, wsi: Command) -> None:
    path = divided / "manifest" / "p00_A.parquet"
    table = pq.read_table(path, partitioning=None)
    was = table.column("split").to_pylist()[0]
    other = "test" if was == "train" else "train"
    place = table.schema.get_field_index("split")
    words = pa.array([other] * len(table)).dictionary_encode()
    pq.write_table(table.set_column(place, "split", words), path)
    ended = wsi("split", divided, "--check")
    assert ended.code == 1
    assert (
        f"slide p00_A is in {other} (split of the manifest) and in {was} (splits.parquet)"
        in ended.err
    )
    assert "leak: patient P00 is in" in ended.err


def test_a_byte_equal_slide_of_another_patient_goes_with_the_first_and_is_told(
    tmp_path: Path, wsi: Command
) -> None:
    slides = [
        WrittenSlide(
            slide_id=f"s{number}", patient_id=f"P{number}", source=number % 6, looks=number % 6
        )
        for number in range(7)
    ]
    write_run(tmp_path / "RUN", slides)
    ended = wsi("split", tmp_path / "RUN", "--test", "2", "--validation", "1")
    assert ended.code == 0
    assert (
        "look at: slides s0 and s6 are the same file, byte for byte, and are said to be"
        in ended.err
    )
    parts = splits(tmp_path / "RUN").set_index("slide_id")["split"]
    assert parts["s0"] == parts["s6"]


def test_a_slide_that_looks_like_another_is_told(tmp_path: Path, wsi: Command) -> None:
    slides = [
        WrittenSlide(slide_id=f"s{number}", patient_id=f"P{number}", looks=number % 6)
        for number in range(7)
    ]
    write_run(tmp_path / "RUN", slides)
    ended = wsi("split", tmp_path / "RUN", "--test", "2", "--validation", "1")
    assert ended.code == 0
    assert "look at: slides s0 and s6 look alike (correlation 1.00)" in ended.err


def test_a_patient_that_was_corrected_in_the_slide_table_is_checked_at_once(
    divided: Path, wsi: Command
) -> None:
    parts = splits(divided).set_index("slide_id")["split"]
    slides = study()
    train, test = (str(parts.index[parts == part][0]) for part in ("train", "test"))
    patient = next(slide.patient_id for slide in slides if slide.slide_id == train)
    corrected = [
        replace(slide, patient_id=patient) if slide.slide_id == test else slide for slide in slides
    ]
    for number, slide in enumerate(corrected):
        write_record(RunDirectory(path=divided), record_of(slide, number, tiles=36))
    assert f"leak: patient {patient} is in train" in wsi("split", divided, "--check").err
    refused = wsi("split", divided, "--test", "5", "--validation", "4")
    assert refused.code == 2
    assert "its slides belong together now" in refused.err


def test_slides_cut_after_the_split_are_in_no_part_until_it_runs_again(divided: Path) -> None:
    write_run(divided, study()[:1])  # as tile --overwrite leaves it
    found = audit_split(divided)
    assert found.findings == ()
    assert "36 tiles are in no part (p00_A)" in "\n".join(found.unchecked)


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder"])
def test_tables_made_elsewhere_are_audited(
    kind: str, once_divided: Path, tmp_path: Path, wsi: Command
) -> None:
    rng = np.random.default_rng(1)
    names = ["slide_id", "patient_id", "x", "y", "width", "height", "split"]
    table = manifest(once_divided)[names].astype({"slide_id": str, "patient_id": str, "split": str})
    tables = {"good": table}
    tables["bad"] = table.assign(split=rng.choice(["train", "test"], len(table)))
    ended = {}
    for name, made in tables.items():
        ended[name] = wsi("split", _written(made, tmp_path / name, kind), "--check")
    assert (ended["good"].code, ended["good"].err) == (0, "")
    assert ended["bad"].code == 1
    for text in (
        "leak: patient P00 is in train",
        "leak: slide p00_A is in train",
        "share pixels with",
    ):
        assert text in ended["bad"].err
    assert "and 40 more of slide; --json lists all" in ended["bad"].err
    assert "not checked: byte-equal slides: no columns size_bytes" in ended["bad"].out


def _written(table: pd.DataFrame, place: Path, kind: str) -> Path:
    if kind == "csv":
        table.to_csv(place.with_suffix(".csv"), index=False)
        return place.with_suffix(".csv")
    if kind == "parquet":
        table.to_parquet(place.with_suffix(".parquet"))
        return place.with_suffix(".parquet")
    place.mkdir()
    for number, (_, rows) in enumerate(table.groupby("slide_id")):
        rows.to_parquet(place / f"{number}.parquet")
    return place


def test_json_of_a_check_lists_every_leak(tmp_path: Path, wsi: Command) -> None:
    table = pd.DataFrame({"patient_id": ["P1", "P1"], "split": ["train", "test"]})
    table.to_csv(tmp_path / "table.csv", index=False)
    ended = wsi("split", tmp_path / "table.csv", "--check", "--json")
    said: dict[str, Any] = json.loads(ended.out)
    assert ended.code == 1
    assert said["leaks"] == 1
    assert said["findings"][0]["names"] == ["P1"]


@pytest.mark.parametrize("content", [b"", b"\x00\xff\x00", b"a,b\n1,2\n"])
def test_what_is_no_table_of_tiles_is_refused(content: bytes, tmp_path: Path, wsi: Command) -> None:
    for name in ("table.csv", "table.parquet"):
        (tmp_path / name).write_bytes(content)
        ended = wsi("split", tmp_path / name, "--check")
        assert ended.code == 2
        assert "expected" in ended.err
