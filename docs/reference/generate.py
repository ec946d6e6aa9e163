"""Writes the reference pages from the code: ``python docs/reference/generate.py``.

A test compares the pages with what this gives, so they cannot fall behind.
"""

from collections.abc import Container
from pathlib import Path

import typer

from wsi_pipeline.augment.config import AugmentConfig
from wsi_pipeline.augment.shortcut_config import ShortcutConfig
from wsi_pipeline.cli.app import app
from wsi_pipeline.compute.profile import Profile
from wsi_pipeline.config import Config, RunConfig, TileConfig, expected_of
from wsi_pipeline.evaluate.config import EvaluateConfig
from wsi_pipeline.evaluate.maps.config import CamConfig, HeatConfig
from wsi_pipeline.evaluate.study.columns import STUDY_COLUMNS, STUDY_SCORE_COLUMNS
from wsi_pipeline.evaluate.study.config import ExperimentConfig, StudyConfig
from wsi_pipeline.evaluate.sweep.columns import CURVE_COLUMNS, DRAW_COLUMNS, SWEEP_COLUMNS
from wsi_pipeline.labels.comparison_config import CompareConfig
from wsi_pipeline.labels.quality_config import QcConfig
from wsi_pipeline.labels.rules import LabelConfig
from wsi_pipeline.labels.split_config import SplitConfig
from wsi_pipeline.loader.config import LoaderConfig
from wsi_pipeline.report.settings import ReportConfig
from wsi_pipeline.schema import (
    IMPORT_COLUMNS,
    IMPORT_SLIDE_COLUMNS,
    LABEL_COLUMNS,
    PREDICTION_COLUMNS,
    QC_COLUMNS,
    SCORE_COLUMNS,
    SLIDE_COLUMNS,
    SPLIT_COLUMNS,
    SPLIT_TABLE_COLUMNS,
    TILE_COLUMNS,
    Column,
)
from wsi_pipeline.stages.export_config import ExportConfig
from wsi_pipeline.tiles.import_config import ImportConfig
from wsi_pipeline.train.columns import CLASS_COLUMNS, TRAINING_COLUMNS
from wsi_pipeline.train.config import TrainConfig, WorkConfig
from wsi_pipeline.train.loss_config import LossConfig
from wsi_pipeline.train.model_config import ModelConfig
from wsi_pipeline.train.optimise_config import OptimiseConfig
from wsi_pipeline.train.tune_config import TuneConfig

ROOT = Path(__file__).resolve().parents[2]

_MADE = "<!-- made by docs/reference/generate.py; change the code, not this page -->\n\n"


def config_page() -> str:
    """Return the page of every setting."""
    return (
        _MADE
        + "# Settings\n\n"
        + "Keys of the file given with `--config FILE.yaml`; a flag of the same name, with `-` for\n"
        + "`_`, wins over the file. Unknown keys are refused.\n\n"
        + "## tile: what is made\n\n"
        + "Every one of these changes the result, so all of them are in the digest that `run.json`,\n"
        + "`slides.parquet` and every manifest carry.\n\n"
        + _settings(TileConfig)
        + "\n## import: tiles that exist already\n\n"
        + "Every one of these changes the result ([how to](../how-to/import-tiles.md)).\n\n"
        + _settings(ImportConfig)
        + "\n## export: tiles for other programs\n\n"
        + _settings(ExportConfig)
        + "\n## report: what the page shows\n\n"
        + _settings(ReportConfig)
        + "\n## label: what is read, and the rule\n\n"
        + "All of these are in `RUN/label.json` with their digest ([the rule](../concepts/labels.md)).\n\n"
        + _settings(LabelConfig)
        + "\n## How a run is carried out\n\nNone of these changes what is made.\n\n"
        + _settings(RunConfig)
        + "\n## qc: what is marked\n\n"
        + "What each rule means: [quality](../concepts/quality.md).\n\n"
        + _settings(QcConfig)
        + "\n## compare: groups of tiles\n\n"
        + _settings(CompareConfig)
        + "\n## split\n\n"
        + _settings(SplitConfig)
        + "\n## A profile: --cluster PROFILE.yaml\n\n"
        + "Jobs of a batch system ([how to](../how-to/cluster.md)). Only `kind` has to be given.\n\n"
        + _settings(Profile)
        + "\n## The loader\n\n"
        + "Settings of `wsi_pipeline.loader.tiles.TileLoader` ([how to](../how-to/load-tiles.md)). Only\n"
        + "`batch_size` has to be given.\n\n"
        + _settings(LoaderConfig)
        + _training()
        + "\n## tune\n\n"
        + "A search for settings of `train` ([how to](../how-to/tune.md)).\n\n"
        + _settings(TuneConfig)
        + _evaluation()
        + "\n## study\n\n"
        + "The file of `study` ([how to](../how-to/run-the-study.md)); settings of trainings in it are\n"
        + "those of `train`.\n\n"
        + _settings(StudyConfig)
        + "\n### study: experiments\n\n"
        + "Each of `experiments` is a section of these.\n\n"
        + _settings(ExperimentConfig)
    )


def _training() -> str:
    """Return the settings of ``train`` and its sections."""
    sections = {
        "model": (
            ModelConfig,
            "The network ([transfer](../how-to/train.md#begin-with-other-weights)).",
        ),
        "loss": (LossConfig, "What is minimised ([formulas](../concepts/losses.md))."),
        "augment": (AugmentConfig, "How training images are changed."),
        "shortcut": (
            ShortcutConfig,
            "What is put into some tiles on purpose ([shortcuts](../concepts/shortcuts.md)).",
        ),
        "optimise": (OptimiseConfig, "How weights are changed."),
    }
    text = (
        "\n## train\n\n"
        + "What is learnt ([how to](../how-to/train.md)). All of these and of the sections are in the\n"
        + "digest that `train.json` and checkpoints carry. A section is a mapping in the file, or paths\n"
        + "such as `optimise.lr`.\n\n"
        + _settings(TrainConfig, leave_out=sections)
    )
    for name, (kind, about) in sections.items():
        text += f"\n### train: {name}\n\n{about}\n\n" + _settings(kind)
    return (
        text
        + "\n### How a training is carried out\n\n"
        + "None of these changes what is learnt by more than rounding; each may differ when a training\n"
        + "goes on.\n\n"
        + _settings(WorkConfig)
    )


def _evaluation() -> str:
    """Return the settings of ``evaluate`` and its sections."""
    return (
        "\n## evaluate\n\n"
        + "Who is asked, and of what ([how to](../how-to/evaluate.md)). How that is carried out is said by\n"
        + "the [keys of train](#how-a-training-is-carried-out).\n\n"
        + _settings(EvaluateConfig)
        + "\n### evaluate: heat_maps\n\n"
        + "A section, or only its `kinds` ([how to](../how-to/heat-maps.md)).\n\n"
        + _settings(HeatConfig)
        + "\n### evaluate: cam\n\n"
        + "A section, or only its `method`.\n\n"
        + _settings(CamConfig)
    )


def tables_page() -> str:
    """Return the page of every column."""
    return _MADE + "# Tables\n\n" + column_dictionary()


def column_dictionary() -> str:
    """Return name, type and meaning of every column."""
    return (
        "## manifest/SLIDE.parquet: one row per tile\n\n"
        + _columns(TILE_COLUMNS)
        + "\nA run of imported tiles has the other columns of its source too, and\n\n"
        + _columns(IMPORT_COLUMNS)
        + "\n`label` adds:\n\n"
        + _columns(LABEL_COLUMNS)
        + "\n### What qc adds\n\n"
        + _columns(QC_COLUMNS)
        + "\n## slides.parquet: one row per slide\n\n"
        + _columns(SLIDE_COLUMNS)
        + "\nA run of imported tiles has also\n\n"
        + _columns(IMPORT_SLIDE_COLUMNS)
        + "\nThe further columns of the slide table that the user gave follow these.\n"
        + "\n## manifest/SLIDE.parquet: columns of split\n\n"
        + _columns(SPLIT_COLUMNS)
        + "\n## splits.parquet and splits.csv: one row per slide and repeat\n\n"
        + _columns(SPLIT_TABLE_COLUMNS)
        + "\n## models/NAME/metrics.parquet: one row per step, and per epoch and part\n\n"
        + _columns(TRAINING_COLUMNS)
        + "\nFor each TERM of the loss, each CLASS and each quantile NN there follow, in order of name,\n\n"
        + _columns(CLASS_COLUMNS)
        + "\n## models/NAME/predictions/WHAT.parquet: one row per tile\n\n"
        + _columns(PREDICTION_COLUMNS)
        + "\n## models/NAME/predictions/WHAT.scores.parquet: one row per score\n\n"
        + "What each score and interval is: `docs/concepts/statistics.md`.\n\n"
        + _columns(SCORE_COLUMNS)
        + "\n## models/NAME/sweeps/WHAT-SHIFT-PLACE.parquet: one row per level\n\n"
        + "What levels are: [robustness](../concepts/robustness.md). `recall_CLASS` of each class\n"
        + "follows.\n\n"
        + _columns(SWEEP_COLUMNS)
        + "\n## models/NAME/sweeps/curves/WHAT.parquet: one row per level and score of several models\n\n"
        + _columns(CURVE_COLUMNS)
        + "\n## models/NAME/sweeps/draws/WHAT-SHIFT-PLACE.parquet: one row per level and score\n\n"
        + _columns(DRAW_COLUMNS)
        + "\n## table2.parquet and table2.csv of a study: one row per experiment, tiles, arm and score\n\n"
        + _columns(STUDY_COLUMNS)
        + "\n## repeats.parquet of a study: one row per network, tiles and score\n\n"
        + _columns(STUDY_SCORE_COLUMNS)
    )


def cli_page() -> str:
    """Return the page of every command and flag."""
    group = typer.main.get_command(app)
    context = typer.Context(group)
    text = _MADE + "# Commands\n\n" + (group.help or "") + "\n"
    for name in group.list_commands(context):  # type: ignore[attr-defined]
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        summary, _, more = (command.help or "").partition("\n\n")
        text += f"\n## wsi-pipeline {name}\n\n{summary}\n" + (f"\n{more}\n" if more else "")
        text += "\n| | default | |\n|---|---|---|\n"
        for parameter in command.params:
            if parameter.name != "help":
                text += _parameter(parameter)
    return text


def manifests_page() -> str:
    """Return the page of the folder of cohort tables."""
    return (
        _MADE
        + "# Cohort tables\n\n"
        + "Small, reviewed tables that say which slides a study uses: a CSV with a column `path` (relative\n"
        + "to the table) and, as far as they are known, `slide_id, patient_id, scanner, centre, mpp,\n"
        + "annotation`. All columns are kept in `slides.parquet`. Large tables, and tables that name\n"
        + "patients, stay outside the repository.\n\n"
        + "What a run writes:\n\n"
        + column_dictionary()
    )


PAGES = {
    "docs/reference/config.md": config_page,
    "docs/reference/tables.md": tables_page,
    "docs/reference/cli.md": cli_page,
    "manifests/README.md": manifests_page,
}


def _settings(kind: type[Config], *, leave_out: Container[str] = ()) -> str:
    rows = "| key | default | expected | meaning |\n|---|---|---|---|\n"
    for name, field in kind.model_fields.items():
        if name in leave_out:
            continue
        default = "none" if field.default in (None, ()) else _plain(field.default)
        default = "required" if field.is_required() else default
        expected = expected_of(kind, name).replace("|", "\\|")
        rows += f"| `{name}` | {default} | {expected} | {field.description} |\n"
    return rows


def _plain(default: object) -> object:
    return ",".join(map(str, default)) if isinstance(default, tuple) else default


def _columns(columns: tuple[Column, ...]) -> str:
    rows = "| column | type | meaning |\n|---|---|---|\n"
    for column in columns:
        kind = str(column.type).replace(
            "dictionary<values=string, indices=int32, ordered=0>", "word"
        )
        rows += f"| `{column.name}` | {kind} | {column.meaning} |\n"
    return rows


def _parameter(parameter: typer.core.TyperOption | typer.core.TyperArgument) -> str:
    names = ", ".join(f"`{each}`" for each in parameter.opts) if parameter.opts else ""
    if isinstance(parameter, typer.core.TyperArgument):
        names = f"`{parameter.metavar}`"
    elif parameter.metavar:
        names += f" {parameter.metavar}".replace("|", "\\|")
    shown = parameter.show_default
    default = shown if isinstance(shown, str) else ""
    if isinstance(parameter, typer.core.TyperOption) and parameter.required:
        default = "required"
    return f"| {names} | {default} | {parameter.help or ''} |\n"


if __name__ == "__main__":
    for path, page in PAGES.items():
        (ROOT / path).write_text(page(), encoding="utf-8")
