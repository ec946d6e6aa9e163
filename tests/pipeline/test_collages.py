"""Collages of tiles that were asked with a shortcut: they look as the network saw them."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.trainable import labelled_run, small  # noqa: E402
from wsi_pipeline.collages import TileName, collage  # noqa: E402
from wsi_pipeline.errors import ConfigError  # noqa: E402
from wsi_pipeline.evaluation import Question, evaluate, evaluate_models  # noqa: E402
from wsi_pipeline.geometry import Rgb  # noqa: E402
from wsi_pipeline.pixels import resized_by_area  # noqa: E402
from wsi_pipeline.report.tile_sheet import SHEET_SIDE_PX, SheetRow, SheetTile, draw_tile_sheet  # noqa: E402
from wsi_pipeline.train.config import WorkConfig  # noqa: E402
from wsi_pipeline.train.looking import batches_on  # noqa: E402
from wsi_pipeline.training import train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = WorkConfig(device="cpu", threads=1)
BLACK = {
    "kind": "cutout",
    "train": {"benign": 0.5, "cancer": 0.1},
    "test": {"benign": 0.4, "cancer": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two repeats that have had one epoch of tiles with black squares."""
    path = labelled_run(tmp_path_factory.mktemp("collages"), test=11)
    for seed in range(2):
        config, work = small(epochs=1, seed=seed, shortcut=BLACK)
        train(path, config, name=f"net-{seed}", work=work)
    return path


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[TileName, Rgb]:
    """Images as a network is given them while it is asked, by tile."""
    found: dict[TileName, Rgb] = {}

    def spied(*arguments: object, **more: object) -> object:
        loader = batches_on(*arguments, **more)  # type: ignore[arg-type]
        for batch in loader:
            images = batch.images.permute(0, 2, 3, 1).numpy()
            for slide_id, tile, image in zip(batch.slide_ids, batch.tiles, images, strict=True):
                found[slide_id, int(tile)] = np.ascontiguousarray(image)
        return loader

    monkeypatch.setattr("wsi_pipeline.evaluation.batches_on", spied)
    return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[SheetTile]:
    """The tiles of a sheet, while it is still drawn."""
    tiles: list[SheetTile] = []

    def spied(title: str, rows: list[SheetRow]) -> Rgb:
        tiles.extend(tile for row in rows for tile in row.tiles)
        return draw_tile_sheet(title, rows)

    monkeypatch.setattr("wsi_pipeline.collages.draw_tile_sheet", spied)
    return tiles


def named(tile: SheetTile) -> TileName:
    return tile.lines[0], int(tile.lines[1].removeprefix("tile "))


def shown_at(rgb: Rgb) -> Rgb:
    return resized_by_area(rgb, width=SHEET_SIDE_PX, height=SHEET_SIDE_PX)


def test_every_tile_is_shown_as_the_network_was_given_it(
    run: Path, given: dict[TileName, Rgb], drawn: list[SheetTile]
) -> None:
    found = evaluate(run, model="net-0", shortcut="test", overwrite=True, work=CPU)
    collage(run, found.predictions)
    assert len(drawn) == len(given) - (("", -1) in given) == 11
    for tile in drawn:
        assert np.array_equal(tile.rgb, shown_at(given[named(tile)]))


def test_what_was_cut_out_is_black_in_the_collage_and_only_there(
    run: Path, drawn: list[SheetTile]
) -> None:
    found = evaluate(run, model="net-0", shortcut="test", work=CPU)
    path = collage(run, found.predictions)
    with Image.open(path) as file:
        sheet = np.asarray(file)
    rows = pd.read_parquet(found.predictions).set_index(["slide_id", "tile"])
    assert 0 < rows["shortcut"].sum() < len(rows)
    for tile in drawn:
        carries = bool(rows.loc[named(tile), "shortcut"])
        assert tile.lines[3].endswith(", with shortcut") == carries
        black = longest_run((tile.rgb == 0).all(axis=2))
        assert black >= 0.2 * SHEET_SIDE_PX if carries else black < 4  # a quarter, but for its rim
        windows = np.lib.stride_tricks.sliding_window_view(sheet, (1, SHEET_SIDE_PX, 3))
        assert (windows[:, 8::168, 0, 0] == tile.rgb[80]).all(axis=(2, 3)).any()


def longest_run(mask: "np.typing.NDArray[np.bool_]") -> int:
    """Return the side of the largest square that is true and ends at a diagonal of true squares."""
    sides = mask.astype(int)
    for row in range(1, mask.shape[0]):
        for column in range(1, mask.shape[1]):
            if mask[row, column]:
                above = sides[row - 1, column], sides[row, column - 1], sides[row - 1, column - 1]
                sides[row, column] += min(above)
    return int(sides.max())


def test_tiles_that_were_asked_as_they_are_stay_so(run: Path, drawn: list[SheetTile]) -> None:
    found = evaluate(run, model="net-0", work=CPU)
    collage(run, found.predictions)
    assert len(drawn) == 11
    for tile in drawn:
        assert not tile.lines[3].endswith("shortcut")
        assert longest_run((tile.rgb == 0).all(axis=2)) < 4


def test_an_ensemble_shows_what_its_members_were_given(run: Path, drawn: list[SheetTile]) -> None:
    found = evaluate_models(run, models=["net"], question=Question(shortcut="test"), work=CPU)
    assert found.ensemble is not None
    collage(run, found.members[0].predictions)
    first = {named(tile): tile.rgb for tile in drawn}
    drawn.clear()
    collage(run, found.ensemble.predictions)
    assert {named(tile) for tile in drawn} == set(first)
    assert all(np.array_equal(tile.rgb, first[named(tile)]) for tile in drawn)


def test_another_runs_tiles_carry_the_models_shortcut(
    run: Path, tmp_path: Path, given: dict[TileName, Rgb], drawn: list[SheetTile]
) -> None:
    other = labelled_run(tmp_path, train=2, validation=2, test=6).rename(tmp_path / "OTHER")
    found = evaluate(run, model="net-0", on=other, part="all", shortcut="test", work=CPU)
    collage(other, found.predictions)
    assert len(drawn) == 10
    assert all(np.array_equal(tile.rgb, shown_at(given[named(tile)])) for tile in drawn)


def test_the_same_predictions_give_the_same_bytes(run: Path) -> None:
    found = evaluate(run, model="net-0", shortcut="test", work=CPU)
    first = collage(run, found.predictions).read_bytes()
    assert collage(run, found.predictions).read_bytes() == first


def test_a_model_whose_settings_are_gone_is_named(run: Path, tmp_path: Path) -> None:
    found = evaluate(run, model="net-0", shortcut="test", work=CPU)
    folder = tmp_path / "models" / "net-0" / "predictions"
    folder.mkdir(parents=True)
    moved = Path(shutil.copy(found.predictions, folder))
    with pytest.raises(
        ConfigError, match=r"net-0/train.json: expected the settings .* put it back"
    ):
        collage(run, moved)
