"""What is minimised with a batch: named terms that add up, every mean over the tiles' weights.

>>> import torch
>>> from wsi_pipeline.train.loss_config import LossConfig
>>> loss = Loss(LossConfig(decoupling=0.01), ("benign", "cancer"))
>>> terms = loss(torch.tensor([2.0, -1.0]), torch.tensor([1, 0]), torch.ones(2))
>>> {name: round(float(term), 4) for name, term in terms.items()}
{'cross_entropy': 0.2201, 'decoupling': 0.0125}
"""

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional

from wsi_pipeline.errors import ConfigError
from wsi_pipeline.train.decoupling import form_of, penalties, positive, reduced
from wsi_pipeline.train.loss_config import LossConfig, per_class, rare_of, weights_of

NEARLY_NOTHING = 1e-6
"""Added to 1 - q in the focal loss, whose slope would else be infinite for powers below 1."""


class Loss:
    """Terms of a loss by name; their sum is what is minimised.

    Holds no weights to be learned. Terms are float32 (float64 for logits in it) also under autocast.
    """

    def __init__(
        self, config: LossConfig, classes: Sequence[str], *, tiles: Mapping[str, int] | None = None
    ) -> None:
        """Check the settings against the classes.

        Parameters
        ----------
        classes
            Names in order of their number, two or more; of two, the second is the positive one.
        tiles
            Of each class in the training part, for balanced class weights.

        Raises
        ------
        ConfigError
            The settings name other classes, or one without tiles.
        """
        if len(classes) < 2:
            raise ConfigError(
                f"classes: expected two or more, got {', '.join(classes) or 'none'}; choose other "
                "tiles or labels"
            )
        self.config = config
        self.classes = tuple(classes)
        rare = rare_of(config, classes)
        self._numbers = {
            "rare": tuple(map(float, rare)),
            "weights": weights_of(config, classes, tiles),
            "strengths": per_class("decoupling", config.decoupling, classes),
            "gammas": per_class("decoupling_gamma", config.decoupling_gamma, classes),
            "margins": margins_of(config, rare),
            "damped": damped_of(config, rare),
        }
        self._tables: dict[tuple[torch.device, torch.dtype], dict[str, torch.Tensor]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the terms: ``cross_entropy``, or ``focal``; and ``decoupling`` if it is on."""
        first = "focal" if self.config.focal else "cross_entropy"
        return (first, "decoupling") if self.config.decouples else (first,)

    def tables(self, beside: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the numbers of each class, ``(C,)``, of a tensor's device and type; made once for each.

        ``weights`` of the cross-entropy, ``strengths`` and ``gammas`` of decoupling, ``margins``; ``damped``
        and ``rare``, 1 for the classes that are.
        """
        place = (beside.device, beside.dtype)
        if place not in self._tables:
            self._tables[place] = {
                name: torch.tensor(values, device=beside.device, dtype=beside.dtype)
                for name, values in self._numbers.items()
            }
        return self._tables[place]

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return each term of a batch as a scalar.

        Parameters
        ----------
        logits
            ``(B,)`` of a single-logit head, the log odds of the second class, or ``(B, C)``; any float type.
        targets
            ``(B,)`` int64 numbers of classes, or ``(B, C)`` shares of each, which may sum to less than 1:
            what is missing has no loss.
        weights
            ``(B,)`` float, 0 or more; a tile of weight 0 contributes nothing, whatever its logits are. A
            batch without weight is 0.

        Raises
        ------
        ConfigError
            Logits or targets are not of these classes. On a device other than the CPU, where looking at
            targets would wait for it, a number that is no class makes its tile's loss NaN instead.
        """
        self._check(logits, targets)
        with torch.autocast(logits.device.type, enabled=False):
            counted = weights > 0
            shown = counted if logits.dim() == 1 else counted[:, None]
            precise = logits if logits.dtype == torch.float64 else logits.float()
            values = precise.masked_fill(~shown, 0)  # else 0 x infinity were NaN
            labels = label_shares(targets, len(self.classes), counted).to(values.dtype)
            mass = torch.where(counted, weights, 0).to(values.dtype)
            return self._terms(values, labels, mass)

    def _terms(
        self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        tables = self.tables(logits)
        config = self.config
        shifted = with_margin(logits, labels * tables["margins"]) if config.margin else logits
        wanted = smoothed(labels, config.smoothing) * tables["weights"]
        each = cross_entropies(shifted, power=config.focal, damped=tables["damped"]) * wanted
        terms = {self.names[0]: (each.sum(1) * weights).sum() / positive(weights.sum())}
        if config.decouples:
            form = form_of(config.decoupling_form, logits)
            cost = penalties(logits, tables["strengths"], tables["gammas"], form)
            terms["decoupling"] = reduced(cost, labels, weights, config.decoupling_reduction)
        return terms

    def _check(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        classes = len(self.classes)
        if logits.shape[1:] not in [(classes,), *([()] if classes == 2 else [])]:
            raise ConfigError(
                f"logits: expected (B, {classes}){' or (B,)' if classes == 2 else ''} for "
                f"{', '.join(self.classes)}, got {tuple(logits.shape)}; make the network's head "
                "for these classes"
            )
        if targets.shape not in [(len(logits),), (len(logits), classes)]:
            raise ConfigError(
                f"targets: expected ({len(logits)},) or ({len(logits)}, {classes}) beside the logits, "
                f"got {tuple(targets.shape)}"
            )
        if targets.dim() == 1 and targets.is_floating_point():
            raise ConfigError(
                f"targets: expected whole numbers of {', '.join(self.classes)}, got {targets.dtype}; "
                "choose a column of classes"
            )


def margins_of(config: LossConfig, rare: Sequence[bool]) -> tuple[float, ...]:
    """Return what is taken from the target's logit, by class."""
    everywhere = config.margin_classes == "all"
    return tuple(config.margin if everywhere or each else 0.0 for each in rare)


def damped_of(config: LossConfig, rare: Sequence[bool]) -> tuple[float, ...]:
    """Return 1 for classes whose focal loss is damped, else 0."""
    everywhere = config.focal_classes == "all"
    return tuple(float(everywhere or not each) for each in rare)


def label_shares(targets: torch.Tensor, classes: int, counted: torch.Tensor) -> torch.Tensor:
    """Return ``(B, C)`` shares of each class: targets that are so already, or 1 for the class's number.

    Rows that do not count are 0. Numbers that are no class are refused on the CPU and NaN elsewhere.
    """
    if targets.dim() == 2:
        return targets.masked_fill(~counted[:, None], 0)
    wrong = counted & ((targets < 0) | (targets >= classes))
    if targets.device.type == "cpu" and bool(wrong.any()):
        raise ConfigError(
            f"targets: expected numbers from 0 to {classes - 1}, got {int(targets[wrong][0])}; classes of "
            "the loss and of the tiles differ"
        )
    hot = targets[:, None] == torch.arange(classes, device=targets.device)
    shares = (hot & counted[:, None]).float()
    return shares.masked_fill(wrong[:, None], torch.nan)


def smoothed(labels: torch.Tensor, share: float) -> torch.Tensor:
    """Return labels of which a share is spread evenly over the classes (Szegedy et al. 2016)."""
    if not share:
        return labels
    return labels * (1 - share) + labels.sum(1, keepdim=True) * (share / labels.shape[1])


def with_margin(logits: torch.Tensor, margins: torch.Tensor) -> torch.Tensor:
    """Return logits from which the target's margin is taken (large margin).

    A single logit is the difference of two, so a margin of class 1 is taken and one of class 0 added.

    Parameters
    ----------
    margins
        ``(B, C)``: the class's margin times its share in the target.
    """
    return logits - (margins[:, 1] - margins[:, 0] if logits.dim() == 1 else margins)


def surprises(logits: torch.Tensor) -> torch.Tensor:
    """Return -log q of every class, ``(B, C)``; of a single logit, of both."""
    if logits.dim() == 1:
        return -functional.logsigmoid(torch.stack((-logits, logits), dim=1))
    return -functional.log_softmax(logits, dim=1)


def cross_entropies(logits: torch.Tensor, *, power: float, damped: torch.Tensor) -> torch.Tensor:
    """Return ``(B, C)``: the loss of a tile if it were of each class, -log q, damped where it is focal.

    Focal: -(1 - q + 1e-6)^power log q for the classes that are damped (Lin et al. 2017; asymmetric: Li et
    al., TMI 2021). Exact log-likelihoods take the place of Li's log(q + 1e-6), whose slope ends near 0.
    """
    surprise = surprises(logits)
    if not power:
        return surprise
    left = NEARLY_NOTHING - torch.expm1(-surprise)
    return (1 - damped + damped * left**power) * surprise
