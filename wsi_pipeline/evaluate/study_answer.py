"""What a study has found, in plain words, for the method or against it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from wsi_pipeline.evaluate.study_config import SCORES
from wsi_pipeline.evaluate.study_table import Summary

Verdict: TypeAlias = Literal["for", "against", "open", "unsaid"]

NAMES = {
    "auroc": "AUROC",
    "ece": "ECE",
    "ece_after_temperature": "ECE after temperature",
    "brier": "Brier score",
}
"""Scores that are not called by their own name."""

_ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Of one experiment, on some tiles."""

    experiment: str
    tiles: str
    verdict: Verdict
    """``for`` and ``against`` the method where the 95 % interval of the difference leaves out 0; else
    ``open``, or ``unsaid`` where there is no interval."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who is compared with whom, by which score."""

    method: str
    reference: str
    score: str
    control: str | None


def word_of(score: str) -> str:
    """Return how a score is called in text.

    >>> word_of("auroc"), word_of("balanced_accuracy")
    ('AUROC', 'balanced accuracy')
    """
    return NAMES.get(score, score.replace("_", " "))


def answer(rows: Sequence[Summary], asked: Asked) -> Answer | None:
    """Return what one experiment says on some tiles; None where the method or the reference is lacking.

    Parameters
    ----------
    rows
        Of one experiment and one kind of tiles, whatever arm and score.
    asked
        Who is compared.
    """
    by_arm = {row.arm: row for row in rows if row.score == asked.score}
    if asked.method not in by_arm or asked.reference not in by_arm:
        return None
    method, reference = by_arm[asked.method], by_arm[asked.reference]
    verdict = _verdict(method)
    word = word_of(asked.score)
    sentences = [
        f"{word[0].upper()}{word[1:]} on {method.tiles}: {_said(method)}, {_said(reference)}.",
        _difference(method, reference, verdict),
        *_room(method, reference, by_arm.get(asked.control or "")),
    ]
    return Answer(
        experiment=method.experiment,
        tiles=method.tiles,
        verdict=verdict,
        text=" ".join(sentences),
    )


def _verdict(method: Summary) -> Verdict:
    found = method.against
    if found is None or found.low is None or found.high is None:
        return "unsaid"
    if found.low <= 0 <= found.high:
        return "open"
    return "for" if (found.mean > 0) == _more_is_better(method.score) else "against"


def _more_is_better(score: str) -> bool:
    return SCORES.get(score, True)


def _said(row: Summary) -> str:
    spread = "one repeat" if row.spread.std is None else f"SD {row.spread.std:.3f}"
    count = "" if row.spread.std is None else f", {row.spread.count} repeats"
    return f"{row.arm} {row.mean:.3f} ({spread}{count})"


def _difference(method: Summary, reference: Summary, verdict: Verdict) -> str:
    found = method.against
    apart = method.mean - reference.mean if found is None else found.mean
    begin = f"The difference is {apart:+.3f}"
    if found is None or found.low is None or found.high is None:
        return (
            f"{begin}; one pair of repeats has no interval, so nothing can be said for or against."
        )
    ends = f"95 % interval {found.low:+.3f} to {found.high:+.3f}"
    test = "" if found.p is None else f", paired t test p = {_p(found.p)}"
    meant = {
        "for": f"This speaks for {method.arm}.",
        "against": f"This speaks against {method.arm}.",
        "open": f"0 lies within: this speaks neither for {method.arm} nor against it.",
        "unsaid": "",
    }[verdict]
    least = "" if verdict == "open" else _least(found.pairs, found.least_p)
    return f"{begin} ({ends}{test}). {meant}{least}"


def _least(pairs: int, least_p: float) -> str:
    """Return the caveat where a test without assumptions cannot be significant at all."""
    if least_p <= _ALPHA:
        return ""
    return (
        f" With {pairs} pairs no test that permutes signs can come below p = {least_p:.4g}: the interval "
        "rests on differences that are spread normally."
    )


def _p(value: float) -> str:
    return "0.001 or less" if value <= 0.001 else f"{value:.3f}"


def _room(method: Summary, reference: Summary, control: Summary | None) -> Iterator[str]:
    """Yield how much of the way from the reference to the control the method goes."""
    if control is None:
        return
    room = control.mean - reference.mean
    better = room > 0 if _more_is_better(method.score) else room < 0
    if not better:
        yield (
            f"{control.arm}, the control, has {control.mean:.3f}, no better than {reference.arm}: there is "
            "no room to be closed."
        )
        return
    share = 100 * (method.mean - reference.mean) / room
    closed = f"{share:.0f} %" if share > 0 else "none"
    yield (
        f"{control.arm}, the control, has {control.mean:.3f}: {method.arm} closes {closed} of the room "
        f"between it and {reference.arm}."
    )
