"""What models are worth on tiles that they were not trained on, on the page: each alone, and side by side."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from wsi_pipeline.evaluate.ask.learnt import learnt_tiles
from wsi_pipeline.evaluate.predictions import Predictions
from wsi_pipeline.files import exists, names_below
from wsi_pipeline.report.parts import (
    Cell,
    Field,
    Links,
    Notice,
    Part,
    Range,
    Ranges,
    Section,
    Table,
)
from wsi_pipeline.stages.evaluated import UNREADABLE, Evaluation, evaluations_of
from wsi_pipeline.stages.report_evaluation import evaluation_parts, with_interval
from wsi_pipeline.stages.report_sweeps import sweeps
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.train.score_words import word_of

MOST_DRAWN = 8
"""Evaluations with figures of their own; all are in the table."""

_MOST_COMPARED = 24
_MOST_FILES = 24
_COMPARED = ("balanced_accuracy", "recall", "auroc", "auroc_macro", "auprc", "brier", "ece")
_PICTURES = (".png", ".jpg", ".html", ".tiff", ".geojson", ".svg")
_FOLDERS = ("heatmaps", "cams", "collages", "sweeps")


def evaluations(run: RunDirectory, patients: Mapping[str, str]) -> Section | None:
    """Return what ``evaluate`` has left of every model; None where it has left nothing.

    Parameters
    ----------
    patients
        Slide to patient, where that is known.
    """
    folder = run.path / "models"
    folders = [
        folder / name
        for name in (sorted(names_below(folder)) if exists(folder) else ())
        if not name.startswith(".")
    ]
    found, parts = _read(folders)
    if found:
        parts = [*parts, _overview(found), *_compared(found), *_each(found, patients)]
    parts += sweeps(folders)
    parts += _links(folders)
    if not parts:
        return None
    return Section(name="evaluations", title="Evaluations", parts=tuple(parts))


def _read(folders: Sequence[Path]) -> tuple[list[Evaluation], list[Part]]:
    """Return all evaluations, and a sentence for each model of which they cannot be read."""
    found: list[Evaluation] = []
    lost: list[Part] = []
    for each in folders:
        try:
            found += evaluations_of(each)
        except UNREADABLE as error:
            text = f"Evaluations of model {each.name} cannot be read: {error}"
            lost.append(Notice(text=text, kind="warning"))
    return found, lost


def _overview(found: Sequence[Evaluation]) -> Table:
    names = [name for name in _COMPARED if any(each.row(name) for each in found)]
    fields = (
        Field(label="model"),
        Field(label="tiles of"),
        Field(label="tiles", kind="number"),
        Field(label="patients", kind="number"),
        *(Field(label=word_of(name)) for name in names),
        Field(label="epoch", kind="number"),
        Field(label="run"),
    )
    return Table(
        name="evaluations-table",
        caption="Every model on every part: scores of tiles at 0.5, intervals over patients in brackets",
        fields=fields,
        rows=[_overview_row(each, names) for each in sorted(found, key=lambda each: each.order)],
    )


def _overview_row(found: Evaluation, names: Sequence[str]) -> tuple[Cell, ...]:
    counts = next((row for row in found.scores if row["by"] == "all" and row["tiles"]), {})
    epoch = found.about.get("epoch")
    return (
        found.model,
        found.what,
        counts.get("tiles"),
        counts.get("patients"),
        *(with_interval(found.row(name)) for name in names),
        None if epoch is None else epoch + 1,  # people count from 1
        found.about.get("run"),
    )


def _compared(found: Sequence[Evaluation]) -> Iterator[Part]:
    """Yield models side by side, for all tiles that several of them were asked for."""
    alike: dict[tuple[str, ...], list[Evaluation]] = defaultdict(list)
    for each in sorted(found, key=lambda each: each.order):
        alike[each.same_tiles].append(each)
    for (what, *_), several in alike.items():
        if len(several) > len({each.arm for each in several}):
            yield _arms(what, several)
        if len(several) > 1:
            yield from _ranges(what, several)


def _arms(what: str, several: Sequence[Evaluation]) -> Table:
    """Return the mean over repeats of each arm, with its standard deviation."""
    arms: dict[str, list[Evaluation]] = defaultdict(list)
    for each in several:
        arms[each.arm].append(each)
    names = [name for name in _COMPARED if any(each.row(name) for each in several)]
    fields = (
        Field(label="arm"),
        Field(label="repeats", kind="number"),
        *(Field(label=word_of(name)) for name in names),
    )
    rows = [
        (arm, len(each), *(_mean_text(each, name) for name in names)) for arm, each in arms.items()
    ]
    return Table(
        caption=f"Compared on {what}: mean of the repeats ± standard deviation between them, at 0.5",
        fields=fields,
        rows=rows,
    )


def _mean_text(repeats: Sequence[Evaluation], score: str) -> str | None:
    rows = [each.row(score) for each in repeats]
    values = [row["value"] for row in rows if row is not None and row["value"] is not None]
    if not values:
        return None
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _ranges(what: str, several: Sequence[Evaluation]) -> Iterator[Part]:
    score = "auroc" if any(each.row("auroc") for each in several) else "auroc_macro"
    rows = []
    for each in sorted(several, key=lambda each: each.model)[:_MOST_COMPARED]:
        row = each.row(score)
        if row is not None and row["value"] is not None:
            rows.append(
                Range(name=each.model, value=row["value"], low=row["low"], high=row["high"])
            )
    if not rows:
        return
    label = f"{word_of(score)} of tiles, with intervals over patients"
    yield Ranges(title=f"Compared on {what}: {word_of(score)}", x_label=label, rows=tuple(rows))
    if len(several) > _MOST_COMPARED:
        text = f"Drawn are {_MOST_COMPARED} of {len(several)} models; all are in the table."
        yield Notice(text=text)


def _each(found: Sequence[Evaluation], patients: Mapping[str, str]) -> Iterator[Part]:
    """Yield what is shown of each evaluation, of those that come first."""
    drawn = sorted(found, key=lambda each: each.order)[:MOST_DRAWN]
    if len(drawn) < len(found):
        text = (
            f"Drawn are {MOST_DRAWN} of {len(found)} evaluations: tests before validation, and first repeats "
            "before further ones. All are in the table."
        )
        yield Notice(text=text)
    for number, each in enumerate(drawn):
        try:
            predictions = each.predictions()
            learnt, lost = _learnt(each, predictions, patients)
            yield from [*lost, *evaluation_parts(each, predictions, learnt, number=number)]
        except UNREADABLE as error:
            yield Notice(text=f"{each.title} cannot be shown: {error}", kind="warning")


def _learnt(
    found: Evaluation, predictions: Predictions, patients: Mapping[str, str]
) -> tuple[Predictions | None, list[Part]]:
    """Return what the network says of training tiles, or a sentence why that cannot be read."""
    try:
        return learnt_tiles(found.folder, predictions.classes, patients), []
    except UNREADABLE as error:
        text = f"{found.model}: logits of the training cannot be read: {error}"
        return None, [Notice(text=text, kind="warning")]


def _links(folders: Sequence[Path]) -> Iterator[Part]:
    """Yield files beside the page, by model."""
    for model in folders:
        names = [f"{kind}/{name}" for kind in _FOLDERS for name in _pictures(model / kind)]
        if not names:
            continue
        shown = names[:_MOST_FILES]
        base = f"models/{model.name}"
        yield Links(
            title=f"{model.name}: pictures and maps",
            items=tuple((name, f"{base}/{name}") for name in shown),
        )
        if len(names) > len(shown):
            yield Notice(text=f"{len(names) - len(shown)} more files are in {base}.")


def _pictures(folder: Path, *, depth: int = 2) -> list[str]:
    """Return paths from a folder to what can be looked at in it, and in folders within it."""
    found: list[str] = []
    for name in sorted(names_below(folder)) if depth and exists(folder) else ():
        if name.startswith("."):
            continue
        if name.endswith(_PICTURES):
            found.append(name)
        elif (folder / name).is_dir():
            found += [f"{name}/{each}" for each in _pictures(folder / name, depth=depth - 1)]
    return found
