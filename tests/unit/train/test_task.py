"""Steps of a batch: clean, adversarial, mixup; each from the tiles' keys alone."""

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from torch import nn  # noqa: E402

from wsi_pipeline.config import make_config  # noqa: E402
from wsi_pipeline.errors import ConfigError  # noqa: E402
from wsi_pipeline.train.adversarial import normalised, perturbation  # noqa: E402
from wsi_pipeline.train.loss_config import LossConfig  # noqa: E402
from wsi_pipeline.train.task import Task  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("benign", "cancer")
TILES = 8


def network(*, logits: int = 1) -> Any:  # noqa: ANN401
    """Return a small one with everything that has a state or draws random numbers."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3)]
    pooled = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, logits)]
    return nn.Sequential(*layers, *pooled, *([nn.Flatten(0)] if logits == 1 else []))


def batch() -> tuple[Any, Any, Any, Any]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(TILES, 3, 6, 6, generator=generator)
    keys = torch.randint(-(2**62), 2**62, (TILES,), generator=generator)
    return images, torch.arange(TILES) % 2, torch.ones(TILES), keys


def task_of(**values: object) -> Task:
    return Task(make_config(LossConfig, values), CLASSES)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, ("clean",)),
        ({"adversarial": 10.0}, ("clean", "adversarial")),
        ({"mixup": 0.2}, ("clean", "mixup")),
        ({"mixup": 0.2, "adversarial": 10.0}, ("clean", "adversarial", "mixup")),
        ({"mixup": 0.2, "clean_step": False}, ("mixup",)),
    ],
)
def test_each_method_has_a_step_of_its_own(
    values: dict[str, object], names: tuple[str, ...]
) -> None:
    task = task_of(**values, decoupling=0.1)
    assert task.phase_names == names
    phases = list(task.phases(network(), *batch()))
    assert [name for name, _ in phases] == list(names)
    for _, terms in phases:
        assert list(terms) == ["cross_entropy", "decoupling"]
        assert all(term.dim() == 0 and torch.isfinite(term) for term in terms.values())


def test_a_later_step_sees_the_weights_that_an_earlier_one_has_left() -> None:
    model = network().eval()
    phases = task_of(mixup=0.2).phases(model, *batch())
    next(phases)
    with torch.no_grad():
        model[6].weight.zero_()
        model[6].bias.zero_()
    _, terms = next(phases)
    assert terms["cross_entropy"].item() == pytest.approx(0.6931, abs=1e-4)


@pytest.mark.parametrize("logits", [1, 2])
def test_all_methods_together_learn(logits: int) -> None:
    model, data = network(logits=logits), batch()
    task = task_of(
        mixup=1.0,
        mixup_labels="rare",
        adversarial=0.5,
        margin=0.2,
        margin_classes="rare",
        focal=2.0,
        focal_classes="common",
        decoupling=0.001,
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    costs = []
    for _ in range(40):
        for name, terms in task.phases(model, *data):
            optimiser.zero_grad()
            sum(terms.values()).backward()
            optimiser.step()
            costs.append((name, sum(terms.values()).item()))
    clean = [cost for name, cost in costs if name == "clean"]
    assert clean[-1] < 0.5 * clean[0]


@pytest.mark.parametrize(
    "values", [{"mixup": 0.4}, {"mixup": 0.4, "mixup_labels": "rare"}, {"adversarial": 2.0}]
)
def test_what_fills_a_batch_up_changes_no_step(values: dict[str, object]) -> None:
    images, targets, weights, keys = batch()
    model = network().eval()
    alone = list(task_of(**values).phases(model, images, targets, weights, keys))
    filled = list(
        task_of(**values).phases(
            model,
            torch.cat((images, torch.full_like(images[:3], torch.nan))),
            torch.cat((targets, targets[:3])),
            torch.cat((weights, torch.zeros(3))),
            torch.cat((keys, keys[:3])),
        )
    )
    for (_, expected), (_, found) in zip(alone, filled, strict=True):
        for name, term in expected.items():
            assert found[name].item() == pytest.approx(term.item(), rel=1e-6)


@pytest.mark.parametrize("values", [{"mixup": 0.4}, {"adversarial": 2.0}])
def test_the_same_keys_give_the_same_steps_and_others_do_not(values: dict[str, object]) -> None:
    images, targets, weights, keys = batch()
    values = {**values, "clean_step": False, "adversarial_start": 1.0}
    model = network().eval()

    def cost(keys: Any) -> float:  # noqa: ANN401
        (_, terms), *_ = task_of(**values).phases(model, images, targets, weights, keys)
        return float(terms["cross_entropy"].detach())

    assert cost(keys) == cost(keys.clone())
    assert cost(keys) != cost(keys + 1)


def test_a_mixture_has_the_weight_of_its_parts() -> None:
    images, targets, _, keys = batch()
    weights = torch.linspace(0.5, 4, TILES)
    mixed, labels, mass = task_of(mixup=0.4).mixed(images, targets, weights, keys)
    assert mixed.shape == images.shape
    assert mass.min() >= 0.5
    assert mass.max() <= 4
    assert torch.allclose(labels.sum(1), torch.ones(TILES))


def test_the_adversarial_step_costs_more_and_changes_rare_tiles_alone() -> None:
    images, targets, weights, keys = batch()
    model = network().eval()
    (_, clean), (_, moved) = task_of(adversarial=3.0).phases(model, images, targets, weights, keys)
    assert moved["cross_entropy"] > clean["cross_entropy"]
    rare = torch.nn.functional.one_hot(targets, 2) * torch.tensor([0, 1])
    added = perturbation(model, images, rare, keys, length=3.0, start=1e-5)
    lengths = added.flatten(1).norm(dim=1)
    assert lengths[targets == 0].abs().max() == 0
    assert lengths[targets == 1].tolist() == pytest.approx([3.0] * (TILES // 2), rel=1e-3)


def test_a_perturbation_points_to_more_loss_of_every_image() -> None:
    images, targets, _, keys = batch()
    model = network(logits=2).eval()
    chosen = torch.nn.functional.one_hot(targets, 2).float()
    added = perturbation(model, images, chosen, keys, length=0.01, start=1e-5)
    each = nn.CrossEntropyLoss(reduction="none")
    with torch.no_grad():
        before, after, opposite = (
            each(model(images + sign * added), targets) for sign in (0, 1, -1)
        )
    assert bool((after > before).all())
    assert bool((opposite < before).all())


def test_finding_a_perturbation_leaves_no_trace_in_the_network() -> None:
    images, targets, _, keys = batch()
    model = network().train()
    model[1].eval()  # as a frozen part is
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    modes = [part.training for part in model.modules()]
    chosen = torch.nn.functional.one_hot(targets, 2).float()
    perturbation(model, images, chosen, keys, length=1.0, start=1e-5)
    assert modes == [part.training for part in model.modules()]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(values.grad is None for values in model.parameters())


def test_a_network_that_fails_gets_its_modes_back() -> None:
    model = network().train()
    images = torch.zeros(2, 5, 6, 6)  # of five channels
    with pytest.raises(RuntimeError, match="channels"):
        perturbation(model, images, torch.ones(2, 2), torch.arange(2), length=1.0, start=1.0)
    assert all(part.training for part in model.modules())


def test_an_image_s_perturbation_does_not_depend_on_its_batch() -> None:
    images, targets, _, keys = batch()
    model = network().train()
    chosen = torch.nn.functional.one_hot(targets, 2).float()
    together = perturbation(model, images, chosen, keys, length=1.0, start=1e-5)
    alone = perturbation(model, images[3:5], chosen[3:5], keys[3:5], length=1.0, start=1e-5)
    assert torch.allclose(together[3:5], alone, atol=1e-6)


def test_a_network_without_gradients_of_its_images_is_refused() -> None:
    class Frozen(nn.Module):
        def forward(self, images: Any) -> Any:  # noqa: ANN401
            return images.detach().mean((1, 2, 3))

    with pytest.raises(ConfigError, match="adversarial: expected a network that gives gradients"):
        list(task_of(adversarial=1.0).phases(Frozen(), *batch()))


def test_every_start_is_a_number_whatever_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    images, targets, _, _ = batch()
    chosen = torch.nn.functional.one_hot(targets, 2).float()
    for bits in (0, -1, 2**63 - 1, -(2**63)):
        drawn = torch.full((TILES, 3 * 6 * 6), bits)
        monkeypatch.setattr(
            "wsi_pipeline.augment.draws.Draws.bits",
            lambda _, __, count, drawn=drawn: drawn[:, :count],
        )
        keys = torch.arange(TILES)
        added = perturbation(network(), images, chosen, keys, length=1.0, start=1.0)
        assert torch.isfinite(added).all()


def test_directions_are_of_length_1_and_nothing_stays_nothing() -> None:
    values = torch.stack((torch.randn(3, 5, 5) * 1e-8, torch.zeros(3, 5, 5), torch.randn(3, 5, 5)))
    lengths = normalised(values).flatten(1).norm(dim=1).tolist()
    assert lengths == pytest.approx([1, 0, 1], abs=1e-4)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_steps_under_autocast_have_terms_of_float32_near_the_exact_ones(kind: Any) -> None:  # noqa: ANN401
    values = {"mixup": 0.4, "adversarial": 1.0, "decoupling": 0.1}
    model = network().eval()
    exact = list(task_of(**values).phases(model, *batch()))
    task = Task(make_config(LossConfig, values), CLASSES, autocast=kind)
    for (_, expected), (_, found) in zip(exact, task.phases(model, *batch()), strict=True):
        for name, term in found.items():
            assert term.dtype == torch.float32
            assert term.item() == pytest.approx(expected[name].item(), rel=0.05, abs=0.01)
