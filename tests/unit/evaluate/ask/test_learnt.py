"""Logits of the training beside predictions, from files: whose patients they are, what is not there."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.invented import write_run
from tests.invented_predictions import Asked, Invented, invented, write_evaluation
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.ask.learnt import learnt_tiles, shift_rows
from wsi_pipeline.evaluate.score.asymmetry import shifts_from_learnt

LEARNT, TEST = Invented(seed=77), Invented(means=(-3.0, 0.5))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "RUN", slides=4, tiles=6).path


def test_shifts_from_files_are_those_of_the_tables(run: Path) -> None:
    rows = shift_rows(write_evaluation(run, TEST, Asked()))
    expected = shifts_from_learnt(invented(LEARNT), invented(TEST))
    assert [(row["class"], row["shift"], row["low"], row["high"]) for row in rows] == [
        (each.name, each.shift, each.interval.low, each.interval.high) for each in expected
    ]


def test_patients_of_the_training_are_those_of_its_run(run: Path) -> None:
    path = write_evaluation(run, TEST, Asked())
    kept = path.parents[1] / "logits" / "train.parquet"
    names = [f"slide_{number % 4:04d}" for number in range(LEARNT.tiles)]
    old = pq.read_table(kept).drop_columns(["patient_id", "probability", "slide_id"])
    pq.write_table(old.append_column("slide_id", pa.array(names)), kept)
    by_slide = learnt_tiles(path.parents[1], LEARNT.classes, {})
    assert by_slide is not None
    assert len(by_slide.groups("patient_id").names) == 4
    own = {name: f"P{number // 2:03d}" for number, name in enumerate(sorted(set(names)))}
    by_patient = learnt_tiles(path.parents[1], LEARNT.classes, own)
    assert by_patient is not None
    assert by_patient.groups("patient_id").names == ("P000", "P001")
    lows = [row["low"] for row in shift_rows(path)]
    assert lows == [each.interval.low for each in shifts_from_learnt(by_patient, invented(TEST))]
    assert lows != [each.interval.low for each in shifts_from_learnt(by_slide, invented(TEST))]


def test_without_logits_of_the_training_or_labels_there_is_no_shift(run: Path) -> None:
    assert shift_rows(write_evaluation(run, TEST, Asked(model="none", learnt=None))) == []
    path = write_evaluation(run, TEST, Asked())
    nobody = invented(Invented(more={"target": pa.nulls(240, pa.int64())}))
    pq.write_table(nobody.table, path)
    assert shift_rows(path) == []


def test_a_damaged_file_is_named(run: Path) -> None:
    path = write_evaluation(run, TEST, Asked())
    (path.parents[1] / "logits" / "train.parquet").write_bytes(b"no table")
    with pytest.raises(ConfigError, match=r"train.parquet: expected logits of training tiles"):
        shift_rows(path)
