"""Maps of whole runs: a mark on the slide lies where the map has it, in every file and at every level."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.typing import NDArray
from shapely.geometry import shape

from tests.pipeline.predicted import predict
from tests.pipeline.runs import leftovers, tile
from tests.writers.mrxs import Camera, write_mrxs
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.maps import geojson as heat_geojson
from wsi_pipeline.evaluate.maps.config import HeatConfig
from wsi_pipeline.evaluate.maps.heat import from_bytes
from wsi_pipeline.heat_maps import Mapped, heat_maps
from wsi_pipeline.report.heat_picture import LEGEND_PX
from wsi_pipeline.report.overlay import CAPTION_PX
from wsi_pipeline.slides.drawn import write_pyramid
from wsi_pipeline.slides.open import open_slide

MARK = (896, 128, 128, 128)
"""Of 1280 x 960 px: black, near the right upper corner, neither in the middle nor on a diagonal."""
ALL = TileConfig(tile_size=128, overlap=0.0, min_tissue=0.0, store="none")
CERTAIN = 30.0
"""A logit whose probability is 1 as float32; its negative's is 0."""


def marked_slide(folder: Path, *, mpp: float | None = 0.5) -> Path:
    """Write glass with a black square, and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    rgb = np.full((960, 1280, 3), 240, np.uint8)
    x, y, width, height = MARK
    rgb[y : y + height, x : x + width] = 0
    write_pyramid(folder / "marked.tif", rgb, mpp=mpp, compression="deflate")
    return folder / "marked.tif"


def on_the_mark(tiles: pd.DataFrame) -> NDArray[np.float64]:
    """Return certainty in the tiles that touch the mark, and of the contrary elsewhere."""
    x, y, width, height = MARK
    across = (tiles["x"] < x + width) & (tiles["x"] + tiles["width"] > x)
    down = (tiles["y"] < y + height) & (tiles["y"] + tiles["height"] > y)
    return np.where(across & down, CERTAIN, -CERTAIN)


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the marked slide with predictions, and the slide beside it."""
    folder = tmp_path_factory.mktemp("marked")
    tile(folder / "RUN", marked_slide(folder), config=ALL)
    predict(folder / "RUN", on_the_mark, targets_of=lambda tiles: on_the_mark(tiles) > 0)
    return folder / "RUN"


@pytest.fixture
def run(marked: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be changed."""
    shutil.copytree(marked, tmp_path / "RUN")
    return tmp_path / "RUN"


def draw(run: Path, name: str = "test", on: Path | None = None, **config: object) -> Mapped:
    path = run / "models" / "net" / "predictions" / f"{name}.parquet"
    return heat_maps(on or run, path, config=make_config(HeatConfig, config))


def picture(path: Path) -> NDArray[np.uint8]:
    """Return a PNG's pixels without caption and legend, red first."""
    bgr = cv2.imread(str(path))
    assert bgr is not None
    return np.asarray(bgr[: -CAPTION_PX - LEGEND_PX, :, ::-1], np.uint8)


def box_around(mask: NDArray[np.bool_], scale: float) -> list[float]:
    """Return x, y, width, height of what is true, times a scale."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = columns[0], rows[0]
    sides = (x, y, columns[-1] + 1 - x, rows[-1] + 1 - y)
    return [float(each) * scale for each in sides]


def levels_of(path: Path) -> list[NDArray[np.uint8]]:
    with tifffile.TiffFile(path) as tiff:
        return [np.asarray(level.asarray()) for level in tiff.series[0].levels]


def features(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    found: list[dict[str, Any]] = json.loads(text)["features"]
    return found


def test_the_mark_lies_where_the_slides_mark_lies_at_every_level(marked: Path) -> None:
    drawn = draw(marked, kinds=["ome-tiff"])
    levels = levels_of(drawn.folder / "marked.ome.tiff")
    assert len(levels) == 4
    for number, level in enumerate(levels):
        pitch = 16 * 2**number
        assert box_around(level == 255, pitch) == list(MARK)
        assert set(np.unique(level)) <= {0, 1, 255}
        covered = box_around(level > 0, pitch)
        assert covered == [0, 0, 1280, 1024]  # the last row of tiles reaches past the slide


def test_viewers_are_told_how_large_pixels_are(marked: Path) -> None:
    drawn = draw(marked, kinds=["ome-tiff"])
    reader = open_slide(drawn.folder / "marked.ome.tiff")
    assert (reader.info.mpp_x, reader.info.mpp_y) == (8.0, 8.0)
    assert [level.downsample for level in reader.info.levels] == [1, 2, 4, 8]
    reader.close()


def test_the_picture_is_red_on_the_mark_and_blue_elsewhere(marked: Path) -> None:
    drawn = draw(marked, kinds=["png"])
    rgb = picture(drawn.folder / "marked.png").astype(int)
    scale = 1280 / rgb.shape[1]
    found = box_around(rgb[:, :, 0] > rgb[:, :, 2] + 40, scale)
    assert np.allclose(found, MARK, atol=8)  # the outline of the label hides its border
    dark = box_around(rgb.sum(axis=2) < 330, scale)  # the slide's own mark shines through
    assert np.allclose(dark, MARK, atol=8)


def test_qupaths_tile_with_the_mark_has_its_probability_and_class(marked: Path) -> None:
    drawn = draw(marked, kinds=["geojson"])
    found = features(drawn.folder / "marked.geojson")
    assert len(found) == 80
    names = {each["properties"]["classification"]["name"] for each in found}
    assert names == {"cancer 0.0 to 0.1", "cancer 0.9 to 1.0"}
    (mark,) = (
        each for each in found if each["properties"]["measurements"]["probability of cancer"] > 0.5
    )
    x, y, x_end, y_end = shape(mark["geometry"]).bounds
    assert [x, y, x_end - x, y_end - y] == list(MARK)
    assert mark["properties"]["measurements"]["labelled cancer"] == 1
    assert mark["properties"]["objectType"] == "tile"


def test_tiles_that_overlap_are_right_to_one_tile(tmp_path: Path) -> None:
    config = ALL.model_copy(update={"overlap": 0.3, "tile_size": 100})
    tile(tmp_path / "RUN", marked_slide(tmp_path), config=config)
    predict(tmp_path / "RUN", on_the_mark)
    drawn = draw(tmp_path / "RUN", kinds=["ome-tiff"])
    for number, level in enumerate(levels_of(drawn.folder / "marked.ome.tiff")):
        pitch = 8 * 2**number
        values = from_bytes(level)
        x, y, width, height = box_around(values > 0.5, pitch)
        assert np.allclose((x, y), MARK[:2], atol=100)
        assert np.allclose((x + width, y + height), (1024, 256), atol=100)
        assert values[192 // pitch, 960 // pitch] == 1


@pytest.mark.parametrize("origin", ["bounds", "canvas"])
def test_a_slide_whose_scanned_part_begins_elsewhere_is_laid_over_it(
    origin: Literal["bounds", "canvas"], tmp_path: Path
) -> None:
    rgb = np.full((384, 512, 3), 240, np.uint8)
    rgb[192:256, 320:384] = 0
    left_out = {(0, row) for row in range(3)} | {(column, 0) for column in range(4)}
    camera = Camera(unscanned=frozenset(left_out))
    slide = write_mrxs(tmp_path / "a.mrxs", rgb, camera=camera).path
    reader = open_slide(slide)
    corner, wide = (reader.info.bounds0.x, reader.info.bounds0.y), reader.info.bounds0.width
    reader.close()
    assert min(corner) > 0
    tile(
        tmp_path / "RUN",
        slide,
        config=TileConfig(tile_size=64, overlap=0.0, min_tissue=0.0, store="none"),
    )
    shown = pd.read_parquet(tmp_path / "RUN" / "manifest")
    predict(tmp_path / "RUN", lambda tiles: np.where(tiles["tile"] == dark_tile(shown), 30, -30))
    drawn = draw(tmp_path / "RUN", origin=origin)
    less = corner if origin == "bounds" else (0, 0)
    mark = shown[shown["tile"] == dark_tile(shown)].iloc[0]
    expected = (mark["x"] - less[0], mark["y"] - less[1], 64, 64)
    for number, level in enumerate(levels_of(drawn.folder / "a.ome.tiff")):
        assert box_around(from_bytes(level) > 0.5, 8 * 2**number) == list(expected)
    (tile_found,) = (
        each
        for each in features(drawn.folder / "a.geojson")
        if each["properties"]["measurements"]["probability of cancer"] > 0.5
    )
    assert shape(tile_found["geometry"]).bounds[:2] == expected[:2]
    rgb_found = picture(drawn.folder / "a.png").astype(int)
    times = rgb_found.shape[1] / wide
    found = box_around(rgb_found[:, :, 0] > rgb_found[:, :, 2] + 40, 1 / times)
    assert np.allclose(found[:2], (mark["x"] - corner[0], mark["y"] - corner[1]), atol=2)


def dark_tile(tiles: pd.DataFrame) -> int:
    """Return the number of the darkest tile."""
    return int(tiles["tile"].to_numpy()[np.argmin(tiles["gray_mean"].to_numpy())])


def test_a_slide_that_is_gone_is_drawn_over_what_the_run_keeps(tmp_path: Path) -> None:
    slide = marked_slide(tmp_path)
    run = tmp_path / "RUN"
    tile(run, slide, config=ALL)
    predict(run, on_the_mark)
    slide.unlink()
    for kept, says in (("thumbnails", "small picture"), ("overlays", "drawn in"), ("", "nothing")):
        drawn = draw(run, kinds=["png"])
        assert f"lies over {says}" in drawn.notes[0].replace(
            "the run's picture with its tiles ", ""
        ).replace("the ", "")
        rgb = picture(drawn.folder / "marked.png").astype(int)
        found = box_around(rgb[:, :, 0] > rgb[:, :, 2] + 40, 1280 / rgb.shape[1])
        assert np.allclose(found, MARK, atol=12)
        assert drawn.left_out == {}
        for folder in (run / kept, run / ".state" / kept):
            for path in folder.glob("marked.jpg"):
                path.unlink()


def test_where_predictions_say_where_tiles_lie_the_manifest_is_not_needed(run: Path) -> None:
    first = levels_of(draw(run, kinds=["ome-tiff"]).folder / "marked.ome.tiff")
    predict(run, on_the_mark, places=True)
    (run / "manifest" / "marked.parquet").unlink()
    again = levels_of(draw(run, kinds=["ome-tiff"]).folder / "marked.ome.tiff")
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))


def test_another_runs_slides_are_found_in_that_run(marked: Path, tmp_path: Path) -> None:
    own = tmp_path / "OWN"
    predict(own, on_the_mark, name="RUN-test", on=marked)
    drawn = draw(own, "RUN-test", on=marked)
    assert drawn.folder == own / "models" / "net" / "heatmaps" / "RUN-test"
    assert drawn.notes == ()
    assert not (marked / "models" / "net" / "heatmaps" / "RUN-test").exists()


def test_of_more_classes_each_has_a_map_and_one_that_is_asked_for_is_alone(run: Path) -> None:
    classes = ("benign", "in situ", "cancer")
    predict(
        run, lambda tiles: np.eye(3)[np.where(on_the_mark(tiles) > 0, 2, 0)] * 9, classes=classes
    )
    every = draw(run, kinds=["ome-tiff"])
    assert every.files["marked"] == tuple(
        f"marked-{name}.ome.tiff" for name in ("benign", "in_situ", "cancer")
    )
    shares = [from_bytes(levels_of(every.folder / name)[0]) for name in every.files["marked"]]
    np.testing.assert_allclose(np.nansum(shares, axis=0)[:60, :80], 1, atol=0.01)
    one = draw(run, kinds=["ome-tiff"], classes=["cancer"])
    assert one.files["marked"] == ("marked.ome.tiff",)


def test_the_same_predictions_give_the_same_bytes_and_nothing_half_written(marked: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in draw(marked).folder.iterdir()}

    assert contents() == contents()
    assert leftovers(marked) == []


def test_what_was_drawn_is_said_beside_it(marked: Path) -> None:
    drawn = draw(marked)
    about = json.loads((drawn.folder / "maps.json").read_text(encoding="utf-8"))
    assert about["slides"] == {"marked": list(drawn.files["marked"])}
    assert about["scale"] == [0, 1]
    assert {path.name for path in drawn.folder.iterdir()} == {
        *drawn.files["marked"],
        "maps.json",
    }


def test_one_slide_that_cannot_be_drawn_costs_that_slide_alone(tmp_path: Path) -> None:
    run = tmp_path / "RUN"
    first = marked_slide(tmp_path / "first")
    second = first.rename(first.with_name("second.tif"))
    tile(run, marked_slide(tmp_path / "first"), second, config=ALL)
    predict(run, on_the_mark)
    (run / "manifest" / "second.parquet").unlink()
    drawn = draw(run)
    assert set(drawn.files) == {"marked"}
    assert "second" in drawn.left_out["second"]


def test_a_file_of_many_tiles_is_compressed(marked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = features(draw(marked, kinds=["geojson"]).folder / "marked.geojson")
    monkeypatch.setattr(heat_geojson, "GZ_ABOVE_TILES", 79)
    drawn = draw(marked, kinds=["geojson"])
    assert drawn.files["marked"] == ("marked.geojson.gz",)
    assert features(drawn.folder / "marked.geojson.gz") == plain


def test_tiles_of_which_nobody_said_where_they_were_have_no_map(run: Path) -> None:
    path = run / "manifest" / "marked.parquet"
    pd.read_parquet(path).assign(x=np.int32(0), y=np.int32(0)).to_parquet(path)
    predict(run, lambda tiles: np.zeros(len(tiles)))
    assert "at 0, 0" in draw(run).left_out["marked"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"slides": ["marke"]}, "no predictions of marke; there are marked"),
        ({"classes": ["cancr"]}, "expected some of benign, cancer, got cancr"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(
    asked: dict[str, Any], message: str, marked: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(marked, **asked)


@pytest.mark.parametrize(
    ("targets_of", "says"),
    [
        (None, False),
        (lambda tiles: np.ones(len(tiles)), False),
        (lambda tiles: tiles["x"] > 600, True),
    ],
)
def test_the_label_is_outlined_where_it_divides_the_slide(
    targets_of: Callable[[pd.DataFrame], Any] | None,
    says: bool,  # noqa: FBT001
    run: Path,
) -> None:
    predict(run, lambda tiles: np.zeros(len(tiles)), targets_of=targets_of)
    rgb = picture(draw(run, kinds=["png"]).folder / "marked.png")
    assert (rgb == 0).all(axis=2).any() == says
