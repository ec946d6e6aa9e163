"""Scores along a sweep as SVG, with how sharp images are there on a second axis."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from wsi_pipeline.report.group_figures import COLOURS

SCORES = {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}
"""That are drawn, a panel each, and their names."""

_MARKS = ("o", "s", "^", "D", "v")
_DASHES = ("-", "--", ":", "-.")
_MOST_TICKS = 8


def sweep_figure(rows: Sequence[Mapping[str, Any]], *, title: str, level: str) -> bytes:
    """Return a figure of one change: a curve for each arm, mean and a standard deviation to both sides.

    Parameters
    ----------
    rows
        Of one change at one place, as ``evaluate.sweep.columns.CURVE_COLUMNS`` has them.
    title
        What was changed, and where.
    level
        What levels are.
    """
    # The same numbers give the same bytes; text stays text.
    with rc_context({"svg.hashsalt": "sweep", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9.6, 4.2))
        figure.subplots_adjust(left=0.07, right=0.985, bottom=0.12, top=0.79, wspace=0.2)
        panels = figure.subplots(1, len(SCORES))
        for axes, (score, label) in zip(panels, SCORES.items(), strict=True):
            own = [row for row in rows if row["score"] == score and row["mean"] is not None]
            _draw(axes, own)
            _sharpness_above(axes, own)
            axes.set_xlabel(level)
            axes.set_ylabel(label)
        _name_arms(panels[0], rows)
        figure.suptitle(title, x=0.01, ha="left", parse_math=False)
        return _svg(figure)


def _draw(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for number, arm in enumerate(dict.fromkeys(row["arm"] for row in rows)):
        own = sorted(
            (row for row in rows if row["arm"] == arm), key=lambda row: float(row["level"])
        )
        levels = np.array([row["level"] for row in own], np.float64)
        means = np.array([row["mean"] for row in own], np.float64)
        spread = np.array([row["std"] or 0.0 for row in own], np.float64)
        colour = COLOURS[number % len(COLOURS)]
        style = _MARKS[number % len(_MARKS)] + _DASHES[number // len(COLOURS) % len(_DASHES)]
        label = f" {arm}{_repeats(own)}"  # one that begins with "_" would be left out
        axes.plot(levels, means, style, color=colour, label=label, markersize=3.5, linewidth=1.4)
        axes.fill_between(
            levels, means - spread, means + spread, color=colour, alpha=0.15, linewidth=0
        )
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    axes.spines[["right"]].set_visible(False)


def _repeats(rows: Sequence[Mapping[str, Any]]) -> str:
    count = max((int(row["repeats"]) for row in rows), default=1)
    return f" (mean ± SD of {count})" if count > 1 else ""


def _sharpness_above(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Name some levels below, and the median Laplacian variance at each along the upper edge."""
    sharp = {float(row["level"]): row["laplacian_var"] for row in rows}
    known = sorted(level for level, value in sharp.items() if value is not None)
    chosen = known[:: max(1, -(-len(known) // _MOST_TICKS))]
    axes.set_xticks(chosen, [f"{each:g}" for each in chosen])
    above = axes.secondary_xaxis("top")
    above.set_xticks(chosen, [_number(sharp[each]) for each in chosen], fontsize="small")
    above.set_xlabel("median Laplacian variance, squared grey levels", fontsize="small")


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _name_arms(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows and axes.get_legend_handles_labels()[0]:
        for text in axes.legend(frameon=False, fontsize="small").get_texts():
            text.set_parse_math(False)


def _svg(figure: Figure) -> bytes:
    target = io.BytesIO()
    FigureCanvasSVG(figure)
    figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    return target.getvalue()
