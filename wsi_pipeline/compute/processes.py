"""Calls on processes of this machine, each with a pipe of its own: no scheduler, no network.

Half a second to start, where a Dask cluster takes two and twice the processor time
(docs/decisions/0008-processes-by-default.md).
"""

import multiprocessing
import multiprocessing.util
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import FrameType
from typing import Any

from wsi_pipeline.calls import Answer, Call
from wsi_pipeline.compute.worker import DEATHS_ALLOWED, DIED, settle_in
from wsi_pipeline.errors import ConfigError, SlideError

_GRACE_S = 3.0
"""Time for a process to tidy up before it is killed."""

_OOM_SCORE = 500
"""Added to what a worker is worth to the kernel's out-of-memory killer, in thousandths of all memory."""

_LONGEST_FOLDER_BYTES = 75

_PAUSES_S = (0.1, 0.5, 2.0)
"""Before a process is started again that could not be."""


@dataclass(slots=True)
class _Task:
    """A call, its function and argument as bytes, and how many processes it has cost so far."""

    call: Call
    message: bytes
    deaths: int = 0


@dataclass(slots=True)
class _Worker:
    """A process and this end of its pipe."""

    process: ForkServerProcess
    pipe: Connection
    task: _Task | None = None
    """What it is busy with."""

    def end(self, *, grace_s: float = 0.0) -> None:
        """Wait for the process, and kill it where it takes longer."""
        self.pipe.close()  # ends one, too, that an interrupt has met half started
        if self.process.pid is None:
            return
        self.process.join(grace_s)
        self.process.kill()
        self.process.join()


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
        message = pickle.dumps((call.function, call.argument))
        self._waiting.append(_Task(call=call, message=message))
        self._hand_out()

    def next_answer(self) -> Answer:
        """Wait for the next call to end."""
        while True:
            self._hand_out()
            busy = {worker.pipe: worker for worker in self._workers if worker.task is not None}
            for pipe in wait(list(busy)):
                if (answer := self._answer_of(busy[pipe])) is not None:  # type: ignore[index]
                    return answer

    def drop(self) -> None:
        """End the processes with what they are busy with, and forget what waits."""
        self._waiting.clear()
        self.close()

    def close(self) -> None:
        """End the processes; what they are busy with is dropped, and their half-written files too."""
        started = [worker for worker in self._workers if worker.process.pid is not None]
        for worker in started:
            worker.process.terminate()
        for worker in self._workers:
            worker.end(grace_s=_GRACE_S)
        self._workers.clear()
        if self._context is not None and not multiprocessing.active_children():
            # Waited for, or neither `time` nor a batch system counts what its workers have used; it
            # ends after all whom it has started, those of other pools too.
            forkserver._forkserver._stop()  # type: ignore[attr-defined]  # noqa: SLF001  no other way
        self._context = None

    def _hand_out(self) -> None:
        while self._waiting and (worker := self._idle()) is not None:
            try:
                worker.pipe.send_bytes(self._waiting[0].message)
            except OSError:  # it has died with nothing to do, which is no call's fault
                worker.end()
                self._workers.remove(worker)
            else:
                worker.task = self._waiting.popleft()

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
            message = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            return self._died(worker, task)
        value, error = pickle.loads(message)  # noqa: S301  from a process of our own
        return Answer(call=task.call, value=value, error=error)

    def _died(self, worker: _Worker, task: _Task) -> Answer | None:
        worker.end()
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
    """Start the process that all workers are forked from; it imports once for all of them.

    It does so by itself: call this early, and it imports while this process does. It only forks: the
    threads that libraries start with their import are idle in it and are not in its children.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    _keep_socket_names_short()
    with interrupts_held():
        forkserver.ensure_running()
    return context


def _keep_socket_names_short() -> None:
    """Have sockets in /tmp where the folder for temporary files has a long name, as scratch of clusters may.

    A socket's name may have 107 bytes (unix(7)), and multiprocessing adds 32 to the folder's.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_FOLDER_BYTES:
        return
    before, tempfile.tempdir = tempfile.tempdir, "/tmp"  # noqa: S108  a folder of its own is made in it
    try:
        multiprocessing.util.get_temp_dir()  # made once, and removed at the end of this process
    finally:
        tempfile.tempdir = before


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
    """Run what comes through the pipe until its other end is closed."""
    signal.signal(signal.SIGTERM, _leave)
    _die_first()
    threading.Thread(target=_leave_with_owner, daemon=True).start()
    settle_in()
    while True:
        try:
            pipe.send_bytes(_reply(*_outcome(pipe.recv_bytes())))
        except (EOFError, OSError):
            return


def _die_first() -> None:
    """Have the kernel end this process, and not the command, where a machine or a job is out of memory.

    Among workers it then takes the largest; its call is tried again, and blamed after three deaths.
    """
    with suppress(OSError):  # only Linux has it, and some containers deny it
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")


def _outcome(message: bytes) -> tuple[Any, Exception | None]:
    try:
        function, argument = pickle.loads(message)  # noqa: S301  from the process that started this one
        return function(argument), None
    except Exception as error:  # noqa: BLE001  an error is an answer, as in every pool
        return None, error


def _reply(value: object, error: Exception | None) -> bytes:
    """Return an outcome as bytes; what cannot travel arrives as its name and words."""
    try:
        message = pickle.dumps((value, error))
        if error is not None:
            pickle.loads(message)  # noqa: S301  many libraries' errors cannot be made again
    except Exception as reason:  # noqa: BLE001  pickling runs code of the value's own
        told = reason if error is None else error
        return pickle.dumps((None, RuntimeError(f"{type(told).__name__}: {told}")))
    return message


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End this process through its ``finally`` clauses."""
    sys.exit(128 + signal.SIGTERM)


def _leave_with_owner() -> None:
    """End this process when the one that it works for has died, also in the middle of a call.

    Otherwise it would write into a run that another command has taken over.
    """
    owner = multiprocessing.parent_process()
    if owner is not None:
        owner.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(128 + signal.SIGKILL)
