"""UniformAugment: a few operations at random, each applied or not, at a magnitude from its whole range.

LingChen, Khonsari, Lashkari, Rafi Nazari, Sambee and Nascimento, "UniformAugment: A Search-free Probabilistic
Data Augmentation Approach" (arXiv 2003.14348); operations and ranges as in its published reimplementation,
whose source is AutoAugment's. On a GPU every operation is carried out once for all images of a batch that
have it, on a CPU image by image; both give the same bits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.augment import moves, on_cpu, tone
from wsi_pipeline.augment.config import OPERATIONS, Ranges
from wsi_pipeline.augment.draws import Draws
from wsi_pipeline.augment.groups import Change, changed_by_group
from wsi_pipeline.augment.tone import Values
from wsi_pipeline.geometry import Rgb

Operation = Callable[[torch.Tensor, Values], torch.Tensor]
"""Of uint8 images ``(n, 3, H, W)`` and their values ``(n, k)``; gives as many images."""

CARRIED_OUT: Mapping[str, Operation] = {
    "shear_x": moves.shear_x,
    "shear_y": moves.shear_y,
    "translate_x": moves.translate_x,
    "translate_y": moves.translate_y,
    "rotate": moves.rotate,
    "autocontrast": tone.autocontrast,
    "invert": tone.invert,
    "equalize": tone.equalize,
    "solarize": tone.solarize,
    "posterize": tone.posterize,
    "contrast": tone.contrast,
    "color": tone.color,
    "brightness": tone.brightness,
    "sharpness": tone.sharpness,
    "cutout": moves.cutout,
}
"""Every operation of ``config.OPERATIONS`` on many images; on one, ``on_cpu.CARRIED_OUT``."""

_PER_STEP = 5
"""Numbers drawn for a step: which operation, whether it is applied, and three that it may need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation of every image of a batch."""

    operations: NDArray[np.intp]
    """Its place among the names, ``(B,)``; -1 for none."""
    units: Values
    """From 0 to below 1, ``(B, 3)``: where in the operation's ranges its values lie."""


def planned_steps(draws: Draws, *, names: Sequence[str], most: int) -> tuple[Step, ...]:
    """Return what is done to the images of a batch one after another.

    An operation is drawn with replacement. That it is applied with a probability that is itself drawn from 0
    to 1, anew for each, is a coin's toss. What is not applied comes last, so that more images have an
    operation at the same step.
    """
    drawn = draws.uniform("uniform_augment", most * _PER_STEP).double().cpu().numpy()
    steps = drawn.reshape(len(draws), most, _PER_STEP)  # (image, step, number)
    order = np.argsort(steps[:, :, 1] >= 0.5, axis=1, kind="stable")
    steps = np.take_along_axis(steps, order[..., None], axis=1)
    chosen = (steps[:, :, 0] * len(names)).astype(np.intp)
    chosen[steps[:, :, 1] >= 0.5] = -1
    return tuple(Step(operations=chosen[:, at], units=steps[:, at, 2:]) for at in range(most))


def uniform_augmented(
    images: torch.Tensor, draws: Draws, *, names: Sequence[str], most: int
) -> torch.Tensor:
    """Return images after UniformAugment.

    Parameters
    ----------
    images
        uint8 ``(B, 3, H, W)``; contiguous, or on a CPU in any memory format, which the result has too.
    draws
        Of the images, on the CPU.
    names
        Operations to choose from, of ``config.OPERATIONS``.
    most
        Operations of an image at the most; half as many on average.
    """
    steps = planned_steps(draws, names=names, most=most)
    carried_out = image_by_image if images.device.type == "cpu" else all_at_once
    return carried_out(images, steps, names)


def all_at_once(images: torch.Tensor, steps: Sequence[Step], names: Sequence[str]) -> torch.Tensor:
    """Return contiguous images ``(B, 3, H, W)`` after each step: an operation, all images that have it."""
    changed = list(images.unbind(0))
    for step in steps:
        changes = {number: _change(name, step.units) for number, name in enumerate(names)}
        changed = changed_by_group(changed, step.operations, changes)
    return torch.stack(changed)


def image_by_image(
    images: torch.Tensor, steps: Sequence[Step], names: Sequence[str]
) -> torch.Tensor:
    """Return images ``(B, 3, H, W)`` of a CPU, in any memory format, after each step; in that format too."""
    made = torch.empty_like(images)
    given, places = (each.permute(0, 2, 3, 1).numpy() for each in (images, made))
    with on_cpu.one_thread():
        for at, image in enumerate(given):
            planned = [step for step in steps if step.operations[at] >= 0]
            if planned:
                on_cpu.written(_changed(on_cpu.unpacked(image), planned, at, names), places[at])
            else:
                places[at] = image
    return made


def _changed(picture: Rgb, steps: Sequence[Step], at: int, names: Sequence[str]) -> Rgb:
    """Return the picture of place ``at`` in the batch after each step."""
    for step in steps:
        name = names[step.operations[at]]
        units = zip(OPERATIONS[name], step.units[at].tolist(), strict=False)
        values = [low + unit * (high - low) for (low, high), unit in units]
        picture = on_cpu.CARRIED_OUT[name](picture, *values)
    return picture


def _change(name: str, units: Values) -> Change:
    return partial(_carried_out, CARRIED_OUT[name], OPERATIONS[name], units)


def _carried_out(
    operation: Operation,
    ranges: Ranges,
    units: Values,
    images: torch.Tensor,
    places: NDArray[np.intp],
) -> torch.Tensor:
    low, high = np.array(ranges, np.float64).reshape(-1, 2).T
    return operation(images, low + units[places, : len(ranges)] * (high - low))
