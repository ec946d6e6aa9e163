"""What each model of a study came to, one file each: processes of a job array meet nowhere else."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from wsi_pipeline.errors import OutputError
from wsi_pipeline.evaluate.study.plan import StudyPlan, StudyQuestion, Unit
from wsi_pipeline.evaluate.study.table import Measured
from wsi_pipeline.files import publish_bytes, read_bytes

_GONE = ("logits", "train_logits")
"""Keys of records of earlier versions that nothing asks for any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a network said of some tiles."""

    tiles: str
    scores: Mapping[str, float | None] = field(repr=False)
    count: int
    """Tiles that were asked and have a label."""
    source: str
    """File of the predictions or of the sweep, below the model's folder."""
    tiles_digest: str = ""
    """Of the tiles when they were asked; empty of a study that did not note it, which is asked again."""
    notes: tuple[str, ...] = ()
    draws: str = ""
    """Of a sweep: file of its draws of patients, below the model's folder; empty of a study that had none
    made, whose sweeps are asked again."""
    curve: tuple[Mapping[str, float | None], ...] = field(repr=False, default=())
    """Of a sweep: level, laplacian_var and scores of each, in order of level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A model that is trained, and what it has been asked so far."""

    model: str
    settings_digest: str
    trained: str
    """When its training began and ended: one that was trained anew has been asked nothing yet."""
    classes: tuple[str, ...]
    answers: Mapping[str, tuple[Answered, ...]] = field(repr=False)
    """By the digest of the question; a sweep has one for each shift."""

    def lacks(self, unit: Unit) -> tuple[StudyQuestion, ...]:
        """Return the questions of a unit that have no answer, each once."""
        lacking = {each.digest: each for each in unit.questions if not self._has(each)}
        return tuple(lacking.values())

    def _has(self, question: StudyQuestion) -> bool:
        found = self.answers.get(question.digest)
        return found is not None and all(each.draws or not each.curve for each in found)

    def of_tiles(self, digests: Mapping[str, str]) -> "Record":
        """Return the record without answers about tiles that are others by now.

        Parameters
        ----------
        digests
            Of the tiles as they are, by the digest of the question; of other questions nothing is known.
        """
        kept = {
            name: each
            for name, each in self.answers.items()
            if name not in digests or all(one.tiles_digest == digests[name] for one in each)
        }
        return replace(self, answers=kept)


def record_path(out: Path, unit: Unit) -> Path:
    """Return the file of a unit."""
    return out / "units" / f"{unit.model}.json"


def write_record(out: Path, unit: Unit, record: Record) -> None:
    """Write what a model came to, whole or not at all."""
    text = json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n"
    publish_bytes(record_path(out, unit), text.encode())


def read_record(out: Path, unit: Unit, *, trained: str | None) -> Record | None:
    """Return what a model came to; None where there is nothing, or it is of a model trained otherwise.

    Parameters
    ----------
    out
        Of the study.
    unit
        Whose settings count.
    trained
        When the model that is there now was trained; None where none is trained to its end.

    Raises
    ------
    OutputError
        The file is damaged.
    """
    path = record_path(out, unit)
    try:
        content = json.loads(read_bytes(path))
        answers = {name: tuple(map(_answered, each)) for name, each in content["answers"].items()}
        classes = tuple(content["classes"])
        record = Record(**{**_kept(content), "answers": answers, "classes": classes})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise OutputError(
            f"{path}: cannot be read ({error!r}); remove it and run the same command again"
        ) from error
    is_todays = (record.settings_digest, record.trained) == (unit.config.digest(), trained)
    return record if is_todays else None


def _answered(values: Mapping[str, Any]) -> Answered:
    made = {**_kept(values), "notes": tuple(values["notes"]), "curve": tuple(values["curve"])}
    return Answered(**made)


def _kept(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in values.items() if name not in _GONE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An answer with who asked, and the arm and the seed of its network."""

    experiment: str
    arm: str
    seed: int
    record: Record
    answer: Answered


def told(plan: StudyPlan, records: Mapping[str, Record]) -> tuple[Told, ...]:
    """Return every answer of a study: experiments, arms, seeds, and each network's answers in their order.

    A model that several experiments share is told in each of them.

    Parameters
    ----------
    plan
        The study.
    records
        By model.
    """
    return tuple(_told(plan, records))


def _told(plan: StudyPlan, records: Mapping[str, Record]) -> Iterator[Told]:
    units = {unit.model: unit for unit in plan.units}
    for experiment in plan.study.experiments:
        for arm, models in plan.arms(experiment).items():
            for unit, record in ((units[model], records[model]) for model in models):
                for question in unit.questions:
                    if question.experiment == experiment:
                        for answer in record.answers[question.digest]:
                            yield Told(
                                experiment=experiment,
                                arm=arm,
                                seed=unit.seed,
                                record=record,
                                answer=answer,
                            )


def measured(answers: Sequence[Told]) -> tuple[Measured, ...]:
    """Return the scores of answers, for tables."""
    return tuple(
        Measured(
            experiment=each.experiment,
            tiles=each.answer.tiles,
            arm=each.arm,
            model=each.record.model,
            seed=each.seed,
            scores=each.answer.scores,
        )
        for each in answers
    )
