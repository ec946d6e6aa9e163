"""How sharpness and colour are spread in each scanner and centre, and who must not be in two parts."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_pipeline.labels.density import Densities, Pair, densities
from wsi_pipeline.labels.leakage import Audit
from wsi_pipeline.labels.stain import optical_density
from wsi_pipeline.report.parts import Beside, Curves, Field, Notice, Part, Section, Table, Todo
from wsi_pipeline.stages.report_sections import Known
from wsi_pipeline.stages.report_tiles import RunTiles

_MOST_VALUES = 400_000
"""Tiles whose values are compared, evenly spaced: sorting millions for a curve shows nothing more."""

_CURVE_STEP = (
    4  # of 1024 places of a density: 256 are more than the figure has pixels between kinks
)

_MOST_NAMED = 8


def spread(known: Known, groups: list[str]) -> Section:
    """Return sharpness and colour of each group of the columns."""
    parts: list[Part] = []
    missing: list[str] = []
    seen: dict[bytes, str] = {}
    for name in groups:
        found = _groups_of(known, name)
        if found is None or known.tiles is None:
            missing.append(name)
            continue
        same = seen.setdefault(pd.factorize(found)[0].tobytes(), name)
        if same != name:
            parts.append(Notice(text=f"{name} divides the tiles as {same} does."))
        else:
            parts += _compared(known, known.tiles, found, name)
    if missing:
        columns = " or ".join(missing)
        text = (
            f"Not compared: no two slides differ in {columns}. A column of that name is kept from"
        )
        parts.append(Todo(text=text, command="wsi-pipeline tile slides.csv"))
    return Section(name="spread", title="Sharpness and colour", parts=tuple(parts))


def _groups_of(known: Known, name: str) -> pd.Categorical | None:
    """Return the group of every tile, from the table of slides or the manifest; None if there is but one."""
    tiles = known.tiles
    if tiles is None:
        return None
    by_slide = known.cohort.by_slide(name)
    if by_slide:
        words, at = _of_slides(tiles, by_slide)
    elif tiles.has(name):
        words, at = tiles.words(name)
    else:
        return None
    if len(np.unique(at[at >= 0])) < 2:
        return None
    return pd.Categorical.from_codes(at.tolist() if len(at) == 0 else at, categories=words)  # type: ignore[call-overload,no-any-return]


def _of_slides(tiles: RunTiles, by_slide: Mapping[str, str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the words of slides, and for every tile the number of its slide's or -1, ``(tiles,)``."""
    words = sorted(set(by_slide.values()))
    places = {word: place for place, word in enumerate(words)}
    own = [
        places[by_slide[slide_id]] if slide_id in by_slide else -1 for slide_id in tiles.slide_ids
    ]
    return words, np.repeat(np.array(own, dtype=np.int64), np.diff(tiles.starts))


def _compared(known: Known, tiles: RunTiles, groups: pd.Categorical, name: str) -> Iterator[Part]:
    step = max(1, -(-len(groups) // _MOST_VALUES))
    ok = tiles.holds("status", "ok")
    for title, unit, values, log in _measures(known, tiles):
        found = densities(np.where(ok, values, np.nan)[::step], groups[::step], log=log)
        if len(found.by_group) > 1:
            yield from _shown(found, f"{title} by {name}", unit)
    if step > 1:
        yield Notice(text=f"Of the tiles, every {step}th one was compared by {name}.")
    yield Todo(
        text="Stain vectors, more colours and pictures for papers come from",
        command=known.command(f"compare {{}} --by {shlex.quote(name)}"),
    )


def _measures(
    known: Known, tiles: RunTiles
) -> Iterator[tuple[str, str, NDArray[np.float64], bool]]:
    """Yield title, unit and value of every tile, and whether the axis is logarithmic.

    The optical density is to first order, of brightfield slides only.
    """
    yield "Sharpness", "laplacian_var", tiles.numbers("laplacian_var"), True
    dark = {str(row["slide_id"]) for row in known.cohort.rows if row.get("dark_field")}
    brightfield = np.array([slide_id not in dark for slide_id in tiles.slide_ids], dtype=np.bool_)
    bright = np.repeat(brightfield, np.diff(tiles.starts))
    for channel in ("red", "green", "blue"):
        mean = tiles.numbers(f"{channel}_mean")
        density, _ = optical_density(mean, np.zeros_like(mean))
        unit = f"mean optical density of {channel} light"
        yield f"Density of {channel}", unit, np.where(bright, density, np.nan), False


def _shown(found: Densities, title: str, unit: str) -> Iterator[Part]:
    yield Curves(
        title=title,
        unit=unit,
        grid=found.grid[::_CURVE_STEP],
        by_group={name: curve[::_CURVE_STEP] for name, curve in found.by_group.items()},
        log=found.log,
        groups=tuple(group.name for group in found.groups),
    )
    if far := found.far_apart():
        yield Notice(text=_far_apart(far, unit), kind="warning")
    yield Beside(tables=(_group_table(found, title), _pair_table(found, title)))


def _far_apart(pairs: tuple[Pair, ...], unit: str) -> str:
    named = [
        f"{pair.first} and {pair.second} ({100 * pair.overlap:.0f} %)"
        for pair in pairs[:_MOST_NAMED]
    ]
    more = f" and {len(pairs) - _MOST_NAMED} more pairs" if len(pairs) > _MOST_NAMED else ""
    return (
        f"{'; '.join(named)}{more} hardly overlap in {unit}: what is learnt on one has not been seen on the "
        "other, and a network may tell them apart by this alone."
    )


def _group_table(found: Densities, title: str) -> Table:
    digits = 1 if found.log else 3  # sharpness goes to hundreds, optical density hardly past 1
    quartiles = ("25 %", "median", "75 %")
    numbers = [Field(label=label, kind="number", digits=digits) for label in quartiles]
    return Table(
        caption=f"{title}: quartiles",
        fields=(Field(label="group"), Field(label="tiles", kind="number"), *numbers),
        rows=[(each.name, each.count, each.q25, each.median, each.q75) for each in found.groups],
    )


def _pair_table(found: Densities, title: str) -> Table:
    moved = "Wasserstein, decades" if found.log else "Wasserstein"
    rows = [
        (pair.first, pair.second, pair.overlap, pair.ks, pair.wasserstein) for pair in found.pairs
    ]
    return Table(
        name=f"pairs-{title.lower().replace(' ', '-')}",
        caption=f"{title}: how far every two are apart",
        fields=(
            Field(label="group"),
            Field(label="and"),
            Field(label="overlap", kind="share"),
            Field(label="KS, 0 to 1", kind="number", digits=3),
            Field(label=moved, kind="number", digits=3),
        ),
        rows=rows,
    )


def leakage(known: Known) -> Section:
    """Return what is in two parts of the split and must not be."""
    if known.audit is None:
        text = (
            "There is no split to audit. One that keeps patients together is made and audited with"
        )
        parts: tuple[Part, ...] = (Todo(text=text, command=known.command("split {}")),)
    else:
        parts = tuple(_audited(known.audit))
    return Section(name="leakage", title="Leakage audit", parts=parts)


def _audited(found: Audit) -> Iterator[Part]:
    if found.leaks:
        text = f"{len(found.leaks)} leaks: scores on this split would be too good. Mend the split first."
        yield Notice(text=text, kind="warning")
        yield _findings("leaks", "What is in two parts and must not be", found.leaks)
    else:
        yield Notice(text=f"No leak among: {', '.join(found.checked)}.", kind="good")
    if found.reports:
        yield _findings("reports", "What a person has to look at", found.reports)
    if found.unchecked:
        rows = [(text,) for text in found.unchecked]
        yield Table(caption="Not checked, and why", fields=(Field(label="what"),), rows=rows)


def _findings(name: str, caption: str, findings: tuple[Any, ...]) -> Table:
    return Table(
        name=name,
        caption=f"{caption} ({len(findings)})",
        fields=(Field(label="kind"), Field(label="finding")),
        rows=[(each.kind.replace("_", " "), each.text) for each in findings],
    )
