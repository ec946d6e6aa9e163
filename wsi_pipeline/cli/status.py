"""``wsi-pipeline status`` and ``wsi-pipeline missing``."""

from typing import TYPE_CHECKING, Annotated

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from wsi_pipeline.stages.status import RunStatus, SlideStatus

_MOST_ROWS = 50


def status(
    run: options.RUN,
    every: Annotated[
        bool, typer.Option("--all", help="List slides that are done or not begun too.")
    ] = False,
    json: options.JSON = False,
) -> None:
    """Say how far a run is: slides done, running and where, failed and why, left.

    Reads the disk alone: ask from any shell or host, while it runs and after it died.
    """
    from dataclasses import asdict

    from wsi_pipeline.cli import console
    from wsi_pipeline.stages.status import STATES, run_status

    found = run_status(run)
    if json:
        counts = {state: found.count(state) for state in STATES}
        total = {"tiles": found.tiles, "stored_bytes": found.stored_bytes}
        console.print_json({**asdict(found), "counts": counts, **total})
        return
    _show_commands(found)
    shown = [each for each in found.slides if every or each.state not in {"done", "left"}]
    if shown:
        listed = shown if every else shown[:_MOST_ROWS]
        console.print_table(("slide", "state", "tiles", "where", "since", "reason"), _rows(listed))
        if len(shown) > len(listed):
            console.say(f"and {len(shown) - len(listed)} more; --all lists them")
    console.say(_summary(found))


def missing(
    run: options.RUN,
    parts: Annotated[
        int,
        typer.Option("--parts", metavar="N", help="As in --part I/N of tile.", show_default=False),
    ],
) -> None:
    """Print which parts have slides left, such as 2-3,5: for sbatch --array=…; nothing when all is done.

    A slide that failed of itself is not left; one that failed of a disk is, three times.
    """
    from wsi_pipeline.cli import console
    from wsi_pipeline.stages.status import array_of, missing_parts

    if left := missing_parts(run, parts=parts):
        console.say(array_of(left))


def _show_commands(found: "RunStatus") -> None:
    from wsi_pipeline.cli import console

    for command in found.commands:
        part = f" on part {command.part}/{command.parts}" if command.parts > 1 else ""
        state = "works" if command.alive else "has died"
        console.say(
            f"{command.where} {state}{part}, since {command.since}, "
            f"last heartbeat {command.heartbeat_s:.0f} s ago"
        )


def _rows(slides: "list[SlideStatus]") -> list[tuple[object, ...]]:
    return [
        (
            each.slide_id,
            each.state,
            f"{each.tiles}/{'?' if each.tiles_planned is None else each.tiles_planned}",
            each.where,
            each.since,
            each.reason,
        )
        for each in slides
    ]


def _summary(found: "RunStatus") -> str:
    from wsi_pipeline.cli import console
    from wsi_pipeline.stages.status import STATES

    counts = ", ".join(
        f"{found.count(state)} {state}"
        for state in STATES
        if state == "done" or found.count(state) > 0
    )
    text = f"{len(found.slides)} slides: {counts}; {found.tiles} tiles, "
    text += console.megabytes(found.stored_bytes)
    if found.tiles_per_s is not None and found.bytes_per_s is not None:
        text += f"; {found.tiles_per_s:.1f} tiles/s, {console.megabytes(found.bytes_per_s)}/s"
    if found.seconds_left is not None:
        text += f"; about {console.duration(found.seconds_left)} left"
    return text
