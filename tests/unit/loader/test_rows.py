"""Tiles of several runs as numbers: whose they are, in which shard, with which words."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.loader.rows import NO_WORD, Rows, Run, choose_rows, open_run


def make_run(
    folder: Path, slides: dict[str, int], *, store: str = "zarr", **columns: Sequence[Any]
) -> Path:
    """Write what of a run says which tiles there are; columns repeat along a slide."""
    (folder / "manifest").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"config": {"tile_size": 64, "store": store}}))
    for slide_id, count in slides.items():
        values: dict[str, Any] = {
            name: pa.array([row[place % len(row)] for place in range(count)])
            for name, row in {"status": ["ok"], **columns}.items()
        }
        ids = pa.array([slide_id] * count, pa.string()).dictionary_encode()
        tiles = pa.array(range(count), pa.int32())
        rows = pa.table({"slide_id": ids, "tile": tiles, **values})
        pq.write_table(rows, folder / "manifest" / f"{slide_id}.parquet")
    return folder


def test_tiles_of_several_runs_keep_their_run_slide_and_number(tmp_path: Path) -> None:
    first = make_run(tmp_path / "A", {"s": 3, "t": 2})
    second = make_run(tmp_path / "B", {"s": 1})
    rows = choose_rows([first, second])
    assert rows.arrays == ((0, "s"), (0, "t"), (1, "s"))
    assert rows.array.tolist() == [0, 0, 0, 1, 1, 2]
    assert rows.tile.tolist() == [0, 1, 2, 0, 1, 0]
    assert rows.name(4) == f"{first}: slide t, tile 1"
    assert rows.name(5) == f"{second}: slide s, tile 0"


def test_words_have_the_same_code_whatever_comes_first(tmp_path: Path) -> None:
    one = make_run(tmp_path / "A", {"s": 3}, label=["tumour", "benign", None])
    other = make_run(tmp_path / "B", {"s": 3}, label=["stroma", "benign", "tumour"])
    label = choose_rows([one, other], columns=["label"]).columns["label"]
    again = choose_rows([other, one], columns=["label"]).columns["label"]
    assert label.words == again.words == ("benign", "stroma", "tumour")
    assert label.values.tolist() == [2, 0, NO_WORD, 1, 0, 2]
    assert again.values.tolist() == [1, 0, 2, 2, 0, NO_WORD]


def test_words_of_no_tile_left_are_no_classes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "A", {"s": 4}, label=["a", "b"])
    assert choose_rows([run], where="label == 'b'", columns=["label"]).columns["label"].words == (
        "b",
    )


def test_numbers_stay_what_they_are(tmp_path: Path) -> None:
    run = make_run(tmp_path / "A", {"s": 2}, score=[0.5, None], fold=[1, 2], odd=[True, False])
    columns = choose_rows([run], columns=["score", "fold", "odd"]).columns
    assert np.isnan(columns["score"].values[1])
    assert columns["fold"].values.tolist() == [1, 2]
    assert columns["odd"].values.tolist() == [True, False]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 500)), min_size=1, max_size=80))
def test_two_tiles_have_one_shard_only_if_they_lie_in_one(places: list[tuple[int, int]]) -> None:
    array, tile = (np.array(column, np.int32) for column in zip(*places, strict=True))
    rows = Rows(
        runs=(Run(path=Path("RUN"), config={}),),
        arrays=tuple((0, f"s{number}") for number in range(6)),
        array=array,
        tile=tile,
        columns={},
    )
    of_shard: dict[int, set[tuple[int, int]]] = {}
    for shard, (slide, number) in zip(rows.shards.tolist(), places, strict=True):
        of_shard.setdefault(shard, set()).add((slide, number // 64))
    assert all(len(found) == 1 for found in of_shard.values())
    assert len(of_shard) == len({(slide, number // 64) for slide, number in places})
    assert min(of_shard) >= 0


def test_the_digest_knows_the_tiles_and_not_where_the_run_lies(tmp_path: Path) -> None:
    run = make_run(tmp_path / "A", {"s": 3})
    moved = make_run(tmp_path / "B", {"s": 3})
    fewer = choose_rows([run], where="tile < 2")
    assert choose_rows([run]).digest() == choose_rows([moved]).digest() != fewer.digest()


def test_unreadable_tiles_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    run = make_run(tmp_path / "A", {"s": 4}, status=["ok", "unreadable"])
    assert len(choose_rows([run])) == 2
    assert len(choose_rows([run], where=None)) == 4


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"where": "tile > 10"}, "leaves no tile"),
        ({"columns": ["label"]}, "has no column label"),
        ({"columns": ["parts"]}, "columns: parts: expected words or numbers"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_a_sentence(
    asked: dict[str, Any], said: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "A", {"s": 4}, parts=[[1, 2]])
    with pytest.raises(ConfigError, match=said):
        choose_rows([run], **asked)


def test_runs_that_are_none_or_twice_or_of_two_kinds_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "A", {"s": 1})
    bare = make_run(tmp_path / "B", {"s": 1}, store="none", x=[0], y=[0])
    with pytest.raises(ConfigError, match="one or more, each once"):
        choose_rows([])
    with pytest.raises(ConfigError, match="one or more, each once"):
        choose_rows([run, run])
    with pytest.raises(ConfigError, match="all to store pixels or none"):
        choose_rows([run, bare])
    with pytest.raises(ConfigError, match="expected a run directory"):
        open_run(tmp_path)


def test_where_pixels_are_not_stored_it_is_kept_where_they_lie(tmp_path: Path) -> None:
    bare = make_run(tmp_path / "B", {"s": 2}, store="none", x=[0, 50], y=[7])
    columns = choose_rows([bare]).columns
    assert columns["x"].values.tolist() == [0, 50]
    assert columns["y"].values.tolist() == [7, 7]
