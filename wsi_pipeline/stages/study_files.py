"""What a study leaves behind: tables, figures, and one page; written by whoever finds every model done."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from wsi_pipeline.evaluate.study.answer import Answer
from wsi_pipeline.evaluate.study.patients import nested_of
from wsi_pipeline.evaluate.study.plan import StudyPlan
from wsi_pipeline.evaluate.study.records import Record, measured, told
from wsi_pipeline.evaluate.study.table import measured_table, summaries, summary_table
from wsi_pipeline.files import publish_bytes, remove_file
from wsi_pipeline.provenance import library_versions
from wsi_pipeline.report.parts import Lines
from wsi_pipeline.report.plots import Panel, plot_png
from wsi_pipeline.report.render import render
from wsi_pipeline.schema import SCHEMA_VERSION
from wsi_pipeline.stages.report_study import Figures, Found, study_figures, study_page, verdicts
from wsi_pipeline.stages.run_directory import now
from wsi_pipeline.tables import write_table


def found_of(plan: StudyPlan, records: Sequence[Record]) -> Found:
    """Return all that a study came to, from what was noted of its models."""
    answers = told(plan, {each.model: each for each in records})
    study = plan.study
    papers = {name: each.paper for name, each in study.experiments.items()}
    nested = nested_of(plan.run, answers, reference=study.reference)
    rows = summaries(measured(answers), reference=study.reference, papers=papers, nested=nested)
    return Found(plan=plan, answers=answers, rows=rows)


def write_study(out: Path, found: Found, *, made: str | None = None) -> tuple[Answer, ...]:
    """Write everything of a study into its folder, and return its answers.

    ``study.json``, ``study.html``, ``repeats.parquet``, ``table2.parquet``, ``table2.csv`` and PNG files; a
    figure that there is nothing for any more is removed.

    Parameters
    ----------
    out
        The folder.
    found
        What the study came to.
    made
        The time that is stated; the present one if not given. All else depends on the study alone.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    made = made or now()
    answers, figures = verdicts(found), study_figures(found)
    about = {"schema_version": SCHEMA_VERSION}
    table = summary_table(found.rows)
    write_table(out / "repeats.parquet", measured_table(measured(found.answers)), metadata=about)
    write_table(out / "table2.parquet", table, metadata=about)
    publish_bytes(out / "table2.csv", _csv(table))
    for name, panels in _panels(found, figures).items():
        path = out / f"{name}.png"
        if panels:
            publish_bytes(path, plot_png(panels))
        else:
            remove_file(path)
    publish_bytes(out / "study.html", render(study_page(found, figures, made=made)))
    publish_bytes(out / "study.json", _json(found, answers, made))
    return answers


def _panels(found: Found, figures: Figures) -> dict[str, Sequence[Panel]]:
    return {
        "figure2": () if figures.sharpness is None else (figures.sharpness,),
        "figure3": [
            each for each in figures.of_kind(found.plan, "sweep") if isinstance(each, Lines)
        ],
        "figure4": figures.of_kind(found.plan, "external"),
        "shortcut": figures.of_kind(found.plan, "shortcut"),
        "logits": figures.logits,
    }


def _csv(table: pa.Table) -> bytes:
    target = io.BytesIO()
    csv.write_csv(table, target)
    return target.getvalue()


def _json(found: Found, answers: Sequence[Answer], made: str) -> bytes:
    plan = found.plan
    content = {
        "made": made,
        "run": plan.run,
        "externals": dict(plan.externals),
        "study": plan.study.model_dump(mode="json"),
        "models": [
            {
                "model": unit.model,
                "seed": unit.seed,
                "settings_digest": unit.config.digest(),
                "settings": unit.config.model_dump(mode="json"),
            }
            for unit in plan.units
        ],
        "answers": [
            {
                "experiment": each.experiment,
                "tiles": each.tiles,
                "verdict": each.verdict,
                "text": each.text,
            }
            for each in answers
        ],
        "versions": library_versions(),
    }
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
