"""The loader's benchmark once, on a few tiles, as far as it needs no other program."""

from pathlib import Path

import pytest

from tests.benchmarks import loader, loader_subject, loading
from tests.benchmarks.measure import Plan
from wsi_pipeline.loader.tiles import TileLoader


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> loader_subject.Subject:
    """Tiles of 64 px, made in a folder of the test."""
    monkeypatch.setattr(loader_subject, "PLACE", tmp_path / "benchmarks")
    return loader_subject.Subject(tile_size=64, tiles=128)


def test_the_run_and_the_single_files_hold_the_same_bytes(subject: loader_subject.Subject) -> None:
    folder = loader_subject.made(subject)
    files = sorted((folder / "images" / "0").iterdir())
    tiles = TileLoader(folder / "RUN", batch_size=64)
    fetched = tiles.source().fetch(tiles._epoch(0).order.astype("int64"))
    order = tiles.rows.tile[tiles._epoch(0).order].tolist()
    assert len(files) == len(order) == 128
    assert all(
        bytes(data) == files[number].read_bytes()
        for number, data in zip(order, fetched, strict=True)
    )


@pytest.mark.parametrize("side", ["ours", "rate", "epochs", "start", "own_roofline", "roofline"])
def test_a_side_is_measured(side: str, subject: loader_subject.Subject) -> None:
    folder = loader_subject.made(subject)
    numbers = {"ours": (32, 2), "rate": (64,), "own_roofline": (0,), "roofline": (32,)}
    place = folder / "RUN" if side == "start" else folder
    figures = loading.main(side, place, *numbers.get(side, ()))
    assert figures
    assert all(figure >= 0 for figure in figures.values())


def test_slides_of_a_large_run_are_one_by_links(
    subject: loader_subject.Subject, tmp_path: Path
) -> None:
    chunks = [
        path.read_bytes()
        for path in sorted((loader_subject.made(subject) / "images" / "0").iterdir())
    ]
    loader_subject.write_run(tmp_path / "RUN", chunks, tile_size=64, slides=3)
    tiles = TileLoader(tmp_path / "RUN", batch_size=64, where="split == 'train'", target="label")
    assert len(tiles.rows) == 3 * 128
    assert tiles.classes == ("benign", "cancer")
    assert len(list(tiles)) == 6


def test_what_is_not_measured_says_why() -> None:
    found = list(loader._not_here(Plan()))
    assert all(each.value is None and each.holds is None and each.against for each in found)
    assert sum("GPU" in each.name or "EfficientNet" in each.name for each in found) == 4
