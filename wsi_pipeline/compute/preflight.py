"""What a batch system refuses is found before anything waits in its queue."""

import re
import shutil
import subprocess
from pathlib import Path

from wsi_pipeline.compute.profile import Profile
from wsi_pipeline.errors import ConfigError

_SUBMIT = {
    "slurm": "sbatch",
    "slurm-array": "sbatch",
    "pbs": "qsub",
    "sge": "qsub",
    "lsf": "bsub",
    "htcondor": "condor_submit",
}
_ANSWER_S = 60
_SPEAKER = re.compile(r"^(sbatch: |error: |fatal: |allocation failure: )+")
_TO_CHANGE = "change queue, account, walltime, cores or memory of the profile"
_TO_REACH = "is SLURM running, and is this a machine of its cluster?"


def check_jobs(profile: Profile, script: str, *, folder: Path) -> None:
    """Refuse jobs that would never run; SLURM is asked, of others only the command is looked for.

    Raises
    ------
    ConfigError
        The command that submits is missing, or SLURM says why it would not take the script.
    """
    command = _SUBMIT[profile.kind]
    if shutil.which(command) is None:
        raise ConfigError(
            f"cluster {profile.kind}: expected the command {command}, found none; "
            "start this where jobs are submitted"
        )
    if command == "sbatch":
        path = folder / "job.sh"
        path.write_text(script, encoding="utf-8")
        run_sbatch("--test-only", str(path), kind=profile.kind)


def run_sbatch(*arguments: str, kind: str) -> str:
    """Return what ``sbatch`` prints.

    Raises
    ------
    ConfigError
        It refuses, in its own words, or does not answer.
    """
    try:
        ended = subprocess.run(  # noqa: S603  the script is this package's
            ["sbatch", *arguments],  # noqa: S607  where it lies is the site's choice
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"cluster {kind}: sbatch did not answer within {_ANSWER_S} s; is SLURM running?"
        ) from error
    if ended.returncode != 0:
        what_to_do = _TO_REACH if "fatal: " in ended.stderr else _TO_CHANGE
        raise ConfigError(
            f"cluster {kind}: SLURM refuses the job: {_reason(ended.stderr)}; {what_to_do}"
        )
    return ended.stdout


def _reason(said: str) -> str:
    r"""Return the words of SLURM that say most, without the names of its commands.

    >>> _reason("sbatch: error: Memory too high\nallocation failure: Requested node is not there\n")
    'Memory too high; Requested node is not there'
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    words = [_SPEAKER.sub("", line) for line in lines]
    return "; ".join(dict.fromkeys(words)) or "it does not say why"
