"""What a study has found, in plain words, for the method or against it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from wsi_pipeline.evaluate.study.config import SCORES
from wsi_pipeline.evaluate.study.table import Against, Summary
from wsi_pipeline.train.score_words import word_of

Verdict: TypeAlias = Literal["for", "against", "open", "unsaid"]

_ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Of one experiment, on some tiles."""

    experiment: str
    tiles: str
    verdict: Verdict
    """``for`` and ``against`` the method where both 95 % intervals of the difference leave out 0 there,
    that over seeds and that over seeds and patients; else ``open``, or ``unsaid`` of a single pair."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who is compared with whom, by which score."""

    method: str
    reference: str
    score: str
    control: str | None


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
        *_of_one_class(rows, (asked.method, asked.reference)),
        _difference(method, reference, verdict),
        *_room(method, reference, by_arm.get(asked.control or "")),
    ]
    return Answer(
        experiment=method.experiment,
        tiles=method.tiles,
        verdict=verdict,
        text=" ".join(sentences),
    )


def _of_one_class(rows: Sequence[Summary], arms: Sequence[str]) -> Iterator[str]:
    """Yield which arms' networks call all tiles one class, so that their scores cannot scatter."""
    for arm in arms:
        recalls = sorted(row.mean for row in rows if row.arm == arm and _is_recall(row.score))
        if len(recalls) > 1 and recalls == [0.0] * (len(recalls) - 1) + [1.0]:
            yield f"All networks of {arm} call every tile the same class."


def _is_recall(score: str) -> bool:
    return score in ("recall", "specificity") or score.startswith("recall_")


def _verdict(method: Summary) -> Verdict:
    found = method.against
    if found is None or found.low is None or found.high is None:
        return "unsaid"
    sides = {_side(found.low, found.high), _side_of_patients(found)}
    if len(sides) > 1 or not sides & {-1, 1}:
        return "open"
    return "for" if (1 in sides) == _more_is_better(method.score) else "against"


def _side(low: float, high: float) -> int:
    """Return on which side of 0 an interval lies; 0 where it holds 0."""
    return 0 if low <= 0 <= high else int(low > 0) - int(high < 0)


def _side_of_patients(found: Against) -> int | None:
    """Return the side of the interval over seeds and patients; None where there is none."""
    nested = found.nested
    if nested is None or nested.low is None or nested.high is None:
        return None
    return _side(nested.low, nested.high)


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
    test = "" if found.p is None else f", paired t test p = {_p(found.p)}"
    ends = f"95 % interval over seeds {_ends(found.low, found.high)}{test}; {_of_patients(found)}"
    meant = {
        "for": f"This speaks for {method.arm}.",
        "against": f"This speaks against {method.arm}.",
        "open": f"{_left_open(found)}: this speaks neither for {method.arm} nor against it.",
        "unsaid": "",
    }[verdict]
    return f"{begin} ({ends}). {meant}{_least(found.pairs, found.least_p)}"


def _ends(low: float, high: float) -> str:
    return f"{low:+.3f} to {high:+.3f}"


def _of_patients(found: Against) -> str:
    nested = found.nested
    if nested is None or nested.low is None or nested.high is None:
        return "none over patients"
    return f"over seeds and patients {_ends(nested.low, nested.high)}"


def _left_open(found: Against) -> str:
    """Return which of the two intervals leaves the answer open."""
    seeds, patients = _side(found.low or 0.0, found.high or 0.0), _side_of_patients(found)
    match (seeds, patients):
        case (0, 0):
            return "0 lies within both intervals"
        case (0, _):
            return "0 lies within the interval over seeds"
        case (_, None):
            return (
                "Seeds leave 0 out, but without an interval over patients other patients are open"
            )
        case (_, 0):
            return "Seeds leave 0 out, but 0 lies within the interval over seeds and patients"
        case _:
            return "The two intervals lie on different sides of 0"


def _least(pairs: int, least_p: float) -> str:
    """Return the caveat where a test without assumptions cannot be significant at all."""
    if least_p <= _ALPHA:
        return ""
    return (
        f" With {pairs} pairs no test that permutes signs can come below p = {least_p:.4g}: the interval "
        "over seeds rests on differences that are spread normally."
    )


def _p(value: float) -> str:
    return "0.001 or less" if value <= 0.001 else f"{value:.3f}"


def _room(method: Summary, reference: Summary, control: Summary | None) -> Iterator[str]:
    """Yield how much of the way from the reference to the control the method goes."""
    if control is None:
        return
    room = round(control.mean - reference.mean, 3)  # as it is shown
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
