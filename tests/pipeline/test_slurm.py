"""Cohorts cut by a real SLURM that these tests start: two nodes on loopback, jobs ended in the middle."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pipeline.runs import (
    REPOSITORY,
    Drawn,
    assert_same_run,
    assert_whole,
    environment,
    with_status,
)
from tests.slurm_lab import Slurm, slurm_lab

pytestmark = pytest.mark.slurm

FLAGS = ("--tile-size", "48", "--min-tissue", "0", "--quiet")
SLIDES = 8
JOB_ARRAY = REPOSITORY / "workflows" / "hpc" / "slurm-job-array.sh"


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with slurm_lab() as running:
        yield running


@pytest.fixture(scope="module")
def cohort(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough slides for a job to be ended while it works."""
    folder = tmp_path_factory.mktemp("cohort")
    for number in range(SLIDES):
        shutil.copy(drawn.he if number % 2 else drawn.plain, folder / f"s{number}.tif")
    return folder


@pytest.fixture(scope="module")
def local(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same slides cut in processes of this machine."""
    run = tmp_path_factory.mktemp("local") / "RUN"
    line = [*command(cohort, run), "--workers", "2"]
    subprocess.run(line, env=environment(), check=True, timeout=100)
    return run


@pytest.mark.parametrize("kind", ["slurm", "slurm-array"])
def test_a_run_whose_only_job_is_cancelled_ends_as_one_cut_here(
    kind: str, slurm: Slurm, cohort: Path, local: Path, tmp_path: Path
) -> None:
    run = tmp_path / "RUN"
    with driver(slurm, cohort, run, profile(tmp_path, kind, "jobs: 1", "cores: 2")) as working:
        wait_for(lambda: something_is_cut(run), unless=working)
        (job,) = slurm.running()
        slurm.cancel(job)
        assert working.poll() is None
        code = working.wait(120)
    assert code == 0
    assert_same_run(run, local)
    assert_whole(run, done={f"s{number}" for number in range(SLIDES)})
    wait_for(lambda: slurm.ask("squeue", "--noheader") == "")
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["logs"]


def test_jobs_end_with_a_run_that_is_interrupted_and_the_same_command_goes_on(
    slurm: Slurm, cohort: Path, local: Path, tmp_path: Path
) -> None:
    run = tmp_path / "RUN"
    where = profile(tmp_path, "slurm-array", "jobs: 2", "cores: 1", "interface: lo")
    with driver(slurm, cohort, run, where) as working:
        wait_for(lambda: something_is_cut(run), unless=working)
        working.terminate()
        assert working.wait(60) == 130
    wait_for(lambda: slurm.ask("squeue", "--noheader") == "")
    with driver(slurm, cohort, run, where) as working:
        assert working.wait(120) == 0
    assert_same_run(run, local)


def test_parts_of_a_job_array_make_one_run_also_after_one_was_cancelled(
    slurm: Slurm, cohort: Path, local: Path, tmp_path: Path
) -> None:
    run = tmp_path / "RUN"
    programs = {**slurm.environment, **environment(), "SLURM_CONF": slurm.environment["SLURM_CONF"]}
    programs["PARTS"] = "3"
    programs["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{programs['PATH']}"
    wanted = ["--array=1-3", "--cpus-per-task=1", "--mem=1G", f"--output={tmp_path}/%a.txt"]
    for attempt in (1, 2):
        line = ["sbatch", *wanted, str(JOB_ARRAY), str(cohort), str(run), *FLAGS]
        subprocess.run(line, env=programs, check=True, capture_output=True, timeout=60)
        if attempt == 1:
            wait_for(lambda: something_is_cut(run))
            slurm.cancel(slurm.running()[0])
        wait_for(lambda: slurm.ask("squeue", "--noheader") == "")
        if attempt == 1:
            assert with_status(run, "done") < {f"s{number}" for number in range(SLIDES)}
    assert_same_run(run, local)


@pytest.mark.parametrize("kind", ["slurm", "slurm-array"])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "queue: nowhere",
            "invalid partition specified: nowhere; Invalid partition name specified",
        ),
        ("memory: 900GB", "Requested node configuration is not available"),
    ],
)
def test_what_slurm_would_never_run_is_refused_in_a_sentence_at_once(
    kind: str, line: str, reason: str, slurm: Slurm, cohort: Path, tmp_path: Path
) -> None:
    refused = subprocess.run(
        [*command(cohort, tmp_path / "RUN"), "--cluster", str(profile(tmp_path, kind, line))],
        env={**environment(), **slurm.environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert refused.stderr == (
        f"error: cluster {kind}: SLURM refuses the job: {reason}; "
        "change queue, account, walltime, cores or memory of the profile\n"
    )


def command(cohort: Path, run: Path) -> list[str]:
    return [sys.executable, "-m", "wsi_pipeline", "tile", str(cohort), "-o", str(run), *FLAGS]


def profile(folder: Path, kind: str, *lines: str) -> Path:
    """Return a profile; without an interface in it, scheduler and workers talk encrypted."""
    path = folder / "profile.yaml"
    memory = [] if any(line.startswith("memory") for line in lines) else ["memory: 2GB"]
    text = [f"kind: {kind}", *memory, 'walltime: "00:10:00"', f"shared: {folder}/shared", *lines]
    path.write_text("\n".join(text))
    return path


@contextmanager
def driver(
    slurm: Slurm, cohort: Path, run: Path, where: Path
) -> "Iterator[subprocess.Popen[bytes]]":
    """Give the command at work; it does not outlive the test."""
    working = subprocess.Popen(
        [*command(cohort, run), "--cluster", str(where)],
        env={**slurm.environment, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        yield working
    finally:
        if working.poll() is None:
            working.terminate()
            working.wait(60)


def something_is_cut(run: Path) -> bool:
    return any(run.glob("manifest/*.parquet"))


def wait_for(holds: Callable[[], bool], *, unless: "subprocess.Popen[bytes] | None" = None) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        assert unless is None or unless.poll() is None
        time.sleep(0.05)
