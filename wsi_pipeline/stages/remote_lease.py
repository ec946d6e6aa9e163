"""Who may write to a remote run: a lease object, made by a conditional put and renewed while it is held.

It keeps two runs from doing the same work twice. Where both write all the same, every put is whole and a
function of slides and settings, and neither clears what the other has finished (``stages.attempt``).
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from wsi_pipeline.errors import ConfigError, OutputError
from wsi_pipeline.remote import contents, is_gone, owner, put, put_if_absent, remove_object
from wsi_pipeline.stages.run_directory import RunDirectory, now

RENEWED_S = 30.0
FORGOTTEN_S = 180.0
"""A lease not renewed for so long is nobody's any more; one of a dead process of this machine is at once."""

_TIE_S = (
    1.0  # two that found the same dead lease have both written theirs by then: the last one stays
)

_GRACE_S = 5.0  # for a last word to a place that may not answer


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSeen:
    """A lease as it lies in the bucket."""

    name: str
    part: int
    parts: int
    owner: str
    since: str
    age_s: float
    """Since it was last renewed, if the clocks of both machines agree."""
    ending: bool
    """Whether its holder finishes no slide any more."""

    @property
    def is_alive(self) -> bool:
        """Whether its owner still works: its process lives here, or it was heard of lately."""
        return self.age_s <= FORGOTTEN_S and not is_gone(self.owner)


def remote_leases(run: RunDirectory) -> list[RemoteSeen]:
    """Return who has, or had, a part of a remote run."""
    found = (_seen(name, data) for name, data in sorted(contents(_folder(run), ".json").items()))
    return [each for each in found if each is not None]


def _seen(name: str, data: bytes) -> RemoteSeen | None:
    part, parts = _numbers(name)
    try:
        said = json.loads(data)
        return RemoteSeen(
            name=name,
            part=part,
            parts=parts,
            owner=str(said["owner"]),
            since=str(said.get("since", "?")),
            age_s=max(0.0, time.time() - float(said["time"])),
            ending=bool(said.get("ending", False)),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _numbers(name: str) -> tuple[int, int]:
    """Return which part of how many a lease is of; every other object counts for the whole."""
    part, _, parts = name.removesuffix(".json").partition("-of-")
    if part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts):
        return int(part), int(parts)
    return 1, 1


class RemoteLease:
    """A lease of a remote run that this process holds; see ``lease.Held``."""

    holder = None
    """Tries are not kept in a remote run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = secrets.token_hex(8)
        self._since = now()
        self._ending = False
        self._lost = threading.Event()

    def said(self) -> bytes:
        """Return what the lease says of its holder now."""
        told = {"owner": owner(), "time": time.time(), "since": self._since}
        return json.dumps({**told, "token": self._token, "ending": self._ending}).encode()

    def check(self) -> None:
        """Stop a run whose lease was taken over.

        Raises
        ------
        OutputError
            It was, because this process was not heard of for too long.
        """
        if self._lost.is_set():
            raise OutputError(
                f"{self._path}: this run was taken over by another, after {FORGOTTEN_S:.0f} s without a "
                "sign of life of this process; what is finished is kept, and the other goes on"
            )

    def is_alone(self, run: RunDirectory) -> bool:  # noqa: ARG002  a remote run has no unfinished files
        """Whether surely nobody else works on any part of the run."""
        return False

    def end_soon(self) -> None:
        """Say that this command finishes no slide any more."""
        self._ending = True
        put(self._path, self.said())

    def others_at_work(self, run: RunDirectory) -> bool:
        """Whether another part lives that has not said so yet."""
        others = [each for each in remote_leases(run) if each.name != self._path.name]
        return any(each.is_alive and not each.ending for each in others)

    def is_ours(self) -> bool:
        """Whether nobody has taken it over."""
        data = contents(self._path.parent, ".json").get(self._path.name)
        return data is not None and self._token in data.decode(errors="replace")

    def renew_until(self, ended: threading.Event) -> None:
        """Write it again and again, so that others see that its holder lives, until one takes it over."""
        while not ended.wait(RENEWED_S):
            with suppress(OutputError):  # the work itself will say so
                if not self.is_ours():
                    self._lost.set()
                    return
                put(self._path, self.said())


@contextmanager
def remote_lease(run: RunDirectory, *, part: int, parts: int) -> Iterator[RemoteLease]:
    """Hold a remote run for one run, or for one part beside the others.

    Raises
    ------
    ConfigError
        Another process works on it, or on the same part.
    OutputError
        Nothing may be written there.
    """
    path = _folder(run) / f"{part}-of-{parts}.json"
    lease = RemoteLease(path)
    if not put_if_absent(path, lease.said()):
        _take_over(run, path, lease)
    try:
        _refuse_if_held(run, lambda each: each.parts != parts)  # they share slides with this one
        with _renewed(lease):
            yield lease
    finally:
        giving = threading.Thread(target=_give_back, args=(lease, path), daemon=True)
        giving.start()
        giving.join(_GRACE_S)


def _take_over(run: RunDirectory, path: Path, lease: RemoteLease) -> None:
    """Write a lease in place of one that is nobody's any more.

    Raises
    ------
    ConfigError
        Its holder lives, or another has taken it over in the same moment.
    """
    _refuse_if_held(run, lambda each: each.name == path.name)
    put(path, lease.said())
    time.sleep(_TIE_S)
    if not lease.is_ours():
        _refuse_if_held(run, lambda each: each.name == path.name)
        raise ConfigError(f"{run.path}: another run took it over in the same moment; try again")


def _give_back(lease: RemoteLease, path: Path) -> None:
    with suppress(Exception):  # it ends by itself
        if lease.is_ours():
            remove_object(path)


def _refuse_if_held(run: RunDirectory, concerned: Callable[[RemoteSeen], bool]) -> None:
    for each in remote_leases(run):
        if concerned(each) and each.is_alive:
            what = "another run is" if each.parts == 1 else f"part {each.part}-of-{each.parts} is"
            raise ConfigError(
                f"{run.path}: {what} being worked on by {each.owner}, last heard of {each.age_s:.0f} s ago; "
                f"wait for it to end ({FORGOTTEN_S:.0f} s if it was killed), or share the work with --part "
                "I/N in every job"
            )


@contextmanager
def _renewed(lease: RemoteLease) -> Iterator[None]:
    ended = threading.Event()
    thread = threading.Thread(target=lease.renew_until, args=(ended,), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_GRACE_S)


def _folder(run: RunDirectory) -> Path:
    return run.state / "leases"
