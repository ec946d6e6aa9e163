"""From a column's values to few colours: one fixed scale per column, the same on every slide."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

STEPS = 16
"""Colours of a scale of numbers: more are hardly told apart, and four bits a value are small."""

MOST_WORDS = 24
"""Words that are told apart; the rarest ones beyond are one."""

NULL = 255
"""Code of a tile without a value."""

Codes: TypeAlias = NDArray[np.uint8]

_IN_ORDER = {"split": ("train", "validation", "test")}
_LOG_FROM = 30.0  # a range over which equal steps would show only its upper end
_SAMPLE = 200_000  # values that are sorted for a quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberScale:
    """Equal steps from ``low`` to ``high``; what lies outside is in the first or last one."""

    name: str
    low: float
    high: float
    log: bool

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self.name}: expected a range, got {self.low} to {self.high}")

    def codes(self, column: "pa.ChunkedArray[Any]") -> Codes:
        """Return 0 to 15 for each value, 255 where there is none."""
        values = _numbers(column)
        low, high = self._bent(np.array([self.low, self.high]))
        with np.errstate(invalid="ignore", divide="ignore"):
            place = (self._bent(values) - low) / (high - low) * STEPS
        known = ~np.isnan(values)
        codes = np.full(len(values), NULL, dtype=np.uint8)
        codes[known] = np.clip(np.floor(place[known]), 0, STEPS - 1).astype(np.uint8)
        return codes

    def _bent(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            bent: NDArray[np.float64] = np.log(np.maximum(values, 0)) if self.log else values
        return bent

    def described(self) -> dict[str, Any]:
        """Return the scale for the page's script."""
        return {
            "name": self.name,
            "kind": "number",
            "low": self.low,
            "high": self.high,
            "log": self.log,
            "steps": STEPS,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WordScale:
    """A colour per word."""

    name: str
    words: tuple[str, ...]
    others: int = 0
    """Rare words that are shown as one after the last."""

    def codes(self, column: "pa.ChunkedArray[Any]") -> Codes:
        """Return the number of each word, 255 where there is none."""
        there, at = coded(column)
        places = {word: place for place, word in enumerate(self.words)}
        table = np.array([places.get(word, len(self.words)) for word in there] + [NULL], np.uint8)
        codes: Codes = table[at]  # -1 is the last one
        return codes

    def described(self) -> dict[str, Any]:
        """Return the scale for the page's script."""
        more = [f"{self.others} others"] if self.others else []
        return {"name": self.name, "kind": "words", "words": [*self.words, *more]}


Scale: TypeAlias = NumberScale | WordScale


def scale_of(name: str, column: "pa.ChunkedArray[Any]") -> Scale | None:
    """Return the scale of a column, or None where it has no value at all."""
    if column.null_count == len(column):
        return None
    if _is_number(column.type):
        if pa.types.is_integer(column.type) and pc.count_distinct(column).as_py() <= MOST_WORDS:
            return _words_scale(name, column)
        return _number_scale(name, _numbers(column))
    return _words_scale(name, column)


def _number_scale(name: str, values: NDArray[np.float64]) -> NumberScale | None:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    thinned = finite[:: max(1, finite.size // _SAMPLE)]
    if finite.min() >= 0 and finite.max() <= 1:
        return NumberScale(name=name, low=0.0, high=1.0, log=False)
    low, high = (float(each) for each in np.quantile(thinned, [0.01, 0.99]))
    if not low < high:
        low, high = low - 0.5, low + 0.5
    return NumberScale(
        name=name, low=_round(low), high=_round(high), log=low > 0 and high / low >= _LOG_FROM
    )


def _round(value: float) -> float:
    """Return three digits of a number: limits are read by people."""
    return float(f"{value:.3g}") if math.isfinite(value) else value


def _words_scale(name: str, column: "pa.ChunkedArray[Any]") -> WordScale:
    there, at = coded(column)
    counts: Mapping[str, int] = dict(
        zip(there, np.bincount(at[at >= 0], minlength=len(there)).tolist(), strict=True)
    )
    used = [word for word in there if counts[word]]
    if len(used) > MOST_WORDS:
        kept = sorted(used, key=lambda word: (-counts[word], word))[: MOST_WORDS - 1]
        return WordScale(name=name, words=_ordered(name, kept), others=len(used) - len(kept))
    return WordScale(name=name, words=_ordered(name, used))


def _ordered(name: str, words: Sequence[str]) -> tuple[str, ...]:
    first = _IN_ORDER.get(name, ("no", "yes"))

    def rank(word: str) -> tuple[int, float, str]:
        known = first.index(word) if word in first else len(first)
        return known, float(word) if _is_written_number(word) else math.inf, word

    return tuple(sorted(words, key=rank))


def _is_written_number(word: str) -> bool:
    return word.removeprefix("-").isdecimal()


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _numbers(column: "pa.ChunkedArray[Any]") -> NDArray[np.float64]:
    values: NDArray[np.float64] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values


def coded(column: "pa.ChunkedArray[Any]") -> tuple[list[str], NDArray[np.int64]]:
    """Return a column's words, and for each row the number of its word, -1 where it has none, ``(rows,)``.

    Yes and no are words too, and so are whole numbers.
    """
    if pa.types.is_boolean(column.type):
        column = pc.if_else(column, "yes", "no")
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    whole: Any = encoded.unify_dictionaries().combine_chunks()
    at = pc.fill_null(whole.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return [str(word) for word in whole.dictionary.to_pylist()], at
