"""``python -m tests.benchmarks alike``: how alike copies of slides look, and slides that are none."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from tests.benchmarks.measure import Plan, Result, judged
from tests.benchmarks.peers import PLACE
from wsi_pipeline.config import TileConfig
from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.labels.similar import ALIKE, COLOURS, SIDE, Picture, alike, picture_of
from wsi_pipeline.manifest import read_manifest
from wsi_pipeline.slides.drawn import draw_slide, write_pyramid
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.stages.tile import tile_slides

REAL = (
    "aperio_jpeg_he.svs",
    "aperio_jpeg2000_he.svs",
    "biopsy_with_ink.jpeg",
    "ome_tiff_he.ome.tif",
)
REAL_SLIDES = Path(__file__).resolve().parents[3] / "shared" / "slides"
TILES_UM = (48, 96, 128)
"""Sides of tiles: about 280, 70 and 40 tiles of a drawn slide."""

_GLASS = (243, 242, 245)
_COMMAND = "python -m tests.benchmarks alike"


def run(plan: Plan) -> Iterator[Result]:
    """Yield correlations of each kind of copy, and of slides that are none."""
    if not plan.wants("alike: "):
        return
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        yield from results(Path(folder), drawn=8 if plan.quick else 28, sides_um=TILES_UM)
    for slides in (60, 240) if plan.quick else (600, 2400):
        yield timed(slides)


def results(
    folder: Path, *, drawn: int, sides_um: Sequence[int], real: Sequence[str] = REAL
) -> Iterator[Result]:
    """Yield the results, measured below a folder."""
    (folder / "slides").mkdir()
    write_slides(folder / "slides", drawn=drawn, real=real)
    for side_um in sides_um:
        found = compared(folder / "slides", folder / f"RUN{side_um}", side_um)
        by_kind: dict[str, list[float]] = {}
        for (one, kind), (other, other_kind), correlation in found:
            if one != other:
                by_kind.setdefault("another slide", []).append(correlation)
            elif "original" in {kind, other_kind}:
                copy = kind if other_kind == "original" else other_kind
                by_kind.setdefault(copy, []).append(correlation)
        for name, values in sorted(by_kind.items()):
            above = sum(value >= ALIKE for value in values)
            yield judged(
                f"alike: {name}, tiles of {side_um} um",
                values,
                bar=None,
                command=_COMMAND,
                against=f"{above} of {len(values)} are called alike",
            )


def timed(slides: int) -> Result:
    """Return the CPU seconds that comparing so many slides takes."""
    rng = np.random.default_rng(1)
    cells = rng.normal(size=(slides, 3, SIDE, SIDE)).astype(np.float32)
    cells /= np.sqrt((cells**2).sum(axis=(1, 2, 3), keepdims=True))
    aspects = rng.uniform(0.7, 1.4, slides)
    pictures = [
        Picture(cells=each, aspect=float(a)) for each, a in zip(cells, aspects, strict=True)
    ]
    started = time.process_time()
    alike(pictures)
    taken_s = time.process_time() - started
    return judged(
        f"alike: {slides} slides compared, CPU", [taken_s], bar=None, unit="s", command=_COMMAND
    )


def write_slides(folder: Path, *, drawn: int, real: Sequence[str]) -> None:
    """Write drawn slides and real ones, and copies of real ones and of every seventh that is drawn."""
    for number in range(drawn):
        size = Size(width=2000 + 100 * (number % 3), height=1500 + 80 * (number % 4))
        rgb = draw_slide(size, seed=[99, number], tumours=number % 3).rgb
        _write(
            folder, f"drawn{number}", {"original": rgb, **(copies(rgb) if number % 7 == 0 else {})}
        )
    for name in real:
        if (REAL_SLIDES / name).exists():
            with closing(open_slide(REAL_SLIDES / name)) as reader:
                rgb = reader.read(0, reader.info.bounds0)
            _write(
                folder, name.partition(".")[0].replace("_", ""), {"original": rgb, **copies(rgb)}
            )


def _write(folder: Path, name: str, pictures: Mapping[str, Rgb]) -> None:
    for kind, rgb in pictures.items():
        mpp = 1.0 if kind == "half the resolution" else 0.5
        path = folder / f"{name}_{kind.replace(' ', '-')}.tif"
        write_pyramid(path, np.ascontiguousarray(rgb), mpp=mpp)


def copies(rgb: Rgb) -> dict[str, Rgb]:
    """Return what people make of a slide before they give it another name."""
    height, width = rgb.shape[:2]
    _, encoded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 55])
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 5, 1)
    stained = 255 * (rgb / 255) ** np.array([1.25, 1.4, 1.1])
    return {
        "JPEG quality 55": np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8),
        "cropped": rgb[37:, 53:],
        "turned by a quarter": np.rot90(rgb),
        "mirrored": rgb[:, ::-1],
        "other colours": stained.astype(np.uint8),
        "blurred": np.asarray(cv2.GaussianBlur(rgb, (0, 0), 3)),
        "half the resolution": np.asarray(
            cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        ),
        "another scanner": _rescanned(rgb),
        "turned by 5 degrees": np.asarray(
            cv2.warpAffine(rgb, turn, (width, height), borderValue=_GLASS)
        ),
    }


def _rescanned(rgb: Rgb) -> Rgb:
    """Return the slide as of another scanner: other primaries, contrast, focus, place and noise."""
    mixing = np.array([[0.88, 0.09, 0.03], [0.05, 0.9, 0.05], [0.02, 0.1, 0.88]])
    other = 255 * (rgb[14:, 20:] / 255 @ mixing.T) ** np.array([1.15, 1.1, 1.25])
    noise = np.random.default_rng(1).normal(0, 4, other.shape)
    soft = np.asarray(cv2.GaussianBlur(other, (0, 0), 1.2)) + noise
    return np.asarray(np.clip(np.round(soft), 0, 255), np.uint8)


def compared(
    slides: Path, run: Path, side_um: int
) -> Iterator[tuple[tuple[str, str], tuple[str, str], float]]:
    """Yield slide and kind of every two, and how alike they look."""
    config = TileConfig(tile_size=side_um, mpp=1.0, store="none")
    tile_slides([str(slides)], run, config)
    columns = ["slide_id", "x", "y", "width", "height", *COLOURS]
    table = read_manifest(run, columns=columns).unify_dictionaries().to_pandas()
    pictures = {}
    for slide_id, rows in table.groupby("slide_id", observed=True):
        made = picture_of(_boxes0(rows), rows[list(COLOURS)].to_numpy(dtype=np.float32))
        if made is not None:
            pictures[str(slide_id)] = made
    names = [
        (name.partition("_")[0], name.partition("_")[2].replace("-", " ")) for name in pictures
    ]
    for each in alike(list(pictures.values()), least=-2):
        yield names[each.one], names[each.other], each.correlation


def _boxes0(rows: pd.DataFrame) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
    return rows[["x", "y", "width", "height"]].to_numpy(dtype=np.int32)
