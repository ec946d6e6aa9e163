"""Images as tensors that the tests of ``augment`` share."""

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.strategies import noise, seeds
from wsi_pipeline.geometry import Rgb, Size
from wsi_pipeline.slides.drawn import draw_slide

keys = st.integers(-(2**63), 2**63 - 1)


def tensor(images: "NDArray[np.uint8] | list[Rgb]") -> torch.Tensor:
    """Return images ``(B, H, W, 3)`` as a tensor ``(B, 3, H, W)``, contiguous."""
    return torch.from_numpy(np.stack(list(images))).permute(0, 3, 1, 2).contiguous()


def pictures(images: torch.Tensor) -> NDArray[np.uint8]:
    """Return a tensor ``(B, 3, H, W)`` as images ``(B, H, W, 3)``."""
    found: NDArray[np.uint8] = images.permute(0, 2, 3, 1).numpy()
    return found


@st.composite
def any_picture(draw: st.DrawFn) -> Rgb:
    """Return a small image of noise between two values, of one colour, or of drawn tissue."""
    height, width, seed = draw(st.integers(3, 40)), draw(st.integers(3, 40)), draw(seeds)
    low, high = sorted((draw(st.integers(0, 255)), draw(st.integers(0, 255))))
    kind = draw(st.sampled_from(("noise", "flat", "tissue")))
    if kind == "noise":
        return noise(seed, height=height, width=width).clip(low, high)
    if kind == "flat":
        return np.full((height, width, 3), (low, high, seed % 256), np.uint8)
    return draw_slide(Size(width=64, height=64), seed=seed % 50).rgb[:height, :width]


def squares(seed: int, *, count: int, side: int) -> torch.Tensor:
    """Return images of independent values, uint8 ``(count, 3, side, side)``."""
    return tensor([noise(seed + at, height=side, width=side) for at in range(count)])
