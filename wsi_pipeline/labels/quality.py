"""Rules that mark tiles of bad quality by their metrics. Pure: a table in, a table out.

Numbers are recorded first and compared with limits after, so that other limits need no new pixels.
docs/concepts/quality.md gives each formula, its reason and what it misses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.quality_config import QcConfig

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

NEEDED = (
    "slide_id",
    "tile",
    "tissue",
    "laplacian_var",
    "background",
    "black_pixels",
    "white_pixels",
    *(f"hue_q{percent}" for percent in (5, 10, 25, 50, 75, 90, 95)),
    *(f"saturation_q{percent}" for percent in (50, 75, 90, 95)),
    "gray_q50",
    *(f"{channel}_q{percent}" for channel in ("red", "green", "blue") for percent in (5, 10, 25)),
)
"""Columns of the manifest that rules look at."""

INKS = ("green", "blue", "black", "red")
_GREEN_HUES, _BLUE_HUES = (35, 90), (90, 118)  # of 180; hematoxylin begins at 120
_RED_HUES = (8, 174)  # up to the first, from the second: red lies on both sides of 0
_DARK_OD = 0.6  # gray 64: darker than hematoxylin in most nuclei
_WARM_OD = 0.65  # the same of green and blue alone, for red ink
_EVEN_OD = 0.75  # least to largest density of black ink's channels; stained tissue has 0.4 to 0.6
_GRAY_SPREAD = _SATURATION_SPREAD = 5.0  # smallest spread in grey levels that is believed
_HUE_SPREAD = 3.0  # likewise, of 180
_HUES, _WRAPPED_HUE = 180, 60  # reds below 60 follow those below 180
_NORMAL = 1.4826  # median absolute deviation to standard deviation of a normal distribution
_SOME_GLASS = 0.05  # share of a tile that tells how white its glass is


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: its name is a column ``qc_NAME`` and the word in ``outlier_reason``."""

    name: str
    marks: Callable[[pd.DataFrame, QcConfig], Flags]
    says: Callable[["pd.Series[Any]", QcConfig], str]
    """Number and limit of one tile in words."""


def judge(tiles: pd.DataFrame, config: QcConfig) -> pd.DataFrame:
    """Return what every rule says of every tile, row by row as they come.

    Parameters
    ----------
    tiles
        Columns ``NEEDED`` of the manifest; a tile without metrics (it could not be read) is not judged.
        Further columns are looked at where they are there: ``scanner`` (slides without one are
        compared with each other), ``dark_field`` (rules of transmitted light leave those tiles alone)
        and ``padded``, the share of a footprint that lies past the slide.

    Returns
    -------
    pandas.DataFrame
        With the index of ``tiles``: the numbers ``qc_sharpness`` (log10), ``qc_blur_slide_z``,
        ``qc_blur_scanner_z``, ``qc_unfocused_z``, ``qc_white_excess``, ``qc_fold_z`` (float32), ``qc_ink``;
        a bool ``qc_RULE`` per rule; ``outlier`` and ``outlier_reason``, the names of rules joined by "; ".
    """
    numbers = measure(tiles, config)
    seen = _beside(tiles, numbers)
    measured = tiles["laplacian_var"].notna().to_numpy()
    for rule in RULES:
        is_on = getattr(config, rule.name)
        numbers[f"qc_{rule.name}"] = rule.marks(seen, config) & measured if is_on else False
    return with_outliers(numbers)


def with_outliers(judged: pd.DataFrame, *, clusters: Sequence[int] = ()) -> pd.DataFrame:
    """Return what rules said with ``outlier`` and ``outlier_reason``; tiles of these clusters are outliers.

    Reasons are few whole texts such as "blur; pen" or "pen; cluster 3", so that they stay a dictionary.
    """
    rules = [judged[f"qc_{rule.name}"].to_numpy(np.int64) << bit for bit, rule in enumerate(RULES)]
    kinds = np.sum(rules, axis=0, dtype=np.int64)
    for place, number in enumerate(clusters, start=1):
        kinds += judged["cluster"].eq(number).to_numpy(np.int64) * (place << len(RULES))
    different, places = np.unique(kinds, return_inverse=True)
    texts = [_reason(kind, clusters) for kind in different.tolist() if kind]
    codes = places.astype(np.int32) - (
        len(different) - len(texts)
    )  # no reason is the first, or none
    reasons = pd.Categorical.from_codes(codes, categories=texts)  # type: ignore[call-overload]
    return judged.assign(outlier=np.asarray(kinds > 0, np.bool_), outlier_reason=reasons)


def explain(tiles: pd.DataFrame, judged: pd.DataFrame, config: QcConfig) -> list[str]:
    """Return for every tile in words which rules mark it, each with its number and its limit."""
    seen = _beside(tiles, judged)
    return [
        "; ".join(rule.says(row, config) for rule in RULES if row[f"qc_{rule.name}"])
        for _, row in seen.iterrows()
    ]


def measure(tiles: pd.DataFrame, config: QcConfig) -> pd.DataFrame:
    """Return the numbers that rules compare with limits; see ``judge``."""
    slides = _codes(tiles["slide_id"])
    scanners = _codes(tiles["scanner"]) if "scanner" in tiles else np.zeros(len(tiles), np.intp)
    sharpness = _sharpness(tiles, least_tissue=config.blur_min_tissue)
    spread = config.least_spread
    numbers = {
        "qc_sharpness": sharpness,
        "qc_blur_slide_z": robust_z(sharpness, slides, least_spread=spread),
        "qc_blur_scanner_z": robust_z(sharpness, scanners, least_spread=spread),
        "qc_unfocused_z": _focus_z(sharpness, slides, scanners, config),
        "qc_white_excess": _white_excess(tiles, slides),
        "qc_fold_z": _fold_z(tiles, slides),
    }
    frame = pd.DataFrame({name: each.astype(np.float32) for name, each in numbers.items()})
    frame.index = tiles.index
    frame["qc_ink"] = pd.Categorical.from_codes(_ink(tiles, config), categories=list(INKS))  # type: ignore[call-overload]
    return frame


def robust_z(values: Floats, groups: NDArray[np.intp], *, least_spread: float) -> Floats:
    """Return how many spreads every value lies above the median of its group; NaN stays NaN.

    The spread is 1.4826 times the median absolute deviation, ``least_spread`` at least. Half of a group
    may be anything without moving either far.
    """
    apart = values - _group_median(values, groups)
    spread = _NORMAL * _group_median(np.abs(apart), groups)
    return np.asarray(apart / np.maximum(spread, least_spread), np.float64)


def _group_median(values: Floats, groups: NDArray[np.intp]) -> Floats:
    """Return the median of each value's group, NaN left out."""
    medians = pd.Series(values).groupby(groups).median()
    return np.asarray(medians.reindex(groups).to_numpy(), np.float64)


def _codes(column: "pd.Series[Any]") -> NDArray[np.intp]:
    """Return a number per word; those without a word have one of their own."""
    codes, _ = pd.factorize(column, use_na_sentinel=True)
    return np.asarray(codes, np.intp)


def _sharpness(tiles: pd.DataFrame, *, least_tissue: float) -> Floats:
    """Return log10 of the Laplacian's variance over tissue, NaN where there is too little of it.

    Glass adds next to nothing to the sum of squares, so the tile's variance is that of its tissue times
    the tissue's share.
    """
    tissue = 1.0 - tiles["background"].to_numpy(np.float64)
    variance = tiles["laplacian_var"].to_numpy(np.float64)
    judged = (tissue >= least_tissue) & (variance > 0)
    sharpness = np.full(len(tiles), np.nan)
    sharpness[judged] = np.log10(variance[judged] / tissue[judged])
    return sharpness


def _focus_z(
    sharpness: Floats, slides: NDArray[np.intp], scanners: NDArray[np.intp], config: QcConfig
) -> Floats:
    """Return per tile how far its slide's median lies from those of the scanner's slides."""
    rows = pd.DataFrame({"slide": slides, "scanner": scanners, "value": sharpness})
    by_slide = rows.groupby("slide").agg(scanner=("scanner", "first"), value=("value", "median"))
    medians = by_slide["value"].to_numpy(np.float64)
    of_scanner = by_slide["scanner"].to_numpy(np.intp)
    z = robust_z(medians, of_scanner, least_spread=config.least_spread)
    judged = by_slide.groupby("scanner")["value"].transform("count").to_numpy()
    z[judged < config.unfocused_slides] = np.nan
    return np.asarray(pd.Series(z, index=by_slide.index).reindex(slides).to_numpy(), np.float64)


def _white_excess(tiles: pd.DataFrame, slides: NDArray[np.intp]) -> Floats:
    """Return the share of white pixels beyond padding and beyond what the slide's glass explains.

    On some scanners glass is 255 everywhere: its whiteness is the slide's median share of white pixels
    among those of glass.
    """
    padded = tiles["padded"].to_numpy(np.float64) if "padded" in tiles else np.zeros(len(tiles))
    white = np.maximum(tiles["white_pixels"].to_numpy(np.float64) - padded, 0)
    glass = np.maximum(tiles["background"].to_numpy(np.float64) - padded, 0)
    glass[_dark_field(tiles)] = 0
    telling = glass > _SOME_GLASS
    whiteness = np.divide(white, glass, out=np.full_like(white, np.nan), where=telling)
    usual = np.nan_to_num(_group_median(np.minimum(whiteness, 1), slides))
    return np.asarray(white - usual * glass, np.float64)


def _fold_z(tiles: pd.DataFrame, slides: NDArray[np.intp]) -> Floats:
    """Return the smaller of spreads darker and spreads more saturated than the slide, less those bluer.

    Medians of the tissue. Crowded nuclei are dark and saturated too, but they turn a tile blue; tissue that
    lies double keeps its hue.
    """
    dark = _dark_field(tiles)
    gray, saturation, hue = (
        np.where(dark, np.nan, _level(tiles, name))
        for name in ("gray_q50", "saturation_q50", "hue_q50")
    )
    hue = np.where(hue < _WRAPPED_HUE, hue + _HUES, hue)
    darker = -robust_z(gray, slides, least_spread=_GRAY_SPREAD)
    deeper = robust_z(saturation, slides, least_spread=_SATURATION_SPREAD)
    bluer = -robust_z(hue, slides, least_spread=_HUE_SPREAD)
    return np.minimum(darker, deeper) - np.maximum(bluer, 0)


def _ink(tiles: pd.DataFrame, config: QcConfig) -> NDArray[np.int8]:
    """Return the place in ``INKS`` of what is written on a tile, -1 for nothing."""
    percent = config.pen_percent
    # What covers p % of the pixels is reached by the quantiles p from either end.
    saturation = _level(tiles, f"saturation_q{100 - percent}")
    red, green, blue = (
        _level(tiles, f"{channel}_q{percent}") for channel in ("red", "green", "blue")
    )
    densities = np.stack([-np.log10((each + 0.5) / 255.5) for each in (red, green, blue)])
    absorbs_red = (red < green) & (saturation >= config.pen_saturation)
    inner = [each for each in (5, 10, 25, 50, 75, 90, 95) if percent <= each <= 100 - percent]
    hues = np.stack([_level(tiles, f"hue_q{each}") for each in inner])
    reddish = (hues[0] <= _RED_HUES[0]) | (hues[-1] >= _RED_HUES[1])
    # Pixels of gray 0 were lost, not written on.
    lost = _level(tiles, "black_pixels") >= percent / 100
    dark = (densities.min(axis=0) >= _DARK_OD) & ~lost
    even = densities.min(axis=0) >= _EVEN_OD * densities.max(axis=0)
    warm = densities[1:].min(axis=0) >= _WARM_OD * densities[1:].max(axis=0)
    found = {
        "green": _within(hues, _GREEN_HUES) & absorbs_red,
        "blue": _within(hues, _BLUE_HUES) & absorbs_red,
        "black": dark & even,
        "red": reddish & warm & (saturation >= config.pen_red_saturation) & ~dark,
    }
    judged = ~_dark_field(tiles) & np.isfinite(saturation)
    places = np.full(len(tiles), -1, np.int8)
    for place in range(len(INKS) - 1, -1, -1):  # the first of several inks stays
        places[found[INKS[place]] & judged] = place
    return places


def _within(hues: Floats, band: tuple[int, int]) -> Flags:
    """Whether any of a tile's quantiles lies in a band."""
    return np.asarray(((hues >= band[0]) & (hues < band[1])).any(axis=0), np.bool_)


def _beside(tiles: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    mine = [name for name in numbers if name not in tiles]
    return pd.concat([tiles, numbers[mine]], axis=1)


def _level(tiles: pd.DataFrame, name: str) -> Floats:
    return tiles[name].to_numpy(np.float64)


def _dark_field(tiles: pd.DataFrame) -> Flags:
    if "dark_field" not in tiles:
        return np.zeros(len(tiles), np.bool_)
    return tiles["dark_field"].to_numpy(np.bool_)


def _reason(kind: int, clusters: Sequence[int]) -> str:
    named = [rule.name for bit, rule in enumerate(RULES) if kind >> bit & 1]
    if place := kind >> len(RULES):
        named.append(f"cluster {clusters[place - 1]}")
    return "; ".join(named)


def _is_blurred(seen: pd.DataFrame, config: QcConfig) -> Flags:
    slide = seen["qc_blur_slide_z"].to_numpy()
    scanner = seen["qc_blur_scanner_z"].to_numpy()
    marks = (slide <= -config.blur_slide_z) & (scanner <= -config.blur_scanner_z)
    if config.blur_alone_z is not None:
        marks |= scanner <= -config.blur_alone_z
    return np.asarray(marks, np.bool_)


def _is_background(seen: pd.DataFrame, config: QcConfig) -> Flags:
    # In dark field the space between nuclei is background as well: there the mask alone tells.
    glass = (seen["background"].to_numpy() > config.background_share) & ~_dark_field(seen)
    return np.asarray(glass | (seen["tissue"].to_numpy() < config.tissue_share), np.bool_)


def _is_black(seen: pd.DataFrame, config: QcConfig) -> Flags:
    return np.asarray(
        (seen["black_pixels"].to_numpy() > config.black_share) & ~_dark_field(seen), np.bool_
    )


def _is_gray(seen: pd.DataFrame, config: QcConfig) -> Flags:
    return np.asarray(
        (_level(seen, "saturation_q90") < config.gray_saturation) & ~_dark_field(seen), np.bool_
    )


RULES: tuple[Rule, ...] = (
    Rule(
        name="blur",
        marks=_is_blurred,
        says=lambda row, config: (
            f"blur: {row['qc_blur_slide_z']:.1f} spreads from the slide (limit -{config.blur_slide_z:g}), "
            f"{row['qc_blur_scanner_z']:.1f} from the scanner (-{config.blur_scanner_z:g}"
            + (f", alone -{config.blur_alone_z:g})" if config.blur_alone_z else ")")
        ),
    ),
    Rule(
        name="unfocused",
        marks=lambda seen, config: np.asarray(
            seen["qc_unfocused_z"].to_numpy() <= -config.unfocused_z, np.bool_
        ),
        says=lambda row, config: (
            f"unfocused: the slide is {row['qc_unfocused_z']:.1f} spreads from its scanner's "
            f"(limit -{config.unfocused_z:g})"
        ),
    ),
    Rule(
        name="black",
        marks=_is_black,
        says=lambda row, config: (
            f"black: {row['black_pixels']:.1%} (limit {config.black_share:.1%})"
        ),
    ),
    Rule(
        name="white",
        marks=lambda seen, config: np.asarray(
            seen["qc_white_excess"].to_numpy() > config.white_share, np.bool_
        ),
        says=lambda row, config: (
            f"white: {row['qc_white_excess']:.1%} beyond glass (limit {config.white_share:.1%})"
        ),
    ),
    Rule(
        name="pen",
        marks=lambda seen, _config: np.asarray(seen["qc_ink"].notna().to_numpy(), np.bool_),
        says=lambda row, config: (
            f"pen: {row['qc_ink']} in {config.pen_percent} % of the tissue or more"
        ),
    ),
    Rule(
        name="background",
        marks=_is_background,
        says=lambda row, config: (
            f"background: {row['background']:.1%} (limit {config.background_share:.1%}), "
            f"tissue {row['tissue']:.1%} (least {config.tissue_share:.1%})"
        ),
    ),
    Rule(
        name="fold",
        marks=lambda seen, config: np.asarray(
            seen["qc_fold_z"].to_numpy() >= config.fold_z, np.bool_
        ),
        says=lambda row, config: (
            f"fold: {row['qc_fold_z']:.1f} spreads darker and deeper at the same hue "
            f"(limit {config.fold_z:g})"
        ),
    ),
    Rule(
        name="gray",
        marks=_is_gray,
        says=lambda row, config: (
            f"gray: saturation {row['saturation_q90']:.0f} (limit {config.gray_saturation:g})"
        ),
    ),
)
"""In the order in which ``outlier_reason`` names them."""


def without_rules(names: Sequence[str]) -> dict[str, bool]:
    """Return settings that switch rules off.

    Raises
    ------
    ConfigError
        There is no such rule.
    """
    known = [rule.name for rule in RULES]
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError(f"unknown rule {', '.join(unknown)}; known are {', '.join(known)}")
    return dict.fromkeys(names, False)
