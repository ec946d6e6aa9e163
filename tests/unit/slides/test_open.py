import os
import pickle
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.strategies import noise
from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.slides.drawn import write_pyramid
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.slides.open import open_slide, open_source
from wsi_pipeline.slides.reader import SlideInfo, required_mpp

PIXELS = noise(1, height=96, width=128)
OME = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.svs", b"", "the file is empty (0 bytes)"),
        ("empty.png", b"", "the file is empty (0 bytes)"),
        ("text.svs", b"Dear colleague,\n", "which is no TIFF, PNG or JPEG"),
        ("one.svs", b"I", "which is no TIFF, PNG or JPEG"),
        ("zip.mrxs", b"PK\x03\x04" + bytes(100), "which is no TIFF, PNG or JPEG"),
        ("tiff.tif", b"II*\x00", "is the file complete?"),
        ("head.jpg", b"\xff\xd8\xff\xe0", "not a picture that can be opened"),
    ],
)
def test_what_is_no_slide_is_refused_in_one_sentence(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert sentence in message
    assert "\n" not in message


def test_a_missing_file_is_refused_by_its_reason(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "gone.svs")
    (tmp_path / "link.svs").symlink_to(tmp_path / "gone.svs")
    assert "No such file" in refusal(tmp_path / "link.svs")


def test_a_directory_with_the_name_of_a_slide_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.svs").mkdir()
    assert "a directory, expected a file" in refusal(tmp_path / "x.svs")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"secret")
    (tmp_path / "a.svs").chmod(0)
    assert "Permission denied" in refusal(tmp_path / "a.svs")


@pytest.mark.parametrize("name", ["a.svs", "a.png", "näyte 1 😐.tif"])
def test_a_pyramid_is_known_by_its_content_whatever_its_name(tmp_path: Path, name: str) -> None:
    write_pyramid(tmp_path / name, PIXELS, mpp=0.5, tile_px=32, levels=2, compression="deflate")
    info, pixels = read(tmp_path / name)
    assert info.format == "generic-tiff"
    assert info.mpp == pytest.approx(0.5, rel=1e-4)
    assert np.array_equal(pixels, PIXELS)


@pytest.mark.parametrize(("kind", "name"), [("PNG", "a.svs"), ("JPEG", "a.tif")])
def test_a_flat_picture_is_known_by_its_content_whatever_its_name(
    tmp_path: Path, kind: str, name: str
) -> None:
    Image.fromarray(PIXELS).save(tmp_path / name, format=kind)
    info, _ = read(tmp_path / name)
    assert info.backend == "flat"
    assert kind in info.backend_reason


@pytest.mark.parametrize("options", [{}, {"tile": (32, 32)}], ids=["strips", "tiles"])
def test_um_per_px_of_an_ome_tiff_are_known_however_it_is_laid_out(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", PIXELS, photometric="rgb", metadata=OME, **options)
    info, pixels = read(tmp_path / "a.ome.tif")
    assert info.mpp == 0.25
    assert np.array_equal(pixels, PIXELS)


def test_all_levels_of_an_ome_tiff_are_known(tmp_path: Path) -> None:
    options: dict[str, Any] = {"photometric": "rgb", "tile": (32, 32)}
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        writer.write(PIXELS, subifds=1, metadata=OME, **options)
        writer.write(np.ascontiguousarray(PIXELS[::2, ::2]), subfiletype=1, **options)
    info, _ = read(tmp_path / "a.ome.tif")
    assert [at.size_px.width for at in info.levels] == [128, 64]


@pytest.mark.parametrize(
    ("in_file", "in_table", "flag", "expected", "said"),
    [
        (0.25, None, None, 0.25, "from the file"),
        (0.25, None, 0.9, 0.25, "from the file"),
        (0.25, 0.5, 0.9, 0.5, "the slide table"),
        (None, 0.5, 0.9, 0.5, "the slide table"),
        (None, None, 0.9, 0.9, "--slide-mpp"),
        (None, None, None, None, "does not say"),
        (353.0, None, 0.9, 0.9, "--slide-mpp"),
        (353.0, None, None, None, "the file says 353 x 353, expected 0.01 to 100"),
    ],
)
def test_um_per_px_are_the_tables_then_the_files_then_the_flags(
    tmp_path: Path,
    in_file: float | None,
    in_table: float | None,
    flag: float | None,
    expected: float | None,
    said: str,
) -> None:
    path = tmp_path / "a.tif"
    write_pyramid(path, PIXELS, mpp=in_file, tile_px=32, levels=1, compression="deflate")
    source = SlideSource(slide_id="a", path=str(path), mpp=in_table)
    with closing(open_source(source, slide_mpp=flag)) as reader:
        assert reader.info.mpp == (None if expected is None else pytest.approx(expected, rel=1e-4))
        assert said in reader.info.mpp_note
        window = Box(x=3, y=4, width=9, height=8)
        assert np.array_equal(reader.read(0, window), PIXELS[4:12, 3:12])


def test_where_um_per_px_are_needed_the_error_says_who_can_give_them(tmp_path: Path) -> None:
    write_pyramid(tmp_path / "a.tif", PIXELS, mpp=None, tile_px=32, levels=1)
    info, _ = read(tmp_path / "a.tif")
    with pytest.raises(SlideError, match=r"case 3: .*--slide-mpp .*column 'mpp'"):
        required_mpp(info, "case 3")


def test_a_slide_can_be_opened_in_another_process_from_its_source(tmp_path: Path) -> None:
    write_pyramid(tmp_path / "a.tif", PIXELS, mpp=0.5, tile_px=32, levels=1, compression="none")
    source = SlideSource(slide_id="a", path=str(tmp_path / "a.tif"), columns={"patient_id": "01"})
    again: SlideSource = pickle.loads(pickle.dumps(source))
    assert again == source
    with closing(open_source(again, slide_mpp=None)) as reader:
        assert np.array_equal(reader.read(0, Box(x=0, y=0, width=128, height=96)), PIXELS)


def refusal(path: Path) -> str:
    """Return why a file is not opened."""
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    return str(caught.value)


def read(path: Path) -> tuple[SlideInfo, Rgb]:
    with closing(open_slide(path)) as reader:
        return reader.info, reader.read(0, Box(x=0, y=0, width=128, height=96))
