"""How many patients a score rests on: recall on those that have positive tiles, specificity on the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wsi_pipeline.evaluate.score.aggregate import Units
from wsi_pipeline.evaluate.score.bootstrap import FEW, effective_patients
from wsi_pipeline.train.metrics import Floats

_OF_ALL = ("accuracy", "log_loss", "brier", "ece", "prevalence")
_OF_A_CLASS = ("recall", "precision", "f1", "auprc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Patients that a score rests on."""

    count: int
    effective: float
    """What they count for, as some have more tiles than others; see ``effective_patients``."""
    note: str = ""
    """Said where they are few, though there are more patients."""


def holders(units: Units) -> Floats:
    """Return the weight of each class of each patient, ``(patients, classes)``."""
    names, codes = np.unique(units.patients, return_inverse=True)
    classes = len(units.judged.classes)
    at = codes * classes + units.judged.targets
    held = np.bincount(at, units.judged.weights, len(names) * classes)
    return held.reshape(len(names), classes).astype(np.float64)


def holders_of(held: Floats, score: str, classes: Sequence[str]) -> Holders:
    """Return the patients that a score rests on.

    Those with tiles of its class for recall, precision, F1 and AUPRC; those with others for specificity; for
    AUROC and what is a mean over classes the fewer of either; else all.

    Parameters
    ----------
    held
        See ``holders``.
    score
        Its name in the table of scores.
    classes
        Names of classes, in order.
    """
    whole = _counted(held.sum(axis=1))
    if score.startswith(_OF_ALL):
        return whole
    own = {name: _counted(held[:, at]) for at, name in enumerate(classes)}
    rest = {name: _counted(held.sum(axis=1) - held[:, at]) for at, name in enumerate(classes)}
    fewest = min(_candidates(score, own, rest), key=lambda each: each.effective)
    if fewest.count >= min(FEW, whole.count):
        return fewest
    note = f"rests on {fewest.count} of {whole.count} patients, who alone have such a class"
    return Holders(count=fewest.count, effective=fewest.effective, note=note)


def _candidates(
    score: str, own: Mapping[str, Holders], rest: Mapping[str, Holders]
) -> list[Holders]:
    if len(own) == 2:
        positive = list(own)[1]
        kind, name = score, positive
    else:
        kind, _, name = score.partition("_")
    if name not in own or kind == "balanced_accuracy":
        return [each for each in own.values() if each.count]
    if kind in _OF_A_CLASS:
        return [own[name]]
    return [rest[name]] if kind == "specificity" else [own[name], rest[name]]


def _counted(weights: Floats) -> Holders:
    return Holders(count=int((weights > 0).sum()), effective=effective_patients(weights))
