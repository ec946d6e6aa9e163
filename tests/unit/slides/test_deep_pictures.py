from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset

from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.slides.window_level import Window, to_eight_bits, window_of
from wsi_pipeline.stages.tile import tile_slides
from wsi_pipeline.store.codec import decode_tile
from wsi_pipeline.store.reader import read_shard

RAMP = np.add.outer(np.arange(120), np.arange(200)).astype(np.uint16) * 100
WHOLE = Box(x=0, y=0, width=200, height=120)


def png(path: Path, values: NDArray[np.uint16]) -> None:
    Image.fromarray(values).save(path, format="PNG")


def tiff(path: Path, values: NDArray[np.uint16]) -> None:
    tifffile.imwrite(path, values, compression="zlib")


def dicom(path: Path, values: NDArray[np.uint16], **header: object) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.UID("1.2.840.10008.5.1.4.1.1.1")
    meta.MediaStorageSOPInstanceUID = pydicom.uid.UID("1.2.3")
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows, data.Columns = values.shape
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    data.BitsAllocated = data.BitsStored = 16
    data.SamplesPerPixel, data.HighBit, data.PixelRepresentation = 1, 15, 0
    data.PhotometricInterpretation = "MONOCHROME2"
    for name, value in header.items():
        setattr(data, name, value)
    data.PixelData = values.tobytes()
    data.save_as(path, enforce_file_format=True)


def pixels(path: Path) -> Rgb:
    reader = open_slide(path)
    read = reader.read(0, WHOLE)
    reader.close()
    return read


@pytest.mark.parametrize("write", [png, tiff, dicom], ids=["png", "tiff", "dicom"])
def test_16_bit_gray_is_shown_through_the_window_of_its_quantiles(
    write: Callable[[Path, NDArray[np.uint16]], None], tmp_path: Path
) -> None:
    write(tmp_path / "ramp", RAMP)
    gray = to_eight_bits(RAMP, window_of(RAMP))
    assert (gray.min(), gray.max()) == (0, 255)
    np.testing.assert_array_equal(pixels(tmp_path / "ramp"), np.dstack([gray] * 3))


def test_a_dicom_picture_is_shown_through_the_window_of_its_header(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP, WindowCenter=10_000, WindowWidth=4_000)
    gray = to_eight_bits(RAMP, Window(low=8_000, high=12_000))
    np.testing.assert_array_equal(pixels(tmp_path / "a.dcm")[..., 0], gray)


def test_dicom_values_are_rescaled_before_they_are_windowed(tmp_path: Path) -> None:
    dicom(
        tmp_path / "a.dcm",
        RAMP,
        RescaleSlope=2,
        RescaleIntercept=-100,
        WindowCenter=0,
        WindowWidth=200,
    )
    gray = to_eight_bits(RAMP * 2.0 - 100, Window(low=-100, high=100))
    np.testing.assert_array_equal(pixels(tmp_path / "a.dcm")[..., 0], gray)


def test_monochrome1_is_black_where_values_are_high(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    read = pixels(tmp_path / "a.dcm")
    assert read[0, 0, 0] == 255
    assert read[-1, -1, 0] == 0


def test_several_frames_are_refused_with_what_to_do(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP, NumberOfFrames=2)
    with pytest.raises(SlideError, match=r"expected one frame .*export it as PNG"):
        open_slide(tmp_path / "a.dcm")


def test_a_picture_cut_off_in_its_pixels_is_an_error_and_never_gray(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP)
    data = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(data[: len(data) // 2])
    with pytest.raises(SlideError, match="cut off"):
        pixels(tmp_path / "a.dcm")


def test_a_whole_picture_becomes_one_tile_with_white_beside_it(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP, WindowCenter=10_000, WindowWidth=30_000)
    config = TileConfig(tile_size=100, whole_image=True, codec="zstd", tissue="none")
    outcome = tile_slides([str(tmp_path / "a.dcm")], tmp_path / "RUN", config)
    (chunk,) = read_shard(outcome.run.array("a"), 0)[:1]
    assert chunk is not None
    tile = decode_tile(chunk, "zstd", tile_size=100)
    assert tile.shape == (100, 100, 3)
    assert (tile[61:] == 255).all()
    assert not (tile[:59] == 255).all()
