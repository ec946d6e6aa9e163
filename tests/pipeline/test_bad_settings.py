"""Wrong settings end with exit code 2, one sentence that says what to change, and nothing written."""

from pathlib import Path

import pytest

from tests.pipeline.runs import GOOD, Command, Drawn, assert_whole, good_folder, process, slides_of

WRONG = {
    "overlap 1.0": (("--overlap", "1.0"), ("overlap: expected a share from 0 to below 1", "1.0")),
    "overlap -0.1": (("--overlap", "-0.1"), ("overlap: expected a share", "-0.1")),
    "overlap that leaves no stride": (
        ("--tile-size", "4", "--overlap", "0.9"),
        ("overlap", "smaller overlap"),
    ),
    "overlap in percent": (("--overlap", "20"), ("overlap: expected a share", "0.2 is 20 %")),
    "overlap nan": (("--overlap", "nan"), ("overlap: expected a share",)),
    "tile size 0": (("--tile-size", "0"), ("tile_size: expected whole pixels from 1", "got 0")),
    "tile size -5": (("--tile-size", "-5"), ("tile_size: expected whole pixels from 1",)),
    "unknown codec": (("--codec", "png"), ("codec: expected jpeg[:1-100]", "'png'")),
    "quality 0": (("--codec", "jpeg:0"), ("codec: expected jpeg[:1-100]", "'jpeg:0'")),
    "quality of words": (("--codec", "jpeg:best"), ("codec: expected jpeg[:1-100]",)),
    "quality without loss": (("--codec", "zstd:3"), ("codec: expected", "'zstd:3'")),
    "level and mpp": (("--level", "1", "--mpp", "1"), ("level and mpp", "leave one out")),
    "mpp 0": (("--mpp", "0"), ("mpp: expected µm per pixel above 0",)),
    "slide mpp absurd": (("--slide-mpp", "353"), ("slide_mpp: expected µm per pixel", "353")),
    "min tissue 2": (("--min-tissue", "2"), ("min_tissue: expected a share from 0 to 1",)),
    "unknown edge": (("--edge", "wrap"), ("edge: expected pad, drop or shift", "'wrap'")),
    "unknown tissue": (("--tissue", "magic"), ("tissue: expected otsu, hsv", "'magic'")),
    "missing mask folder": (("--tissue", "no/masks"), ("tissue", "folder of masks", "'no/masks'")),
    "unknown store": (("--store", "hdf5"), ("store: expected zarr or none", "'hdf5'")),
    "part beyond": (("--part", "3/2"), ("part: expected I/N", "3/2")),
    "part of words": (("--part", "first"), ("part: expected I/N", "'first'")),
    "on error": (("--on-error", "cry"), ("on_error: expected continue or stop",)),
    "no workers": (("--workers", "0"), ("workers: expected a number of processes",)),
    "unknown cluster": (("--cluster", "moon"), ("cluster: expected processes, local, tcp://",)),
}
YAML = {
    "unknown key": ("tile_sise: 256\n", ("tile_sise", "tile_size")),
    "unknown keys": ("a: 1\nb: 2\n", ("a", "b")),
    "a list": ("- tile_size\n", ("expected lines 'key: value'", "list")),
    "no YAML": ("tile_size: [1\n", ("expected a YAML file",)),
    "wrong value": ("overlap: much\n", ("overlap: expected a share", "'much'")),
    "both resolutions": ("level: 1\nmpp: 0.5\n", ("level and mpp", "leave one out")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_flag_is_refused_in_one_sentence(
    name: str, drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    flags, words = WRONG[name]
    ended = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", *flags)
    assert ended.code == 2
    assert_one_sentence(ended.err, words)
    assert ended.out == ""
    assert not (tmp_path / "RUN").exists()


@pytest.mark.parametrize("name", YAML)
def test_a_wrong_configuration_file_is_refused_in_one_sentence(
    name: str, drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    text, words = YAML[name]
    (tmp_path / "tile.yaml").write_text(text, encoding="utf-8")
    ended = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", "--config", tmp_path / "tile.yaml")
    assert ended.code == 2
    assert all(word in ended.err for word in words), ended.err
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
    assert not (tmp_path / "RUN").exists()


def test_a_missing_configuration_file_is_refused(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    ended = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", "--config", tmp_path / "no.yaml")
    assert ended.code == 2
    assert "no.yaml: expected a YAML file" in ended.err


def test_flags_win_over_the_file(drawn: Drawn, tmp_path: Path, wsi: Command) -> None:
    (tmp_path / "tile.yaml").write_text("tile_size: 64\noverlap: 0.5\n", encoding="utf-8")
    config = ("--config", tmp_path / "tile.yaml")
    ended = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", *config, "--tile-size", "128")
    assert ended.code == 0
    again = wsi("tile", drawn.plain, "-o", tmp_path / "RUN", *config)
    assert again.code == 2
    assert "tile_size: was 128, now 64" in again.err
    assert "overlap" not in again.err.partition(";")[0]


def test_slides_that_are_not_there_are_refused(tmp_path: Path, wsi: Command) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a", encoding="utf-8")
    cases = {
        tmp_path / "gone.svs": "no such file, folder or match",
        tmp_path / "*.svs": "no such file, folder or match",
        tmp_path / "empty": "no files in",
        tmp_path / "texts": "no slides in",
    }
    for slides, words in cases.items():
        ended = wsi("tile", slides, "-o", tmp_path / "RUN")
        assert ended.code == 2
        assert_one_sentence(ended.err, (words, str(slides)))
        assert not (tmp_path / "RUN").exists()


def test_a_real_process_refuses_wrong_settings_likewise(drawn: Drawn, tmp_path: Path) -> None:
    for flags in (("--overlap", "1.0"), ("--tissue", "no/masks"), ("--no-such-flag",)):
        ended = process("tile", drawn.plain, "-o", tmp_path / "RUN", *flags)
        assert ended.code == 2
        assert "Traceback" not in ended.err
        assert flags[-1] in ended.err
        assert not (tmp_path / "RUN").exists()


def test_a_level_that_a_slide_does_not_have_fails_that_slide(
    drawn: Drawn, tmp_path: Path, wsi: Command
) -> None:
    folder = good_folder(drawn, tmp_path / "slides")
    (folder / "flat.png").write_bytes(drawn.flat.read_bytes())
    ended = wsi("tile", folder, "-o", tmp_path / "RUN", "--level", "1", "--tile-size", "64")
    assert ended.code == 1
    assert_whole(tmp_path / "RUN", done=GOOD)
    reason = slides_of(tmp_path / "RUN")["flat"]["reason"]
    assert "level 1: the slide has 1 (0 to 0)" in reason
    assert f": {reason}" in ended.err


def assert_one_sentence(err: str, words: tuple[str, ...]) -> None:
    """Assert one line on standard error that says these things."""
    assert all(word in err for word in words), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "validation error" not in err
