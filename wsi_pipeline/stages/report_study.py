"""A study on one page: what was asked, what happened, and every number beside the paper's. Loads no torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from wsi_pipeline.evaluate.score.bootstrap import Interval
from wsi_pipeline.evaluate.study.answer import Answer, Asked, answer
from wsi_pipeline.evaluate.study.config import SCORES, ExperimentConfig, Kind
from wsi_pipeline.evaluate.study.plan import StudyPlan
from wsi_pipeline.evaluate.study.records import Told
from wsi_pipeline.evaluate.study.table import Summary
from wsi_pipeline.provenance import code_version
from wsi_pipeline.report.parts import (
    Cell,
    Curves,
    Facts,
    Field,
    Lines,
    Notice,
    NoticeKind,
    Page,
    Part,
    Ranges,
    Section,
    Table,
)
from wsi_pipeline.stages.report_study_figures import arms, curves, logits, sharpness
from wsi_pipeline.train.config import flat
from wsi_pipeline.train.score_words import word_of

_KIND_OF: Mapping[str, NoticeKind] = {
    "for": "good",
    "against": "warning",
    "open": "note",
    "unsaid": "note",
}
_SHIFT = "logit_shift_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that a study came to."""

    plan: StudyPlan = field(repr=False)
    answers: tuple[Told, ...] = field(repr=False)
    rows: tuple[Summary, ...] = field(repr=False)

    def of(self, experiment: str) -> "Found":
        """Return what belongs to one experiment."""
        return Found(
            plan=self.plan,
            answers=tuple(each for each in self.answers if each.experiment == experiment),
            rows=tuple(row for row in self.rows if row.experiment == experiment),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is drawn on the page and written as files."""

    sharpness: Curves | None
    of_experiment: Mapping[str, Mapping[str, Lines | Ranges]]
    """By experiment and tiles."""
    logits: tuple[Lines, ...]

    def of_kind(self, plan: StudyPlan, kind: Kind) -> list[Lines | Ranges]:
        """Return the figures of all experiments of a kind."""
        experiments = plan.study.experiments
        named = [name for name in self.of_experiment if experiments[name].kind == kind]
        return [each for name in named for each in self.of_experiment[name].values()]


def verdicts(found: Found) -> tuple[Answer, ...]:
    """Return what each experiment says of the method, on each kind of its tiles."""
    study = found.plan.study
    answers: list[Answer | None] = []
    for name, experiment in study.experiments.items():
        asked = Asked(
            method=study.method,
            reference=study.reference,
            score=experiment.score_asked,
            control=experiment.control,
        )
        answers += [answer(rows, asked) for rows in _by_tiles(found.of(name).rows).values()]
    return tuple(each for each in answers if each is not None)


def _by_tiles(rows: Sequence[Summary]) -> dict[str, list[Summary]]:
    by_tiles: dict[str, list[Summary]] = {}
    for row in rows:
        by_tiles.setdefault(row.tiles, []).append(row)
    return by_tiles


def study_figures(found: Found) -> Figures:
    """Return the figures of a study."""
    experiments = found.plan.study.experiments
    told = [name for name, each in experiments.items() if each.kind != "sweep"]
    return Figures(
        sharpness=sharpness(found.plan),
        of_experiment={name: _figures(found.of(name), each) for name, each in experiments.items()},
        logits=tuple(
            each for name in told for each in logits(found.plan.run, found.of(name).answers)
        ),
    )


def _figures(found: Found, experiment: ExperimentConfig) -> dict[str, Lines | Ranges]:
    score = experiment.score_asked
    swept = curves(found.answers, score=score)
    others = [row for row in found.rows if row.tiles not in swept]
    return {**arms(others, found.answers, score=score), **swept}


def study_page(found: Found, figures: Figures, *, made: str) -> Page:
    """Return the page of a study.

    Parameters
    ----------
    found
        What it came to.
    figures
        As ``study_figures`` gives them.
    made
        The time that the page states.
    """
    study = found.plan.study
    asked = [
        _experiment(found.of(name), name, figures.of_experiment[name]) for name in study.experiments
    ]
    told = (_sharpness(figures), _logits(found, figures), _settings(found))
    return Page(
        title=study.title or study.name,
        made=made,
        version=code_version(),
        sections=(_happened(found), *asked, *told),
    )


def _happened(found: Found) -> Section:
    """Return the answers first."""
    plan, study = found.plan, found.plan.study
    networks = len({each.record.model for each in found.answers})
    facts = Facts(
        items=(
            ("experiments", str(len(study.experiments))),
            ("networks", str(networks)),
            ("repeats of each arm", str(study.repeats)),
            ("other runs", str(len(plan.externals))),
        )
    )
    lead = (
        f"Asked is whether {study.method} is better than {study.reference}. An answer is for or against "
        "where two 95 % intervals of the paired differences leave out 0 on the same side: that over repeats, "
        "which tells of other seeds, and that over repeats and patients, both drawn. Intervals over few "
        "repeats are wide: Student's t of two reaches 12.7 standard errors; figures show what lies between 0 "
        "and 1, as scores do."
    )
    notices = [Notice(text=each.text, kind=_KIND_OF[each.verdict]) for each in verdicts(found)]
    parts: tuple[Part, ...] = (facts, Notice(text=lead, kind="plain"), *notices)
    return Section(name="happened", title="What happened", parts=parts)


def _experiment(found: Found, name: str, figures: Mapping[str, Part]) -> Section:
    study = found.plan.study
    parts: list[Part] = []
    for tiles, rows in _by_tiles(found.rows).items():
        parts += [_scores(rows, tiles, found), _differences(rows, tiles)]
        parts += [figures[tiles]] if tiles in figures else []
        parts += _paper(rows, tiles, reference=study.reference)
    notes = dict.fromkeys(note for each in found.answers for note in each.answer.notes)
    parts += [Notice(text=text, kind="warning") for text in notes]
    title = study.experiments[name].title or name
    return Section(name=f"experiment-{name}", title=title, parts=tuple(parts))


def _scores(rows: Sequence[Summary], tiles: str, found: Found) -> Table:
    scores = [name for name in SCORES if any(row.score == name for row in rows)]
    scores += sorted({row.score for row in rows if row.score.startswith("recall_")})
    of_arm = {(row.arm, row.score): row for row in rows}
    counts = sorted({each.answer.count for each in found.answers if each.answer.tiles == tiles})
    said = " to ".join(str(each) for each in dict.fromkeys((counts[0], counts[-1])))
    return Table(
        caption=f"On {tiles} ({said} tiles): mean over repeats (standard deviation)",
        fields=(
            Field(label="arm"),
            Field(label="repeats", kind="number"),
            *(Field(label=word_of(name)) for name in scores),
        ),
        rows=[
            (
                arm,
                max(row.spread.count for row in rows if row.arm == arm),
                *(_cell(of_arm.get((arm, name))) for name in scores),
            )
            for arm in dict.fromkeys(row.arm for row in rows)
        ],
    )


def _cell(row: Summary | None) -> Cell:
    return None if row is None else _with_std(row.mean, row.spread.std)


def _with_std(mean: float, std: float | None) -> str:
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ({std:.3f})"


def _differences(rows: Sequence[Summary], tiles: str) -> Table:
    """Return every arm less the reference."""
    ends = ("from, seeds", "to, seeds", "from, patients too", "to, patients too")
    numbers = ("difference", *ends, "p, paired t", "p, signs", "least p, signs")
    return Table(
        caption=f"On {tiles}: each arm less the reference, seed by seed, with 95 % intervals",
        name=None,
        fields=(
            Field(label="arm"),
            Field(label="score"),
            Field(label="pairs", kind="number"),
            *(Field(label=label, kind="number", digits=4) for label in numbers),
        ),
        rows=[
            (
                row.arm,
                word_of(row.score),
                row.against.pairs,
                row.against.mean,
                row.against.low,
                row.against.high,
                *_ends(row.against.nested),
                row.against.p,
                row.against.p_signs,
                row.against.least_p,
            )
            for row in rows
            if row.against is not None and not row.score.startswith(_SHIFT)
        ],
    )


def _ends(found: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if found is None else (found.low, found.high)


def _paper(rows: Sequence[Summary], tiles: str, *, reference: str) -> Iterator[Table]:
    """Yield the paper's numbers beside ours, where it gives any."""
    given = {(row.arm, row.score): row.paper[0] for row in rows if row.paper is not None}
    numbers = ("less the reference, here", "less the reference, paper")
    if given:
        yield Table(
            caption=f"On {tiles}: beside the paper",
            fields=(
                Field(label="arm"),
                Field(label="score"),
                Field(label="here"),
                Field(label="paper"),
                *(Field(label=label, kind="number", digits=3) for label in numbers),
                Field(label="direction"),
            ),
            rows=[
                _beside(row, *row.paper, given.get((reference, row.score)))
                for row in rows
                if row.paper is not None
            ],
        )


def _beside(
    row: Summary, mean: float, std: float | None, reference: float | None
) -> tuple[Cell, ...]:
    ours = None if row.against is None else row.against.mean
    theirs = None if ours is None or reference is None else mean - reference
    same = None if ours is None or theirs is None else _same_way(ours, theirs)
    here = _with_std(row.mean, row.spread.std)
    return (row.arm, word_of(row.score), here, _with_std(mean, std), ours, theirs, same)


def _same_way(ours: float, theirs: float) -> str:
    if ours == 0 or theirs == 0:
        return "none"
    return "the same" if (ours > 0) == (theirs > 0) else "the opposite"


def _sharpness(figures: Figures) -> Section:
    drawn = figures.sharpness or Notice(text="No tile has a sharpness.")
    return Section(name="sharpness", title="Sharpness by scanner", parts=(drawn,))


def _logits(found: Found, figures: Figures) -> Section:
    rows = [row for row in found.rows if row.score.startswith(_SHIFT)]
    table = Table(
        name="shifts",
        caption="Shift of each class's mean logit from training tiles to others (standard deviation)",
        fields=(
            Field(label="experiment"),
            Field(label="tiles"),
            Field(label="arm"),
            Field(label="class"),
            Field(label="shift"),
        ),
        rows=[
            (
                row.experiment,
                row.tiles,
                row.arm,
                row.score.removeprefix(_SHIFT),
                _with_std(row.mean, row.spread.std),
            )
            for row in rows
        ],
    )
    parts: tuple[Part, ...] = (*((table,) if rows else ()), *figures.logits)
    return Section(name="logits", title="Logits of each class", parts=parts)


def _settings(found: Found) -> Section:
    """Return the settings that arms do not share, and the models."""
    units = {unit.arm.models: unit for unit in found.plan.units}
    values = {name: flat(unit.arm.config.model_dump(mode="json")) for name, unit in units.items()}
    paths = [
        path
        for path in next(iter(values.values()))
        if len({repr(each.get(path)) for each in values.values()}) > 1
    ]
    fields = (Field(label="setting"), *(Field(label=name) for name in values))
    rows = [(path, *(str(each.get(path)) for each in values.values())) for path in paths]
    note = Notice(text=f"Tiles of {found.plan.run}. All other settings are in study.json.")
    table = Table(
        name="arms",
        caption="Settings in which arms differ, by their models",
        fields=fields,
        rows=rows,
    )
    return Section(name="settings", title="Settings", parts=(note, table))
