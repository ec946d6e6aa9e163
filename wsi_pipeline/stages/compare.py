"""How sharpness and stain differ between scanners, centres or other groups: ``wsi-pipeline compare``."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from wsi_pipeline.calls import Pool, SerialPool
from wsi_pipeline.config import did_you_mean
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import publish_bytes
from wsi_pipeline.labels.comparison_config import CompareConfig
from wsi_pipeline.labels.density import Densities, densities
from wsi_pipeline.labels.stain import optical_density
from wsi_pipeline.manifest import manifest_columns, read_manifest
from wsi_pipeline.remote import absolute
from wsi_pipeline.report.group_figures import density_figure, stain_figure
from wsi_pipeline.schema import METRIC_COLUMNS, SLIDE_COLUMNS, TILE_COLUMNS
from wsi_pipeline.stages.run_directory import RunDirectory, SlideRecord, read_records
from wsi_pipeline.stages.stain_vectors import GroupStain, PairAngles, group_angles, group_stains
from wsi_pipeline.stages.steady import read_steady

NO_GROUP = "(none)"
"""Group of tiles whose column is empty."""

MOST_GROUPS = 64
"""With more, the column is hardly one of groups, and every two of them would fill a book."""

CHANNELS = ("red", "green", "blue")

_NO_GROUPS = {
    column.name
    for column in (*SLIDE_COLUMNS, *TILE_COLUMNS)
    if column in METRIC_COLUMNS
    or pa.types.is_floating(column.type)
    or pa.types.is_binary(column.type)
}
"""Columns that are numbers or pictures, and are not named to whoever asks for one that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What tells groups of tiles apart."""

    by: str
    sharpness: Densities
    """Of ``laplacian_var``, on a logarithmic axis."""
    density: Mapping[str, Densities]
    """Of the tiles' mean optical density by channel; slides in dark field have none."""
    spread: Mapping[str, Densities]
    """Of the spread of optical density within tiles by channel."""
    stains: tuple[GroupStain, ...]
    angles: tuple[PairAngles, ...]
    overlap_limit: float
    problems: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """What was written, from the run directory."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence for every two groups that hardly overlap."""
        apart: dict[tuple[str, str], list[str]] = {}
        named = {"sharpness": self.sharpness} | {
            f"density of {channel}": found for channel, found in self.density.items()
        }
        for what, found in named.items():
            for pair in found.far_apart(limit=self.overlap_limit):
                apart.setdefault((pair.first, pair.second), []).append(f"{what} {pair.overlap:.0%}")
        return tuple(
            f"{first} and {second} hardly overlap: {', '.join(whats)} (limit {self.overlap_limit:.0%})"
            for (first, second), whats in sorted(apart.items())
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; densities without their curves."""
        return {
            "by": self.by,
            "sharpness": _plain(self.sharpness),
            "optical_density": {name: _plain(found) for name, found in self.density.items()},
            "optical_density_spread": {name: _plain(found) for name, found in self.spread.items()},
            "stains": [asdict(stain) for stain in self.stains],
            "stain_angles": [asdict(pair) for pair in self.angles],
            "warnings": list(self.warnings),
            "problems": list(self.problems),
            "files": list(self.files),
        }


def compare_groups(
    run_path: str | Path, config: CompareConfig, *, pool: Pool | None = None
) -> Comparison:
    """Compare groups of a run's tiles, and write figures and numbers to ``RUN/figures``.

    Tiles whose status is not ok are left out.

    Raises
    ------
    ConfigError
        There is no such run or column, or the column has too many values to be one of groups.
    """
    run = RunDirectory(path=absolute(run_path))
    records = {record.slide_id: record for record in read_records(run) if record.status == "done"}
    tiles = read_steady(run, lambda: _read(run, records, config.by))
    stains, problems = group_stains(
        run, tiles, records=records, config=config, pool=pool or SerialPool()
    )
    found = replace(
        _compare(tiles, config), stains=stains, angles=group_angles(stains), problems=problems
    )
    return _published(run, found)


def _read(run: RunDirectory, records: Mapping[str, SlideRecord], by: str) -> pd.DataFrame:
    """Return the tiles that are ok with a column ``group``, of categories in order of name."""
    metrics = [f"{channel}_{what}" for channel in CHANNELS for what in ("mean", "std")]
    columns = ["slide_id", "tile", "status", "laplacian_var", *metrics]
    of_slides = by in _known(run, records, by)
    tiles = read_manifest(
        run.path, columns=columns if of_slides else list(dict.fromkeys([*columns, by]))
    ).to_pandas()
    if of_slides:
        known = {slide_id: record.values.get(by) for slide_id, record in records.items()}
        words = tiles["slide_id"].astype(object).map(known)
    else:
        words = tiles[by].astype(object)
    named = words.map(lambda word: NO_GROUP if pd.isna(word) else str(word))
    tiles["group"] = pd.Categorical(named)
    dark = {slide_id for slide_id, record in records.items() if record.values.get("dark_field")}
    tiles.loc[tiles["slide_id"].isin(dark), metrics] = np.nan
    tiles = tiles[tiles["status"].astype(str) == "ok"]
    tiles = tiles.assign(group=tiles["group"].cat.remove_unused_categories())
    _refuse_unfit(tiles, run, by)
    return tiles


def _known(run: RunDirectory, records: Mapping[str, SlideRecord], by: str) -> set[str]:
    """Return the columns of slides; refuse one that neither they nor the manifest have."""
    of_slides = {name for record in records.values() for name in record.values}
    names = {*of_slides, *manifest_columns(run.path)}
    if by not in names:
        raise ConfigError(
            f"by: {run.path} has no column {by}{did_you_mean(by, names)}; there are "
            f"{', '.join(sorted(names - _NO_GROUPS))}; label, qc and split add theirs"
        )
    return of_slides


def _refuse_unfit(tiles: pd.DataFrame, run: RunDirectory, by: str) -> None:
    groups = tiles["group"].cat.categories
    if not len(tiles):
        raise ConfigError(f"{run.path}: no tile of this run is ok, so there is nothing to compare")
    if list(groups) == [NO_GROUP]:
        raise ConfigError(
            f"by: no slide of {run.path} has a {by}; give it in a column {by} of the slide table"
        )
    if len(groups) > MOST_GROUPS:
        raise ConfigError(
            f"by: expected a column of at most {MOST_GROUPS} groups, {by} has {len(groups)}"
        )


def _compare(tiles: pd.DataFrame, config: CompareConfig) -> Comparison:
    groups = pd.Categorical(tiles["group"])
    density: dict[str, Densities] = {}
    spread: dict[str, Densities] = {}
    for channel in CHANNELS:
        means, spreads = optical_density(
            tiles[f"{channel}_mean"].to_numpy(), tiles[f"{channel}_std"].to_numpy()
        )
        density[channel] = densities(means, groups, log=False)
        spread[channel] = densities(spreads, groups, log=False)
    return Comparison(
        by=config.by,
        sharpness=densities(tiles["laplacian_var"].to_numpy(), groups, log=True),
        density=density,
        spread=spread,
        stains=(),
        angles=(),
        overlap_limit=config.overlap_limit,
    )


def _published(run: RunDirectory, comparison: Comparison) -> Comparison:
    """Write figures and numbers, and return the comparison with their names."""
    by = re.sub(r"[^\w-]", "_", comparison.by)
    folder = run.path / "figures"
    pictures = {
        f"sharpness_by_{by}.png": density_figure(
            comparison.sharpness, title=f"Sharpness by {comparison.by}", axis="laplacian_var"
        ),
        f"stain_by_{by}.png": stain_figure(
            comparison.density,
            title=f"Stain by {comparison.by}",
            stains={
                stain.group: (stain.hematoxylin, stain.eosin)
                for stain in comparison.stains
                if stain.slides
            },
        ),
    }
    numbers = f"compare_by_{by}.json"
    for name, data in pictures.items():
        publish_bytes(folder / name, data)
    comparison = replace(
        comparison, files=tuple(f"figures/{name}" for name in (*pictures, numbers))
    )
    text = json.dumps(comparison.to_dict(), indent=2, ensure_ascii=False) + "\n"
    publish_bytes(folder / numbers, text.encode())
    return comparison


def _plain(found: Densities) -> dict[str, Any]:
    groups = [
        {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in asdict(group).items()
        }
        for group in found.groups
    ]
    return {"log": found.log, "groups": groups, "pairs": [asdict(pair) for pair in found.pairs]}
