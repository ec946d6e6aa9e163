"""Single DICOM pictures, such as radiographs, as slides of one level; whole-slide DICOM is OpenSlide's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames

from wsi_pipeline.errors import SlideError
from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.slides.flat_backend import FlatReader, check_size, flat_info, gray_as_rgb
from wsi_pipeline.slides.reader import SlideInfo, plausible_mpp
from wsi_pipeline.slides.window_level import Window, to_eight_bits, window_of

_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "1.2.840.10008.1.2.4.50": imagecodecs.jpeg8_decode,
    "1.2.840.10008.1.2.4.51": imagecodecs.jpeg_decode,
    "1.2.840.10008.1.2.4.57": imagecodecs.ljpeg_decode,
    "1.2.840.10008.1.2.4.70": imagecodecs.ljpeg_decode,
    "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_decode,
    "1.2.840.10008.1.2.4.81": imagecodecs.jpegls_decode,
    "1.2.840.10008.1.2.4.90": imagecodecs.jpeg2k_decode,
    "1.2.840.10008.1.2.4.91": imagecodecs.jpeg2k_decode,
}
"""By transfer syntax; what is not here is uncompressed or run-length coded, which pydicom decodes."""


def open_dicom(path: Path, *, reason: str) -> FlatReader:
    """Return a reader of a picture of one frame, windowed as its header says or by its quantiles.

    Raises
    ------
    SlideError
        It holds no picture, several frames, or colours of an unknown kind.
    """
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        size = Size(width=int(header.Columns), height=int(header.Rows))
    except Exception as error:
        raise SlideError(f"a DICOM file without a picture that can be read ({error})") from error
    frames = int(header.get("NumberOfFrames", 1))
    photometric = str(header.get("PhotometricInterpretation", ""))
    if frames != 1 or not photometric.startswith(("MONOCHROME", "RGB", "YBR")):
        raise SlideError(
            f"expected one frame of gray or colour, got {frames} of {photometric or 'nothing'}; "
            "export it as PNG"
        )
    check_size(size)
    channels = int(header.get("SamplesPerPixel", 1))
    bits = int(header.get("BitsAllocated", 8))
    if channels > 1 and bits != 8:
        raise SlideError(f"expected colours of 8 bits, got {bits}; export it as 8-bit PNG")
    info = flat_info(size, reason=reason, kind="dicom", channels=channels)
    return FlatReader(info=_with_spacing(info, header), decode=lambda: _decoded(path))


def _with_spacing(info: SlideInfo, header: Any) -> SlideInfo:
    """Return the same picture with µm/px from PixelSpacing: rows, then columns, in mm (PS3.3 10.7.1.3)."""
    spacing = header.get("PixelSpacing") or (None, None)
    down, across = (None if each is None else 1e3 * float(each) for each in spacing)
    mpp_x, mpp_y, note = plausible_mpp(across, down)
    return replace(info, mpp_x=mpp_x, mpp_y=mpp_y, mpp_note=note)


def _decoded(path: Path) -> Rgb:
    try:
        data = pydicom.dcmread(path)
        values = _values(data)
    except Exception as error:
        raise SlideError(
            f"its pixels cannot be decoded ({error}); the file is damaged or cut off"
        ) from error
    if values.ndim == 3:
        return np.asarray(values[..., :3], dtype=np.uint8)
    # An element may be there and empty.
    slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
    if slope is not None or intercept is not None:
        values = values * float(1 if slope is None else slope) + float(intercept or 0)
    inverted = data.PhotometricInterpretation == "MONOCHROME1"
    return gray_as_rgb(
        to_eight_bits(values, _stated_window(data) or window_of(values), inverted=inverted)
    )


def _values(data: Any) -> NDArray[Any]:
    decode = _DECODERS.get(str(data.file_meta.TransferSyntaxUID))
    if decode is None:
        pixels: NDArray[Any] = data.pixel_array
        return pixels
    frame = next(generate_frames(data.PixelData, number_of_frames=1))
    values: NDArray[Any] = np.asarray(decode(frame))
    if data.PixelRepresentation == 1 and values.dtype == np.uint16:
        unused_bits = 16 - int(
            data.BitsStored
        )  # the sign is the highest one of those that are used
        values = (values << unused_bits).view(np.int16) >> unused_bits
    return values


def _stated_window(data: Any) -> Window | None:
    """Return the header's first window (DICOM PS3.3 C.11.2.1.2), or None."""
    center, width = data.get("WindowCenter"), data.get("WindowWidth")
    if center is None or width is None:
        return None
    first_center = float(center[0] if isinstance(center, pydicom.multival.MultiValue) else center)
    first_width = float(width[0] if isinstance(width, pydicom.multival.MultiValue) else width)
    return Window(low=first_center - first_width / 2, high=first_center + first_width / 2)
