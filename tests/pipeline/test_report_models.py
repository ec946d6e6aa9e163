"""Models on the report's page: what their tables say, nothing where there is none, no torch for it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.invented import write_run
from tests.invented_models import write_model
from tests.pipeline.runs import environment
from wsi_pipeline.stages.report import report_run
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.train.history import History

MADE = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return write_run(tmp_path / "RUN", slides=2, tiles=12, later=False)


def html_of(run: RunDirectory) -> str:
    return report_run(run.path, made=MADE).path.read_text(encoding="utf-8")


def section(html: str) -> str:
    return html.split('<section id="models"')[1].split("</section>", maxsplit=1)[0]


def table_of(html: str) -> list[dict[str, Any]]:
    found = re.search(r'id="models-table-data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    data = json.loads(found.group(1))
    labels = [each["label"] for each in data["fields"]]
    return [dict(zip(labels, row, strict=True)) for row in data["rows"]]


def test_a_run_without_models_has_the_page_that_it_had(run: RunDirectory) -> None:
    before = html_of(run)
    assert 'id="models"' not in before
    folder = write_model(run, "a", losses=[0.5])
    assert html_of(run) != before
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    assert html_of(run) == before


def test_the_table_says_what_the_models_say_in_their_best_epoch(run: RunDirectory) -> None:
    write_model(run, "a", losses=[0.5, 0.3, 0.4])
    write_model(run, "b", losses=[0.6], ended=False)
    first, second = table_of(html_of(run))
    assert (first["model"], first["state"], first["best epoch"], first["loss"]) == (
        "a",
        "trained",
        2,
        0.3,
    )
    assert (first["network"], first["seed"], first["tiles/s"]) == ("efficientnet_b0", "3", 100)
    assert (first["epochs"], first["waiting for tiles"]) == (3, 0.25)
    assert (second["model"], second["state"]) == ("b", "under way")


def test_a_model_has_its_figures_and_the_shift_of_its_rare_class(run: RunDirectory) -> None:
    write_model(run, "a", losses=[0.5, 0.3])
    text = section(html_of(run))
    headings = re.findall(r"<h3>(.*?)</h3>", text)
    assert headings == [
        "a: loss",
        "a: scores",
        "a: calibration in the best epoch",
        "a: logits in the best epoch",
    ]
    for words in ("validation: decoupling", "cancer &lt;b&gt;, train", "validation: AUROC"):
        assert words in text
    cells = re.findall(r"cancer &lt;b&gt;</th>(.*?)</tr>", text)[0]
    train, validation, shift = (
        float(each.replace("\u2212", "-")) for each in re.findall(r">(-?[\d.]+)<", cells)[:3]
    )
    assert shift == pytest.approx(validation - train, abs=0.02)
    assert -3.5 < shift < -2.5


def test_a_model_that_has_not_finished_an_epoch_is_in_the_table(run: RunDirectory) -> None:
    history = History(run.path / "models" / "new")
    history.add([{"kind": "step", "part": "train", "epoch": 0, "step": 1, "loss": 0.7}])
    history.close()
    html = html_of(run)
    assert table_of(html)[0]["epochs"] == 0
    assert "new has not finished an epoch." in html


def test_a_damaged_model_is_named_and_the_others_are_shown(run: RunDirectory) -> None:
    write_model(run, "a", losses=[0.5])
    damaged = write_model(run, "b", losses=[0.4])
    (damaged / "metrics.parquet").write_bytes(b"no table")
    html = html_of(run)
    assert "Model b cannot be read" in html
    assert [row["model"] for row in table_of(html)] == ["a"]


def test_of_many_models_the_best_are_drawn_and_all_are_listed(run: RunDirectory) -> None:
    for number in range(10):
        write_model(run, f"m{number}", losses=[1.0 - number / 20])
    html = html_of(run)
    assert len(table_of(html)) == 10
    assert "the 8 models with the lowest log loss on validation" in html
    assert "m9: loss" in html
    assert "m0: loss" not in html


def test_a_penalty_does_not_keep_a_good_model_from_being_drawn(run: RunDirectory) -> None:
    for number in range(8):
        write_model(run, f"m{number}", losses=[0.9])
    write_model(run, "strong", losses=[2.0], penalty=1.8)
    assert "strong: loss" in html_of(run)


def test_the_page_needs_no_torch(run: RunDirectory) -> None:
    write_model(run, "a", losses=[0.5])
    probe = (
        "import sys; from wsi_pipeline.stages.report import report_run; report_run(sys.argv[1]);"
        "print({'torch', 'optuna', 'tensorboard', 'timm'} & sys.modules.keys())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", probe, str(run.path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert answer.stdout.strip() == "set()"
