"""What is said of the tiles of each class, of all of them or group by group. Pure, no torch."""

from dataclasses import dataclass

import numpy as np

from wsi_pipeline.evaluate.predictions import Groups, Predictions
from wsi_pipeline.evaluate.score.cutoff import chosen_at
from wsi_pipeline.evaluate.score.tally import confusion_counts
from wsi_pipeline.train.metrics import Floats
from wsi_pipeline.train.weighted import shares


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """What was said of the tiles of each class."""

    group: str
    counts: Floats
    """Weight of the tiles of a class (row) that were said to be of one (column), ``(classes, classes)``."""

    @property
    def shares(self) -> Floats:
        """The same as shares of each row; NaN of a class without tiles."""
        return shares(self.counts, self.counts.sum(axis=1, keepdims=True))


def confusions(
    predictions: Predictions, *, by: str | None = None, cutoff: float | None = None
) -> tuple[Confusion, ...]:
    """Return the confusion of each group in order of its name, or of all tiles.

    Parameters
    ----------
    by
        A column such as ``scanner``; without it all tiles are one group, ``all``.
    cutoff
        Of two classes: a tile is said to be of the second where its logit is above this, as
        ``best_cutoff`` gives it. Without it the likeliest class is said.

    Raises
    ------
    ConfigError
        There is no such column.
    PipelineError
        A logit is no finite number.
    """
    kept = predictions.labelled()
    tiles = kept.judged()
    said = tiles.chosen if cutoff is None else chosen_at(tiles, cutoff)
    alone = Groups(names=("all",), codes=np.zeros(len(said), np.int64))
    groups = alone if by is None else kept.groups(by)
    counts = confusion_counts(tiles, said, groups.codes, groups=len(groups.names))
    return tuple(
        Confusion(group=name, counts=each) for name, each in zip(groups.names, counts, strict=True)
    )
