"""Who works on a run directory: a lease file per run or part, kept alive by a heartbeat.

It asks of the file system no more than renaming, listing and modification times, so it holds on NFS and
Lustre, where the kernel's locks may not. Every lease has a name of its own, so taking one over is removing
a file that nobody writes again, and its owner sees that it is gone.
"""

import json
import os
import random
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from wsi_pipeline.errors import ConfigError, OutputError
from wsi_pipeline.files import output_error, publish_bytes
from wsi_pipeline.remote import is_remote
from wsi_pipeline.stages.remote_lease import remote_lease
from wsi_pipeline.stages.run_directory import RunDirectory, now

HEARTBEAT_S = 10.0
"""Between two touches of a lease."""

SILENT_S = 120.0
"""A lease of another host that was not touched for so long is nobody's any more."""

_LATE_S = 3 * HEARTBEAT_S  # whoever is so late may be dead: worth waiting until SILENT_S tells
_TIE_S = 1.0  # two that began within this time may each have seen the other
_TIES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that works on a run, and on which part of it."""

    host: str
    pid: int
    machine: str
    """Boot and process namespace: where two are the same, process numbers can be compared."""
    born: str
    """When the process began, in the kernel's ticks: its number may be used again after it."""
    since: str
    part: int
    parts: int
    token: str
    ending: bool = False
    """Whether it finishes no slide any more: what it has done, it is about to write into slides.parquet."""

    @property
    def where(self) -> str:
        """Return host and process."""
        return f"{self.host}:{self.pid}"

    @property
    def is_this_process(self) -> bool:
        """Whether it is the one that asks."""
        return (self.machine, self.pid) == (_machine(), os.getpid())

    def covers(self, *, part: int, parts: int) -> bool:
        """Whether it may work on the same slides; parts of the same number share none."""
        return self.parts != parts or self.part == part


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A lease as it lies on the disk."""

    path: Path
    holder: Holder
    touched_s: float
    """When it was last touched, by the file system's clock."""

    def is_alive(self, now_s: float) -> bool:
        """Whether its owner still works: its process lives here, or it was heard of lately."""
        if self.holder.machine == _machine():
            return _born(self.holder.pid) == self.holder.born
        return now_s - self.touched_s < SILENT_S


def leases(run: RunDirectory) -> list[Seen]:
    """Return who has, or had, a part of a run."""
    found: list[Seen] = []
    for path in sorted((run.state / "leases").glob("[!.]*.json")):
        with suppress(OSError, ValueError, TypeError):  # given back meanwhile, or not a lease
            holder = Holder(**json.loads(path.read_bytes()))
            found.append(Seen(path=path, holder=holder, touched_s=path.stat().st_mtime))
    return found


class Held(Protocol):
    """What a command may ask of the lease that it holds."""

    @property
    def holder(self) -> Holder | None:
        """Who holds it, for the tries of slides; None in a remote run, which keeps none."""
        ...

    def check(self) -> None:
        """Raise ``OutputError`` where another has taken the run over."""
        ...

    def is_alone(self, run: RunDirectory) -> bool:
        """Whether surely nobody else works on any part of the run."""
        ...

    def end_soon(self) -> None:
        """Say that this command finishes no slide any more."""
        ...

    def others_at_work(self, run: RunDirectory) -> bool:
        """Whether another part lives that has not said so yet: it still writes slides.parquet after this."""
        ...


class Lease:
    """A lease that this process holds."""

    def __init__(self, path: Path, holder: Holder) -> None:
        self.holder = holder
        self._path = path
        self._touched_s = _awake_s()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def check(self) -> None:
        """Stop a run whose lease was taken over.

        Raises
        ------
        OutputError
            It was, because this process was not heard of for too long.
        """
        if _awake_s() - self._touched_s > _LATE_S:
            self._beat()
        if self._over.is_set():
            raise OutputError(
                f"{self._path}: this run was taken over by another, after {SILENT_S:.0f} s without a "
                "sign of life of this process; what is finished is kept, and the other goes on"
            )

    def is_alone(self, run: RunDirectory) -> bool:
        """Whether nobody else works on any part of the run, so that all unfinished files are nobody's."""
        try:
            now_s = self._path.stat().st_mtime
        except OSError:
            return False
        return not any(each.is_alive(now_s) for each in leases(run) if each.path != self._path)

    def end_soon(self) -> None:
        """Say that this command finishes no slide any more."""
        self.holder = replace(self.holder, ending=True)
        if self._path.exists():
            publish_bytes(self._path, json.dumps(asdict(self.holder)).encode())

    def others_at_work(self, run: RunDirectory) -> bool:
        """Whether another part lives that has not said so yet."""
        now_s = time.time()
        others = [each for each in leases(run) if each.path != self._path]
        return any(each.is_alive(now_s) and not each.holder.ending for each in others)

    @contextmanager
    def beating(self) -> Iterator["Lease"]:
        """Touch the lease until this is left, then give it back."""
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()
            with suppress(OSError):  # nobody is kept out by it: this process is about to be gone
                self._path.unlink(missing_ok=True)

    def _beat_on(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        while not self._over.wait(HEARTBEAT_S):
            self._beat()

    def _beat(self) -> None:
        try:
            os.utime(self._path)
        except FileNotFoundError:
            self._over.set()
        except OSError:  # a file system that is away for a moment; the next beat asks again
            return
        self._touched_s = _awake_s()


@contextmanager
def sole_use(run: RunDirectory, *, part: int, parts: int) -> Iterator[Held]:
    """Hold a run directory for one run, or for one part beside the others.

    Raises
    ------
    ConfigError
        Another process works on it, or on the same part; the message says which.
    OutputError
        The directory cannot be made.
    """
    if is_remote(run.path):
        with remote_lease(run, part=part, parts=parts) as held:
            yield held
        return
    holder = _this_process(part, parts)
    path = run.state / "leases" / f"{part}-of-{parts}.{holder.token}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path.parent, error) from error
    try:
        _take(run, path, holder)
    except BaseException:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise
    with Lease(path, holder).beating() as lease:
        yield lease


@contextmanager
def sole_use_of(folder: Path, *, otherwise: str) -> Iterator[Held]:
    """Hold a folder that cannot be shared by parts, as that of a model or of answers on their way.

    Parameters
    ----------
    folder
        Leases are in ``.state`` below it.
    otherwise
        What whoever is refused can do.

    Raises
    ------
    ConfigError
        Another process works there; the message says which, and what to do.
    OutputError
        The folder cannot be made.
    """
    with ExitStack() as stack:
        try:
            held = stack.enter_context(sole_use(RunDirectory(path=folder), part=1, parts=1))
        except ConfigError as error:
            who = str(error).partition("; wait")[0]
            raise ConfigError(f"{who}; {otherwise}") from error
        yield held


def _take(run: RunDirectory, path: Path, holder: Holder) -> None:
    """Say that this process works there, then look who else says so: of two, one at least looks last."""
    ties = 0
    while True:
        publish_bytes(path, json.dumps(asdict(holder)).encode())
        now_s = path.stat().st_mtime  # the file system's clock, whatever those of two hosts say
        others = [each for each in leases(run) if each.path != path]
        others = [
            each for each in others if each.holder.covers(part=holder.part, parts=holder.parts)
        ]
        busy = [each for each in others if each.is_alive(now_s)]
        if not busy:
            for each in others:
                each.path.unlink(missing_ok=True)
            return
        path.unlink(missing_ok=True)
        quiet_s = now_s - max(each.touched_s for each in busy)
        if quiet_s < _TIE_S and ties < _TIES:
            ties += 1
            time.sleep(random.uniform(0.05, 0.3))  # noqa: S311  only so that two do not meet again
        elif quiet_s > _LATE_S and busy[0].holder.machine != _machine():
            time.sleep(HEARTBEAT_S / 2)
        else:
            raise ConfigError(_refusal(run, busy[0], holder, now_s))


def _refusal(run: RunDirectory, busy: Seen, asking: Holder, now_s: float) -> str:
    other = busy.holder
    who = f"{other.where} since {other.since}, last heartbeat {max(0, now_s - busy.touched_s):.0f} s ago"
    if (other.part, other.parts) == (asking.part, asking.parts) and asking.parts > 1:
        return (
            f"{run.path}: part {asking.part}/{asking.parts} is being worked on already, by {who}; "
            "wait for it to end"
        )
    part = f" on part {other.part}/{other.parts}" if other.parts > 1 else ""
    return (
        f"{run.path}: another run is working there{part}: {who}; wait for it to end, or share the work "
        "with --part I/N and the same N in every job"
    )


def _this_process(part: int, parts: int) -> Holder:
    return Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        machine=_machine(),
        born=_born(os.getpid()) or "?",
        since=now(),
        part=part,
        parts=parts,
        token=secrets.token_hex(8),
    )


def _awake_s() -> float:
    """Return seconds of a clock that goes on while the machine is suspended, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _machine() -> str:
    """Return what tells this boot and process namespace from others; containers share names."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def _born(pid: int) -> str | None:
    """Return when a process of this machine began; one that is dead and not reaped is none."""
    try:
        status = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()  # proc(5): from the third on
    return None if fields[0] == "Z" else fields[19]
