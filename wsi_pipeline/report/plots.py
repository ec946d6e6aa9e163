"""Figures of the page as PNG files for papers and talks: the same values, drawn by matplotlib."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from wsi_pipeline.report.group_figures import COLOURS
from wsi_pipeline.report.parts import Curves, Lines, Ranges

Panel = Curves | Lines | Ranges

_DPI = 130
_ACROSS = 2
_SHORT = 18  # letters of a name, of which three stand beside each other
_STEPS: Mapping[float, Sequence[float]] = {
    4.0: (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8, 9),
    200.0: (1, 2, 5),
}
"""By the largest by the least value of a logarithmic axis: which numbers are marked; else powers of ten."""

_DASHES = ("-", "--", ":", "-.")


def plot_png(panels: Sequence[Panel]) -> bytes:
    """Return a PNG of figures, two in a row.

    Raises
    ------
    ValueError
        There is none.
    """
    if not panels:
        raise ValueError("panels: expected at least one figure, got none")
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(6.4 * across, 4.2 * down), layout="constrained")
    cells = figure.subplots(down, across, squeeze=False)
    for number, axes in enumerate(cells.flat):
        if number < len(panels):
            _draw(axes, panels[number])
        else:
            axes.set_axis_off()
    target = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(target, format="png", dpi=_DPI, metadata={"Software": None})
    return target.getvalue()


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, loc="left", fontsize="medium", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    match panel:
        case Curves():
            _curves(axes, panel)
        case Lines():
            _lines(axes, panel)
        case Ranges():
            _ranges(axes, panel)


def _curves(axes: Axes, panel: Curves) -> None:
    order = panel.groups or tuple(sorted(panel.by_group))
    for number, name in enumerate(order):
        if name in panel.by_group:
            axes.plot(panel.grid, panel.by_group[name], label=f" {name}", **_look(number))
    axes.set_ylim(bottom=0)
    axes.set(xlabel=panel.unit, ylabel="density")
    if panel.log:
        axes.set_xscale("log")
        axes.set_ylabel("density per decade")
        _plain_numbers(axes.xaxis, *axes.get_xlim())
    _key(axes)


def _lines(axes: Axes, panel: Lines) -> None:
    for number, (name, (xs, ys)) in enumerate(panel.series.items()):
        look = _look(number)
        axes.plot(xs, ys, label=f" {name}", **look)
        if name in panel.bands:
            axes.fill_between(xs, *panel.bands[name], color=look["color"], alpha=0.15, linewidth=0)
        if name in panel.marks:
            axes.axvline(panel.marks[name], linewidth=1, **look)
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    _guide(axes, panel)
    if panel.x_range is not None:
        axes.set_xlim(*panel.x_range)
    if panel.y_range is not None:
        axes.set_ylim(*panel.y_range)
    if panel.right:
        _second_axis(axes, panel)
    _key(axes)


def _guide(axes: Axes, panel: Lines) -> None:
    match panel.guide:
        case "diagonal":
            axes.axline((0, 0), slope=1, color="#777777", linewidth=1)
        case "zero":
            axes.axvline(0, color="#777777", linewidth=1)
        case None:
            pass


def _second_axis(axes: Axes, panel: Lines) -> None:
    other = axes.twinx()
    other.spines["top"].set_visible(False)
    for number, (name, (xs, ys)) in enumerate(panel.right.items()):
        look = _look(len(panel.series) + number)
        other.plot(xs, ys, linewidth=1, **look)
        axes.plot([], [], label=f" {name} (right)", linewidth=1, **look)
    other.set_ylabel(panel.right_label)
    if panel.right_log:
        other.set_yscale("log")
        _plain_numbers(other.yaxis, *other.get_ylim())


def _plain_numbers(axis: Axis, low: float, high: float) -> None:
    """Write the numbers of a logarithmic axis out, those between powers of ten where there are few powers."""
    steps = next((each for reach, each in _STEPS.items() if high < reach * low), (1,))
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.9g}"))
    axis.set_minor_formatter(NullFormatter())


def _ranges(axes: Axes, panel: Ranges) -> None:
    for place, row in enumerate(panel.rows):
        look = _look(0)
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], **look)
        axes.plot(row.points, np.full(len(row.points), place), "o", color="#777777", markersize=4)
        axes.plot(row.value, place, "D", color=look["color"], markersize=6)
    axes.set_yticks(range(len(panel.rows)), [row.name for row in panel.rows], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(panel.x_label)


def _look(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": _DASHES[number // len(COLOURS) % len(_DASHES)],
    }


def _key(axes: Axes) -> None:
    """Add a legend; names are the user's, so a ``$`` in them is no formula."""
    if names := axes.get_legend_handles_labels()[1]:
        key = axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),  # below the axes, where there are no lines
            ncols=2 if max(map(len, names)) > _SHORT else 3,
            frameon=False,
            fontsize="small",
        )
        for text in key.get_texts():
            text.set_parse_math(False)
