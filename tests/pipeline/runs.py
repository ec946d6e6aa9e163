"""What the tests of whole runs share: drawn slides, commands, and what lies in a run directory."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import tifffile
import zarr
from numpy.typing import NDArray

from wsi_pipeline.calls import Answer, Call, SerialPool
from wsi_pipeline.config import TileConfig
from wsi_pipeline.files import TEMPORARY_PREFIX
from wsi_pipeline.geometry import WHITE, Box, Rgb, Size
from wsi_pipeline.stages.tile import TileOptions, TileOutcome, tile_slides

REPOSITORY = Path(__file__).resolve().parents[2]
REAL_SLIDES = REPOSITORY.parent / "shared" / "slides"
SIZE = Size(width=900, height=700)
CONFIG = TileConfig(tile_size=128, overlap=0.2)
GOOD = ("he", "plain")
"""slide_ids of the slides of ``good_folder``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Slides of 900 x 700 px in one folder, and their pixels before they were written."""

    folder: Path
    rgb: Mapping[str, Rgb] = field(repr=False)

    @property
    def he(self) -> Path:
        """Aperio-like SVS, JPEG tiles of 256 px, 0.5 µm/px, three levels."""
        return self.folder / "he.svs"

    @property
    def plain(self) -> Path:
        """Generic TIFF without loss, 0.5 µm/px, three levels."""
        return self.folder / "plain.tif"

    @property
    def dark(self) -> Path:
        """Dark field."""
        return self.folder / "dark.tif"

    @property
    def flat(self) -> Path:
        """PNG without µm/px."""
        return self.folder / "flat.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a command said and how it left."""

    code: int
    out: str
    err: str


class Command(Protocol):
    """Runs ``wsi-pipeline`` with these arguments."""

    def __call__(self, *arguments: str | Path) -> Ended:
        """Return what it said."""
        ...


Edit = Callable[[bytes], bytes]


def process(*arguments: str | Path, cwd: Path | None = None, prefix: Iterable[str] = ()) -> Ended:
    """Run the command in a process of its own."""
    line = [*prefix, sys.executable, "-m", "wsi_pipeline", *map(str, arguments)]
    ended = subprocess.run(
        line, cwd=cwd, capture_output=True, text=True, timeout=100, check=False, env=environment()
    )
    return Ended(code=ended.returncode, out=ended.stdout, err=ended.stderr)


def environment() -> dict[str, str]:
    """Return an environment in which the package is found and nothing is coloured."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1", "COLUMNS": "200"}


def tile(
    run: Path,
    *slides: Path,
    config: TileConfig = CONFIG,
    options: TileOptions | None = None,
) -> TileOutcome:
    """Cut slides in this process."""
    return tile_slides([str(slide) for slide in slides], run, config, options=options)


def good_folder(drawn: Drawn, folder: Path) -> Path:
    """Return a folder with two slides that can be cut, to which a test adds what cannot."""
    folder.mkdir(parents=True)
    shutil.copy(drawn.he, folder)
    shutil.copy(drawn.plain, folder)
    return folder


def write_svs(path: Path, rgb: Rgb, *, mpp: float | None = 0.5) -> None:
    """Write what OpenSlide takes for an Aperio slide, with a scanner's name in it."""
    height, width = rgb.shape[:2]
    about = f"Aperio Image Library v12.0.15\r\n{width}x{height} (256x256) JPEG/RGB Q=85"
    about += "|AppMag = 20|ScanScope ID = SS1234" + (f"|MPP = {mpp}" if mpp else "")
    level = rgb
    with tifffile.TiffWriter(path) as writer:
        for index in range(3):
            if index:
                level = np.asarray(
                    cv2.resize(level, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
                )
            writer.write(
                level,
                photometric="rgb",
                tile=(256, 256),
                compression="jpeg",
                compressionargs={"level": 85},
                subfiletype=int(index > 0),
                description=about,
                metadata=None,
            )


def destroy_native_tiles(path: Path, *numbers: int) -> list[Box]:
    """Overwrite native tiles of level 0 with zeros and return where they are, in level-0 pixels."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        across = -(-page.imagewidth // page.tilewidth)
        places = [(page.dataoffsets[number], page.databytecounts[number]) for number in numbers]
        side = page.tilewidth
    with path.open("r+b") as handle:
        for offset, count in places:
            handle.seek(offset)
            handle.write(bytes(count))
    return [
        Box(x=number % across * side, y=number // across * side, width=side, height=side)
        for number in numbers
    ]


def slides_of(run: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of slides.parquet by slide_id."""
    rows = pq.read_table(run / "slides.parquet").to_pylist()
    return {str(row["slide_id"]): row for row in rows}


def with_status(run: Path, status: str) -> set[str]:
    """Return the slide_ids that ended so."""
    return {slide_id for slide_id, row in slides_of(run).items() if row["status"] == status}


def manifest(run: Path) -> pd.DataFrame:
    """Return the whole table of tiles, as a user reads it."""
    return pd.read_parquet(run / "manifest")


def rows_of(run: Path, slide_id: str) -> list[dict[str, Any]]:
    """Return one slide's rows of the manifest."""
    table = pq.read_table(run / "manifest" / f"{slide_id}.parquet", partitioning=None)
    return table.to_pylist()


def stored(run: Path, slide_id: str) -> NDArray[np.uint8]:
    """Return every stored tile of a slide through Zarr, ``(tiles, side, side, 3)``."""
    array = zarr.open_group(run / "tiles.zarr", mode="r")[slide_id]
    return np.asarray(array[:])  # type: ignore[index]


def padded(rgb: Rgb, row: Mapping[str, Any]) -> Rgb:
    """Return the pixels under a row of the manifest, white past the slide."""
    x, y, width, height = (int(row[name]) for name in ("x", "y", "width", "height"))
    tile_rgb = np.full((height, width, 3), WHITE, dtype=np.uint8)
    inside = rgb[y : y + height, x : x + width]
    tile_rgb[: inside.shape[0], : inside.shape[1]] = inside
    return tile_rgb


def leftovers(run: Path) -> list[str]:
    """Return what an interrupted writer has left anywhere."""
    return sorted(str(path.relative_to(run)) for path in run.rglob(f"{TEMPORARY_PREFIX}*"))


def digests(run: Path) -> dict[str, str]:
    """Return every file of a run with its digest, but for those that hold times or paths."""
    timed = {"slides.parquet", "run.json", "asked.json"}
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file()
        and path.name not in timed
        and path.parent.name not in {"slides", "tries", "leases"}
    }


def untimed(run: Path) -> pd.DataFrame:
    """Return slides.parquet without the seconds."""
    table = pd.read_parquet(run / "slides.parquet")
    return table[[name for name in table.columns if not name.startswith("seconds")]]


def assert_same_run(run: Path, other: Path) -> None:
    """Assert that two runs hold the same files with the same bytes, and the same table of slides."""
    differing = {name for name, _ in digests(run).items() ^ digests(other).items()}
    assert differing == set(), f"files that are not the same: {sorted(differing)}"
    pd.testing.assert_frame_equal(untimed(run), untimed(other))


def assert_whole(run: Path, *, done: Iterable[str], store: bool = True) -> None:
    """Assert that these slides are done and that nothing else is half there."""
    done = set(done)
    table = slides_of(run)
    assert with_status(run, "done") == done
    assert all(row["reason"] for row in table.values() if row["status"] != "done")
    assert leftovers(run) == []
    assert {path.stem for path in (run / "manifest").iterdir()} == done
    assert {path.stem for path in (run / "overlays").glob("*")} == done
    assert {path.name for path in (run / "tiles.zarr").glob("*") if path.is_dir()} == (
        done if store else set()
    )
    assert list((run / ".state" / "work").glob("*")) == []
    for slide_id in done:
        assert_tiles(run, slide_id, tiles=table[slide_id]["tiles"], store=store)


def assert_tiles(run: Path, slide_id: str, *, tiles: int, store: bool) -> None:
    """Assert that rows and stored tiles agree, and that none is white or black and called ok."""
    rows = rows_of(run, slide_id)
    assert [row["tile"] for row in rows] == list(range(tiles))
    if not store:
        return
    pixels = stored(run, slide_id)
    assert len(pixels) == tiles
    for row, tile_rgb in zip(rows, pixels, strict=True):
        if row["status"] == "ok":
            assert row["tissue"] == 0 or tile_rgb.min() != tile_rgb.max()
            means = cv2.cvtColor(tile_rgb, cv2.COLOR_RGB2GRAY).mean()
            assert abs(means - row["gray_mean"]) < 6


class InterruptedRunError(Exception):
    """What a test's pool raises in place of a person's Ctrl-C."""


class InterruptingPool:
    """A serial pool that breaks off after so many answers."""

    window = 1

    def __init__(self, answers: int) -> None:
        self._left = answers
        self._pool = SerialPool()

    def submit(self, call: Call) -> None:
        self._pool.submit(call)

    def next_answer(self) -> Answer:
        if self._left == 0:
            raise InterruptedRunError
        self._left -= 1
        return self._pool.next_answer()

    def drop(self) -> None:
        self._pool.drop()
