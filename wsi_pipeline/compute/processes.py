"""Calls on processes of this machine, each with a pipe of its own: no scheduler, no network.

Half a second to start, where a Dask cluster takes two and twice the processor time
(docs/decisions/0008-processes-by-default.md).
"""

import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from types import FrameType
from typing import Any

from wsi_pipeline.calls import Answer, Call
from wsi_pipeline.compute.worker import DEATHS_ALLOWED, DIED, settle_in
from wsi_pipeline.errors import ConfigError, SlideError

_GRACE_S = 3.0
"""Time for a process to tidy up before it is killed."""

_PAUSES_S = (0.1, 0.5, 2.0)
"""Before a process is started again that could not be."""


@dataclass(slots=True)
class _Task:
    """A call, and how many processes it has cost so far."""

    call: Call
    deaths: int = 0


@dataclass(slots=True)
class _Worker:
    """A process and this end of its pipe."""

    process: ForkServerProcess
    pipe: Connection
    task: _Task | None = None
    """What it is busy with."""


class ProcessPool:
    """A pool (``calls.Pool``) of processes that are started with the first call.

    A call whose process dies is tried again in a new one, and given up after three deaths.
    """

    def __init__(self, workers: int, *, preload: Sequence[str] = ()) -> None:
        """Take the number of processes and the modules that all of them share from the start."""
        self.window = workers
        self._preload = preload
        self._context: ForkServerContext | None = None
        self._workers: list[_Worker] = []
        self._waiting: deque[_Task] = deque()

    def submit(self, call: Call) -> None:
        """Give the call to an idle process, or keep it until one is."""
        self._waiting.append(_Task(call))
        self._hand_out()

    def next_answer(self) -> Answer:
        """Wait for the next call to end."""
        while True:
            self._hand_out()
            ready = wait([worker.pipe for worker in self._workers if worker.task is not None])
            worker = next(worker for worker in self._workers if worker.pipe in ready)
            if (answer := self._answer_of(worker)) is not None:
                return answer

    def close(self) -> None:
        """End the processes; what they are busy with is dropped, and their half-written files too."""
        started = [worker for worker in self._workers if worker.process.pid is not None]
        for worker in started:
            worker.process.terminate()
        for worker in self._workers:
            worker.pipe.close()  # ends one, too, that an interrupt has met half started
        for worker in started:
            worker.process.join(_GRACE_S)
            worker.process.kill()
            worker.process.join()
        self._workers.clear()
        if self._context is not None and not multiprocessing.active_children():
            # Waited for, or neither `time` nor a batch system counts what its workers have used; it
            # ends after all whom it has started, those of other pools too.
            forkserver._forkserver._stop()  # type: ignore[attr-defined]  # noqa: SLF001  no other way
        self._context = None

    def _hand_out(self) -> None:
        while self._waiting and (worker := self._idle()) is not None:
            worker.task = self._waiting.popleft()
            call = worker.task.call
            try:
                worker.pipe.send((call.function, call.argument))
            except OSError:  # it has died; its answer will say so
                continue

    def _idle(self) -> _Worker | None:
        for worker in self._workers:
            if worker.task is None:
                return worker
        return self._started() if len(self._workers) < self.window else None

    def _started(self) -> _Worker:
        if self._context is None:
            self._context = start_server(self._preload)
        here, there = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(there,), daemon=True)
        worker = _Worker(process=process, pipe=here)
        self._workers.append(worker)  # before it starts: an interrupt may come at any moment
        _start(process)
        there.close()
        return worker

    def _answer_of(self, worker: _Worker) -> Answer | None:
        """Return what a process that has something to say gave, or None where its call is tried again."""
        task, worker.task = worker.task, None
        if task is None:
            raise RuntimeError("a process answered that was asked nothing")
        try:
            value, error = worker.pipe.recv()
        except (EOFError, OSError):
            return self._died(worker, task)
        return Answer(call=task.call, value=value, error=error)

    def _died(self, worker: _Worker, task: _Task) -> Answer | None:
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        task.deaths += 1
        if task.deaths == DEATHS_ALLOWED:
            return Answer(call=task.call, error=SlideError(DIED))
        self._waiting.append(task)
        return None


@contextmanager
def process_pool(workers: int, *, preload: Sequence[str] = ()) -> Iterator[ProcessPool]:
    """Give a pool of processes; they are ended when it is left."""
    pool = ProcessPool(workers, preload=preload)
    try:
        yield pool
    finally:
        pool.close()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C from the threads and processes that are started inside, and from them for good.

    A terminal sends it to workers too; this process alone answers it, and ends them.
    """
    resource_tracker.ensure_running()  # it lets SIGINT through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_server(preload: Sequence[str]) -> ForkServerContext:
    """Start the process that all workers are forked from: it has one thread, and imports once for all.

    It does so by itself: call this early, and it imports while this process does.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    with interrupts_held():
        forkserver.ensure_running()
    return context


def _start(process: ForkServerProcess) -> None:
    """Start a process, also where the server that it is forked from has died: another takes its place.

    Raises
    ------
    ConfigError
        No process can be started here.
    """
    for pause_s in _PAUSES_S:
        try:
            return process.start()
        except (EOFError, OSError):
            time.sleep(pause_s)
    try:
        process.start()
    except (EOFError, OSError) as error:
        raise ConfigError(
            f"workers: a process cannot be started ({error}); look at the limits of processes and memory, "
            "or take fewer with --workers"
        ) from error


def _serve(pipe: Connection) -> None:
    """Run what comes through the pipe until its other end is closed, as it is when its owner dies."""
    signal.signal(signal.SIGTERM, _leave)
    settle_in()
    while True:
        try:
            function, argument = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send(_outcome(function, argument))
        except OSError:
            return


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End this process through its ``finally`` clauses."""
    sys.exit(128 + signal.SIGTERM)


def _outcome(function: Callable[[Any], Any], argument: object) -> tuple[Any, Exception | None]:
    try:
        return function(argument), None
    except Exception as error:  # noqa: BLE001  an error is an answer, as in every pool
        return None, error
