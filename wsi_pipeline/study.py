"""Joins trainings, evaluations and sweeps to a study: every arm, every seed, every question, one page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from wsi_pipeline.errors import ConfigError, TrainError
from wsi_pipeline.evaluate.ask.observer import AskObserver
from wsi_pipeline.evaluate.score.bootstrap import REPLICATES
from wsi_pipeline.evaluate.study.answer import Answer
from wsi_pipeline.evaluate.study.config import StudyConfig
from wsi_pipeline.evaluate.study.plan import StudyPlan, StudyQuestion, Unit, study_plan
from wsi_pipeline.evaluate.study.records import Answered, Record, read_record, write_record
from wsi_pipeline.evaluate.study.scores import mean_scores, study_scores, tile_scores
from wsi_pipeline.evaluate.study.tiles import TileDigests, check_conditions
from wsi_pipeline.evaluate.sweep.shift_config import sweeps_of
from wsi_pipeline.evaluation import evaluate
from wsi_pipeline.manifest import manifest_columns
from wsi_pipeline.remote import absolute
from wsi_pipeline.robustness import sweep
from wsi_pipeline.stages.study_files import found_of, write_study
from wsi_pipeline.tables import read_table
from wsi_pipeline.train.config import WorkConfig
from wsi_pipeline.train.metrics_table import read_history
from wsi_pipeline.train.model_directory import ModelDirectory, model_directory, read_train_json
from wsi_pipeline.train.observer import TrainObserver
from wsi_pipeline.train.parts import parts_of
from wsi_pipeline.train.peers import Peers, together
from wsi_pipeline.training import TrainOutcome, train
from wsi_pipeline.training import plan as plan_training

State = Literal["done", "trained", "begun", "to do"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOutcome:
    """What a command has done of a study."""

    out: Path
    done: tuple[str, ...]
    """Models that are trained and asked."""
    missing: tuple[str, ...]
    """Models that are not: another part's, or this one was stopped."""
    stopped: bool
    answers: tuple[Answer, ...]
    """None before every model is done: then tables, figures and the page are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedUnit:
    """What would be done for one model."""

    model: str
    seed: int
    state: State
    questions: int
    steps: int
    """Of its training, at the most."""
    tiles: int
    """That it learns from in an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """How networks are trained and asked, and who is told how far it is."""

    work: WorkConfig
    observer: TrainObserver | None
    ask_observer: AskObserver | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where answers are kept, and what tiles they have to be about."""

    out: Path
    tiles: TileDigests


def study(  # noqa: PLR0913  as for train
    run: str | Path,
    config: StudyConfig,
    *,
    out: str | Path,
    externals: Sequence[str] = (),
    work: WorkConfig | None = None,
    part: tuple[int, int] = (1, 1),
    observer: TrainObserver | None = None,
    ask_observer: AskObserver | None = None,
) -> StudyOutcome:
    """Train every arm with every seed, ask what the experiments ask, and write tables, figures and a page.

    Everything is gone on with where it was cut off. Jobs that share the work take a part each; whoever finds
    every model done writes the results, which are the same whoever it is.

    Parameters
    ----------
    run
        Whose tiles are trained on; its models are ``RUN/models/NAME.ARM-SEED``.
    config
        What is asked.
    out
        Folder of the results.
    externals
        Other runs.
    work
        How networks are trained and asked.
    part
        I of N: every N-th model, beginning with number I.
    observer, ask_observer
        Are told of trainings, and of what is asked of networks, as they go on.

    Raises
    ------
    ConfigError
        As for ``train``, ``evaluate`` and ``sweep``, or the study lacks a run.
    TrainError
        A training has failed; one process has done the others nevertheless, several ranks end with it.
    """
    work = work or WorkConfig()
    plan, folder = study_plan(config, str(run), externals), absolute(out)
    _check_labels(plan)
    check_conditions(plan)
    place = _Place(out=folder, tiles=TileDigests(plan.run))
    _check_classes(plan, place, work)
    with together(work.device) as peers:  # once for all: ranks that have parted do not meet again
        how = _How(work=work, observer=observer, ask_observer=ask_observer)
        stopped, failed = _all(plan, plan.share(*part), place, peers, how)
        answers = _written(plan, place) if peers.is_first and not stopped else ()
    if failed:
        raise TrainError(f"{len(failed)} models of the study have failed: {'; '.join(failed)}")
    done = tuple(unit.model for unit in plan.units if _is_done(plan, unit, place))
    missing = tuple(unit.model for unit in plan.units if unit.model not in done)
    return StudyOutcome(out=folder, done=done, missing=missing, stopped=stopped, answers=answers)


def _all(
    plan: StudyPlan,
    units: Sequence[Unit],
    place: _Place,
    peers: Peers,
    how: _How,
) -> tuple[bool, list[str]]:
    """Carry out units one after another; return whether a signal has stopped that, and which have failed."""
    failed: list[str] = []
    for unit in units:
        if peers.word_of_first(_is_done(plan, unit, place)):
            continue
        try:
            record = _carried_out(plan, unit, place, how)
        except TrainError as error:
            if peers.world.ranks > 1:  # the others still wait in this one, not in the next
                raise
            failed.append(f"{unit.model}: {error}")
            continue
        if record is None:
            return True, failed
        if peers.is_first:
            write_record(place.out, unit, record)
    return False, failed


def planned(
    run: str | Path,
    config: StudyConfig,
    *,
    out: str | Path,
    externals: Sequence[str] = (),
    work: WorkConfig | None = None,
) -> tuple[PlannedUnit, ...]:
    """Return what would be done for every model; nothing is written.

    Raises
    ------
    ConfigError
        As for ``study``, as far as that shows before anything is trained.
    """
    plan, folder = study_plan(config, str(run), externals), absolute(out)
    _check_labels(plan)
    check_conditions(plan)
    place = _Place(out=folder, tiles=TileDigests(plan.run))
    _check_classes(plan, place, work or WorkConfig())
    sizes: dict[str, tuple[int, int]] = {}
    for unit in plan.units:
        if unit.arm.models not in sizes:
            found = plan_training(plan.run, unit.config, work, name=unit.model)
            tiles = sum(found.parts.counts["train"].values())
            sizes[unit.arm.models] = (found.steps, tiles)
    return tuple(
        PlannedUnit(
            model=unit.model,
            seed=unit.seed,
            state=_state(plan, unit, place),
            questions=len({each.digest for each in unit.questions}),
            steps=sizes[unit.arm.models][0],
            tiles=sizes[unit.arm.models][1],
        )
        for unit in plan.units
    )


def _check_labels(plan: StudyPlan) -> None:
    """Refuse another run whose tiles cannot be judged, before anything is trained.

    Raises
    ------
    ConfigError
        It is no run, or has no column of the labels.
    """
    targets = {unit.config.target for unit in plan.units}
    for run in plan.externals.values():
        if lacking := sorted(targets - {*manifest_columns(run)}):
            raise ConfigError(
                f"{run}: expected tiles with a {', '.join(lacking)}, got none; label the run first "
                "(wsi-pipeline label)"
            )


def _check_classes(plan: StudyPlan, place: _Place, work: WorkConfig) -> None:
    """Refuse another run with labels that an arm does not learn, before anything is trained.

    Raises
    ------
    ConfigError
        It has such a label, or no tile that would be asked for.
    """
    learnt: dict[str, tuple[str, ...]] = {}
    for unit in plan.units:
        for question in unit.questions:
            if question.on is None:
                continue
            if unit.arm.models not in learnt:
                learnt[unit.arm.models] = parts_of(plan.run, unit.config, work).classes
            place.tiles.of(unit, question, learnt[unit.arm.models])


def _state(plan: StudyPlan, unit: Unit, place: _Place) -> State:
    if _is_done(plan, unit, place):
        return "done"
    about = read_train_json(model_directory(plan.run, unit.model))
    if about is None:
        return "to do"
    return "begun" if about["ended"] is None else "trained"


def _is_done(plan: StudyPlan, unit: Unit, place: _Place) -> bool:
    record = _record(plan, unit, place)
    return record is not None and not record.lacks(unit)


def _record(plan: StudyPlan, unit: Unit, place: _Place) -> Record | None:
    trained = _trained(model_directory(plan.run, unit.model))
    found = read_record(place.out, unit, trained=trained)
    return found and found.of_tiles(place.tiles.of_all(unit, found.classes))


def _trained(directory: ModelDirectory) -> str | None:
    """Return when a training began and ended; None of one that is not at its end."""
    about = read_train_json(directory)
    if about is None or about["ended"] is None:
        return None
    return f"{about['started']} {about['ended']}"


def _written(plan: StudyPlan, place: _Place) -> tuple[Answer, ...]:
    """Write the results if every model is done."""
    records = [_record(plan, unit, place) for unit in plan.units]
    pairs = zip(plan.units, records, strict=True)
    known = [record for unit, record in pairs if record is not None and not record.lacks(unit)]
    return write_study(place.out, found_of(plan, known)) if len(known) == len(records) else ()


def _carried_out(plan: StudyPlan, unit: Unit, place: _Place, how: _How) -> Record | None:
    """Train a model and ask it what it was not asked before; None where a signal has stopped its training."""
    outcome = train(plan.run, unit.config, name=unit.model, work=how.work, observer=how.observer)
    if outcome.ended == "stopped":
        return None
    record = _record(plan, unit, place) or _begun(unit, outcome)
    learnt = _train_row(outcome)
    found = {
        question.digest: _of_tiles(
            place.tiles.of(unit, question, record.classes),
            _swept(plan, unit, question, how, classes=record.classes)
            if question.sweeps
            else _answered(plan, unit, question, how, classes=record.classes, learnt=learnt),
        )
        for question in record.lacks(unit)
    }
    return replace(record, answers={**record.answers, **found})


def _of_tiles(digest: str, answers: Iterator[Answered]) -> tuple[Answered, ...]:
    return tuple(replace(each, tiles_digest=digest) for each in answers)


def _begun(unit: Unit, outcome: TrainOutcome) -> Record:
    """Return the record of a model that is trained and was asked nothing."""
    about = read_train_json(outcome.directory) or {}
    classes = tuple(about["data"]["classes"])
    return Record(
        model=unit.model,
        settings_digest=unit.config.digest(),
        trained=_trained(outcome.directory) or "",
        classes=classes,
        answers={},
    )


def _answered(
    plan: StudyPlan,
    unit: Unit,
    question: StudyQuestion,
    how: _How,
    *,
    classes: tuple[str, ...],
    learnt: Mapping[str, Any] | None,
) -> Iterator[Answered]:
    """Yield what a network says of tiles; ``learnt`` is what was measured of tiles that it was trained on."""
    found = evaluate(
        plan.run,
        model=unit.model,
        part=question.part,
        on=question.on,
        where=question.where,
        shortcut=question.shortcut,
        work=how.work,
        observer=how.ask_observer,
    )
    if found.table is None:
        raise ConfigError(
            f"{question.on or plan.run}: expected tiles with a {unit.config.target}, got none that has one "
            f"among {question.tiles}; label the run first (wsi-pipeline label)"
        )
    tempered = tile_scores(found.table.to_pylist())
    yield Answered(
        tiles=question.tiles,
        scores=study_scores({**tempered, **found.scores}, classes=classes, train=learnt),
        count=int(found.scores["tiles"]),
        source=f"predictions/{found.predictions.name}",
        notes=tuple(found.notes),
    )


def _swept(
    plan: StudyPlan,
    unit: Unit,
    question: StudyQuestion,
    how: _How,
    *,
    classes: tuple[str, ...],
) -> Iterator[Answered]:
    """Yield an answer for each shift: the mean over its levels but the clean one, and the curve."""
    found = sweep(
        plan.run,
        model=unit.model,
        part=question.part,
        on=question.on,
        where=question.where,
        sweeps=question.sweeps,
        apply_at=question.apply_at,
        replicates=REPLICATES,
        work=how.work,
        observer=how.ask_observer,
    )
    levels = {each.shift: each.levels for each in sweeps_of(question.sweeps)}
    for path, draws in zip(found.tables[unit.model], found.draws[unit.model], strict=True):
        table = read_table(path).to_pylist()
        shift = str(table[0]["shift"])
        rows = [
            row for row in table if row["level"] in levels[shift]
        ]  # earlier sweeps may have more
        scores = [study_scores(row, classes=classes) for row in rows]
        shifted = [each for row, each in zip(rows, scores, strict=True) if not row["is_clean"]]
        yield Answered(
            tiles=shift,
            scores=mean_scores(shifted),
            count=int(rows[0]["tiles"]),
            source=f"sweeps/{path.name}",
            notes=tuple(found.notes),
            draws=f"sweeps/draws/{draws.name}",
            curve=tuple(
                {"level": row["level"], "laplacian_var": row["laplacian_var_mean"], **each}
                for row, each in zip(rows, scores, strict=True)
            ),
        )


def _train_row(outcome: TrainOutcome) -> Mapping[str, Any] | None:
    """Return what was measured of training tiles in the best epoch; None without a probe."""
    table = read_history(outcome.directory.path)
    rows = [] if table is None else table.to_pylist()
    wanted = ("epoch", "train", outcome.best_epoch)
    return next((row for row in rows if (row["kind"], row["part"], row["epoch"]) == wanted), None)
