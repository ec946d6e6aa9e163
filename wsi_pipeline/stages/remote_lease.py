"""Who may write to a remote run: a lease object, made by a conditional put and renewed while it is held.

It keeps two runs from doing the same work twice. That both write is no harm to the result: what a run
writes is a function of slides and settings, and every put is whole.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wsi_pipeline.errors import ConfigError, OutputError
from wsi_pipeline.remote import contents, is_gone, owner, put, put_if_absent, remove_object
from wsi_pipeline.stages.run_directory import RunDirectory

RENEWED_S = 30.0
FORGOTTEN_S = 180.0
"""A lease not renewed for so long is nobody's any more; one of a dead process of this machine is at once."""

_WHOLE = "1-of-1.json"


@contextmanager
def remote_lease(run: RunDirectory, *, part: int, parts: int) -> Iterator[None]:
    """Hold a remote run for one run, or for one part beside the others.

    Raises
    ------
    ConfigError
        Another process works on it, or on the same part.
    OutputError
        Nothing may be written there.
    """
    lease = run.state / "leases" / f"{part}-of-{parts}.json"
    if not put_if_absent(lease, _said()):
        _refuse_if_held(run, lease.name)
        put(lease, _said())
    try:
        for name in contents(lease.parent, ".json"):
            if name != lease.name and _WHOLE in {name, lease.name}:
                _refuse_if_held(run, name)
        with _renewed(lease):
            yield
    finally:
        with suppress(Exception):  # it ends by itself
            remove_object(lease)


def _refuse_if_held(run: RunDirectory, name: str) -> None:
    data = contents(run.state / "leases", ".json").get(name)
    if data is None:
        return
    try:
        held = json.loads(data)
        holder, age_s = str(held["owner"]), time.time() - float(held["time"])
    except (ValueError, KeyError, TypeError):
        return
    if age_s > FORGOTTEN_S or is_gone(holder):
        return
    what = "another run is" if name == _WHOLE else f"part {name.removesuffix('.json')} is"
    raise ConfigError(
        f"{run.path}: {what} being worked on by {holder}, last heard of {age_s:.0f} s ago; wait for it to "
        f"end ({FORGOTTEN_S:.0f} s if it was killed), or share the work with --part I/N in every job"
    )


@contextmanager
def _renewed(lease: Path) -> Iterator[None]:
    """Write the lease again and again, so that others see that its holder lives."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED_S):
            with suppress(OutputError):  # the work itself will say so
                put(lease, _said())

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _said() -> bytes:
    return json.dumps({"owner": owner(), "time": time.time()}).encode()
