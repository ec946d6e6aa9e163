"""Processes are killed at random; the same command, given until it is done, ends as if none had been.

``pytest -m chaos -s -o faulthandler_timeout=1800 tests/pipeline/test_chaos.py`` kills 30 and 200 times and
prints what happened.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.runs import (
    Drawn,
    assert_same_run,
    assert_whole,
    environment,
    tile,
    with_status,
)
from tests.pipeline.test_interrupted import gone, members
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.stages.status import missing_parts, run_status
from wsi_pipeline.stages.verify import verify_run

SETTINGS = {"tile_size": 64, "overlap": 0.5, "min_tissue": 0}
FLAGS = ("--tile-size", "64", "--overlap", "0.5", "--min-tissue", "0", "--workers", "2")
DONE = ("he", "plain", "dark", "flat")
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
EXITS = {0, 1, 130, -signal.SIGKILL, -signal.SIGTERM}
"""1: a slide's worker was killed three times in a row; the next command tries it again."""


class Chaos:
    """Runs a command again and again while its processes are killed."""

    def __init__(self, slides: Path, seed: int) -> None:
        self._slides = slides
        self._random = np.random.default_rng(seed)
        self.kills: Counter[str] = Counter()
        self.exits: Counter[int] = Counter()

    def finish(self, run: Path, *, kills: int) -> None:
        """Bring a run to its end, with at most so many kills on the way."""
        left = kills
        while True:
            running = self._started(run)
            try:
                while left and self._killed_one(running):
                    left -= 1
                _, err = running.communicate(timeout=100)
            finally:
                if members(running.pid):
                    os.killpg(running.pid, signal.SIGKILL)
            self.exits[running.returncode] += 1
            assert running.returncode in EXITS, err
            assert "Traceback" not in err, err
            assert gone(running.pid), "processes are left"
            if running.returncode == 1:
                assert "its worker process died 3 times" in err, err
            if (run / ".state" / "asked.json").exists():
                assert run_status(run).count("running") == 0
            if running.returncode == 0:
                return

    def _started(self, run: Path) -> "subprocess.Popen[str]":
        line = [sys.executable, "-m", "wsi_pipeline", "tile", str(self._slides), "-o", str(run)]
        return subprocess.Popen(
            [*line, *FLAGS],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,
        )

    def _killed_one(self, running: "subprocess.Popen[str]") -> bool:
        """Wait a moment, then kill the command or one of its processes; not if it has ended."""
        try:
            running.wait(self._random.uniform(0.1, 1.8))
        except subprocess.TimeoutExpired:
            others = sorted(set(members(running.pid)) - {running.pid})
        else:
            return False
        number = SIGNALS[self._random.integers(len(SIGNALS))]
        is_driver = not others or self._random.random() < 0.5
        victim = running.pid if is_driver else others[self._random.integers(len(others))]
        try:
            os.kill(victim, number)
        except ProcessLookupError:
            return True
        self.kills[f"{number.name} of {'the command' if is_driver else 'another process'}"] += 1
        if is_driver:
            running.wait(30)
        return True


@pytest.fixture(scope="module")
def whole(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    run = tmp_path_factory.mktemp("whole") / "RUN"
    tile(run, drawn.folder, config=make_config(TileConfig, SETTINGS))
    return run


@pytest.mark.parametrize(
    ("kills", "seed"),
    [
        (6, 1),
        pytest.param(30, 2, marks=pytest.mark.chaos),
        pytest.param(200, 3, marks=pytest.mark.chaos),
    ],
)
def test_random_kills_lose_nothing_double_nothing_and_leave_nothing_half_done(
    kills: int, seed: int, whole: Path, drawn: Drawn, tmp_path: Path
) -> None:
    chaos, begun = Chaos(drawn.folder, seed), time.perf_counter()
    runs = 0
    while (left := kills - chaos.kills.total()) > 0:
        runs += 1
        run = tmp_path / f"RUN {runs}"
        chaos.finish(run, kills=min(left, 10))
        assert with_status(run, "done") == set(DONE)
        assert_whole(run, done=DONE)
        assert_same_run(run, whole)
        assert verify_run(run).findings == ()
        assert missing_parts(run, parts=3) == []
        assert run_status(run).commands == ()
    print(  # noqa: T201  asked for with -s, and kept in docs/performance.md
        f"\n{kills} kills, {runs} runs, {chaos.exits.total()} commands, "
        f"{time.perf_counter() - begun:.0f} s: {dict(chaos.kills)}, exits {dict(chaos.exits)}"
    )
