"""Other programs, each in an environment of its own below ``.benchmarks/``, installed on demand."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".benchmarks"

HISTOPREP = ("histoprep==2.0.5", "numpy<2.3", "openslide-bin")
VIPS = ("pyvips[binary]",)
_LOADING = ("torch", "torchvision", "mosaicml_streaming", "webdataset", "litdata", "zarr")
LOADERS = (
    f"{ROOT}",  # its codec, for plain zarr
    "torch",
    "torchvision",
    "mosaicml-streaming",
    "webdataset",
    "litdata",
)
_TOLD = ("histoprep", "numpy", "openslide_bin", "pillow", "pyvips", "pyvips_binary", *_LOADING)


class PeerMissingError(Exception):
    """The other program cannot be installed here."""


def environment(name: str, packages: tuple[str, ...]) -> Path:
    """Return the folder of programs of an environment that holds these packages."""
    folder = PLACE / name
    programs = folder / "bin"
    if not (folder / "complete").exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            install = [str(programs / "python"), "-m", "pip", "install", "--quiet", *packages]
            subprocess.run(install, check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            raise PeerMissingError(
                f"{name} cannot be installed: {error.stderr!r}"[-300:]
            ) from error
        (folder / "complete").touch()
    return programs


def peer_versions() -> dict[str, str]:
    """Return what is installed of the peers and of what decides their speed, as ``peer: package``."""
    found = {}
    for folder in sorted(PLACE.glob("*/lib/*/site-packages/*.dist-info")):
        package, _, version = folder.name.removesuffix(".dist-info").partition("-")
        if package.lower() in _TOLD:
            found[f"{folder.relative_to(PLACE).parts[0]}: {package.lower()}"] = version
    return found
