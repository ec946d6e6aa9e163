"""Views of a tile: a turned tile is answered like the tile, to the bit; no view is no change."""

import pytest

pytest.importorskip("torch", reason="needs the extra train")

import torch

from wsi_pipeline.evaluate.ask.tta import VIEWS, views_asked

TURNS = [(turns, mirrored) for turns in range(4) for mirrored in (False, True)]


def ask(images: torch.Tensor) -> torch.Tensor:
    """Answer what depends on where in the image something is, as a network does; two logits."""
    side = images.shape[-1]
    weights = torch.arange(3 * side * side).reshape(3, side, side).float().sin()
    first = (images.float() * weights).sum((1, 2, 3))
    return torch.stack([first, first.cos()], dim=1)


def tiles() -> torch.Tensor:
    drawn = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (6, 3, 5, 5), generator=drawn, dtype=torch.uint8)


def turned(images: torch.Tensor, turns: int, *, mirrored: bool) -> torch.Tensor:
    rotated = torch.rot90(images, turns, (2, 3))
    return rotated.flip(3) if mirrored else rotated


@pytest.mark.parametrize(("turns", "mirrored"), TURNS)
def test_a_turned_tile_is_answered_like_the_tile(turns: int, mirrored: bool) -> None:  # noqa: FBT001
    asked = views_asked(ask, "d4")
    assert torch.equal(asked(turned(tiles(), turns, mirrored=mirrored)), asked(tiles()))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", [0, 2])
def test_a_mirrored_tile_is_answered_like_the_tile(turns: int, mirrored: bool) -> None:  # noqa: FBT001
    asked = views_asked(ask, "flips")
    assert torch.equal(asked(turned(tiles(), turns, mirrored=mirrored)), asked(tiles()))
    assert not torch.equal(asked(turned(tiles(), 1, mirrored=mirrored)), asked(tiles()))


@pytest.mark.parametrize("word", ["flips", "d4"])
def test_the_answer_is_the_mean_of_the_logits_of_all_different_views(word: str) -> None:
    made = [view(tiles()) for view in VIEWS[word]]
    assert len({view.numpy().tobytes() for view in made}) == len(made)
    expected = torch.stack([ask(view) for view in made]).double().mean(0)
    torch.testing.assert_close(
        views_asked(ask, word)(tiles()).double(), expected, rtol=1e-5, atol=1e-4
    )


def test_without_views_the_network_itself_is_asked() -> None:
    assert views_asked(ask, "none") is ask
