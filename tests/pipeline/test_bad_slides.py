"""What is no slide, or a damaged one, becomes a row with a reason; every other slide is finished."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.pipeline.runs import (
    GOOD,
    Command,
    Drawn,
    assert_whole,
    good_folder,
    process,
    rows_of,
    slides_of,
    stored,
    tile,
    with_status,
)
from wsi_pipeline.slides.drawn import write_pyramid
from wsi_pipeline.stages.verify import verify_run

Spoil = Callable[[Drawn, Path], None]
SETTINGS = ("--tile-size", "128")
WITHOUT_RIGHTS = (
    "setpriv",
    "--inh-caps=-dac_override,-dac_read_search",
    "--bounding-set=-dac_override,-dac_read_search",
)
"""Root may read everything; without these two capabilities it is like everybody else."""


def truncated_svs(drawn: Drawn, path: Path) -> None:
    path.write_bytes(drawn.he.read_bytes()[: drawn.he.stat().st_size // 2])


def truncated_in_its_header(drawn: Drawn, path: Path) -> None:
    path.write_bytes(drawn.he.read_bytes()[:100])


def truncated_png(drawn: Drawn, path: Path) -> None:
    path.write_bytes(drawn.flat.read_bytes()[: drawn.flat.stat().st_size // 2])


def truncated_jpeg(drawn: Drawn, path: Path) -> None:
    Image.fromarray(drawn.rgb["flat"]).save(path, format="JPEG")
    os.truncate(path, path.stat().st_size // 2)


def empty(_: Drawn, path: Path) -> None:
    path.touch()


def text(_: Drawn, path: Path) -> None:
    path.write_text("not a slide at all\n", encoding="utf-8")


def directory(_: Drawn, path: Path) -> None:
    path.mkdir()
    (path / "readme.txt").write_text("inside", encoding="utf-8")


def empty_directory(_: Drawn, path: Path) -> None:
    path.mkdir()


def dangling_link(_: Drawn, path: Path) -> None:
    path.symlink_to("nowhere.svs")


def label_mask(_: Drawn, path: Path) -> None:
    tifffile.imwrite(path, classes(), tile=(256, 256), compression="lzw", photometric="minisblack")


def label_mask_in_steps(_: Drawn, path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for level in range(3):
            step = 4**level
            writer.write(
                classes()[::step, ::step],
                tile=(256, 256),
                compression="deflate",
                photometric="minisblack",
                subfiletype=int(level > 0),
                metadata=None,
            )


def label_mask_as_png(_: Drawn, path: Path) -> None:
    Image.fromarray(classes(), mode=None).save(path, format="PNG")


def sixteen_bit(_: Drawn, path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 60_000, (700, 900, 3), dtype=np.uint16)
    tifffile.imwrite(path, colours, photometric="rgb")


def classes() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Return a class raster with the values 0 to 4."""
    raster = np.zeros((700, 900), dtype=np.uint8)
    for value in range(1, 5):
        raster[100 * value : 100 * value + 150, 60 * value : 60 * value + 500] = value
    return raster


BAD = {
    "truncated.svs": (truncated_svs, ()),
    "header.svs": (truncated_in_its_header, ("complete",)),
    "cut.png": (truncated_png, ("damaged or cut off",)),
    "cut.jpg": (truncated_jpeg, ("damaged or cut off",)),
    "empty.svs": (empty, ("empty (0 bytes)", "copy it again")),
    "text.svs": (text, ("no backend opens it", "is it a slide")),
    "directory.svs": (directory, ("a directory, expected a file", "rename it")),
    "hollow.svs": (empty_directory, ("a directory, expected a file", "rename it")),
    "dangling.svs": (dangling_link, ("cannot be read", "check the path")),
    "mask.tif": (label_mask, ("label mask", "0, 1, 2, 3, 4", "--tissue DIR")),
    "levels.tif": (label_mask_in_steps, ("label mask", "0, 1, 2, 3, 4", "--tissue DIR")),
    "mask.png": (label_mask_as_png, ("label mask", "0, 1, 2, 3, 4", "--tissue DIR")),
    "deep.tif": (sixteen_bit, ("8-bit", "export")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_slide_fails_with_a_sentence_and_the_others_are_finished(
    name: str, drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    spoil, words = BAD[name]
    folder = good_folder(drawn, tmp_path / "slides")
    spoil(drawn, folder / name)
    ended = wsi("tile", folder, "-o", tmp_path / "RUN", *SETTINGS)
    assert ended.code == 1
    assert_whole(tmp_path / "RUN", done=GOOD)
    bad = slides_of(tmp_path / "RUN")[Path(name).stem]
    assert (bad["status"], bad["tiles"]) == ("failed", 0)
    assert_sentence(bad["reason"], words)
    said = [line for line in ended.err.splitlines() if line.startswith("failed:")]
    assert said == [f"failed: {Path(name).stem} ({folder / name}): {bad['reason']}"]
    assert "2 slides done, 1 failed" in ended.out


@pytest.mark.parametrize("name", BAD)
def test_info_says_of_a_bad_slide_what_is_wrong_or_what_it_is(
    name: str, drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    spoil, words = BAD[name]
    spoil(drawn, tmp_path / name)
    ended = wsi("info", tmp_path / name)
    assert ended.code in {0, 1}
    assert ended.code == 0 or "cannot be used" in ended.out
    if name in {"empty.svs", "text.svs", "directory.svs"}:
        assert ended.code == 1
        assert all(word in ended.out for word in words)


def test_all_bad_slides_in_one_folder_are_listed_last_by_a_real_process(
    drawn: Drawn, tmp_path: Path
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    names = [name for name in BAD if not name.startswith("mask")]
    for name in names:
        BAD[name][0](drawn, folder / name)
    (folder / "README.md").write_text("about these slides", encoding="utf-8")
    ended = process("tile", folder, "-o", tmp_path / "RUN", *SETTINGS)
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert "Warning" not in ended.err
    assert_whole(tmp_path / "RUN", done=GOOD)
    assert with_status(tmp_path / "RUN", "skipped") == {"README"}
    assert len(with_status(tmp_path / "RUN", "failed")) == len(names)
    last = ended.err.splitlines()[-len(names) :]
    assert all(line.startswith("failed: ") for line in last)
    assert verify_run(tmp_path / "RUN").findings == ()


def test_an_unreadable_file_fails_with_a_sentence(drawn: Drawn, tmp_path: Path) -> None:
    prefix = WITHOUT_RIGHTS if os.geteuid() == 0 else ()
    if prefix and shutil.which(prefix[0]) is None:
        pytest.skip("root may read every file and setpriv, which takes that right, is not here")
    folder = good_folder(drawn, tmp_path / "slides")
    shutil.copy(drawn.he, folder / "closed.svs")
    (folder / "closed.svs").chmod(0)
    ended = process("tile", folder, "-o", tmp_path / "RUN", *SETTINGS, prefix=prefix)
    assert ended.code == 1
    assert_whole(tmp_path / "RUN", done=GOOD)
    reason = slides_of(tmp_path / "RUN")["closed"]["reason"]
    assert_sentence(reason, ("cannot be read", "Permission denied", "permissions"))
    assert reason in ended.err


def test_a_file_that_is_no_slide_is_a_skipped_row_and_no_failure(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    (folder / "README.md").write_text("about these slides", encoding="utf-8")
    (folder / ".hidden.svs").write_text("", encoding="utf-8")
    ended = wsi("tile", folder, "-o", tmp_path / "RUN", *SETTINGS)
    assert ended.code == 0
    assert "2 slides done, 1 skipped, 0 failed" in ended.out
    assert_whole(tmp_path / "RUN", done=GOOD)
    rows = slides_of(tmp_path / "RUN")
    assert set(rows) == {*GOOD, "README"}
    assert_sentence(rows["README"]["reason"], ("not taken for a slide", "name the file itself"))


def test_a_file_that_is_no_slide_fails_where_it_is_named_itself(
    tmp_path: Path, drawn: Drawn, wsi: Command
) -> None:
    (tmp_path / "notes.txt").write_text("no slide", encoding="utf-8")
    ended = wsi("tile", tmp_path / "notes.txt", drawn.plain, "-o", tmp_path / "RUN", *SETTINGS)
    assert ended.code == 1
    assert_whole(tmp_path / "RUN", done=["plain"])
    assert with_status(tmp_path / "RUN", "failed") == {"notes"}


def test_a_slide_smaller_than_a_tile_is_padded_white_to_one(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    rgb = drawn.rgb["plain"][300:400, 400:550]
    write_pyramid(tmp_path / "small.tif", rgb, mpp=0.5, levels=1, compression="deflate")
    settings = ("--tile-size", "256", "--codec", "zstd", "--tissue", "none", "--min-tissue", "0")
    ended = wsi("tile", tmp_path / "small.tif", "-o", tmp_path / "RUN", *settings)
    assert ended.code == 0
    assert_whole(tmp_path / "RUN", done=["small"])
    pixels = stored(tmp_path / "RUN", "small")
    assert pixels.shape == (1, 256, 256, 3)
    assert np.array_equal(pixels[0, :100, :150], rgb)
    assert (pixels[0, 100:] == 255).all()
    assert (pixels[0, :, 150:] == 255).all()


def test_a_slide_smaller_than_a_tile_has_none_with_drop_and_says_why(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    rgb = drawn.rgb["plain"][300:400, 400:550]
    write_pyramid(tmp_path / "small.tif", rgb, mpp=0.5, levels=1)
    settings = ("--tile-size", "256", "--edge", "drop")
    ended = wsi("tile", tmp_path / "small.tif", "-o", tmp_path / "RUN", *settings)
    assert ended.code == 0
    assert_whole(tmp_path / "RUN", done=["small"])
    reason = slides_of(tmp_path / "RUN")["small"]["reason"]
    assert_sentence(reason, ("0 tiles", "smaller than a tile", "--edge pad"))
    assert f"note: small: {reason}" in ended.err
    assert wsi("verify", tmp_path / "RUN").code == 0


def test_a_slide_without_tissue_is_done_with_no_tiles_and_a_reason(
    tmp_path: Path, wsi: Command
) -> None:
    noise = np.random.default_rng(3).integers(238, 244, (700, 900, 3), dtype=np.uint8)
    write_pyramid(tmp_path / "glass.tif", noise, mpp=0.5)
    ended = wsi("tile", tmp_path / "glass.tif", "-o", tmp_path / "RUN", *SETTINGS)
    assert ended.code == 0
    assert_whole(tmp_path / "RUN", done=["glass"])
    row = slides_of(tmp_path / "RUN")["glass"]
    assert row["tiles"] == 0
    assert_sentence(row["reason"], ("0 tiles", "no tissue found", "overlay"))


def test_a_dark_field_slide_is_recognised_and_cut_where_its_nuclei_are(
    drawn: Drawn, tmp_path: Path
) -> None:
    tile(tmp_path / "RUN", drawn.dark)
    assert_whole(tmp_path / "RUN", done=["dark"])
    assert slides_of(tmp_path / "RUN")["dark"]["dark_field"] is True
    rows = rows_of(tmp_path / "RUN", "dark")
    assert rows
    gray = drawn.rgb["dark"].mean(axis=2)
    inside = np.zeros(gray.shape, dtype=bool)
    for row in rows:
        inside[row["y"] : row["y"] + 128, row["x"] : row["x"] + 128] = True
    assert gray[inside].mean() > 2 * gray[~inside].mean()


def test_brightfield_slides_are_not_called_dark(undisturbed: Path) -> None:
    rows = slides_of(undisturbed)
    assert {slide_id for slide_id, row in rows.items() if row["dark_field"]} == {"dark"}


def assert_sentence(reason: str, words: tuple[str, ...]) -> None:
    """Assert one line that says these things and leaks neither types nor tracebacks."""
    assert all(word in reason for word in words), reason
    assert "\n" not in reason
    assert "Error:" not in reason
    assert len(reason) < 400
