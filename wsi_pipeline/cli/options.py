"""Flags that several commands share, and how values reach a configuration."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from wsi_pipeline.compute.cluster import Cluster
    from wsi_pipeline.config import RunConfig

SLIDES = Annotated[
    list[str],
    typer.Argument(
        metavar="SLIDES...",
        help="Slide files, folders (searched with their subfolders), globs, or a CSV or Parquet table "
        "with a column 'path'; also as s3:// URLs.",
        show_default=False,
    ),
]
RUN = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run directory, or its URL.", show_default=False),
]
WORKERS = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Cores to work on, here or in jobs.",
        show_default="every core",
    ),
]
DEVICE = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="auto|cpu|cuda", help="Where networks run.", show_default="auto"
    ),
]
DECODERS = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="Processes that decode tiles.",
        show_default="threads of this one",
    ),
]
CLUSTER = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="processes|local|tcp://HOST:PORT|FILE.json|slurm|slurm-array|pbs|sge|lsf|htcondor|PROFILE.yaml",
        help="Where the work runs: in processes here, on Dask workers here, on those of a running scheduler, "
        "or in jobs of a batch system.",
        show_default="processes",
    ),
]
CONFIG = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE.yaml",
        help="Settings, one 'key: value' a line; flags win over the file.",
        show_default=False,
    ),
]
JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong.")]
VERBOSE = Annotated[bool, typer.Option("--verbose", "-v", help="Say more while working.")]


def given(**flags: object) -> dict[str, object]:
    """Return the flags that were given."""
    return {name: value for name, value in flags.items() if value is not None}


def refuse_own_run(run: str, others: Iterable[str], *, flag: str) -> None:
    """Refuse a run that is given as another one and is the same.

    Raises
    ------
    ConfigError
        It is.
    """
    from wsi_pipeline.errors import ConfigError
    from wsi_pipeline.remote import absolute

    for each in others:
        if absolute(each) == absolute(run):
            raise ConfigError(
                f"{flag}: expected another run, got {each} itself; its own tiles need no --{flag}, leave it "
                "out"
            )


def needs_extra(name: str, *modules: str) -> None:
    """Refuse a command whose optional libraries are not installed.

    Raises
    ------
    ConfigError
        One is not; the message says how to have it.
    """
    from importlib.util import find_spec

    from wsi_pipeline.errors import ConfigError

    lacking = [module for module in modules if find_spec(module) is None]
    if lacking:
        raise ConfigError(
            f"{', '.join(lacking)}: not installed here; it comes with pip install 'wsi-pipeline[{name}]'"
        )


def workers_of(how: "RunConfig") -> "Cluster":
    """Return where the work runs; its processes import in the meantime what this one imports next."""
    from wsi_pipeline.compute.cluster import cluster_of, warm_up

    cluster = cluster_of(how.cluster, workers=how.workers)
    warm_up(cluster, preload=["wsi_pipeline.run"])
    return cluster
