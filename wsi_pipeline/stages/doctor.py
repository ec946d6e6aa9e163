"""What works on this machine, tried and not guessed: ``wsi-pipeline doctor``."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import openslide
import zarr
from PIL import Image

from wsi_pipeline.config import CODECS
from wsi_pipeline.geometry import Box, Rgb, Size
from wsi_pipeline.provenance import library_versions
from wsi_pipeline.slides.drawn import draw_slide, write_pyramid
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.store.codec import encode_tile
from wsi_pipeline.store.layout import ArrayLayout
from wsi_pipeline.store.writer import open_group, publish_array, write_shard

CheckState: TypeAlias = Literal["ok", "absent", "broken"]

_SCHEDULERS = {
    "sbatch": "SLURM",
    "qsub": "PBS or SGE",
    "bsub": "LSF",
    "condor_submit": "HTCondor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: CheckState
    """``absent`` is no fault: it is only not here."""
    finding: str


def examine() -> tuple[Check, ...]:
    """Return what was found, in the order in which one would ask."""
    versions = library_versions()
    checks = [Check(name=name, state="ok", finding=version) for name, version in versions.items()]
    with tempfile.TemporaryDirectory(prefix="wsi-pipeline-") as folder:
        rgb = draw_slide(Size(width=256, height=256), seed=0).rgb
        checks.extend(_formats(Path(folder), rgb))
        checks.extend(_codecs(Path(folder), rgb))
    checks.extend([_torch(), _gpu(), _scheduler(), *_machine()])
    return tuple(checks)


def _formats(folder: Path, rgb: Rgb) -> Iterator[Check]:
    """Write a picture in each format that can be written here, and read it back."""
    writers: dict[str, Callable[[Path], object]] = {
        "tiff": lambda path: write_pyramid(path, rgb, mpp=0.5),
        "png": lambda path: Image.fromarray(rgb).save(path),
        "jpg": lambda path: Image.fromarray(rgb).save(path),
    }
    for suffix, write in writers.items():
        path = folder / f"drawn.{suffix}"

        def read(path: Path = path, write: Callable[[Path], object] = write) -> str:
            write(path)
            reader = open_slide(path)
            reader.read(0, Box(x=0, y=0, width=64, height=64))
            reader.close()
            return f"opens through {reader.info.backend}"

        yield _tried(f"reading .{suffix}", read)
    yield _tried(
        "reading by OpenSlide",
        lambda: (
            f"{openslide.__library_version__}: SVS, MRXS, NDPI, SCN, BIF, DICOM, Philips, VMS, Trestle"
        ),
    )


def _codecs(folder: Path, rgb: Rgb) -> Iterator[Check]:
    """Store a tile with every codec and read it back through Zarr."""
    for name, quality in CODECS.items():
        codec = name if quality is None else f"{name}:{quality}"
        store = folder / f"{name}.zarr"

        def read(store: Path = store, codec: str = codec) -> str:
            chunk = encode_tile(rgb, codec)
            open_group(store)
            write_shard(store / "drawn", 0, [chunk])
            publish_array(store / "drawn", ArrayLayout(tiles=1, tile_size=256, codec=codec))
            again = np.asarray(zarr.open_group(store, mode="r")["drawn"][0])  # type: ignore[index]
            worst = int(np.abs(again.astype(int) - rgb).max())
            return (
                f"zarr gives back a tile of {len(chunk)} bytes, off by at most {worst} grey levels"
            )

        yield _tried(f"storing {name}", read)


def _tried(name: str, attempt: Callable[[], str]) -> Check:
    try:
        return Check(name=name, state="ok", finding=attempt())
    except Exception as error:  # noqa: BLE001  whatever is broken here is the finding
        return Check(name=name, state="broken", finding=f"{type(error).__name__}: {error}")


def _torch() -> Check:
    if importlib.util.find_spec("torch") is None:
        return Check(
            name="torch", state="absent", finding="training: pip install 'wsi-pipeline[train]'"
        )
    return Check(name="torch", state="ok", finding="installed")


def _gpu() -> Check:
    command = shutil.which("nvidia-smi")
    if command is None:
        return Check(name="GPU", state="absent", finding="no nvidia-smi")
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)  # noqa: S603
    listed = "; ".join(answer.stdout.split("\n")).strip("; ")
    if answer.returncode != 0 or not listed:
        return Check(name="GPU", state="absent", finding="nvidia-smi lists none")
    return Check(name="GPU", state="ok", finding=listed)


def _scheduler() -> Check:
    found = [
        f"{name} ({command})" for command, name in _SCHEDULERS.items() if shutil.which(command)
    ]
    if not found:
        return Check(name="scheduler", state="absent", finding="none of " + ", ".join(_SCHEDULERS))
    return Check(name="scheduler", state="ok", finding=", ".join(found))


def _machine() -> Iterator[Check]:
    usable = len(os.sched_getaffinity(0))
    yield Check(name="cores", state="ok", finding=f"{usable} of {os.cpu_count()} may be used")
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield Check(name="memory", state="ok", finding=f"{memory_bytes / 1e9:.1f} GB")
    for name, path in (("disk here", Path.cwd()), ("temporary disk", Path(tempfile.gettempdir()))):
        free_bytes = shutil.disk_usage(path).free
        yield Check(name=name, state="ok", finding=f"{free_bytes / 1e9:.1f} GB free in {path}")
