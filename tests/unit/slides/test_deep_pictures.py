from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Box, Rgb
from wsi_pipeline.slides import window_level
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


ENCODERS: dict[str, Callable[[NDArray[np.uint16]], bytes | bytearray]] = {
    pydicom.uid.JPEGLossless: imagecodecs.ljpeg_encode,
    pydicom.uid.JPEGLosslessSV1: imagecodecs.ljpeg_encode,
    pydicom.uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    pydicom.uid.JPEG2000Lossless: lambda values: imagecodecs.jpeg2k_encode(values, level=0),
}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("transfer", [*ENCODERS, pydicom.uid.RLELossless])
def test_compressed_values_of_12_bits_are_those_that_were_written(
    transfer: str, *, signed: bool, tmp_path: Path
) -> None:
    stored = ((RAMP // 8) & 0xFFF).astype(np.uint16)
    header = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed)}
    dicom(tmp_path / "a.dcm", stored, WindowCenter=0, WindowWidth=4096, **header)
    expected = pixels(tmp_path / "a.dcm")
    data = pydicom.dcmread(tmp_path / "a.dcm")
    if transfer == pydicom.uid.RLELossless:
        data.compress(transfer)
    else:
        data.file_meta.TransferSyntaxUID = pydicom.uid.UID(transfer)
        data.PixelData = encapsulate([bytes(ENCODERS[transfer](stored))])
        data["PixelData"].VR = "OB"
    data.save_as(tmp_path / "b.dcm")
    np.testing.assert_array_equal(pixels(tmp_path / "b.dcm"), expected)


def test_an_empty_rescale_changes_nothing(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP, RescaleSlope=None, RescaleIntercept=None)
    gray = to_eight_bits(RAMP, window_of(RAMP))
    np.testing.assert_array_equal(pixels(tmp_path / "a.dcm")[..., 0], gray)


def test_a_picture_is_windowed_a_few_rows_at_a_time_with_the_same_grays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = to_eight_bits(RAMP, window_of(RAMP), inverted=True)
    for block_px in (1, 200, 777):
        monkeypatch.setattr(window_level, "BLOCK_PX", block_px)
        found = to_eight_bits(RAMP, window_of(RAMP), inverted=True)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("spacing_mm", "mpp", "said"),
    [
        ([0.05, 0.07], (70, 50), "from the file"),  # rows are apart by the first
        ([0.143, 0.143], (None, None), "the file says 143 x 143, expected 0.01 to 100"),
        (None, (None, None), "the file does not say"),
    ],
)
def test_um_per_px_of_a_radiograph_are_its_pixel_spacing_where_plausible(
    spacing_mm: list[float] | None,
    mpp: tuple[float | None, float | None],
    said: str,
    tmp_path: Path,
) -> None:
    dicom(tmp_path / "a.dcm", RAMP, PixelSpacing=spacing_mm)
    with closing(open_slide(tmp_path / "a.dcm")) as reader:
        assert (reader.info.mpp_x, reader.info.mpp_y) == pytest.approx(mpp)
        assert reader.info.mpp_note == said


def test_colours_deeper_than_8_bits_are_refused_with_what_to_do(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    with pytest.raises(SlideError, match=r"expected colours of 8 bits, got 16; export it"):
        open_slide(tmp_path / "a.dcm")


def test_uncompressed_ybr_is_shown_in_its_colours(tmp_path: Path) -> None:
    ycbcr = np.zeros((120, 200, 3), np.uint8) + np.array([76, 85, 255], np.uint8)  # red
    dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="YBR_FULL")
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data.SamplesPerPixel, data.PlanarConfiguration = 3, 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelData = 7, ycbcr.tobytes()
    data.save_as(tmp_path / "a.dcm")
    assert abs(pixels(tmp_path / "a.dcm").astype(int) - (255, 0, 0)).max() <= 2


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
