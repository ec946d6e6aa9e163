"""A search for settings: trials one after another here, and beside others in other processes and nodes."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import optuna
import yaml

from wsi_pipeline.config import differences
from wsi_pipeline.errors import ConfigError, OutputError, PipelineError
from wsi_pipeline.files import publish_bytes
from wsi_pipeline.remote import is_remote
from wsi_pipeline.train import study as studies
from wsi_pipeline.train.tune_config import TuneConfig, with_values

Report: TypeAlias = Callable[[int, float], None]
"""Takes epoch, from 0, and score of the validation part; may raise ``PrunedError``, which ends it."""

Claim: TypeAlias = Callable[[Path], AbstractContextManager[Any]]
"""Holds a folder while it is entered; raises ``ConfigError`` where another process holds it."""


class PrunedError(Exception):
    """A trial is not worth going on with; raised through the training, which must let it pass."""


class TrainOne(Protocol):
    """Trains a network, or goes on with it, and returns its score on the validation part."""

    def __call__(self, settings: Mapping[str, Any], *, name: str, report: Report) -> float:
        """Train one; ``name`` is the model's."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOutcome:
    """What a search has come to so far."""

    folder: Path
    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    """Of trials.csv: every trial that was begun, those of other processes too."""
    best: Mapping[str, Any] | None
    """The row of the best finished trial; None before there is one."""
    trials: int
    """How many are wanted in all."""
    done_here: int

    def count(self, state: str) -> int:
        """Return how many trials are complete, pruned, fail or running."""
        return sum(row["state"] == state for row in self.rows)


def tune(folder: Path, config: TuneConfig, train_one: TrainOne, *, claim: Claim) -> TuneOutcome:
    """Work on a study until none of its trials is left for this process.

    Several processes may do so at once, on nodes that share the folder. What was cut off is gone on with.

    Parameters
    ----------
    folder
        Of the study; its name is the study's, and trial 7 of it is the model ``STUDY-0007``.
    config
        What is searched.
    train_one
        Trains one; a ``PipelineError`` of it is that trial's failure, but for ``ConfigError`` and
        ``OutputError``, which end the search: the trial is gone on with next time.
    claim
        Keeps two processes from one trial.

    Raises
    ------
    ConfigError
        The folder holds a study with other settings, or is a URL; or a trial's settings are refused.
    OutputError
        The disk is full, or another process has taken the trial over.
    PipelineError
        Every trial has failed.
    """
    _begin(folder, config)
    study = studies.open_study(folder / "journal.log", config)
    done_here = 0
    while done := sum(
        _work_on(study, folder, number, config, train_one=train_one, claim=claim)
        for number in range(config.trials_in_all)
    ):  # once more: another process may have died of a trial that was looked at before
        done_here += done
    outcome = _written(study, folder, config, done_here=done_here)
    if outcome.rows and outcome.count("fail") == len(outcome.rows):
        raise PipelineError(
            f"{folder}: all {len(outcome.rows)} trials have failed, the first one: "
            f"{outcome.rows[0]['reason']}"
        )
    return outcome


def _begin(folder: Path, config: TuneConfig) -> None:
    """Note the settings, or refuse others than those that were noted."""
    if is_remote(folder):
        raise ConfigError(
            f"{folder}: a study needs a folder that its nodes share, no URL; tune a copy of the run"
        )
    path = folder / "tune.json"
    settings = config.model_dump(mode="json", exclude={"trials"})
    try:
        before = json.loads(path.read_bytes())
    except FileNotFoundError:
        publish_bytes(path, (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode())
        return
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); take another --study") from error
    if changed := differences(before, settings):
        raise ConfigError(
            f"{folder} was begun with other settings ({'; '.join(changed)}); use the same ones, or another "
            "--study"
        )


def _work_on(
    study: optuna.Study,
    folder: Path,
    number: int,
    config: TuneConfig,
    *,
    train_one: TrainOne,
    claim: Claim,
) -> bool:
    """Carry out a trial unless it is finished or another's, and return whether anything was done."""
    if _is_finished(study, number):
        return False
    with ExitStack() as held:
        try:
            held.enter_context(claim(folder / "trials" / f"{number:04d}"))
        except ConfigError:  # another works on it
            return False
        trial = studies.trial_of(study, number, config)
        if trial is None:
            return False
        settings = studies.settings_of(trial, config)
        name = f"{folder.name}-{number:04d}"
        _carry_out(
            study, trial, with_values(config.train, settings), name=name, train_one=train_one
        )
    _written(study, folder, config, done_here=0)
    return True


def _is_finished(study: optuna.Study, number: int) -> bool:
    there = studies.find(study, number)
    return there is not None and there.state.is_finished()


def _carry_out(
    study: optuna.Study,
    trial: optuna.Trial,
    settings: Mapping[str, Any],
    *,
    name: str,
    train_one: TrainOne,
) -> None:
    def report(epoch: int, value: float) -> None:
        if studies.report(trial, epoch, value):
            raise PrunedError(f"worse than the median of the others after epoch {epoch + 1}")

    try:
        value = train_one(settings, name=name, report=report)
    except PrunedError as error:
        studies.give_up(study, trial, str(error), pruned=True)
    except (ConfigError, OutputError) as error:  # a full disk is no failure of the settings
        raise type(error)(f"trial {name}: {error}") from error
    except PipelineError as error:
        studies.give_up(study, trial, str(error), pruned=False)
    else:
        if math.isfinite(value):
            studies.finish(study, trial, value)
        else:
            studies.give_up(study, trial, f"the score is {value}", pruned=False)


def _written(
    study: optuna.Study, folder: Path, config: TuneConfig, *, done_here: int
) -> TuneOutcome:
    """Write trials.csv and best.yaml from what is known; again where others have ended a trial meanwhile."""
    rows = studies.trial_rows(study, config)
    while True:
        best = _best(rows, config)
        publish_bytes(folder / "trials.csv", _csv(rows))
        if best is not None:
            publish_bytes(folder / "best.yaml", _yaml(folder, best, config))
        now_there = studies.trial_rows(study, config)
        if now_there == rows:
            break
        rows = now_there
    return TuneOutcome(
        folder=folder, rows=rows, best=best, trials=config.trials_in_all, done_here=done_here
    )


def _best(rows: Sequence[Mapping[str, Any]], config: TuneConfig) -> Mapping[str, Any] | None:
    """Return the best complete trial, the first of equals."""
    complete = [row for row in rows if row["state"] == "complete"]
    sign = 1.0 if config.direction == "minimize" else -1.0
    return min(complete, key=lambda row: sign * float(row[config.score]), default=None)


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _yaml(folder: Path, best: Mapping[str, Any], config: TuneConfig) -> bytes:
    """Return the settings of the best trial, for ``train --config``."""
    chosen = {each.path: best[each.path] for each in config.dimensions}
    settings = yaml.safe_dump(
        with_values(config.train, chosen), sort_keys=False, allow_unicode=True
    )
    score = f"{config.score.replace('_', ' ')} {best[config.score]:.6g} on validation"
    head = f"# Trial {best['trial']} of {folder.name}: {score}. Use: train RUN --config best.yaml\n"
    return (head + settings).encode()
