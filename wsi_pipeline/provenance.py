"""Which code and which libraries made a result."""

import platform
from importlib import metadata

from wsi_pipeline import __version__

RESULT_LIBRARIES = (
    "imagecodecs",
    "numpy",
    "opencv-python-headless",
    "openslide-bin",
    "openslide-python",
    "pandas",
    "pillow",
    "pyarrow",
    "simplejpeg",
    "tifffile",
    "zarr",
    "dask",
)
"""Those that can change pixels, numbers or files."""


def code_version() -> str:
    """Return this package's version."""
    return __version__


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of every library that can change a result."""
    return {
        "python": platform.python_version(),
        "wsi-pipeline": __version__,
        **{name: library_version(name) for name in RESULT_LIBRARIES},
    }


def library_version(name: str) -> str:
    """Return the version of an installed distribution, or that it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
