"""A batch to losses: the steps that are taken with it, and the terms of each."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch

from wsi_pipeline.train.adversarial import perturbation
from wsi_pipeline.train.loss_config import LossConfig
from wsi_pipeline.train.losses import Loss, label_shares
from wsi_pipeline.train.mixup import mixed_images, partners, rare_labels, shares, soft_labels

Phase: TypeAlias = tuple[str, dict[str, torch.Tensor]]


class Task:
    """Classification of tiles: what to minimise with a batch, in one step or several.

    Each phase is a step of the optimiser of its own: clean, then adversarial, then mixup (Li et al., TMI
    2021). Phases are made one after another: take the step of one before asking for the next, which then sees
    the weights as they are by then.
    """

    def __init__(
        self,
        config: LossConfig,
        classes: Sequence[str],
        *,
        tiles: Mapping[str, int] | None = None,
        autocast: "torch.dtype | None" = None,
    ) -> None:
        """Check the settings, as ``Loss`` does.

        Parameters
        ----------
        autocast
            Type in which the network runs, bfloat16 or float16; if none, what the caller has chosen.
        """
        self.config = config
        self.loss = Loss(config, classes, tiles=tiles)
        self._autocast = autocast

    @property
    def phase_names(self) -> tuple[str, ...]:
        """Of the steps that each batch makes."""
        on = {
            "clean": self.config.clean_step,
            "adversarial": self.config.adversarial > 0,
            "mixup": self.config.mixup > 0,
        }
        return tuple(name for name, is_on in on.items() if is_on)

    def phases(
        self,
        model: Any,  # noqa: ANN401  a torch.nn.Module
        images: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        keys: torch.Tensor,
    ) -> Iterator[Phase]:
        """Yield each step's name and its terms, whose sum is to be minimised.

        Parameters
        ----------
        model
            Images to logits ``(B,)`` or ``(B, C)``.
        images
            ``(B, 3, H, W)`` float, normalised and augmented.
        targets
            ``(B,)`` int64 numbers of classes.
        weights
            ``(B,)`` float; tiles of weight 0 only fill the batch up: they are mixed with none.
        keys
            ``(B,)`` int64 of the tiles in this epoch, on any device: all that is random follows from them.
        """
        for name in self.phase_names:
            if name == "clean":
                yield name, self.loss(self.logits(model, images), targets, weights)
            elif name == "adversarial":
                added = self._added(model, images, targets, weights, keys)
                yield name, self.loss(self.logits(model, images + added), targets, weights)
            else:
                mixed, labels, mass = self.mixed(images, targets, weights, keys)
                yield name, self.loss(self.logits(model, mixed), labels, mass)

    def logits(self, model: Any, images: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        """Return the network's answer, computed in the task's type."""
        context: AbstractContextManager[Any] = nullcontext()
        if self._autocast is not None:
            context = torch.autocast(images.device.type, self._autocast)
        with context:
            return model(images)

    def mixed(
        self,
        images: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        keys: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return mixtures of images, their targets ``(B, C)`` and weights ``(B,)``, mixed likewise."""
        labels = label_shares(targets, len(self.loss.classes), weights > 0)
        keys = keys.to(images.device, non_blocking=True)
        partner = partners(keys, weights)
        asymmetric = self.config.mixup_labels == "rare"
        most = 1 - self.config.mixup_margin if asymmetric else 1.0
        share = shares(keys, self.config.mixup, most=most)
        soft = soft_labels(labels, partner, share)
        if asymmetric:
            rare = self.loss.tables(soft)["rare"]
            soft = rare_labels(soft, rare > 0, margin=self.config.mixup_margin)
        mass = torch.lerp(weights[partner], weights, share.to(weights.dtype))
        return mixed_images(images, partner, share), soft, mass

    def _added(
        self,
        model: Any,  # noqa: ANN401
        images: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        keys: torch.Tensor,
    ) -> torch.Tensor:
        """Return the perturbation of the tiles that are to be changed."""
        chosen = label_shares(targets, len(self.loss.classes), weights > 0)
        if self.config.adversarial_classes == "rare":
            chosen = chosen * self.loss.tables(chosen)["rare"]
        return perturbation(
            model,
            images,
            chosen,
            keys,
            length=self.config.adversarial,
            start=self.config.adversarial_start,
        )
