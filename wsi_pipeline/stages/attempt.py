"""Which attempt at a slide counts: what a call asks before it clears, writes or finishes.

A scheduler that has lost sight of a worker gives its call to another, and both may go on; a command that
was asleep may wake after another has taken its run over. Copies that cut the same plan write the same
bytes. What could do harm is a late one that clears what another has cut, or that cuts an older plan. So
a plan carries the attempt that made it, and whoever comes late finds another one there, or none, and stops.
Only a process that is stopped just between that look and its next write is not kept from it; ``verify``
finds what it leaves.
"""

import zlib
from pathlib import Path
from typing import Any

from wsi_pipeline.errors import LateError
from wsi_pipeline.files import Fingerprint, read_bytes, remove_tree
from wsi_pipeline.slides.reader import SlideInfo
from wsi_pipeline.stages.run_directory import (
    RunDirectory,
    SlideRecord,
    from_json,
    read_record,
    to_json,
)
from wsi_pipeline.stages.tries import end_try
from wsi_pipeline.stages.units import SlideJob


def begun_path(run: RunDirectory, slide_id: str) -> Path:
    """Return where it stands that a slide is planned, by which attempt and from what."""
    return run.work(slide_id) / "begun.json"


def read_begun(job: SlideJob) -> dict[str, Any] | None:
    """Return what is known of a slide that is planned and not done, or None."""
    try:
        return from_json(read_bytes(begun_path(job.run, job.source.slide_id)))
    except FileNotFoundError:
        return None


def is_begun(job: SlideJob, source: Fingerprint, info: SlideInfo) -> bool:
    """Whether an attempt with these settings and this source has planned it; of a redo, this very one."""
    begun = read_begun(job)
    if begun is None or (job.redo and begun.get("attempt") != job.attempt):
        return False
    now = {
        "config_digest": job.config.digest(),
        "fingerprint": source.sample.sha256,
        "source_crc32c": source.crc32c,
        "mpp_x": info.mpp_x,
        "mpp_y": info.mpp_y,
    }
    return all(begun[name] == value for name, value in now.items())


def attempt_of(job: SlideJob) -> str:
    """Return the attempt that a slide's plan is of.

    Raises
    ------
    LateError
        There is no plan with the job's settings any more: the slide was finished, dropped or begun anew.
    """
    begun = read_begun(job)
    if begun is None or begun["config_digest"] != job.config.digest():
        raise _late(job)
    return str(begun.get("attempt"))


def check_attempt(job: SlideJob, attempt: str) -> None:
    """Stop a call whose plan is no longer the slide's.

    Raises
    ------
    LateError
        It is not.
    """
    if attempt_of(job) != attempt:
        raise _late(job)


def _late(job: SlideJob) -> LateError:
    return LateError(
        f"{job.source.slide_id}: another command has finished it or begun it anew meanwhile, so this one "
        "stops; what is finished is kept, and the same command goes on"
    )


def mark_of(record: SlideRecord | None) -> int | None:
    """Return what tells a done slide's record from a later one of the same slide; seconds differ."""
    if record is None or record.status != "done":
        return None
    return zlib.crc32(to_json(record.row()))


def done_since(job: SlideJob) -> SlideRecord | None:
    """Return the record of a slide that is done with the job's settings, of a redo only a later one."""
    record = read_record(job.run, job.source.slide_id)
    if record is None or record.status != "done":
        return None
    if record.values.get("config_digest") != job.config.digest():
        return None
    return None if job.redo and mark_of(record) == job.before else record


def is_untouched(job: SlideJob) -> bool:
    """Whether the result that a redo is to replace is still there, all of it: a record goes first."""
    record = read_record(job.run, job.source.slide_id) if job.redo else None
    return record is not None and mark_of(record) == job.before is not None


def finished(job: SlideJob) -> SlideRecord | None:
    """Return the record of a slide that another call has finished, and tidy up after it."""
    record = done_since(job)
    if record is not None:
        tidy_up(job)
    return record


def tidy_up(job: SlideJob) -> None:
    """Remove what was kept of the work on a slide that is done."""
    remove_tree(job.run.work(job.source.slide_id))
    if job.holder is not None:
        end_try(job.run, job.source.slide_id)
