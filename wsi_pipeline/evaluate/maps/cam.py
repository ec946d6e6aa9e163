"""Where in a tile a network sees a class: Grad-CAM and HiResCAM at its last convolutional features.

Both multiply features by the gradient of the class's logit. Grad-CAM (Selvaraju et al., ICCV 2017, equations
1 and 2) takes the gradient's mean over the picture for each channel; HiResCAM (Draelos and Carin, 2020) takes
the gradient where it is. Where the network goes on with a mean over the picture and one linear layer they are
the same, and their sum is the logit less the bias. Values stay as they are, signed: tiles of a slide, and of
several slides, can be compared. Grad-CAM's ReLU is for the eye and is left to whoever draws.
"""

from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.evaluate.maps.heat import colours
from wsi_pipeline.geometry import Rgb

Method: TypeAlias = Literal["gradcam", "hirescam"]

_COLOURS = "magma"


def class_activation(
    network: nn.Module, images: torch.Tensor, *, layer: str, number: int, method: Method
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a map of each image and the logit that it explains.

    Parameters
    ----------
    network
        In evaluation mode; images to logits ``(B,)`` or ``(B, C)``.
    images
        As the network takes them, ``(B, 3, H, W)``.
    layer
        Name of what gives the features, ``(B, K, h, w)``, in ``network.net`` or else in the network.
    number
        Of the class; of a single logit 1 is the logit and 0 its negative.
    method
        gradcam or hirescam.

    Returns
    -------
    tuple
        float32 ``(B, h, w)``, signed and not scaled; float32 ``(B,)``.

    Raises
    ------
    ConfigError
        There is no such layer, it gives no picture of features, or the logit does not depend on it.
    """
    held: list[torch.Tensor] = []

    def hold(_module: nn.Module, _given: object, output: object) -> torch.Tensor:
        held.append(_features(output, layer).detach().requires_grad_())
        return held[-1].clone()  # what follows may change it in its place

    handle = _module(network, layer).register_forward_hook(hold)
    try:
        with torch.enable_grad():
            score = _logit(network(images), number)
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(score.sum(), held[-1], allow_unused=True)
    if gradient is None:
        raise ConfigError(
            f"cam: the logit does not depend on {layer}; name a layer before the head"
        )
    if method == "gradcam":
        gradient = gradient.mean(dim=(2, 3), keepdim=True)
    return (gradient * held[-1]).sum(dim=1).detach().float(), score.detach().float()


def feature_layer(network: nn.Module, images: torch.Tensor) -> str:
    """Return the name of the last layer whose features are a picture of more than one pixel.

    Parameters
    ----------
    network
        As ``class_activation`` takes it.
    images
        At least one, as large as those that are to be explained.

    Raises
    ------
    ConfigError
        The network has none, such as a transformer, whose features are tokens.
    """
    net = _inner(network)
    seen: list[tuple[str, torch.Size]] = []
    taken: list[torch.Tensor] = []
    handles = [net.register_forward_pre_hook(lambda _module, given: taken.append(given[0]))]
    for name, module in net.named_modules():
        if name:
            handles.append(module.register_forward_hook(_noting(name, seen)))
    try:
        with torch.inference_mode():
            network(images[:1])
            if hasattr(net, "forward_features"):  # of every model of timm
                seen_by_features = net.forward_features(taken[0])
                _features(seen_by_features, type(net).__name__)
    finally:
        for handle in handles:
            handle.remove()
    pictures = [name for name, size in seen if _is_picture(size) and size[2] * size[3] > 1]
    if not pictures:
        raise ConfigError(f"cam: {type(net).__name__} has no layer whose features are a picture")
    return pictures[-1]


def cam_colours() -> Rgb:
    """Return the colours of 0 to the largest value, dark to light, ``(1, 256, 3)``."""
    return colours(_COLOURS)


def _noting(name: str, seen: list[tuple[str, torch.Size]]) -> Any:  # noqa: ANN401  torch's hook
    def note(_module: nn.Module, _given: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            seen.append((name, output.shape))

    return note


def _is_picture(size: torch.Size) -> bool:
    """Whether a size is ``(B, K, h, w)``; images are squares, so what is not square has channels last."""
    return len(size) == 4 and size[2] == size[3]


def _features(output: object, layer: str) -> torch.Tensor:
    if not isinstance(output, torch.Tensor):
        raise ConfigError(f"cam: expected {layer} to give features, got {type(output).__name__}")
    if not _is_picture(output.shape):
        raise ConfigError(
            f"cam: expected features (tiles, channels, side, side) of {layer}, got {tuple(output.shape)}; it "
            "takes a convolutional network"
        )
    return output


def _inner(network: nn.Module) -> Any:  # noqa: ANN401  timm has no types
    """Return timm's model in a network of ours, or the network."""
    return getattr(network, "net", network)


def _module(network: nn.Module, layer: str) -> nn.Module:
    net = _inner(network)
    try:
        module: nn.Module = net.get_submodule(layer)
    except AttributeError as error:
        last = [name for name, _ in net.named_modules()][-8:]
        raise ConfigError(
            f"cam: {type(net).__name__} has no layer {layer}; the last ones are {', '.join(last)}"
        ) from error
    return module


def _logit(logits: torch.Tensor, number: int) -> torch.Tensor:
    """Return the logit of a class of every image, ``(B,)``."""
    if logits.ndim == 1:
        return logits if number == 1 else -logits
    return logits[:, number]
