"""The audit of a split: what is in two parts and must not be, and what may be without anybody knowing.

>>> import pandas as pd
>>> tiles = pd.DataFrame({"slide_id": ["a", "b"], "patient_id": "P1", "split": ["train", "test"]})
>>> [finding.text for finding in audit(tiles).leaks]
['patient P1 is in train (1 tile) and test (1 tile)']
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_pipeline.labels.audited import (
    CONTENT,
    FOOTPRINT,
    SOURCE,
    AuditTable,
    Codes,
    Finding,
    Kind,
    in_several,
    meant,
    partitions,
    parts_of,
)
from wsi_pipeline.labels.duplicates import (
    alike_slides,
    contents_of,
    pairs_alike,
    pictures_of,
    same_files,
    same_tiles,
)
from wsi_pipeline.labels.groups import listed
from wsi_pipeline.labels.overlap import crossing
from wsi_pipeline.labels.similar import COLOURS, Picture

_NOT_IN_NAMES = re.compile(r"[\W_]+")
_LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What an audit found, and what it could look at."""

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]
    """What could not be checked, and why, a sentence each."""

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """What is refused."""
        return tuple(finding for finding in self.findings if finding.is_leak)

    @property
    def reports(self) -> tuple[Finding, ...]:
        """What a person has to look at."""
        return tuple(finding for finding in self.findings if not finding.is_leak)


def audit(tiles: pd.DataFrame, *, slides: pd.DataFrame | None = None) -> Audit:
    """Return every leak of a split, whoever made it.

    Parameters
    ----------
    tiles
        One row per tile, or per slide: ``slide_id`` or ``patient_id`` and a part in ``split``, ``fold``,
        ``split_2`` and so on. As far as there: ``x, y, width, height`` (level-0 px), the mean colours and
        ``crc32c`` of the manifest, and the columns of ``slides``.
    slides
        One row per slide: ``slide_id`` and, as far as known, ``size_bytes, source_crc32c, fingerprint``; as
        slides.parquet has them.

    Raises
    ------
    ConfigError
        There is no column that says what is in which part, or none that says of whom.
    """
    columns = partitions(tiles)
    table = AuditTable.of(tiles, slides)
    pictures = pictures_of(table)
    pairs, content = pairs_alike(pictures), contents_of(table)
    names = [*map(str, tiles.columns), *(map(str, slides.columns) if slides is not None else ())]
    checked, unchecked = _looked_at(table, pictures, names)
    findings: list[Finding] = []
    for name in columns:
        parts = parts_of(tiles, name)
        where = "" if name == "split" else f"{name}: "
        findings += [*_divided(table, parts, where), *_overlaps(table, parts, where)]
        findings += [*same_files(table, parts, where), *same_tiles(table, parts, where, content)]
        findings += [*alike_slides(table, parts, where, pairs), *_alike_names(table, parts, where)]
    return Audit(
        findings=tuple(dict.fromkeys(findings)),
        checked=tuple(checked),
        unchecked=(*unchecked, *_unassigned(tiles, columns)),
    )


def _looked_at(
    table: AuditTable, pictures: Mapping[int, Picture], names: list[str]
) -> tuple[list[str], list[str]]:
    """Return what can be checked with columns of these names, and what cannot and why."""
    checks = {
        "slides": (table.slide is not None, "no column slide_id"),
        "patients": (
            table.patient is not None and len(table.patient.words) > 0,
            f"no patient_id is known{meant('patient_id', names)}",
        ),
        "overlapping tiles": (
            table.slide is not None and table.has(*FOOTPRINT),
            f"no columns {', '.join(FOOTPRINT)}",
        ),
        "byte-equal slides": (table.file_of_slide is not None, f"no columns {', '.join(SOURCE)}"),
        "slides that look alike": (
            table.slide is not None and table.has(*FOOTPRINT, *COLOURS),
            f"no columns {', '.join((*FOOTPRINT, *COLOURS))}",
        ),
        "equal tiles": (table.has(*CONTENT), f"no columns {', '.join(CONTENT)}"),
    }
    checked = [name for name, (can, _) in checks.items() if can]
    unchecked = [f"{name}: {why}" for name, (can, why) in checks.items() if not can]
    return checked, [*unchecked, *_partly(table, pictures)]


def _partly(table: AuditTable, pictures: Mapping[int, Picture]) -> Iterator[str]:
    """Yield what is not known of some slides only."""
    if table.slide is None:
        return
    slides: NDArray[np.object_] = np.array(table.slide.words, dtype=object)
    if table.patient is not None and table.patient.words and (table.patient.of_row < 0).any():
        names = slides[np.unique(table.slide.of_row[table.patient.of_row < 0])]
        yield f"patients: not known of {len(names)} slides ({listed(sorted(names))})"
    if table.has(*FOOTPRINT, *COLOURS) and (few := len(slides) - len(pictures)):
        without = [word for number, word in enumerate(slides) if number not in pictures]
        yield f"slides that look alike: {few} have too few tiles to tell ({listed(sorted(without))})"


def _unassigned(tiles: pd.DataFrame, columns: list[str]) -> Iterator[str]:
    """Yield that tiles are in no part of any column."""
    none = tiles[columns].isna().all(axis=1).to_numpy(dtype=np.bool_)
    if none.any():
        where = ""
        if "slide_id" in tiles:
            where = f" ({listed(sorted(map(str, tiles.loc[none, 'slide_id'].unique())))})"
        yield f"{int(none.sum())} tiles are in no part{where}; wsi-pipeline split RUN gives new slides theirs"


def _divided(table: AuditTable, parts: Codes, where: str) -> Iterator[Finding]:
    """Yield patients and slides that are in several parts."""
    things: tuple[tuple[Kind, Codes | None], ...] = (
        ("patient", table.patient),
        ("slide", table.slide),
    )
    for kind, codes in things:
        if codes is None:
            continue
        for number, held in in_several(codes.of_row, parts).items():
            name = codes.words[number]
            text = f"{where}{kind} {name} is in {_told(held)}"
            yield Finding(kind=kind, names=(name,), text=text, is_leak=True)


def _told(held: Mapping[str, int]) -> str:
    """Return parts with their tiles, train before the others."""
    order = sorted(held, key=lambda part: (part != "train", part))
    return " and ".join(f"{part} ({held[part]} tile{'s' * (held[part] != 1)})" for part in order)


def _overlaps(table: AuditTable, parts: Codes, where: str) -> Iterator[Finding]:
    """Yield slides whose tiles share pixels with tiles of another part."""
    if table.slide is None or not table.has(*FOOTPRINT):
        return
    own = table.slide.of_row
    source = _sources(table, own)
    several = in_several(source, parts)
    rows = np.flatnonzero(np.isin(source, list(several)) & (parts.of_row >= 0))
    rows = rows[np.argsort(source[rows], kind="stable")]
    if not len(rows):
        return
    boxes0 = table.boxes0
    for some in np.split(rows, np.flatnonzero(np.diff(source[rows])) + 1):
        meets = some[crossing(boxes0[some].astype(np.int32), parts.of_row[some])]
        if not len(meets):
            continue
        names = tuple(sorted({table.slide.words[number] for number in own[meets].tolist()}))
        x, y = boxes0[meets[0], :2].tolist()
        text = (
            f"{where}slide {' = '.join(names)}: {len(meets)} tiles share pixels with tiles of another "
            f"part, the first at x {x}, y {y} ({parts.words[parts.of_row[meets[0]]]})"
        )
        yield Finding(kind="overlap", names=names, text=text, is_leak=True)


def _sources(table: AuditTable, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number per tile that all slides of one file share."""
    if table.file_of_slide is None:
        return own
    slides = np.arange(len(table.file_of_slide))
    first = np.where(table.file_of_slide < 0, slides, table.file_of_slide + len(slides))
    return np.asarray(np.where(own < 0, -1, first[own]))


def _alike_names(table: AuditTable, parts: Codes, where: str) -> Iterator[Finding]:
    """Yield patients in several parts whose names differ in case, blanks, marks or leading zeros only."""
    if table.patient is None:
        return
    plain: dict[str, list[int]] = {}
    for number, word in enumerate(table.patient.words):
        key = _LEADING_ZEROS.sub("", _NOT_IN_NAMES.sub("", word.casefold()))
        plain.setdefault(key, []).append(number)
    for numbers in plain.values():
        if len(numbers) < 2:
            continue
        rows = np.isin(table.patient.of_row, numbers) & (parts.of_row >= 0)
        inside = sorted({parts.words[part] for part in np.unique(parts.of_row[rows]).tolist()})
        if len(inside) > 1:
            names = tuple(table.patient.words[number] for number in numbers)
            text = f"{where}patients {' and '.join(names)} are in {' and '.join(inside)}: are they one?"
            yield Finding(kind="alike_name", names=names, text=text, is_leak=False)
