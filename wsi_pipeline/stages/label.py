"""Gives every tile the share of each class and one label by a stated rule: ``wsi-pipeline label``."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from wsi_pipeline.calls import Answer, Call, Pool, SerialPool, run_all
from wsi_pipeline.config import first_of
from wsi_pipeline.errors import ConfigError, PipelineError, SlideError
from wsi_pipeline.files import sample
from wsi_pipeline.geometry import Box, Boxes, Size
from wsi_pipeline.labels.annotated import Annotated, Finding, SlideFrame, annotated
from wsi_pipeline.labels.coverage import Shares
from wsi_pipeline.labels.rules import (
    MIXED,
    UNLABELLED,
    LabelConfig,
    chosen,
    in_order,
    refuse_misspelt,
)
from wsi_pipeline.provenance import library_version, library_versions
from wsi_pipeline.remote import absolute, check_reachable, is_remote
from wsi_pipeline.stages.columns import Columns, add_columns, finish_change, read_summary, words
from wsi_pipeline.stages.label_sources import Sources, sources_of
from wsi_pipeline.stages.lease import sole_use
from wsi_pipeline.stages.run_directory import (
    RunDirectory,
    SlideRecord,
    now,
    read_records,
    read_run_json,
)
from wsi_pipeline.stages.stage import Observer, SilentObserver
from wsi_pipeline.tables import read_table

STAGE = "label"
MOST_NAMED = 20
"""Names listed in a sentence; label.json has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelJob:
    """One slide and its annotation."""

    run: RunDirectory
    record: SlideRecord
    path: Path
    config: LabelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSlide:
    """What became of one slide."""

    slide_id: str
    tiles: int
    annotation: str | None
    """Where it was read; None where the slide has none."""
    sha256: str | None = None
    """Over size and samples of the annotation, as the fingerprints of slides are made."""
    reason: str | None = None
    """Why the annotation could not be used; None where all is well."""
    shapes: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    """Tiles by label."""
    findings: tuple[Finding, ...] = ()

    @property
    def unlabelled(self) -> int:
        """Tiles whose label is null."""
        return self.tiles - sum(self.labels.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOutcome:
    """What labelling a run came to."""

    classes: tuple[str, ...]
    slides: tuple[LabelledSlide, ...]
    lists: Mapping[str, tuple[str, ...]]
    """Names by what is to be known of them: annotations without a slide, slides without one, classes that
    no annotation holds."""

    @property
    def failed(self) -> tuple[LabelledSlide, ...]:
        """Slides whose annotation could not be used."""
        return tuple(slide for slide in self.slides if slide.reason is not None)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each of the lists."""
        return tuple(_sentence(what, names) for what, names in self.lists.items())

    @property
    def labels(self) -> dict[str, int]:
        """Tiles of all slides by label."""
        counts = sum((Counter(slide.labels) for slide in self.slides), Counter[str]())
        return dict(sorted(counts.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A slide's annotation, read or not."""

    record: SlideRecord
    path: Path | None
    sha256: str | None = None
    found: Annotated | None = None
    reason: str | None = None


def label_run(
    run_path: str | Path,
    config: LabelConfig,
    *,
    dry_run: bool = False,
    pool: Pool | None = None,
    observer: Observer | None = None,
) -> LabelOutcome:
    """Add shares and labels to the manifest of every slide that is done, in place of earlier ones.

    A slide whose annotation cannot be used gets nulls and the reason; the others go on. A dry run reads all
    annotations and writes nothing.

    Raises
    ------
    ConfigError
        There is no run with tiles at the path, nothing to label from, or another process works on it.
    """
    run = RunDirectory(path=absolute(run_path))
    if is_remote(run.path):
        check_reachable(run.path)
    if read_run_json(run) is None:
        raise ConfigError(f"{run.path}: expected a run directory, found no run.json in it")
    with nullcontext() if dry_run else sole_use(run, part=1, parts=1):
        if not dry_run:
            finish_change(run)
        records = read_records(run)
        sources = sources_of(records, config)
        done = [record for record in records if record.status == "done"]
        if not done:
            raise ConfigError(
                f"{run.path}: no slide is done in this run, so there is nothing to label"
            )
        slides = _read_all(
            run, done, sources, config, pool or SerialPool(), observer or SilentObserver()
        )
        found = {name for slide in slides for name in _shares_of(slide)}
        if all(slide.reason is None for slide in slides) and any(slide.found for slide in slides):
            refuse_misspelt(found, config)  # else what could not be read may hold the class
        classes = in_order(found, config)
        columns = {slide.record.slide_id: _columns(slide, classes, config) for slide in slides}
        outcome = LabelOutcome(
            classes=classes,
            slides=tuple(_told(slide, columns[slide.record.slide_id]) for slide in slides),
            lists={**sources.lists, **_never_found(slides, config), **_alike(classes)},
        )
        if not dry_run:
            _keep_better(run, outcome, config)
            about = _about(outcome, config)
            ids = [record.slide_id for record in done]
            add_columns(
                run, STAGE, lambda slide_id, _: columns[slide_id], slide_ids=ids, about=about
            )
    return outcome


def _keep_better(run: RunDirectory, outcome: LabelOutcome, config: LabelConfig) -> None:
    """Refuse to put nulls in the place of labels: a wrong folder must not cost a cohort its labels."""
    tried = [slide for slide in outcome.slides if slide.annotation is not None]
    if config.slide_label or len(outcome.failed) < len(tried) or read_summary(run, STAGE) is None:
        return
    first = "none was found"
    if outcome.failed:
        first = f"the first, {outcome.failed[0].slide_id}: {outcome.failed[0].reason}"
    raise ConfigError(
        f"{run.path}: not one annotation of {config.annotations} can be used ({first}); the labels that the "
        "run has are kept"
    )


def label_slide(job: LabelJob) -> tuple[Annotated, str | None]:
    """Return what an annotation says of a slide's tiles, and the digest of its samples; runs in any process.

    Raises
    ------
    SlideError
        The annotation cannot be used.
    """
    found = annotated(
        job.path, read_boxes(job.run, job.record.slide_id), _frame(job.record), job.config
    )
    return found, sample(job.path).sha256


def read_boxes(run: RunDirectory, slide_id: str) -> Boxes:
    """Return the footprints of a slide's tiles."""
    table = read_table(run.manifest(slide_id))
    columns = [table.column(name).to_numpy() for name in ("x", "y", "width", "height")]
    return np.stack(columns, axis=1).astype(np.int32)


def _frame(record: SlideRecord) -> SlideFrame:
    """Return where a slide's pixels are.

    Raises
    ------
    SlideError
        Nothing is known of the slide but its tiles.
    """
    values = record.values
    if not values.get("width") or not values.get("height"):
        raise SlideError(
            "annotation: the size of the slide is not known, as of imported tiles, so no shape can be "
            "laid over it; label it by a column with --slide-label"
        )
    bounds = [values.get(f"bounds_{name}") for name in ("x", "y", "width", "height")]
    canvas0 = Size(width=int(values["width"]), height=int(values["height"]))
    if any(value is None for value in bounds):
        bounds = [0, 0, canvas0.width, canvas0.height]
    x, y, width, height = map(int, bounds)  # type: ignore[arg-type]
    return SlideFrame(canvas0=canvas0, bounds0=Box(x=x, y=y, width=width, height=height))


def _read_all(
    run: RunDirectory,
    done: Sequence[SlideRecord],
    sources: Sources,
    config: LabelConfig,
    pool: Pool,
    observer: Observer,
) -> list[_Read]:
    """Return every done slide with its annotation, ordered by slide_id."""
    observer.slides_found(len(done))
    read: dict[str, _Read] = {}
    calls = []
    for record in done:
        path = sources.paths.get(record.slide_id)
        reason = sources.refused.get(record.slide_id)
        read[record.slide_id] = _Read(record=record, path=path, reason=reason)
        if path is not None and reason is None:
            job = LabelJob(run=run, record=record, path=path, config=config)
            calls.append(Call(name=f"label:{record.slide_id}", function=label_slide, argument=job))
        observer.slide_planned(record.slide_id, record.tiles)
    for answer in run_all(pool, calls):
        slide = _read_of(answer)
        read[slide.record.slide_id] = slide
        observer.unit_cut(slide.record.slide_id, slide.record.tiles, 0)
        observer.slide_ended(slide.record)
    return [read[slide_id] for slide_id in sorted(read)]


def _read_of(answer: Answer) -> _Read:
    job: LabelJob = answer.call.argument
    if answer.error is None:
        found, sha256 = answer.value
        return _Read(record=job.record, path=job.path, found=found, sha256=sha256)
    if isinstance(answer.error, SlideError):
        return _Read(record=job.record, path=job.path, reason=str(answer.error))
    if isinstance(answer.error, PipelineError):
        raise answer.error
    reason = f"annotation {job.path.name}: could not be used ({type(answer.error).__name__}: {answer.error})"
    return _Read(record=job.record, path=job.path, reason=reason)


def _shares_of(slide: _Read) -> Mapping[str, Shares]:
    return {} if slide.found is None else slide.found.shares


def _columns(slide: _Read, classes: Sequence[str], config: LabelConfig) -> Columns:
    """Return a slide's columns: nulls where nothing is known of it."""
    tiles = slide.record.tiles
    told = _slide_label(slide, config)
    columns: dict[str, Any] = {"label": words([told] * tiles)}
    if config.slide_label is not None:
        value = None if slide.reason else _number(slide.record.values.get(config.slide_label))
        columns["label_value"] = pa.array([value] * tiles, type=pa.float64())
    is_known = slide.found is not None or (
        slide.reason is None and slide.path is None and config.no_annotation == "nothing"
    )
    if not is_known:
        nulls = {f"label_share_{name}": pa.nulls(tiles, type=pa.float32()) for name in classes}
        return {**columns, **nulls}
    none = np.zeros(tiles, dtype=np.float32)
    shares = {name: _shares_of(slide).get(name, none) for name in classes}
    rest = {UNLABELLED: told or config.unlabelled, MIXED: told or config.mixed}
    choices = chosen(shares, classes, config).tolist() if classes else [UNLABELLED] * tiles
    columns["label"] = words(map((dict(enumerate(classes)) | rest).get, choices))
    return {**columns, **{f"label_share_{name}": pa.array(each) for name, each in shares.items()}}


def _slide_label(slide: _Read, config: LabelConfig) -> str | None:
    """Return the label that a slide's row gives to its tiles; numbers as people write them."""
    value = slide.record.values.get(config.slide_label) if config.slide_label else None
    if value is None or slide.reason is not None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def _told(slide: _Read, columns: Columns) -> LabelledSlide:
    labels = Counter(label for label in columns["label"].to_pylist() if label is not None)
    found = slide.found
    return LabelledSlide(
        slide_id=slide.record.slide_id,
        tiles=slide.record.tiles,
        annotation=None if slide.path is None else str(slide.path),
        sha256=slide.sha256,
        reason=slide.reason,
        shapes=0 if found is None else found.shapes,
        labels=dict(sorted(labels.items())),
        findings=() if found is None else found.findings,
    )


def _never_found(slides: Iterable[_Read], config: LabelConfig) -> dict[str, tuple[str, ...]]:
    """Return classes of the configuration that no annotation holds: misspelt, perhaps."""
    found = {name for slide in slides for name in _shares_of(slide)}
    asked = {*config.classes, *config.thresholds, *config.priority, *config.rename.values()}
    lost = tuple(sorted(asked - found))
    return {"classes of the configuration that no annotation holds": lost} if lost else {}


def _alike(classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return classes that differ only in capitals: one, perhaps, and one column to DuckDB."""
    counts = Counter(name.casefold() for name in classes)
    alike = tuple(name for name in classes if counts[name.casefold()] > 1)
    return {"classes that differ only in capitals (rename makes them one)": alike} if alike else {}


def _sentence(what: str, names: Sequence[str]) -> str:
    return f"{what}: {len(names)} ({first_of(names, MOST_NAMED)})"


def _about(outcome: LabelOutcome, config: LabelConfig) -> dict[str, Any]:
    """Return what ``RUN/label.json`` says."""
    return {
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest(),
        "versions": {
            **library_versions(),
            "shapely": library_version("shapely"),
            "geos": shapely.geos_version_string,
        },
        "made": now(),
        "classes": list(outcome.classes),
        "labels": outcome.labels,
        "tiles": sum(slide.tiles for slide in outcome.slides),
        "failed": [slide.slide_id for slide in outcome.failed],
        "lists": {what: list(names) for what, names in outcome.lists.items()},
        "slides": [asdict(slide) for slide in outcome.slides],
    }
