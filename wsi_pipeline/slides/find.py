"""From what the user names (files, folders, globs, a table) to the slides of a run."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.parts import dicom_series, parts_of
from wsi_pipeline.remote import answering, check_reachable, filesystem, is_remote, is_url, place
from wsi_pipeline.slides.names import slide_ids
from wsi_pipeline.slides.table import TABLE_SUFFIXES, read_slide_table

_NAMES_ITS_PARTS = {".vms", ".vmu"}
_SCANNERS = {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".dcm", ".czi", ".qptiff"}
SLIDE_SUFFIXES = frozenset(
    _SCANNERS | _NAMES_ITS_PARTS | {".tif", ".tiff", ".png", ".jpg", ".jpeg"}
)
"""Names that a folder is searched for; what a file really is, its content tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a file that was found is not opened: it is no slide, or its name cannot be used."""

    status: Literal["skipped", "failed"]
    reason: str


_NO_LEVEL = Refusal(
    status="skipped",
    reason="a DICOM series of labels or overviews only; name the file itself to have it tried",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideSource:
    """One slide of a run, before it is opened."""

    slide_id: str
    """Unique in the run; the name of its files."""
    path: str
    """Absolute, or a URL."""
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
    called_by: str | None = None
    """The path that names it, where that is not its own."""


def find_slides(
    arguments: Sequence[str] | str, *, known: Mapping[str, str] | None = None
) -> tuple[SlideSource, ...]:
    """Return the slides that files, folders, globs and tables name, ordered by slide_id.

    Parameters
    ----------
    arguments
        What the user named. Folders are searched with their subfolders; of a slide of several files one
        is taken, of a DICOM series the finest level.
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
        if is_url(argument):
            check_reachable(place(argument))
        with answering(place(argument)):
            candidates = [_with_usable_name(each) for each in _candidates(argument)]
        for candidate in candidates:
            before = unique.get(candidate.path, candidate)
            unique[candidate.path] = _said_more(before, candidate)
    unique = _one_per_series(_without_parts(unique))
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
    called_by = {each.path: each.called_by for each in slides if each.called_by is not None}
    given = {each.path: each.slide_id for each in slides}
    ids = slide_ids(given, known or {}, called_by=called_by)
    rest = {each.path: each.slide_id for each in others}
    ids |= slide_ids(rest, known or {}, taken=frozenset(ids.values()))
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
    path = place(argument)
    if path.is_dir() and path.suffix.lower() not in SLIDE_SUFFIXES:
        yield from _in_folder(path)
    elif path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        for row in read_slide_table(path):
            yield _Candidate(
                path=_absolute(row.path),
                slide_id=row.slide_id,
                mpp=row.mpp,
                columns=row.columns,
                named=Named.IN_TABLE,
            )
    elif path.exists() if is_remote(path) else os.path.lexists(path):
        yield _Candidate(path=_absolute(path), named=Named.ITSELF)
    elif matches := _matches(argument, path):
        for match in matches:
            if is_url(match) and match.endswith(tuple(SLIDE_SUFFIXES)):
                yield _Candidate(path=match, named=Named.ITSELF)  # without asking for each of them
            else:
                yield from _candidates(match)
    else:
        raise ConfigError(
            f"{argument}: no such file, folder or match; check the spelling, or quote a glob"
        )


def _matches(pattern: str, path: Path) -> list[str]:
    if not is_remote(path):
        return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  the user's own pattern
    system, key = filesystem(path)
    scheme = pattern.partition("://")[0]
    return sorted(f"{scheme}://{name.lstrip('/')}" for name in system.glob(key))


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


def _without_parts(found: Mapping[str, _Candidate]) -> dict[str, _Candidate]:
    """Leave out pictures that a VMS or VMU names and what lies in the folder of an MRXS."""
    parts: set[str] = set()
    folders: set[str] = set()
    for path in map(place, found):
        suffix = path.suffix.lower()
        if suffix in _NAMES_ITS_PARTS:
            with suppress(OSError):  # whoever opens it says what is wrong with it
                parts.update(map(_absolute, parts_of(path)[1:]))
        elif suffix == ".mrxs":
            folders.add(str(path.with_suffix("")))
    return {
        path: each
        for path, each in found.items()
        if each.named == Named.IN_TABLE or not (path in parts or os.path.dirname(path) in folders)  # noqa: PTH120  a string's
    }


def _one_per_series(found: Mapping[str, _Candidate]) -> dict[str, _Candidate]:
    """Keep one file of each whole-slide DICOM series: what the user said most of, or the finest level."""
    kept = dict(found)
    many: list[str] = []
    files = (place(path) for path, each in found.items() if each.refused is None)
    for series in dicom_series(path for path in files if path.suffix.lower() == ".dcm"):
        members = [found[str(file.path)] for file in series]
        most = max(member.named for member in members)
        chosen = [member for member in members if member.named == most]
        if most != Named.IN_TABLE:
            del chosen[1:]
        for member in members:
            if member not in chosen:
                del kept[member.path]
        if most == Named.BY_FOLDER and not series[0].is_level:
            kept[chosen[0].path] = replace(chosen[0], refused=_NO_LEVEL)
        elif len(members) > 1 and most != Named.IN_TABLE:
            many.append(chosen[0].path)
    return kept | _called_by_folders(kept, many)


def _called_by_folders(found: Mapping[str, _Candidate], many: list[str]) -> dict[str, _Candidate]:
    """Return slides of several files named for their folder, where that holds no other slide."""
    slides = Counter(place(path).parent for path, each in found.items() if each.refused is None)
    return {
        path: replace(found[path], called_by=f"{place(path).parent}.dcm")
        for path in many
        if slides[place(path).parent] == 1
    }


def _in_folder(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[_Candidate]:
    """Yield slides below a folder, and other files with the reason why they are none.

    ``above`` are the folders on the way here: a link back to one of them is not followed.
    """
    here = folder if is_remote(folder) else folder.resolve()
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


def _absolute(path: Path) -> str:
    if is_remote(path):
        return str(path)
    return os.path.abspath(path)  # noqa: PTH100  keeps the name of a link, which resolve() would lose
