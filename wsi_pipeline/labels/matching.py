"""Which annotation belongs to which slide, by name; two that could are refused, none is guessed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from wsi_pipeline.labels.masks import MASK_ENDINGS

TEXT_ENDINGS = (".geojson", ".geojson.gz", ".geojson.zip", ".zip", ".json", ".json.gz", ".xml")
"""Files of shapes."""

ENDINGS = (*TEXT_ENDINGS, *MASK_ENDINGS)
"""What an annotation's name can end with."""

_MARKS = (
    "_mask",
    "-mask",
    "_labels",
    "-labels",
)  # what programs put between a slide's name and the ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """How a slide is called."""

    slide_id: str
    stem: str
    """Name of its file without the ending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Files of a folder by slide."""

    chosen: Mapping[str, str]
    """slide_id to the name of its file."""
    refused: Mapping[str, str]
    """slide_id to why none of its files is taken."""
    strays: tuple[str, ...]
    """Files that are annotations by their ending and belong to no slide."""


def ending_of(name: str) -> str | None:
    """Return the ending by which a file is an annotation, in small letters, or None.

    >>> ending_of("a.GeoJSON.gz"), ending_of("a.b.tif"), ending_of("a.jpg")
    ('.geojson.gz', '.tif', None)
    """
    fitting = [ending for ending in ENDINGS if name.lower().endswith(ending)]
    longest = max(fitting, key=len, default=None)
    return longest if longest is not None and len(name) > len(longest) else None


def stem_of(path: str) -> str:
    """Return the name of a slide's file without its ending.

    >>> stem_of("/data/a.ome.tif"), stem_of("/data/case.1.svs")
    ('a', 'case.1')
    """
    return PurePath(path).stem.removesuffix(".ome")


def matched(slides: Sequence[Named], files: Iterable[str]) -> Matches:
    """Return which file of a folder belongs to which slide.

    A file is a slide's that bears its slide_id, with or without ``_mask`` or ``-labels`` and the like. Where
    there is none, one that bears the name of the slide's file will do, unless another slide may claim it.
    """
    by_name = _by_name(files)
    ids = {slide.slide_id for slide in slides}
    stems: dict[str, list[str]] = {}
    for slide in slides:
        stems.setdefault(slide.stem, []).append(slide.slide_id)
    chosen: dict[str, str] = {}
    refused: dict[str, str] = {}
    claimed: set[str] = set()
    for slide in slides:
        own = _files_of(slide.slide_id, by_name, ids)
        if not own and slide.stem not in ids:
            own = _files_of(slide.stem, by_name, ids)
            if own and len(sharing := stems[slide.stem]) > 1:
                refused[slide.slide_id] = (
                    f"annotation: {own[0]} may be that of {' or '.join(sorted(sharing))}, whose files are "
                    "called alike; name it by the slide_id, or fill the slide table's column annotation"
                )
        claimed.update(own)
        if slide.slide_id in refused or not own:
            continue
        if len(own) > 1:
            refused[slide.slide_id] = (
                f"annotation: expected one file, got {' and '.join(own)}; keep one of them, or name it in "
                "the slide table's column annotation"
            )
        else:
            chosen[slide.slide_id] = own[0]
    strays = tuple(
        sorted(name for names in by_name.values() for name in names if name not in claimed)
    )
    return Matches(chosen=chosen, refused=refused, strays=strays)


def _by_name(files: Iterable[str]) -> dict[str, list[str]]:
    """Return files by their name without the ending."""
    found: dict[str, list[str]] = {}
    for name in sorted(files):
        if not name.startswith(".") and (ending := ending_of(name)) is not None:
            found.setdefault(name[: -len(ending)], []).append(name)
    return found


def _files_of(name: str, by_name: Mapping[str, Sequence[str]], ids: set[str]) -> list[str]:
    """Return the files that bear a name, but for those that bear another slide's."""
    names = [name + mark for mark in _MARKS if name + mark not in ids]
    return sorted(file for each in (name, *names) for file in by_name.get(each, ()))
