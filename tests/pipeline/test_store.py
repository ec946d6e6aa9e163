"""What a run has stored: tiles, tables and pictures, read as its users read them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.pipeline.runs import (
    CONFIG,
    SIZE,
    Drawn,
    assert_whole,
    environment,
    manifest,
    padded,
    rows_of,
    slides_of,
    stored,
    tile,
)
from wsi_pipeline.config import CODECS, TileConfig, make_config
from wsi_pipeline.schema import SLIDE_COLUMNS, TILE_COLUMNS, arrow_schema
from wsi_pipeline.stages.verify import verify_run
from wsi_pipeline.store.codec import decode_tile
from wsi_pipeline.store.layout import SHARD_TILES
from wsi_pipeline.store.reader import iterate_tiles

READ_PLAINLY = """
import json, sys
import numpy as np, zarr
for run, codec in json.loads(sys.argv[1]).items():
    np.save(f"{run}/tiles.npy", zarr.open(f"{run}/tiles.zarr")["plain"][:])
    np.save(f"{run}/tile_3.npy", zarr.open(f"{run}/tiles.zarr")["plain"][3])
"""


def test_a_run_directory_holds_what_the_design_names_and_nothing_else(undisturbed: Path) -> None:
    assert {path.name for path in undisturbed.iterdir()} == {
        "tiles.zarr",
        "manifest",
        "slides.parquet",
        "overlays",
        "run.json",
        ".state",
    }
    assert_whole(undisturbed, done=["he", "plain", "dark", "flat"])


def test_a_plain_python_session_reads_every_codec_through_zarr(
    drawn: Drawn, tmp_path: Path
) -> None:
    runs = {str(tmp_path / name): name for name in CODECS}
    for run, codec in runs.items():
        tile(Path(run), drawn.plain, config=make_config(TileConfig, {**small(), "codec": codec}))
    line = [sys.executable, "-c", READ_PLAINLY, json.dumps(runs)]
    subprocess.run(line, check=True, timeout=60, env=environment(), cwd=tmp_path)
    for run, codec in runs.items():
        pixels, third = np.load(f"{run}/tiles.npy"), np.load(f"{run}/tile_3.npy")
        assert np.array_equal(pixels[3], third)
        array = Path(run) / "tiles.zarr" / "plain"
        for number, chunk in iterate_tiles(array, tiles=len(pixels)):
            assert isinstance(chunk, bytes)
            assert np.array_equal(decode_tile(chunk, codec, tile_size=128), pixels[number])


@pytest.mark.parametrize("codec", ["zstd", "jpegxl"])
@pytest.mark.parametrize("edge", ["pad", "drop", "shift"])
def test_row_and_element_of_every_tile_are_the_pixels_of_the_slide_at_x_y(
    drawn: Drawn, tmp_path: Path, codec: str, edge: str
) -> None:
    values = {**small(), "codec": codec, "edge": edge, "min_tissue": 0.1}
    tile(tmp_path / "RUN", drawn.plain, config=make_config(TileConfig, values))
    rows, pixels = rows_of(tmp_path / "RUN", "plain"), stored(tmp_path / "RUN", "plain")
    assert len(rows) == len(pixels) > 10
    for row in rows:
        assert np.array_equal(pixels[row["tile"]], padded(drawn.rgb["plain"], row))


@pytest.mark.parametrize("codec", ["jpeg:90", "webp:90"])
def test_codecs_with_loss_stay_near_the_pixels_of_the_slide(
    drawn: Drawn, tmp_path: Path, codec: str
) -> None:
    tile(
        tmp_path / "RUN",
        drawn.plain,
        config=make_config(TileConfig, {**small(), "codec": codec}),
    )
    pixels = stored(tmp_path / "RUN", "plain")
    for row in rows_of(tmp_path / "RUN", "plain"):
        difference = pixels[row["tile"]] - padded(drawn.rgb["plain"], row).astype(np.float64)
        assert np.abs(difference).mean() < 6


def test_pixels_of_a_flat_picture_are_stored_as_they_are(drawn: Drawn, tmp_path: Path) -> None:
    config = make_config(TileConfig, {**small(), "codec": "zstd"})
    tile(tmp_path / "RUN", drawn.flat, config=config)
    pixels = stored(tmp_path / "RUN", "flat")
    for row in rows_of(tmp_path / "RUN", "flat"):
        assert np.array_equal(pixels[row["tile"]], padded(drawn.rgb["flat"], row))


def test_the_manifest_has_the_columns_and_types_of_the_schema(undisturbed: Path) -> None:
    rows = manifest(undisturbed)
    empty = arrow_schema(TILE_COLUMNS).empty_table().to_pandas()
    assert list(rows.columns) == list(empty.columns)
    known = rows[rows["mpp"].notna()]
    assert known.dtypes.astype(str).to_dict() == empty.dtypes.astype(str).to_dict()
    assert sorted(rows["slide_id"].unique()) == ["dark", "flat", "he", "plain"]
    assert (rows["status"] == "ok").all()
    assert not rows.duplicated(["slide_id", "tile"]).any()


def test_rows_are_in_row_major_order_of_the_grid(undisturbed: Path) -> None:
    for _, rows in manifest(undisturbed).groupby("slide_id", observed=True):
        places = list(zip(rows["y"], rows["x"], strict=True))
        assert places == sorted(places)
        assert rows["tile"].tolist() == list(range(len(rows)))


def test_a_manifest_file_says_what_it_was_made_from(undisturbed: Path) -> None:
    metadata = pq.read_schema(undisturbed / "manifest" / "he.parquet").metadata or {}
    run = json.loads((undisturbed / "run.json").read_text("utf-8"))
    slide = slides_of(undisturbed)["he"]
    assert metadata[b"schema_version"].decode() == run["schema_version"]
    assert metadata[b"config_digest"].decode() == run["config_digest"] == CONFIG.digest()
    assert metadata[b"fingerprint"].decode() == slide["fingerprint"]
    assert metadata[b"code_version"].decode() == run["versions"]["wsi-pipeline"]


def test_slides_parquet_has_the_columns_of_the_schema_filled_in(undisturbed: Path) -> None:
    table = pd.read_parquet(undisturbed / "slides.parquet")
    assert list(table.columns) == arrow_schema(SLIDE_COLUMNS).names
    he = slides_of(undisturbed)["he"]
    empty = {name for name, value in he.items() if value is None}
    assert empty == {"reason", "icc_profile"}
    assert (he["width"], he["height"], he["levels"]) == (SIZE.width, SIZE.height, 3)
    assert (he["mpp"], he["scanner"], he["objective_power"]) == (0.5, "SS1234", 20)
    steps = [f"seconds_{step}" for step in ("open", "mask", "decode", "metrics", "encode", "write")]
    assert he["seconds"] == pytest.approx(sum(he[step] for step in steps), rel=1e-3)


def test_sixty_four_tiles_make_a_shard(drawn: Drawn, tmp_path: Path) -> None:
    config = make_config(TileConfig, {"tile_size": 64, "overlap": 0.2, "min_tissue": 0})
    tile(tmp_path / "RUN", drawn.plain, config=config)
    tiles = slides_of(tmp_path / "RUN")["plain"]["tiles"]
    assert tiles > 2 * SHARD_TILES
    shards = list((tmp_path / "RUN/tiles.zarr/plain").glob("c.*.0.0.0"))
    assert len(shards) == -(-tiles // 64)
    assert len(stored(tmp_path / "RUN", "plain")) == tiles


def test_without_a_store_there_are_coordinates_and_metrics_and_verify_is_content(
    drawn: Drawn, undisturbed: Path, tmp_path: Path
) -> None:
    config = make_config(TileConfig, {**small(), "store": "none"})
    tile(tmp_path / "RUN", drawn.folder, config=config)
    assert not (tmp_path / "RUN" / "tiles.zarr").exists()
    assert_whole(tmp_path / "RUN", done=["he", "plain", "dark", "flat"], store=False)
    rows, with_store = manifest(tmp_path / "RUN"), manifest(undisturbed)
    assert rows["crc32c"].isna().all()
    pd.testing.assert_frame_equal(
        rows.drop(columns="crc32c"), with_store.drop(columns="crc32c"), check_dtype=False
    )
    assert verify_run(tmp_path / "RUN").findings == ()


def test_an_overlay_shows_the_slide_at_its_shape_with_marks_on_it(
    drawn: Drawn, undisturbed: Path
) -> None:
    for slide_id in ("he", "dark"):
        with Image.open(undisturbed / "overlays" / f"{slide_id}.jpg") as image:
            picture = np.asarray(image)
        assert picture.shape[1] == SIZE.width
        assert SIZE.height < picture.shape[0] < SIZE.height + 100
        shown = picture[: SIZE.height].astype(int)
        marked = np.abs(shown - drawn.rgb[slide_id]).max(axis=2) > 60
        assert 0.002 < marked.mean() < 0.4


def small() -> dict[str, object]:
    return CONFIG.model_dump()
