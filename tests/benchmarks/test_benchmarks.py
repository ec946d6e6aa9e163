"""The benchmarks' own arithmetic, and once, on small slides, what needs no other program."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import openslide
import pandas as pd
import pytest

from tests.benchmarks import (
    dataset,
    engines,
    label,
    likeness,
    make,
    memory,
    parts,
    read,
    reporting,
    scale,
    scores,
    splitting,
    stubs,
    subjects,
    tile,
)
from tests.benchmarks.measure import Plan, judged, not_measured, report, usage_of
from tests.benchmarks.peers import PeerMissingError
from tests.benchmarks.repeating import write_repeating
from tests.benchmarks.show import table
from tests.benchmarks.sides import STEPS, Side, Taken, ours
from wsi_pipeline.calls import SerialPool
from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.slides.drawn import draw_slide
from wsi_pipeline.slides.find import SlideSource
from wsi_pipeline.slides.open import open_slide
from wsi_pipeline.stages.run_directory import RunDirectory
from wsi_pipeline.stages.tile import tile_slides
from wsi_pipeline.stages.units import SlideJob, units_of

SUFFIXES = {"tiff": ".tif", "svs": ".svs", "mrxs": ".mrxs", "czi": ".czi"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def block() -> Rgb:
    return draw_slide(Size(width=1536, height=1280), seed=5).rgb


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory, block: Rgb) -> dict[str, Path]:
    """Return a small slide of every kind, of two blocks side by side."""
    folder = tmp_path_factory.mktemp("slides")
    paths = {writer: folder / f"{writer}{suffix}" for writer, suffix in SUFFIXES.items()}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(make, "environment", _nothing_installed)
        for writer, path in paths.items():
            make.WRITERS[writer](path, block, across=2, down=1)
    return paths


def _nothing_installed(name: str, packages: tuple[str, ...]) -> Path:
    raise PeerMissingError(f"{name}: {packages} are not installed by a test")


def test_a_bar_holds_where_the_median_is_on_its_side() -> None:
    assert judged("a", [3.0, 1.0, 2.0], bar=2.0).holds
    assert not judged("a", [3.0, 1.0, 2.0], bar=1.9).holds
    assert judged("a", [3.0, 1.0, 2.0], bar=2.0, bound="at least").holds
    assert judged("a", [3.0], bar=None).holds is None


def test_a_process_is_measured_with_its_children() -> None:
    busy = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(3_000_000))'])"
    usage = usage_of([sys.executable, "-c", busy])
    assert usage.cpu_s > 0.02
    assert usage.wall_s > 0.02


def test_the_peak_is_that_of_the_largest_grandchild_and_not_of_this_process() -> None:
    here = np.ones(300 * MIB, np.uint8)  # what a benchmark itself may hold
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])"
    small = usage_of([sys.executable, "-c", child.format("pass")])
    large = usage_of([sys.executable, "-c", child.format(f"b'x' * {150 * MIB}")])
    assert here.nbytes > small.peak_bytes
    assert small.peak_bytes < 100 * MIB
    assert large.peak_bytes > 150 * MIB


def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        usage_of([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_the_report_names_machine_and_versions() -> None:
    written = json.loads(json.dumps(report([judged("a", [1.0], bar=2.0)])))
    assert written["results"][0]["value"] == 1.0
    assert "numpy" in written["versions"]
    assert "cores" in written["machine"]


def test_the_table_has_aligned_columns_with_and_without_a_bar() -> None:
    results = [
        judged("with a bar", [1.0, 2.0, 3.0], bar=1.0),
        judged("told", [150.0], bar=None, unit="ms"),
        not_measured("absent", reason="no network", bar=0.5),
    ]
    head, missed, told, absent = table(results).splitlines()
    assert missed.split() == ["with", "a", "bar", "2", "1", "to", "3", "at", "most", "1", "MISSED"]
    assert told.index("150 ms") == head.index("measured")
    assert absent.endswith("not measured: no network")


def test_every_bar_of_the_issue_is_compared() -> None:
    bars = {each.name: each.bar for kind in subjects.KINDS for each in tile.comparisons(kind)}
    assert bars["against HistoPrep, JPEG TIFF"] == pytest.approx(1 / 9)
    assert bars["against HistoPrep, JPEG 2000"] == 1 / 2
    assert bars["against HistoPrep, MRXS"] == pytest.approx(1 / 3)
    assert bars["against vips dzsave, JPEG TIFF"] == 1.0
    assert bars["against its parts, JPEG TIFF"] == 1.25
    assert bars["2 workers against 1, JPEG TIFF"] == 1.8
    assert memory.BAR_MIB == 1024


def test_ratios_are_taken_run_by_run() -> None:
    comparison = tile.comparisons(subjects.JPEG_TIFF)[0]
    quick = Taken(cpu_s=1.0, wall_s=1.0, tiles=3, command="quick")
    slow = Taken(cpu_s=4.0, wall_s=1.0, tiles=3, command="slow")
    found = comparison.result({"one": [quick, slow, quick], "histoprep": [slow, slow, slow]})
    assert found.spread == [0.25, 1.0, 0.25]
    assert found.value == 0.25
    assert found.command == "quick"


def test_sides_are_measured_in_turns_and_a_missing_one_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order: list[str] = []

    def side(name: str) -> Side:
        def measured(slide: Path, folder: Path) -> Taken:
            order.append(name)
            if name == "dzsave":
                raise PeerMissingError(f"no libvips for {slide.name} in {folder.parent.name}")
            steps_ms = dict.fromkeys(STEPS, 0.5)
            return Taken(cpu_s=1.0, wall_s=1.0, tiles=1, command=name, steps_ms=steps_ms)

        return measured

    monkeypatch.setattr(tile, "SIDES", {name: side(name) for name in tile.SIDES})
    monkeypatch.setattr(tile, "PLACE", tmp_path)
    monkeypatch.setattr(subjects, "made", lambda *_: tmp_path / "slide.tif")
    results = {each.name: each for each in tile.run(Plan(runs=2, only="JPEG TIFF"))}
    assert order == [
        "one",
        "two",
        "histoprep",
        "dzsave",
        "parts",
        "own",
        "one",
        "two",
        "histoprep",
        "parts",
        "own",
    ]
    assert results["against vips dzsave, JPEG TIFF"].value is None
    assert results["against HistoPrep, JPEG TIFF"].spread == [1.0, 1.0]
    assert results["step decode, JPEG TIFF"].value == 0.5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("writer", SUFFIXES)
def test_subjects_show_the_tissue_repeated(
    slides: dict[str, Path], block: Rgb, writer: str
) -> None:
    reader = open_slide(slides[writer])
    assert reader.info.size0.width >= 2 * block.shape[1]
    shown = reader.read(0, reader.info.bounds0).astype(np.int16)
    reader.close()
    height, width = block.shape[:2]
    assert abs(shown[:height, :width] - block).mean() < 8
    assert abs(shown[:height, width : 2 * width] - block).mean() < 8


@pytest.mark.parametrize("writer", SUFFIXES)
def test_engines_read_the_same_tiles(slides: dict[str, Path], writer: str) -> None:
    kind = next(kind for kind in subjects.KINDS if kind.writer == writer)
    found = [engines.main(engine, slides[writer], 2) for engine in read.engines(kind)]
    assert len({figures["mean"] for figures in found}) == 1
    assert {figures["tiles"] for figures in found} == {found[0]["tiles"]}
    assert all(figures["cpu_ms"] > 0 for figures in found)


@pytest.mark.parametrize("writer", SUFFIXES)
def test_parts_are_timed_on_every_format(slides: dict[str, Path], writer: str) -> None:
    figures = parts.main(slides[writer])
    steps = {"decode_s", "gray_s", "laplacian_s", "encode_s"}
    assert figures.keys() == {"tiles", *steps, "own_decode_s", "own_laplacian_s"}
    assert all(value > 0 for value in figures.values())


def test_a_run_of_this_package_is_taken_apart_by_step(
    slides: dict[str, Path], tmp_path: Path
) -> None:
    taken = ours(slides["tiff"], tmp_path, workers=1)
    assert taken.tiles == 8
    assert taken.steps_ms.keys() == set(STEPS)
    assert json.loads(json.dumps(taken.steps_ms))["decode"] > 0
    assert str(tmp_path) not in taken.command


def test_a_repeating_slide_is_small_and_opens_as_any_other(tmp_path: Path, block: Rgb) -> None:
    path = tmp_path / "repeating.tif"
    write_repeating(path, block, side_px=20_000)
    assert path.stat().st_size < 5 * MIB
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((20000, 20000), (5000, 5000), (1250, 1250), (312, 312))
        far = np.asarray(slide.read_region((11 * 1536, 12 * 1280), 0, (256, 256)).convert("RGB"))
    reader = open_slide(path)
    assert reader.info.backend == "tiff tiles"
    reader.close()
    assert abs(far.astype(np.int16) - block[:256, :256]).mean() < 8


def test_results_can_be_chosen_by_name() -> None:
    plan = Plan(quick=True, only="dzsave")
    assert plan.wants("against vips dzsave, JPEG TIFF")
    assert list(read.run(plan)) == []
    assert memory.run(plan) == []
    assert list(scale.run(plan)) == []


@pytest.mark.slow
def test_a_run_without_pixels_is_counted_and_read(tmp_path: Path) -> None:
    load = scale.Load(slides=3, slides_of_dask=2, across=20, down=15)
    found = {each.name: each for each in scale.results(tmp_path, load, runs=1)}
    source = SlideSource(slide_id="s", path="s.svs")
    job = SlideJob(source=source, run=RunDirectory(path=tmp_path), config=stubs.CONFIG)
    units = len(units_of(job, 300))
    assert found["scale: tasks, processes"].value == 3 * (1 + units + 1)
    assert found["scale: tasks, local"].value == 2 * (1 + units + 1)
    assert found["scale: six columns of every tile"].against.startswith("900 rows")
    assert found["scale: one slide by its file"].against == "300 rows"
    assert found["scale: one slide by filters="].against.startswith("300 rows")
    shards = math.ceil(300 / 64)
    files = found["scale: files"].value or 0
    assert (
        3 * (shards + 5) <= files <= 3 * (shards + 5) + 6
    )  # array, manifest, two pictures, record
    assert all(each.value and each.value > 0 for each in found.values())
    assert not list((tmp_path / "run" / ".state").rglob("tiles-*.parquet"))


def test_a_slide_without_pixels_has_rows_that_a_person_can_query(tmp_path: Path) -> None:
    slides = stubs.make_slides(tmp_path / "slides", 1, across=20, down=15)
    pool = stubs.StubbedPool(SerialPool())
    outcome = tile_slides([str(slides)], tmp_path / "run", stubs.CONFIG, pool=pool)
    assert outcome.with_status("failed") == ()
    rows = pd.read_parquet(tmp_path / "run" / "manifest" / "slide-0000.parquet")
    assert (rows["x"].max(), rows["y"].max()) == (19 * 819, 14 * 819)
    assert rows["laplacian_var"].nunique() == 300
    assert rows.drop(columns="reason").notna().to_numpy().all()


def test_labels_are_measured_from_file_to_manifest(tmp_path: Path) -> None:
    found = {each.name: each for each in label.results(tmp_path, label.QUICK, runs=1)}
    assert all(each.value and each.value > 0 for each in found.values())
    assert found["label: polygons"].bar == 10
    rows = pd.read_parquet(tmp_path / "run" / "manifest")
    assert len(rows) == 240
    assert set(rows["label"].dropna()) <= {"tumor", "stroma", "necrosis"}
    assert rows["label_share_tumor"].notna().all()


def test_a_page_is_measured_as_a_person_makes_it(tmp_path: Path) -> None:
    results = list(reporting.results(tmp_path, Plan(quick=True, runs=1)))
    assert [result.unit for result in results] == ["MB", "s", "MiB"]
    assert results[0].holds


def test_splits_are_timed_and_weighed(tmp_path: Path) -> None:
    found = {each.name: each for each in splitting.results(tmp_path, Plan(quick=True, runs=1))}
    assert found["split: split"].against.startswith("14220 tiles of 36 slides")
    assert all(each.value and each.value > 0 for each in found.values())
    imbalances = {each.name: each.value or 0 for each in splitting.balance(cohorts=3)}
    ours, theirs, chance = imbalances.values()
    assert ours < theirs < chance


def test_copies_of_slides_look_more_alike_than_others(tmp_path: Path) -> None:
    results = likeness.results(tmp_path, drawn=2, sides_um=(48,), real=())
    found = {each.name: each for each in results}
    copies = found["alike: JPEG quality 55, tiles of 48 um"]
    assert min(copies.spread) > max(found["alike: another slide, tiles of 48 um"].spread)
    assert (likeness.timed(20).value or 0) > 0
    assert len(found) == 1 + len(likeness.copies(np.zeros((64, 64, 3), dtype=np.uint8)))


def test_draws_of_patients_are_timed_beside_scipys() -> None:
    plan = Plan(quick=True, runs=1)
    found = {
        each.name: each for each in scores.results(plan, tiles=4000, replicates=200, patients=30)
    }
    assert found["scores: auroc of 30 patients"].bar == 60
    assert found["scores: auroc of 30 patients"].holds
    assert found["scores: auprc of 30 patients"].unit == "s"
    assert (scores.beside(plan, tiles=4000, replicates=50).value or 0) > 1


@pytest.mark.slow
def test_label_qc_and_split_are_timed_on_a_run_without_pixels(tmp_path: Path) -> None:
    load = dataset.Load(slides=6, across=8, down=8, polygons=4)
    found = {each.name: each for each in dataset.results(tmp_path, load)}
    assert found["dataset: label, qc and split"].holds
    rows = pd.read_parquet(tmp_path / "RUN" / "manifest")
    assert len(rows) == 6 * 64
    assert {"label", "outlier", "split"} <= set(rows)
