"""Other programs, each in an environment of its own below ``.benchmarks/``, installed on demand."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".benchmarks"

HISTOPREP = ("histoprep==2.0.5", "numpy<2.3", "openslide-bin")
VIPS = ("pyvips[binary]",)
_LOADING = (
    "torch",
    "torchvision",
    "mosaicml_streaming",
    "webdataset",
    "litdata",
    "zarr",
    "annbatch",
    "zarrs",
)
LOADERS = (
    f"{ROOT}",  # its codec, for plain zarr
    "torch",
    "torchvision",
    "mosaicml-streaming",
    "webdataset",
    "litdata",
)
ANNBATCH = ("annbatch[zarrs]", "pillow")
NEEDS_PYTHON = {"annbatch": (3, 12)}
"""Oldest Python of environments whose programs do not run on this one's."""

_TOLD = ("histoprep", "numpy", "openslide_bin", "pillow", "pyvips", "pyvips_binary", *_LOADING)


class PeerMissingError(Exception):
    """The other program cannot be installed here."""


def environment(name: str, packages: tuple[str, ...]) -> Path:
    """Return the folder of programs of an environment that holds these packages."""
    folder = PLACE / name
    programs = folder / "bin"
    if not (folder / "complete").exists():
        try:
            python = _python(NEEDS_PYTHON.get(name, (0, 0)))
            subprocess.run([python, "-m", "venv", str(folder)], check=True)
            install = [str(programs / "python"), "-m", "pip", "install", "--quiet", *packages]
            subprocess.run(install, check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            raise PeerMissingError(
                f"{name} cannot be installed: {error.stderr!r}"[-300:]
            ) from error
        (folder / "complete").touch()
    return programs


def _python(oldest: tuple[int, int]) -> str:
    """Return a Python that is not older: this one, else what pyenv or the search path have."""
    if sys.version_info[:2] >= oldest:
        return sys.executable
    wanted = f"{oldest[0]}.{oldest[1]}"
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [str(path) for path in sorted(root.glob(f"versions/{wanted}.*/bin/python"))]
    if on_path := shutil.which(f"python{wanted}"):
        found.append(on_path)
    for python in found:
        if (
            subprocess.run(
                [python, "-c", "import venv"], check=False, capture_output=True
            ).returncode
            == 0
        ):
            return python
    raise PeerMissingError(f"needs Python {wanted}, which is not here")


def peer_versions() -> dict[str, str]:
    """Return what is installed of the peers and of what decides their speed, as ``peer: package``."""
    found = {}
    for folder in sorted(PLACE.glob("*/lib/*/site-packages/*.dist-info")):
        package, _, version = folder.name.removesuffix(".dist-info").partition("-")
        if package.lower() in _TOLD:
            found[f"{folder.relative_to(PLACE).parts[0]}: {package.lower()}"] = version
    return found
