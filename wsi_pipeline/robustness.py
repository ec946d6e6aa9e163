"""Joins trained networks and graded changes: what they are worth at every level of a sweep.

>>> from wsi_pipeline.robustness import sweep
>>> sweep("RUN", model="sd", sweeps=["box_blur", "sharpen:0,0.5,1"])  # doctest: +SKIP
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.shift_config import Place, Sweep, shift_of, sweeps_of
from wsi_pipeline.evaluate.sweep_files import SweepFiles, every, known_rows, stem_of, write_sweep
from wsi_pipeline.evaluate.sweep_table import arm_of, curves, level_row, sweep_table
from wsi_pipeline.evaluate.sweeping import Heard, Images, Pass, Pieces, Question, Told, said_of
from wsi_pipeline.evaluation import Part, ask_of, condition_of, tiles_asked
from wsi_pipeline.files import publish_bytes
from wsi_pipeline.loader.rows import Rows
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.remote import absolute
from wsi_pipeline.report.sweep_figure import sweep_figure
from wsi_pipeline.schema import SCHEMA_VERSION
from wsi_pipeline.tables import read_table, write_table
from wsi_pipeline.train.config import WorkConfig
from wsi_pipeline.train.looking import batches_on
from wsi_pipeline.train.model_directory import model_directory
from wsi_pipeline.train.peers import Peers, together
from wsi_pipeline.training import Trained, load_network

_SAME_INPUT = ("load_px", "shrink", "decoder", "batch_size", "target", "weight")
"""Settings of networks that can be asked of the same batches."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What is wanted of every model."""

    run: str | Path
    tiles_of: str | Path
    """The run whose tiles are changed."""
    part: Part
    where: str | None
    stem: str
    sweeps: tuple[Sweep, ...]
    places: tuple[Place, ...]
    keep_logits: bool

    @property
    def each(self) -> list[tuple[Sweep, Place]]:
        """Every change at every place."""
        return every(self.sweeps, self.places)

    def files(self, model: str) -> SweepFiles:
        """Return where a model's sweeps lie."""
        folder = model_directory(self.run, model).path / "sweeps"
        return SweepFiles(folder=folder, stem=self.stem)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A network, its tables so far and what they lack."""

    name: str
    files: SweepFiles
    trained: Trained
    tiles: TileLoader
    """As the plain evaluation has them; nothing is read yet."""
    asked: Mapping[str, Any]
    """What answers depend on."""
    rows: Mapping[tuple[str, Place], list[dict[str, Any]]]
    """That are known, by change and place."""

    def lacking(self, wanted: _Wanted) -> tuple[Question, ...]:
        """Return the questions whose answers no table has, those of one place after another."""
        questions = [
            _question(sweep.shift, place, level)
            for place in wanted.places
            for sweep in wanted.sweeps
            for level in sweep.levels
            if wanted.keep_logits
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
    work: WorkConfig | None = None,
    told: Told | None = None,
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
        Its name, or those of several: ``NAME-0``, ``NAME-1``, … are drawn as one curve.
    sweeps
        Changes, as ``shift_config.sweep_of`` reads them.
    apply_at
        What is changed: ``source``, the stored tile at its full size, or ``input``, the image of the
        network's size; or both.
    part, on, where, work
        As for ``evaluation.evaluate``; tiles without a label are asked of and count in no score.
    keep_logits
        Keep each tile's logits and sharpness at every level too, in ``sweeps/tiles``: levels that are known
        are asked again.
    told
        Is called with how many tiles are done, and of how many.

    Raises
    ------
    ConfigError
        A sweep or a model is not as expected, or tiles are decoded at a share of their size where they
        themselves are to be changed.
    TrainError
        A checkpoint is damaged, memory is too little, or another rank has ended.
    """
    wanted = _Wanted(
        run=run,
        tiles_of=run if on is None else on,
        part=part,
        where=where,
        stem=stem_of(part, on=on, where=where),
        sweeps=sweeps_of(sweeps),
        places=(apply_at,) if isinstance(apply_at, str) else tuple(dict.fromkeys(apply_at)),
        keep_logits=keep_logits,
    )
    work = work or WorkConfig()
    names = [model] if isinstance(model, str) else list(dict.fromkeys(model))
    with together(work.device) as peers:
        groups = _alike([_candidate(name, wanted, work) for name in names], wanted)
        for questions, group in groups:
            _ask(group, questions, wanted, work, peers=peers, told=told or _silent)
        if peers.is_first:
            _compare(names, wanted)
        peers.most(0)  # nobody leaves before the first has written
    return _swept(names, wanted, asked=sum(len(questions) for questions, _ in groups))


def _candidate(name: str, wanted: _Wanted, work: WorkConfig) -> _Candidate:
    """Return a network and what is known of it.

    Raises
    ------
    ConfigError
        There is no such model or tile, its tables are of another run of the same name, or its tiles are
        decoded at a share of their size.
    """
    trained = load_network(model_directory(wanted.run, name))
    config = trained.config
    if "source" in wanted.places and config.shrink > 1:
        raise ConfigError(
            f"apply-at: source: {name} was trained on tiles decoded at 1/{config.shrink} of their size; "
            "whole tiles, changed and averaged, would differ from those in sharpness by themselves; take "
            "--apply-at input"
        )
    condition = condition_of(config, wanted.part, wanted.where)
    tiles = tiles_asked(wanted.tiles_of, trained, work, condition=condition)
    asked = {
        "run": str(absolute(wanted.tiles_of)),
        "where": condition,
        "tiles": tiles.rows.digest(),
        "settings_digest": config.digest(),
        "epoch": trained.epoch,
        "classes": list(trained.classes),
    }
    files = wanted.files(name)
    rows = {
        (sweep.shift, place): known_rows(files.table(sweep.shift, place), asked)
        for sweep, place in wanted.each
    }
    return _Candidate(name=name, files=files, trained=trained, tiles=tiles, asked=asked, rows=rows)


def _question(shift: str, place: Place, level: float) -> Question:
    if level == shift_of(shift).clean:
        return Question(apply_at=place)
    return Question(apply_at=place, shift=shift, level=level)


def _alike(
    candidates: Iterable[_Candidate], wanted: _Wanted
) -> list[tuple[tuple[Question, ...], list[_Candidate]]]:
    """Return networks in groups that can be asked of the same images in one pass, and what to ask."""
    groups: dict[Any, tuple[tuple[Question, ...], list[_Candidate]]] = {}
    for each in candidates:
        if lacking := each.lacking(wanted):
            config = each.trained.config
            loaded = tuple(getattr(config, name) for name in _SAME_INPUT)
            given = (config.model.image_px, config.model.stain, each.trained.classes)
            key = (loaded, given, lacking, each.tiles.rows.digest())
            groups.setdefault(key, (lacking, []))[1].append(each)
    return list(groups.values())


def _ask(
    group: Sequence[_Candidate],
    questions: tuple[Question, ...],
    wanted: _Wanted,
    work: WorkConfig,
    *,
    peers: Peers,
    told: Told,
) -> None:
    """Ask a group of networks what they lack, and write it."""
    first = group[0]
    tiles = _loader(first, wanted, work)
    network = first.trained.network.to(peers.device)
    images = Images(network, tiles, load_px=first.tiles.image_px, device=peers.device)
    asked = {each.name: each.asked for each in group}
    pieces = Pieces(first.files.parts, {"models": asked, "questions": said_of(questions)})
    one_pass = Pass(
        asks={each.name: ask_of(each.trained, peers.device) for each in group},
        images=images,
        questions=questions,
        config=first.trained.config,
        peers=peers,
        told=told,
    )
    loader = batches_on(images.wanted_on, tiles, work)
    heard = one_pass.heard(loader, pieces)
    if peers.is_first:
        for each in group:
            _write(each, wanted, heard, questions)
            if wanted.keep_logits:
                _write_tiles(each, heard, questions, tiles.rows)
        pieces.remove()


def _loader(found: _Candidate, wanted: _Wanted, work: WorkConfig) -> TileLoader:
    """Return the tiles, whole where they themselves are changed."""
    if "source" not in wanted.places:
        return found.tiles
    config = found.trained.config.model_copy(update={"load_px": None})
    whole = replace(found.trained, config=config)
    condition = condition_of(config, wanted.part, wanted.where)
    return tiles_asked(wanted.tiles_of, whole, work, condition=condition)


def _write(found: _Candidate, wanted: _Wanted, heard: Heard, questions: Sequence[Question]) -> None:
    """Write a model's tables: the rows that were known and those that are new."""
    for sweep, place in wanted.each:
        new = [
            level_row(
                {"shift": sweep.shift, "apply_at": place, "level": level},
                logits=heard.logits[found.name][number],
                targets=heard.targets,
                weights=heard.weights,
                sharpness=heard.sharpness[number],
                classes=found.trained.classes,
            )
            for level in sweep.levels
            for number in _numbers(questions, _question(sweep.shift, place, level))
        ]
        table = sweep_table([*found.rows[sweep.shift, place], *new])
        write_sweep(found.files.table(sweep.shift, place), table, found.asked)


def _numbers(questions: Sequence[Question], question: Question) -> list[int]:
    return [questions.index(question)] if question in questions else []


def _write_tiles(
    found: _Candidate, heard: Heard, questions: Sequence[Question], rows: Rows
) -> None:
    """Write each tile's logits and sharpness at every level: one row per tile."""
    columns: dict[str, Any] = {
        "slide_id": [rows.slide_id(row) for row in heard.rows.tolist()],
        "tile": rows.tile[heard.rows],
        "target": heard.targets,
        "weight": heard.weights,
    }
    for number, each in enumerate(questions):
        name = f"{each.shift}_{each.level:g}_{each.apply_at}" if each.shift else each.apply_at
        logits = heard.logits[found.name][number]
        columns[f"logit_{name}"] = logits if logits.ndim == 1 else list(logits)
        columns[f"laplacian_var_{name}"] = heard.sharpness[number]
    write_sweep(found.files.tiles, pa.table(columns), found.asked)


def _compare(names: Sequence[str], wanted: _Wanted) -> None:
    """Write the curves of all models, and draw them."""
    tables = {
        name: [
            read_table(wanted.files(name).table(sweep.shift, place)) for sweep, place in wanted.each
        ]
        for name in names
    }
    found = curves(tables)
    files = _files_of_all(names, wanted)
    write_table(files.curves, found, metadata={"schema_version": SCHEMA_VERSION})
    rows = found.to_pylist()
    for sweep, place in wanted.each:
        own = [row for row in rows if (row["shift"], row["apply_at"]) == (sweep.shift, place)]
        title = f"{sweep.shift}, changed at the {place}"
        drawn = sweep_figure(own, title=title, level=shift_of(sweep.shift).level)
        publish_bytes(files.figure(sweep.shift, place), drawn)


def _files_of_all(names: Sequence[str], wanted: _Wanted) -> SweepFiles:
    """Return where that lies which is of all models: with a single one, or under the first one's arm."""
    return wanted.files(names[0] if len(names) == 1 else arm_of(names[0]))


def _swept(names: Sequence[str], wanted: _Wanted, *, asked: int) -> Swept:
    files = _files_of_all(names, wanted)
    return Swept(
        tables={
            name: tuple(
                wanted.files(name).table(sweep.shift, place) for sweep, place in wanted.each
            )
            for name in names
        },
        curves=files.curves,
        figures=tuple(files.figure(sweep.shift, place) for sweep, place in wanted.each),
        asked=asked,
    )


def _silent(done: int, tiles: int) -> None:
    """Say nothing."""
