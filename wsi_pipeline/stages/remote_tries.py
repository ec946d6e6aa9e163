"""What is under way in a remote run, from its objects alone: no tries are kept there.

A slide that was begun and is not done has a plan. It is being cut where a command lives whose part it is
in, and interrupted where none does. Slides that are still being fetched have no plan yet and look left.
"""

from wsi_pipeline.remote import names_in
from wsi_pipeline.slides.find import SlideSource, share_of
from wsi_pipeline.stages.remote_lease import RemoteSeen, remote_leases
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.tries import FAILURES_RETRIED, Try

NOBODY = ""
"""In place of the host that cuts a slide, where that is not known."""


def remote_tries(run: RunDirectory, asked: tuple[SlideSource, ...]) -> dict[str, Try]:
    """Return a try of every slide that was begun and is not done, as ``tries.read_tries`` does."""
    by_slide = {
        source.slide_id: lease
        for lease in remote_leases(run)
        if lease.is_alive
        for source in share_of(asked, part=lease.part, parts=lease.parts)
    }
    begun = names_in(run.state / "work")
    return {slide_id: _try_of(by_slide.get(slide_id)) for slide_id in begun}


def host_and_process(owner: str) -> tuple[str, int]:
    """Return host and process number of an owner.

    >>> host_and_process("node-7-1a2b3c4d-4711")
    ('node-7', 4711)
    """
    host, _, process = owner.rpartition("-")
    return host.rpartition("-")[0] or host, int(process) if process.isdigit() else 0


def _try_of(lease: RemoteSeen | None) -> Try:
    host, pid = (NOBODY, 0) if lease is None else host_and_process(lease.owner)
    return Try(
        host=host,
        pid=pid,
        since="" if lease is None else lease.since,
        token="" if lease is None else lease.name,
        alone=False,
        source="?",
        done=0,
        failures=FAILURES_RETRIED,  # not counted here: no slide is left for having failed of something else
    )
