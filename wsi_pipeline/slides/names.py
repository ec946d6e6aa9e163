"""What each slide of a run is called: its slide_id, which names its files and its array."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

from wsi_pipeline.errors import ConfigError

_LONGEST_ID_BYTES = 200  # file systems take 255, with what comes before and after it


def slide_ids(
    paths: Mapping[str, str | None],
    known: Mapping[str, str],
    *,
    taken: frozenset[str] = frozenset(),
    called_by: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return path to slide_id: the table's, the earlier run's, or the shortest name that is unique.

    A name is the file's stem; where two files share it, folders are put before it, and where they
    share the folder too, the ending is kept. Which names are shared does not depend on what an
    earlier run knows, so that every part and every re-run gives the same ones.

    Parameters
    ----------
    paths
        Absolute path to the slide_id that the user's table gives it, or None.
    known
        Path to slide_id of an earlier run.
    taken
        Names that other files have.
    called_by
        Path to the path that gives the name in its place: a slide of several files is its folder's.

    Raises
    ------
    ConfigError
        The table gives one name twice, or another one than the earlier run.
    """
    given = {path: slide_id for path, slide_id in paths.items() if slide_id is not None}
    _refuse_renaming(given, known)
    repeated = [name for name, count in Counter(given.values()).items() if count > 1]
    if repeated:
        raise ConfigError(
            f"slide_id: expected one per slide, got {', '.join(sorted(repeated))} more than once"
        )
    others = [path for path in paths if path not in given]
    shown = {path: path for path in others} | dict(called_by or {})
    named = _unique_names(others, shown, taken=taken | set(given.values()))
    fixed = {path: known[path] for path in others if path in known}
    owners = {*known.values(), *fixed.values()}
    moved = [path for path in others if path not in fixed and named[path] in owners]
    named |= fixed
    kept = (
        taken | set(given.values()) | owners | {named[path] for path in others if path not in moved}
    )
    return {**given, **named, **_unique_names(moved, shown, taken=kept)}


def _unique_names(
    paths: Sequence[str], shown: Mapping[str, str], *, taken: Set[str]
) -> dict[str, str]:
    """Return the shortest name of each path that no other one has and that is not taken."""
    names: dict[str, str] = {}
    left, depth = list(paths), 0
    while left:
        tried = {path: _name(shown[path], depth, path) for path in left}
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


def _name(shown: str, depth: int, path: str) -> str:
    """Return the stem with ``depth`` things around it that tell it apart, at last a digest of the path.

    >>> [_name("/data/north/a.svs", depth, "/data/north/a.svs") for depth in (0, 1, 2, 3)]
    ['a', 'north_a', 'north_a.svs', 'data_north_a.svs']
    """
    parts = [part for part in Path(shown).parts if part != "/"]
    stem = Path(shown).stem.removesuffix(".ome").lstrip("._") or "slide"
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


def checked_id(slide_id: str, where: str) -> str:
    """Return a slide_id of the user's if it can name a file, a Zarr array and a table that pandas finds.

    Raises
    ------
    ConfigError
        It cannot.
    """
    usable = slide_id and not set("/\\\0") & set(slide_id) and not slide_id.startswith((".", "_"))
    if not usable or len(slide_id.encode()) > _LONGEST_ID_BYTES:
        raise ConfigError(
            f"{where}: slide_id {slide_id!r} cannot name a file; leave out / and \\, . or _ at its start, "
            f"and keep to {_LONGEST_ID_BYTES} bytes"
        )
    return slide_id


def safe_names(texts: Iterable[str], *, signs: str = "-_.+=") -> dict[str, str]:
    """Return a file name for each text: no two the same, also where case is not told apart.

    Letters and digits of any script and ``signs`` are kept; everything else becomes ``_``. Which name a
    text gets depends on the set of them alone.

    >>> safe_names(["tumour", "a/b", "..", "a_b"])
    {'..': 'unnamed', 'a/b': 'a_b-c14cddc0', 'a_b': 'a_b-648fa9b3', 'tumour': 'tumour'}
    """
    names = {text: _safe(text, signs) for text in sorted(set(texts))}
    count = Counter(name.casefold() for name in names.values())
    return {
        text: name if count[name.casefold()] == 1 else _with_digest(name, text)
        for text, name in names.items()
    }


def _safe(text: str, signs: str) -> str:
    kept = "".join(sign if sign.isalnum() or sign in signs else "_" for sign in text)
    return _cut(kept.strip("._")) or "unnamed"


def _with_digest(name: str, text: str) -> str:
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
