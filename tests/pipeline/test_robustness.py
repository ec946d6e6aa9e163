"""Networks along sweeps: what equals the plain evaluation, what is written, what goes on, what is refused."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from torch import Tensor  # noqa: E402

from tests.pipeline.runs import Command, environment  # noqa: E402
from tests.pipeline.test_train_ranks import free_port  # noqa: E402
from tests.pipeline.trainable import labelled_run, small  # noqa: E402
from wsi_pipeline import robustness  # noqa: E402
from wsi_pipeline.errors import ConfigError  # noqa: E402
from wsi_pipeline.evaluate.ask.observer import SilentAskObserver  # noqa: E402
from wsi_pipeline.evaluate.sweep import sweeping  # noqa: E402
from wsi_pipeline.evaluate.sweep.columns import CURVE_COLUMNS, SWEEP_COLUMNS  # noqa: E402
from wsi_pipeline.evaluate.sweep.shift_config import Place  # noqa: E402
from wsi_pipeline.evaluate.sweep.shifts import shifted  # noqa: E402
from wsi_pipeline.evaluation import evaluate  # noqa: E402
from wsi_pipeline.loader.tiles import TileLoader  # noqa: E402
from wsi_pipeline.pixels import resized_by_area  # noqa: E402
from wsi_pipeline.questions import ask_of  # noqa: E402
from wsi_pipeline.report.sweep_figure import sweep_figure  # noqa: E402
from wsi_pipeline.robustness import Swept, sweep  # noqa: E402
from wsi_pipeline.stages.lease import sole_use_of  # noqa: E402
from wsi_pipeline.sweep_plan import asked_together  # noqa: E402
from wsi_pipeline.tables import read_table, table_metadata  # noqa: E402
from wsi_pipeline.tiles.metrics import laplacian_variance  # noqa: E402
from wsi_pipeline.train.config import WorkConfig  # noqa: E402
from wsi_pipeline.train.model_directory import model_directory  # noqa: E402
from wsi_pipeline.training import load_network, train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = WorkConfig(device="cpu", threads=1)
SWEEPS = ["box_blur:2,5", "sharpen:0.5", "noise:10"]
BOTH: tuple[Place, ...] = ("source", "input")
NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "averaged": {"load_px": 20},
    "resized": {"load_px": 27, "model__image_px": 24, "model__stain": "reinhard"},
    "shrunk": {"shrink": 2, "model__image_px": 16},
}
"""All the ways from a tile to an image that there are."""


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than all the rest; who looks at them puts them back."""
    monkeypatch.setattr(robustness, "sweep_figure", lambda *_, **__: b"<svg/>")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with networks that have had one epoch each; test has nineteen tiles in three batches."""
    path = labelled_run(tmp_path_factory.mktemp("robustness"), test=19)
    for name, changes in NETWORKS.items():
        config, work = small(epochs=1, **changes)
        train(path, config, name=name, work=work)
    return path


class Told(SilentAskObserver):
    """Notes how many tiles were done before and are done; may stop all of it."""

    def __init__(self, *, most: int = 10**6) -> None:
        self.there = 0
        self.done: list[int] = []
        self._most = most

    def on_begin(self, models: Sequence[str], tiles: int, *, there: int, asked: str = "") -> None:
        self.there = there
        del models, tiles, asked

    def on_tiles(self, count: int) -> None:
        self.done.append(count)
        if sum(self.done) >= self._most:
            raise KeyboardInterrupt


def counted(levels: list[float]) -> Callable[..., Any]:
    """Return what changes images and notes the level."""

    def change(images: Tensor, shift: str, level: float, keys: Tensor) -> Tensor:
        levels.append(level)
        return shifted(images, shift, level, keys)

    return change


def rows_of(found: Swept, model: str = "plain") -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in found.tables[model]], ignore_index=True)


def tiles_of(run: Path, model: str) -> pd.DataFrame:
    return pd.read_parquet(run / "models" / model / "sweeps" / "tiles" / "test.parquet")


@pytest.mark.parametrize(
    ("model", "places"),
    [
        ("plain", BOTH),
        ("averaged", BOTH),
        ("resized", BOTH),
        ("shrunk", ("input",)),
    ],
)
def test_without_a_change_it_is_the_plain_evaluation_to_the_bit(
    run: Path, model: str, places: tuple[Any, ...]
) -> None:
    plain = evaluate(run, model=model, work=CPU)
    logits = pd.read_parquet(plain.predictions)["logit"]
    found = sweep(run, model=model, sweeps=SWEEPS, apply_at=places, keep_logits=True, work=CPU)
    for place in places:
        assert tiles_of(run, model)[f"logit_{place}"].tolist() == logits.tolist()
    clean = rows_of(found, model).query("is_clean")
    assert len(clean) == len(SWEEPS) * len(places)
    for _, row in clean.iterrows():
        for score in ("accuracy", "balanced_accuracy", "auroc", "log_loss", "brier", "ece"):
            assert row[score] == plain.scores[score]


@pytest.mark.slow
def test_that_holds_with_several_threads_too(run: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        plain = evaluate(run, model="averaged", overwrite=True, work=CPU)
        asked: dict[str, Any] = {"sweeps": SWEEPS, "keep_logits": True, "work": CPU}
        sweep(run, model="averaged", **asked)
    finally:
        torch.set_num_threads(before)
    logits = pd.read_parquet(plain.predictions)["logit"].tolist()
    assert tiles_of(run, "averaged")["logit_source"].tolist() == logits


@pytest.mark.parametrize("model", ["plain", "averaged", "resized"])
def test_a_level_is_what_the_network_says_of_tiles_that_were_changed_beforehand(
    run: Path, model: str
) -> None:
    sweep(run, model=model, sweeps=["box_blur:5"], keep_logits=True, work=CPU)
    trained = load_network(run / "models" / model)
    whole = TileLoader(run, where="split == 'test'", batch_size=19, shuffle=False)
    blurred = [
        cv2.blur(tile, (5, 5), borderType=cv2.BORDER_REFLECT_101)
        for tile in next(iter(whole)).images.transpose(0, 2, 3, 1)
    ]
    px = trained.config.load_px or 32
    loaded = np.stack([resized_by_area(each, width=px, height=px) for each in blurred])
    with torch.inference_mode():
        images = torch.from_numpy(loaded).permute(0, 3, 1, 2)
        expected = ask_of(trained, torch.device("cpu"))(images).numpy()
    found = tiles_of(run, model)["logit_box_blur_5_source"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_input_is_changed_at_the_size_of_the_network(run: Path) -> None:
    asked = sweep(run, model="averaged", sweeps=["box_blur:7"], apply_at=BOTH, work=CPU)
    sharp = rows_of(asked, "averaged").set_index(["apply_at", "level"])["laplacian_var_mean"]
    assert sharp["source", 1] > sharp["input", 1] > sharp["input", 7]
    assert sharp["source", 1] > sharp["source", 7]


def test_sharpness_of_unchanged_tiles_is_that_of_their_pixels(run: Path) -> None:
    found = rows_of(sweep(run, model="averaged", sweeps=["gamma:2"], work=CPU), "averaged")
    tiles = TileLoader(run, where="split == 'test'", batch_size=19, shuffle=False)
    images = next(iter(tiles)).images.transpose(0, 2, 3, 1)
    values = [
        laplacian_variance(cv2.cvtColor(np.ascontiguousarray(each), cv2.COLOR_RGB2GRAY))
        for each in images
    ]
    clean = found.query("is_clean").iloc[0]
    assert clean["laplacian_var_mean"] == pytest.approx(np.mean(values), rel=1e-6)
    assert clean["laplacian_var_median"] == pytest.approx(np.median(values), rel=1e-6)
    assert clean["laplacian_var_q25"] <= clean["laplacian_var_median"] <= clean["laplacian_var_q75"]


def test_a_table_has_the_columns_that_the_reference_says(run: Path) -> None:
    swept = sweep(run, model="plain", sweeps=["sharpen:1", "jpeg:30"], work=CPU)
    named = [column.name for column in SWEEP_COLUMNS]
    for path in swept.tables["plain"]:
        table = pd.read_parquet(path)
        assert list(table.columns) == [*named, "recall_benign", "recall_cancer"]
        assert table["level"].is_monotonic_increasing
        assert (table["tiles"] == 19).all()
    assert pd.read_parquet(swept.curves).columns.tolist() == [each.name for each in CURVE_COLUMNS]
    assert swept.tables["plain"][0].name == "test-sharpen-source.parquet"


def test_levels_that_are_known_are_not_asked_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sweep(run, model="plain", part="validation", sweeps=["gamma:2"], work=CPU)
    assert first.asked == 2
    asked: list[float] = []
    monkeypatch.setattr(sweeping, "shifted", counted(asked))
    more = sweep(run, model="plain", part="validation", sweeps=["gamma:0.5,2"], work=CPU)
    assert set(asked) == {0.5}
    assert rows_of(more)["level"].tolist() == [0.5, 1, 2]
    before = more.tables["plain"][0].read_bytes()
    asked.clear()
    again = sweep(run, model="plain", part="validation", sweeps=["gamma:0.5,2"], work=CPU)
    assert (again.asked, asked) == (0, [])
    assert again.tables["plain"][0].read_bytes() == before


def test_a_pass_that_was_cut_off_goes_on_and_comes_to_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "PART_TILES", 8)
    asked: dict[str, Any] = {
        "model": "plain",
        "part": "train",
        "sweeps": ["noise:20", "hed:0.2"],
        "work": CPU,
    }
    whole = sweep(run, **asked)
    expected = [path.read_bytes() for path in whole.tables["plain"]]
    for path in whole.tables["plain"]:
        path.unlink()

    with pytest.raises(KeyboardInterrupt):
        sweep(run, **asked, observer=Told(most=16))
    parts = run / "models" / "plain" / "sweeps" / "train.parts"
    (kept,) = (path for path in parts.iterdir() if path.name != ".state")
    assert sorted(path.name for path in kept.iterdir()) == ["000000.parquet", "000001.parquet"]
    told = Told()
    again = sweep(run, **asked, observer=told)
    assert (told.there, told.done) == (16, [4])
    assert [path.read_bytes() for path in again.tables["plain"]] == expected
    assert not parts.exists()


def test_parts_of_other_levels_are_not_gone_on_with(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "PART_TILES", 8)

    with pytest.raises(KeyboardInterrupt):
        sweep(run, model="plain", sweeps=["resolution:2"], work=CPU, observer=Told(most=8))
    told = Told()
    sweep(run, model="plain", sweeps=["resolution:3"], work=CPU, observer=told)
    assert (told.there, told.done) == (0, [8, 8, 3])


def test_several_networks_are_asked_in_one_pass_and_say_what_each_says_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = labelled_run(tmp_path, test=9)
    for number in (0, 1, 2):
        config, work = small(epochs=1, seed=number)
        train(own, config, name=f"wd-{number}", work=work)
    names = ["wd-0", "wd-1", "wd-2"]
    alone = [rows_of(sweep(own, model=name, sweeps=SWEEPS, work=CPU), name) for name in names]
    for name in names:
        for path in (own / "models" / name / "sweeps").glob("*.parquet"):
            path.unlink()
    asked: list[float] = []
    monkeypatch.setattr(sweeping, "shifted", counted(asked))
    monkeypatch.setattr(robustness, "sweep_figure", sweep_figure)
    swept = sweep(own, model="wd", sweeps=SWEEPS, work=CPU)
    assert len(asked) == 4 * 2  # levels that change something, in two batches, for all three
    for name, expected in zip(names, alone, strict=True):
        pd.testing.assert_frame_equal(rows_of(swept, name), expected)
    curves = pd.read_parquet(swept.curves)
    assert set(curves["arm"]) == {"wd"}
    values = [each.query("shift == 'noise' and level == 10")["auroc"].item() for each in alone]
    row = curves.query("shift == 'noise' and level == 10 and score == 'auroc'").iloc[0]
    assert (row["mean"], row["std"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert row["repeats"] == 3
    assert swept.curves.parent.parent == own / "models" / "wd" / "sweeps"
    assert "mean ± SD of 3" in swept.figures[0].read_text(encoding="utf-8")
    (own / "models" / "wd-2").rename(own / "models" / "sd-2")
    both = sweep(own, model=["wd-0", "sd-2"], sweeps=SWEEPS, work=CPU)
    assert both.curves == own / "models" / "sd" / "sweeps" / "curves" / "test-with-wd.parquet"
    assert pd.read_parquet(swept.curves).equals(curves)


def test_no_other_command_sweeps_any_of_the_models_meanwhile(run: Path) -> None:
    parts = run / "models" / "averaged" / "sweeps" / "test.parts"
    asked: dict[str, Any] = {"model": ["plain", "averaged"], "sweeps": ["noise:9"], "work": CPU}
    with (
        sole_use_of(parts, otherwise="wait"),
        pytest.raises(
            ConfigError, match=r"working there: .*wait for it to end: it sweeps the same"
        ),
    ):
        sweep(run, **asked)
    sweep(run, **asked)
    assert not parts.exists()


def test_levels_that_another_command_has_written_since_stay(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning = "wsi_pipeline.robustness.asked_together"

    def late(*planned: Any) -> Any:  # noqa: ANN401
        monkeypatch.setattr(planning, asked_together)
        sweep(run, model="plain", sweeps=["saturation:0.2"], work=CPU)
        return asked_together(*planned)

    monkeypatch.setattr(planning, late)
    found = sweep(run, model="plain", sweeps=["saturation:0.3"], work=CPU)
    assert {0.2, 0.3} <= set(rows_of(found)["level"])


def test_another_run_has_tables_of_its_own_and_no_other_takes_their_name(
    run: Path, tmp_path: Path
) -> None:
    first, second = (labelled_run(tmp_path / name, test=6, train=2, validation=2) for name in "ab")
    swept = sweep(run, model="plain", on=first, sweeps=["gamma:2"], work=CPU)
    assert swept.tables["plain"][0].name == "RUN-test-gamma-source.parquet"
    with pytest.raises(ConfigError, match=r"is of tiles of .*a/RUN; move it away"):
        sweep(run, model="plain", on=second, sweeps=["gamma:2"], work=CPU)


def test_a_network_that_was_trained_anew_is_asked_anew(tmp_path: Path) -> None:
    own = labelled_run(tmp_path, test=6)
    for epochs in (1, 2):
        config, work = small(epochs=epochs, batch_size=4 * epochs)
        train(own, config, name="net", work=work, overwrite=True)
        swept = sweep(own, model="net", sweeps=["gamma:2"], work=CPU)
        assert swept.asked == 2
        asked = json.loads(table_metadata(read_table(swept.tables["net"][0]))["asked"])
        assert asked["settings_digest"] == config.digest()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"model": "plain", "sweeps": ["blur"]}, "expected one of box_blur"),
        ({"model": "none"}, "expected a model that was trained"),
        ({"model": "shrunk"}, r"decoded at 1/2 of their size.*take --apply-at input"),
        ({"model": "plain", "where": "tile > 10000"}, "no tile"),
        ({"model": "plain", "where": "label == 'unknown'"}, "no tile"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(
    run: Path, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep(run, **asked, work=CPU)
    assert model_directory(run, "plain").path.exists()


def test_the_command_prints_scores_by_level_and_where_they_are_drawn(
    run: Path, wsi: Command
) -> None:
    asked = ("evaluate", run, "--model", "plain", "--sweep", "gamma:2", "--device", "cpu")
    ended = wsi(*asked, "--apply-at", "both")
    assert ended.code == 0, ended.err
    assert "balanced_accuracy" in ended.out
    assert "sweeps/test-gamma-input.svg" in ended.out.replace("\n", "")
    answered = json.loads(wsi(*asked, "--json").out)
    both = json.loads(wsi(*asked, "--collage", "--json").out)  # one document
    assert both["sweeps"]["curves"] == answered["curves"]
    assert both["maps"]
    assert {row["level"] for row in answered["curves"]} == {1, 2}
    wrong = wsi("evaluate", run, "--model", "plain", "--sweep", "gama")
    assert wrong.code == 2
    assert "did you mean gamma?" in wrong.err
    refused = wsi(*asked, "--tta", "d4")
    assert refused.code == 2
    assert "expected one view of each tile, got tta d4" in refused.err
    assert (
        "sweep: expected models one by one, got ensemble all"
        in wsi(*asked, "--ensemble", "all").err
    )


def test_a_dry_run_says_how_many_levels_are_left(run: Path, wsi: Command) -> None:
    asked = ("evaluate", run, "--model", "plain", "--device", "cpu", "--sweep")
    sweep(run, model="plain", sweeps=["hed:0.1"], work=CPU)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    (planned,) = json.loads(wsi(*asked, "hed:0.1,0.2", "--dry-run", "--json").out)["sweeps"]
    assert (planned["levels"], planned["left"]) == (3, 1)
    assert f"{planned['tiles']} shifted tiles to ask" in wsi(*asked, "hed:0.1,0.2", "--dry-run").out
    both = (*asked, "hed:0.1,0.2", "--sweep", "noise:2", "--overwrite", "--dry-run", "--json")
    (planned,) = json.loads(wsi(*both).out)["sweeps"]
    assert (planned["levels"], planned["left"]) == (4, 4)  # the clean one is of both
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_what_is_there_is_asked_again_on_request(run: Path) -> None:
    asked: dict[str, Any] = {"model": "plain", "sweeps": ["contrast:0.5"], "work": CPU}
    first = sweep(run, **asked)
    again = sweep(run, **asked, overwrite=True)
    assert again.asked == 2
    pd.testing.assert_frame_equal(rows_of(first), rows_of(again))


_TWO_RANKS = """
import sys
import torch
from wsi_pipeline.evaluate.sweep import sweeping
from wsi_pipeline.robustness import sweep
from wsi_pipeline.train.config import WorkConfig

torch.set_num_threads(1)
sweeping.PART_TILES = 8
work = WorkConfig(device="cpu", threads=1)
sweep(sys.argv[1], model="plain", part="train", sweeps=["saturation:0.5"], work=work)
"""


@pytest.mark.slow
def test_two_ranks_write_the_same_bytes_as_one_process(run: Path, tmp_path: Path) -> None:
    found = sweep(run, model="plain", part="train", sweeps=["saturation:0.5"], work=CPU)
    (path,) = found.tables["plain"]
    expected = path.read_bytes()
    path.unlink()
    program = tmp_path / "ranks.py"
    program.write_text(_TWO_RANKS, encoding="utf-8")
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*line, "--master-port", free_port(), str(program), str(run)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**environment(), "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    assert path.read_bytes() == expected
