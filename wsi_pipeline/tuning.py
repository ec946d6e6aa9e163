"""Joins trainings to studies: several seeds of one training, and the search for settings."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_pipeline.errors import ConfigError, TrainError
from wsi_pipeline.loader.world import this_world
from wsi_pipeline.stages.lease import sole_use
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.train.config import TrainConfig, WorkConfig, nested, train_configs
from wsi_pipeline.train.metrics_table import validation_rows
from wsi_pipeline.train.model_directory import model_directory
from wsi_pipeline.train.observer import SilentTrainObserver, TrainObserver
from wsi_pipeline.train.peers import together
from wsi_pipeline.train.repeats import Spread, repeats_of, spreads_of
from wsi_pipeline.train.tune import Report, TuneOutcome
from wsi_pipeline.train.tune import tune as tune_on
from wsi_pipeline.train.tune_config import TuneConfig, with_values
from wsi_pipeline.training import TrainOutcome, train


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatsOutcome:
    """What several trainings with other seeds came to."""

    outcomes: tuple[TrainOutcome, ...]
    spreads: tuple[Spread, ...]
    """Of validation's scores, each repeat's at its best epoch."""


def repeat(  # noqa: PLR0913  as for train
    run: str | Path,
    config: TrainConfig,
    *,
    count: int,
    name: str = "model",
    work: WorkConfig | None = None,
    overwrite: bool = False,
    observer: TrainObserver | None = None,
) -> RepeatsOutcome:
    """Train the models ``NAME-0`` to ``NAME-4``, each with its number as seed; go on where one was cut off.

    They count from the configuration's own seed. Each is a model like any other, so another node may train
    ``NAME-3`` alone, with ``seed`` 3.

    Raises
    ------
    ConfigError
        As for ``train``.
    TrainError
        A repeat has failed; one process trains the others nevertheless, several ranks end with it.
    """
    outcomes: list[TrainOutcome] = []
    failed: list[str] = []
    work = work or WorkConfig()
    with together(work.device) as peers:  # once for all: ranks that have parted do not meet again
        for each in repeats_of(name, count, first_seed=config.seed):
            settings = nested(config, {"seed": each.seed})
            try:
                outcomes.append(
                    train(
                        run,
                        settings,
                        name=each.name,
                        work=work,
                        overwrite=overwrite,
                        observer=observer,
                    )
                )
            except TrainError as error:
                if peers.world.ranks > 1:  # the others still wait in this repeat, not in the next
                    raise
                failed.append(f"{each.name}: {error}")
            if outcomes and outcomes[-1].ended == "stopped":
                break
    if failed:
        raise TrainError(f"{len(failed)} of {count} repeats have failed: {'; '.join(failed)}")
    rows = [row for row in map(_row_of_best, outcomes) if row is not None]
    return RepeatsOutcome(outcomes=tuple(outcomes), spreads=spreads_of(rows))


def work_of(config: TuneConfig, flags: Mapping[str, Any]) -> WorkConfig:
    """Return how trials are carried out: as the search's section `train` says, flags win.

    Raises
    ------
    ConfigError
        A setting is refused: those of trials are looked at too, before the first one begins.
    """
    for cell in config.corners:
        _, work = train_configs(with_values(config.train, cell), flags)
    return work


def tune(
    run: str | Path,
    config: TuneConfig,
    *,
    study: str = "tune",
    work: WorkConfig | None = None,
    observer: TrainObserver | None = None,
) -> TuneOutcome:
    """Search for settings on the validation part; see ``train.tune.tune``, which processes share.

    The study lies in ``RUN/tunings/STUDY``, trial 7 of it in ``RUN/models/STUDY-0007``. A trial's score is
    that of the weights that are kept: of the epoch with the lowest validation loss.

    Raises
    ------
    ConfigError
        A setting is refused, the study was begun with other settings, this is a rank of several, or as for
        ``train``.
    PipelineError
        Every trial has failed.
    """
    if (ranks := this_world().ranks) > 1:
        raise ConfigError(
            f"tune: expected one process, got {ranks} ranks: a trial is trained by one; start tune once for "
            "each GPU, without torchrun, and in srun with one task each"
        )
    work = work or work_of(config, {})
    folder = model_directory(run, study).path.parents[1] / "tunings" / study

    def train_one(settings: Mapping[str, Any], *, name: str, report: Report) -> float:
        learnt, _ = train_configs(settings)
        for row in validation_rows(model_directory(run, name).path):
            report(row["epoch"], _score(row, config))
        watching = _Reporting(report, config, observer or SilentTrainObserver())
        outcome = train(run, learnt, name=name, work=work, observer=watching)
        if outcome.ended == "stopped":  # by a signal whose handler has let this go on
            raise KeyboardInterrupt
        row_of_best = _row_of_best(outcome)
        return math.nan if row_of_best is None else _score(row_of_best, config)

    return tune_on(folder, config, train_one, claim=_claimed)


class _Reporting:
    """Tells a search of every epoch, after whoever else looks."""

    def __init__(self, report: Report, config: TuneConfig, other: TrainObserver) -> None:
        self._report = report
        self._config = config
        self.on_begin = other.on_begin
        self.on_step = other.on_step
        self._other = other

    def on_epoch(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._other.on_epoch(rows)
        self._report(rows[-1]["epoch"], _score(rows[-1], self._config))


def _score(row: Mapping[str, Any], config: TuneConfig) -> float:
    value = row.get(config.score)
    if value is None:
        raise ConfigError(
            f"score: the validation part has no {config.score}, as a class has no tiles in it, or as none, "
            "or all, of a class carry a shortcut; take another score, or another split"
        )
    return float(value)


def _row_of_best(outcome: TrainOutcome) -> dict[str, Any] | None:
    rows = validation_rows(outcome.directory.path)
    return next((row for row in rows if row["epoch"] == outcome.best_epoch), None)


def _claimed(folder: Path) -> AbstractContextManager[Any]:
    return sole_use(RunDirectory(path=folder), part=1, parts=1)
