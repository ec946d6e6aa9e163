"""Settings of random changes: read from files and flags, refused with a sentence."""

import pytest

from wsi_pipeline.augment.config import OPERATIONS, AugmentConfig
from wsi_pipeline.config import make_config
from wsi_pipeline.errors import ConfigError


def test_words_and_numbers_may_come_as_lists_or_as_one_text() -> None:
    listed = make_config(AugmentConfig, {"operations": ["color", "rotate"], "crop": [0.2, 1]})
    assert listed == make_config(AugmentConfig, {"operations": "color,rotate", "crop": "0.2,1"})
    assert listed.operations == ("color", "rotate")
    assert AugmentConfig(operations="all") == AugmentConfig()  # type: ignore[arg-type]
    assert AugmentConfig(operations="none").operations == ()  # type: ignore[arg-type]
    assert AugmentConfig().operations == tuple(OPERATIONS)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"operations": "colour"}, "operations: expected words of shear_x, .*, got colour"),
        ({"operations": "color,color"}, "every word once, got color, color; .* twice as often"),
        ({"operations": ""}, "operations: expected words of"),
        ({"most": 16}, "most: expected a whole number from 0 to 15, got 16"),
        ({"crop": "0,1"}, "crop: expected two shares above 0 up to 1, the smaller first, got 0,1"),
        ({"crop": [1.0, 0.5]}, "crop: .* got 1,0.5"),
        ({"crop": [0.5]}, "crop: expected two shares"),
        ({"crop": "half,1"}, "crop: expected two shares"),
        ({"crop": [float("nan"), 1.0]}, "crop: expected two shares"),
        ({"crop_ratio": [1.2, 1.5]}, "crop_ratio: expected a ratio up to 1 and one from 1 on"),
        ({"hed": 1.5}, "hed: expected a number from 0 .off. to 1; 0.05 is usual, got 1.5"),
        ({"noise": -1.0}, "noise: expected gray levels"),
        ({"elastic": float("inf")}, "elastic: expected pixels"),
        ({"blurr": 1.0}, "unknown key blurr .did you mean blur"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config(AugmentConfig, values)


def test_every_field_changes_the_digest() -> None:
    other = {
        "crop": (0.6, 1.0),
        "crop_ratio": (1.0, 1.0),
        "flip": False,
        "quarter_turns": False,
        "operations": ("color",),
        "most": 1,
        "hed": 0.1,
        "elastic": 1.0,
        "noise": 1.0,
        "blur": 1.0,
    }
    assert other.keys() == AugmentConfig.model_fields.keys()
    digests = {make_config(AugmentConfig, {name: value}).digest() for name, value in other.items()}
    assert len(digests | {AugmentConfig().digest()}) == len(other) + 1
