"""What the report knows of a run's slides: slides.parquet, and sums over the tiles of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wsi_pipeline.geometry import Box
from wsi_pipeline.report.parts import Cell, Field, Table
from wsi_pipeline.schema import SLIDE_COLUMNS
from wsi_pipeline.stages.report_tiles import RunTiles

_SHOWN = (
    ("status", Field(label="status")),
    ("patient_id", Field(label="patient")),
    ("scanner", Field(label="scanner")),
    ("centre", Field(label="centre")),
    ("tiles", Field(label="tiles", kind="number")),
    ("tiles_unreadable", Field(label="unreadable", kind="number")),
    ("tissue_share", Field(label="tissue of slide", kind="share")),
)
_SHOWN_LAST = (
    ("mpp", Field(label="µm/px", kind="number", digits=3)),
    ("format", Field(label="format")),
    ("stored_bytes", Field(label="stored", kind="bytes")),
    ("size_bytes", Field(label="file", kind="bytes")),
    ("seconds", Field(label="seconds", kind="number", digits=1)),
)
_OWN_IDENTITY = ("slide_id", "patient_id", "centre", "mpp", "path", "annotation")
_TOO_LONG = 120  # letters of a cell: more belong into slides.parquet


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Rows of slides.parquet, in order of slide_id."""

    rows: tuple[Mapping[str, Any], ...] = field(repr=False)

    def with_status(self, status: str) -> list[Mapping[str, Any]]:
        """Return the rows of slides that ended so."""
        return [row for row in self.rows if row["status"] == status]

    def distinct(self, name: str) -> list[str]:
        """Return every value of a column, in order, as text."""
        return sorted({str(row[name]) for row in self.rows if row.get(name) is not None})

    def by_slide(self, name: str) -> dict[str, str]:
        """Return a column's value of each slide that has one, as text."""
        return {
            str(row["slide_id"]): str(row[name]) for row in self.rows if row.get(name) is not None
        }

    def total(self, name: str) -> float:
        """Return a column's sum."""
        return float(sum(row.get(name) or 0 for row in self.rows))

    def frames(self) -> dict[str, Box]:
        """Return the scanned part of every slide of which it is known, in level-0 pixels."""
        return {
            str(row["slide_id"]): Box(
                x=row["bounds_x"],
                y=row["bounds_y"],
                width=row["bounds_width"],
                height=row["bounds_height"],
            )
            for row in self.rows
            if row.get("bounds_width") and row.get("bounds_height")
        }

    def abouts(self) -> dict[str, str]:
        """Return what is known of each slide in one line."""
        return {str(row["slide_id"]): _about(row) for row in self.rows}


def _about(row: Mapping[str, Any]) -> str:
    known = [row.get("patient_id"), row.get("scanner"), row.get("centre")]
    tiles = f"{row.get('tiles') or 0} tiles"
    return " · ".join([*(str(each) for each in known if each is not None), tiles])


def cohort_table(cohort: Cohort, tiles: RunTiles | None) -> Table:
    """Return the table of slides: what each is, and what its tiles are."""
    sums = {} if tiles is None else _sums(tiles)
    fields = [Field(label="slide"), *(each for _, each in _SHOWN)]
    fields += [each for each, _ in sums.values()]
    fields += [each for _, each in _SHOWN_LAST]
    own = own_columns(cohort)
    fields += [Field(label=name) for name in own]
    fields.append(Field(label="reason"))
    rows = []
    for row in cohort.rows:
        slide_id = str(row["slide_id"])
        cells: list[Cell] = [slide_id, *(_plain(row.get(name)) for name, _ in _SHOWN)]
        cells += [values.get(slide_id) for _, values in sums.values()]
        cells += [_plain(row.get(name)) for name, _ in _SHOWN_LAST]
        cells += [_plain(row.get(name)) for name in own]
        cells.append(_plain(row.get("reason")))
        rows.append(tuple(cells))
    kept = _with_values(fields, rows)
    return Table(
        name="cohort",
        caption="One row per slide. Further columns of the slide table stand before the reason.",
        fields=tuple(fields[at] for at in kept),
        rows=[tuple(row[at] for at in kept) for row in rows],
    )


def own_columns(cohort: Cohort) -> list[str]:
    """Return the columns of the user's slide table that slides.parquet does not have by itself."""
    measured = {column.name for column in SLIDE_COLUMNS} | set(_OWN_IDENTITY)
    return sorted({name for row in cohort.rows for name in row} - measured)


def _with_values(fields: list[Field], rows: list[tuple[Cell, ...]]) -> list[int]:
    """Return the columns that say anything of any slide."""
    return [
        at
        for at in range(len(fields))
        if at == 0 or any(row[at] is not None and row[at] != "" for row in rows)
    ]


def _sums(tiles: RunTiles) -> dict[str, tuple[Field, dict[str, Cell]]]:
    """Return further columns of the table of slides, each with its value by slide."""
    sharp = tiles.numbers("laplacian_var")
    medians: dict[str, Cell] = {}
    for slide_id, rows in tiles.slides():
        values = sharp[rows]
        values = values[~np.isnan(values)]
        medians[slide_id] = float(np.median(values)) if values.size else None
    sums = {"sharpness": (Field(label="median sharpness", kind="number", digits=1), medians)}
    if tiles.has("outlier"):
        counts = tiles.sums(tiles.holds("outlier", "yes"))
        outliers = Field(label="outliers", kind="number")
        sums["outliers"] = outliers, _by_slide(tiles, counts.tolist())
    for name in ("label", "split"):
        if tiles.has(name):
            sums[name] = Field(label=name), _commonest(tiles, name)
    return sums


def _by_slide(tiles: RunTiles, values: list[Cell]) -> dict[str, Cell]:
    return dict(zip(tiles.slide_ids, values, strict=True))


def _commonest(tiles: RunTiles, name: str) -> dict[str, Cell]:
    """Return each slide's only word of a column, or the words that it has, the commonest first."""
    words, at = tiles.words(name)
    said: dict[str, Cell] = {}
    for slide_id, rows in tiles.slides():
        own = at[rows]
        counts = np.bincount(own[own >= 0], minlength=len(words))
        order = [int(place) for place in np.argsort(-counts, kind="stable") if counts[place]]
        said[slide_id] = ", ".join(words[place] for place in order[:3]) or None
    return said


def _plain(value: object) -> Cell:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return text if len(text) <= _TOO_LONG else text[:_TOO_LONG] + "…"
