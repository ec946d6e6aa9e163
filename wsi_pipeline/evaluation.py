"""Trained networks on tiles that they have not seen: logits as tables, and how good they are.

>>> from wsi_pipeline.evaluation import evaluate
>>> found = evaluate("RUN", model="net", on="OTHER_CENTRE", part="all")  # doctest: +SKIP
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsi_pipeline.augment.shortcut_config import ShortcutRule
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.ask.asking import parts_told
from wsi_pipeline.evaluate.ask.ensembles import Chosen, chosen_models
from wsi_pipeline.evaluate.ask.judging import Evaluated, judge, judge_ensemble
from wsi_pipeline.evaluate.ask.observer import AskObserver, SilentAskObserver
from wsi_pipeline.evaluate.ask.tta import VIEWS
from wsi_pipeline.evaluate.predictions import read_predictions
from wsi_pipeline.evaluate.question import PARTS, Part, Question, Tta
from wsi_pipeline.evaluate.score.bootstrap import REPLICATES, Interval
from wsi_pipeline.evaluate.score.nested import by_score, repeated
from wsi_pipeline.evaluate.sweep.table import arm_of
from wsi_pipeline.questions import Member, Plan, ask_of, together_asked
from wsi_pipeline.remote import absolute
from wsi_pipeline.stages.lease import sole_use_of
from wsi_pipeline.tables import write_pieces
from wsi_pipeline.train.config import WorkConfig
from wsi_pipeline.train.looking import batches_on
from wsi_pipeline.train.model_directory import model_directory
from wsi_pipeline.train.peers import Peers, device_of, together
from wsi_pipeline.train.prediction_table import answer_metadata
from wsi_pipeline.train.repeats import Spread, spreads_of

__all__ = [
    "PARTS",
    "Evaluated",
    "EvaluatedModels",
    "Part",
    "PlannedAnswers",
    "Question",
    "evaluate",
    "evaluate_models",
    "planned",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedModels:
    """What several networks are worth on the same tiles."""

    members: tuple[Evaluated, ...]
    ensemble: Evaluated | None
    """All of them as one."""
    spreads: tuple[Spread, ...]
    """Of the members' scores."""
    nested: Mapping[str, Interval] = field(default_factory=dict)
    """Of the mean of each of these over seeds and patients; none where the members are no repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAnswers:
    """What a network would be asked."""

    model: str
    part: str
    tiles: int
    labelled: int
    """Tiles whose label the network knows; scores are of these."""
    left: int
    """Tiles that no earlier command has asked."""
    table: Path
    """Where the answers are to be, or are."""
    notes: tuple[str, ...]
    """What a reader of the scores has to know; none of validation tiles that only settle a cut-off."""


def evaluate(  # noqa: PLR0913  what is asked, one by one
    run: str | Path,
    *,
    model: str,
    part: Part = "test",
    on: str | Path | None = None,
    where: str | None = None,
    tta: Tta = "none",
    shortcut: ShortcutRule = "none",
    replicates: int = REPLICATES,
    work: WorkConfig | None = None,
    overwrite: bool = False,
    observer: AskObserver | None = None,
) -> Evaluated:
    """Ask a trained network for every readable tile of a part, and compare with the labels.

    Images are made as they were in training. Predictions are in ``RUN/models/NAME/predictions/PART.parquet``,
    of another run in ``OTHER-PART.parquet``; conditions, views and shortcuts add to the name. What was asked,
    and scores, are beside them. Logits are written in parts as they come: the same call goes on where one was
    cut off. Ranks of torchrun or srun share the parts. Files are the same to the byte whatever ranks, workers
    or interruptions there were, on the same kind of device.

    Parameters
    ----------
    run
        Where the model was trained.
    model
        Its name.
    part, on, where, tta, shortcut
        As ``Question`` has them.
    replicates
        Draws of patients of each interval; 0: no intervals.
    work
        How it is carried out.
    overwrite
        Ask again what is there.
    observer
        Is told how far it is.

    Raises
    ------
    ConfigError
        There is no such model, or no such tile, its label is no class of the network, another run of the
        same name was evaluated before, the model has no shortcut, or another process asks the same.
    TileError
        A tile cannot be decoded.
    TrainError
        A checkpoint is damaged, memory is too little, or another rank has ended.
    """
    asked = _Asked(
        run=run,
        question=Question(part=part, on=on, where=where, tta=tta, shortcut=shortcut),
        replicates=replicates,
        work=work or WorkConfig(),
        overwrite=overwrite,
        observer=observer or SilentAskObserver(),
    )
    return _evaluated(asked, Chosen(names=(model,), ensemble=None)).members[0]


def evaluate_models(  # noqa: PLR0913  what is asked, one by one
    run: str | Path,
    *,
    models: Sequence[str],
    question: Question | None = None,
    ensemble: str | None = None,
    replicates: int = REPLICATES,
    work: WorkConfig | None = None,
    overwrite: bool = False,
    observer: AskObserver | None = None,
) -> EvaluatedModels:
    """Ask several networks for the same tiles, which are decoded once for all that take the same images.

    Parameters
    ----------
    models
        Names, patterns such as ``sd-*``, or ``sd`` for its repeats ``sd-0``, ``sd-1``, ...
    question
        Which tiles, and how; the test part if not given.
    ensemble
        What they are called as one, in ``RUN/models/ENSEMBLE``; see ``chosen_models``.
    run, replicates, work, overwrite, observer
        As for ``evaluate``, which see for errors too.
    """
    asked = _Asked(
        run=run,
        question=question or Question(),
        replicates=replicates,
        work=work or WorkConfig(),
        overwrite=overwrite,
        observer=observer or SilentAskObserver(),
    )
    return _evaluated(asked, chosen_models(run, models, ensemble=ensemble))


def planned(
    run: str | Path,
    *,
    models: Sequence[str],
    question: Question | None = None,
    ensemble: str | None = None,
    work: WorkConfig | None = None,
    overwrite: bool = False,
) -> tuple[PlannedAnswers, ...]:
    """Return what ``evaluate_models`` would ask, validation tiles for cut-offs too; nothing is written.

    Raises
    ------
    ConfigError
        As for ``evaluate``, as far as that shows before anything is asked.
    """
    plan = Plan(run, device_of((work or WorkConfig()).device))
    names = chosen_models(run, models, ensemble=ensemble).names
    members = [plan.member(name, question or Question()) for name in names]
    extra = [each.validation for each in members if each.validation is not None]
    own = (_planned(each, anew=overwrite, notes=each.said.notes) for each in members)
    more = (_planned(each, anew=overwrite and not each.is_there, notes=()) for each in extra)
    return (*own, *more)


def _planned(member: Member, *, anew: bool, notes: tuple[str, ...]) -> PlannedAnswers:
    cut = member.parts.cut
    missing: Sequence[int] = range(len(cut))
    if not anew:
        missing = () if member.is_there else member.parts.missing()
    return PlannedAnswers(
        model=member.name,
        part=member.question.part,
        tiles=len(member.tiles),
        labelled=member.tiles.labelled,
        left=sum(map(cut.tiles_of, missing)),
        table=member.table,
        notes=notes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What all models are asked, and how."""

    run: str | Path
    question: Question
    replicates: int
    work: WorkConfig
    overwrite: bool
    observer: AskObserver


def _evaluated(asked: _Asked, chosen: Chosen) -> EvaluatedModels:
    """Plan what is asked; then ask, one rank or several; then let the first one judge."""
    device = device_of(asked.work.device)
    plan = Plan(asked.run, device)
    members = [plan.member(name, asked.question) for name in chosen.names]
    extra = [each.validation for each in members if each.validation is not None]
    with together(asked.work.device) as peers:
        unanswered = [each.table for each in members if asked.overwrite or not each.is_there]
        unanswered += [each.table for each in extra if not each.is_there]
        tables = peers.word_of_first(unanswered)
        lacking = [each for each in (*members, *extra) if each.table in tables]
        with _questions_held(lacking, peers):
            for group in together_asked(lacking):
                _ask(group, peers, asked)
            found = _judged(asked, chosen, members, lacking) if peers.is_first else None
            result: EvaluatedModels = peers.word_of_first(found)
    return result


@contextmanager
def _questions_held(members: Sequence[Member], peers: Peers) -> Iterator[None]:
    """Keep other commands from asking the same questions meanwhile.

    Raises
    ------
    ConfigError
        One does.
    """
    with ExitStack() as stack:
        for each in members if peers.is_first else ():
            stack.callback(each.parts.forget)
            otherwise = "wait for it to end: it asks the same"
            stack.enter_context(sole_use_of(each.parts.above, otherwise=otherwise))
        yield


def _ask(group: Sequence[Member], peers: Peers, asked: _Asked) -> None:
    """Ask the models of a group for the parts that are missing; the first rank joins the parts."""
    if peers.is_first:
        for each in group:
            each.parts.begin(anew=asked.overwrite)
    missing = peers.word_of_first([each.parts.missing() for each in group])
    wanted: dict[int, list[str]] = {}
    for each, numbers in zip(group, missing, strict=True):
        for number in numbers:
            wanted.setdefault(number, []).append(each.name)
    if wanted:
        _ask_parts(group, dict(sorted(wanted.items())), peers, asked)
    if peers.is_first:
        for each in group:
            _join(each)


def _ask_parts(
    group: Sequence[Member], wanted: Mapping[int, Sequence[str]], peers: Peers, asked: _Asked
) -> None:
    """Write the parts that are wanted, each rank its share; ranks wait for each other after every part."""
    first = group[0]
    cut, config = first.parts.cut, first.trained.config
    share = list(wanted)[peers.world.share(len(wanted))]
    sizes = {number: cut.tiles_of(number) for number in wanted}
    there = cut.tiles - sum(sizes.values())
    names = [each.name for each in group]
    asked.observer.on_begin(
        names,
        sum(sizes[number] for number in share),
        there=there,
        asked=in_words(first.question),
    )
    tiles = first.loader(asked.work)
    told = parts_told(
        {each.name: ask_of(each.trained, peers.device, tta=each.question.tta) for each in group},
        batches_on(peers.device, tiles, asked.work, shortcut=first.shortcut),
        {number: wanted[number] for number in share},
        cut=cut,
        device=peers.device,
        config=config,
    )
    files = {each.name: each.parts for each in group}
    with closing(told):
        for _ in range(-(-len(wanted) // peers.world.ranks)):
            if (part := next(told, None)) is not None:
                for name, logits in part.logits.items():
                    files[name].write(part.number, logits)
                asked.observer.on_tiles(sizes[part.number])
            peers.most(0)  # one that has ended is noticed here, and none waits for long


def in_words(question: Question) -> str:
    """Return which tiles are asked for, and how.

    >>> in_words(Question(part="validation", tta="d4"))
    'validation part, 8 views of each tile'
    >>> in_words(Question(part="all", on="data/SOUTH", shortcut="test"))
    'all tiles of SOUTH, with the shortcut of test'
    """
    said = "all tiles" if question.part == "all" else f"{question.part} part"
    if question.on is not None:
        said += f" of {absolute(question.on).name}"
    if question.where:
        said += f" where {question.where}"
    if question.shortcut != "none":
        said += f", with the shortcut of {question.shortcut}"
    views = len(VIEWS[question.tta])
    return said if views == 1 else f"{said}, {views} views of each tile"


def _join(member: Member) -> None:
    """Write the table of all parts, a part in memory at a time."""
    parts, trained = member.parts, member.trained
    carries = None if member.shortcut is None else member.shortcut.carries
    pieces = (
        member.tiles.table(parts.cut.rows(number), parts.read(number), carries=carries)
        for number in range(len(parts.cut))
    )
    metadata = answer_metadata(trained.classes, epoch=trained.epoch)
    member.said.files.forget()
    write_pieces(member.table, pieces, metadata=metadata)


def _judged(
    asked: _Asked, chosen: Chosen, members: Sequence[Member], lacking: Sequence[Member]
) -> EvaluatedModels:
    """Score what is there by now; parts go once everything is written."""
    new, draws = {each.table for each in lacking}, asked.replicates
    for each in members:
        if each.validation is not None and each.validation.table in new:
            judge(each.validation.said, validation=each.of_validation(), replicates=draws)
    found = tuple(
        judge(
            replace(each.said, was_there=each.table not in new),
            validation=each.of_validation(),
            replicates=draws,
        )
        for each in members
    )
    ensemble = None
    if chosen.ensemble is not None:
        ensemble = judge_ensemble(
            model_directory(asked.run, chosen.ensemble).path,
            asked.question,
            [each.said for each in members],
            validations=[each.of_validation() for each in members],
            replicates=draws,
        )
    for each in lacking:
        each.parts.remove()
    spreads = spreads_of([each.scores for each in found])
    nested = _nested(found, replicates=draws)
    return EvaluatedModels(members=found, ensemble=ensemble, spreads=spreads, nested=nested)


def _nested(members: Sequence[Evaluated], *, replicates: int) -> Mapping[str, Interval]:
    """Return intervals of the scores of repeats; none of other networks, nor without labels or draws."""
    are_repeats = len({arm_of(each.model) for each in members}) == 1 and len(members) > 1
    if not (are_repeats and replicates) or any(each.table is None for each in members):
        return {}
    said = [read_predictions(each.predictions) for each in members]
    try:
        return by_score(repeated(said, replicates=replicates), said[0].classes)
    except ConfigError:  # folds have other validation tiles
        return {}
