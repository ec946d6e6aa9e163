"""Questions to trained networks: which tiles are asked for, in what files, and what is there already.

Nothing is written. ``evaluation`` asks them; sweeps and maps make theirs of the same pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch

from wsi_pipeline.augment.shortcut import Shortcut
from wsi_pipeline.augment.shortcut_config import ShortcutRule
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.ask.asked_tiles import (
    AskedTiles,
    asked_tiles,
    inputs_of,
    refuse_without_split,
)
from wsi_pipeline.evaluate.ask.asking import weights_digest
from wsi_pipeline.evaluate.ask.judging import Said
from wsi_pipeline.evaluate.ask.part_files import PartFiles, cut_of
from wsi_pipeline.evaluate.ask.stored import notes_of, validation_logits
from wsi_pipeline.evaluate.ask.tta import views_asked
from wsi_pipeline.evaluate.predictions import Predictions, read_predictions
from wsi_pipeline.evaluate.question import Question, condition_of, key_of, prediction_files
from wsi_pipeline.loader.tiles import TileLoader
from wsi_pipeline.loader.world import World
from wsi_pipeline.train.config import TrainConfig, WorkConfig
from wsi_pipeline.train.learner import PRECISIONS
from wsi_pipeline.train.looking import Ask
from wsi_pipeline.train.model_directory import model_directory
from wsi_pipeline.train.shortcuts import shortcut_on
from wsi_pipeline.train.task import Task
from wsi_pipeline.training import Trained, load_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A network and a question to it."""

    said: Said
    """What will be written down of it."""
    trained: Trained = field(repr=False)
    question: Question
    condition: str
    tiles: AskedTiles = field(repr=False)
    parts: PartFiles
    shortcut: Shortcut | None = field(repr=False)
    """What is put into some of the tiles."""
    known: Predictions | None = field(repr=False, default=None)
    """Of validation tiles, where the training has left them."""
    validation: "Member | None" = field(repr=False, default=None)
    """The question of validation tiles, where they are not known."""

    @property
    def name(self) -> str:
        """Of the model."""
        return self.said.model

    @property
    def table(self) -> Path:
        """Where the answers are to be."""
        return self.said.files.table

    @property
    def is_there(self) -> bool:
        """Whether an earlier command has written all of it."""
        return self.said.files.hold(self.said.key)

    def loader(self, work: WorkConfig) -> TileLoader:
        """Return all tiles in order, for one process: ranks share parts, not batches."""
        return TileLoader(
            self.tiles.rows.runs[0].path,
            where=self.condition,
            world=World(),
            shuffle=False,
            threads=work.threads,
            cache=work.cache,
            **inputs_of(self.trained.config),
        )

    def of_validation(self) -> Predictions | None:
        """Return the network's predictions of validation tiles, once it was asked for them."""
        if self.known is not None:
            return self.known
        if self.validation is not None:
            return read_predictions(self.validation.table)
        own = validation_question(self.question, self.trained.config)
        return read_predictions(self.table) if self.question == own else None


class Plan:
    """Makes questions of names; tiles that several models are asked for are read once."""

    def __init__(self, run: str | Path, device: torch.device) -> None:
        self._run = run
        self._device = device
        self._tiles: dict[str, AskedTiles] = {}

    def member(self, name: str, question: Question) -> Member:
        """Return a question to a model, and that of its validation tiles.

        Raises
        ------
        ConfigError
            There is no such model or tile, or a label is no class of the network.
        """
        trained = load_network(model_directory(self._run, name))
        found = self._member(name, trained, question)
        of_validation = validation_question(question, trained.config)
        if question == of_validation:
            return found
        try:
            known = self._known(name, trained) if question.tta == "none" else None
            if known is not None:
                return replace(found, known=known)
            return replace(found, validation=self._member(name, trained, of_validation))
        except ConfigError as error:  # such as a run whose tiles of the training are gone
            note = (
                f"no cut-off by validation tiles and no temperature, as they are not there: {error}"
            )
            return replace(found, said=replace(found.said, notes=(*found.said.notes, note)))

    def _member(self, name: str, trained: Trained, question: Question) -> Member:
        directory, config = model_directory(self._run, name), trained.config
        run = question.run(self._run)
        refuse_without_split(run, question.part, config)
        condition = condition_of(config, question.part, question.where, only_labelled=False)
        tiles = self._tiles_of(run, trained, condition)
        put = _shortcut(tiles, trained, question.shortcut)
        files = prediction_files(directory.path, question)
        asked = {"settings_digest": config.digest(), "weights": weights_digest(trained.network)}
        about = {**question.about(self._run), "epoch": trained.epoch, **asked}
        place = None if question.on is None else str(run)  # its own run may move with it
        how = (asked, question.tta, question.shortcut, place)
        if question.on is not None:
            files.refuse_other_run(about)
        said = Said(
            model=name,
            files=files,
            about=about,
            key=key_of(*how, tiles.digest()),
            notes=notes_of(directory, self._run, question, config, tiles),
        )
        return Member(
            said=said,
            trained=trained,
            question=question,
            condition=condition,
            tiles=tiles,
            parts=PartFiles(
                above=files.parts,
                key=key_of(*how, tiles.images_digest(), self._device.type, torch.__version__),
                cut=cut_of(len(tiles), config.batch_size),
            ),
            shortcut=put,
        )

    def _known(self, name: str, trained: Trained) -> Predictions | None:
        condition = condition_of(trained.config, "validation")
        tiles = self._tiles_of(self._run, trained, condition)
        directory, classes = model_directory(self._run, name), trained.classes
        return validation_logits(directory, tiles, classes=classes, epoch=trained.epoch)

    def _tiles_of(self, run: str | Path, trained: Trained, condition: str) -> AskedTiles:
        config, classes = trained.config, trained.classes
        key = key_of(str(run), condition, config.target, config.weight, classes)
        if key not in self._tiles:
            self._tiles[key] = asked_tiles(run, config=config, classes=classes, condition=condition)
        return self._tiles[key]


def validation_question(question: Question, config: TrainConfig) -> Question:
    """Return the question of validation tiles that goes with one: the same views, tiles as in training."""
    carried: ShortcutRule = "none" if config.shortcut.kind == "none" else "train"
    return Question(part="validation", tta=question.tta, shortcut=carried)


def _shortcut(tiles: AskedTiles, trained: Trained, rule: ShortcutRule) -> Shortcut | None:
    """Return what some tiles carry by a rule of the model.

    Raises
    ------
    ConfigError
        It was trained without one, or these tiles have no label, which the rule goes by.
    """
    config = trained.config
    if rule == "none":
        return None
    if config.shortcut.kind == "none":
        raise ConfigError(
            f"shortcut: expected none, as the model was trained with shortcut.kind none, got {rule}; leave "
            "it out, or train with a shortcut"
        )
    if config.target in tiles.lacking:
        raise ConfigError(
            f"shortcut: no tile has a {config.target}, by which it is chosen which carry it; label the run"
        )
    rows, target = tiles.rows, config.target
    return shortcut_on(rows, config.shortcut, rule, target=target, classes=trained.classes)


def together_asked(members: Sequence[Member]) -> list[list[Member]]:
    """Return those together that are asked of the same images in the same batches."""
    groups: dict[str, list[Member]] = {}
    for each in members:
        config = each.trained.config
        put = each.shortcut  # which tiles carry it depends on the labels that a network has learnt
        carried = (
            None
            if put is None
            else (put.config.digest(), sha256(put.carries.tobytes()).hexdigest())
        )
        inputs = (inputs_of(config), each.question.shortcut, carried)
        run = str(each.tiles.rows.runs[0].path)
        key = key_of(run, each.condition, each.tiles.images_digest(), inputs)
        groups.setdefault(key, []).append(each)
    return list(groups.values())


def ask_of(trained: Trained, device: torch.device, *, tta: str = "none") -> Ask:
    """Return what gives a network's logits of images, in the precision of its training.

    Parameters
    ----------
    trained
        Its network is moved to the device.
    tta
        A word of ``tta.VIEWS``.
    """
    config = trained.config
    task = Task(config.loss, trained.classes, autocast=PRECISIONS[config.precision])
    return views_asked(partial(task.logits, trained.network.to(device)), tta)
