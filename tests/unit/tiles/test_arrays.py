"""Every image is in one array, in order; arrays keep patients and splits apart and are not too long."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.tiles.arrays import image_arrays

WORDS = st.sampled_from(["a", "b", "A", None])
ROWS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=40)


def table(rows: list[tuple[str | None, str | None]], *names: str) -> pa.Table:
    return pa.table(
        {
            name: pa.array([row[column] for row in rows], type=pa.string())
            for column, name in enumerate(names)
        }
    )


@given(rows=ROWS, most=st.integers(1, 9))
def test_every_image_is_in_one_array(rows: list[tuple[str | None, str | None]], most: int) -> None:
    arrays = image_arrays(table(rows, "patient_id", "split"), name="tiles", most=most)
    together = np.sort(np.concatenate([array.rows for array in arrays]))
    assert together.tolist() == list(range(len(rows)))
    assert all(np.all(np.diff(array.rows) > 0) for array in arrays)


@given(rows=ROWS, most=st.integers(1, 9))
def test_an_array_has_one_patient_one_split_and_its_own_name(
    rows: list[tuple[str | None, str | None]], most: int
) -> None:
    arrays = image_arrays(table(rows, "patient_id", "split"), name="tiles", most=most)
    assert all(len({rows[row] for row in array.rows}) == 1 for array in arrays)
    assert all(len(array.rows) <= most for array in arrays)
    names = [array.slide_id.casefold() for array in arrays]
    assert len(set(names)) == len(names)


def test_images_without_words_share_numbered_arrays() -> None:
    arrays = image_arrays(pa.table({"x": [0] * 5}), name="pcam", most=2)
    assert [array.slide_id for array in arrays] == ["pcam_0000", "pcam_0001", "pcam_0002"]
    (alone,) = image_arrays(pa.table({"x": [0] * 5}), name="pcam")
    assert alone.slide_id == "pcam"


def test_a_slide_is_one_array_however_long_it_is() -> None:
    rows: list[tuple[str | None, str | None]] = [("s2", "p"), ("s1", "q"), ("s2", "p")]
    arrays = image_arrays(table(rows, "slide_id", "patient_id"), name="ignored", most=1)
    assert [(array.slide_id, array.rows.tolist()) for array in arrays] == [
        ("s1", [1]),
        ("s2", [0, 2]),
    ]


def test_a_slide_of_two_patients_is_refused_by_name() -> None:
    rows: list[tuple[str | None, str | None]] = [("s", "p"), ("s", "q")]
    with pytest.raises(ConfigError, match="slide s: expected one patient_id, got p and q"):
        image_arrays(table(rows, "slide_id", "patient_id"), name="x")


@pytest.mark.parametrize("slide_id", ["../up", ".hidden", "", "a/b", None])
def test_a_slide_that_cannot_name_a_file_is_refused(slide_id: str | None) -> None:
    with pytest.raises(ConfigError, match="row 2: slide_id"):
        image_arrays(table([("ok", None), (slide_id, None)], "slide_id"), name="x")
