"""``compare-backends``: the same tiles through every backend, what differs, and every message."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.pipeline.runs import Command, destroy_native_tiles
from tests.unit.slides.test_deep_pictures import dicom as write_radiograph
from tests.writers.codings import DEFLATE, jpeg
from tests.writers.czi import write_czi
from tests.writers.mrxs import Camera, write_mrxs
from tests.writers.pixels import pyramid, tissue
from tests.writers.tiff import write_generic, write_svs

LEVELS = pyramid(tissue(704, 528), 4, 16)


def test_backends_that_agree_say_so_with_their_speeds(wsi: Command, tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", LEVELS, coding=jpeg("ycbcr", "420"))
    said = wsi("compare-backends", path, "--tile-size", "100", "--json")
    results = {each["backend"]: each for each in json.loads(said.out)}
    assert said.code == 0
    assert next(iter(results)) == "tiff tiles"
    for name in ("tiff tiles", "openslide", "tifffile"):
        assert (results[name]["same"], results[name]["largest"]) == (24, 0)
        assert results[name]["cpu_ms"] > 0
    for name in ("pylibCZIrw", "flat"):
        assert results[name]["cpu_ms"] is None
        assert results[name]["note"] == "the file does not begin as those that it reads"


def test_backends_that_differ_say_by_how_much(wsi: Command, tmp_path: Path) -> None:
    # A tag that says RGB and a JFIF mark that says YCbCr: OpenSlide goes by the tag.
    path = write_generic(tmp_path / "a.tif", LEVELS, coding=jpeg("rgb", marks="jfif"))
    said = wsi("compare-backends", path, "--tile-size", "100", "--json")
    results = {each["backend"]: each for each in json.loads(said.out)}
    assert results["openslide"]["same"] == 24
    assert results["tifffile"]["same"] == 0
    assert results["tifffile"]["differing"] > 0.5
    assert results["tifffile"]["largest"] > 30


def test_tiles_that_cannot_be_read_are_counted_with_the_first_reason(
    wsi: Command, tmp_path: Path
) -> None:
    path = write_svs(tmp_path / "a.svs", LEVELS, coding=jpeg("ycbcr", "420"))
    destroy_native_tiles(path, 8)
    said = wsi("compare-backends", path, "--tile-size", "100")
    assert said.code == 0
    assert "cannot read" in said.out
    assert "native tile 8: expected a JPEG" in said.out


def test_both_ways_of_reading_an_mrxs_agree(wsi: Command, tmp_path: Path) -> None:
    path = write_mrxs(tmp_path / "a.mrxs", LEVELS[0], camera=Camera()).path
    results = json.loads(wsi("compare-backends", path, "--tile-size", "64", "--json").out)
    same = {each["backend"]: each["same"] for each in results if each["cpu_ms"] is not None}
    assert same == {"mrxs images": 24, "openslide": 24}


@pytest.mark.parametrize("kind", ["czi", "png", "dicom", "16-bit tiff"])
def test_a_file_that_one_backend_opens_has_one_line_and_why_the_others_do_not(
    kind: str, wsi: Command, tmp_path: Path
) -> None:
    path = tmp_path / "slide"
    match kind:
        case "czi":
            write_czi(path, LEVELS[0], mpp=(0.22, 0.22))
        case "png":
            Image.fromarray(LEVELS[0]).save(path, format="PNG")
        case "dicom":
            write_radiograph(path, LEVELS[0][..., 0].astype(np.uint16))
        case _:
            tifffile.imwrite(path, LEVELS[0][..., 0].astype(np.uint16))
    results = json.loads(wsi("compare-backends", path, "--tile-size", "64", "--json").out)
    assert [each["same"] for each in results if each["cpu_ms"] is not None] == [24]
    names = [each["backend"] for each in results]
    assert len(names) == len(set(names))
    for each in results[1:]:
        assert each["cpu_ms"] is None
        assert "cut off" not in each["note"]
        assert each["note"]


def test_what_no_backend_opens_is_named(wsi: Command, tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_text("text")
    for name, reason in (
        ("a.svs", "no backend opens it"),
        ("gone.svs", "No such file"),
        ("", "a directory, expected a file"),
    ):
        said = wsi("compare-backends", tmp_path / name)
        assert said.code == 1
        assert str(tmp_path / name) in said.err
        assert reason in said.err


def test_info_says_that_a_label_mask_is_none(wsi: Command, tmp_path: Path) -> None:
    mask = np.zeros((528, 704), np.uint8)
    mask[100:200, 100:300] = 2
    write_generic(tmp_path / "picture.tif", LEVELS, coding=DEFLATE)
    tifffile.imwrite(tmp_path / "mask.tif", mask, tile=(96, 128), compression="zlib", metadata=None)
    found = {each["slide_id"]: each for each in json.loads(wsi("info", tmp_path, "--json").out)}
    assert found["mask"]["label_mask"].startswith("a label mask, not a picture: 1 channel(s)")
    assert found["picture"]["label_mask"] is None
    assert "label mask" in wsi("info", tmp_path / "mask.tif").out
