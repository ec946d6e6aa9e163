"""Which annotation every slide of a run is labelled from: by its row of the slide table, else by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.annotated import is_mask
from wsi_pipeline.labels.matching import ENDINGS, Matches, Named, matched, stem_of
from wsi_pipeline.labels.rules import LabelConfig
from wsi_pipeline.remote import absolute, check_reachable, is_remote, is_url, place
from wsi_pipeline.stages.run_directory import SlideRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Annotations by slide_id."""

    paths: Mapping[str, Path]
    refused: Mapping[str, str]
    """Why a slide gets none."""
    lists: Mapping[str, tuple[str, ...]]
    """What has no partner: annotations without a slide, slides without an annotation or a value."""


def sources_of(records: Sequence[SlideRecord], config: LabelConfig) -> Sources:
    """Return where each slide's annotation lies.

    Raises
    ------
    ConfigError
        The folder or the column does not exist, there is nothing to label from, or masks are found and
        nothing says what their values mean.
    """
    _check_column(records, config)
    folder = None if config.annotations is None else absolute(config.annotations)
    paths: dict[str, Path] = {}
    refused: dict[str, str] = {}
    for record in records:
        if named := record.values.get("annotation"):
            path = _named_path(str(named), folder)
            if path.is_file():
                paths[record.slide_id] = path
            else:
                refused[record.slide_id] = (
                    f"annotation: the slide table names {named}, and there is no such file"
                )
    slides = [
        Named(slide_id=record.slide_id, stem=stem_of(record.path))
        for record in records
        if not record.values.get("annotation")
    ]
    by_name = Matches(chosen={}, refused={}, strays=())
    if folder is not None:
        by_name = matched(slides, _files(folder, records, taken=set(paths.values())))
        paths |= {slide_id: folder / name for slide_id, name in by_name.chosen.items()}
        refused |= by_name.refused
    if (
        not paths
        and not refused
        and config.slide_label is None
        and config.no_annotation == "unknown"
    ):
        raise ConfigError(_nothing(config, folder))
    _check_masks(paths, config)
    done = {record.slide_id for record in records if record.status == "done"}
    without = sorted(done - paths.keys() - refused.keys())
    lists = {
        "annotations without a slide in this run": by_name.strays,
        "annotations of slides that are not done": tuple(
            f"{path.name} ({slide_id})"
            for slide_id, path in sorted(paths.items())
            if slide_id not in done
        ),
        "slides without an annotation": tuple(without) if paths or refused else (),
        f"slides without a value in {config.slide_label}": _without_value(records, done, config),
    }
    return Sources(
        paths=paths, refused=refused, lists={what: names for what, names in lists.items() if names}
    )


def _check_column(records: Sequence[SlideRecord], config: LabelConfig) -> None:
    known = {name for record in records for name in record.values}
    if config.slide_label is not None and config.slide_label not in known:
        raise ConfigError(
            f"slide_label: expected a column of the slide table, got {config.slide_label!r}; known are "
            f"{', '.join(sorted(known))}"
        )


def _named_path(named: str, folder: Path | None) -> Path:
    """Return where a row's annotation lies: as it says, or in the folder of annotations."""
    if is_url(named) or named.startswith("/"):
        return place(named)
    return absolute(named) if folder is None else folder / named


def _files(folder: Path, records: Sequence[SlideRecord], *, taken: set[Path]) -> list[str]:
    """Return the names in a folder that could be annotations: neither slides nor named in the table."""
    if is_remote(folder):
        check_reachable(folder)
    if not folder.is_dir():
        raise ConfigError(f"annotations: expected a folder, got {folder}; check the spelling")
    others = {record.path for record in records} | {str(path) for path in taken}
    return [path.name for path in folder.iterdir() if str(path) not in others and path.is_file()]


def _nothing(config: LabelConfig, folder: Path | None) -> str:
    if folder is None:
        return (
            "nothing to label from: give --annotations DIR, a column annotation in the slide table, or "
            "--slide-label COLUMN"
        )
    return (
        f"annotations: nothing in {config.annotations} bears the name of a slide of this run; looked for "
        f"SLIDE_ID and the names of slide files with the endings {' '.join(ENDINGS)}"
    )


def _check_masks(paths: Mapping[str, Path], config: LabelConfig) -> None:
    masks = sorted(path.name for path in paths.values() if is_mask(path.name))
    if masks and not config.mask_values:
        raise ConfigError(
            f"mask_values: {len(masks)} annotations are mask images ({', '.join(masks[:3])}), and nothing "
            "says what their values mean; give for example 'mask_values: {stroma: 1, cancer: 2}' in a "
            "file for --config"
        )


def _without_value(
    records: Sequence[SlideRecord], done: set[str], config: LabelConfig
) -> tuple[str, ...]:
    if config.slide_label is None:
        return ()
    empty = [each for each in records if each.values.get(config.slide_label) is None]
    return tuple(sorted(each.slide_id for each in empty if each.slide_id in done))
