"""Slides in, tiles out: the stage behind ``wsi-pipeline tile``.

>>> from wsi_pipeline.stages.tile import TileConfig, tile_slides
>>> tile_slides(["missing/"], "RUN", TileConfig(overlap=0.2))
Traceback (most recent call last):
    ...
wsi_pipeline.errors.ConfigError: missing/: no such file, folder or match; check the spelling, or quote a glob
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from wsi_pipeline.calls import Pool, SerialPool
from wsi_pipeline.config import TISSUE_METHODS, TileConfig
from wsi_pipeline.errors import ConfigError, OutputError
from wsi_pipeline.files import make_folder, output_error, remove_tree, sweep, temporaries
from wsi_pipeline.remote import absolute, answering, is_remote, is_url
from wsi_pipeline.slides.find import SlideSource, find_slides, share_of
from wsi_pipeline.stages.asked import write_asked
from wsi_pipeline.stages.columns import complete_columns, finish_change
from wsi_pipeline.stages.lease import sole_use
from wsi_pipeline.stages.run_directory import (
    RunDirectory,
    SlideRecord,
    check_run_directory,
    now,
    publish_slides_table,
    read_records,
    read_run_json,
    write_run_json,
)
from wsi_pipeline.stages.stage import Observer, SilentObserver
from wsi_pipeline.stages.tiling import TileOptions, TileOutcome, Tiling
from wsi_pipeline.store.writer import open_group

__all__ = ["TileConfig", "TileOptions", "TileOutcome", "plan_run", "tile_slides"]


def tile_slides(
    slides: Sequence[str],
    run_path: str | Path,
    config: TileConfig,
    *,
    options: TileOptions | None = None,
    pool: Pool | None = None,
    observer: Observer | None = None,
) -> TileOutcome:
    """Cut slides into tiles and return what became of each.

    Parameters
    ----------
    slides
        Files, folders, globs, or a CSV or Parquet table with a column ``path``.
    run_path
        The run directory; made, or gone on with where its settings are the same.
    config
        What to make of each slide.
    options
        What does not change the result: share of the slides, overwriting, stopping early.
    pool
        Where the work runs; this thread if not given. ``wsi_pipeline.run`` gives processes or a cluster.
    observer
        Who is told of progress.

    Raises
    ------
    ConfigError
        Nothing was started: the message says what to change.
    OutputError
        The run directory cannot be written; what is finished stays, and the same call goes on.
    """
    options = options or TileOptions()
    run = RunDirectory(path=absolute(run_path))
    with answering(run.path):
        everything = _all_slides(slides, run, config, options)
    with answering(run.path), sole_use(run, part=options.part, parts=options.parts) as lease:
        tiling = Tiling(
            run=run,
            config=config,
            options=options,
            pool=pool or SerialPool(),
            observer=observer or SilentObserver(),
            lease=lease,
        )
        return _tile(tiling, everything)


def _tile(tiling: Tiling, everything: Sequence[SlideSource]) -> TileOutcome:
    run, config, options = tiling.run, tiling.config, tiling.options
    finish_change(run)
    sources = share_of(everything, part=options.part, parts=options.parts)
    tiling.check_sources(sources)
    started = _open_run(run, config)
    _sweep(tiling)
    write_asked(run, everything)
    with _wound_up(tiling):
        tiling.observer.slides_found(len(sources))
        tiling.take(sources)
        tiling.drive()
    outcome = tiling.outcome()
    new = {record.slide_id for record in outcome.with_status("done")} - outcome.already_done
    complete_columns(run, new)
    write_run_json(run, config, started=started, ended=now())
    return outcome


@contextmanager
def _wound_up(tiling: Tiling) -> Iterator[None]:
    """Sweep and write slides.parquet however the work ends; told is the error that ended it."""
    try:
        yield
    except BaseException as error:
        lost = is_remote(tiling.run.path) and isinstance(error, OutputError)
        with suppress(Exception):
            if not lost:  # a place that does not answer would keep everybody waiting again
                _wind_up(tiling)
        raise
    _wind_up(tiling)


def _wind_up(tiling: Tiling) -> None:
    run, lease = tiling.run, tiling.lease
    _sweep(tiling)
    if lease is None:
        publish_slides_table(run)
        return
    lease.end_soon()
    publish_slides_table(run, others_at_work=lambda: lease.others_at_work(run))


def _sweep(tiling: Tiling) -> None:
    """Remove what workers have left that died, or that were still at work which another had done meanwhile.

    Beside living parts of other hosts only what is surely nobody's: nothing tells whose the rest is.
    """
    run = tiling.run
    kept = (run.state / "tries", run.records)
    folders = (run.path, run.state, run.store, run.manifests, run.overlays, run.thumbnails, *kept)
    found = [path for folder in folders for path in temporaries(folder)]
    alone = tiling.lease is not None and tiling.lease.is_alone(run)  # asked after they were found
    sweep(found, unless_in_use=not alone)
    sweep(temporaries(run.state / "leases"), unless_in_use=True)
    outcome = tiling.outcome()
    for record in outcome.with_status("done"):
        if record.slide_id not in outcome.already_done:
            remove_tree(run.work(record.slide_id))
            sweep(temporaries(run.array(record.slide_id)))


def plan_run(
    slides: Sequence[str], run: RunDirectory, config: TileConfig, options: TileOptions
) -> tuple[SlideSource, ...]:
    """Return this job's share of the slides, after every check that needs no slide to be opened."""
    everything = _all_slides(slides, run, config, options)
    return share_of(everything, part=options.part, parts=options.parts)


def _all_slides(
    slides: Sequence[str], run: RunDirectory, config: TileConfig, options: TileOptions
) -> tuple[SlideSource, ...]:
    """Return the slides of all parts, checked."""
    if config.tissue not in TISSUE_METHODS and not Path(config.tissue).is_dir():
        raise ConfigError(
            f"tissue: expected otsu, hsv, histoprep, none or a folder of masks, got {config.tissue!r}"
        )
    check_run_directory(run, config, overwrite=options.overwrite)
    records = read_records(run)
    # A slide whose file is gone from its old place may have moved: its name is free for the new one.
    known = {
        record.path: record.slide_id
        for record in records
        if is_url(record.path) or Path(record.path).exists()
    }
    sources = find_slides(slides, known=known)
    _refuse_mixed_settings(records, sources, config)
    return sources


def _refuse_mixed_settings(
    records: Sequence[SlideRecord], sources: Sequence[SlideSource], config: TileConfig
) -> None:
    """Refuse to overwrite some slides of a run with other settings than the rest keeps."""
    named = {source.slide_id for source in sources}
    other = [
        record.slide_id
        for record in records
        if record.status == "done"
        and record.slide_id not in named
        and record.values["config_digest"] != config.digest()
    ]
    if other:
        raise ConfigError(
            f"{', '.join(other[:5])}{', …' if len(other) > 5 else ''}: done with other settings and not "
            "among the slides named; name them too, or choose another folder with -o"
        )


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
    if config.store == "zarr":
        open_group(run.store)
    return str(started)
