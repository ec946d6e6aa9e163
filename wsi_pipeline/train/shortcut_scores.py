"""What only tiles that carry a shortcut tell of a network; arrays in, numbers out, no torch."""

import numpy as np
from numpy.typing import NDArray

from wsi_pipeline.train.metrics import Judged, area_under_roc


def worst_auroc(tiles: Judged, carries: NDArray[np.bool_]) -> float | None:
    """Return the lowest of four AUROCs: each class's tiles with the shortcut, or those without, apart.

    It is lowest where the shortcut misleads: of the second class's tiles with it against the first's without,
    if it is the rarer in the second. The AUROC of all tiles is the higher the more a network makes of the
    shortcut, this one is the lower; so settings can be chosen by it on tiles that carry it as those that are
    learnt do. It rests on few tiles where a class seldom carries it. None of more than two classes, or where
    one of the four groups is empty.

    Parameters
    ----------
    tiles
        That count.
    carries
        Whether each of them carries the shortcut, ``(tiles,)``.
    """
    if not tiles.is_binary:
        return None
    either = (False, True)
    areas = [_area(tiles, carries, (first, second)) for first in either for second in either]
    known = [area for area in areas if area is not None]
    return min(known) if len(known) == len(areas) else None


def _area(tiles: Judged, carries: NDArray[np.bool_], of: tuple[bool, bool]) -> float | None:
    """Return the AUROC of the tiles of both classes that do, or do not, carry it."""
    there = carries == np.array(of)[tiles.targets]
    positive = tiles.targets[there] == 1
    return area_under_roc(tiles.odds[there, 1], positive, tiles.weights[there])
