"""Joins trained networks and graded changes: what they are worth at every level of a sweep.

>>> from wsi_pipeline.robustness import sweep
>>> sweep("RUN", model="sd", sweeps=["box_blur", "sharpen:0,0.5,1"])  # doctest: +SKIP
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from wsi_pipeline.evaluate.ask.asked_tiles import inputs_of
from wsi_pipeline.evaluate.ask.ensembles import Chosen, chosen_models
from wsi_pipeline.evaluate.ask.observer import AskObserver, SilentAskObserver
from wsi_pipeline.evaluate.ask.part_files import PartFiles, forget_empty
from wsi_pipeline.evaluate.question import Part, Question, key_of
from wsi_pipeline.evaluate.sweep.answers import (
    Judgement,
    Level,
    draws_of,
    judgements,
    rows_of,
    said_of,
    tile_pieces,
)
from wsi_pipeline.evaluate.sweep.files import (
    SweepFiles,
    metadata_of,
    write_sweep,
)
from wsi_pipeline.evaluate.sweep.patients import draws_table
from wsi_pipeline.evaluate.sweep.shift_config import Place, shift_of, sweeps_of
from wsi_pipeline.evaluate.sweep.sweeping import Images, SweepPass, sweep_cut
from wsi_pipeline.evaluate.sweep.table import arm_of, curves, sweep_table
from wsi_pipeline.files import publish_bytes
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.loader.world import World
from wsi_pipeline.questions import ask_of
from wsi_pipeline.report.sweep_figure import sweep_figure
from wsi_pipeline.schema import SCHEMA_VERSION
from wsi_pipeline.stages.lease import sole_use_of
from wsi_pipeline.sweep_plan import (
    SweepCandidate,
    SweepWanted,
    asked_together,
    sweep_candidate,
    with_known,
)
from wsi_pipeline.tables import read_table, write_pieces, write_table
from wsi_pipeline.train.config import WorkConfig
from wsi_pipeline.train.looking import batches_on
from wsi_pipeline.train.peers import Peers, device_of, together


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What networks are worth along sweeps."""

    tables: Mapping[str, tuple[Path, ...]]
    """By model: a table for each change and place, one row per level, ``sweep.columns.SWEEP_COLUMNS``."""
    curves: Path
    """Mean and standard deviation over the models that are repeats, ``sweep.columns.CURVE_COLUMNS``."""
    draws: Mapping[str, tuple[Path, ...]]
    """By model, as ``tables``: scores of draws of patients, ``sweep.columns.DRAW_COLUMNS``; none unasked."""
    figures: tuple[Path, ...]
    """One for each change and place, as SVG."""
    asked: int
    """Levels that were asked for; others were known already."""
    notes: tuple[str, ...]
    """What a reader of the scores has to know."""


def sweep(  # noqa: PLR0913  as for evaluate
    run: str | Path,
    *,
    model: str | Sequence[str],
    sweeps: Sequence[str] = ("box_blur", "sharpen"),
    apply_at: Place | Sequence[Place] = "source",
    part: Part = "test",
    on: str | Path | None = None,
    where: str | None = None,
    replicates: int = 0,
    keep_logits: bool = False,
    overwrite: bool = False,
    work: WorkConfig | None = None,
    observer: AskObserver | None = None,
) -> Swept:
    """Ask networks of tiles that are changed step by step; every tile is decoded once.

    A level without change is the plain evaluation, to the bit. Tables are
    ``RUN/models/NAME/sweeps/PART-SHIFT-PLACE.parquet``, of another run's tiles ``OTHER-PART-…``. Levels that
    they have are not asked again; a command that was cut off goes on.

    Parameters
    ----------
    run
        Where the models were trained.
    model
        As for ``evaluation.evaluate_models``; repeats are drawn as one curve.
    sweeps
        Changes, as ``shift_config.sweep_of`` reads them.
    apply_at
        ``source``, the stored tile at its full size, ``input``, the image of the network's size, or both.
    part, on, where, work, observer
        As for ``evaluation.evaluate``.
    replicates
        Draws of patients whose scores are kept for every level in ``sweeps/draws``, the same as of
        predictions, for intervals over patients; levels that were not drawn before are asked again.
    keep_logits
        Keep tiles' logits and sharpness at every level in ``sweeps/tiles``; known levels are asked again.
    overwrite
        Ask again what tables have.

    Raises
    ------
    ConfigError
        A sweep or a model is not as expected, no tile has a label, or another command asks the same.
    TrainError
        A checkpoint is damaged, memory is too little, or another rank has ended.
    """
    wanted = SweepWanted(
        run=run,
        question=Question(part=part, on=on, where=where),
        sweeps=sweeps_of(sweeps),
        places=(apply_at,) if isinstance(apply_at, str) else tuple(dict.fromkeys(apply_at)),
        replicates=replicates,
        keep_logits=keep_logits,
        overwrite=overwrite,
        work=work or WorkConfig(),
    )
    chosen = chosen_models(run, [model] if isinstance(model, str) else model)
    return _sweep(chosen, wanted, observer or SilentAskObserver())


def _sweep(chosen: Chosen, wanted: SweepWanted, observer: AskObserver) -> Swept:
    """Plan what is asked; then ask, one rank or several; then let the first one draw."""
    device = device_of(wanted.work.device)
    candidates = [sweep_candidate(name, wanted, device) for name in chosen.names]
    with together(wanted.work.device) as peers:
        lacking = peers.word_of_first([each.lacking(wanted) for each in candidates])
        groups = asked_together(candidates, lacking)
        for levels, group in groups:
            _ask(group, levels, wanted, peers, observer)
        if peers.is_first:
            _compare(chosen, wanted)
        peers.most(0)  # nobody leaves before the first has written
    asked = sum(len(levels) * len(group) for levels, group in groups)
    notes = tuple(dict.fromkeys(note for each in candidates for note in each.notes))
    return _swept(chosen, wanted, asked=asked, notes=notes)


def _ask(
    group: Sequence[SweepCandidate],
    levels: tuple[Level, ...],
    wanted: SweepWanted,
    peers: Peers,
    observer: AskObserver,
) -> None:
    """Ask a group of networks what they lack, and write it."""
    first = group[0]
    tiles = _loader(first, wanted)
    plain = _loader(first, wanted, plain=True)
    images = Images(
        first.trained.network.to(peers.device), tiles, load_px=plain.image_px, device=peers.device
    )
    parts = PartFiles(
        above=first.files.parts,
        key=key_of([(each.name, each.asked) for each in group], said_of(levels), torch.__version__),
        cut=sweep_cut(len(first.tiles), first.trained.config.batch_size),
    )
    one_pass = SweepPass(
        asks={each.name: ask_of(each.trained, peers.device) for each in group},
        images=images,
        levels=levels,
        config=first.trained.config,
        peers=peers,
        observer=observer,
    )
    with _tables_held([each.files.parts for each in group], peers):
        one_pass.ask(batches_on(images.wanted_on, tiles, wanted.work), parts)
        found = _judged(group, levels, wanted, parts, peers)
        if peers.is_first:
            for each in group:
                answers = {level: found[each.name, level] for level in levels}
                _write(with_known(each, wanted), answers, wanted, parts)
            parts.remove()


def _judged(
    group: Sequence[SweepCandidate],
    levels: tuple[Level, ...],
    wanted: SweepWanted,
    parts: PartFiles,
    peers: Peers,
) -> dict[tuple[str, Level], Judgement]:
    """Return what networks are worth by model and level, nothing on other ranks than the first."""
    found: dict[tuple[str, Level], Judgement] = {}
    listeners = [each.listener(wanted) for each in group] if peers.is_first else []
    made = judgements(parts, levels, listeners)
    while peers.word_of_first(len(found) < len(levels) * len(group)):  # none waits for all of it
        if peers.is_first:
            found |= next(made)
    return found


@contextmanager
def _tables_held(folders: Sequence[Path], peers: Peers) -> Iterator[None]:
    """Keep other commands from asking the same, and from writing tables of any of these models, meanwhile.

    Raises
    ------
    ConfigError
        One does.
    """
    with ExitStack() as stack:
        for folder in sorted(folders) if peers.is_first else ():
            stack.callback(forget_empty, folder)
            otherwise = "wait for it to end: it sweeps the same"
            stack.enter_context(sole_use_of(folder, otherwise=otherwise))
        yield


def _loader(found: SweepCandidate, wanted: SweepWanted, *, plain: bool = False) -> TileLoader:
    """Return all tiles in order: whole where they themselves are changed, else as the plain evaluation does.

    Ranks share pieces of the tiles and not their batches.
    """
    inputs = dict(inputs_of(found.trained.config))
    if not plain and "source" in wanted.places:
        inputs["image_px"] = None
    return TileLoader(
        found.tiles.rows.runs[0].path,
        where=found.condition,
        world=World(),
        shuffle=False,
        threads=wanted.work.threads,
        cache=wanted.work.cache,
        **inputs,
    )


def _write(
    each: SweepCandidate, found: Mapping[Level, Judgement], wanted: SweepWanted, parts: PartFiles
) -> None:
    """Write a network's tables: the rows that are known by now and those that are new."""
    for sweep, place in wanted.each:
        key = (sweep.shift, place)
        rows = [*each.rows[key], *rows_of(sweep, place, found)]
        if wanted.replicates:
            drawn = {**each.drawn[key], **draws_of(sweep, place, found)}
            write_sweep(each.files.draws(*key), draws_table(drawn), each.drawn_as(wanted))
        write_sweep(each.files.table(*key), sweep_table(rows), each.asked)
    if wanted.keep_logits:
        pieces = tile_pieces(parts, [*found], each.name, each.tiles)
        write_pieces(each.files.tiles, pieces, metadata=metadata_of(each.asked))


def _compare(chosen: Chosen, wanted: SweepWanted) -> None:
    """Write the curves of all models, and draw them."""
    found = curves(
        {
            name: [
                read_table(wanted.files(name).table(sweep.shift, place))
                for sweep, place in wanted.each
            ]
            for name in chosen.names
        }
    )
    files = _files_of_all(chosen, wanted)
    write_table(files.curves, found, metadata={"schema_version": SCHEMA_VERSION})
    rows = found.to_pylist()
    for sweep, place in wanted.each:
        own = [row for row in rows if (row["shift"], row["apply_at"]) == (sweep.shift, place)]
        title = f"{sweep.shift}, changed at the {place}"
        drawn = sweep_figure(own, title=title, level=shift_of(sweep.shift).level)
        publish_bytes(files.figure(sweep.shift, place), drawn)


def _files_of_all(chosen: Chosen, wanted: SweepWanted) -> SweepFiles:
    """Return where that lies which is of all models: with a single one, or under the first arm's name."""
    if len(chosen.names) == 1:
        return wanted.files(chosen.names[0])
    first, *others = sorted({arm_of(name) for name in chosen.names})
    return wanted.files(first).beside(others)


def _swept(chosen: Chosen, wanted: SweepWanted, *, asked: int, notes: tuple[str, ...]) -> Swept:
    files = _files_of_all(chosen, wanted)
    return Swept(
        tables={
            name: tuple(
                wanted.files(name).table(sweep.shift, place) for sweep, place in wanted.each
            )
            for name in chosen.names
        },
        draws={
            name: tuple(
                wanted.files(name).draws(sweep.shift, place)
                for sweep, place in wanted.each
                if wanted.replicates
            )
            for name in chosen.names
        },
        curves=files.curves,
        figures=tuple(files.figure(sweep.shift, place) for sweep, place in wanted.each),
        asked=asked,
        notes=notes,
    )
