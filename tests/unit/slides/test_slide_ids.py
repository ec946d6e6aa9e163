import os
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.slides.find import find_slides

words = st.sampled_from(["a", "b", "a_b", "b_a", "A", "ä ö", ".a", "__b", "a.b"])
stems = st.sampled_from(["a", "b", "a_b", "x.ome", "_", "__x", "a b", "a_b.svs"])
endings = st.sampled_from([".svs", ".tif", ".tiff", ".SVS", ""])
paths = st.builds(
    lambda folders, stem, ending: "/".join(["", *folders, stem + ending]),
    st.lists(words, max_size=4),
    stems,
    endings,
)
path_sets = st.lists(paths, min_size=1, max_size=10, unique=True)


@given(path_sets)
def test_every_path_has_an_id_of_its_own(files: list[str]) -> None:
    named = ids_of(files)
    assert named.keys() == set(files)
    assert len(set(named.values())) == len(files)


@given(path_sets)
def test_every_id_can_name_a_file_and_an_array(files: list[str]) -> None:
    for name in ids_of(files).values():
        assert name
        assert "/" not in name
        assert not name.startswith((".", "__"))


@given(path_sets, st.randoms(use_true_random=False))
def test_ids_do_not_depend_on_the_order_of_the_arguments(files: list[str], random: Random) -> None:
    shuffled = list(files)
    random.shuffle(shuffled)
    assert ids_of(shuffled) == ids_of(files)


@given(path_sets, path_sets)
def test_ids_of_an_earlier_run_stay_when_slides_are_added(
    before: list[str], added: list[str]
) -> None:
    known = ids_of(before)
    both = ids_of(list(dict.fromkeys([*added, *before])), known=known)
    assert {path: both[path] for path in before} == known
    assert len(set(both.values())) == len(both)


@given(path_sets, path_sets)
def test_no_slide_takes_the_id_of_one_that_an_earlier_run_had(
    before: list[str], now: list[str]
) -> None:
    known = ids_of(before)
    others = {name for path, name in known.items() if path not in now}
    assert not others & set(ids_of(now, known=known).values())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["/x/a.svs", "/x/b.svs"], ["a", "b"]),
        (["/north/a.svs", "/south/a.svs"], ["north_a", "south_a"]),
        (["/x/a.svs", "/x/a.tif"], ["x_a.svs", "x_a.tif"]),
        (["/1/x/a.svs", "/2/x/a.svs"], ["1_x_a.svs", "2_x_a.svs"]),
        (["/x/scan.ome.tif"], ["scan"]),
        (["/north/a.svs", "/south/a.svs", "/north_a.svs"], ["north_a.svs", "south_a", "north_a"]),
    ],
)
def test_an_id_is_the_shortest_name_that_tells_a_slide_apart(
    files: list[str], expected: list[str]
) -> None:
    assert list(ids_of(files).values()) == expected


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(words.filter(lambda word: not word.startswith(".")), stems),
        unique=True,
        min_size=1,
    )
)
def test_slides_of_a_folder_are_all_found_with_ids_of_their_own(
    names: list[tuple[str, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for sub, stem in names:
            path = Path(folder, sub, f"{stem}.svs")
            path.parent.mkdir(exist_ok=True)
            path.touch()
        found = find_slides([folder])
    assert len(found) == len(names)
    assert len({source.slide_id for source in found}) == len(names)
    assert [source.slide_id for source in found] == sorted(source.slide_id for source in found)


def test_a_table_cannot_give_a_slide_the_id_of_another_one_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,slide_id\nnew.svs,case\n")
    with pytest.raises(ConfigError, match="case"):
        find_slides([f"{tmp_path}/t.csv"], known={"/old/case.svs": "case"})


def ids_of(files: list[str], *, known: dict[str, str] | None = None) -> dict[str, str]:
    """Return path to slide_id as a table that names those paths gets them."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "slides.csv")
        lines = [f'"{path}"' for path in files]
        table.write_text(os.linesep.join(["path", *lines]), encoding="utf-8")
        found = find_slides([str(table)], known=known)
    by_path = {source.path: source.slide_id for source in found}
    return {path: by_path[path] for path in files}
