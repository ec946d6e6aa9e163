"""A search for settings in Optuna: its storage, and one trial for each number that is to be done.

Processes on several nodes share a journal file. A trial belongs to a number, 0 to N - 1, and a number is
worked on by whoever holds its claim; so there are never more trials than asked for, and one whose process was
killed is gone on with, under the same settings, by whoever claims it next.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from wsi_pipeline.randomness import generator
from wsi_pipeline.train.tune_config import Dimension, TuneConfig

_NUMBER = "number"
_REASON = "reason"
_STUDY = "study"


def open_study(journal: Path, config: TuneConfig) -> optuna.Study:
    """Return the study in a file that several processes may use at once; made if it is not there.

    The lock is a file made exclusively, which NFS version 3 and later keep; one that is older than 30 s is
    of a dead process, and broken.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lock = JournalFileOpenLock(str(journal))
    _mend(journal, lock)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
    return optuna.create_study(
        study_name=_STUDY,
        storage=storage,
        direction=config.direction,
        pruner=_pruner(config),
        load_if_exists=True,
    )


def _mend(journal: Path, lock: JournalFileOpenLock) -> None:
    """Take away the last line if it was cut off: a later one would be joined to it."""
    if not journal.exists():
        return
    lock.acquire()
    try:
        with journal.open("r+b") as handle:
            data = handle.read()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                handle.truncate(whole)
                os.fsync(handle.fileno())
    finally:
        lock.release()


def trial_of(study: optuna.Study, number: int, config: TuneConfig) -> Trial | None:
    """Return the trial of a number, begun anew or gone on with; None where it is finished.

    The caller holds the claim of the number.
    """
    study.sampler = _sampler(config, number)
    there = find(study, number)
    if there is None:
        begun = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={_NUMBER: number})
        study.add_trial(begun)
        there = find(study, number)
    if there is None or there.state.is_finished():
        return None
    return Trial(study, there._trial_id)  # noqa: SLF001  Optuna has no other way back to a trial


def find(study: optuna.Study, number: int) -> FrozenTrial | None:
    """Return the trial of a number as it is known here, None where it was not begun."""
    trials = study.get_trials(deepcopy=False)
    return next((each for each in trials if each.user_attrs.get(_NUMBER) == number), None)


def settings_of(trial: Trial, config: TuneConfig) -> dict[str, Any]:
    """Return the trial's value of every dimension: drawn the first time, the same ever after."""
    return {each.path: _drawn(trial, each) for each in config.dimensions}


def _drawn(trial: Trial, dimension: Dimension) -> Any:  # noqa: ANN401  of any type
    path, low, high = dimension.path, dimension.low, dimension.high
    match dimension.kind:
        case "choice":
            return trial.suggest_categorical(path, dimension.choices)
        case "whole":
            return trial.suggest_int(path, int(low), int(high))
        case "uniform" | "log":
            return trial.suggest_float(path, low, high, log=dimension.kind == "log")


def _sampler(config: TuneConfig, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one trial, seeded by its number, so that a study that goes on repeats itself."""
    seed = int(generator(config.seed, "tune", number).integers(2**31))
    match config.sampler:
        case "grid":
            return _Given(config.grid[number])
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed)
        case "random":
            return optuna.samplers.RandomSampler(seed=seed)


class _Given(optuna.samplers.BaseSampler):
    """Gives settings that are known beforehand."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Return nothing: no setting depends on another."""
        return {}

    def sample_relative(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002
    ) -> Any:  # noqa: ANN401  Optuna's
        """Return the setting."""
        return self._settings[param_name]


def _pruner(config: TuneConfig) -> optuna.pruners.BasePruner:
    if config.prune == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(
        n_startup_trials=config.prune_after_trials, n_warmup_steps=config.prune_after_epochs
    )


def report(trial: Trial, epoch: int, value: float) -> bool:
    """Take the score after an epoch and return whether the trial is to be ended.

    A trial that goes on tells of some epochs again, which were judged then.
    """
    if epoch in trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values:
        return False
    trial.report(value, epoch)
    return bool(trial.should_prune())


def finish(study: optuna.Study, trial: Trial, value: float) -> None:
    """Say what a trial has come to."""
    study.tell(trial, value)


def give_up(study: optuna.Study, trial: Trial, reason: str, *, pruned: bool) -> None:
    """Say that a trial was ended early, or failed, and why."""
    trial.set_user_attr(_REASON, reason)
    study.tell(trial, state=TrialState.PRUNED if pruned else TrialState.FAIL)


def trial_rows(study: optuna.Study, config: TuneConfig) -> list[dict[str, Any]]:
    """Return a row for every number that was begun: state, value, epochs and settings, in order of number."""
    trials = [each for each in study.get_trials() if _NUMBER in each.user_attrs]
    rows = [
        {
            "trial": trial.user_attrs[_NUMBER],
            "state": trial.state.name.lower(),
            config.score: trial.value,
            "epochs": len(trial.intermediate_values),
            **{each.path: trial.params.get(each.path) for each in config.dimensions},
            "reason": trial.user_attrs.get(_REASON),
        }
        for trial in trials
    ]
    return sorted(rows, key=lambda row: int(row["trial"]))
