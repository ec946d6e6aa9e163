"""A column of the manifest as named classes with a colour each: words as they are, numbers in bins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib import colormaps

Colour: TypeAlias = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

BINS = 10
"""Classes of a column of numbers: deciles of the tiles that are shown, so that each has its share of them."""

# Okabe and Ito, Color Universal Design (2008): eight colours that colour-blind people tell apart; black,
# the eighth, is left out because tiles are drawn on dark nuclei.
_WORD_COLOURS: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_TURN = 0.618034  # of the hue circle: later colours stay apart from all before (golden ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourClass:
    """A class of tiles."""

    name: str
    colour: Colour


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourScale:
    """The same classes and colours for all slides of an export."""

    column: str
    classes: tuple[ColourClass, ...]
    edges: tuple[float, ...] = ()
    """Of a column of numbers: one more than classes, ascending; empty for words."""
    words: tuple[str, ...] = ()
    """Of a column of words: the value of each class."""

    @property
    def is_of_numbers(self) -> bool:
        """Whether it shows numbers, in bins."""
        return bool(self.edges)

    def of(self, values: "pa.ChunkedArray[Any] | pa.Array[Any]") -> list[ColourClass | None]:
        """Return the class of every value, None for what is null or not a number."""
        if not self.is_of_numbers:
            places = dict(zip(self.words, self.classes, strict=True))
            return [None if word is None else places.get(word) for word in _words(values)]
        numbers = _numbers(values)
        inner = np.asarray(self.edges[1:-1])
        bins = np.searchsorted(inner, numbers, side="right").tolist()
        return [
            self.classes[place] if known else None
            for place, known in zip(bins, np.isfinite(numbers).tolist(), strict=True)
        ]


def colour_scale(column: str, values: "pa.ChunkedArray[Any] | pa.Array[Any]") -> ColourScale:
    """Return the scale of a column from all values that are to be shown.

    Words, and true and false, are classes of their own in order of name; numbers are in deciles from dark
    (low) to light (high) viridis.
    """
    if _is_number(values.type):
        return _scale_of_numbers(column, _numbers(values))
    known = sorted({word for word in _words(values) if word is not None})
    names = [f"{column}: {word}" if pa.types.is_boolean(values.type) else word for word in known]
    classes = tuple(
        ColourClass(name=name, colour=word_colour(number)) for number, name in enumerate(names)
    )
    return ColourScale(column=column, classes=classes, words=tuple(known))


def word_colour(number: int) -> Colour:
    """Return the colour of the class of a number, 0 or more; the first seven are safe for the colour-blind.

    >>> word_colour(0), word_colour(7) != word_colour(8)
    ((230, 159, 0), True)
    """
    if number < len(_WORD_COLOURS):
        return _WORD_COLOURS[number]
    return _rgb(colormaps["hsv"](number * _TURN % 1.0))


def _scale_of_numbers(column: str, numbers: "np.ndarray[Any, np.dtype[np.float64]]") -> ColourScale:
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return ColourScale(column=column, classes=())
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, BINS + 1)))
    if len(edges) == 1:
        edges = np.repeat(edges, 2)
    bins = len(edges) - 1
    shades = np.linspace(0, 1, bins) if bins > 1 else np.array([0.5])
    classes = tuple(
        ColourClass(
            name=f"{column} {low:.4g} to {high:.4g}", colour=_rgb(colormaps["viridis"](shade))
        )
        for low, high, shade in zip(edges[:-1], edges[1:], shades.tolist(), strict=True)
    )
    return ColourScale(column=column, classes=classes, edges=tuple(edges.tolist()))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _words(values: Any) -> Sequence[str | None]:  # noqa: ANN401  Arrow's
    words: list[str | None] = values.cast(pa.string()).to_pylist()
    return words


def _numbers(values: Any) -> "np.ndarray[Any, np.dtype[np.float64]]":  # noqa: ANN401  Arrow's
    return np.asarray(pc.fill_null(values.cast(pa.float64()), float("nan")), dtype=np.float64)


def _rgb(shade: Sequence[float]) -> Colour:
    red, green, blue = (round(255 * part) for part in shade[:3])
    return red, green, blue
