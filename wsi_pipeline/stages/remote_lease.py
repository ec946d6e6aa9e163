"""Who may write to a remote run: a lease object, made by a conditional put and renewed while it is held.

It keeps two runs from doing the same work twice. Where both write all the same, every put is whole and a
function of slides and settings, and neither clears what the other has finished (``stages.tiling``).
"""

import json
import secrets
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
    token = secrets.token_hex(8)
    if not put_if_absent(lease, _said(token)):
        _refuse_if_held(run, lease.name)
        put(lease, _said(token))
    try:
        for name in contents(lease.parent, ".json"):
            if not name.endswith(f"-of-{parts}.json"):  # other divisions share slides with this one
                _refuse_if_held(run, name)
        with _renewed(lease, token):
            yield
    finally:
        with suppress(Exception):  # it ends by itself
            if _is_ours(lease, token):
                remove_object(lease)


def _is_ours(lease: Path, token: str) -> bool:
    """Whether nobody has taken a lease over."""
    data = contents(lease.parent, ".json").get(lease.name)
    return data is not None and token in data.decode(errors="replace")


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
def _renewed(lease: Path, token: str) -> Iterator[None]:
    """Write the lease again and again, so that others see that its holder lives, until one takes it over."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED_S):
            with suppress(OutputError):  # the work itself will say so
                if not _is_ours(lease, token):
                    return
                put(lease, _said(token))

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _said(token: str) -> bytes:
    return json.dumps({"owner": owner(), "time": time.time(), "token": token}).encode()
