"""Where the logits of each class lie, on tiles that were learnt and on others, as a figure of a page."""

from collections.abc import Mapping

from wsi_pipeline.evaluate.score.logit_density import densities
from wsi_pipeline.report.parts import Lines
from wsi_pipeline.train.metrics import Judged

_LEAST_REACH = 0.5  # of the axis to either side of the boundary
_TOLD = 0.002  # of the tiles: less is what any tail has


def logit_lines(title: str, parts: Mapping[str, Judged]) -> Lines:
    """Return the density of each class of each part, means marked on the axis; see ``densities``.

    Parameters
    ----------
    title
        Of the figure.
    parts
        Name to its tiles; of the same classes, and one at the least.
    """
    grid, curves = densities(parts)
    named = {f"{each.name}, {each.part}": each for each in curves}
    classes = next(iter(parts.values())).classes
    is_binary = len(classes) == 2
    boundary = f"logit of {classes[1]} (above 0: said to be it)" if is_binary else ""
    margin = "logit of the own class less the largest other (below 0: wrong)"
    beyond = max((each.beyond for each in curves), default=0.0)
    far = f"; up to {beyond:.1%} of a curve's tiles lie beyond" if beyond >= _TOLD else ""
    low, high = (grid[0], grid[-1]) if grid.size else (-1.0, 1.0)
    low, high = min(low, -_LEAST_REACH), max(high, _LEAST_REACH)
    return Lines(
        title=title,
        x_label=(boundary if is_binary else margin) + far,
        y_label="density",
        series={name: (grid, each.values) for name, each in named.items()},
        marks={name: each.mean for name, each in named.items() if low <= each.mean <= high},
        x_range=(low, high),
        guide="zero",
    )
