"""Sweeps that are asked for: which networks, which levels their tables lack, and who is asked together.

Nothing is written. ``robustness`` asks them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.ask.asked_tiles import (
    AskedTiles,
    asked_tiles,
    inputs_of,
    refuse_without_split,
)
from wsi_pipeline.evaluate.ask.asking import weights_digest
from wsi_pipeline.evaluate.ask.ensembles import chosen_models
from wsi_pipeline.evaluate.ask.stored import notes_of
from wsi_pipeline.evaluate.question import Question, condition_of, key_of
from wsi_pipeline.evaluate.score.nested import Drawn
from wsi_pipeline.evaluate.sweep.answers import Level, Listener, level_of, said_of
from wsi_pipeline.evaluate.sweep.files import SweepFiles, every, known_table
from wsi_pipeline.evaluate.sweep.patients import drawn_levels, sweep_patients
from wsi_pipeline.evaluate.sweep.shift_config import Place, Sweep
from wsi_pipeline.train.config import WorkConfig
from wsi_pipeline.train.model_directory import model_directory
from wsi_pipeline.train.peers import device_of
from wsi_pipeline.training import Trained, load_network


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepWanted:
    """What is wanted of every model."""

    run: str | Path
    question: Question
    sweeps: tuple[Sweep, ...]
    places: tuple[Place, ...]
    replicates: int
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
        return SweepFiles(folder=folder, stem=self.question.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepCandidate:
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
    drawn: Mapping[tuple[str, Place], Mapping[float, Drawn]]
    """What is known of draws of patients, the same and by level."""

    def lacking(self, wanted: SweepWanted) -> tuple[Level, ...]:
        """Return the levels that no table has, those of one place after another."""
        levels = [
            level_of(sweep.shift, place, level)
            for place in wanted.places
            for sweep in wanted.sweeps
            for level in sweep.levels
            if wanted.keep_logits
            or wanted.overwrite
            or level not in self._known(sweep.shift, place, wanted)
        ]
        return tuple(dict.fromkeys(levels))

    def _known(self, shift: str, place: Place, wanted: SweepWanted) -> set[float]:
        there = {row["level"] for row in self.rows[shift, place]}
        return there & self.drawn[shift, place].keys() if wanted.replicates else there

    def listener(self, wanted: SweepWanted) -> Listener:
        """Return by what the network's answers are judged."""
        classes = self.trained.classes
        patients = sweep_patients(self.tiles, classes, replicates=wanted.replicates)
        return Listener(model=self.name, tiles=self.tiles, classes=classes, patients=patients)

    def drawn_as(self, wanted: SweepWanted) -> dict[str, Any]:
        """Return what draws of patients depend on."""
        return {**self.asked, "replicates": wanted.replicates}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSweep:
    """What a network would be asked along sweeps."""

    model: str
    tiles: int
    levels: int
    """The clean one is the same of every change."""
    left: int
    """Levels that its tables lack."""
    notes: tuple[str, ...]


def planned_sweeps(wanted: SweepWanted, models: Iterable[str]) -> tuple[PlannedSweep, ...]:
    """Return what ``robustness.sweep`` would ask; nothing is written.

    Raises
    ------
    ConfigError
        As for that, as far as it shows before anything is asked.
    """
    device = device_of(wanted.work.device)
    names = chosen_models(wanted.run, tuple(models)).names
    levels = {
        level_of(sweep.shift, place, level)
        for sweep, place in wanted.each
        for level in sweep.levels
    }
    found = [sweep_candidate(name, wanted, device) for name in names]
    return tuple(
        PlannedSweep(
            model=each.name,
            tiles=len(each.tiles),
            levels=len(levels),
            left=len(each.lacking(wanted)),
            notes=each.notes,
        )
        for each in found
    )


def sweep_candidate(name: str, wanted: SweepWanted, device: torch.device) -> SweepCandidate:
    """Return a network and what is known of it.

    Raises
    ------
    ConfigError
        There is no such tile or none has a label, its tables are of another run of the same name, or its
        tiles are decoded at a share of their size.
    """
    directory = model_directory(wanted.run, name)
    trained = load_network(directory)
    config, run = trained.config, wanted.question.run(wanted.run)
    if "source" in wanted.places and config.shrink > 1:
        raise ConfigError(
            f"apply-at: source: {name} was trained on tiles decoded at 1/{config.shrink} of their size; "
            "whole tiles, changed and averaged, would differ from those in sharpness by themselves; take "
            "--apply-at input"
        )
    refuse_without_split(run, wanted.question.part, config)
    condition = condition_of(
        config, wanted.question.part, wanted.question.where, only_labelled=False
    )
    tiles = asked_tiles(run, config=config, classes=trained.classes, condition=condition)
    if not tiles.labelled:
        raise ConfigError(
            f"{run}: none of {len(tiles)} tiles has a {config.target}, and without one a sweep has no "
            "scores; label the run first (wsi-pipeline label)"
        )
    asked = {
        "run": None if wanted.question.on is None else str(run),
        "tiles": tiles.digest(),
        "settings_digest": config.digest(),
        "weights": weights_digest(trained.network),
        "epoch": trained.epoch,
        "classes": list(trained.classes),
        "device": device.type,
    }
    found = SweepCandidate(
        name=name,
        files=wanted.files(name),
        trained=trained,
        condition=condition,
        tiles=tiles,
        notes=notes_of(directory, wanted.run, wanted.question, config, tiles),
        asked=asked,
        rows={},
        drawn={},
    )
    return with_known(found, wanted)


def with_known(found: SweepCandidate, wanted: SweepWanted) -> SweepCandidate:
    """Return a network with what its tables have by now.

    Raises
    ------
    ConfigError
        They are of another run.
    """
    rows: dict[tuple[str, Place], list[dict[str, Any]]] = {}
    drawn: dict[tuple[str, Place], Mapping[float, Drawn]] = {}
    for sweep, place in wanted.each:
        key = (sweep.shift, place)
        table = known_table(found.files.table(*key), found.asked)
        rows[key] = [] if table is None else table.to_pylist()
        if wanted.replicates:
            draws = known_table(found.files.draws(*key), found.drawn_as(wanted))
            drawn[key] = {} if draws is None else drawn_levels(draws, found.trained.classes)
    return replace(found, rows=rows, drawn=drawn)


def asked_together(
    candidates: Iterable[SweepCandidate], lacking: Iterable[tuple[Level, ...]]
) -> list[tuple[tuple[Level, ...], list[SweepCandidate]]]:
    """Return networks in groups that can be asked of the same images in one pass, and what to ask."""
    groups: dict[str, tuple[tuple[Level, ...], list[SweepCandidate]]] = {}
    for each, levels in zip(candidates, lacking, strict=True):
        if levels:
            config = each.trained.config
            given = (inputs_of(config), config.model.image_px, config.model.stain)
            key = key_of(given, said_of(levels), each.condition, each.tiles.images_digest())
            groups.setdefault(key, (levels, []))[1].append(each)
    return list(groups.values())
