"""Graded changes of images by name: what their levels mean, and which are looked at. No torch.

>>> sweep_of("sharpen:0.5,1")
Sweep(shift='sharpen', levels=(0.0, 0.5, 1.0))
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from wsi_pipeline.config import did_you_mean
from wsi_pipeline.errors import ConfigError

Place: TypeAlias = Literal["source", "input"]

PLACES: tuple[Place, ...] = get_args(Place)
"""Where an image is changed: the tile as it is stored, before it is averaged or resized, or the image of the
network's size, the last thing before its values are normalised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One kind of change."""

    meaning: str
    level: str
    """What its levels are, with their unit."""
    levels: tuple[float, ...]
    """Those of a sweep, if no others are asked for."""
    clean: float
    """The level that leaves an image as it is, to the bit."""
    low: float
    high: float
    is_whole: bool = False
    """Whether levels are whole numbers."""

    @property
    def expected(self) -> str:
        """Words for what its levels may be."""
        kind = "whole numbers" if self.is_whole else "numbers"
        return f"{kind} from {self.low:g} to {self.high:g}"


def _tenths(low: int, high: int) -> tuple[float, ...]:
    return tuple(each / 10 for each in range(low, high + 1))


def _blur(meaning: str) -> Shift:
    return Shift(
        meaning=meaning,
        level="side n in pixels",
        levels=tuple(map(float, range(1, 21))),
        clean=1.0,
        low=1.0,
        high=101.0,
        is_whole=True,
    )


def _sharpen(meaning: str) -> Shift:
    return Shift(
        meaning=meaning,
        level="share a of the sharpened image",
        levels=_tenths(0, 10),
        clean=0.0,
        low=0.0,
        high=1.0,
    )


def _tone(meaning: str) -> Shift:
    return Shift(
        meaning=f"{meaning}, as Pillow's, in steps of 1/128",
        level="factor",
        levels=(0.5, 0.75, 1.0, 1.25, 1.5),
        clean=1.0,
        low=0.0,
        high=8.0,
    )


SHIFTS: Mapping[str, Shift] = {
    "box_blur": _blur(
        "Mean over n x n pixels as OpenCV's blur; even n moves the image by half a pixel"
    ),
    "box_blur_centred": _blur(
        "As box_blur, but of even n over n + 1 pixels of which both ends count half: nothing moves, but "
        "they blur more than the next odd n does"
    ),
    "sharpen": _sharpen(
        "(1 - a) image + a sharpened, of which every pixel is 9 times itself less its 8 neighbours, kept "
        "within 0 to 255 before it is mixed in"
    ),
    "sharpen_kernel": _sharpen("As sharpen, but kept within 0 to 255 only once it is mixed in"),
    "jpeg": Shift(
        meaning="Stored as a JPEG once more, colours at half the resolution; 100 is the image as it is",
        level="quality",
        levels=(100.0, 95.0, 90.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0, 20.0, 10.0),
        clean=100.0,
        low=1.0,
        high=100.0,
        is_whole=True,
    ),
    "gamma": Shift(
        meaning="Values from 0 to 1 to the power of g: darker above 1",
        level="exponent g",
        levels=(0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 2.0),
        clean=1.0,
        low=0.1,
        high=10.0,
    ),
    "hed": Shift(
        meaning="Haematoxylin times 1 + s, eosin times 1 - s, as optical densities",
        level="shift s of the stains",
        levels=_tenths(-4, 4),
        clean=0.0,
        low=-1.0,
        high=1.0,
    ),
    "resolution": Shift(
        meaning="Averaged over areas to a side divided by the factor, and linearly back",
        level="factor",
        levels=(1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0),
        clean=1.0,
        low=1.0,
        high=64.0,
    ),
    "noise": Shift(
        meaning="Normal noise on every value, of each tile always the same",
        level="standard deviation in grey levels",
        levels=(0.0, 2.0, 5.0, 10.0, 20.0, 40.0),
        clean=0.0,
        low=0.0,
        high=128.0,
    ),
    "brightness": _tone("Values times a factor"),
    "contrast": _tone("Away from the image's mean grey by a factor"),
    "saturation": _tone("Away from each pixel's grey by a factor"),
}
"""Every kind of change by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A kind of change and the levels that are looked at."""

    shift: str
    levels: tuple[float, ...]
    """Ascending; the clean one is among them."""

    def __post_init__(self) -> None:
        """Check the name and the levels, and put them in order.

        Raises
        ------
        ConfigError
            There is no such change, or it has no such level.
        """
        kind = shift_of(self.shift)
        for level in self.levels:
            fits = kind.low <= level <= kind.high and (level == round(level) or not kind.is_whole)
            if not (math.isfinite(level) and fits):
                raise ConfigError(
                    f"sweep {self.shift}: expected {kind.expected} as {kind.level}, got {level:g}"
                )
        ordered = tuple(sorted({float(level) for level in (*self.levels, kind.clean)}))
        object.__setattr__(self, "levels", ordered)


def shift_of(name: str) -> Shift:
    """Return a kind of change.

    Raises
    ------
    ConfigError
        There is none of that name.
    """
    if name not in SHIFTS:
        raise ConfigError(
            f"sweep: expected one of {', '.join(SHIFTS)}, got {name!r}{did_you_mean(name, SHIFTS)}"
        )
    return SHIFTS[name]


def sweep_of(text: str) -> Sweep:
    """Return a sweep as a flag writes it: ``NAME``, or ``NAME:LEVEL,LEVEL,…``; the clean level is added.

    Raises
    ------
    ConfigError
        There is no such change, or it has no such level.
    """
    name, _, levels = text.partition(":")
    kind = shift_of(name)
    if not levels:
        return Sweep(shift=name, levels=kind.levels)
    try:
        numbers = tuple(float(each) for each in levels.split(","))
    except ValueError:
        raise ConfigError(
            f"sweep {name}: expected levels with commas between them, such as "
            f"{name}:{','.join(f'{each:g}' for each in kind.levels[:3])}, got {levels!r}"
        ) from None
    return Sweep(shift=name, levels=numbers)


def sweeps_of(texts: Iterable[str]) -> tuple[Sweep, ...]:
    """Return the sweeps of several flags; levels of one change that is named twice are joined.

    Raises
    ------
    ConfigError
        None is given, or one is not as ``sweep_of`` expects.
    """
    found: dict[str, Sweep] = {}
    for each in map(sweep_of, texts):
        before = found[each.shift].levels if each.shift in found else ()
        found[each.shift] = Sweep(shift=each.shift, levels=(*before, *each.levels))
    if not found:
        raise ConfigError(f"sweep: expected at least one of {', '.join(SHIFTS)}, got none")
    return tuple(found.values())
