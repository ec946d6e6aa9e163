"""The step towards more loss (Li et al., TMI 2021), after virtual adversarial training (Miyato et al.)."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from wsi_pipeline.augment.draws import Draws
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.train.losses import surprises


def perturbation(
    network: Any,  # noqa: ANN401  a torch.nn.Module
    images: torch.Tensor,
    chosen: torch.Tensor,
    keys: torch.Tensor,
    *,
    length: float,
    start: float,
) -> torch.Tensor:
    """Return what is added to each image, float like ``images`` and of L2 length ``length`` or 0.

    d = start x n(noise); g = the gradient by d of Σ_i Σ_c chosen_ic (-log q_c(x_i + d_i)); the answer is
    length x n(g). Only the direction matters, so the sum takes the place of Li's mean: gradients do not get
    smaller with the batch.

    The network is in evaluation mode meanwhile: batch normalisation reads its running statistics and does not
    change them, nothing is dropped, and an image's direction does not depend on its batch. It runs in
    float32, where small gradients do not vanish. Gradients of its weights are not touched.

    Parameters
    ----------
    images
        ``(B, 3, H, W)`` float, normalised.
    chosen
        ``(B, C)``: targets, 0 where a tile or a class is left as it is.
    keys
        ``(B,)`` int64, from which the noise is drawn.

    Raises
    ------
    ConfigError
        The network gives no gradient of its images.
    """
    noise = Draws(keys, images.device).normal("adversarial", images[0].numel())
    started = normalised(noise.reshape(images.shape)) * start
    with (
        predicting(network),
        torch.enable_grad(),
        torch.autocast(images.device.type, enabled=False),
    ):
        moved = (images.detach().float() + started).requires_grad_()
        surprise = (chosen * surprises(network(moved))).sum()
        if not surprise.requires_grad:
            raise ConfigError(
                "adversarial: expected a network that gives gradients of its images, got one without; "
                "leave adversarial out, or do not run the frozen part without gradients"
            )
        (gradient,) = torch.autograd.grad(surprise, moved)
    return (normalised(gradient) * length).to(images.dtype)


def normalised(values: torch.Tensor) -> torch.Tensor:
    """Return n(v) = u / √(1e-6 + Σu²) with u = v / (1e-12 + max|v|), per image; zeros stay zeros."""
    axes = tuple(range(1, values.dim()))
    scaled = values / (1e-12 + values.abs().amax(axes, keepdim=True))
    return scaled / torch.sqrt(1e-6 + (scaled**2).sum(axes, keepdim=True))


@contextmanager
def predicting(network: Any) -> Generator[None]:  # noqa: ANN401
    """Put every part of a network into evaluation mode, and back into what it was in."""
    training = [part for part in network.modules() if part.training]
    network.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
