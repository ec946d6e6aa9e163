"""``wsi-pipeline label``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from wsi_pipeline.stages.label import LabelOutcome


def label(
    run: options.RUN,
    annotations: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder of GeoJSON, ASAP XML or mask images named by slide; the slide table's column "
            "annotation goes before it.",
            show_default=False,
        ),
    ] = None,
    slide_label: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of the slide table that tiles take where no class of an annotation reaches its "
            "threshold.",
            show_default=False,
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="The classes there are.", show_default="all found"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Least share that makes a class the label.", show_default="0.5"
        ),
    ] = None,
    priority: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Classes that go before others, first one first.",
            show_default="largest share",
        ),
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Label of tiles without any class.", show_default="null"),
    ] = None,
    no_annotation: Annotated[
        str | None,
        typer.Option(
            metavar="unknown|nothing",
            help="What it means that a slide has no annotation.",
            show_default="unknown",
        ),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            metavar="canvas|bounds",
            help="Corner that annotations count from; QuPath's is that of the bounds.",
            show_default="canvas",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and count everything; write nothing.")
    ] = False,
    workers: options.WORKERS = None,
    cluster: options.CLUSTER = None,
    config: options.CONFIG = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Give every tile the share of each class and a label, from annotations or the slide table.

    Mask images need mask_values in a file for --config. Earlier labels of the run are replaced.
    """
    from wsi_pipeline.config import read_yaml

    flags = options.given(
        annotations=annotations,
        slide_label=slide_label,
        classes=classes,
        threshold=threshold,
        priority=priority,
        unlabelled=unlabelled,
        no_annotation=no_annotation,
        origin=origin,
        workers=workers,
        cluster=cluster,
    )
    from wsi_pipeline.labels.rules import label_configs

    what, how = label_configs({**(read_yaml(config) if config else {}), **flags})
    where = options.workers_of(how)
    from wsi_pipeline import dataset
    from wsi_pipeline.cli import console

    console.set_up_logging(quiet=quiet, verbose=verbose)
    with console.progress(slides="slides", quiet=quiet) as observer:
        outcome = dataset.label(run, what, dry_run=dry_run, cluster=where, observer=observer)
    if json:
        console.print_json({**_values(outcome), "written": not dry_run})
    elif not quiet:
        _show(outcome, written=not dry_run)
    raise typer.Exit(_complain(outcome))


def _show(outcome: "LabelOutcome", *, written: bool) -> None:
    """Print tiles by label of every slide."""
    from wsi_pipeline.cli import console

    labels = list(outcome.labels)
    rows = [
        (
            slide.slide_id,
            "failed" if slide.reason else slide.annotation and slide.annotation.rpartition("/")[2],
            slide.tiles,
            *(slide.labels.get(name, 0) for name in labels),
            slide.unlabelled,
        )
        for slide in outcome.slides
    ]
    total = sum(slide.tiles for slide in outcome.slides)
    unlabelled = sum(slide.unlabelled for slide in outcome.slides)
    rows.append(("all", "", total, *outcome.labels.values(), unlabelled))
    console.print_table(("slide", "annotation", "tiles", *labels, "without label"), rows)
    if not written:
        console.say("nothing was written")


def _complain(outcome: "LabelOutcome") -> int:
    """Print what is to be known, failures last, and return the exit code."""
    from wsi_pipeline.cli import console

    for slide in outcome.slides:
        for finding in slide.findings:
            console.complain(f"note: {slide.slide_id}: {finding.text}")
    for note in outcome.notes:
        console.complain(f"note: {note}")
    for slide in outcome.failed:
        console.complain(f"failed: {slide.slide_id}: {slide.reason}")
    return 1 if outcome.failed else 0


def _values(outcome: "LabelOutcome") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "classes": list(outcome.classes),
        "labels": outcome.labels,
        "failed": [slide.slide_id for slide in outcome.failed],
        "lists": {what: list(names) for what, names in outcome.lists.items()},
        "slides": [asdict(slide) for slide in outcome.slides],
    }
