"""The audit of a run's split, the same for ``split --check`` and for the report's page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wsi_pipeline.labels.audited import Finding
from wsi_pipeline.labels.leakage import Audit, audit
from wsi_pipeline.labels.splits import split_words
from wsi_pipeline.remote import absolute
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.split_tables import (
    read_audited,
    read_split_table,
    slides_of_run,
    split_table,
    tiles_of_run,
)
from wsi_pipeline.stages.steady import read_steady


def audit_split(path: str | Path) -> Audit:
    """Return every leak of a run's split, or of a table made elsewhere.

    Parameters
    ----------
    path
        A run, a CSV or Parquet file, or a folder of Parquet files.

    Raises
    ------
    ConfigError
        There is nothing there, nothing in it says what is in which part, or another command is changing
        the run's tables.
    """
    run = RunDirectory(path=absolute(path))
    if not run.run_json.exists():
        return audit(read_audited(run.path))
    return read_steady(run, lambda: audit_of_run(run))


def audit_of_run(run: RunDirectory) -> Audit:
    """Return every leak of a run's split, and where the manifest and splits.parquet disagree.

    Raises
    ------
    ConfigError
        No slide is done, or none is in any part.
    """
    slides, tiles = slides_of_run(run), tiles_of_run(run, partitions=True)
    found = audit(with_patients(tiles, slides), slides=slides)
    decided = read_split_table(run)
    if decided is None:
        return found
    findings = (*found.findings, *_disagreements(tiles, decided[0], split_table(run).name))
    return Audit(findings=findings, checked=found.checked, unchecked=found.unchecked)


def with_patients(tiles: pd.DataFrame, slides: pd.DataFrame) -> pd.DataFrame:
    """Return tiles with the patients that are known now: the slide table may have been corrected."""
    if "patient_id" not in slides:
        return tiles
    return with_columns_of(tiles, slides.set_index("slide_id")[["patient_id"]])


def with_columns_of(tiles: pd.DataFrame, of_slide: pd.DataFrame) -> pd.DataFrame:
    """Return tiles with columns of their slides, each word once."""
    slide_ids = tiles["slide_id"].astype("category")
    codes = slide_ids.cat.codes.to_numpy()
    known = of_slide.reindex(slide_ids.cat.categories)
    added = {str(name): known[name].astype("category").take(codes).array for name in known}
    return tiles.assign(**added)


def _disagreements(tiles: pd.DataFrame, decided: pd.DataFrame, table: str) -> Iterator[Finding]:
    """Yield slides whose tiles are not in the part or fold that the table of the split says."""
    for repeat, rows in decided.groupby("repeat"):
        by_slide = rows.set_index("slide_id").astype(object)
        split, fold = split_words(int(str(repeat)))
        for column, said in ((split, by_slide["split"]), (fold, by_slide["fold"])):
            if column in tiles:
                yield from _moved(tiles, said, column, table)


def _moved(
    tiles: pd.DataFrame, said: "pd.Series[Any]", column: str, table: str
) -> Iterator[Finding]:
    pairs = tiles[["slide_id", column]].drop_duplicates().astype(object).dropna()
    for slide_id, part in pairs.itertuples(index=False):
        if slide_id in said.index and said[slide_id] != part:
            text = (
                f"slide {slide_id} is in {_told(part)} ({column} of the manifest) and in "
                f"{_told(said[slide_id])} ({table}); run wsi-pipeline split again"
            )
            yield Finding(kind="disagree", names=(slide_id,), text=text, is_leak=True)


def _told(part: str | float) -> str:
    """Return the name of a part, or of a fold, which is a number; NaN where there is none."""
    if isinstance(part, str):
        return part
    return "none" if np.isnan(part) else f"fold {part:.0f}"
