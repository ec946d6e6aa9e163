"""The loader's benchmark once, on a few tiles, as far as it needs no other program."""

from pathlib import Path

import pytest

from tests.benchmarks import feeding, loader_gpu, loader_subject, loading
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


def test_without_a_device_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_gpu, "lacking", lambda decoder: f"no {decoder}")
    found = list(loader_gpu.run(Plan()))
    assert len(found) == 4
    assert all(each.value is None and each.holds is None for each in found)
    assert [each.against for each in found] == ["no cpu", "no cpu", "no cuda", "no cuda"]


def test_with_a_device_rates_and_waiting_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"fed_per_s": 90.0, "resident_per_s": 100.0, "waited": 0.04}
    monkeypatch.setattr(loader_gpu, "lacking", lambda _: "")
    monkeypatch.setattr(loader_gpu, "made", lambda _: Path("SUBJECT"))
    monkeypatch.setattr(loader_gpu, "_device", lambda: "a device")
    monkeypatch.setattr(loader_gpu, "figures_of", lambda *_: figures)
    fed, waited, *_ = loader_gpu.run(Plan())
    assert (fed.value, fed.holds, waited.value, waited.holds) == (0.9, False, 0.04, True)


@pytest.mark.slow
def test_a_network_is_fed_and_timed(subject: loader_subject.Subject) -> None:
    for name in ("torch", "timm"):
        pytest.importorskip(name, reason="needs the extra train")
    place = loader_subject.made(loader_subject.Subject(tile_size=256, tiles=16))
    assert subject.tiles
    figures = feeding.main(place, "cpu", "cpu", 1, batch=2)
    assert figures["resident_per_s"] > 0
    assert figures["fed_per_s"] > 0
    assert 0 <= figures["waited"] < 1
