"""A trained network on tiles that it has not seen: logits as a table, scores as a file."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.augment.shortcut import Shortcut
from wsi_pipeline.augment.shortcut_config import ShortcutRule
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.files import exists, publish_bytes, read_bytes
from wsi_pipeline.loader.rows import READABLE
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.manifest import (
    columns_in,
    holds_words,
    manifest_columns,
    read_manifest,
    rows_where,
)
from wsi_pipeline.provenance import library_versions
from wsi_pipeline.remote import absolute
from wsi_pipeline.train.config import TrainConfig, WorkConfig
from wsi_pipeline.train.learner import PRECISIONS
from wsi_pipeline.train.looking import answers_of, batches_on, first_of, write_logits
from wsi_pipeline.train.metrics import evaluation
from wsi_pipeline.train.model_directory import ModelDirectory, model_directory, read_train_json
from wsi_pipeline.train.parts import WORDS, labelled, part_of, where_of
from wsi_pipeline.train.peers import together
from wsi_pipeline.train.shortcuts import shortcut_on
from wsi_pipeline.train.task import Task
from wsi_pipeline.training import Trained, load_network

Part: TypeAlias = Literal["train", "validation", "test", "all"]

PARTS: tuple[Part, ...] = get_args(Part)
_TEST_WORDS = ("test", "testing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What a network is worth on some tiles."""

    predictions: Path
    """One row per tile: slide_id, tile, target, weight, logit."""
    scores: Mapping[str, Any]
    """As in metrics.parquet; None where a score cannot be said."""
    notes: tuple[str, ...]
    """What a reader of the scores has to know."""


def evaluate(  # noqa: PLR0913  what is asked, one by one
    run: str | Path,
    *,
    model: str,
    part: Part = "test",
    on: str | Path | None = None,
    where: str | None = None,
    shortcut: ShortcutRule = "none",
    work: WorkConfig | None = None,
) -> Evaluated:
    """Ask a trained network for every tile of a part, and compare with the labels.

    Images are made as they were in training: the same size, the same way there, the same stain. Logits are in
    ``RUN/models/NAME/predictions/PART.parquet``, of another run in ``OTHER-PART.parquet``; a condition adds a
    digest of it to the name. Scores are beside them as JSON.

    Parameters
    ----------
    run
        Where the model was trained.
    model
        Its name.
    part
        Of the column that it was trained by; ``all``: every readable tile.
    on
        Another run, such as another centre's.
    where
        Further condition on tiles; that of the training holds in any case.
    shortcut
        Put the model's own shortcut into the tiles, by its rule for ``train`` or ``test``; the word is added
        to the name of the file, and its column ``shortcut`` says which tiles carry it.
    work
        How it is carried out.

    Raises
    ------
    ConfigError
        There is no such model, or no such tile, its label is no class of the network, another run of the
        same name was evaluated before, or the model has no shortcut.
    TrainError
        A checkpoint is damaged, memory is too little, or another rank has ended.
    """
    work = work or WorkConfig()
    directory = model_directory(run, model)
    trained = load_network(directory)
    about = {"run": str(absolute(on or run)), "part": part, "where": where, "shortcut": shortcut}
    target = _target(directory, about, on)
    notes = _notes(directory, run, on, trained.config)
    tiles = tiles_asked(
        on or run, trained, work, condition=condition_of(trained.config, part, where)
    )
    put = _shortcut(tiles, trained, shortcut)
    with together(work.device) as peers:
        loader = batches_on(peers.device, tiles, work, shortcut=put)
        asked = ask_of(trained, peers.device)
        found = answers_of(asked, loader, peers=peers, config=trained.config)
        scores = evaluation(found.logits, found.targets, found.weights, classes=trained.classes)
        if peers.is_first:
            weights = {"settings_digest": trained.config.digest(), "epoch": trained.epoch}
            said = {"classes": list(trained.classes), "notes": notes, "scores": scores, **weights}
            write_logits(target, found, tiles.rows, shortcut=put)
            _write(target, {**about, **said})
        peers.most(0)  # nobody leaves before the first has written
    return Evaluated(predictions=target, scores=scores, notes=notes)


def _target(directory: ModelDirectory, about: Mapping[str, Any], on: str | Path | None) -> Path:
    """Return the file of logits, whose name says what was evaluated.

    Raises
    ------
    ConfigError
        It holds those of another run.
    """
    words = [] if on is None else [re.sub(r"[^A-Za-z0-9._-]+", "_", absolute(on).name)]
    words.append(about["part"])
    if about["shortcut"] != "none":
        words.append(f"shortcut_{about['shortcut']}")
    if about["where"]:
        words.append(hashlib.sha256(about["where"].encode()).hexdigest()[:8])
    path = directory.path / "predictions" / f"{'-'.join(words)}.parquet"
    scores = path.with_suffix(".json")
    before = json.loads(read_bytes(scores)) if exists(scores) else about
    if before["run"] != about["run"]:
        raise ConfigError(
            f"{path} holds what the network says of {before['run']}; move it away before {about['run']} is "
            "evaluated, which has the same name"
        )
    return path


def _notes(
    directory: ModelDirectory, run: str | Path, on: str | Path | None, config: TrainConfig
) -> tuple[str, ...]:
    """Return what makes scores look better or worse than they are."""
    notes = []
    if (read_train_json(directory) or {}).get("ended") is None:
        notes.append("the network is not trained to its end; these are its best weights so far")
    if on is not None:
        learnt = " or ".join(f"({part_of(config, part)})" for part in WORDS)
        if shared := sorted(_patients(run, learnt) & _patients(on, None)):
            notes.append(
                f"{len(shared)} patients or slides of {on} are among those that the network was trained on: "
                f"{first_of(shared, 5)}"
            )
    return tuple(notes)


def _patients(run: str | Path, where: str | None) -> set[str]:
    """Return the names of patients and slides of a run's tiles."""
    known = manifest_columns(run)
    names = [name for name in ("slide_id", "patient_id") if name in known]
    tiles = read_manifest(run, columns=sorted({*names, *columns_in(where, known)}))
    found: set[str] = set()
    for column in rows_where(tiles, where).select(names).columns:
        found.update(str(each) for each in column.unique().to_pylist() if each is not None)
    return found


def condition_of(config: TrainConfig, part: Part, more: str | None) -> str:
    """Return the condition on tiles; that of the training holds as well, its fold too."""
    if part in WORDS:
        conditions = [where_of(config, part)]
    else:
        conditions = [READABLE, labelled(config)]
        if part == "test":
            conditions.append(f"{config.split} in {list(_TEST_WORDS)}")
        conditions += [f"({config.where})"] if config.where else []
    conditions += [f"({more})"] if more else []
    return " and ".join(conditions)


def ask_of(trained: Trained, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what gives logits of images, in the precision of the training."""
    autocast = PRECISIONS[trained.config.precision]
    task = Task(trained.config.loss, trained.classes, autocast=autocast)
    return partial(task.logits, trained.network.to(device))


def tiles_asked(
    run: str | Path, trained: Trained, work: WorkConfig, *, condition: str
) -> TileLoader:
    """Return the tiles of a run in order, made as they were in training.

    Raises
    ------
    ConfigError
        A column is missing, no tile is left, or a label is no class of the network.
    """
    config = trained.config
    known = manifest_columns(run)
    if config.target not in known:
        raise ConfigError(
            f"{run}: no tile has a {config.target}, which this network has learnt; label the run first "
            "(wsi-pipeline label)"
        )
    columns_in(condition, known)
    of_words = holds_words(run, config.target)
    tiles = TileLoader(
        run,
        where=condition,
        target=config.target,
        classes=trained.classes if of_words else (),
        weight=config.weight,
        batch_size=config.batch_size,
        shuffle=False,
        image_px=config.load_px,
        shrink=config.shrink,
        decoder=config.decoder,
        threads=work.threads,
        cache=work.cache,
    )
    if not of_words:
        _refuse_unknown(run, trained, tiles.rows.columns[config.target].values)
    return tiles


def _shortcut(tiles: TileLoader, trained: Trained, rule: ShortcutRule) -> Shortcut | None:
    """Return what some tiles carry by a rule of the model.

    Raises
    ------
    ConfigError
        It was trained without one.
    """
    config = trained.config
    if rule != "none" and config.shortcut.kind == "none":
        raise ConfigError(
            f"shortcut: expected none, as the model was trained with shortcut.kind none, got {rule}; leave "
            "it out, or train with a shortcut"
        )
    return shortcut_on(
        tiles.rows, config.shortcut, rule, target=config.target, classes=trained.classes
    )


def _refuse_unknown(run: str | Path, trained: Trained, numbers: NDArray[Any]) -> None:
    """Refuse numbers that are no class of the network.

    Raises
    ------
    ConfigError
        One is not, or the network has learnt words.
    """
    known = np.arange(len(trained.classes))
    if trained.classes != tuple(map(str, known)) or not np.isin(numbers, known).all():
        raise ConfigError(
            f"{run}: expected {', '.join(trained.classes)} as {trained.config.target}, which this network "
            f"has learnt, got {', '.join(map(str, np.unique(numbers)[:5].tolist()))}; label the run alike, "
            "or leave those tiles out with where"
        )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    whole = {**content, "versions": library_versions()}
    text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    publish_bytes(path.with_suffix(".json"), text.encode())
