"""Every model of a run on the page: how it was trained, how sure it is, and where its logits lie."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wsi_pipeline.files import exists, names_below, read_bytes
from wsi_pipeline.report.parts import Cell, Field, Lines, Notice, Part, Section, Table
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.train.metrics import LOGIT_EDGES
from wsi_pipeline.train.metrics_table import read_history
from wsi_pipeline.train.score_words import word_of

MOST_DRAWN = 8
"""Models with figures of their own: those with the lowest log loss on validation. All are in the table."""

_SCORES = ("loss", "balanced_accuracy", "auroc", "ece", "brier")
_PARTS = ("train", "validation")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What a model's folder says of it."""

    name: str
    about: Mapping[str, Any] = field(repr=False)
    """train.json."""
    steps: pa.Table = field(repr=False)
    """Rows of steps."""
    epochs: Mapping[str, Sequence[Row]] = field(repr=False)
    """Rows of epochs by part, in order."""

    @property
    def best(self) -> Row | None:
        """The row of validation with the lowest loss, the first of equals."""
        rows = [row for row in self.epochs["validation"] if _number(row.get("loss")) is not None]
        return min(rows, key=lambda row: float(row["loss"]), default=None)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in order of their numbers, as far as that is known."""
        start = "logit_mean_"
        there = {
            name.removeprefix(start) for name in self.steps.column_names if name.startswith(start)
        }
        said = [str(name) for name in self.about.get("data", {}).get("classes", [])]
        return tuple(said) if set(said) == there else tuple(sorted(there))

    def of_best(self, part: str) -> Row | None:
        """Return a part's row of the best epoch."""
        best = self.best
        rows = self.epochs[part] if best else ()
        return next((row for row in rows if best and row["epoch"] == best["epoch"]), None)


def models(run: RunDirectory) -> Section | None:
    """Return what there is of every model in ``RUN/models``; None where there is none."""
    folder = run.path / "models"
    names = sorted(names_below(folder)) if exists(folder) else []
    found: list[_Model] = []
    parts: list[Part] = []
    for name in names:
        if name.startswith("."):
            continue
        try:
            model = _read(folder / name)
        except (OSError, ValueError) as error:
            text = f"Model {name} cannot be read: {error}"
            parts.append(Notice(text=text, kind="warning"))
            continue
        if model is not None:
            found.append(model)
    if not found and not parts:
        return None
    parts += [_table(found)] if found else []
    drawn = sorted(found, key=_by_log_loss)[:MOST_DRAWN]
    if len(drawn) < len(found):
        text = f"Drawn are the {MOST_DRAWN} models with the lowest log loss on validation."
        parts.append(Notice(text=text))
    for model in drawn:
        parts += _figures(model)
    return Section(name="models", title="Models", parts=tuple(parts))


def _by_log_loss(model: _Model) -> tuple[float, str]:
    """Order models by what can be compared: a loss holds penalties, and focal ones are small."""
    log_loss = _number((model.best or {}).get("log_loss"))
    return (np.inf if log_loss is None else log_loss, model.name)


def _read(folder: Path) -> _Model | None:
    table = read_history(folder)
    if table is None:
        return None
    about = {}
    if exists(folder / "train.json"):
        about = json.loads(read_bytes(folder / "train.json"))
    of_epochs = table.filter(pc.field("kind") == "epoch").to_pylist()
    return _Model(
        name=folder.name,
        about=about,
        steps=table.filter(pc.field("kind") == "step"),
        epochs={part: [row for row in of_epochs if row["part"] == part] for part in _PARTS},
    )


def _table(found: Sequence[_Model]) -> Table:
    fields = (
        Field(label="model"),
        Field(label="state"),
        Field(label="network"),
        Field(label="seed"),
        Field(label="epochs", kind="number"),
        Field(label="best epoch", kind="number"),
        *(Field(label=word_of(name), kind="number", digits=4) for name in _SCORES),
        Field(label="tiles/s", kind="number"),
        Field(label="waiting for tiles", kind="share"),
    )
    caption = "Models, with the scores of validation in the epoch of its lowest loss"
    return Table(name="models-table", caption=caption, fields=fields, rows=[*map(_row, found)])


def _row(model: _Model) -> tuple[Cell, ...]:
    best = model.best or {}
    settings = model.about.get("settings", {})
    return (
        model.name,
        "trained" if model.about.get("ended") else "under way",
        settings.get("model", {}).get("name"),
        str(settings.get("seed", "")),
        len(model.epochs["validation"]),
        best["epoch"] + 1 if best else None,
        *(_number(best.get(name)) for name in _SCORES),
        _number(pc.approximate_median(model.steps["tiles_per_s"]).as_py()),
        _number(pc.mean(model.steps["stall_share"]).as_py()),
    )


def _figures(model: _Model) -> Iterator[Part]:
    if model.best is None:
        yield Notice(text=f"{model.name} has not finished an epoch.")
        return
    yield _losses(model)
    yield _scores(model)
    yield _calibration(model)
    yield _logits(model)
    yield _shifts(model)


def _losses(model: _Model) -> Lines:
    """Return the loss of both parts by epoch, and its terms on validation where there are several."""
    series = {part: _by_epoch(model.epochs[part], "loss") for part in _PARTS if model.epochs[part]}
    terms = sorted(
        {name for row in model.epochs["validation"] for name in row if _is_term(row, name)}
    )
    if len(terms) > 1:
        for name in terms:
            label = f"validation: {word_of(name.removeprefix('loss_'))}"
            series[label] = _by_epoch(model.epochs["validation"], name)
    return Lines(
        title=f"{model.name}: loss",
        x_label="epoch",
        y_label="loss",
        series=series,
        x_whole=True,
    )


def _is_term(row: Row, name: str) -> bool:
    return name.startswith("loss_") and row[name] is not None


def _scores(model: _Model) -> Lines:
    names = ("balanced_accuracy", "auroc", "ece")
    series = {
        f"validation: {word_of(name)}": _by_epoch(model.epochs["validation"], name)
        for name in names
    }
    if model.epochs["train"]:
        series["train: balanced accuracy"] = _by_epoch(model.epochs["train"], "balanced_accuracy")
    return Lines(
        title=f"{model.name}: scores",
        x_label="epoch",
        y_label="score",
        series=series,
        y_range=(0.0, 1.0),
        x_whole=True,
    )


def _calibration(model: _Model) -> Lines:
    """Return how often what a network says comes true, beside how often it should."""
    series = {}
    for part in _PARTS:
        row = model.of_best(part)
        if row is not None and row.get("calibration_forecast"):
            series[part] = (
                _numbers(row["calibration_forecast"]),
                _numbers(row["calibration_share"]),
            )
    binary = len(model.classes) == 2
    what = f"probability of {model.classes[1]}" if binary else "probability of the likeliest class"
    return Lines(
        title=f"{model.name}: calibration in the best epoch",
        x_label=what,
        y_label="share that came true",
        series=series,
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        guide="diagonal",
    )


def _logits(model: _Model) -> Lines:
    """Return densities of the logits of each class, of tiles that were learnt beside others."""
    spread = {
        f"{name}, {part}": _numbers(row[f"logit_counts_{name}"])
        for name in model.classes
        for part in _PARTS
        if (row := model.of_best(part)) is not None and row.get(f"logit_counts_{name}")
    }
    width = float(LOGIT_EDGES[1] - LOGIT_EDGES[0])
    middles = (LOGIT_EDGES[1:] + LOGIT_EDGES[:-1]) / 2
    held = np.flatnonzero(sum(spread.values(), np.zeros(len(middles))))
    first, last = (max(0, held[0] - 2), held[-1] + 3) if held.size else (0, len(middles))
    series = {
        name: (middles[first:last], (counts / (counts.sum() or 1.0) / width)[first:last])
        for name, counts in spread.items()
    }
    low, high = float(min(middles[first], -width)), float(max(middles[min(last, 96) - 1], width))
    return Lines(
        title=f"{model.name}: logits in the best epoch",
        x_label=_logit_of(model),
        y_label="density",
        series=series,
        x_range=(low, high),
        guide="zero",
    )


def _logit_of(model: _Model) -> str:
    if len(model.classes) == 2:
        return f"logit of {model.classes[1]} (above 0: said to be it)"
    return "logit of the own class less the largest other (below 0: wrong)"


def _shifts(model: _Model) -> Table:
    """Return means of logits by class: that of the rare class goes towards the boundary."""
    train, validation = (model.of_best(part) or {} for part in _PARTS)
    rows = [
        (
            name,
            train.get(f"logit_mean_{name}"),
            validation.get(f"logit_mean_{name}"),
            validation.get(f"logit_shift_{name}"),
            train.get(f"recall_{name}"),
            validation.get(f"recall_{name}"),
        )
        for name in model.classes
    ]
    fields = (
        Field(label="class"),
        Field(label="mean logit, train", kind="number", digits=2),
        Field(label="mean logit, validation", kind="number", digits=2),
        Field(label="shift", kind="number", digits=2),
        Field(label="recall, train", kind="share"),
        Field(label="recall, validation", kind="share"),
    )
    caption = f"{model.name}: shift of the logits from training tiles to others"
    return Table(caption=caption, fields=fields, rows=rows)


def _by_epoch(rows: Sequence[Row], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    epochs = np.array([row["epoch"] + 1 for row in rows], dtype=np.float64)
    return epochs, _numbers([row.get(name) for row in rows])


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _number(value: Any) -> float | None:  # noqa: ANN401  of a table
    return None if value is None or not np.isfinite(value) else float(value)
