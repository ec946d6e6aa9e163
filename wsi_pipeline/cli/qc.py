"""``wsi-pipeline qc``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from wsi_pipeline.stages.qc import QcOutcome

MARK = Annotated[
    str | None,
    typer.Option(metavar="N,N,...", help="Clusters whose tiles are outliers.", show_default="none"),
]
WITHOUT = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE",
        help="Switch a rule off: blur, unfocused, black, white, pen, background, fold or gray; "
        "may be given again.",
        show_default=False,
    ),
]


def qc(
    run: options.RUN,
    mark_clusters: MARK = None,
    clusters: Annotated[
        int | None, typer.Option(metavar="N", help="Clusters; 0 for none.", show_default="12")
    ] = None,
    without: WITHOUT = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit and number the clusters anew.")
    ] = False,
    pictures: Annotated[bool, typer.Option(help="Draw collages into RUN/qc.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be marked; nothing is written.")
    ] = False,
    workers: options.WORKERS = None,
    cluster: options.CLUSTER = None,
    config: options.CONFIG = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Mark tiles of bad quality with a reason, by rules and by cluster; nothing is deleted."""
    from wsi_pipeline import dataset
    from wsi_pipeline.cli import console
    from wsi_pipeline.config import RunConfig, make_config, read_yaml
    from wsi_pipeline.labels.quality import without_rules
    from wsi_pipeline.labels.quality_config import QcConfig
    from wsi_pipeline.stages.qc import QcOptions

    flags = options.given(mark_clusters=mark_clusters, clusters=clusters)
    values = {**(read_yaml(config) if config else {}), **flags, **without_rules(without or [])}
    settings = make_config(QcConfig, values)
    how = make_config(RunConfig, options.given(workers=workers, cluster=cluster))
    console.set_up_logging(quiet=quiet, verbose=verbose)
    outcome = dataset.qc(
        run,
        settings,
        options=QcOptions(refit=refit, pictures=pictures, dry_run=dry_run),
        cluster=options.workers_of(how),
    )
    if json:
        console.print_json(outcome.to_dict())
    elif not quiet:
        _show(outcome, run=run, dry_run=dry_run)
    for problem in outcome.problems:
        console.complain(f"note: {problem}")
    for slide_id in outcome.empty:
        console.complain(f"failed: {slide_id}: no tile of it is left")
    raise typer.Exit(1 if outcome.empty else 0)


def _show(outcome: "QcOutcome", *, run: str, dry_run: bool) -> None:
    from wsi_pipeline.cli import console
    from wsi_pipeline.labels.quality import RULES

    rules = [rule.name for rule in RULES]
    console.print_table(
        ("slide", "scanner", "tiles", "left", "outliers", "unreadable", *rules),
        [
            (
                slide.slide_id,
                slide.scanner,
                slide.tiles,
                slide.left,
                slide.outliers,
                slide.unreadable,
                *(slide.marks[rule] or None for rule in rules),
            )
            for slide in outcome.slides
        ],
    )
    if outcome.clusters:
        console.print_table(
            ("cluster", "tiles", "share", "slides", "sharpness", ""), _rows(outcome)
        )
    total = outcome.to_dict()
    console.say(f"{total['outliers']} of {total['tiles']} tiles are outliers; nothing is deleted")
    if not dry_run:
        console.say(f"look at {run}/qc/index.html; the columns are in {run}/manifest")


def _rows(outcome: "QcOutcome") -> Sequence[Sequence[object]]:
    return [
        (
            each.cluster,
            each.tiles,
            f"{each.share:.1%}",
            each.slides,
            None if each.sharpness is None else f"{each.sharpness:.2f}",
            "marked" if each.marked else None,
        )
        for each in outcome.clusters
    ]
