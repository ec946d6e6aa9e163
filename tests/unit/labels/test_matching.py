"""Which file is which slide's annotation: by name, and never by a guess."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.labels.matching import ENDINGS, Named, matched


def named(*each: str) -> list[Named]:
    """Return slides of ``slide_id`` or ``slide_id=stem``."""
    pairs = [text.partition("=") for text in each]
    return [Named(slide_id=slide_id, stem=stem or slide_id) for slide_id, _, stem in pairs]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("mark", ["", "_mask", "-labels", "_labels", "-mask"])
def test_every_usual_name_is_found(ending: str, mark: str) -> None:
    for name in (f"a.1{mark}{ending}", f"a.1{mark}{ending.upper()}"):
        found = matched(named("a.1", "b"), [name])
        assert found.chosen == {"a.1": name}
        assert found.strays == ()


def test_the_name_of_the_slide_file_will_do() -> None:
    assert matched(named("north_a=a"), ["a.xml"]).chosen == {"north_a": "a.xml"}


def test_the_slide_id_goes_before_the_name_of_the_file() -> None:
    found = matched(named("north_a=a"), ["a.xml", "north_a.xml"])
    assert found.chosen == {"north_a": "north_a.xml"}
    assert found.strays == ("a.xml",)


def test_two_candidates_are_refused_by_name() -> None:
    found = matched(named("a"), ["a.xml", "a_mask.png"])
    assert found.chosen == {}
    assert "a.xml and a_mask.png" in found.refused["a"]
    assert found.strays == ()


def test_a_name_that_two_slides_share_is_nobodys() -> None:
    found = matched(named("north_a=a", "south_a=a"), ["a.xml"])
    assert found.chosen == {}
    assert found.refused.keys() == {"north_a", "south_a"}
    assert "north_a or south_a" in found.refused["north_a"]


def test_a_name_that_is_another_slides_id_is_that_slides() -> None:
    found = matched(named("a", "north_a=a", "a_mask"), ["a.xml", "a_mask.tif"])
    assert found.chosen == {"a": "a.xml", "a_mask": "a_mask.tif"}
    assert found.refused == {}


def test_what_is_nobodys_is_named_and_what_is_no_annotation_is_not() -> None:
    files = ["b.geojson", "a.svs", "notes.txt", ".a.xml", ".xml", "a.jpg"]
    assert matched(named("a"), files).strays == ("b.geojson",)


@given(
    ids=st.sets(st.sampled_from(["a", "b", "a_mask", "c.x"]), min_size=1),
    files=st.sets(
        st.builds(
            str.__add__,
            st.sampled_from(["a", "b", "a_mask", "a_mask_mask", "c.x", "d"]),
            st.sampled_from(ENDINGS),
        )
    ),
)
def test_every_file_has_one_slide_or_none(ids: set[str], files: set[str]) -> None:
    found = matched(named(*sorted(ids)), files)
    assert len(set(found.chosen.values())) == len(found.chosen)
    assert not found.chosen.keys() & found.refused.keys()
    assert not set(found.chosen.values()) & set(found.strays)
    assert {*found.chosen.values(), *found.strays} <= files
