"""``wsi-pipeline compare``."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_pipeline.cli import options

if TYPE_CHECKING:
    from wsi_pipeline.stages.compare import Comparison

_CHANNELS = ("red", "green", "blue")


def compare_groups(
    run: options.RUN,
    by: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="What tiles are grouped by.", show_default="scanner"),
    ] = None,
    stain_tiles: Annotated[
        int | None,
        typer.Option(metavar="N", help="Tiles a slide for its stain vectors.", show_default="6"),
    ] = None,
    workers: options.WORKERS = None,
    cluster: options.CLUSTER = None,
    config: options.CONFIG = None,
    json: options.JSON = False,
    quiet: options.QUIET = False,
    verbose: options.VERBOSE = False,
) -> None:
    """Compare sharpness and stain between scanners, centres or other groups of tiles."""
    from wsi_pipeline import dataset
    from wsi_pipeline.cli import console
    from wsi_pipeline.config import RunConfig, make_config, read_yaml
    from wsi_pipeline.labels.comparison_config import CompareConfig

    flags = options.given(by=by, stain_tiles=stain_tiles)
    settings = make_config(CompareConfig, {**(read_yaml(config) if config else {}), **flags})
    how = make_config(RunConfig, options.given(workers=workers, cluster=cluster))
    console.set_up_logging(quiet=quiet, verbose=verbose)
    found = dataset.compare(run, settings, cluster=options.workers_of(how))
    if json:
        console.print_json(found.to_dict())
    elif not quiet:
        _show(found, run)
    for problem in found.problems:
        console.complain(f"note: {problem}")
    for warning in found.warnings:
        console.complain(f"warning: {warning}")


def _show(found: "Comparison", run: str) -> None:
    from wsi_pipeline.cli import console

    medians = {
        channel: {group.name: group.median for group in each.groups}
        for channel, each in found.density.items()
    }
    console.print_table(
        (found.by, "tiles", "sharpness", "quartiles", *(f"OD {name}" for name in _CHANNELS)),
        [
            (
                group.name,
                group.count + group.left_out,
                f"{group.median:.0f}",
                f"{group.q25:.0f} to {group.q75:.0f}",
                *(_said(medians[channel][group.name]) for channel in _CHANNELS),
            )
            for group in found.sharpness.groups
        ],
    )
    _show_pairs(found)
    console.say(f"look at {', '.join(f'{run}/{name}' for name in found.files)}")


def _said(density: float) -> str | None:
    return None if math.isnan(density) else f"{density:.3f}"


def _show_pairs(found: "Comparison") -> None:
    from wsi_pipeline.cli import console

    angles = {(each.first, each.second): each for each in found.angles}
    overlaps = {
        (pair.first, pair.second, channel): pair.overlap
        for channel, each in found.density.items()
        for pair in each.pairs
    }
    rows = []
    for pair in found.sharpness.pairs:
        names = (pair.first, pair.second)
        angle = angles.get(names)
        colours = [overlaps.get((*names, channel)) for channel in _CHANNELS]
        rows.append(
            (
                *names,
                f"{pair.overlap:.0%}",
                f"{pair.ks:.2f}",
                f"{pair.wasserstein:.2f}",
                *(None if share is None else f"{share:.0%}" for share in colours),
                angle and f"{angle.hematoxylin:.0f}°, {angle.eosin:.0f}°",
            )
        )
    titles = ("overlap", "KS", "decades", *(f"OD {name}" for name in _CHANNELS), "H, E apart")
    console.print_table(("", "", *titles), rows)
