"""Job scripts are text: each kind's is compared with one that was read by a person.

After a change that is meant, ``python -m tests.unit.compute.test_job_scripts`` writes them anew.
"""

import signal
import sys
import tempfile
from pathlib import Path

import pytest

from wsi_pipeline.compute.jobs import Place, job_script, jobqueue
from wsi_pipeline.compute.profile import Profile
from wsi_pipeline.config import BATCH_KINDS, make_config
from wsi_pipeline.errors import ConfigError

GOLDEN = Path(__file__).parents[2] / "golden" / "jobs"
SITE: dict[str, object] = {
    "jobs": 20,
    "cores": 8,
    "memory": "16GB",
    "walltime": "12:00:00",
    "account": "path",
    "scratch": "/local",
    "interface": "ib0",
    "modules": ["apptainer/1.3"],
    "prologue": ["ulimit -c 0"],
    "container": "apptainer exec /images/wsi.sif",
}
OF_KIND: dict[str, dict[str, object]] = {
    "slurm": {"queue": "cpu", "directives": ["--constraint=avx2"]},
    "slurm-array": {"queue": "cpu", "directives": ["--constraint=avx2"]},
    "pbs": {"queue": "cpu", "directives": ["-W umask=027"]},
    "sge": {"queue": "cpu", "directives": ["-r n"]},
    "lsf": {"queue": "cpu", "lsf_units": "mb", "directives": ['-R "rusage[mem=16000]"']},
    "htcondor": {"directives": ["+Long = True"]},
}


def made(kind: str, shared: Path, *, encrypted: bool = True, **changed: object) -> str:
    """Return a script with the folder that all see called /shared."""
    profile = make_config(Profile, {"kind": kind, **SITE, **OF_KIND[kind], **changed})
    script = job_script(profile, Place(folder=shared / "run-1", encrypted=encrypted))
    return script.replace(str(shared), "/shared")


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_a_job_script_is_the_one_that_was_read(kind: str, tmp_path: Path) -> None:
    assert made(kind, tmp_path) == (GOLDEN / f"{kind}.txt").read_text()


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_nothing_is_encrypted_on_loopback_only(kind: str, tmp_path: Path) -> None:
    assert "tls" not in made(kind, tmp_path, encrypted=False, interface="lo")


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_a_job_runs_this_python_if_no_other_is_named(kind: str, tmp_path: Path) -> None:
    script = made(kind, tmp_path, container=None)
    assert f"{sys.executable} -m distributed.cli.dask_worker" in script


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_a_worker_has_one_process_and_leaves_in_time(kind: str, tmp_path: Path) -> None:
    script = made(kind, tmp_path)
    assert "--nworkers" not in script
    assert "--nthreads 8" in script
    assert "--lifetime 42900s --lifetime-stagger 120s" in script
    assert "--death-timeout 60" in script


def test_dask_jobqueue_leaves_interrupts_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    jobqueue("slurm")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_missing_dask_jobqueue_is_said_with_what_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(
        ConfigError, match=r"cluster pbs: expected the package dask-jobqueue.*\[hpc\]"
    ):
        jobqueue("pbs")


if __name__ == "__main__":
    for each in BATCH_KINDS:
        with tempfile.TemporaryDirectory() as folder:
            (GOLDEN / f"{each}.txt").write_text(made(each, Path(folder)))
