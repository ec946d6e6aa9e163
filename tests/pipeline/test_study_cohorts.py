"""The study of the workflows on cohorts: two centres of the demo, pictures as whole images, real tiles."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.runs import REPOSITORY, Command, Ended  # noqa: E402
from wsi_pipeline.config import read_yaml  # noqa: E402
from wsi_pipeline.evaluate.study.config import study_config, work_of  # noqa: E402
from wsi_pipeline.stages.import_tiles import ImportConfig, import_tiles  # noqa: E402
from wsi_pipeline.study import study  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

WORKFLOWS = REPOSITORY / "workflows"
STUDY = WORKFLOWS / "spectral_decoupling"
TILES = REPOSITORY.parent / "shared" / "pcam" / "pcam.parquet"


def done(ended: Ended) -> None:
    assert ended.code == 0, ended.err


def centre(demo: Path, folder: Path, name: str, wsi: Command) -> Path:
    """Cut and label the slides of one centre of the demo."""
    table = pd.read_csv(demo / "slides.csv").query("centre == @name")
    table["path"] = [str(demo / path) for path in table["path"]]
    table.to_csv(folder / f"{name}.csv", index=False)
    run = folder / name
    flags = ("--tile-size", "64", "--mpp", "2", "--quiet")
    done(wsi("tile", folder / f"{name}.csv", "-o", run, *flags))
    drawn = demo / "annotations"
    done(wsi("label", run, "--annotations", drawn, "--unlabelled", "benign", "--quiet"))
    return run


def test_the_study_of_the_demo_runs_from_two_centres_to_its_page(
    demo: tuple[Path, Ended], tmp_path: Path, wsi: Command
) -> None:
    north, south = (centre(demo[0] / "COPY", tmp_path, name, wsi) for name in ("north", "south"))
    done(wsi("split", north, "--test", "1", "--validation", "1", "--quiet"))
    file = WORKFLOWS / "demo" / "study.yaml"
    ended = wsi("study", file, "--run", north, "--external", south, "-o", tmp_path / "OUT")
    done(ended)
    assert "cutout: AUROC on reversed: spectral_decoupling" in ended.out
    found = pd.read_parquet(tmp_path / "OUT" / "table2.parquet")
    assert set(found["experiment"]) == {"cutout", "robustness", "external"}
    assert found[found["paper_mean"].notna()]["tiles"].unique().tolist() == ["reversed"]
    page = (tmp_path / "OUT" / "study.html").read_text(encoding="utf-8")
    assert all(
        f"{run}: {scanner}" in page for run in ("north", "south") for scanner in ("sharp", "soft")
    )


def pictures(folder: Path, *, count: int) -> Path:
    """Draw pictures of two findings, and return their table."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    rows = []
    for number in range(count):
        finding = ("covid", "other")[number % 2]
        pixels = rng.integers(0, 120, (90 + number, 70, 3)).astype(np.uint8)
        pixels[20:50] += 100 if finding == "covid" else 0
        Image.fromarray(pixels).save(folder / f"x{number}.png")
        rows.append((f"x{number}.png", f"P{number}", finding))
    table = pd.DataFrame(rows, columns=["path", "patient_id", "finding"])
    table.to_csv(folder / "pictures.csv", index=False)
    return folder / "pictures.csv"


def test_pictures_that_are_one_tile_each_are_studied_like_slides(
    tmp_path: Path, wsi: Command
) -> None:
    for name, count in (("own", 24), ("other", 6)):
        table = pictures(tmp_path / f"{name}-pictures", count=count)
        settings = STUDY / "radiographs-tile.yaml"
        done(wsi("tile", table, "-o", tmp_path / name, "--config", settings, "--quiet"))
        done(wsi("label", tmp_path / name, "--slide-label", "finding", "--quiet"))
    done(wsi("split", tmp_path / "own", "--test", "6", "--validation", "6", "--quiet"))
    values = read_yaml(STUDY / "radiographs.yaml")
    values["base"] = {
        "model": {"name": "test_resnet", "image_px": 32, "stochastic_depth": 0},
        "batch_size": 8,
        "epochs": 1,
        "device": "cpu",
        "threads": 1,
    }
    config = study_config({**values, "repeats": 2})
    outcome = study(
        tmp_path / "own",
        config,
        out=tmp_path / "OUT",
        externals=[str(tmp_path / "other")],
        work=work_of(config, {}),
    )
    found = pd.read_parquet(outcome.out / "repeats.parquet")
    assert found["tiles"].unique().tolist() == ["test", "other"]
    predicted = tmp_path / "own/models/xray.spectral_decoupling-1/predictions/other-all.parquet"
    assert len(pd.read_parquet(predicted)) == 6


@pytest.mark.slow
@pytest.mark.skipif(not TILES.exists(), reason="needs ../shared/pcam/pcam.parquet")
def test_the_study_of_pcam_runs_on_a_cpu_and_leaves_other_patients_open(tmp_path: Path) -> None:
    """On every twentieth tile and for an epoch: what its networks learn in that is not asked."""
    run = tmp_path / "PCAM"
    import_tiles(TILES, run, ImportConfig())
    values = read_yaml(STUDY / "pcam.yaml")
    values["base"] |= {"epochs": 1, "where": "tile % 20 == 0"}
    values["experiments"]["robustness"]["shifts"] = ["box_blur:3", "sharpen:1"]
    config = study_config({**values, "repeats": 2})
    work = work_of(config, {"device": "cpu"})
    outcome = study(run, config, out=tmp_path / "OUT", work=work)
    assert outcome.missing == ()
    assert len(outcome.done) == 2 * (4 + 2)
    kinds = {"cutout": ["reversed", "clean"], "robustness": ["test", "box_blur", "sharpen"]}
    asked = [(name, tiles) for name, each in kinds.items() for tiles in each]
    assert [(each.experiment, each.tiles) for each in outcome.answers] == asked
    assert {each.verdict for each in outcome.answers} == {"open"}  # its test tiles are of one slide
    assert all("none over patients" in each.text for each in outcome.answers)
    found = pd.read_parquet(outcome.out / "table2.parquet")
    assert set(found.query("experiment == 'cutout'")["arm"]) == {
        "weight_decay",
        "spectral_decoupling",
        "spectral_decoupling_eq1",
        "control",
    }
    folder = run / "models" / "pcam.cutout.control-0" / "predictions"
    carried = pd.read_parquet(folder / "test-shortcut_test.parquet")
    assert (carried["shortcut"] == (carried["target"] == 1)).all()
