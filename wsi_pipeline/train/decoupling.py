"""Spectral decoupling: the penalty on logits, as pure functions.

Pezeshki et al., Gradient Starvation (NeurIPS 2021); Pohjonen et al., Spectral decoupling for training
transferable neural networks in medical imaging (iScience 2022), Eq. 1 and Eq. 2. Both with λ/2, as the papers
write it: their public code has no half, so its coefficient is half of λ.
"""

import torch

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.train.loss_config import DecouplingForm, Reduction


def form_of(form: DecouplingForm, logits: torch.Tensor) -> DecouplingForm:
    """Return the form for these logits, with ``auto`` resolved.

    Raises
    ------
    ConfigError
        The form is for the other kind of head.
    """
    alone = logits.dim() == 1
    if form == "auto":
        return "single" if alone else "all"
    if alone != (form == "single"):
        has = "one logit" if alone else f"{logits.shape[1]} logits"
        raise ConfigError(
            f"decoupling_form: expected a form for a network of {has}, got {form}; take auto, or another head"
        )
    return form


def penalties(
    logits: torch.Tensor, strengths: torch.Tensor, gammas: torch.Tensor, form: DecouplingForm
) -> torch.Tensor:
    """Return what every tile would cost if it were of each class, ``(B, C)``.

    With z the logits, λ and g (gamma) by class, c the class that the tile would be of and k every class:

    * ``single``: λ_c/2 (z - g_c)²
    * ``all``: λ_c/2 Σ_k (z_k - g_c)²
    * ``target``: λ_c/2 (z_c - g_c)²
    * ``column``: Σ_k λ_k/2 (z_k - g_k)², the same for each c

    Parameters
    ----------
    logits
        ``(B,)`` for ``single``, else ``(B, C)``.
    strengths, gammas
        λ and gamma, ``(C,)``.
    """
    if form == "single":
        return strengths / 2 * (logits[:, None] - gammas) ** 2
    if form == "all":
        # Σ(z - gamma)² by the spread around z's own mean, so that no (B, C, C) is needed and nothing cancels.
        mean = logits.mean(1, keepdim=True)
        spread = ((logits - mean) ** 2).sum(1, keepdim=True)
        return strengths / 2 * (spread + logits.shape[1] * (mean - gammas) ** 2)
    each = strengths / 2 * (logits - gammas) ** 2
    return each if form == "target" else each.sum(1, keepdim=True).expand_as(each)


def reduced(
    each: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, reduction: Reduction
) -> torch.Tensor:
    """Return the penalty of a batch.

    Parameters
    ----------
    each
        ``(B, C)``, from ``penalties``.
    labels
        ``(B, C)``: share of each class in a tile's target.
    weights
        ``(B,)``, 0 or more.
    reduction
        ``batch``: the mean over weights. ``class_mean``: the sum over classes of the mean over their own
        tiles; a class of which the batch has none is left out.
    """
    mass = labels * weights[:, None]
    if reduction == "batch":
        return (each * mass).sum() / positive(weights.sum())
    return ((each * mass).sum(0) / positive(mass.sum(0))).sum()


def positive(total: torch.Tensor) -> torch.Tensor:
    """Return a sum of weights to divide by: 1 for 0, where what is divided is 0 as well."""
    return torch.where(total > 0, total, torch.ones_like(total))
