"""Figures of densities by group, as PNG."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from wsi_pipeline.labels.density import Densities

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Told apart by colour-blind readers too. Source: Okabe and Ito."""

_DASHES = ("-", "--", ":", "-.")
_DPI = 130


def density_figure(found: Densities, *, title: str, axis: str) -> bytes:
    """Return a figure of one curve per group; ``axis`` names the values."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    _draw(axes, found, axis=axis)
    axes.set_title(title, loc="left", parse_math=False)
    _name_curves(axes)
    return _png(figure)


def stain_figure(
    density: Mapping[str, Densities],
    *,
    title: str,
    stains: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> bytes:
    """Return a figure of optical density per channel, and each group's two stains as colours.

    ``stains``: group to its unit vectors of optical density, hematoxylin and eosin.
    """
    panels = len(density) + bool(stains)
    figure = Figure(figsize=(3.6 * panels, 3.8), layout="constrained")
    row = np.atleast_1d(figure.subplots(1, panels))
    for axes, (channel, found) in zip(row, density.items(), strict=False):
        _draw(axes, found, axis=f"optical density, {channel}")
    _name_curves(row[0])
    if stains:
        _draw_stains(row[-1], stains)
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)
    return _png(figure)


def _draw(axes: Axes, found: Densities, *, axis: str) -> None:
    for number, group in enumerate(
        found.groups
    ):  # a colour stays a group's where others have no values
        if group.name not in found.by_group:
            continue
        density = found.by_group[group.name]
        colour = COLOURS[number % len(COLOURS)]
        dash = _DASHES[number // len(COLOURS) % len(_DASHES)]
        label = f" {group.name} ({group.count} tiles)"  # one that begins with "_" would be left out
        axes.plot(found.grid, density, dash, color=colour, label=label)
        axes.fill_between(found.grid, density, color=colour, alpha=0.08, linewidth=0)
    if found.log:
        axes.set_xscale("log")
    axes.set_xlabel(axis)
    axes.set_ylabel("density per decade" if found.log else "density")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def _name_curves(axes: Axes) -> None:
    """Add a legend; names of groups are the user's, so a ``$`` in them is no formula."""
    if axes.get_legend_handles_labels()[0]:
        for text in axes.legend(frameon=False, fontsize="small").get_texts():
            text.set_parse_math(False)


def _draw_stains(axes: Axes, stains: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """Draw two patches a group: the light left behind a stain of density 0.7."""
    patches = np.array(
        [[10 ** (-0.7 * np.array(each)) for each in pair] for pair in stains.values()]
    )
    axes.imshow(patches, aspect="auto")  # (group, stain, channel)
    axes.set_xticks([0, 1], ["hematoxylin", "eosin"])
    axes.set_yticks(range(len(stains)), list(stains), parse_math=False)
    axes.tick_params(length=0)
    axes.set_title("stain vectors", fontsize="medium")


def _png(figure: Figure) -> bytes:
    target = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(target, format="png", dpi=_DPI, metadata={"Software": None})
    return target.getvalue()
