"""Scanners that differ in sharpness, and centres that do not, are told apart with numbers and figures."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp, wasserstein_distance

from tests.pipeline.runs import Command, manifest, tile
from wsi_pipeline.config import TileConfig, make_config
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.labels.comparison_config import CompareConfig
from wsi_pipeline.slides.drawn import draw_slide, write_pyramid
from wsi_pipeline.stages.compare import Comparison, compare_groups

SIZE = Size(width=900, height=700)
SETTINGS = TileConfig(tile_size=128)


def rosy(rgb: Rgb) -> Rgb:
    """Return the slide as another laboratory would stain it: more eosin."""
    return np.asarray(rgb * np.array([1.0, 0.85, 0.95]), np.uint8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four slides: two scanners that differ in sharpness, two centres that differ in stain."""
    folder = tmp_path_factory.mktemp("groups")
    lines = ["path,slide_id,scanner,centre"]
    for number in range(4):
        scanner, centre = ("sharp", "soft")[number % 2], ("north", "south")[number // 2]
        drawn = draw_slide(SIZE, seed=[9, number], blur_px=1.5 * (scanner == "soft"))
        rgb = drawn.rgb if centre == "north" else rosy(drawn.rgb)
        write_pyramid(folder / f"s{number}.tif", rgb, mpp=0.5, compression="deflate")
        lines.append(f"s{number}.tif,s{number},{scanner},{centre}")
    dark = draw_slide(SIZE, seed=[9, 9], dark_field=True)
    write_pyramid(folder / "dark.tif", dark.rgb, mpp=0.5, compression="deflate")
    lines.append("dark.tif,dark,dapi,")
    (folder / "slides.csv").write_text("\n".join(lines))
    tile(folder / "RUN", folder / "slides.csv", config=SETTINGS)
    return folder / "RUN"


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "RUN")
    return tmp_path / "RUN"


def compared(run: Path, **values: object) -> Comparison:
    return compare_groups(run, make_config(CompareConfig, values))


def test_scanners_of_different_sharpness_hardly_overlap_and_the_warning_says_so(run: Path) -> None:
    found = compared(run)
    rows = manifest(run)
    sharp, soft = (
        rows[rows["slide_id"].isin(slides)]["laplacian_var"]
        for slides in (["s0", "s2"], ["s1", "s3"])
    )
    (pair,) = [
        pair for pair in found.sharpness.pairs if (pair.first, pair.second) == ("sharp", "soft")
    ]
    assert pair.ks == pytest.approx(ks_2samp(sharp, soft).statistic)
    assert pair.wasserstein == pytest.approx(wasserstein_distance(np.log10(sharp), np.log10(soft)))
    assert pair.overlap < 0.2
    (warning,) = [text for text in found.warnings if text.startswith("sharp and soft")]
    assert warning.startswith("sharp and soft hardly overlap: sharpness ")
    assert "(limit 20%)" in warning
    lax = compared(run, overlap_limit=0.0)
    assert lax.warnings == ()


def test_centres_of_the_same_scanners_differ_in_stain_alone(run: Path) -> None:
    found = compared(run, by="centre")
    assert [group.name for group in found.sharpness.groups] == ["(none)", "north", "south"]
    overlaps = {
        what: each.pairs[-1].overlap
        for what, each in {"sharpness": found.sharpness, **found.density}.items()
    }
    assert overlaps["sharpness"] > 0.6
    assert overlaps["green"] < min(overlaps["red"], overlaps["sharpness"])
    medians = {group.name: group.median for group in found.density["green"].groups}
    assert medians["south"] - medians["north"] == pytest.approx(-np.log10(0.85), abs=0.03)


def test_stain_vectors_of_scanners_are_the_same_and_of_stains_are_not(run: Path) -> None:
    by_scanner = {(pair.first, pair.second): pair for pair in compared(run).angles}
    assert by_scanner["sharp", "soft"].eosin < 3
    (north_south,) = compared(run, by="centre").angles
    assert north_south.eosin > by_scanner["sharp", "soft"].eosin
    stains = {stain.group: stain for stain in compared(run).stains}
    assert (stains["sharp"].slides, stains["dapi"].slides) == (2, 0)
    assert np.linalg.norm(stains["sharp"].hematoxylin) == pytest.approx(1)


def test_slides_in_dark_field_have_sharpness_and_no_stain(run: Path) -> None:
    found = compared(run)
    assert "dapi" in found.sharpness.by_group
    assert all("dapi" not in each.by_group for each in found.density.values())


def test_figures_and_numbers_are_written_and_the_same_again(run: Path) -> None:
    found = compared(run)
    assert set(found.files) == {
        f"figures/{name}"
        for name in ("sharpness_by_scanner.png", "stain_by_scanner.png", "compare_by_scanner.json")
    }
    before = {name: (run / name).read_bytes() for name in found.files}
    numbers = json.loads(before["figures/compare_by_scanner.json"])
    assert numbers == json.loads(json.dumps(found.to_dict()))
    for name in found.files[:2]:
        pixels = np.asarray(Image.open(run / name).convert("RGB"))
        assert pixels.shape[1] > 600
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    compared(run)
    assert {name: (run / name).read_bytes() for name in found.files} == before


def test_columns_of_the_manifest_group_tiles(run: Path) -> None:
    found = compared(run, by="level", stain_tiles=0)
    (group,) = found.sharpness.groups
    assert (group.name, group.count) == ("0", len(manifest(run)))
    assert found.stains == ()


def test_outliers_and_unreadable_tiles_are_left_out(run: Path, wsi: Command) -> None:
    everything = sum(group.count for group in compared(run).sharpness.groups)
    wsi("qc", run, "--clusters", "2", "--mark-clusters", "0", "--no-pictures")
    left = int((manifest(run)["status"] == "ok").sum())
    assert sum(group.count for group in compared(run).sharpness.groups) == left < everything


def test_a_run_without_pixels_has_no_stain_vectors_and_says_so(whole: Path, tmp_path: Path) -> None:
    config = TileConfig(tile_size=128, store="none")
    tile(tmp_path / "RUN", whole.parent / "slides.csv", config=config)
    found = compared(tmp_path / "RUN")
    assert found.problems == ("no stain vectors: this run keeps no pixels (--store none)",)
    assert found.warnings


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("nothing", "no column nothing"),
        ("patient_id", "no column patient_id"),
        ("laplacian_var", "expected a column of at most 64 groups"),
        ("objective_power", "no slide of .* has a objective_power"),
    ],
)
def test_columns_that_are_no_groups_are_refused(by: str, said: str, whole: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        compared(whole, by=by)


def test_a_misspelt_column_is_told_beside_those_that_there_are(whole: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        compared(whole, by="scaner")
    said = str(refused.value)
    assert "has no column scaner (did you mean scanner?); there are " in said
    there = said.split("there are ")[1].split("; ", maxsplit=1)[0].split(", ")
    assert {"centre", "scanner", "slide_id", "status", "format"} <= set(there)
    assert not {"laplacian_var", "red_mean", "mpp", "icc_profile"} & set(there)


def test_the_command_prints_tables_and_warns(run: Path, wsi: Command) -> None:
    ended = wsi("compare", run, "--by", "scanner")
    assert ended.code == 0
    assert "warning: sharp and soft hardly overlap" in ended.err
    assert "sharpness_by_scanner.png" in ended.out
    said: dict[str, Any] = json.loads(wsi("compare", run, "--by", "centre", "--json").out)
    assert said["by"] == "centre"
    assert {pair["first"] for pair in said["sharpness"]["pairs"]} == {"(none)", "north"}
