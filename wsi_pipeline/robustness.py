"""Joins trained networks and graded changes: what they are worth at every level of a sweep.

>>> from wsi_pipeline.robustness import sweep
>>> sweep("RUN", model="sd", sweeps=["box_blur", "sharpen:0,0.5,1"])  # doctest: +SKIP
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.asked_tiles import AskedTiles, asked_tiles, inputs_of
from wsi_pipeline.evaluate.asking import weights_digest
from wsi_pipeline.evaluate.ensembles import Chosen, chosen_models
from wsi_pipeline.evaluate.observer import AskObserver, SilentAskObserver
from wsi_pipeline.evaluate.question import Part, condition_of, key_of
from wsi_pipeline.evaluate.question import Question as Tiles
from wsi_pipeline.evaluate.shift_config import Place, Sweep, shift_of, sweeps_of
from wsi_pipeline.evaluate.stored import notes_of
from wsi_pipeline.evaluate.sweep_answers import Answers, Heard, Question, question_of, said_of
from wsi_pipeline.evaluate.sweep_files import SweepFiles, every, known_rows, write_sweep
from wsi_pipeline.evaluate.sweep_table import arm_of, curves, sweep_table
from wsi_pipeline.evaluate.sweeping import Images, Pass, Pieces, sweep_cut
from wsi_pipeline.files import publish_bytes
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.loader.world import World
from wsi_pipeline.questions import ask_of
from wsi_pipeline.report.sweep_figure import sweep_figure
from wsi_pipeline.schema import SCHEMA_VERSION
from wsi_pipeline.stages.lease import sole_use
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.tables import read_table, write_table
from wsi_pipeline.train.config import WorkConfig
from wsi_pipeline.train.looking import batches_on
from wsi_pipeline.train.model_directory import model_directory
from wsi_pipeline.train.peers import Peers, device_of, together
from wsi_pipeline.training import Trained, load_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What networks are worth along sweeps."""

    tables: Mapping[str, tuple[Path, ...]]
    """By model: a table for each change and place, one row per level, ``schema.SWEEP_COLUMNS``."""
    curves: Path
    """Mean and standard deviation over the models that are repeats, ``schema.CURVE_COLUMNS``."""
    figures: tuple[Path, ...]
    """One for each change and place, as SVG."""
    asked: int
    """Levels that were asked for; others were known already."""
    notes: tuple[str, ...]
    """What a reader of the scores has to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What is wanted of every model."""

    run: str | Path
    tiles: Tiles
    sweeps: tuple[Sweep, ...]
    places: tuple[Place, ...]
    keep_logits: bool
    overwrite: bool
    work: WorkConfig

    @property
    def each(self) -> list[tuple[Sweep, Place]]:
        """Every change at every place."""
        return every(self.sweeps, self.places)

    def files(self, model: str) -> SweepFiles:
        """Return where a model's sweeps lie."""
        folder = model_directory(self.run, model).path / "sweeps"
        return SweepFiles(folder=folder, stem=self.tiles.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A network, its tables so far and what they lack."""

    name: str
    files: SweepFiles
    trained: Trained
    condition: str
    tiles: AskedTiles
    notes: tuple[str, ...]
    asked: Mapping[str, Any]
    """What answers depend on."""
    rows: Mapping[tuple[str, Place], list[dict[str, Any]]]
    """That are known, by change and place."""

    def lacking(self, wanted: _Wanted) -> tuple[Question, ...]:
        """Return the questions whose answers no table has, those of one place after another."""
        questions = [
            question_of(sweep.shift, place, level)
            for place in wanted.places
            for sweep in wanted.sweeps
            for level in sweep.levels
            if wanted.keep_logits
            or wanted.overwrite
            or level not in {row["level"] for row in self.rows[sweep.shift, place]}
        ]
        return tuple(dict.fromkeys(questions))


def sweep(  # noqa: PLR0913  as for evaluate
    run: str | Path,
    *,
    model: str | Sequence[str],
    sweeps: Sequence[str] = ("box_blur", "sharpen"),
    apply_at: Place | Sequence[Place] = "source",
    part: Part = "test",
    on: str | Path | None = None,
    where: str | None = None,
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
        As for ``evaluation.evaluate_models``: names, patterns, or the name of repeats, which are drawn as
        one curve.
    sweeps
        Changes, as ``shift_config.sweep_of`` reads them.
    apply_at
        What is changed: ``source``, the stored tile at its full size, or ``input``, the image of the
        network's size; or both.
    part, on, where, work, observer
        As for ``evaluation.evaluate``.
    keep_logits
        Keep each tile's logits and sharpness at every level too, in ``sweeps/tiles``: levels that are known
        are asked again.
    overwrite
        Ask again what tables have.

    Raises
    ------
    ConfigError
        A sweep or a model is not as expected, no tile has a label, tiles are decoded at a share of their
        size where they themselves are to be changed, or another command asks the same.
    TrainError
        A checkpoint is damaged, memory is too little, or another rank has ended.
    """
    wanted = _Wanted(
        run=run,
        tiles=Tiles(part=part, on=on, where=where),
        sweeps=sweeps_of(sweeps),
        places=(apply_at,) if isinstance(apply_at, str) else tuple(dict.fromkeys(apply_at)),
        keep_logits=keep_logits,
        overwrite=overwrite,
        work=work or WorkConfig(),
    )
    chosen = chosen_models(run, [model] if isinstance(model, str) else model)
    return _sweep(chosen, wanted, observer or SilentAskObserver())


def _sweep(chosen: Chosen, wanted: _Wanted, observer: AskObserver) -> Swept:
    """Plan what is asked; then ask, one rank or several; then let the first one draw."""
    device = device_of(wanted.work.device)
    candidates = [_candidate(name, wanted, device) for name in chosen.names]
    with together(wanted.work.device) as peers:
        lacking = peers.word_of_first([each.lacking(wanted) for each in candidates])
        groups = _alike(candidates, lacking)
        for questions, group in groups:
            _ask(group, questions, wanted, peers, observer)
        if peers.is_first:
            _compare(chosen, wanted)
        peers.most(0)  # nobody leaves before the first has written
    asked = sum(len(questions) * len(group) for questions, group in groups)
    notes = tuple(dict.fromkeys(note for each in candidates for note in each.notes))
    return _swept(chosen, wanted, asked=asked, notes=notes)


def _candidate(name: str, wanted: _Wanted, device: torch.device) -> _Candidate:
    """Return a network and what is known of it.

    Raises
    ------
    ConfigError
        There is no such tile or none has a label, its tables are of another run of the same name, or its
        tiles are decoded at a share of their size.
    """
    directory = model_directory(wanted.run, name)
    trained = load_network(directory)
    config, run = trained.config, wanted.tiles.run(wanted.run)
    if "source" in wanted.places and config.shrink > 1:
        raise ConfigError(
            f"apply-at: source: {name} was trained on tiles decoded at 1/{config.shrink} of their size; "
            "whole tiles, changed and averaged, would differ from those in sharpness by themselves; take "
            "--apply-at input"
        )
    condition = condition_of(config, wanted.tiles.part, wanted.tiles.where, only_labelled=False)
    tiles = asked_tiles(run, config=config, classes=trained.classes, condition=condition)
    if not tiles.labelled:
        raise ConfigError(
            f"{run}: none of {len(tiles)} tiles has a {config.target}, and without one a sweep has no "
            "scores; label the run first (wsi-pipeline label)"
        )
    asked = {
        "run": None if wanted.tiles.on is None else str(run),
        "tiles": tiles.digest(),
        "settings_digest": config.digest(),
        "weights": weights_digest(trained.network),
        "epoch": trained.epoch,
        "classes": list(trained.classes),
        "device": device.type,
    }
    files = wanted.files(name)
    return _Candidate(
        name=name,
        files=files,
        trained=trained,
        condition=condition,
        tiles=tiles,
        notes=notes_of(directory, wanted.run, wanted.tiles, config, tiles),
        asked=asked,
        rows={
            (sweep.shift, place): known_rows(files.table(sweep.shift, place), asked)
            for sweep, place in wanted.each
        },
    )


def _alike(
    candidates: Iterable[_Candidate], lacking: Iterable[tuple[Question, ...]]
) -> list[tuple[tuple[Question, ...], list[_Candidate]]]:
    """Return networks in groups that can be asked of the same images in one pass, and what to ask."""
    groups: dict[str, tuple[tuple[Question, ...], list[_Candidate]]] = {}
    for each, questions in zip(candidates, lacking, strict=True):
        if questions:
            config = each.trained.config
            given = (inputs_of(config), config.model.image_px, config.model.stain)
            key = key_of(given, said_of(questions), each.condition, each.tiles.images_digest())
            groups.setdefault(key, (questions, []))[1].append(each)
    return list(groups.values())


def _ask(
    group: Sequence[_Candidate],
    questions: tuple[Question, ...],
    wanted: _Wanted,
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
    pieces = Pieces(
        above=first.files.parts,
        key=key_of([each.asked for each in group], said_of(questions), torch.__version__),
        cut=sweep_cut(len(first.tiles), first.trained.config.batch_size),
    )
    one_pass = Pass(
        asks={each.name: ask_of(each.trained, peers.device) for each in group},
        images=images,
        questions=questions,
        config=first.trained.config,
        peers=peers,
        observer=observer,
    )
    with _held(pieces, peers):
        one_pass.ask(batches_on(images.wanted_on, tiles, wanted.work), pieces)
        if peers.is_first:
            _write(group, wanted, pieces.joined(), questions)
            pieces.remove()


@contextmanager
def _held(pieces: Pieces, peers: Peers) -> Iterator[None]:
    """Keep other commands from asking the same meanwhile.

    Raises
    ------
    ConfigError
        One does.
    """
    if not peers.is_first:
        yield
        return
    try:
        with sole_use(RunDirectory(path=pieces.above), part=1, parts=1):
            yield
    finally:
        pieces.forget()


def _loader(found: _Candidate, wanted: _Wanted, *, plain: bool = False) -> TileLoader:
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
    group: Sequence[_Candidate], wanted: _Wanted, heard: Heard, questions: tuple[Question, ...]
) -> None:
    """Write tables: the rows that were known and those that are new."""
    for each in group:
        answers = Answers(
            questions=questions,
            sharpness=heard.sharpness,
            logits=heard.logits[each.name],
            tiles=each.tiles,
            classes=each.trained.classes,
        )
        for sweep, place in wanted.each:
            rows = [*each.rows[sweep.shift, place], *answers.rows(sweep, place)]
            write_sweep(each.files.table(sweep.shift, place), sweep_table(rows), each.asked)
        if wanted.keep_logits:
            write_sweep(each.files.tiles, answers.table(), each.asked)


def _compare(chosen: Chosen, wanted: _Wanted) -> None:
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


def _files_of_all(chosen: Chosen, wanted: _Wanted) -> SweepFiles:
    """Return where that lies which is of all models: with a single one, or under the first arm's name."""
    if len(chosen.names) == 1:
        return wanted.files(chosen.names[0])
    first, *others = sorted({arm_of(name) for name in chosen.names})
    return wanted.files(first).beside(others)


def _swept(chosen: Chosen, wanted: _Wanted, *, asked: int, notes: tuple[str, ...]) -> Swept:
    files = _files_of_all(chosen, wanted)
    return Swept(
        tables={
            name: tuple(
                wanted.files(name).table(sweep.shift, place) for sweep, place in wanted.each
            )
            for name in chosen.names
        },
        curves=files.curves,
        figures=tuple(files.figure(sweep.shift, place) for sweep, place in wanted.each),
        asked=asked,
        notes=notes,
    )
