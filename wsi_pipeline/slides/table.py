"""The user's table of slides: CSV or Parquet with a column ``path``."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.remote import absolute, is_url, place, seekable
from wsi_pipeline.schema import SLIDE_COLUMNS
from wsi_pipeline.slides.names import checked_id
from wsi_pipeline.slides.reader import PLAUSIBLE_MPP

if TYPE_CHECKING:
    import pandas as pd

TABLE_SUFFIXES = frozenset({".csv", ".parquet"})

_KNOWN = {"slide_id", "path", "scanner", "mpp"}
_MEASURED = frozenset(column.name for column in SLIDE_COLUMNS) - _KNOWN
_PLACES = ("annotation",)
_TEXT_COLUMNS = ("path", "slide_id", "patient_id", "scanner", "centre", "annotation")
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRow:
    """What a table says of one slide."""

    path: Path
    """Relative ones are completed by the table's folder; URLs stay what they are."""
    slide_id: str | None
    mpp: float | None
    """µm per level-0 pixel."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """All other columns."""


def read_slide_table(path: Path) -> Iterator[SlideRow]:
    """Yield the rows of a slide table.

    Raises
    ------
    ConfigError
        It is no table, lacks a column ``path``, or a value cannot be used; the message names the row.
    """
    for number, row in enumerate(_table_rows(path), start=1):
        where = f"{path}, row {number}"
        named = row.pop("path", None)
        if not isinstance(named, str) or not named.strip():
            raise ConfigError(f"{where}: expected a path, got {named!r}")
        slide_id = row.pop("slide_id", None)
        yield SlideRow(
            path=_place_of(named, beside=path),
            slide_id=None if slide_id is None else checked_id(str(slide_id), where),
            mpp=_checked_mpp(row.pop("mpp", None), where),
            columns={name: _column(name, value, beside=path) for name, value in row.items()},
        )


def _column(name: str, value: object, *, beside: Path) -> object:
    """Return a value as it is kept; the place of a file is completed, as the slide's own is."""
    if name not in _PLACES or value is None:
        return value
    return str(absolute(_place_of(str(value).strip(), beside=beside)))


def _place_of(named: str, *, beside: Path) -> Path:
    is_whole = is_url(named) or named.startswith("/")
    return place(named) if is_whole else beside.parent / named


def _table_rows(path: Path) -> list[dict[str, Any]]:
    """Return a table's rows; missing values are None."""
    import pandas as pd  # noqa: PLC0415  only tables need it, and it takes half a second to import

    try:
        if path.suffix.lower() == ".csv":
            # Nothing is taken for a missing value but an empty cell: "NA" may be a centre's name.
            table = pd.read_csv(seekable(path), dtype=str, keep_default_na=False, na_values=[""])
            table = table.apply(_as_numbers)
        else:
            table = pd.read_parquet(seekable(path), dtype_backend="numpy_nullable")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected a CSV or Parquet table, got {error}") from error
    if taken := sorted(_MEASURED & set(table.columns)):
        raise ConfigError(
            f"{path}: the columns {', '.join(taken)} are measured by the run; rename or drop them"
        )
    if "path" not in table.columns:
        names = ", ".join(map(str, table.columns))
        hint = "; separate the columns by commas" if ";" in names else ""
        raise ConfigError(f"{path}: expected a column 'path', got {names}{hint}")
    if table.empty:
        raise ConfigError(f"{path}: expected a row per slide, got none")
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(key): _told(str(key), value) for key, value in row.items()} for row in rows]


def _as_numbers(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a column of text as numbers where that loses nothing: 007 and 1e5 stay what they are."""
    texts = [text for text in column if isinstance(text, str)]
    if column.name in _TEXT_COLUMNS or not texts:
        return column
    for pattern, kind in ((_WHOLE, int), (_DECIMAL, float)):
        if all(pattern.fullmatch(text) for text in texts):
            return column.map(kind, na_action="ignore").astype(object)
    return column


def _told(column: str, value: object) -> object:
    """Return a value of the table; names and numbers of people and places are text."""
    if column not in _TEXT_COLUMNS or value is None:
        return value
    if isinstance(value, float) and value.is_integer():  # numbers beside empty cells
        return str(int(value))
    return str(value)


def _checked_mpp(value: object, where: str) -> float | None:
    if value is None:
        return None
    low, high = PLAUSIBLE_MPP
    try:
        mpp = float(str(value))
    except ValueError:
        mpp = -1.0
    if not low <= mpp <= high:
        raise ConfigError(f"{where}: mpp: expected {low:g} to {high:g} µm per pixel, got {value!r}")
    return mpp
