"""Tiles that exist already become a run: the stage behind ``wsi-pipeline import``.

>>> from wsi_pipeline.stages.import_tiles import ImportConfig, import_tiles
>>> import_tiles("missing/", "RUN", ImportConfig())
Traceback (most recent call last):
    ...
wsi_pipeline.errors.ConfigError: missing/: no such file or folder; check the spelling
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wsi_pipeline.calls import Call, Pool, SerialPool, run_all
from wsi_pipeline.config import TileConfig
from wsi_pipeline.errors import ConfigError, OutputError, PipelineError
from wsi_pipeline.files import (
    make_folder,
    output_error,
    publish_bytes,
    remove_tree,
    sweep,
    temporaries,
)
from wsi_pipeline.provenance import library_versions
from wsi_pipeline.remote import absolute
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.stages.asked import write_asked
from wsi_pipeline.stages.columns import finish_change, read_summary
from wsi_pipeline.stages.cut import clear_slide
from wsi_pipeline.stages.import_array import (
    ArrayJob,
    images_digest,
    import_array,
    source_crc32c,
    source_times,
)
from wsi_pipeline.stages.import_plan import ImportPlan, plan_import
from wsi_pipeline.stages.lease import Held, sole_use
from wsi_pipeline.stages.run_directory import (
    RunDirectory,
    SlideRecord,
    check_run_directory,
    now,
    publish_slides_table,
    read_record,
    read_records,
    read_run_json,
    write_record,
    write_run_json,
)
from wsi_pipeline.stages.stage import Observer, SilentObserver
from wsi_pipeline.stages.tiling import TileOutcome
from wsi_pipeline.store.writer import open_group
from wsi_pipeline.tables import read_table, write_table
from wsi_pipeline.tiles.arrays import ImageArray
from wsi_pipeline.tiles.catalog import Catalog
from wsi_pipeline.tiles.import_config import ImportConfig

__all__ = ["ImportConfig", "ImportOutcome", "ImportPlan", "import_tiles", "plan_import"]

_LOG = logging.getLogger(__name__)

_MOST_IDS = 5  # named in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOutcome:
    """What an import came to."""

    plan: ImportPlan
    tiling: TileOutcome
    """One record per array of this source."""
    before: frozenset[str]
    """Arrays that were done before this command and are as their source says."""

    @property
    def new(self) -> tuple[SlideRecord, ...]:
        """Arrays that this command has imported."""
        done = self.tiling.with_status("done")
        return tuple(record for record in done if record.slide_id not in self.before)

    def count(self, name: str) -> int:
        """Return the sum of a column of slides.parquet over the arrays that are done."""
        return _sum(self.tiling.with_status("done"), name)

    def count_new(self, name: str) -> int:
        """Return the same of what this command has imported."""
        return _sum(self.new, name)


def import_tiles(
    source: str | Path,
    run_path: str | Path,
    settings: ImportConfig,
    *,
    overwrite: bool = False,
    pool: Pool | None = None,
    observer: Observer | None = None,
) -> ImportOutcome:
    """Store existing tiles as a run and return what became of each array.

    Parameters
    ----------
    source
        A folder that HistoPrep has written, a folder of images, a CSV or Parquet table with a column
        ``path``, or a Parquet file with a column of encoded images.
    run_path
        The run directory; made, or gone on with where its settings are the same.
    settings
        What to make of the images.
    overwrite
        Redo arrays that are done.
    pool
        Where the work runs, an array a call; this thread if not given.
    observer
        Who is told of progress.

    Raises
    ------
    ConfigError
        Nothing was started: the message says what to change.
    OutputError
        The run directory cannot be written; what is finished stays, and the same call goes on.
    """
    plan = plan_import(source, settings)
    run = RunDirectory(path=absolute(run_path))
    check_run_directory(run, plan.config, overwrite=overwrite)
    with sole_use(run, part=1, parts=1) as lease:
        finish_change(run)
        _refuse_other_sources(run, plan, overwrite=overwrite)
        _refuse_images_twice(run, plan)
        importing = _Importing(
            run=run, plan=plan, settings=settings, overwrite=overwrite, lease=lease
        )
        return importing.carry_out(pool or SerialPool(), observer or SilentObserver())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Importing:
    """One command at work on a run that it has to itself."""

    run: RunDirectory
    plan: ImportPlan
    settings: ImportConfig
    overwrite: bool
    lease: Held | None

    def carry_out(self, pool: Pool, observer: Observer) -> ImportOutcome:
        run, plan = self.run, self.plan
        started = _open_run(run, plan.config)
        source = str(plan.catalog.path)
        write_asked(run, [SlideSource(slide_id=each.slide_id, path=source) for each in plan.arrays])
        observer.slides_found(len(plan.arrays))
        settled: dict[str, SlideRecord] = {}
        worked: set[str] = set()
        try:
            for record in self._work(pool, observer, settled):
                worked.add(record.slide_id)
        finally:
            _sweep(run)
            publish_slides_table(run)
        remove_tree(run.state / "images")
        publish_bytes(run.summary("import"), self._summary(settled))
        write_run_json(run, plan.config, started=started, ended=now())
        records = [settled[array.slide_id] for array in plan.arrays]
        return ImportOutcome(
            plan=plan,
            tiling=TileOutcome(run=run, records=tuple(records)),
            before=frozenset(settled.keys() - worked),
        )

    def _work(
        self, pool: Pool, observer: Observer, settled: dict[str, SlideRecord]
    ) -> Iterator[SlideRecord]:
        """Import every array that is not done, and yield what became of it."""
        for answer in run_all(pool, self._calls(observer, settled)):
            if self.lease is not None:
                self.lease.check()
            job: ArrayJob = answer.call.argument
            record = answer.value
            if answer.error is not None:
                record = self._failed(job, answer.error)
            observer.unit_cut(job.slide_id, record.tiles, record.values.get("stored_bytes") or 0)
            settled[job.slide_id] = _ended(record, observer)
            yield record

    def _calls(self, observer: Observer, settled: dict[str, SlideRecord]) -> Iterator[Call]:
        """Yield a call for every array that is not done, its rows written where the call reads them."""
        for array in self.plan.arrays:
            images = self.plan.catalog.images.take(array.rows)
            job = self._job(array, images)
            observer.slide_planned(job.slide_id, len(images))
            before = None if self.overwrite else read_record(self.run, job.slide_id)
            if before is not None and self._is_done(before):
                settled[job.slide_id] = _ended(_today(before, job, images), observer)
                continue
            write_table(job.images, images)
            yield Call(name=f"import:{job.slide_id}", function=import_array, argument=job)

    def _is_done(self, record: SlideRecord) -> bool:
        """Whether an array is; one with other settings is left over from an --overwrite that was cut off."""
        same = record.values.get("config_digest") == self.plan.config.digest()
        return record.status == "done" and same

    def _job(self, array: ImageArray, images: pa.Table) -> ArrayJob:
        return ArrayJob(
            run=self.run,
            config=self.plan.config,
            settings=self.settings,
            origin=self.plan.catalog.origin,
            source=str(self.plan.catalog.path),
            slide_id=array.slide_id,
            fingerprint=images_digest(images, self.settings),
        )

    def _failed(self, job: ArrayJob, error: BaseException) -> SlideRecord:
        if isinstance(error, OutputError):
            raise error
        clear_slide(self.run, job.slide_id)
        record = _failed_record(job, _reason(error))
        write_record(self.run, record)
        return record

    def _summary(self, settled: dict[str, SlideRecord]) -> bytes:
        """Return what ``RUN/import.json`` says: of each source that was imported, the last command."""
        catalog = self.plan.catalog
        done = [record for record in settled.values() if record.status == "done"]
        about = {
            "source": str(catalog.path),
            "kind": catalog.kind,
            "settings": self.settings.model_dump(mode="json"),
            "settings_digest": self.settings.digest(),
            "arrays": len(settled),
            "arrays_failed": len(settled) - len(done),
            "tiles": sum(record.tiles for record in done),
            **{
                name: _sum(done, name)
                for name in ("tiles_kept", "tiles_encoded", "tiles_unreadable")
            },
            "columns_made_anew": list(catalog.measured_again),
            "versions": library_versions(),
            "ended": now(),
        }
        others = [each for each in _summaries(self.run) if each["source"] != str(catalog.path)]
        said = {"sources": [*others, about]}
        return (json.dumps(said, indent=2, ensure_ascii=False) + "\n").encode()


def _ended(record: SlideRecord, observer: Observer) -> SlideRecord:
    _LOG.info("array=%s status=%s tiles=%d", record.slide_id, record.status, record.tiles)
    observer.slide_ended(record)
    return record


def _sum(records: Sequence[SlideRecord], name: str) -> int:
    return sum(int(record.values.get(name) or 0) for record in records)


def _summaries(run: RunDirectory) -> list[dict[str, Any]]:
    return list((read_summary(run, "import") or {"sources": []})["sources"])


def _refuse_other_sources(run: RunDirectory, plan: ImportPlan, *, overwrite: bool) -> None:
    """Refuse names that arrays of other sources have, and settings that other arrays would keep."""
    mine, source = {array.slide_id for array in plan.arrays}, str(plan.catalog.path)
    records = read_records(run)
    for record in records:
        if record.slide_id in mine and record.path != source and record.status == "done":
            raise ConfigError(
                f"slide_id: {record.slide_id!r} is {record.path} in this run, and now {source}; give its "
                "images another slide_id, or choose another run directory with -o"
            )
    digest = plan.config.digest()
    other = [
        record.slide_id
        for record in records
        if record.slide_id not in mine and record.values.get("config_digest", digest) != digest
    ]
    if overwrite and other:
        raise ConfigError(
            f"{', '.join(other[:_MOST_IDS])}: done with other settings and not in {source}; "
            "choose another folder with -o"
        )


def _refuse_images_twice(run: RunDirectory, plan: ImportPlan) -> None:
    """Refuse images that are in the run already, in arrays that the source's columns no longer name."""
    mine, catalog = {array.slide_id for array in plan.arrays}, plan.catalog
    others = [
        record.slide_id
        for record in read_records(run)
        if record.status == "done"
        and record.path == str(catalog.path)
        and record.slide_id not in mine
        and _holds_images_of(catalog, run.manifest(record.slide_id))
    ]
    if others:
        raise ConfigError(
            f"{', '.join(others[:_MOST_IDS])}: imported before from {catalog.path}, whose columns put the "
            "same images into other arrays now, so they would be in the run twice; choose another run "
            "directory with -o"
        )


def _holds_images_of(catalog: Catalog, manifest: Path) -> bool:
    """Whether an array of the same source has images that are still in it; a Parquet file's are all."""
    if catalog.origin.column is not None:
        return True
    before, now_ = (
        table.column("source_path").combine_chunks()
        for table in (read_table(manifest), catalog.images)
    )
    return bool(pc.any(pc.is_in(before, value_set=now_), min_count=0).as_py())


def _today(before: SlideRecord, job: ArrayJob, images: pa.Table) -> SlideRecord:
    """Return the record of an array that is done, or why it is not what its source says today."""
    if before.values["fingerprint"] != job.fingerprint:
        return _failed_record(
            job,
            "done before from other rows or with other import settings; its tiles are untouched: "
            "--overwrite redoes it",
        )
    times = source_times(job.origin, images)
    if times == (before.values["size_bytes"], before.values["mtime_ns"]):
        return before
    if source_crc32c(job.origin, images) != before.values["source_crc32c"]:
        return _failed_record(
            job,
            "done before from other content of these images; its tiles are untouched: --overwrite redoes it",
        )
    today = replace(before, values={**before.values, "size_bytes": times[0], "mtime_ns": times[1]})
    write_record(job.run, today)
    return today


def _failed_record(job: ArrayJob, reason: str) -> SlideRecord:
    return SlideRecord(
        slide_id=job.slide_id,
        path=job.source,
        status="failed",
        reason=reason,
        values={"tiles": 0, "tiles_unreadable": 0},
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, PipelineError):
        return str(error)
    return f"{type(error).__name__}: {error}".strip().replace("\n", " ")


def _open_run(run: RunDirectory, config: TileConfig) -> str:
    """Make the run directory and return when its work began."""
    before = read_run_json(run)
    started = before["started"] if before and before["config_digest"] == config.digest() else now()
    try:
        make_folder(run.manifests)
        make_folder(run.records)
    except OSError as error:
        raise output_error(run.path, error) from error
    write_run_json(run, config, started=started, ended=None)
    open_group(run.store)
    return str(started)


def _sweep(run: RunDirectory) -> None:
    """Remove what workers have left that died; this command has the run to itself."""
    folders = (run.path, run.state, run.store, run.manifests, run.records, run.state / "images")
    for folder in folders:
        sweep(temporaries(folder))
