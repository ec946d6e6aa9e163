"""From what the user names (files, folders, globs, a table) to the slides of a run."""

import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.schema import SLIDE_COLUMNS
from wsi_pipeline.slides.reader import PLAUSIBLE_MPP

if TYPE_CHECKING:
    import pandas as pd

SLIDE_SUFFIXES = frozenset(
    [
        ".svs",
        ".tif",
        ".tiff",
        ".ndpi",
        ".mrxs",
        ".scn",
        ".bif",
        ".vms",
        ".vmu",
        ".svslide",
        ".dcm",
        ".czi",
        ".png",
        ".jpg",
        ".jpeg",
    ]
)
"""Names that a folder is searched for; what a file really is, its content tells."""

TABLE_SUFFIXES = frozenset({".csv", ".parquet"})
_LONGEST_ID_BYTES = 200  # file systems take 255, with what comes before and after it
_MEASURED = frozenset(column.name for column in SLIDE_COLUMNS) - {
    "slide_id",
    "path",
    "scanner",
    "mpp",
}
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
_TEXT_COLUMNS = (
    "path",
    "slide_id",
    "patient_id",
    "scanner",
    "centre",
    "annotation",
)  # "007" stays "007"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a file that was found is not opened: it is no slide, or its name cannot be used."""

    status: Literal["skipped", "failed"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideSource:
    """One slide of a run, before it is opened."""

    slide_id: str
    """Unique in the run; the name of its files."""
    path: str
    """Absolute."""
    mpp: float | None = None
    """µm per level-0 pixel as the user's table states it."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The other columns of the user's table."""
    refused: Refusal | None = None
    """Why it is not even opened."""


class Named(IntEnum):
    """How the user came to name a file: who says more of it comes later."""

    BY_FOLDER = 0
    ITSELF = 1
    IN_TABLE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    path: str
    named: Named = Named.BY_FOLDER
    slide_id: str | None = None
    mpp: float | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    refused: Refusal | None = None


def find_slides(
    arguments: Sequence[str] | str, *, known: Mapping[str, str] | None = None
) -> tuple[SlideSource, ...]:
    """Return the slides that files, folders, globs and tables name, ordered by slide_id.

    Parameters
    ----------
    arguments
        What the user named. Folders are searched with their subfolders.
    known
        Path to slide_id of an earlier run on the same run directory: those names stay.

    Raises
    ------
    ConfigError
        An argument names nothing, or a table cannot be used.
    """
    arguments = [arguments] if isinstance(arguments, str) else [str(each) for each in arguments]
    unique: dict[str, _Candidate] = {}
    for argument in arguments:
        for candidate in map(_with_usable_name, _candidates(argument)):
            before = unique.get(candidate.path, candidate)
            unique[candidate.path] = _said_more(before, candidate)
    if not unique:
        raise ConfigError(
            f"no files in {', '.join(arguments)}; name slides, folders, globs or a table"
        )
    slides = [each for each in unique.values() if each.refused is None]
    others = [each for each in unique.values() if each.refused is not None]
    if not slides:
        raise ConfigError(
            f"no slides in {', '.join(arguments)}; "
            f"looked for files ending in {' '.join(sorted(SLIDE_SUFFIXES))}"
        )
    ids = _slide_ids(slides, known or {})
    ids |= _slide_ids(others, known or {}, taken=frozenset(ids.values()))
    sources = [
        SlideSource(
            slide_id=ids[each.path],
            path=each.path,
            mpp=each.mpp,
            columns=each.columns,
            refused=each.refused,
        )
        for each in unique.values()
    ]
    return tuple(sorted(sources, key=lambda source: source.slide_id))


def share_of(sources: Sequence[SlideSource], *, part: int, parts: int) -> tuple[SlideSource, ...]:
    """Return every ``parts``-th slide in the order of their paths; number ``part`` is where to begin."""
    by_path = sorted(sources, key=lambda source: source.path)
    return tuple(sorted(by_path[part - 1 :: parts], key=lambda source: source.slide_id))


def _candidates(argument: str) -> Iterator[_Candidate]:
    path = Path(argument)
    if path.is_dir() and path.suffix.lower() not in SLIDE_SUFFIXES:
        yield from _in_folder(path)
    elif path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        yield from _in_table(path)
    elif os.path.lexists(path):
        yield _Candidate(path=_absolute(path), named=Named.ITSELF)
    elif matches := sorted(glob.glob(argument, recursive=True)):  # noqa: PTH207  the user's own pattern
        for match in matches:
            yield from _candidates(match)
    else:
        raise ConfigError(
            f"{argument}: no such file, folder or match; check the spelling, or quote a glob"
        )


def _said_more(before: _Candidate, after: _Candidate) -> _Candidate:
    """Return what says more of a file that is named twice; two tables have to agree."""
    if before.named == after.named == Named.IN_TABLE and before != after:
        raise ConfigError(
            f"{after.path}: the slide table says two things of it; keep one row per slide"
        )
    return after if after.named > before.named else before


def _with_usable_name(candidate: _Candidate) -> _Candidate:
    """Refuse a name that no table can hold."""
    readable = candidate.path.encode("utf-8", "replace").decode()
    if readable == candidate.path:
        return candidate
    reason = "its name is not UTF-8, as old Windows shares write them; rename the file"
    return replace(candidate, path=readable, refused=Refusal(status="failed", reason=reason))


def _in_folder(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[_Candidate]:
    """Yield slides below a folder, and other files with the reason why they are none.

    ``above`` are the folders on the way here: a link back to one of them is not followed.
    """
    here = folder.resolve()
    if here in above:
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        reason = f"a folder that cannot be searched ({error.strerror}); check its permissions"
        yield _Candidate(path=_absolute(folder), refused=Refusal(status="failed", reason=reason))
        return
    with_data_folder = {entry.stem for entry in entries if entry.suffix.lower() == ".mrxs"}
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.suffix.lower() in SLIDE_SUFFIXES:
            yield _Candidate(path=_absolute(entry))
        elif not entry.is_dir():
            yield _Candidate(path=_absolute(entry), refused=_not_a_slide(entry))
        elif entry.name not in with_data_folder and not _is_run_directory(entry):
            yield from _in_folder(entry, above | {here})


def _is_run_directory(folder: Path) -> bool:
    """Whether a folder is the output of a run, whose overlays are pictures of slides and no slides."""
    return (folder / "run.json").exists() and (folder / ".state").exists()


def _not_a_slide(path: Path) -> Refusal:
    ending = f"files ending in {path.suffix}" if path.suffix else "files without an ending"
    reason = f"not taken for a slide: {ending} are left out of folders; name the file itself to have it tried"
    return Refusal(status="skipped", reason=reason)


def _in_table(path: Path) -> Iterator[_Candidate]:
    rows = _table_rows(path)
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        named = row.pop("path", None)
        if not isinstance(named, str) or not named.strip():
            raise ConfigError(f"{where}: expected a path, got {named!r}")
        slide_id = row.pop("slide_id", None)
        yield _Candidate(
            path=_absolute(path.parent / named),
            slide_id=None if slide_id is None else _checked_id(str(slide_id), where),
            mpp=_checked_mpp(row.pop("mpp", None), where),
            columns=row,
            named=Named.IN_TABLE,
        )


def _table_rows(path: Path) -> list[dict[str, Any]]:
    """Return a table's rows; missing values are None."""
    import pandas as pd  # noqa: PLC0415  only tables need it, and it takes half a second to import

    try:
        if path.suffix.lower() == ".csv":
            # Nothing is taken for a missing value but an empty cell: "NA" may be a centre's name.
            table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
            table = table.apply(_as_numbers)
        else:
            table = pd.read_parquet(path, dtype_backend="numpy_nullable")
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


def _checked_id(slide_id: str, where: str) -> str:
    usable = slide_id and not set("/\\\0") & set(slide_id) and not slide_id.startswith((".", "_"))
    if not usable or len(slide_id.encode()) > _LONGEST_ID_BYTES:
        raise ConfigError(
            f"{where}: slide_id {slide_id!r} cannot name a file; leave out / and \\, . or _ at its start, "
            f"and keep to {_LONGEST_ID_BYTES} bytes"
        )
    return slide_id


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


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  keeps the name of a link, which resolve() would lose


def _slide_ids(
    candidates: Sequence[_Candidate],
    known: Mapping[str, str],
    *,
    taken: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """Return path to slide_id: the table's, the earlier run's, or the shortest name that is unique.

    A name is the file's stem; where two files share it, folders are put before it, and where they
    share the folder too, the ending is kept. Which names are shared does not depend on what an
    earlier run knows, so that every part and every re-run gives the same ones.
    """
    given = {each.path: each.slide_id for each in candidates if each.slide_id is not None}
    _refuse_renaming(given, known)
    repeated = [name for name, count in Counter(given.values()).items() if count > 1]
    if repeated:
        raise ConfigError(
            f"slide_id: expected one per slide, got {', '.join(sorted(repeated))} more than once"
        )
    others = [each.path for each in candidates if each.path not in given]
    named = _unique_names(others, taken=taken | set(given.values()))
    fixed = {path: known[path] for path in others if path in known}
    owners = {*known.values(), *fixed.values()}
    moved = [path for path in others if path not in fixed and named[path] in owners]
    named |= fixed
    kept = (
        taken | set(given.values()) | owners | {named[path] for path in others if path not in moved}
    )
    return {**given, **named, **_unique_names(moved, taken=kept)}


def _unique_names(paths: Sequence[str], *, taken: Set[str]) -> dict[str, str]:
    """Return the shortest name of each path that no other one has and that is not taken."""
    names: dict[str, str] = {}
    left, depth = list(paths), 0
    while left:
        tried = {path: _name(path, depth) for path in left}
        count = Counter(tried.values())
        settled = {
            path: name
            for path, name in tried.items()
            if count[name] == 1 and name not in taken and name not in names.values()
        }
        names |= settled
        left = [path for path in left if path not in settled]
        depth += 1
    return names


def _refuse_renaming(ids: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Refuse a table that gives a slide of the run another name, or its name to another slide."""
    owners = {slide_id: path for path, slide_id in known.items()}
    for path, slide_id in ids.items():
        owner = owners.get(slide_id, path)
        if owner != path:
            raise ConfigError(
                f"slide_id: {slide_id!r} is {owner} in this run, and now {path}; choose another"
            )
        if known.get(path, slide_id) != slide_id:
            raise ConfigError(
                f"slide_id: {path} is {known[path]!r} in this run, and now {slide_id!r}; keep its name, "
                "or choose another run directory with -o"
            )


def _name(path: str, depth: int) -> str:
    """Return the stem with ``depth`` things around it that tell it apart, at last a digest of the path.

    >>> [_name("/data/north/a.svs", depth) for depth in (0, 1, 2, 3)]
    ['a', 'north_a', 'north_a.svs', 'data_north_a.svs']
    """
    parts = [part for part in Path(path).parts if part != "/"]
    stem = Path(path).stem.removesuffix(".ome").lstrip("._") or "slide"
    names = [
        stem,
        "_".join([*parts[-2:-1], stem]),
        *("_".join(parts[-n:]) for n in range(2, len(parts) + 1)),
    ]
    if depth < len(names) and len(names[depth].encode()) <= _LONGEST_ID_BYTES:
        return names[depth].replace("\\", "_").lstrip("._") or stem
    return f"{_cut(stem).replace(chr(92), '_')}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"


def _cut(stem: str) -> str:
    """Return a name short enough to be given an ending and to be put into a temporary one."""
    return stem.encode()[: _LONGEST_ID_BYTES - 9].decode(errors="ignore")
