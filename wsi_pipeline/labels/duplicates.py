"""What is there under several names: files, slides that look the same, tiles of the same bytes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsi_pipeline.labels.audited import (
    CONTENT,
    FOOTPRINT,
    AuditTable,
    Codes,
    Finding,
    Kind,
    found_with,
    in_several,
)
from wsi_pipeline.labels.similar import COLOURS, Likeness, Picture, alike, picture_of


def same_files(table: AuditTable, parts: Codes, where: str) -> Iterator[Finding]:
    """Yield files that are there under several names, in several parts or of several patients."""
    if table.file_of_slide is None:
        return
    compared = _Compared.of(table, parts, where)
    files, counts = np.unique(table.file_of_slide, return_counts=True)
    for file in files[(counts > 1) & (files >= 0)]:
        slides = np.flatnonzero(table.file_of_slide == file).tolist()
        yield from compared.findings(slides, "same_file", "are the same file, byte for byte")


def alike_slides(
    table: AuditTable, parts: Codes, where: str, pairs: list[Likeness]
) -> Iterator[Finding]:
    """Yield slides that look the same and are not known to be the same file."""
    compared = _Compared.of(table, parts, where)
    for each in pairs:
        slides = [each.one, each.other]
        files = [-1, -2] if table.file_of_slide is None else table.file_of_slide[slides].tolist()
        if files[0] == files[1] >= 0:
            continue
        what = f"look alike (correlation {each.correlation:.2f})"
        yield from compared.findings(slides, "alike", what)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """In which parts and of which patients slides are, by any of their tiles: some may be in no part."""

    where: str
    slides: tuple[str, ...]
    parts: Mapping[int, set[str]]
    """By the slide's number."""
    patients: Mapping[int, set[str]]
    """Likewise."""

    @classmethod
    def of(cls, table: AuditTable, parts: Codes, where: str) -> "_Compared":
        """Return what is known of all slides."""
        if table.slide is None:
            return cls(where=where, slides=(), parts={}, patients={})
        own = table.slide.of_row
        patients = {} if table.patient is None else found_with(own, table.patient)
        return cls(
            where=where, slides=table.slide.words, parts=found_with(own, parts), patients=patients
        )

    def findings(self, slides: list[int], kind: Kind, what: str) -> Iterator[Finding]:
        """Yield what is to be said of slides that are the same, if they are told apart anywhere."""
        names = tuple(self.slides[slide] for slide in slides)
        held = set[str]().union(*(self.parts.get(slide, ()) for slide in slides))
        inside = sorted(held, key=lambda part: (part != "train", part))
        patients = sorted(set[str]().union(*(self.patients.get(slide, ()) for slide in slides)))
        said = f"slides {' and '.join(names)} {what}"
        if len(inside) > 1:
            apart = f"and are in {' and '.join(inside)}; one patient_id keeps them together"
            text = f"{self.where}{said}, {apart}"
            yield Finding(kind=kind, names=names, text=text, is_leak=kind == "same_file")
        elif len(patients) > 1:
            text = f"{said}, and are said to be of patients {' and '.join(patients)}"
            yield Finding(kind=kind, names=names, text=text, is_leak=False)


def same_tiles(
    table: AuditTable, parts: Codes, where: str, content: NDArray[np.int64]
) -> Iterator[Finding]:
    """Yield that tiles of the same bytes are in several parts."""
    several = in_several(content, parts)
    if not several:
        return
    rows = np.flatnonzero(np.isin(content, list(several)) & (parts.of_row >= 0))
    example = rows[content[rows] == content[rows[0]]]
    slides = [] if table.slide is None else table.slide.of_row[example].tolist()
    named = tuple(sorted({table.slide.words[slide] for slide in slides})) if table.slide else ()
    such = f", such as in slide {' and '.join(named[:2])}" if named else ""
    text = f"{where}{len(rows)} tiles have the same bytes as a tile of another part{such}"
    yield Finding(kind="same_tile", names=named, text=text, is_leak=False)


def contents_of(table: AuditTable) -> NDArray[np.int64]:
    """Return a number per tile that others of the same bytes have too; -1 for those that are alone.

    Flat tiles, of nothing but background, look the same everywhere and have none.
    """
    content = np.full(len(table.tiles), -1, dtype=np.int64)
    if not table.has(*CONTENT):
        return content
    known = table.tiles[list(CONTENT)].notna().all(axis=1).to_numpy(dtype=np.bool_)
    known = known & (table.tiles["laplacian_var"].to_numpy(dtype=np.float64, na_value=0) > 0)
    keys = pd.util.hash_pandas_object(table.tiles.loc[known, list(CONTENT)], index=False)
    twice = keys.duplicated(keep=False).to_numpy(dtype=np.bool_)
    content[np.flatnonzero(known)[twice]] = pd.factorize(keys[twice])[0]
    return content


def pictures_of(table: AuditTable) -> dict[int, Picture]:
    """Return the picture of every slide that has tiles enough, by the slide's number."""
    if table.slide is None or not table.has(*FOOTPRINT, *COLOURS):
        return {}
    order = np.argsort(table.slide.of_row, kind="stable")
    boxes0 = table.boxes0[order].astype(np.int32)
    colours = table.tiles[list(COLOURS)].to_numpy(dtype=np.float32, na_value=np.nan)[order]
    numbers, first = np.unique(table.slide.of_row[order], return_index=True)
    ends = [*first[1:].tolist(), len(order)]
    made = {
        number: picture_of(boxes0[start:end], colours[start:end])
        for number, start, end in zip(numbers.tolist(), first.tolist(), ends, strict=True)
        if number >= 0
    }
    return {number: picture for number, picture in made.items() if picture is not None}


def pairs_alike(pictures: Mapping[int, Picture]) -> list[Likeness]:
    """Return every two slides that look the same, by their numbers."""
    numbers = list(pictures)
    return [
        Likeness(one=numbers[each.one], other=numbers[each.other], correlation=each.correlation)
        for each in alike(list(pictures.values()))
    ]
