"""Rows of a manifest by an expression: pandas' words or Arrow's, and sentences where it is wrong."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_pipeline import manifest
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.manifest import Where, columns_in, manifest_pieces, read_manifest, rows_where

words = st.lists(st.sampled_from(["train", "test", None]), min_size=1, max_size=30)


def table(splits: list[str | None]) -> pa.Table:
    scores = np.linspace(0, 1, len(splits))
    encoded = pa.array(splits).dictionary_encode() if any(splits) else pa.array(splits, pa.string())
    return pa.table({"split": encoded, "score": pa.array(scores), "my score": pa.array(scores * 2)})


@given(words, st.floats(0, 1))
def test_words_and_an_arrow_expression_choose_what_pandas_query_does(
    splits: list[str | None], least: float
) -> None:
    tiles = table(splits)
    expected = [
        place
        for place, split in enumerate(splits)
        if split == "train" and tiles.column("score")[place].as_py() > least
    ]
    by_words = rows_where(tiles, f"split == 'train' and score > {least!r}")
    by_arrow = rows_where(tiles, (pc.field("split") == "train") & (pc.field("score") > least))
    scores = tiles.column("score").take(pa.array(expected, pa.int64())).to_pylist()
    assert by_words.column("score").to_pylist() == by_arrow.column("score").to_pylist() == scores


def test_names_with_spaces_membership_and_missing_values_can_be_asked_for() -> None:
    tiles = table(["train", None, "test"])
    assert rows_where(tiles, "`my score` >= 1").num_rows == 2
    assert rows_where(tiles, "split in ['test', 'val']").num_rows == 1
    assert rows_where(tiles, "split.notna()").num_rows == 2
    assert rows_where(tiles, "not (split == 'train')").num_rows == 2
    assert rows_where(tiles, None) is tiles


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("split = 'train'", "expected an expression"),
        ("split ==", "expected an expression"),
        (
            "spilt == 'train'",
            "no column spilt in the manifest (did you mean split?); there are split, score",
        ),
        ("score + 1", "true or false"),
        ("True", "true or false"),
        ("split > 3", "cannot be asked"),
    ],
)
def test_a_wrong_expression_is_answered_with_a_sentence(where: str, said: str) -> None:
    with pytest.raises(ConfigError, match="where: ") as refused:
        rows_where(table(["train", "test"]), where)
    assert said in str(refused.value)


def test_a_wrong_arrow_expression_is_answered_with_a_sentence() -> None:
    with pytest.raises(ConfigError, match="where: "):
        rows_where(table(["train"]), pc.field("nothing") == 1)


def test_only_the_columns_that_an_expression_speaks_of_are_needed() -> None:
    known = ["split", "score", "my score", "core"]
    assert columns_in("score > 1 and split == 'score'", known) == ["score", "split"]
    assert columns_in(pc.field("score") > 1, known) == ["score"]
    assert columns_in("sqrt(score) > 1", known) == ["score"]
    assert columns_in(None, known) == []


def test_words_of_two_columns_and_functions_of_numbers_can_be_compared() -> None:
    tiles = table(["train", "test"])
    tiles = tiles.append_column("predicted", pa.array(["train", "train"]).dictionary_encode())
    assert rows_where(tiles, "split == predicted").column("score").to_pylist() == [0]
    assert rows_where(tiles, "sqrt(score) >= 1 and split < predicted").num_rows == 1


def test_a_nullable_column_is_false_where_it_is_null() -> None:
    frame = pd.DataFrame({"outlier": pd.array([True, None, False], dtype="boolean")})
    assert rows_where(pa.Table.from_pandas(frame), "outlier == True").num_rows == 1


def write_slides(folder: Path, slides: dict[str, pa.Table]) -> Path:
    (folder / "manifest").mkdir(parents=True)
    for slide_id, rows in slides.items():
        ids = pa.array([slide_id] * rows.num_rows, pa.string()).dictionary_encode()
        named = rows.append_column("slide_id", ids)
        pq.write_table(named, folder / "manifest" / f"{slide_id}.parquet")
    return folder


def of_slide(splits: list[str | None], number: int) -> pa.Table:
    """Return rows of a slide; every third slide lacks the score, every fourth has no split at all."""
    rows = table(splits)
    encoded = pa.array(splits, pa.string()).dictionary_encode()
    rows = rows.set_column(0, "split", encoded)
    if number % 4 == 3:
        rows = rows.set_column(0, "split", pa.nulls(len(splits)))
    return rows.drop_columns(["score"]) if number % 3 == 2 else rows


ASKED: list[Where | None] = [
    None,
    "split == 'train'",
    "split.notna() and score > 0.3",
    "`my score` >= 1 or split.isin(['test'])",
    "score > score.mean()",
    "slide_id.str.endswith('3')",
    pc.field("split") == "test",
    (pc.field("score") < 0.5) & pc.field("split").is_valid(),
]


@settings(max_examples=25, deadline=None)
@given(st.lists(words, min_size=4, max_size=9), st.integers(1, 4))
def test_pieces_together_are_what_is_chosen_of_the_whole(
    slides: list[list[str | None]], files: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "_PIECE_FILES", files)
        rows = {f"s{number}": of_slide(splits, number) for number, splits in enumerate(slides)}
        run = write_slides(Path(folder) / "RUN", rows)
        columns = ["slide_id", "split", "score"]
        for where in ASKED:
            asked = [*columns, "my score"]
            whole = rows_where(read_manifest(run, columns=asked), where).select(columns)
            pieces = list(manifest_pieces(run, columns=columns, where=where))
            assert [row for piece in pieces for row in piece.to_pylist()] == whole.to_pylist()


def test_what_is_asked_of_all_tiles_at_once_is_told_from_what_is_asked_of_each() -> None:
    assert all(manifest._asks_single_tiles(where) for where in ASKED if "mean" not in str(where))
    for where in (
        "score > score[0]",
        "score == score.max()",
        "score.size > 3",
        "score > score.mean()",
    ):
        assert not manifest._asks_single_tiles(where)


def test_a_column_that_no_slide_has_is_refused(tmp_path: Path) -> None:
    run = write_slides(tmp_path / "RUN", {"s": table(["train"])})
    with pytest.raises(ConfigError, match="has no column label"):
        list(manifest_pieces(run, columns=["label"], where=None))
    with pytest.raises(ConfigError, match="found no manifest"):
        list(manifest_pieces(tmp_path, columns=["label"], where=None))
