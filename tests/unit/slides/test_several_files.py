"""Slides that are several files: each is one slide, whichever of its files a folder shows first."""

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image

from tests.pipeline.runs import padded, rows_of, slides_of, stored, tile, with_status
from tests.unit.slides.test_deep_pictures import dicom as write_radiograph
from tests.writers.dicom import write_dicom, write_label
from tests.writers.pixels import pyramid, tissue
from wsi_pipeline.config import TileConfig
from wsi_pipeline.files import sample
from wsi_pipeline.parts import parts_of, series_file
from wsi_pipeline.slides.find import SlideSource, find_slides
from wsi_pipeline.slides.open import open_slide

LEVELS = pyramid(tissue(352, 264), 2, 4)


def opened(found: tuple[SlideSource, ...]) -> dict[str, str]:
    """Return file name by slide_id of what is to be opened."""
    return {each.slide_id: Path(each.path).name for each in found if each.refused is None}


def refused(found: tuple[SlideSource, ...]) -> dict[str, str]:
    return {Path(each.path).name: each.refused.reason for each in found if each.refused}


def series(folder: Path, *, number: int = 2, names: str = "level") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return write_dicom(folder, LEVELS, transfer="none", names=names, series=number)


def test_a_folder_of_one_dicom_series_is_one_slide_named_for_the_folder(tmp_path: Path) -> None:
    series(tmp_path / "1.2.840.7/case.1")
    write_label(tmp_path / "1.2.840.7/case.1/a_label.dcm")
    for argument in (tmp_path, tmp_path / "1.2.840.7/case.1"):
        found = find_slides([str(argument)])
        assert opened(found) == {"case.1": "level0.dcm"}
        assert refused(found) == {}


def test_the_finest_level_stands_for_its_series_whatever_the_names(tmp_path: Path) -> None:
    finest = series(tmp_path / "case")
    finest.rename(finest.with_name("z.dcm"))
    found = find_slides([str(tmp_path)])
    assert opened(found) == {"case": "z.dcm"}
    with closing(open_slide(Path(found[0].path))) as reader:
        assert len(reader.info.levels) == 3


def test_several_series_in_a_folder_are_a_slide_each_named_for_their_finest_files(
    tmp_path: Path,
) -> None:
    series(tmp_path, number=2, names="a")
    series(tmp_path, number=3, names="b")
    found = find_slides([str(tmp_path)])
    assert opened(found) == {"a0": "a0.dcm", "b0": "b0.dcm"}
    for source in found:
        with closing(open_slide(Path(source.path))) as reader:
            assert [at.size_px.width for at in reader.info.levels] == [352, 176, 88]


def test_folders_of_one_name_are_told_apart_by_the_folders_above(tmp_path: Path) -> None:
    series(tmp_path / "north/case")
    series(tmp_path / "south/case")
    assert opened(find_slides([str(tmp_path)])).keys() == {"north_case", "south_case"}


def test_a_file_with_the_name_of_the_folder_beside_it_does_not_share_its_slide_id(
    tmp_path: Path,
) -> None:
    series(tmp_path / "case")
    write_radiograph(tmp_path / "case.dcm", np.zeros((8, 8), np.uint16))
    found = opened(find_slides([str(tmp_path)]))
    assert len(found) == 2
    assert set(found.values()) == {"level0.dcm", "case.dcm"}


def test_a_series_beside_other_slides_is_named_for_its_finest_file(tmp_path: Path) -> None:
    series(tmp_path)
    Image.fromarray(LEVELS[0]).save(tmp_path / "field.png")
    assert opened(find_slides([str(tmp_path)])) == {"level0": "level0.dcm", "field": "field.png"}


def test_a_series_of_a_single_file_is_named_for_the_file(tmp_path: Path) -> None:
    write_dicom(tmp_path / "case", LEVELS[:1], transfer="none", names="scan")
    assert opened(find_slides([str(tmp_path)])) == {"scan0": "scan0.dcm"}


def test_any_file_of_a_series_can_be_named_itself(tmp_path: Path) -> None:
    path = series(tmp_path / "case").with_name("level1.dcm")
    assert opened(find_slides([str(path)])) == {"level1": "level1.dcm"}
    both = [str(tmp_path), str(path)]
    for arguments in (both, both[::-1]):
        assert list(opened(find_slides(arguments)).values()) == ["level1.dcm"]


def test_a_glob_of_all_files_names_the_slide_as_its_folder_does(tmp_path: Path) -> None:
    series(tmp_path / "case")
    names = [str(path) for path in (tmp_path / "case").iterdir()]
    assert opened(find_slides(names)) == {"case": "level0.dcm"}
    assert opened(find_slides([f"{tmp_path}/*/*.dcm"])) == {"case": "level0.dcm"}


def test_what_a_table_says_of_a_file_of_a_series_holds_for_the_slide(tmp_path: Path) -> None:
    series(tmp_path / "case")
    table = tmp_path / "slides.csv"
    pd.DataFrame([{"path": "case/level2.dcm", "slide_id": "x", "mpp": 0.25}]).to_csv(table)
    (found,) = find_slides([str(table), str(tmp_path / "case")])
    assert (found.slide_id, found.mpp, Path(found.path).name) == ("x", 0.25, "level2.dcm")


def test_a_series_keeps_the_name_that_a_run_knows_it_by(tmp_path: Path) -> None:
    path = series(tmp_path / "case")
    found = find_slides([str(tmp_path)], known={str(path): "level0"})
    assert opened(found) == {"level0": "level0.dcm"}


def test_a_series_of_labels_only_is_skipped_with_the_reason(tmp_path: Path) -> None:
    series(tmp_path / "case", number=2)
    write_label(tmp_path / "case/label.dcm", series=3)
    found = find_slides([str(tmp_path)])
    assert opened(found) == {"case": "level0.dcm"}
    assert "labels or overviews only" in refused(found)["label.dcm"]


def test_radiographs_of_one_series_stay_a_slide_per_file(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_radiograph(
            tmp_path / f"{name}.dcm", np.zeros((8, 8), np.uint16), SeriesInstanceUID="1.2.3"
        )
    assert opened(find_slides([str(tmp_path)])).keys() == {"a", "b", "c"}


@pytest.mark.parametrize("left", [0, 100, 140, 300])
def test_a_damaged_header_costs_one_slide(tmp_path: Path, left: int) -> None:
    path = series(tmp_path / "case").with_name("level2.dcm")
    path.write_bytes(path.read_bytes()[:left])
    assert set(opened(find_slides([str(tmp_path)])).values()) == {"level0.dcm", "level2.dcm"}


def test_a_header_is_read_up_to_the_size_of_the_picture(tmp_path: Path) -> None:
    path = series(tmp_path / "case")
    data = path.read_bytes()
    at = data.index(b"\x48\x00\x07\x00")  # TotalPixelMatrixRows, the tag behind the width
    path.write_bytes(data[: at + 8])
    found = series_file(path)
    assert found is not None
    assert (found.width_px, found.is_level) == (352, True)
    assert found.series == str(pydicom.dcmread(path.with_name("level1.dcm")).SeriesInstanceUID)


def test_another_level_is_another_content_of_the_slide(tmp_path: Path) -> None:
    path = series(tmp_path / "case")
    other = series(tmp_path / "case", number=3, names="other")
    assert [each.name for each in parts_of(path)] == ["level0.dcm", "level1.dcm", "level2.dcm"]
    before = sample(path)
    shutil.copy(other, other.with_name("more.dcm"))
    assert sample(path) == before
    coarse = path.with_name("level2.dcm")
    coarse.write_bytes(coarse.read_bytes()[:-1] + b"\x07")
    assert sample(path).sha256 != before.sha256


VMS = """[Virtual Microscope Specimen]
NoLayers=1
ImageFile={stem}.jpg
ImageFile(1,0)={stem}(1,0).jpg
ImageFile(0,1)={stem}-gone.jpg
MapFile={stem}_map2.jpg
MacroImage={stem}_macro.jpg
OptimisationFile={stem}.opt
AuthCode=picture.jpg
"""


def hamamatsu(folder: Path, name: str) -> Path:
    """Write a slide whose pictures hold nothing."""
    stem = Path(name).stem
    for part in (f"{stem}.jpg", f"{stem}(1,0).jpg", f"{stem}_map2.jpg", f"{stem}_macro.jpg"):
        (folder / part).write_bytes(b"\xff\xd8\xff")
    (folder / f"{stem}.opt").write_bytes(b"\0")
    (folder / name).write_text(VMS.format(stem=stem), encoding="latin-1")
    return folder / name


@pytest.mark.parametrize("name", ["case.vms", "CASE.VMU"])
def test_pictures_that_a_vms_or_vmu_names_are_no_slides(tmp_path: Path, name: str) -> None:
    path = hamamatsu(tmp_path, name)
    Image.fromarray(LEVELS[0]).save(tmp_path / "picture.jpg")
    for arguments in ([str(tmp_path)], [f"{tmp_path}/*"], sorted(map(str, tmp_path.iterdir()))):
        found = find_slides(arguments)
        assert opened(found) == {path.stem: name, "picture": "picture.jpg"}
        assert refused(found) == {}


def test_a_picture_of_a_vms_can_be_named_itself(tmp_path: Path) -> None:
    hamamatsu(tmp_path, "case.vms")
    assert opened(find_slides([f"{tmp_path}/case.jpg"])) == {"case": "case.jpg"}


def test_a_changed_picture_of_a_vms_is_another_content_of_the_slide(tmp_path: Path) -> None:
    path = hamamatsu(tmp_path, "case.vms")
    before = sample(path)
    (tmp_path / "case_map2.jpg").write_bytes(b"\xff\xd8\xfe")
    assert sample(path).sha256 != before.sha256


def test_a_glob_over_an_mrxs_and_its_folder_is_one_slide(tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    for name in ("case.mrxs", "case/Data0000.dat", "case/preview.jpg"):
        (tmp_path / name).touch()
    found = find_slides([f"{tmp_path}/*"])
    assert opened(found) == {"case": "case.mrxs"}
    assert refused(found) == {}


def test_a_run_over_folders_of_series_cuts_each_slide_once(tmp_path: Path) -> None:
    series(tmp_path / "slides/one", number=2)
    series(tmp_path / "slides/two", number=3)
    config = TileConfig(tile_size=100, tissue="none", min_tissue=0, codec="zstd")
    tile(tmp_path / "RUN", tmp_path / "slides", config=config)
    assert (
        with_status(tmp_path / "RUN", "done") == set(slides_of(tmp_path / "RUN")) == {"one", "two"}
    )
    for name in ("one", "two"):
        rows = rows_of(tmp_path / "RUN", name)
        for row, rgb in zip(rows, stored(tmp_path / "RUN", name), strict=True):
            np.testing.assert_array_equal(rgb, padded(LEVELS[0], row))
    again = tile(tmp_path / "RUN", tmp_path / "slides", config=config)
    assert again.already_done == {"one", "two"}
    coarse = tmp_path / "slides/two/level2.dcm"
    coarse.write_bytes(coarse.read_bytes()[:-1] + b"\x07")
    changed = tile(tmp_path / "RUN", tmp_path / "slides", config=config).with_status("failed")
    assert [record.slide_id for record in changed] == ["two"]
    assert "other content" in str(changed[0].reason)
