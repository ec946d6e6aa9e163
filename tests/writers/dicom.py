"""DICOM whole slides: a folder with one file per level, tiles in order (TILED_FULL).

Only what OpenSlide and its libdicom ask for, with the names of DICOM PS3.3 section A.32.8
(VL Whole Slide Microscopy Image). No patient is named.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    VLWholeSlideMicroscopyImageStorage,
)

from tests.writers.jpeg import encoded
from wsi_pipeline.geometry import WHITE, Rgb

Transfer: TypeAlias = Literal["jpeg", "none"]
"""JPEG baseline of Y, Cb, Cr at 4:2:2, or bare pixels."""

MPP = 0.5
_ROOT = "1.2.826.0.1.3680043.8.498."  # pydicom's, for what has none of its own


def write_dicom(
    folder: Path,
    levels: Sequence[Rgb],
    *,
    transfer: Transfer,
    tile_px: int = 128,
    names: str = "level",
    series: int = 2,
) -> Path:
    """Write one file per level, ``names`` and a number, and return the finest level's."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{names}{index}.dcm" for index in range(len(levels))]
    for index, (path, level) in enumerate(zip(paths, levels, strict=True)):
        dataset = _described(level, index, levels[0].shape[1] / level.shape[1], tile_px)
        dataset.SeriesInstanceUID = f"{_ROOT}{series}"
        _put_pixels(dataset, list(_tiles(level, tile_px)), transfer)
        dataset.save_as(path, enforce_file_format=True)
    return paths[0]


def write_label(path: Path, *, series: int = 2) -> Path:
    """Write the picture of a label, as a file of a series."""
    label = np.full((64, 96, 3), WHITE, np.uint8)
    dataset = _described(label, 0, 1, 128)
    dataset.SeriesInstanceUID = f"{_ROOT}{series}"
    dataset.SOPInstanceUID = f"{_ROOT}9"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    _put_pixels(dataset, list(_tiles(label, 128)), "none")
    dataset.save_as(path, enforce_file_format=True)
    return path


def _described(level: Rgb, index: int, shrink: float, tile_px: int) -> Dataset:
    """Return all but the pixels."""
    dataset = Dataset()
    dataset.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    dataset.SOPInstanceUID = f"{_ROOT}3.{index + 1}"
    dataset.StudyInstanceUID = f"{_ROOT}1"
    dataset.FrameOfReferenceUID = f"{_ROOT}4"
    dataset.Modality = "SM"
    kind = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.ImageType = kind if index == 0 else ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    dataset.Rows = dataset.Columns = tile_px
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = level.shape[:2]
    dataset.TotalPixelMatrixFocalPlanes = 1
    dataset.NumberOfOpticalPaths = 1
    dataset.DimensionOrganizationType = "TILED_FULL"
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PixelRepresentation = 3, 0, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.ManufacturerModelName = "wsi-pipeline tests"
    measures = Dataset()
    measures.PixelSpacing = [MPP * shrink / 1e3] * 2  # millimetres
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    path = Dataset()
    path.ObjectiveLensPower = 20
    path.OpticalPathIdentifier = "1"
    dataset.OpticalPathSequence = [path]
    return dataset


def _put_pixels(dataset: Dataset, tiles: list[Rgb], transfer: Transfer) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta = meta
    dataset.NumberOfFrames = len(tiles)
    if transfer == "none":
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.PhotometricInterpretation = "RGB"
        dataset.PixelData = b"".join(tile.tobytes() for tile in tiles)
        return
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    frames = [
        encoded(tile, colours="ycbcr", subsampling="422", quality=85, marks="jfif")
        for tile in tiles
    ]
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"


def _tiles(level: Rgb, tile_px: int) -> Iterator[Rgb]:
    """Yield tiles row by row; those at the far edges repeat the last pixels."""
    height, width = level.shape[:2]
    whole = cv2.copyMakeBorder(
        level, 0, -height % tile_px, 0, -width % tile_px, cv2.BORDER_REPLICATE
    )
    for y in range(0, height, tile_px):
        for x in range(0, width, tile_px):
            yield np.ascontiguousarray(whole[y : y + tile_px, x : x + tile_px])
