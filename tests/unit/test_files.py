import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_pipeline.errors import OutputError, SlideError
from wsi_pipeline.files import (
    Fingerprint,
    fingerprint,
    output_error,
    publish_bytes,
    published,
    published_folder,
    same_source_today,
    sample,
)

MIB = 1 << 20


@given(st.binary(max_size=300))
def test_what_is_published_is_there_whole_and_alone(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("published")
    publish_bytes(folder / "a.bin", data)
    assert (folder / "a.bin").read_bytes() == data
    assert names_in(folder) == ["a.bin"]


def test_the_bytes_are_on_the_disk_before_the_name_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = []

    def synchronised(handle: int) -> None:
        there.append((os.fstat(handle).st_size, (tmp_path / "a").exists()))

    monkeypatch.setattr(os, "fsync", synchronised)
    publish_bytes(tmp_path / "a", b"whole")
    assert there == [(5, False)]


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    publish_bytes(tmp_path / "c/0/0/a", b"x")
    assert (tmp_path / "c/0/0/a").read_bytes() == b"x"


def test_until_it_is_whole_a_file_keeps_its_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    publish_bytes(path, b"old")
    with published(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, SlideError])
def test_an_error_on_the_way_leaves_nothing_and_goes_on(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def fail() -> None:
        with published(tmp_path / "a") as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_an_error_of_the_disk_leaves_the_old_file_and_says_what_to_do(
    tmp_path: Path, number: int
) -> None:
    publish_bytes(tmp_path / "a", b"old")

    def fail() -> None:
        with published(tmp_path / "a") as temporary:
            temporary.write_bytes(b"half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(OutputError, match=f"cannot write {tmp_path}/a: "):
        fail()
    assert names_in(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_writers_of_one_name_do_not_disturb_each_other(tmp_path: Path) -> None:
    with published(tmp_path / "a") as first, published(tmp_path / "a") as second:
        assert first != second
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize("below", ["x", "y/x"])
def test_a_file_where_a_folder_should_be_is_said_so(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a file is where a folder should be"):
        publish_bytes(tmp_path / "file" / below, b"")


def test_a_folder_where_the_file_should_be_is_an_error_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match=f"cannot write {tmp_path}/a"):
        publish_bytes(tmp_path / "a", b"")
    assert names_in(tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(
        OutputError, match="not allowed: ask for the right to, or choose another folder"
    ):
        publish_bytes(tmp_path / "a", b"")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "the disk or the quota is full: make room and run the same command again"),
        (errno.EDQUOT, "the disk or the quota is full: make room and run the same command again"),
        (
            errno.EACCES,
            "writing there is not allowed: ask for the right to, or choose another folder",
        ),
        (
            errno.EROFS,
            "writing there is not allowed: ask for the right to, or choose another folder",
        ),
        (
            errno.ENOTDIR,
            "a file is where a folder should be: move it away, or choose another folder",
        ),
        (errno.EIO, "Input/output error: look at the disk and run the same command again"),
    ],
)
def test_an_error_of_the_disk_is_one_sentence_with_what_to_do(number: int, advice: str) -> None:
    error = output_error(Path("/runs/1/a"), OSError(number, os.strerror(number)))
    assert str(error) == f"cannot write /runs/1/a: {advice}"


sizes = st.one_of(st.integers(1, 2000), st.integers(1, MIB + (1 << 16)))


@settings(max_examples=25)
@given(size=sizes, place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_of_a_file_up_to_one_mib_any_other_byte_is_another_source(
    tmp_path_factory: pytest.TempPathFactory, size: int, place: float, flip: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fingerprinted"
    content = bytearray(size)
    path.write_bytes(content)
    before = fingerprint(path)
    content[int(place * size)] ^= flip
    path.write_bytes(content)
    assert not fingerprint(path).same_source(before)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_two_small_files_are_the_same_source_where_their_bytes_are(
    tmp_path_factory: pytest.TempPathFactory, first: bytes, second: bytes
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    (folder / "a").write_bytes(first)
    (folder / "b").write_bytes(second)
    same = fingerprint(folder / "a").same_source(fingerprint(folder / "b"))
    assert same == (first == second)


def test_the_time_of_a_file_does_not_make_it_another_source(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"slide")
    os.utime(path, ns=(1, 1))
    before = fingerprint(path)
    os.utime(path, ns=(2, 2))
    after = fingerprint(path)
    assert (before.sample.mtime_ns, after.sample.mtime_ns) == (1, 2)
    assert after.same_source(before)


def test_of_a_large_file_both_ends_and_the_size_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as handle:
        handle.truncate(40 * MIB)
    prints: list[Fingerprint] = [fingerprint(path)]
    for place in (0, 40 * MIB - 1):
        with path.open("r+b") as handle:
            handle.seek(place)
            handle.write(b"x")
        prints.append(fingerprint(path))
    with path.open("r+b") as handle:
        handle.truncate(40 * MIB + 1)
    prints.append(fingerprint(path))
    assert len({each.sample.sha256 for each in prints}) == len(prints)


def test_a_change_between_the_samples_is_noticed_by_the_time_and_then_by_every_byte(
    tmp_path: Path,
) -> None:
    path = tmp_path / "large"
    with path.open("wb") as handle:
        handle.truncate(40 * MIB)
    os.utime(path, ns=(1, 1))
    before = fingerprint(path)
    os.utime(path, ns=(2, 2))
    assert same_source_today(before, path) is not None
    with path.open("r+b") as handle:
        handle.seek(MIB)
        handle.write(b"x")
    os.utime(path, ns=(3, 3))
    assert sample(path).sha256 == before.sample.sha256
    assert same_source_today(before, path) is None


def test_the_data_folder_of_an_mrxs_belongs_to_its_source(tmp_path: Path) -> None:
    path = tmp_path / "a.mrxs"
    path.write_bytes(b"x")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Data0000.dat").write_bytes(b"pixels")
    before = fingerprint(path)
    (tmp_path / "a" / "Data0000.dat").write_bytes(b"PIXELS")
    assert not fingerprint(path).same_source(before)


def test_a_file_that_cannot_be_read_is_an_error_of_the_slide(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(SlideError, match="check the path and its permissions"):
            fingerprint(path)


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def half() -> None:
        with published_folder(tmp_path / "out") as folder:
            (folder / "a").write_bytes(b"x")
            assert not (tmp_path / "out").exists()
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert names_in(tmp_path) == []
    with published_folder(tmp_path / "out") as folder:
        (folder / "a").write_bytes(b"x")
    assert names_in(tmp_path) == ["a", "out"]


def test_a_folder_that_was_filled_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def late() -> None:
        with published_folder(tmp_path / "out") as folder:
            (folder / "mine").write_bytes(b"x")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "theirs").write_bytes(b"y")

    with pytest.raises(OutputError, match="cannot write"):
        late()
    assert names_in(tmp_path) == ["out", "theirs"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))
