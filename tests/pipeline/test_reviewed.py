"""What a second pair of eyes found once, held for good."""

from collections import deque
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from wsi_pipeline.calls import Answer, Call
from wsi_pipeline.errors import ConfigError, SlideError
from wsi_pipeline.geometry import Box, Size
from wsi_pipeline.slides.drawn import draw_slide
from wsi_pipeline.slides.find import find_slides
from wsi_pipeline.slides.names import slide_ids
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.stages import units
from wsi_pipeline.stages.lease import sole_use
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.tile import TileConfig, TileOptions, tile_slides
from wsi_pipeline.stages.verify import verify_run

CONFIG = TileConfig(tile_size=64, tissue="none", min_tissue=0, codec="zstd")


def picture(path: Path, *, side: int = 200, seed: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = draw_slide(Size(width=side, height=side), seed=seed).rgb
    Image.fromarray(rgb).save(path)
    return path


@pytest.mark.parametrize("known", [(), ("/B/a/same.png",), ("/B/b/same.png",), ("/B/m.png",)])
def test_ids_do_not_depend_on_what_an_earlier_run_knows(known: tuple[str, ...]) -> None:
    paths = dict.fromkeys(["/B/a/same.png", "/B/b/same.png", "/B/m.png"])
    alone = slide_ids(paths, {})
    assert slide_ids(paths, {path: alone[path] for path in known}) == alone


def test_parts_one_after_the_other_cut_every_slide_once(tmp_path: Path) -> None:
    for name in ("a/same", "b/same", "m"):
        picture(tmp_path / "B" / f"{name}.png")
    for part in (1, 2):
        tile_slides(
            [str(tmp_path / "B")], tmp_path / "RUN", CONFIG, options=TileOptions(part=part, parts=2)
        )
    slides = pd.read_parquet(tmp_path / "RUN" / "slides.parquet")
    assert sorted(slides.slide_id) == ["a_same", "b_same", "m"]


class LastComesFirst:
    """A pool that answers the newest call first, as workers of unequal speed may."""

    window = 4

    def __init__(self) -> None:
        self.calls: deque[Call] = deque()

    def submit(self, call: Call) -> None:
        self.calls.append(call)

    def next_answer(self) -> Answer:
        call = self.calls.pop()
        if call.name.startswith("cut:large:0"):
            return Answer(call=call, error=SlideError("its worker died"))
        try:
            return Answer(call=call, value=call.function(call.argument))
        except Exception as error:  # noqa: BLE001  an error is an answer
            return Answer(call=call, error=error)

    def drop(self) -> None:
        self.calls.clear()


def test_a_failed_unit_costs_its_slide_only_whatever_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "UNIT_TILES", 64)
    picture(tmp_path / "S" / "large.png", side=900)
    picture(tmp_path / "S" / "small.png")
    outcome = tile_slides([str(tmp_path / "S")], tmp_path / "RUN", CONFIG, pool=LastComesFirst())
    assert [record.slide_id for record in outcome.with_status("failed")] == ["large"]
    assert [record.slide_id for record in outcome.with_status("done")] == ["small"]
    assert not outcome.run.array("large").exists()
    assert not outcome.run.work("large").exists()


def test_a_run_inside_the_slides_folder_does_not_feed_on_itself(tmp_path: Path) -> None:
    picture(tmp_path / "S" / "a.png")
    for _ in range(2):
        outcome = tile_slides([str(tmp_path / "S")], tmp_path / "S" / "RUN", CONFIG)
    assert [record.slide_id for record in outcome.records] == ["a"]


@pytest.mark.parametrize("slide_id", ["_x", "a\\b", "a/b", ".a", ""])
def test_ids_that_pandas_or_zarr_would_not_find_are_refused(tmp_path: Path, slide_id: str) -> None:
    table = pd.DataFrame({"path": ["a.png"], "slide_id": [slide_id]})
    table.to_parquet(tmp_path / "slides.parquet")
    with pytest.raises(ConfigError, match="cannot name a file"):
        find_slides([str(tmp_path / "slides.parquet")])


def test_a_csv_keeps_what_is_written_in_it(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text(
        "path,centre,case,age,share,note\na.png,NA,00123,61,0.5,1e5\nb.png,,7,,,\n"
    )
    first, second = find_slides([str(tmp_path / "slides.csv")])
    assert first.columns == {
        "centre": "NA", "case": "00123", "age": 61, "share": 0.5, "note": "1e5"
    }  # fmt: skip
    assert second.columns == {
        "centre": None, "case": "7", "age": None, "share": None, "note": None
    }  # fmt: skip


def test_a_second_run_on_one_directory_is_refused_and_parts_share_it(tmp_path: Path) -> None:
    run = RunDirectory(path=tmp_path / "RUN")
    with (
        sole_use(run, part=1, parts=1),
        pytest.raises(ConfigError, match="another run is working"),
        sole_use(run, part=1, parts=1),
    ):
        pass
    with sole_use(run, part=1, parts=2), sole_use(run, part=2, parts=2):
        pass
    with (
        sole_use(run, part=1, parts=2),
        pytest.raises(ConfigError, match="part 1/2 is being worked on"),
        sole_use(run, part=1, parts=2),
    ):
        pass


def test_verify_counts_only_tiles_that_it_has_read(tmp_path: Path) -> None:
    picture(tmp_path / "S" / "a.png")
    tile_slides(
        [str(tmp_path / "S")], tmp_path / "RUN", CONFIG.model_copy(update={"store": "none"})
    )
    outcome = verify_run(tmp_path / "RUN")
    assert outcome.tiles == 0
    assert outcome.findings == ()


def test_one_path_given_as_text_is_one_path(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    (source,) = find_slides(str(path))
    assert source.path == str(path)


def test_jfif_tiles_of_an_ome_tiff_are_ycbcr_whatever_the_tag_says(tmp_path: Path) -> None:
    rgb = draw_slide(Size(width=256, height=256), seed=5).rgb
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path,
        iter([bytes(imagecodecs.jpeg8_encode(rgb, level=95))]),  # JFIF, and so YCbCr
        shape=rgb.shape,
        dtype=rgb.dtype,
        tile=(256, 256),
        photometric="rgb",
        compression="jpeg",
        metadata={"axes": "YXS"},
    )
    reader = open_slide(path)
    pixels = reader.read(0, Box(x=0, y=0, width=256, height=256))
    reader.close()
    assert np.abs(pixels.mean((0, 1)) - rgb.mean((0, 1))).max() < 3


SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "slides"


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder shared/slides beside the checkout")
def test_the_real_ome_tiff_has_the_colours_that_tifffile_gives_it() -> None:
    path = SHARED / "ome_tiff_he.ome.tif"
    reader = open_slide(path)
    pixels = reader.read(0, Box(x=0, y=0, width=1101, height=1101))
    reader.close()
    np.testing.assert_array_equal(pixels, tifffile.imread(path))
