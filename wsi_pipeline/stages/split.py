"""Divides a run's patients into train, validation and test: ``wsi-pipeline split``."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from wsi_pipeline.config import differences
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.labels.groups import listed
from wsi_pipeline.labels.leakage import Audit, audit
from wsi_pipeline.labels.part_counts import PartCount, absences, part_counts
from wsi_pipeline.labels.split_config import SplitConfig
from wsi_pipeline.labels.splits import SplitPlan, split_columns, split_slides
from wsi_pipeline.provenance import library_version, library_versions
from wsi_pipeline.remote import absolute, check_reachable, is_remote
from wsi_pipeline.stages.columns import Columns, add_columns, finish_change, words
from wsi_pipeline.stages.lease import sole_use
from wsi_pipeline.stages.run_directory import RunDirectory, read_records, read_run_json
from wsi_pipeline.stages.split_audit import with_columns_of, with_patients
from wsi_pipeline.stages.split_tables import (
    read_list,
    read_split_table,
    slides_of_run,
    tiles_of_run,
    write_split_table,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitOutcome:
    """What a split is, and what its audit found."""

    plan: SplitPlan
    counts: tuple[PartCount, ...]
    audit: Audit
    problems: tuple[str, ...]
    """What a person should know, a sentence each."""


def split_run(
    run_path: str | Path, config: SplitConfig, *, overwrite: bool = False, dry_run: bool = False
) -> SplitOutcome:
    """Give every tile of a run its part; slides that have one keep it.

    Parameters
    ----------
    run_path
        The run directory or its URL.
    config
        How to split.
    overwrite
        Forget the earlier split and draw all again.
    dry_run
        Write nothing.

    Raises
    ------
    ConfigError
        There is no such run, the earlier split was made with other settings, or what is asked for cannot
        be had without leakage.
    """
    run = RunDirectory(path=absolute(run_path))
    _check_run(run)
    if dry_run:
        return _decided(run, config, overwrite=overwrite)[0]
    with sole_use(run, part=1, parts=1):
        finish_change(run)
        outcome, slides, settings = _decided(run, config, overwrite=overwrite)
        # First what was decided, then the manifest: a command that dies between goes on as it was decided.
        write_split_table(run, outcome.plan.table, slides, settings, anew=overwrite)
        _write_columns(run, outcome, settings, digest=config.digest())
    return outcome


def _check_run(run: RunDirectory) -> None:
    if is_remote(run.path):
        check_reachable(run.path)
    elif run.path.is_file() or (not run.run_json.exists() and any(run.path.glob("[!.]*.parquet"))):
        raise ConfigError(
            f"{run.path}: a table can only be checked, with --check; what is divided is a run directory, "
            "as made by wsi-pipeline tile or import"
        )
    if read_run_json(run) is None:
        raise ConfigError(f"{run.path}: expected a run directory, found no run.json in it")


def _decided(
    run: RunDirectory, config: SplitConfig, *, overwrite: bool
) -> tuple[SplitOutcome, pd.DataFrame, dict[str, Any]]:
    """Return the split, the slides it is of, and the settings to be kept with it."""
    slides = slides_of_run(run)
    user_list, digest = (None, None) if config.from_file is None else read_list(config.from_file)
    settings = {**config.model_dump(mode="json"), "list": digest}
    before = None if overwrite else _before(run, settings)
    plan = split_slides(slides, config, before=before, user_list=user_list)
    found = _audit_of(run, plan, slides)
    counts = part_counts(plan.table, slides)
    held = {text.partition("=")[0] for text in config.hold_out}
    problems = (*plan.problems, *absences(counts, but=held), *_left_out(run))
    return (
        SplitOutcome(plan=plan, counts=counts, audit=found, problems=problems),
        slides,
        settings,
    )


def _before(run: RunDirectory, settings: Mapping[str, Any]) -> pd.DataFrame | None:
    found = read_split_table(run)
    if found is None:
        return None
    table, then = found
    if changed := differences(then, settings):
        raise ConfigError(
            f"{run.path} was split with other settings ({'; '.join(changed)}); use the same ones, or "
            "--overwrite to draw all again"
        )
    return table


def _audit_of(run: RunDirectory, plan: SplitPlan, slides: pd.DataFrame) -> Audit:
    """Return the audit of a plan, before anything is written.

    Raises
    ------
    ConfigError
        It leaks.
    """
    values = pd.DataFrame.from_dict(dict(split_columns(plan.table)), orient="index")
    tiles = with_columns_of(tiles_of_run(run, partitions=False), values)
    found = audit(with_patients(tiles, slides), slides=slides)
    if found.leaks:
        raise ConfigError(f"leakage: {'; '.join(finding.text for finding in found.leaks)}")
    return found


def _left_out(run: RunDirectory) -> Iterator[str]:
    failed = [record.slide_id for record in read_records(run) if record.status == "failed"]
    if failed:
        yield f"{len(failed)} slides failed and are in no part: {listed(failed)}"


def _write_columns(
    run: RunDirectory, outcome: SplitOutcome, settings: Mapping[str, Any], *, digest: str
) -> None:
    values = split_columns(outcome.plan.table)

    def columns(slide_id: str, table: pa.Table) -> Columns:
        return {name: _constant(value, len(table)) for name, value in values[slide_id].items()}

    versions = {name: library_version(name) for name in ("scipy", "shapely")}
    about = {
        "settings": settings,
        "config_digest": digest,
        "versions": {**library_versions(), **versions},
        "groups_kept": outcome.plan.kept,
        "groups_drawn": outcome.plan.drawn,
        "parts": [asdict(count) for count in outcome.counts],
        "problems": outcome.problems,
        "audit": asdict(outcome.audit),
    }
    add_columns(run, "split", columns, slide_ids=sorted(values), about=about)


def _constant(value: str | int | None, rows: int) -> "pa.Array[Any]":
    """Return a column that says the same of every tile of a slide: a word, or a fold."""
    if isinstance(value, str):
        return words([value] * rows)
    return pa.nulls(rows, pa.int8()) if value is None else pa.array(np.full(rows, value, np.int8))
