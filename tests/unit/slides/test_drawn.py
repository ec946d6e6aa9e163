"""Drawn slides: the same pixels for the same seed, a truth that the picture shows, files that open."""

from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest
import tifffile

from wsi_pipeline.geometry import Mask, Rgb, Size
from wsi_pipeline.slides.drawn import (
    Compression,
    DrawnSlide,
    Seed,
    draw_slide,
    with_pen,
    write_pyramid,
)

SIZE = Size(width=1003, height=802)  # no multiple of a tile or of a level's step


def digest(slide: DrawnSlide) -> str:
    parts = (slide.rgb, slide.tissue, slide.nuclei)
    return sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def agreement(found: Mask, truth: Mask) -> float:
    """Intersection over union."""
    return float(np.mean(found[found | truth] & truth[found | truth]))


def below_otsu(rgb: Rgb) -> Mask:
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    threshold, _ = cv2.threshold(gray, 0, 255, cv2.THRESH_OTSU)
    return np.asarray(gray <= 1.05 * threshold)


@pytest.fixture(scope="module")
def slide() -> DrawnSlide:
    return draw_slide(SIZE, seed=3)


@pytest.mark.parametrize("seed", [0, 3, [3], [7, 1, 2]])
@pytest.mark.parametrize("dark_field", [False, True])
def test_same_seed_same_pixels(seed: Seed, *, dark_field: bool) -> None:
    first, second = (draw_slide(SIZE, seed=seed, dark_field=dark_field) for _ in range(2))

    assert digest(first) == digest(second)


def test_threads_do_not_change_the_pixels(slide: DrawnSlide) -> None:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        alone = draw_slide(SIZE, seed=3)
    finally:
        cv2.setNumThreads(threads)

    assert digest(alone) == digest(slide)


def test_other_seed_other_pixels() -> None:
    seeds: list[Seed] = [0, 1, [0, 1], [1, 1], [1, 0, 1]]  # to NumPy [1, 0] is 1

    assert len({digest(draw_slide(SIZE, seed=seed)) for seed in seeds}) == len(seeds)


@pytest.mark.parametrize("seed", range(12))
def test_truth_is_what_otsu_finds(seed: int) -> None:
    slide = draw_slide(SIZE, seed=seed)

    assert agreement(below_otsu(slide.rgb), slide.tissue) > 0.97


@pytest.mark.parametrize("mpp", [0.25, 1.0, 2.0, 4.0])
def test_truth_is_what_otsu_finds_at_other_resolutions(mpp: float) -> None:
    slide = draw_slide(SIZE, seed=5, mpp=mpp)

    assert slide.mpp == mpp
    assert agreement(below_otsu(slide.rgb), slide.tissue) > 0.97


@pytest.mark.parametrize("seed", [0, 5, 9])
def test_tumours_are_crowded_free_of_glands_and_lie_in_tissue(seed: int) -> None:
    size = Size(width=2000, height=1500)
    slide = draw_slide(size, seed=seed, tumours=2)
    assert 1 <= len(slide.tumours) <= 2
    inside = np.zeros((size.height, size.width), np.uint8)
    cv2.fillPoly(inside, [np.rint(outline).astype(np.int32) for outline in slide.tumours], (1,))
    tumour = inside.astype(np.bool_)
    assert slide.tissue[tumour].mean() > 0.999  # lumens of glands would be glass
    in_tumour = tumour[slide.nuclei[:, 1], slide.nuclei[:, 0]]
    density = in_tumour.sum() / tumour.sum()
    assert density > 2 * (~in_tumour).sum() / (slide.tissue & ~tumour).sum()


def test_a_pen_is_green_where_it_went_and_nowhere_else(slide: DrawnSlide) -> None:
    inked, stroke = with_pen(slide.rgb, seed=1, mpp=0.5)
    assert 0.02 < stroke.mean() < 0.4
    assert (inked[~stroke] == slide.rgb[~stroke]).all()
    red, green, blue = inked[stroke].astype(int).T  # over nuclei hardly any colour is left
    assert (green > red).mean() > 0.9
    assert (green > blue).mean() > 0.9


@pytest.mark.parametrize("size", [Size(width=1200, height=500), Size(width=500, height=1200)])
def test_tissue_covers_part_and_leaves_the_border(size: Size) -> None:
    slide = draw_slide(size, seed=1)

    assert slide.rgb.shape == (size.height, size.width, 3)
    assert 0.2 < slide.tissue.mean() < 0.7
    assert not slide.tissue[[0, -1]].any()
    assert not slide.tissue[:, [0, -1]].any()


def test_glass_is_bright_and_nearly_grey(slide: DrawnSlide) -> None:
    far = cv2.dilate(slide.tissue.astype(np.uint8), np.ones((15, 15), np.uint8)) == 0

    np.testing.assert_allclose(slide.rgb[far].mean(axis=0), (243, 242, 245), atol=1.5)
    assert 1 < slide.rgb[far].std(axis=0).max() < 3


def test_nuclei_are_dark_and_in_the_tissue(slide: DrawnSlide) -> None:
    x, y = slide.nuclei.T
    red = slide.rgb[..., 0]

    assert len(slide.nuclei) > 100
    assert slide.tissue[y, x].all()
    assert np.median(red[y, x]) < np.median(red[slide.tissue]) - 60


def test_finer_resolution_shows_nuclei_larger() -> None:
    um = 600
    density = {
        mpp: len(
            draw_slide(Size(width=int(um / mpp), height=int(um / mpp)), seed=2, mpp=mpp).nuclei
        )
        for mpp in (0.25, 0.5, 1.0)
    }

    assert max(density.values()) < 1.5 * min(density.values())


def test_dark_field_is_mostly_dark_with_blue_nuclei() -> None:
    slide = draw_slide(SIZE, seed=3, dark_field=True)
    x, y = slide.nuclei.T
    red, green, blue = np.median(slide.rgb[y, x], axis=0)

    assert np.median(slide.rgb) < 16
    assert np.mean(slide.rgb > 128) < 0.1
    assert blue > 100
    assert blue > green > red


def test_blur_takes_sharpness_and_leaves_the_truth(slide: DrawnSlide) -> None:
    blurred = draw_slide(SIZE, seed=3, blur_px=3.0)
    sharpness, left = (
        cv2.Laplacian(cv2.cvtColor(each.rgb, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var()
        for each in (slide, blurred)
    )

    np.testing.assert_array_equal(blurred.tissue, slide.tissue)
    np.testing.assert_array_equal(blurred.nuclei, slide.nuclei)
    assert left < sharpness / 3


@pytest.mark.parametrize("size", [Size(width=1, height=1), Size(width=300, height=2)])
def test_tiny_slides_are_drawn(size: Size) -> None:
    assert draw_slide(size, seed=0).rgb.shape == (size.height, size.width, 3)


@pytest.mark.parametrize("mpp", [0.0, -0.5, 0.05, 5.0, float("nan")])
def test_refuses_resolutions_without_nuclei(mpp: float) -> None:
    with pytest.raises(ValueError, match=r"mpp: expected 0\.1 to 4"):
        draw_slide(SIZE, seed=0, mpp=mpp)


def test_refuses_negative_blur() -> None:
    with pytest.raises(ValueError, match="blur_px: expected at least 0"):
        draw_slide(SIZE, seed=0, blur_px=-1.0)


def test_refuses_truth_of_another_size(slide: DrawnSlide) -> None:
    with pytest.raises(ValueError, match="tissue: expected"):
        DrawnSlide(rgb=slide.rgb, tissue=slide.tissue[1:], nuclei=slide.nuclei, mpp=0.5)


def level_pixels(path: Path, level: int) -> Rgb:
    with openslide.OpenSlide(path) as opened:
        size = opened.level_dimensions[level]
        return np.asarray(opened.read_region((0, 0), level, size).convert("RGB"))


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "none"])
def test_openslide_opens_what_was_written(
    tmp_path: Path, slide: DrawnSlide, compression: Compression
) -> None:
    path = tmp_path / "slide.tif"
    write_pyramid(path, slide.rgb, mpp=0.2527, compression=compression)

    with openslide.OpenSlide(path) as opened:
        assert opened.properties["openslide.vendor"] == "generic-tiff"
        assert opened.level_dimensions == ((1003, 802), (251, 200), (63, 50))
        assert opened.level_downsamples == pytest.approx((1, 4, 16), rel=0.01)
        assert float(opened.properties["openslide.mpp-x"]) == pytest.approx(0.2527, rel=1e-6)
        assert float(opened.properties["openslide.mpp-y"]) == pytest.approx(0.2527, rel=1e-6)
    for level in range(3):
        np.testing.assert_array_equal(
            level_pixels(path, level), tifffile.imread(path, key=level), err_msg=f"level {level}"
        )


def test_level_sizes_are_exact_where_they_can_be(tmp_path: Path) -> None:
    rgb = np.zeros((1024, 2048, 3), np.uint8)
    path = tmp_path / "slide.tif"
    write_pyramid(path, rgb, mpp=1.0, levels=4, tile_px=128)

    with openslide.OpenSlide(path) as opened:
        assert opened.level_dimensions == ((2048, 1024), (512, 256), (128, 64), (32, 16))
        assert opened.level_downsamples == (1.0, 4.0, 16.0, 64.0)
        assert opened.properties["openslide.level[0].tile-width"] == "128"


def test_levels_are_averages(tmp_path: Path, slide: DrawnSlide) -> None:
    rgb = slide.rgb[:800, :1000]
    path = tmp_path / "slide.tif"
    write_pyramid(path, rgb, mpp=None, levels=2, compression="none")
    mean = rgb.reshape(200, 4, 250, 4, 3).mean(axis=(1, 3))  # (200, 250, 3)

    np.testing.assert_allclose(level_pixels(path, 1), mean, atol=0.51)


@pytest.mark.parametrize("compression", ["deflate", "none"])
def test_lossless_files_give_the_pixels_back(
    tmp_path: Path, slide: DrawnSlide, compression: Compression
) -> None:
    path = tmp_path / "slide.tif"
    write_pyramid(path, slide.rgb, mpp=0.5, compression=compression)

    np.testing.assert_array_equal(level_pixels(path, 0), slide.rgb)


def test_jpeg_stays_close(tmp_path: Path, slide: DrawnSlide) -> None:
    path = tmp_path / "slide.tif"
    write_pyramid(path, slide.rgb, mpp=0.5)

    assert np.abs(level_pixels(path, 0).astype(int) - slide.rgb).mean() < 3
    assert path.stat().st_size < slide.rgb.nbytes / 5


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "none"])
def test_writing_twice_gives_the_same_bytes(
    tmp_path: Path, slide: DrawnSlide, compression: Compression
) -> None:
    paths = [tmp_path / name for name in ("first.tif", "second.tiff")]
    for path in paths:
        write_pyramid(path, slide.rgb, mpp=0.5, compression=compression)

    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_without_mpp_the_slide_does_not_say(tmp_path: Path, slide: DrawnSlide) -> None:
    path = tmp_path / "slide.tif"
    write_pyramid(path, slide.rgb, mpp=None, levels=1)

    with openslide.OpenSlide(path) as opened:
        assert opened.level_count == 1
        assert "openslide.mpp-x" not in opened.properties


@pytest.mark.parametrize("levels", [0, 4])
def test_refuses_levels_that_are_no_pixels(tmp_path: Path, levels: int) -> None:
    with pytest.raises(ValueError, match="levels: expected"):
        write_pyramid(
            tmp_path / "slide.tif", np.zeros((63, 64, 3), np.uint8), mpp=None, levels=levels
        )


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan")])
def test_refuses_to_write_impossible_resolution(tmp_path: Path, mpp: float) -> None:
    with pytest.raises(ValueError, match="mpp: expected more than 0"):
        write_pyramid(tmp_path / "slide.tif", np.zeros((64, 64, 3), np.uint8), mpp=mpp)

    assert not (tmp_path / "slide.tif").exists()
