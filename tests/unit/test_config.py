import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsi_pipeline.config import (
    RunConfig,
    TileConfig,
    differences,
    expected_of,
    make_config,
    read_yaml,
    tile_configs,
)
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.loader.config import LoaderConfig

OTHER_VALUES: dict[str, Any] = {
    "tile_size": 512,
    "overlap": 0.1,
    "mpp": 0.5,
    "level": 1,
    "min_tissue": 0.5,
    "edge": "drop",
    "tissue": "hsv",
    "codec": "zstd",
    "store": "none",
    "allow_upsample": True,
    "whole_image": True,
    "slide_mpp": 0.25,
}

BAD_TILE_VALUES = [
    ("tile_size", 0),
    ("tile_size", -1),
    ("tile_size", 16385),
    ("tile_size", 10.5),
    ("tile_size", "large"),
    ("tile_size", True),
    ("overlap", 1.0),
    ("overlap", -0.1),
    ("overlap", math.nan),
    ("overlap", "20 %"),
    ("mpp", 0),
    ("mpp", -0.5),
    ("mpp", 101),
    ("mpp", math.nan),
    ("mpp", math.inf),
    ("level", -1),
    ("level", 0.5),
    ("min_tissue", 1.5),
    ("min_tissue", -0.1),
    ("min_tissue", math.nan),
    ("edge", "cut"),
    ("tissue", ""),
    ("codec", "png"),
    ("codec", "jpeg:0"),
    ("codec", "jpeg:101"),
    ("codec", "jpeg:high"),
    ("codec", "zstd:3"),
    ("codec", None),
    ("store", "tiff"),
    ("allow_upsample", "perhaps"),
    ("whole_image", 2),
    ("slide_mpp", 0.001),
    ("slide_mpp", 353),
]

BAD_RUN_VALUES = [
    ("workers", 0),
    ("workers", 1.5),
    ("cluster", "slrum"),
    ("cluster", "http://x"),
    ("part", "0/3"),
    ("part", "4/3"),
    ("part", "3"),
    ("part", "1/0"),
    ("part", "a/b"),
    ("on_error", "panic"),
]


@pytest.mark.parametrize(("name", "value"), BAD_TILE_VALUES)
def test_a_bad_value_is_one_sentence_with_what_was_expected_and_what_came(
    name: str, value: object
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(TileConfig, {name: value})
    assert str(caught.value) == f"{name}: expected {expected_of(TileConfig, name)}, got {value!r}"


@pytest.mark.parametrize(("name", "value"), BAD_RUN_VALUES)
def test_so_is_a_bad_value_of_how_to_run(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(RunConfig, {name: value})
    assert str(caught.value) == f"{name}: expected {expected_of(RunConfig, name)}, got {value!r}"


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"tile_size: .*; overlap: .*; codec: "):
        make_config(TileConfig, {"tile_size": 0, "overlap": 2, "codec": "gif"})


def test_every_field_has_words_for_what_it_takes_and_what_it_is() -> None:
    for kind in (TileConfig, RunConfig):
        for name, field in kind.model_fields.items():
            assert expected_of(kind, name) != "another value"
            assert field.description


@pytest.mark.parametrize("key", ["tilesize", "tile-size", "Overlap", 7, "model_config"])
def test_an_unknown_key_is_refused_by_name_with_those_that_are_known(key: object) -> None:
    with pytest.raises(
        ConfigError, match=rf"unknown key {key}( \(did you mean \w+\?\))?; known are .*overlap"
    ):
        tile_configs({key: 1})  # type: ignore[dict-item]
    with pytest.raises(
        ConfigError, match=rf"unknown key {key}( \(did you mean \w+\?\))?; known are .*overlap"
    ):
        make_config(TileConfig, {key: 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mpp": 0.5, "level": 1}, "level and mpp: expected one of them, got both"),
        ({"whole_image": True, "mpp": 0.5}, "leave out level and mpp"),
        ({"whole_image": True, "level": 1}, "leave out level and mpp"),
        ({"tile_size": 10, "overlap": 0.99}, "stride of 0 from tile_size 10 and overlap 0.99"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        make_config(TileConfig, values)


@given(st.integers(1, 16384), st.floats(0, 1, exclude_max=True))
def test_tiles_that_are_accepted_move_on(tile_size: int, overlap: float) -> None:
    try:
        config = make_config(TileConfig, {"tile_size": tile_size, "overlap": overlap})
    except ConfigError:
        assert tile_size - round(tile_size * overlap) < 1
        return
    assert config.tile_size - round(config.tile_size * config.overlap) >= 1


@pytest.mark.parametrize(
    ("text", "written_out"),
    [("jpeg", "jpeg:90"), ("jpeg:75", "jpeg:75"), ("webp", "webp:90"), ("zstd", "zstd")],
)
def test_a_codecs_default_quality_is_written_out(text: str, written_out: str) -> None:
    assert make_config(TileConfig, {"codec": text}).codec == written_out


def test_the_digest_of_the_defaults_is_pinned() -> None:
    assert TileConfig().digest() == "6549250cff82fcc9"


def test_every_field_is_in_the_digest() -> None:
    assert OTHER_VALUES.keys() == TileConfig.model_fields.keys()
    digests = {
        make_config(TileConfig, {name: value}).digest() for name, value in OTHER_VALUES.items()
    }
    assert len(digests | {TileConfig().digest()}) == len(OTHER_VALUES) + 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"mpp": 1}, {"mpp": 1.0}),
        ({"codec": "jpeg"}, {"codec": "jpeg:90"}),
        ({"tile_size": 1024}, {}),
        ({"overlap": 0.1, "level": 1}, {"level": 1, "overlap": 0.1}),
    ],
)
def test_what_means_the_same_has_the_same_digest(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert make_config(TileConfig, first).digest() == make_config(TileConfig, second).digest()


def test_how_a_run_is_carried_out_is_not_in_its_digest() -> None:
    what, _ = tile_configs({"overlap": 0.1})
    same, how = tile_configs({"overlap": 0.1, "workers": 7, "part": "2/3", "on_error": "stop"})
    assert same.digest() == what.digest()
    assert (how.workers, how.part_of, how.on_error) == (7, (2, 3), "stop")
    assert not TileConfig.model_fields.keys() & RunConfig.model_fields.keys()


def test_flags_win_over_the_file_and_the_file_over_the_defaults() -> None:
    what, how = tile_configs({"overlap": 0.5, "edge": "drop", "workers": 3}, {"overlap": 0.1})
    assert (what.overlap, what.edge, what.tile_size, how.workers) == (0.1, "drop", 1024, 3)


def test_a_configuration_is_not_changed_once_made() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TileConfig().overlap = 0.5  # type: ignore[misc]


def test_a_yaml_file_is_its_keys_and_values_and_an_empty_one_none(tmp_path: Path) -> None:
    path = tmp_path / "tile.yaml"
    path.write_text("overlap: 0.1  # näin\ncodec: jpeg:80\n", encoding="utf-8")
    assert read_yaml(path) == {"overlap": 0.1, "codec": "jpeg:80"}
    path.write_text("# nothing yet\n")
    assert read_yaml(path) == {}


@pytest.mark.parametrize(
    "content",
    [b"- overlap\n", b"overlap", b"overlap: [", b"\xff\xfe\x00x", b"a: !!python/object:os.x {}"],
)
def test_a_file_that_is_no_yaml_mapping_is_refused_by_its_path(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "tile.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{path}: expected"):
        read_yaml(path)


def test_a_missing_file_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: expected a YAML file"):
        read_yaml(tmp_path / "missing.yaml")


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2)))
def test_there_is_no_difference_to_itself_and_one_line_for_each_key_that_is(
    values: dict[str, int],
) -> None:
    assert differences(values, values) == []
    changed = {key: value + 1 for key, value in values.items()}
    assert [line[0] for line in differences(values, changed)] == sorted(values)


def test_what_has_to_be_given_is_named() -> None:
    with pytest.raises(ConfigError) as refused:
        make_config(LoaderConfig, {"target": "label"})
    assert str(refused.value) == (
        "batch_size: expected a number of tiles, 1 or more, got none: it has to be given"
    )
