"""What ``evaluate`` takes from a file and from flags."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from wsi_pipeline.config import read_yaml
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.config import evaluate_configs

ROOT = Path(__file__).resolve().parents[3]


def test_nothing_said_is_the_test_part_of_the_model_called_model() -> None:
    asked, work = evaluate_configs()
    assert (asked.model, asked.question.name, asked.draws, work.device) == (
        ("model",),
        "test",
        False,
        "auto",
    )


@pytest.mark.parametrize(
    ("file", "flags", "name", "value"),
    [
        ({"part": "all"}, {}, "part", "all"),
        (yaml.safe_load("on: other"), {}, "on", "other"),
        ({"part": "all"}, {"part": "train"}, "part", "train"),
        ({"model": ["a", "b"]}, {"model": ["c"]}, "model", ("c",)),
        ({"model": "sd-*"}, {}, "model", ("sd-*",)),
        ({"sweep": "sharpen:0,0.5"}, {}, "sweep", ("sharpen:0,0.5",)),
        ({"slides": ["a", "b"], "cam": "gradcam"}, {"slides": "c,d"}, "slides", ("c", "d")),
    ],
)
def test_flags_win_over_the_file(
    file: dict[str, Any], flags: dict[str, Any], name: str, value: object
) -> None:
    asked, _ = evaluate_configs(file, flags)
    assert getattr(asked, name) == value


def test_a_flag_changes_one_key_of_a_section_and_leaves_the_others() -> None:
    file = {"heat_maps": {"kinds": ["geojson"], "origin": "canvas"}, "cam": {"layer": "bn2"}}
    asked, _ = evaluate_configs(file, {"heat_maps": "png,ome-tiff", "cam": "gradcam"})
    assert asked.heat_maps is not None
    assert asked.cam is not None
    assert (asked.heat_maps.kinds, asked.heat_maps.origin) == (("png", "ome-tiff"), "canvas")
    assert (asked.cam.method, asked.cam.layer) == ("gradcam", "bn2")


def test_slides_are_those_of_every_map_unless_it_has_its_own() -> None:
    asked, _ = evaluate_configs(
        {"slides": ["a"], "heat_maps": "png", "cam": {"method": "gradcam", "slides": ["b"]}}
    )
    assert asked.heat_maps is not None
    assert asked.cam is not None
    assert (asked.heat_maps.slides, asked.cam.slides) == (("a",), ("b",))


def test_slides_of_a_flag_are_those_of_every_map_whatever_the_file_says() -> None:
    file = {"heat_maps": {"slides": ["a"], "origin": "canvas"}, "cam": "gradcam"}
    asked, _ = evaluate_configs(file, {"slides": "b,c"})
    assert asked.heat_maps is not None
    assert asked.cam is not None
    assert (asked.heat_maps.slides, asked.cam.slides) == (("b", "c"), ("b", "c"))
    assert asked.heat_maps.origin == "canvas"
    assert file["heat_maps"] == {"slides": ["a"], "origin": "canvas"}


def test_how_it_is_carried_out_may_stand_in_the_same_file() -> None:
    _, work = evaluate_configs({"device": "cpu", "threads": 1}, {"workers": 2})
    assert (work.device, work.threads, work.workers) == ("cpu", 1, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modell": "x"}, "unknown key modell (did you mean model?)"),
        ({"part": "tset"}, "part: expected train, validation, test or all, got 'tset'"),
        ({"model": []}, "model: expected a name, or a list of names, got"),
        ({"apply_at": "input"}, "apply_at: expected together with sweep"),
        ({"keep_logits": True}, "keep_logits: expected together with sweep"),
        ({"slides": "a", "collage": True}, "slides: expected together with heat_maps or cam"),
        ({"heat_maps": "tiff"}, "heat_maps: kinds"),
        ({"heat_maps": {"colour": "red"}}, "heat_maps: unknown key colour"),
        ({"cam": "scorecam"}, "cam: method: expected gradcam or hirescam, got 'scorecam'"),
        ({"sweep": "blur"}, "blur"),
        (
            {"sweep": "box_blur", "tta": "flips"},
            "sweep: expected one view of each tile, got tta flips",
        ),
        (
            {"sweep": "box_blur", "shortcut": "test"},
            "sweep: expected tiles without a shortcut, got shortcut test",
        ),
        (
            {"sweep": "box_blur", "ensemble": "all"},
            "sweep: expected models one by one, got ensemble all",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        evaluate_configs(values)


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("workflows/**/evaluate.yaml")), ids=lambda path: path.parent.name
)
def test_the_recipes_of_the_workflows_are_in_order(path: Path) -> None:
    asked, _ = evaluate_configs(read_yaml(path))
    assert asked.draws
