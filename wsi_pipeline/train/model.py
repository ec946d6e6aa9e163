"""A network of timm: uint8 or normalised images in, logits out; parts of it may stay frozen."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import timm
import torch
from timm.models import group_parameters
from torch import nn

from wsi_pipeline.augment.policy import normalised, resized
from wsi_pipeline.augment.stain import normalizer
from wsi_pipeline.errors import ConfigError
from wsi_pipeline.train.model_config import BACKBONE, ModelConfig
from wsi_pipeline.train.weights import NamedWeights, fitting, read_weights

_LOGGER = logging.getLogger(__name__)


class Network(nn.Module):
    """A backbone and a head, and what is done to images before them, in training and test alike.

    What is frozen has no gradient and is in evaluation mode whatever ``train`` says: batch statistics,
    dropout and stochastic depth of a frozen part stay as they are.
    """

    def __init__(self, config: ModelConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.is_single = config.head == "single" and classes == 2
        self.net = _backbone(config, logits=1 if self.is_single else classes)
        about = self.net.pretrained_cfg
        self.mean: tuple[float, ...] = tuple(about["mean"])
        self.std: tuple[float, ...] = tuple(about["std"])
        self.frozen = _frozen_names(self.net, config.freeze)
        self.freeze()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits.

        Parameters
        ----------
        images
            ``(B, 3, H, W)``: uint8 tiles of any side, or float32 as ``prepared`` gives them.

        Returns
        -------
        torch.Tensor
            ``(B,)`` with a single logit, else ``(B, C)``.
        """
        if images.dtype == torch.uint8:
            images = self.prepared(resized(self.stained(images), self.config.image_px))
        logits: torch.Tensor = self.net(images)
        return logits.squeeze(1) if self.is_single else logits

    def stained(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 tiles with their stain normalised, if the configuration says so."""
        if self.config.stain == "none":
            return images
        return normalizer(self.config.stain)(images)

    def prepared(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 images as the float32 numbers that the backbone takes."""
        return normalised(images, self.mean, self.std)

    def freeze(self) -> None:
        """Let what is frozen have no gradient."""
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(name not in self.frozen)

    def unfreeze(self) -> None:
        """Let everything be trained, as before."""
        self.frozen = frozenset()
        self.freeze()

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  torch's signature
        """Go to training mode, but for what is frozen."""
        super().train(mode)
        if mode:
            for module in self.net.modules():
                parameters = list(module.parameters())
                if parameters and not any(each.requires_grad for each in parameters):
                    module.eval()
        return self

    @property
    def head_names(self) -> frozenset[str]:
        """Names of the head's parameters in ``net``."""
        return _head_names(self.net)


def make_model(config: ModelConfig, classes: int, *, fresh: bool = True) -> Network:
    """Return a network with its first weights.

    Parameters
    ----------
    classes
        How many.
    fresh
        Whether pretrained weights are loaded; one that goes on from a checkpoint needs none.

    Raises
    ------
    ConfigError
        timm has no such model, or it does not take the settings, or its weights cannot be had.
    """
    network = Network(config, classes)
    if fresh and config.pretrained:
        load_pretrained(network)
    return network


def load_pretrained(network: Network) -> tuple[str, ...]:
    """Give a network the weights that its configuration names; return the keys that were left out.

    Raises
    ------
    ConfigError
        They cannot be had, or are of another network.
    """
    config = network.config
    if isinstance(config.pretrained, str):
        given = read_weights(Path(config.pretrained))
    else:
        given = _from_hub(network)
    weights, left_out = fitting(
        given, network.net.state_dict(), head=network.head_names, where=_source(config)
    )
    network.net.load_state_dict(weights, strict=False)
    _LOGGER.info("%s: weights taken but for %s", _source(config), ", ".join(left_out) or "none")
    return left_out


def parameter_groups(network: Network, *, weight_decay: float) -> list[dict[str, Any]]:
    """Return what the optimiser takes: weights, and biases and norms without decay.

    What is frozen for good is left out. What is unfrozen later has a group, and a learning rate, of its own.
    ``share`` is a group's learning rate as a share of that of the step.
    """
    config = network.config
    groups = []
    for late in (False, True):
        share = config.unfreeze_lr if late else 1.0
        for decays in (True, False):
            chosen = list(_chosen(network, late=late, decays=decays))
            if chosen:
                decay = weight_decay if decays else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "share": share})
    return groups


def _chosen(network: Network, *, late: bool, decays: bool) -> Iterator[nn.Parameter]:
    for name, parameter in network.net.named_parameters():
        is_late = name in network.frozen
        if is_late and network.config.unfreeze_epoch is None:
            continue
        if is_late == late and (parameter.ndim > 1) == decays:
            yield parameter


def _backbone(config: ModelConfig, *, logits: int) -> Any:  # noqa: ANN401  timm has no types
    """Return timm's model with fresh weights.

    Raises
    ------
    ConfigError
        There is none, or it does not take a setting.
    """
    if not timm.is_model(config.name):
        near = timm.list_models(f"*{config.name[:6]}*")[:3]
        hint = f"; there are {', '.join(near)}" if near else ""
        raise ConfigError(f"model.name: expected a model of timm, got {config.name}{hint}")
    options: dict[str, Any] = {"num_classes": logits, "drop_rate": config.dropout}
    if config.stochastic_depth:
        options["drop_path_rate"] = config.stochastic_depth
    about = timm.get_pretrained_cfg(config.name, allow_unregistered=True)
    if about is not None and about.fixed_input_size:
        options["img_size"] = config.image_px
    try:
        return timm.create_model(config.name, pretrained=False, **options)
    except TypeError as error:
        raise ConfigError(_refused(config, error)) from error


def _refused(config: ModelConfig, error: TypeError) -> str:
    names = {"drop_path_rate": "stochastic_depth", "drop_rate": "dropout", "img_size": "image_px"}
    named = re.search(r"'(\w+)'", str(error))
    ours = names.get(named[1]) if named else None
    if ours is None:
        return f"model.name: timm cannot make {config.name}: {error}"
    return f"model.{ours}: {config.name} has none; set it to 0"


def _head_names(net: Any) -> frozenset[str]:  # noqa: ANN401  timm has no types
    """Return the names of the parameters of what timm calls the classifier."""
    named = net.pretrained_cfg["classifier"]
    heads = (named,) if isinstance(named, str) else tuple(named)
    return frozenset(
        name
        for name, _ in net.named_parameters()
        if any(name.startswith(f"{head}.") for head in heads)
    )


def _frozen_names(net: Any, asked: tuple[str, ...]) -> frozenset[str]:  # noqa: ANN401  timm has no types
    """Return the names of the parameters that words of ``ModelConfig.freeze`` mean.

    Raises
    ------
    ConfigError
        A word means none of them, or nothing is left to train.
    """
    names = [name for name, _ in net.named_parameters()]
    head = _head_names(net)
    frozen: set[str] = set()
    for word in asked:
        found = {name for name in names if _means(word, net)(name)}
        found -= head if word == BACKBONE or word.isdigit() else set()
        if not found:
            raise ConfigError(
                f"model.freeze: {word} means no part of the network; expected backbone, a number of stages "
                f"of 0 to {len(_stages(net)) - 1}, or a pattern of names such as {names[0]}"
            )
        frozen |= found
    if asked and frozen.issuperset(names):
        raise ConfigError("model.freeze: nothing is left to train; leave the head out of it")
    return frozenset(frozen)


def _means(word: str, net: Any) -> Callable[[str], bool]:  # noqa: ANN401  timm has no types
    """Return whether a name is meant by a word."""
    if word == BACKBONE:
        return lambda _: True
    if word.isdigit():
        stages = _stages(net)[: int(word) + 1]
        inside = {name for stage in stages for name in stage}
        return inside.__contains__
    return lambda name: fnmatchcase(name, word)


def _stages(net: Any) -> list[list[str]]:  # noqa: ANN401  timm has no types
    """Return the names of the stem's parameters and of every stage's, from the image on."""
    grouped: Mapping[int, list[str]] = group_parameters(net, net.group_matcher(coarse=True))
    return [grouped[number] for number in sorted(grouped)]


def _from_hub(network: Network) -> NamedWeights:
    """Return timm's own weights of a model.

    Raises
    ------
    ConfigError
        There are none, or the hub does not answer.
    """
    name = network.config.name
    if not timm.is_model_pretrained(name):
        raise ConfigError(
            f"model.pretrained: timm has no weights of {name}; give a file of them, or false"
        )
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:
        raise ConfigError(
            f"model.pretrained: the weights of {name} cannot be had from timm's hub "
            f"({_first_line(error)}); download them where there is a network and give the file, or train "
            "from scratch with pretrained: false"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _source(config: ModelConfig) -> str:
    return config.pretrained if isinstance(config.pretrained, str) else "timm's hub"
