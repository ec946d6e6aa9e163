"""Weights from files: of timm, of a checkpoint of ours, with another head or with a prefix."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file

from wsi_pipeline.config import first_of
from wsi_pipeline.errors import ConfigError

NamedWeights: TypeAlias = dict[str, torch.Tensor]

_INSIDE = ("network", "state_dict_ema", "model_ema", "state_dict", "model")
"""Keys under which programs keep the weights in a checkpoint; averaged ones first, as timm does."""

_BEFORE = ("module.", "_orig_mod.", "net.", "backbone.")
"""What programs put before every name: DistributedDataParallel, torch.compile, our own network."""

_NAMED = 5
"""Keys that a message shows."""


def read_weights(path: Path) -> NamedWeights:
    """Return the weights in a file by name.

    Raises
    ------
    ConfigError
        It is not there, is no file of weights, or holds more than numbers.
    """
    if not path.is_file():
        raise ConfigError(f"model.pretrained: expected a file of weights, {path} is none")
    try:
        content = _content(path)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"model.pretrained: {path} cannot be read as weights ({_first_line(error)}); expected what "
            "torch.save wrote of a state_dict, or .safetensors"
        ) from error
    return _unpacked(content, path)


def fitting(
    given: NamedWeights, wanted: Mapping[str, torch.Tensor], *, head: frozenset[str], where: str
) -> tuple[NamedWeights, tuple[str, ...]]:
    """Return the weights that a network takes, and the names of those of heads, which it does not.

    Parameters
    ----------
    given
        From a file.
    wanted
        The network's own, whose shapes count.
    head
        Names of its head, which keeps its fresh weights.
    where
        What the weights are from, for the message.

    Raises
    ------
    ConfigError
        The backbone is another one; the message names what is lacking or of another shape.
    """
    backbone = {name: each for name, each in wanted.items() if name not in head}
    lacking = [name for name in backbone if name not in given and not _may_lack(name)]
    other = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(each.shape)}"
        for name, each in backbone.items()
        if name in given and given[name].shape != each.shape
    ]
    if lacking or other:
        raise ConfigError(
            f"model.pretrained: the weights of {where} are of another network: {_several(lacking, 'lacking')}"
            f"{'; ' if lacking and other else ''}{_several(other, 'of another shape')}; take the file of "
            "this model, or another model.name"
        )
    taken = {name: given[name] for name in backbone if name in given}
    return taken, tuple(name for name in given if name not in taken)


def _may_lack(name: str) -> bool:
    """Whether a name is a counter of batches, which old files do not have and nothing here reads."""
    return name.endswith("num_batches_tracked")


def _content(path: Path) -> Any:  # noqa: ANN401  whatever is in the file
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _unpacked(content: Any, path: Path) -> NamedWeights:  # noqa: ANN401  whatever is in the file
    """Return weights by the names that timm gives them."""
    while isinstance(content, Mapping) and (inside := _inside(content)) is not None:
        content = inside
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(
            f"model.pretrained: {path} holds no weights by name; expected a state_dict"
        )
    named = {str(name): each for name, each in content.items() if isinstance(each, torch.Tensor)}
    for prefix in _BEFORE:
        if named and all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): each for name, each in named.items()}
    return named


def _inside(content: Mapping[str, Any]) -> Any:  # noqa: ANN401  whatever is in the file
    found = (content.get(name) for name in _INSIDE)
    return next((each for each in found if isinstance(each, Mapping)), None)


def _several(texts: list[str], what: str) -> str:
    return f"{what}: {first_of(texts, _NAMED)}" if texts else ""


def _first_line(error: Exception) -> str:
    if isinstance(
        error, pickle.UnpicklingError
    ):  # torch's own text advises to run what is in the file
        return "it is damaged or holds more than numbers"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
