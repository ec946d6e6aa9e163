"""A trained network's maps of tiles and its surest tiles, as files of a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs the extra train")

from tests.pipeline.runs import Command, leftovers  # noqa: E402
from tests.pipeline.trainable import labelled_run, small  # noqa: E402
from wsi_pipeline.activation_maps import Explained, explain  # noqa: E402
from wsi_pipeline.collages import collage, tile_images  # noqa: E402
from wsi_pipeline.config import make_config  # noqa: E402
from wsi_pipeline.errors import ConfigError  # noqa: E402
from wsi_pipeline.evaluate.maps.config import CamConfig  # noqa: E402
from wsi_pipeline.evaluate.predictions import read_predictions  # noqa: E402
from wsi_pipeline.evaluation import Question, evaluate  # noqa: E402
from wsi_pipeline.train.config import WorkConfig  # noqa: E402
from wsi_pipeline.training import train  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = WorkConfig(device="cpu", threads=1)


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a network that has had one epoch says of nine tiles."""
    run = labelled_run(tmp_path_factory.mktemp("explain"), test=9)
    config, work = small(epochs=1, model__image_px=64)
    train(run, config, name="net", work=work)
    return evaluate(run, model="net", work=CPU).predictions


def run_of(predictions: Path) -> Path:
    return predictions.parents[3]


def explained(predictions: Path, **config: object) -> Explained:
    asked = make_config(CamConfig, config)
    return explain(run_of(predictions), model="net", config=asked, work=CPU)


def arrays(found: Explained) -> "dict[str, np.typing.NDArray[np.float32]]":
    (names,) = found.files.values()
    (name,) = (name for name in names if name.endswith(".npz"))
    with np.load(found.folder / name) as file:
        return {each: file[each] for each in file.files}


def test_every_tile_with_a_prediction_has_a_map_and_no_other_has(predictions: Path) -> None:
    found = explained(predictions)
    content = arrays(found)
    known = read_predictions(predictions)
    assert content["tile"].tolist() == known.table.column("tile").to_pylist()
    assert content["cam"].shape == (9, 2, 2)
    assert content["cam"].dtype == np.float32
    assert str(content["layer"]) == found.layer == "bn2"
    np.testing.assert_allclose(content["logit"], known.logits, atol=1e-4)


def test_maps_are_raw_they_add_up_to_the_logit_less_one_bias(predictions: Path) -> None:
    content = arrays(explained(predictions, method="gradcam"))
    biases = content["logit"] - content["cam"].sum(axis=(1, 2))
    np.testing.assert_allclose(biases, biases[0], atol=1e-4)
    assert np.ptp(content["logit"]) > 1e-3


def test_the_other_class_has_the_opposite_map_and_each_a_file(predictions: Path) -> None:
    one = arrays(explained(predictions))
    both = explained(predictions, classes="benign,cancer")
    (names,) = both.files.values()
    assert [name.rpartition("-")[2] for name in names] == [
        *("benign.npz", "benign.png", "cancer.npz", "cancer.png")
    ]
    with np.load(both.folder / names[0]) as file:
        np.testing.assert_allclose(file["cam"], -one["cam"], atol=1e-6)


def test_the_sheet_shows_tiles_beside_their_maps(predictions: Path) -> None:
    found = explained(predictions)
    (names,) = found.files.values()
    (name,) = (name for name in names if name.endswith(".png"))
    with Image.open(found.folder / name) as sheet:
        width, height = sheet.size
    assert width > 6 * 160
    assert height > 3 * 160  # nine tiles, three beside each other
    assert leftovers(run_of(predictions)) == []


def test_the_surest_tiles_are_drawn_with_their_own_pixels(predictions: Path) -> None:
    path = collage(run_of(predictions), predictions)
    assert path == predictions.parents[1] / "collages" / "test.png"
    with Image.open(path) as file:
        sheet = np.asarray(file)
    known = read_predictions(predictions)
    slide_id = known.groups("slide_id").names[0]
    surest = int(np.argmax(np.abs(known.logits)))
    tile = int(known.table.column("tile")[surest].as_py())
    pixels = tile_images(run_of(predictions), [(slide_id, tile)])[slide_id, tile]
    windows = np.lib.stride_tricks.sliding_window_view(sheet[:, :, 0], (1, 160))[:, :, 0]
    assert (windows == pixels[0, :, 0]).all(axis=2).any()


def test_tiles_without_any_label_have_no_hits(predictions: Path, tmp_path: Path) -> None:
    run = tmp_path / "RUN"
    shutil.copytree(run_of(predictions), run)
    path = run / predictions.relative_to(run_of(predictions))
    table = pq.read_table(path)
    place = table.column_names.index("target")
    nothing = pa.nulls(len(table), pa.int64())
    pq.write_table(table.set_column(place, "target", nothing), path)
    with pytest.raises(ConfigError, match="no tile has a label"):
        collage(run, path)


def test_a_slide_that_has_no_predictions_is_refused(predictions: Path) -> None:
    with pytest.raises(ConfigError, match="no predictions of elsewhere"):
        explained(predictions, slides="elsewhere")


def test_what_was_not_asked_before_is_not_explained(predictions: Path) -> None:
    with pytest.raises(ConfigError, match="evaluate first"):
        explain(run_of(predictions), model="net", question=Question(part="train"), work=CPU)


def test_the_command_writes_maps_and_says_what_was_left_out(
    predictions: Path, wsi: Command
) -> None:
    run = run_of(predictions)
    asked = ("evaluate", run, "--model", "net", "--device", "cpu", "--cam", "gradcam", "--collage")
    ended = wsi(*asked)
    assert ended.code == 0, ended.err
    assert "surest hits and misses" in ended.out
    assert "gradcam at the layer bn2" in ended.err
    said = json.loads(wsi(*asked, "--json").out)
    assert Path(said["maps"]["net"]["collage"]).exists()
    left = wsi("evaluate", run, "--model", "net", "--device", "cpu", "--heat-maps", "png")
    assert left.code == 1  # imported tiles: nobody said where they were
    assert "at 0, 0" in left.err
    wrong = wsi("evaluate", run, "--model", "net", "--device", "cpu", "--heat-maps", "jpg")
    assert wrong.code == 2
    assert "kinds: expected png, ome-tiff, geojson" in wrong.err
