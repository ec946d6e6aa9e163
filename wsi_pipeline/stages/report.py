"""Everything about a run on one page: ``wsi-pipeline report``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import publish_bytes
from wsi_pipeline.labels.audited import PARTITION
from wsi_pipeline.provenance import code_version
from wsi_pipeline.remote import absolute, check_reachable, is_remote
from wsi_pipeline.report.parts import Notice, Page, Part, Section, Todo
from wsi_pipeline.report.render import render
from wsi_pipeline.report.settings import ReportConfig
from wsi_pipeline.schema import STAGE_COLUMNS
from wsi_pipeline.stages.columns import read_summary
from wsi_pipeline.stages.report_cohort import Cohort
from wsi_pipeline.stages.report_evaluations import evaluations
from wsi_pipeline.stages.report_models import models
from wsi_pipeline.stages.report_pictures import collages, slide_maps
from wsi_pipeline.stages.report_sections import (
    Known,
    labels_and_splits,
    problems,
    quality,
    settings,
    slides,
    summary,
)
from wsi_pipeline.stages.report_spread import leakage, spread
from wsi_pipeline.stages.report_tiles import read_tiles_of
from wsi_pipeline.stages.run_directory import RunDirectory, now, read_run_json
from wsi_pipeline.stages.split_audit import audit_of_run
from wsi_pipeline.stages.steady import read_steady
from wsi_pipeline.tables import read_table


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOutcome:
    """A page that was written."""

    path: Path
    size_bytes: int
    slides: int
    tiles: int
    slides_pictured: int
    slides_left_out: int
    """Slides whose tiles did not fit on the page any more; they are in its tables."""


def report_run(
    run_path: str | Path, config: ReportConfig | None = None, *, made: str | None = None
) -> ReportOutcome:
    """Write ``RUN/report.html`` and say how large it is.

    Only what is there is shown; what a later command would add is named with that command.

    Parameters
    ----------
    run_path
        A run directory or its URL.
    config
        What is shown.
    made
        The time that the page states, the present one if not given: the rest depends on the run alone.

    Raises
    ------
    ConfigError
        There is no run, or a column that is asked for is in none of its tables.
    """
    run = RunDirectory(path=absolute(run_path))
    config = config or ReportConfig()
    known = _known(run, config)
    _refuse_unknown_groups(run, known, config)
    page, pictured, left_out = _page(run, known, config, made=made or now())
    data = render(page)
    path = run.path / "report.html"
    publish_bytes(path, data)
    return ReportOutcome(
        path=path,
        size_bytes=len(data),
        slides=len(known.cohort.rows),
        tiles=0 if known.tiles is None else known.tiles.table.num_rows,
        slides_pictured=pictured,
        slides_left_out=left_out,
    )


def _known(run: RunDirectory, config: ReportConfig) -> Known:
    if is_remote(run.path):
        check_reachable(run.path)
    about = read_run_json(run)
    if about is None:
        raise ConfigError(f"{run.path}: expected a run directory, found no run.json in it")
    return read_steady(run, lambda: _read(run, config, about))


def _read(run: RunDirectory, config: ReportConfig, about: Mapping[str, Any]) -> Known:
    cohort = _cohort(run)
    tiles = read_tiles_of(run.path, config.columns, also=config.groups)
    is_split = tiles is not None and any(map(PARTITION.fullmatch, tiles.table.column_names))
    return Known(
        name=run.path.name,
        about=about,
        cohort=cohort,
        tiles=tiles,
        summaries=_summaries(run),
        audit=audit_of_run(run) if is_split and cohort.with_status("done") else None,
    )


def _refuse_unknown_groups(run: RunDirectory, known: Known, config: ReportConfig) -> None:
    """Refuse columns to compare by that are asked for and in no table; usual ones may be missing."""
    if "groups" not in config.model_fields_set or known.tiles is None:
        return
    there = {*(name for row in known.cohort.rows for name in row), *known.tiles.table.column_names}
    if lost := [name for name in config.groups if name not in there]:
        raise ConfigError(
            f"groups: no slide of {run.path} has {', '.join(lost)}; slides have "
            f"{', '.join(sorted({name for row in known.cohort.rows for name in row}))}"
        )


def _cohort(run: RunDirectory) -> Cohort:
    try:
        table = read_table(run.slides_table)
    except FileNotFoundError:
        return Cohort(rows=())
    kept = [name for name in table.column_names if name != "icc_profile"]
    rows = sorted(table.select(kept).to_pylist(), key=lambda row: str(row["slide_id"]))
    return Cohort(rows=tuple(rows))


def _summaries(run: RunDirectory) -> Mapping[str, Mapping[str, Any]]:
    said = {stage: read_summary(run, stage) for stage in STAGE_COLUMNS}
    return {stage: summary_ for stage, summary_ in said.items() if summary_ is not None}


def _page(
    run: RunDirectory, known: Known, config: ReportConfig, *, made: str
) -> tuple[Page, int, int]:
    """Return the page, and how many slides have their tiles on it and how many have not."""

    def with_maps(maps: Section) -> Page:
        before = (summary(known), problems(known), slides(known))
        return Page(
            title=f"{known.name}: whole-slide run",
            made=made,
            version=code_version(),
            sections=(*before, maps, *after),
        )

    trained = (models(run), evaluations(run, known.cohort.by_slide("patient_id")))
    after = (
        _extremes(run, known, config),
        spread(known, config.groups),
        labels_and_splits(known),
        quality(known),
        leakage(known),
        *(section for section in trained if section is not None),
        settings(known),
    )
    empty = Section(name="tiles", title="Tiles on slides", parts=())
    left_bytes = round(config.max_mb * 1e6) - len(render(with_maps(empty)))
    section, pictured, left_out = _maps(run, known, config, most_bytes=left_bytes)
    return with_maps(section), pictured, left_out


def _maps(
    run: RunDirectory, known: Known, config: ReportConfig, *, most_bytes: int
) -> tuple[Section, int, int]:
    if known.tiles is None:
        todo = Todo(
            text="No slide is done. Tiles are cut with", command="wsi-pipeline tile SLIDES -o RUN"
        )
        return Section(name="tiles", title="Tiles on slides", parts=(todo,)), 0, 0
    drawn = slide_maps(run, known.tiles, known.cohort, config, most_bytes=most_bytes)
    pictured = len(drawn.maps.slides)
    parts: list[Part] = []
    if drawn.left_out:
        text = (
            f"{pictured} slides of {pictured + drawn.left_out} are pictured, chosen by lot: a page of "
            f"{config.max_mb:g} MB holds no more. All are in the tables; --max-mb makes room."
        )
        parts.append(Notice(text=text))
    if drawn.from_overlays:
        text = (
            f"{drawn.from_overlays} slides were cut before pictures without marks were kept: theirs have "
            "the tissue outlined and tiles drawn in."
        )
        parts.append(Notice(text=text))
    section = Section(name="tiles", title="Tiles on slides", parts=(*parts, drawn.maps))
    return section, pictured, drawn.left_out


def _extremes(run: RunDirectory, known: Known, config: ReportConfig) -> Section:
    tiling = make_config(TileConfig, known.about["config"])
    parts: tuple[Part, ...] = ()
    if tiling.store == "none":
        text = (
            "This run keeps coordinates and metrics only. Pictures of tiles need pixels, as kept by"
        )
        parts = (Todo(text=text, command="wsi-pipeline tile SLIDES -o RUN --store zarr"),)
    elif known.tiles is None or config.extremes == 0:
        parts = (Notice(text="No tiles to show."),)
    else:
        text = "At most two tiles of a kind are of one slide while there are others."
        lead = Notice(text=text, kind="plain")
        parts = (lead, *collages(run, known.tiles, tiling, config))
    return Section(name="extremes", title="Tiles at the extremes", parts=parts)
