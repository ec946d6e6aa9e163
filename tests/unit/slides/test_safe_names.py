"""Names of files: one for each text, none that leads elsewhere."""

from pathlib import PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.slides.names import safe_names

TEXTS = st.lists(st.text(max_size=12), max_size=12)
HOSTILE = st.lists(
    st.sampled_from(["..", ".", "", "a/b", "a\\b", "A", "a", "/etc", "é", "a" * 400])
)


@given(texts=TEXTS | HOSTILE)
def test_names_differ_even_where_case_does_not_count(texts: list[str]) -> None:
    names = safe_names(texts)
    assert names.keys() == set(texts)
    assert len({name.casefold() for name in names.values()}) == len(names)


@given(texts=TEXTS | HOSTILE)
def test_a_name_is_one_part_of_a_path(texts: list[str]) -> None:
    for name in safe_names(texts).values():
        assert PurePosixPath(name).parts == (name,)
        assert name[0] not in "._"
        assert "\\" not in name
        assert len(name.encode()) < 220


@given(texts=TEXTS)
def test_order_does_not_matter(texts: list[str]) -> None:
    assert safe_names(texts) == safe_names(reversed(texts))
