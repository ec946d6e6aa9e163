"""Marks tiles of bad quality with a reason and never deletes one: ``wsi-pipeline qc``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from wsi_pipeline.calls import Pool, SerialPool
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.clusters import assign
from wsi_pipeline.labels.quality import RULES, judge, with_outliers
from wsi_pipeline.labels.quality_config import QcConfig
from wsi_pipeline.provenance import library_version, library_versions
from wsi_pipeline.remote import absolute
from wsi_pipeline.stages.columns import Columns, add_columns, finish_change
from wsi_pipeline.stages.lease import sole_use
from wsi_pipeline.stages.quality_clusters import KeptClusters, choose_clusters, keep_clusters
from wsi_pipeline.stages.quality_pictures import Kind, publish_pictures
from wsi_pipeline.stages.quality_table import (
    is_readable,
    manifest_columns,
    read_tiles,
    scanner_of,
    with_status,
)
from wsi_pipeline.stages.run_directory import RunDirectory, SlideRecord, read_records, read_run_json
from wsi_pipeline.tables import write_table


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideQuality:
    """What the rules say of one slide."""

    slide_id: str
    scanner: str | None
    tiles: int
    unreadable: int
    outliers: int
    """Tiles that any rule or marked cluster marks."""
    left: int
    """Tiles that are ok."""
    sharpness: float | None
    """Median of log10 of the Laplacian's variance over tissue."""
    unfocused_z: float | None
    """Spreads from the scanner's other slides; None with too few of them."""
    marks: Mapping[str, int]
    """Tiles by rule; a tile may count for several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterQuality:
    """What is in one cluster."""

    cluster: int
    tiles: int
    share: float
    slides: int
    sharpness: float | None
    """Median of log10 of the Laplacian's variance over tissue."""
    marked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QcOutcome:
    """What ``qc`` found."""

    slides: tuple[SlideQuality, ...]
    clusters: tuple[ClusterQuality, ...]
    problems: tuple[str, ...]
    """What could not be judged or drawn, one sentence each."""

    @property
    def empty(self) -> tuple[str, ...]:
        """Slides of which no tile is left."""
        return tuple(slide.slide_id for slide in self.slides if slide.tiles and not slide.left)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "tiles": sum(slide.tiles for slide in self.slides),
            "unreadable": sum(slide.unreadable for slide in self.slides),
            "outliers": sum(slide.outliers for slide in self.slides),
            "marks": {
                rule.name: sum(slide.marks[rule.name] for slide in self.slides) for rule in RULES
            },
            "slides_without_tiles": list(self.empty),
            "problems": list(self.problems),
            "clusters": [asdict(cluster) for cluster in self.clusters],
            "slides": [asdict(slide) for slide in self.slides],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class QcOptions:
    """How ``qc`` goes about it; nothing here changes what is marked but ``refit``."""

    refit: bool = False
    """Fit the clusters anew, which numbers them anew, even if they were fitted with these settings."""
    pictures: bool = True
    dry_run: bool = False
    """Say what would be marked and write nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Everything that is to be written."""

    tiles: pd.DataFrame
    judged: pd.DataFrame
    clusters: KeptClusters
    outcome: QcOutcome


def qc_run(
    run_path: str | Path,
    config: QcConfig,
    *,
    options: QcOptions | None = None,
    pool: Pool | None = None,
) -> QcOutcome:
    """Judge every tile of a run, and write what was found to its manifest, ``qc.json`` and ``qc/``.

    Raises
    ------
    ConfigError
        There is no run with tiles at the path, or another command works on it.
    """
    run, options = RunDirectory(path=absolute(run_path)), options or QcOptions()
    tile_config = _tile_config(run)
    if options.dry_run:
        return _find(run, config, refit=options.refit).outcome
    with sole_use(run, part=1, parts=1):
        finish_change(run)
        found = _find(run, config, refit=options.refit)
        _write(run, config, found)
        if not options.pictures:
            return found.outcome
        problems = publish_pictures(
            run,
            tile_config,
            found.judged,
            kinds=_kinds(found.outcome, config),
            config=config,
            pool=pool or SerialPool(),
        )
    return replace(found.outcome, problems=(*found.outcome.problems, *problems))


def _tile_config(run: RunDirectory) -> TileConfig:
    content = read_run_json(run)
    if content is None:
        raise ConfigError(f"{run.path}: expected a run directory, found no run.json in it")
    return make_config(TileConfig, content["config"])


def _find(run: RunDirectory, config: QcConfig, *, refit: bool) -> _Found:
    records = [record for record in read_records(run) if record.status == "done"]
    if not records:
        raise ConfigError(f"{run.path}: no slide of this run is done; tile comes first")
    tiles = read_tiles(run, records, config)
    judged = judge(tiles, config)
    clusters = choose_clusters(run, tiles, config, refit=refit)
    judged["cluster"] = (
        np.full(len(tiles), -1, np.int16)
        if clusters.fitted is None
        else assign(tiles, clusters.fitted)
    )
    judged = with_outliers(judged, clusters=config.mark_clusters)
    judged = with_status(tiles, judged)
    judged["slide_id"], judged["tile"] = tiles["slide_id"], tiles["tile"]
    outcome = QcOutcome(
        slides=_slides(tiles, judged, records),
        clusters=_clusters(judged, config),
        problems=(*_unjudged(records, config), *clusters.problems),
    )
    return _Found(tiles=tiles, judged=judged, clusters=clusters, outcome=outcome)


def _write(run: RunDirectory, config: QcConfig, found: _Found) -> None:
    ids = list(found.tiles["slide_id"].cat.categories)
    ends = np.searchsorted(found.tiles["slide_id"].cat.codes, np.arange(len(ids) + 1))
    rows = {slide_id: slice(*ends[place : place + 2]) for place, slide_id in enumerate(ids)}

    def columns(slide_id: str, _table: pa.Table) -> Columns:
        return manifest_columns(found.judged.iloc[rows[slide_id]])

    about = {
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest(),
        "versions": {**library_versions(), "scikit-learn": library_version("scikit-learn")},
        **found.outcome.to_dict(),
    }

    def beside(folder: Path) -> None:
        keep_clusters(folder, found.clusters)
        table = pa.Table.from_pylist([_row(slide) for slide in found.outcome.slides])
        write_table(folder / "qc" / "slides.parquet", table)

    add_columns(run, "qc", columns, slide_ids=ids, about=about, beside=beside)


def _row(slide: SlideQuality) -> dict[str, Any]:
    """Return a slide's row of qc/slides.parquet."""
    values = {name: value for name, value in asdict(slide).items() if name != "marks"}
    return {**values, **{f"qc_{name}": count for name, count in slide.marks.items()}}


def _slides(
    tiles: pd.DataFrame, judged: pd.DataFrame, records: Sequence[SlideRecord]
) -> tuple[SlideQuality, ...]:
    names = [f"qc_{rule.name}" for rule in RULES]
    readable = is_readable(tiles)
    marked = judged["outlier"].to_numpy() & readable
    counted = judged[names].assign(tiles=True, readable=readable, outlier=marked)
    by_slide = counted.groupby(tiles["slide_id"], observed=False)
    medians = judged.groupby(tiles["slide_id"], observed=False)[["qc_sharpness", "qc_unfocused_z"]]
    all_counts: dict[Any, dict[str, int]] = by_slide.sum().to_dict("index")  # type: ignore[assignment]
    all_medians: dict[Any, dict[str, float]] = medians.median().to_dict("index")  # type: ignore[assignment]
    found = []
    for record in records:
        counts, median = all_counts[record.slide_id], all_medians[record.slide_id]
        unreadable = int(counts["tiles"] - counts["readable"])
        found.append(
            SlideQuality(
                slide_id=record.slide_id,
                scanner=scanner_of(record),
                tiles=int(counts["tiles"]),
                unreadable=unreadable,
                outliers=int(counts["outlier"]),
                left=int(counts["tiles"] - counts["outlier"]) - unreadable,
                sharpness=_number(median["qc_sharpness"]),
                unfocused_z=_number(median["qc_unfocused_z"]),
                marks={rule.name: int(counts[f"qc_{rule.name}"]) for rule in RULES},
            )
        )
    return tuple(found)


def _clusters(judged: pd.DataFrame, config: QcConfig) -> tuple[ClusterQuality, ...]:
    with_metrics = judged[judged["cluster"] >= 0]
    return tuple(
        ClusterQuality(
            cluster=int(str(number)),
            tiles=len(rows),
            share=len(rows) / len(with_metrics),
            slides=int(rows["slide_id"].nunique()),
            sharpness=_number(rows["qc_sharpness"].median()),
            marked=number in config.mark_clusters,
        )
        for number, rows in with_metrics.groupby("cluster")
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _tiles(count: int) -> str:
    return f"{count} tile{'' if count == 1 else 's'}"


def _unjudged(records: Sequence[SlideRecord], config: QcConfig) -> list[str]:
    """Return which scanners have too few slides for the focus of one to be judged."""
    if not config.unfocused:
        return []
    slides = pd.Series([scanner_of(record) or "" for record in records if record.tiles])
    few = slides.value_counts()
    return [
        f"{f'scanner {scanner}' if scanner else 'no scanner known'}: {count} slides, expected at least "
        f"{config.unfocused_slides} to say which are out of focus as a whole"
        for scanner, count in sorted(few.items())
        if count < config.unfocused_slides
    ]


def _kinds(outcome: QcOutcome, config: QcConfig) -> tuple[Kind, ...]:
    """Return which collages are worth drawing, and what each is to say."""
    clusters = [
        Kind(
            name=f"cluster_{each.cluster:02d}",
            column="cluster",
            value=each.cluster,
            says=f"cluster {each.cluster}: {_tiles(each.tiles)} ({each.share:.1%}), slides: {each.slides}, "
            f"median log10 sharpness {each.sharpness}{', marked' if each.marked else ''}",
        )
        for each in outcome.clusters
    ]
    counts = outcome.to_dict()["marks"]
    rules = [
        Kind(
            name=f"rule_{rule.name}",
            column=f"qc_{rule.name}",
            value=1,
            says=f"{rule.name}: {_tiles(counts[rule.name])}",
        )
        for rule in RULES
        if counts[rule.name] and getattr(config, rule.name)
    ]
    return (*clusters, *rules)
