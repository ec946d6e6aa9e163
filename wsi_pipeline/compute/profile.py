"""What jobs of a batch system are asked for: a profile, from YAML or all by default, checked once."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from wsi_pipeline.config import BATCH_KINDS, Config, expected, expected_of, make_config, read_yaml
from wsi_pipeline.errors import ConfigError

BatchKind = Literal["slurm", "slurm-array", "pbs", "sge", "lsf", "htcondor"]
MOST_ARRAY_JOBS = 1000
"""SLURM's MaxArraySize is 1001 unless a site changes it."""

_MARGIN_S = 300
_SIZE = re.compile(r"^([0-9]+(?:\.[0-9]+)?) ?(MB|GB|TB|MiB|GiB|TiB)$")
_BYTES = {"MB": 1e6, "GB": 1e9, "TB": 1e12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def size_in_bytes(text: str) -> int:
    """Return a size in bytes.

    >>> size_in_bytes("8GB"), size_in_bytes("1.5 GiB")
    (8000000000, 1610612736)

    Raises
    ------
    ValueError
        The text is no size of at least 100 MB.
    """
    match = _SIZE.match(text)
    if match is None or (size := int(float(match[1]) * _BYTES[match[2]])) < 10**8:
        raise ValueError
    return size


def _a_size(text: str) -> str:
    size_in_bytes(text)
    return text


Word = Annotated[str, Field(pattern=r"^\S+$")]
Line = Annotated[str, Field(pattern=r"^[^\n]*\S[^\n]*$")]
Lines = Annotated[tuple[Line, ...], Field(strict=False)]
Memory = Annotated[str, AfterValidator(_a_size)]


class Profile(Config):
    """Jobs of a batch system, each of them one Dask worker with a thread per core."""

    kind: BatchKind = Field(
        description="The batch system. `slurm-array` is one array of workers that SLURM replaces; the "
        "others go through dask-jobqueue.",
        json_schema_extra=expected(f"one of {', '.join(BATCH_KINDS)}"),
    )
    jobs: int = Field(
        4,
        ge=1,
        description="Jobs at once; `--workers N` takes as many as have N cores instead.",
        json_schema_extra=expected("a number of jobs, 1 or more"),
    )
    cores: int = Field(
        4,
        ge=1,
        description="Cores of a job.",
        json_schema_extra=expected("a number of cores, 1 or more"),
    )
    memory: Memory = Field(
        "8GB",
        description="Memory of a job; a worker that needs more than 95 % is restarted.",
        json_schema_extra=expected("a size from 100MB, such as 8GB or 7.5GiB"),
    )
    walltime: str = Field(
        "04:00:00",
        pattern=r"^[0-9]{2,3}:[0-5][0-9]:[0-5][0-9]$",
        description="Longest time of a job; its worker leaves before that and is replaced.",
        json_schema_extra=expected('HH:MM:SS in quotes, at least "00:01:00"'),
    )
    queue: Word | None = Field(
        None,
        description="Queue or partition; the site's default if not given.",
        json_schema_extra=expected("one word"),
    )
    account: Word | None = Field(
        None,
        description="Account or project that pays.",
        json_schema_extra=expected("one word"),
    )
    scratch: Word | None = Field(
        None,
        description="Folder on the node itself for a worker's own files, never on a shared file system; "
        "`$TMPDIR` or /tmp of the node if not given.",
        json_schema_extra=expected("one folder without spaces"),
    )
    shared: Word | None = Field(
        None,
        description="Folder that this machine and all nodes see, for keys, scheduler file and logs; "
        "`~/.wsi-pipeline` if not given.",
        json_schema_extra=expected("one folder without spaces"),
    )
    interface: Word | None = Field(
        None,
        description="Network interface of scheduler and workers, such as `ib0`; the one that leads out if "
        "not given. Only on `lo` is nothing encrypted.",
        json_schema_extra=expected("one name, such as ib0"),
    )
    modules: Lines = Field(
        (),
        description="Modules that a job loads.",
        json_schema_extra=expected("a list of names"),
    )
    prologue: Lines = Field(
        (),
        description="Lines of shell that a job runs before its worker.",
        json_schema_extra=expected("a list of lines"),
    )
    container: Line | None = Field(
        None,
        description="Command that a job puts before `python`, such as `apptainer exec wsi.sif`.",
        json_schema_extra=expected("one line"),
    )
    python: Line | None = Field(
        None,
        description="Python of a job; the one that runs this command if not given, `python` in a container.",
        json_schema_extra=expected("one line"),
    )
    directives: Lines = Field(
        (),
        description="Further directives of the batch system, without `#SBATCH` or the like; for HTCondor "
        "`key = value`.",
        json_schema_extra=expected("a list of lines"),
    )
    parallel_environment: Word = Field(
        "smp",
        description="SGE only: the environment that gives slots on one node.",
        json_schema_extra=expected("one word"),
    )
    lsf_units: Literal["kb", "mb", "gb", "tb"] | None = Field(
        None,
        description="LSF only: the site's LSF_UNIT_FOR_LIMITS; from lsf.conf if not given.",
        json_schema_extra=expected("kb, mb, gb or tb"),
    )
    disk: Memory = Field(
        "10GB",
        description="HTCondor only: disk of a job.",
        json_schema_extra=expected("a size from 100MB, such as 10GB"),
    )
    array_jobs: int | None = Field(
        None,
        ge=1,
        le=MOST_ARRAY_JOBS,
        description="`slurm-array` only: jobs of the array, those that replace others included; ten times "
        "`jobs` if not given.",
        json_schema_extra=expected(f"a number of jobs from 1 to {MOST_ARRAY_JOBS}"),
    )
    wait_minutes: float = Field(
        60,
        gt=0,
        strict=False,
        description="How long to wait for the first worker; then the run ends and says so.",
        json_schema_extra=expected("minutes above 0"),
    )

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.walltime_s < 60:
            expected = expected_of(Profile, "walltime")
            raise ConfigError(f"walltime: expected {expected}, got {self.walltime!r}")
        return self

    @model_validator(mode="after")
    def _condor_has_its_own_ways(self) -> Self:
        if self.kind != "htcondor":
            return self
        if self.queue is not None:
            raise ConfigError(f"queue: HTCondor has none, got {self.queue!r}; leave it out")
        if wrong := [line for line in self.directives if "=" not in line]:
            raise ConfigError(
                f"directives: expected lines 'key = value' for HTCondor, got {wrong[0]!r}"
            )
        return self

    @property
    def walltime_s(self) -> int:
        """Longest time of a job in seconds."""
        hours, minutes, seconds = map(int, self.walltime.split(":"))
        return 3600 * hours + 60 * minutes + seconds

    @property
    def lifetime_s(self) -> tuple[int, int]:
        """Seconds after which a worker leaves, and by how many they differ between workers.

        The latest leaves before its job is ended: three minutes, or six hundredths of a short walltime.
        """
        margin = min(_MARGIN_S, self.walltime_s // 10)
        return self.walltime_s - margin, 2 * margin // 5

    @property
    def size_of_array(self) -> int:
        """Jobs of the array, at most ``jobs`` of them at once."""
        return self.array_jobs or min(MOST_ARRAY_JOBS, 10 * self.jobs)

    @property
    def is_loopback(self) -> bool:
        """Whether nothing can be reached from another machine."""
        return self.interface == "lo"


def read_profile(where: str, *, slots: int | None = None) -> Profile:
    """Return the profile that a batch system's name or a YAML file stands for.

    Parameters
    ----------
    where
        One of ``BATCH_KINDS``, or the path of a YAML file.
    slots
        Cores at once; ``jobs`` follows from them where they are given.

    Raises
    ------
    ConfigError
        The file cannot be read, or a value in it is not what is expected.
    """
    values = {"kind": where} if where in BATCH_KINDS else read_yaml(Path(where).expanduser())
    if "kind" not in values:
        raise ConfigError(f"{where}: expected a line 'kind: ' with one of {', '.join(BATCH_KINDS)}")
    try:
        profile = make_config(Profile, values)
    except ConfigError as error:
        raise ConfigError(f"cluster {where}: {error}") from error
    if slots is None:
        return profile
    return profile.model_copy(update={"jobs": -(-slots // profile.cores)})
