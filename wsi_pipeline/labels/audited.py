"""A table that is audited, in one form whoever made it, and what is said of it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.groups import listed

Kind: TypeAlias = Literal[
    "patient", "slide", "overlap", "same_file", "alike", "same_tile", "alike_name", "disagree"
]

FOOTPRINT = ("x", "y", "width", "height")
SOURCE = ("size_bytes", "source_crc32c")
"""Columns that are equal where slides are byte-equal; ``fingerprint`` too, where there is one."""

PARTITION = re.compile(r"(split|fold)(_\d+)?")
"""Columns that divide tiles into parts."""

CONTENT = ("crc32c", "laplacian_var", "gray_mean")
"""Columns that are equal where two tiles have the same bytes: a checksum alone may be so by chance."""

_OTHER_NAMES = {
    "patient_id": ("patient", "patientid", "patientname", "case", "caseid", "subject", "subjectid"),
    "slide_id": ("slide", "slideid", "slidename", "wsi", "wsiid", "image", "imageid"),
    "split": ("set", "dataset", "subset", "partition", "part"),
}
"""What tables made elsewhere call the columns that an audit needs, letters alone and small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that the audit found."""

    kind: Kind
    names: tuple[str, ...]
    """Of the patient or the slides."""
    text: str
    is_leak: bool
    """Whether it is refused; else a person has to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """Words of a column as numbers."""

    of_row: NDArray[np.int64]
    """-1 where there is none."""
    words: tuple[str, ...]

    @classmethod
    def of(cls, column: "pd.Series[Any]") -> "Codes":
        """Return a column in numbers."""
        codes, words = pd.factorize(column)
        return cls(of_row=np.asarray(codes, dtype=np.int64), words=tuple(map(str, words)))

    @classmethod
    def named(cls, column: "pd.Series[Any]") -> "Codes":
        """Return a column of names in numbers; a blank names nobody."""
        codes = cls.of(column)
        blank = [number for number, word in enumerate(codes.words) if not word.strip()]
        of_row = np.where(np.isin(codes.of_row, blank), -1, codes.of_row)
        return cls(of_row=of_row, words=codes.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditTable:
    """What the audit looks at, in one form."""

    tiles: pd.DataFrame
    slide: Codes | None
    patient: Codes | None
    file_of_slide: NDArray[np.int64] | None
    """Number of each slide's file, the same under every name; -1 where unknown."""

    @classmethod
    def of(cls, tiles: pd.DataFrame, slides: pd.DataFrame | None) -> "AuditTable":
        """Return a table of tiles, with what is known of its slides.

        Raises
        ------
        ConfigError
            Neither slides nor patients are named.
        """
        slide = Codes.of(tiles["slide_id"]) if "slide_id" in tiles else None
        patient = Codes.named(tiles["patient_id"]) if "patient_id" in tiles else None
        if slide is None and patient is None:
            there = list(map(str, tiles.columns))
            hint = meant("patient_id", there) or meant("slide_id", there)
            raise ConfigError(
                f"expected a column slide_id or patient_id, got {listed(there)}"
                f"{hint or _rename('slide_id')}"
            )
        files = _files(tiles, slides, slide)
        return cls(tiles=tiles, slide=slide, patient=patient, file_of_slide=files)

    def has(self, *names: str) -> bool:
        """Whether the tiles have these columns."""
        return all(name in self.tiles for name in names)

    @property
    def boxes0(self) -> NDArray[np.int64]:
        """Footprints in level-0 pixels, ``(tiles, 4)``; all 0 where one is not wholly known."""
        given = self.tiles[list(FOOTPRINT)].to_numpy(dtype=np.float64, na_value=np.nan)
        known = np.isfinite(given).all(axis=1)
        return np.where(known[:, None], given, 0).astype(np.int64)


def is_another_name(name: str) -> bool:
    """Whether a column may be one that an audit needs, under another name.

    >>> is_another_name("Patient ID"), is_another_name("patient_id"), is_another_name("label")
    (True, False, False)
    """
    return any(meant(wanted, [name]) for wanted in _OTHER_NAMES)


def meant(wanted: str, names: Iterable[str]) -> str:
    """Return the question whether a column of another name is meant, for the end of a sentence.

    >>> meant("patient_id", ["patient", "split"])
    "; is the column 'patient' meant? Rename it, in pandas: table.rename(columns={'patient': 'patient_id'})"
    """
    plain = {re.sub("[^a-z]", "", name.lower()): name for name in names if name != wanted}
    found = next((plain[each] for each in _OTHER_NAMES[wanted] if each in plain), None)
    if found is None:
        return ""
    rename = f"table.rename(columns={{{found!r}: {wanted!r}}})"
    return f"; is the column {found!r} meant? Rename it, in pandas: {rename}"


def partitions(tiles: pd.DataFrame) -> list[str]:
    """Return the columns that say what is in which part.

    Raises
    ------
    ConfigError
        There is none.
    """
    names = [str(name) for name in tiles.columns if PARTITION.fullmatch(str(name))]
    if not names:
        there = list(map(str, tiles.columns))
        raise ConfigError(
            f"expected a column split, got {listed(there)}; run wsi-pipeline split on a run"
            f"{meant('split', there) or _rename('split')}"
        )
    return names


def _rename(wanted: str) -> str:
    return f"; rename yours, in pandas: table.rename(columns={{'yours': {wanted!r}}})"


def parts_of(tiles: pd.DataFrame, name: str) -> Codes:
    """Return the parts of such a column, folds called so.

    A tile that has a fold and no part is in the part ``folds``: other programs say ``test`` in one column
    and number the rest in another.
    """
    codes = Codes.of(tiles[name])
    if name.startswith("fold"):
        words = tuple(f"fold {word.removesuffix('.0')}" for word in codes.words)
        return Codes(of_row=codes.of_row, words=words)
    fold = name.replace("split", "fold")
    in_folds = np.zeros(len(tiles), np.bool_) if fold not in tiles else tiles[fold].notna()
    rest = np.asarray(in_folds, np.bool_) & (codes.of_row < 0)
    if not rest.any():
        return codes
    of_row = np.where(rest, len(codes.words), codes.of_row)
    return Codes(of_row=of_row, words=(*codes.words, "folds"))


def _files(
    tiles: pd.DataFrame, slides: pd.DataFrame | None, slide: Codes | None
) -> NDArray[np.int64] | None:
    """Return a number per slide that byte-equal ones have in common."""
    given = slides if slides is not None else tiles
    if slide is None or not {"slide_id", *SOURCE} <= set(given.columns):
        return None
    known = given.drop_duplicates("slide_id")
    files = dict(zip(known["slide_id"].map(str), same_file(known), strict=True))
    codes, _ = pd.factorize(pd.Series([files.get(word) for word in slide.words], dtype=object))
    return np.asarray(codes, dtype=np.int64)


def same_file(slides: pd.DataFrame) -> "pd.Series[str]":
    """Return a word per slide that byte-equal ones have in common; null where bytes are not known."""
    names = [*SOURCE, *(["fingerprint"] if "fingerprint" in slides else [])]
    if not set(SOURCE) <= set(slides.columns):
        return pd.Series([None] * len(slides), index=slides.index, dtype=object)
    words = slides[names].astype(str).agg("/".join, axis=1).astype(object)
    return words.where(slides[list(SOURCE)].notna().all(axis=1), None)


def found_with(entity: NDArray[np.int64], codes: Codes) -> dict[int, set[str]]:
    """Return the words that any row of each thing has."""
    known = (entity >= 0) & (codes.of_row >= 0)
    count = max(len(codes.words), 1)
    found: dict[int, set[str]] = {}
    for pair in np.unique(entity[known] * count + codes.of_row[known]).tolist():
        found.setdefault(pair // count, set()).add(codes.words[pair % count])
    return found


def in_several(entity: NDArray[np.int64], parts: Codes) -> dict[int, dict[str, int]]:
    """Return rows per part of everything that is in several parts."""
    known = (entity >= 0) & (parts.of_row >= 0)
    count = max(len(parts.words), 1)
    bins = np.bincount(entity[known] * count + parts.of_row[known])
    things, numbers = np.divmod(np.flatnonzero(bins), count)
    inside = np.isin(things, np.flatnonzero(np.bincount(things) > 1))
    found: dict[int, dict[str, int]] = {}
    for thing, number in zip(things[inside].tolist(), numbers[inside].tolist(), strict=True):
        found.setdefault(thing, {})[parts.words[number]] = int(bins[thing * count + number])
    return found
