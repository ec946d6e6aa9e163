"""The two moons of the gradient-starvation paper, drawn anew: one feature is enough, and two are better.

``python -m tests.unit.train.two_moons PICTURE.png`` draws what spectral decoupling does to a boundary.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray

from wsi_pipeline.train.loss_config import LossConfig
from wsi_pipeline.train.losses import Loss

CLASSES = ("lower", "upper")

ALONG = np.linspace(-1.7, 1.7, 137)
"""Where the height of a boundary is looked for."""

HEIGHTS = np.linspace(-0.9, 0.9, 361)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moons:
    """Points of both moons."""

    points: NDArray[np.float32]
    """``(points, 2)``: along, and height."""
    targets: NDArray[np.int64]
    """``(points,)``: 1 for the upper moon."""


def moons(points: int = 300, *, seed: int = 0, gap: float = 0.2, apart: bool = True) -> Moons:
    """Return two half circles that hold each other, by default folded apart.

    Apart, each moon's heights are mirrored to its own side of 0 and moved ``gap`` away from it: a straight
    line makes no mistake, and the shape along it is a second feature, which a network may leave unlearned.
    """
    random = np.random.default_rng(seed)
    targets = np.arange(points) % 2
    angles = random.uniform(0, np.pi, points)
    upper = np.stack((np.cos(angles) - 0.5, np.sin(angles) - 0.25), axis=1)
    moon = np.where(targets[:, None] == 1, upper, -upper) + random.normal(0, 0.1, (points, 2))
    along, height = moon[:, 0], moon[:, 1] / 2
    side = 2 * targets - 1
    height = side * (np.abs(height) + gap) if apart else height
    return Moons(points=np.stack((along, height), axis=1).astype(np.float32), targets=targets)


def trained(config: LossConfig, *, steps: int = 1200, hidden: int = 200) -> Any:  # noqa: ANN401
    """Return a network of one hidden layer that has learned the moons with this loss."""
    drawn = moons()
    points, targets = torch.from_numpy(drawn.points), torch.from_numpy(drawn.targets)
    network = torch.nn.Sequential(
        torch.nn.Linear(2, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1), torch.nn.Flatten(0)
    )
    generator = torch.Generator().manual_seed(0)
    for layer in (network[0], network[2]):
        for values in layer.parameters():
            bound = layer.in_features**-0.5
            torch.nn.init.uniform_(values, -bound, bound, generator=generator)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    loss = Loss(config, CLASSES)
    for _ in range(steps):
        optimiser.zero_grad()
        sum(loss(network(points), targets, torch.ones(len(points))).values()).backward()
        optimiser.step()
    return network


def logits(network: Any) -> NDArray[np.float32]:  # noqa: ANN401
    """Return the answer on the grid, ``(along, height)``."""
    grid = np.stack(np.meshgrid(ALONG, HEIGHTS, indexing="ij"), axis=-1).astype(np.float32)
    with torch.no_grad():
        answer: NDArray[np.float32] = network(torch.from_numpy(grid.reshape(-1, 2))).numpy()
    return answer.reshape(len(ALONG), len(HEIGHTS))


def boundary(network: Any) -> NDArray[np.float64]:  # noqa: ANN401
    """Return the height at which the logit changes its sign, nearest to 0, along the moons."""
    upper = logits(network) > 0
    changes = upper[:, 1:] != upper[:, :-1]
    far = np.where(changes, np.abs(HEIGHTS[:-1]), np.inf)
    assert np.isfinite(far.min(axis=1)).all(), "a column without a boundary"
    return np.asarray(HEIGHTS[far.argmin(axis=1)])


def bend(heights: NDArray[np.float64]) -> float:
    """Return how far a boundary is from its best straight line, root mean square."""
    line = np.polyval(np.polyfit(ALONG, heights, 1), ALONG)
    return float(np.sqrt(np.mean((heights - line) ** 2)))


def accuracy(network: Any, drawn: Moons) -> float:  # noqa: ANN401
    """Return the share of points on the right side."""
    with torch.no_grad():
        upper = network(torch.from_numpy(drawn.points)).numpy() > 0
    return float(np.mean(upper == (drawn.targets == 1)))


def draw(path: Path) -> None:
    """Draw the boundaries without and with decoupling beside each other."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the choice of what draws

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
    shown = {
        "cross-entropy": LossConfig(),
        "with decoupling, λ = 0.006": LossConfig(decoupling=0.006),
    }
    drawn = moons()
    for axis, (name, config) in zip(axes, shown.items(), strict=True):
        network = trained(config)
        height = boundary(network)
        axis.contourf(
            ALONG, HEIGHTS, logits(network).T, levels=[-99, 0, 99], colors=["#fbe3cf", "#d6e6f2"]
        )
        axis.plot(ALONG, height, color="black", linewidth=1.5)
        for label, colour in enumerate(("#c8590a", "#1f6fa8")):
            axis.scatter(*drawn.points[drawn.targets == label].T, s=8, color=colour)
        axis.set_title(f"{name}: bend {bend(height):.3f}", fontsize=10)
        axis.set_xlabel("along")
    axes[0].set_ylabel("height")
    figure.savefig(path, dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    torch.set_num_threads(1)
    draw(Path(sys.argv[1]))
