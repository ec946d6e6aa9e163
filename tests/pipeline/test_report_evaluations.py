"""Evaluations on the report's page: what their files say, side by side, bounded, and without torch."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.invented import write_run
from tests.invented_models import write_model
from tests.invented_predictions import (
    Asked,
    Invented,
    invented,
    write_evaluation,
    write_sweep,
)
from tests.pipeline.runs import environment
from wsi_pipeline.evaluate.score.asymmetry import shifts_from_learnt
from wsi_pipeline.evaluate.score.confusion import confusions
from wsi_pipeline.stages.report import report_run
from wsi_pipeline.tables import write_table

MADE = "2026-01-01T00:00:00+00:00"
TILES = Invented(means=(-3.0, 0.5))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "RUN", slides=2, tiles=12, later=False).path


def html_of(run: Path) -> str:
    return report_run(run, made=MADE).path.read_text(encoding="utf-8")


def section(html: str) -> str:
    return html.split('<section id="evaluations"')[1].split("</section>", maxsplit=1)[0]


def listed(html: str, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table that has a name."""
    found = re.search(rf'id="{name}-data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    data = json.loads(found.group(1))
    labels = [each["label"] for each in data["fields"]]
    return [dict(zip(labels, row, strict=True)) for row in data["rows"]]


def table(html: str, caption: str) -> list[list[str]]:
    """Return the rows of the table under a caption, the head first."""
    inside = html.split(f"<caption><span>{caption}", maxsplit=1)[1].split("</table>", maxsplit=1)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", inside, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def headings(html: str) -> list[str]:
    return re.findall(r"<h3[^>]*>(.*?)</h3>", html)


def test_a_run_without_evaluations_has_the_page_that_it_had(run: Path) -> None:
    before = html_of(run)
    assert 'id="evaluations"' not in before
    path = write_evaluation(run, TILES, Asked())
    assert html_of(run) != before
    for each in path.parent.iterdir():
        each.unlink()
    (path.parents[1] / "logits" / "train.parquet").unlink()
    assert html_of(run) == before


def test_scores_stand_with_their_intervals_as_in_their_table(run: Path) -> None:
    path = write_evaluation(run, TILES, Asked())
    html = html_of(run)
    (row,) = listed(html, "evaluations-table")
    rows = pq.read_table(path.with_suffix(".scores.parquet")).to_pylist()
    (auroc,) = (
        each
        for each in rows
        if (each["score"], each["unit"], each["by"]) == ("auroc", "tile", "all")
    )
    expected = f"{auroc['value']:.3f} ({auroc['low']:.3f} to {auroc['high']:.3f})"
    assert row["AUROC"] == expected
    assert (row["model"], row["tiles of"], row["tiles"], row["patients"]) == (
        "net",
        "test",
        240,
        12,
    )
    assert row["epoch"] == 5, "people count from 1, JSON from 0"
    head, *body = table(html, "Scores of 240 tiles of 12 patients, 95 % intervals")
    (cutoff,) = (each for each in rows if (each["score"], each["unit"]) == ("cutoff", "tile"))
    assert head[2] == f"tiles at {cutoff['value']:.3f} (validation)"
    assert [each[1] for each in body if each[0] == "AUROC"] == [expected]


def test_the_rare_class_has_its_shift_on_the_page(run: Path) -> None:
    write_evaluation(run, TILES, Asked())
    html = section(html_of(run))
    rows = table(html, "net on test: shift of the logits")
    moved = shifts_from_learnt(invented(Invented(seed=77)), invented(TILES), replicates=9)
    assert [row[0] for row in rows[1:]] == ["benign", "cancer &lt;b&gt;"]
    for row, each in zip(rows[1:], moved, strict=True):
        assert row[3].startswith(f"{each.shift:.2f} (")
    assert "net on test: logits" in headings(html)
    assert html.count('class="mark mark-') == 4, "a mean for each class of each part"


def test_confusion_is_shown_in_all_and_by_scanner(run: Path) -> None:
    write_evaluation(run, TILES, Asked())
    html = section(html_of(run))
    (whole,) = confusions(invented(TILES))
    rows = table(html, "net on test: confusion<")
    assert rows[1][2] == f"{whole.counts[0, 0]:.0f} ({100 * whole.shares[0, 0]:.1f} %)"
    assert rows[2][2] == f"{whole.counts[1, 0]:.0f} ({100 * whole.shares[1, 0]:.1f} %)"
    by_scanner = table(html, "net on test: confusion by scanner")
    assert [row[0] for row in by_scanner[1:]] == ["AT2", "AT2", "S360", "S360"]
    expected = confusions(invented(TILES), by="scanner")[1]
    assert by_scanner[3][3].startswith(f"{expected.counts[0, 0]:.0f} (")


def test_two_logits_are_drawn_in_their_plane(run: Path) -> None:
    two = Invented(logits=2)
    write_evaluation(run, two, Asked(learnt=Invented(seed=5, logits=2)))
    html = section(html_of(run))
    assert "net on test: both logits" in headings(html)
    assert html.count('class="cross"') == 4


def test_notes_are_warnings_and_few_patients_are_told(run: Path) -> None:
    notes = ["3 patients or slides of <X> are among those that the network was trained on: a"]
    few = Invented(patients=5)
    write_evaluation(run, few, Asked(about={"notes": notes}))
    html = section(html_of(run))
    warnings = re.findall(r'<p class="notice warning">(.*?)</p>', html)
    assert warnings[0].startswith("3 patients or slides of &lt;X&gt;")
    assert any("5 patients: only 126 distinct resamples" in each for each in warnings)


def test_one_slide_is_not_scored_as_slides_and_has_no_interval(run: Path) -> None:
    alone = Invented(more={"slide_id": ["s"] * 240, "patient_id": pa.nulls(240, pa.string())})
    write_evaluation(run, alone, Asked())
    html = section(html_of(run))
    assert table(html, "Scores of 240 tiles of 1 patient,")[0] == [
        *("score", "tiles"),
        next(each for each in table(html, "Scores of 240 tiles")[0] if "validation" in each),
    ]
    assert "from tiles that were learnt (1 patient: no interval)" in html


def test_patients_are_listed_one_by_one(run: Path) -> None:
    write_evaluation(run, TILES, Asked())
    rows = listed(html_of(run), "patients-0")
    assert [row["patient"] for row in rows] == [f"P{number:02d}" for number in range(12)]
    assert all(row["tiles"] == 20 and 0 <= row["accuracy"] <= 1 for row in rows)


def test_without_a_table_of_scores_those_of_the_json_are_shown(run: Path) -> None:
    path = write_evaluation(run, TILES, Asked(scored=False, learnt=None))
    scores = json.loads(path.with_suffix(".json").read_text())["scores"]
    (row,) = listed(html := html_of(run), "evaluations-table")
    assert row["AUROC"] == f"{scores['auroc']:.3f}"
    assert row["balanced accuracy"] == f"{scores['balanced_accuracy']:.3f}"
    assert "shift of the logits" not in section(html)
    assert "net on test: logits" in headings(html)


def test_repeats_of_several_arms_are_compared_on_the_same_tiles(run: Path) -> None:
    for arm, mean in (("wd", 0.2), ("sd", 1.0)):
        for seed in range(2):
            tiles = Invented(seed=seed, means=(-3.0, mean))
            write_evaluation(run, tiles, Asked(model=f"{arm}-{seed}", learnt=None))
    write_evaluation(run, TILES, Asked(model="wd-0", what="FAR-test", about={"run": "FAR"}))
    html = section(html_of(run))
    head, first, second = table(html, "Compared on test: mean of the repeats")
    assert [each[:2] for each in (first, second)] == [["sd", "2"], ["wd", "2"]]
    assert re.fullmatch(r"0\.\d{3} ± 0\.\d{3}", first[head.index("AUROC")])
    assert headings(html)[0] == "Compared on test: AUROC"
    assert "Compared on FAR-test" not in html, "one model alone is compared with nothing"


def test_files_of_the_same_name_but_of_other_tiles_are_not_compared(run: Path) -> None:
    write_evaluation(run, TILES, Asked(model="a", learnt=None))
    write_evaluation(run, TILES, Asked(model="b", learnt=None, about={"where": "tile > 5"}))
    assert "Compared on" not in html_of(run)


def test_of_many_evaluations_some_are_drawn_and_all_are_listed(run: Path) -> None:
    small = Invented(tiles=40, patients=4)
    for repeat in range(6):
        for part in ("test", "validation"):
            asked = Asked(
                model=f"sd-{repeat}", what=part, scored=False, learnt=None, about={"part": part}
            )
            write_evaluation(run, small, asked)
    html = html_of(run)
    assert len(listed(html, "evaluations-table")) == 12
    drawn = [each for each in headings(section(html)) if re.fullmatch(r"sd-\d on \w+", each)]
    assert drawn == [f"sd-{each} on test" for each in range(6)] + [
        "sd-0 on validation",
        "sd-1 on validation",
    ]
    assert "Drawn are 8 of 12 evaluations" in html


def test_damaged_files_are_named_and_the_others_are_shown(run: Path) -> None:
    write_evaluation(run, TILES, Asked(model="a"))
    write_evaluation(run, TILES, Asked(model="b")).write_bytes(b"no table")
    write_evaluation(run, TILES, Asked(model="c")).with_suffix(".json").write_text("{")
    write_evaluation(run, TILES, Asked(model="d"))
    (run / "models" / "d" / "logits" / "train.parquet").write_bytes(b"no table")
    html = section(html_of(run))
    assert "b on test cannot be shown" in html
    assert "Evaluations of model c cannot be read" in html
    assert "d: logits of the training cannot be read" in html
    assert [row["model"] for row in listed(html, "evaluations-table")] == ["a", "b", "d"]
    for name in ("a", "d"):
        assert f"{name} on test: logits" in headings(html)


def test_tiles_without_a_label_are_said_and_drawn_nowhere(run: Path) -> None:
    nobody = Invented(more={"target": pa.nulls(240, pa.int64())})
    path = write_evaluation(run, TILES, Asked(scored=False, about={"scores": {}}))
    write_table(path, invented(nobody).table)
    html = section(html_of(run))
    assert "no tile has a label" in html
    assert "net on test: logits" not in headings(html)


def test_a_sweep_has_a_curve_for_each_arm_and_the_sharpness(run: Path) -> None:
    for arm, lost in (("wd", 0.4), ("sd", 0.1)):
        for seed in range(3):
            write_sweep(run, f"{arm}-{seed}", lost=lost + 0.05 * seed)
    html = section(html_of(run))
    assert headings(html) == [
        "test-box_blur-source: balanced accuracy",
        "test-box_blur-source: AUROC",
    ]
    key = re.findall(r"</svg>([^<]*)</li>", html)
    assert key[:3] == ["sd", "wd", "sharpness (right)"]
    assert html.count('class="band band-') == 4
    rows = table(html, "test-box_blur-source: mean of the repeats")
    assert rows[1][:4] == ["1, as it is", "400.0", "0.900 ± 0.000", "0.950 ± 0.000"]
    assert rows[-1][2] == "0.750 ± 0.050"


def test_maps_beside_the_page_are_linked_whatever_they_are_called(run: Path) -> None:
    folder = run / "models" / "net"
    for name in (
        *("heatmaps/test/a #1 & <b>.png", "heatmaps/test/.hidden.png", "heatmaps/test/a.ome.tiff"),
        *("heatmaps/test/notes.txt", "collages/test.png", "checkpoints/a.png"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    html = section(html_of(run))
    base = "models/net/heatmaps/test"
    assert re.findall(r'<a href="(.*?)">(.*?)</a>', html) == [
        (f"{base}/a%20%231%20%26%20%3Cb%3E.png", "heatmaps/test/a #1 &amp; &lt;b&gt;.png"),
        (f"{base}/a.ome.tiff", "heatmaps/test/a.ome.tiff"),
        ("models/net/collages/test.png", "collages/test.png"),
    ]


def test_of_many_maps_some_are_linked_and_the_others_counted(run: Path) -> None:
    folder = run / "models" / "net" / "heatmaps" / "test"
    folder.mkdir(parents=True)
    for number in range(40):
        (folder / f"{number:02d}.png").write_bytes(b"x")
    html = section(html_of(run))
    assert html.count("<a href=") == 24
    assert "16 more files are in models/net." in html


def test_the_page_is_the_same_twice_and_needs_no_torch(run: Path) -> None:
    write_evaluation(run, TILES, Asked())
    write_sweep(run, "net", lost=0.1)
    probe = (
        "import sys; from wsi_pipeline.stages.report import report_run;"
        f"report_run(sys.argv[1], made={MADE!r});"
        "print({'torch', 'optuna', 'tensorboard', 'timm'} & sys.modules.keys())"
    )
    before = html_of(run)
    answer = subprocess.run(
        [sys.executable, "-c", probe, str(run)],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert answer.stdout.strip() == "set()"
    assert (run / "report.html").read_text(encoding="utf-8") == before


def test_models_and_evaluations_have_a_heading_each(tmp_path: Path) -> None:
    run = write_run(tmp_path / "BOTH", slides=2, tiles=12, later=False)
    write_model(run, "net", losses=[0.5])
    write_evaluation(run.path, TILES, Asked())
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", html_of(run.path))
    assert titles[-3:] == ["Models", "Evaluations", "Settings and versions"]
