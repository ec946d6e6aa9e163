"""Terms of a loss: they add up, mean over weights, agree with torch's own, and bear hostile numbers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra train")

from torch.nn import functional  # noqa: E402

from wsi_pipeline.config import make_config  # noqa: E402
from wsi_pipeline.errors import ConfigError  # noqa: E402
from wsi_pipeline.train.loss_config import LossConfig  # noqa: E402
from wsi_pipeline.train.losses import Loss  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("benign", "cancer", "pen", "fold")

SETTINGS = st.fixed_dictionaries(
    {"rare": st.just(["cancer"])},
    optional={
        "smoothing": st.sampled_from([0.0, 0.1]),
        "decoupling": st.sampled_from([0.0, 0.01, 1.0]),
        "decoupling_reduction": st.sampled_from(["batch", "class_mean"]),
        "margin": st.sampled_from([0.0, 0.5]),
        "margin_classes": st.sampled_from(["all", "rare"]),
        "focal": st.sampled_from([0.0, 0.5, 2.0]),
        "focal_classes": st.sampled_from(["all", "common"]),
    },
)
HEADS = st.sampled_from([0, 2, 3])
"""Logits of a tile; 0 is a single one, without an axis."""

seeds = st.integers(0, 9999)


def batch_of(seed: int, head: int, tiles: int) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    shape = (tiles, head) if head else (tiles,)
    logits = 4 * torch.randn(shape, generator=generator, dtype=torch.float64)
    targets = torch.randint(max(head, 2), (tiles,), generator=generator)
    weights = torch.randint(0, 4, (tiles,), generator=generator).double()
    return logits, targets, weights


def loss_of(head: int = 0, **values: object) -> Loss:
    return Loss(make_config(LossConfig, values), NAMES[: max(head, 2)])


def total(terms: dict[str, Any]) -> Any:  # noqa: ANN401
    return sum(terms.values())


def close(left: Any, right: Any) -> bool:  # noqa: ANN401
    return bool(torch.allclose(left.double(), right.double(), rtol=1e-9, atol=1e-12))


@given(SETTINGS, HEADS, seeds, st.integers(1, 12))
def test_the_order_of_tiles_changes_nothing(
    values: dict[str, object], head: int, seed: int, tiles: int
) -> None:
    loss, batch = loss_of(head, **values), batch_of(seed, head, tiles)
    order = torch.randperm(tiles, generator=torch.Generator().manual_seed(seed))
    logits, targets, weights = (each[order] for each in batch)
    assert close(total(loss(*batch)), total(loss(logits, targets, weights)))


@given(SETTINGS, HEADS, seeds, st.integers(1, 12))
def test_a_weight_counts_as_that_many_tiles(
    values: dict[str, object], head: int, seed: int, tiles: int
) -> None:
    loss, (logits, targets, weights) = loss_of(head, **values), batch_of(seed, head, tiles)
    times = weights.long()
    many_logits, many_targets = (each.repeat_interleave(times, dim=0) for each in (logits, targets))
    found = loss(many_logits, many_targets, torch.ones(int(times.sum())))
    for name, term in loss(logits, targets, weights).items():
        assert close(term, found[name])


@given(SETTINGS, HEADS, seeds, st.sampled_from([torch.inf, -torch.inf, torch.nan, 1e30]))
def test_what_only_fills_a_batch_up_contributes_nothing_whatever_it_is(
    values: dict[str, object], head: int, seed: int, hostile: float
) -> None:
    loss, (logits, targets, weights) = loss_of(head, **values), batch_of(seed, head, 6)
    weights[1], weights[4] = 0, 0
    logits[1], logits[4] = hostile, hostile
    targets[1] = 99
    logits.requires_grad_()
    found = total(loss(logits, targets, weights))
    found.backward()
    kept = torch.tensor([0, 2, 3, 5])
    assert close(found, total(loss(logits.detach()[kept], targets[kept], weights[kept])))
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[[1, 4]].abs().sum() == 0


@given(SETTINGS, HEADS, seeds)
def test_a_batch_without_weight_costs_nothing_and_teaches_nothing(
    values: dict[str, object], head: int, seed: int
) -> None:
    logits, targets, _ = batch_of(seed, head, 5)
    logits.requires_grad_()
    found = total(loss_of(head, **values)(logits, targets, torch.zeros(5)))
    found.backward()
    assert found.item() == 0
    assert logits.grad.abs().sum() == 0


@given(SETTINGS, HEADS, seeds, st.sampled_from([1e2, 1e4, 1e6]))
def test_slopes_stay_finite_at_extreme_logits(
    values: dict[str, object], head: int, seed: int, size: float
) -> None:
    logits, targets, _ = batch_of(seed, head, 8)
    extreme = (logits.sign() * size).float().requires_grad_()
    found = total(loss_of(head, **values)(extreme, targets, torch.ones(8)))
    found.backward()
    assert torch.isfinite(found)
    assert torch.isfinite(extreme.grad).all()


@given(SETTINGS, seeds)
def test_one_logit_is_the_difference_of_two(values: dict[str, object], seed: int) -> None:
    logits, targets, weights = batch_of(seed, 0, 7)
    two = torch.stack((0.3 - logits / 2, 0.3 + logits / 2), dim=1)
    loss = loss_of(2, **values)
    name = loss.names[0]
    assert close(loss(logits, targets, weights)[name], loss(two, targets, weights)[name])


@given(HEADS, seeds)
def test_cross_entropy_is_torch_s_own(head: int, seed: int) -> None:
    logits, targets, _ = batch_of(seed, head, 9)
    if head:
        expected = functional.cross_entropy(logits, targets)
    else:
        expected = functional.binary_cross_entropy_with_logits(logits, targets.double())
    found = loss_of(head)(logits, targets, torch.ones(9))
    assert list(found) == ["cross_entropy"]
    assert close(found["cross_entropy"], expected)


@given(seeds, st.sampled_from([2, 3, 4]), st.floats(0, 0.9))
def test_smoothing_is_torch_s_own(seed: int, head: int, share: float) -> None:
    logits, targets, _ = batch_of(seed, head, 9)
    found = loss_of(head, smoothing=share)(logits, targets, torch.ones(9))["cross_entropy"]
    assert close(found, functional.cross_entropy(logits, targets, label_smoothing=share))


@given(HEADS, seeds)
def test_numbers_of_classes_and_their_shares_are_the_same_target(head: int, seed: int) -> None:
    logits, targets, weights = batch_of(seed, head, 6)
    loss = loss_of(head, decoupling=0.1, focal=2.0, margin=0.5, smoothing=0.1)
    shares = functional.one_hot(targets, max(head, 2)).double()
    assert close(total(loss(logits, targets, weights)), total(loss(logits, shares, weights)))


def test_class_weights_multiply_the_cross_entropy_alone() -> None:
    logits, targets = torch.tensor([1.0, 1.0]).double(), torch.tensor([0, 1])
    plain = loss_of(decoupling=0.1)
    loss = loss_of(decoupling=0.1, class_weights={"benign": 3.0, "cancer": 0.0})
    terms, others = (each(logits, targets, torch.ones(2)) for each in (loss, plain))
    benign = functional.softplus(torch.tensor(1.0).double())
    assert close(terms["cross_entropy"], 3 * benign / 2)
    assert close(terms["decoupling"], others["decoupling"])


def test_balanced_weights_make_a_part_as_rare_as_the_training_part_even() -> None:
    tiles = {"benign": 9, "cancer": 1}
    loss = Loss(LossConfig(class_weights="balanced"), NAMES[:2], tiles=tiles)
    flat = torch.zeros(10, requires_grad=True)
    total(loss(flat, torch.tensor([0] * 9 + [1]), torch.ones(10))).backward()
    assert flat.grad.sum().item() == pytest.approx(0, abs=1e-7)


@given(seeds)
def test_a_margin_is_taken_from_the_target_s_logit(seed: int) -> None:
    logits, targets, weights = batch_of(seed, 3, 8)
    shifted = logits - 0.7 * functional.one_hot(targets, 3).double()
    found = loss_of(3, margin=0.7)(logits, targets, weights)
    assert close(total(found), total(loss_of(3)(shifted, targets, weights)))


@given(seeds)
def test_an_asymmetric_margin_is_taken_from_rare_tiles_alone(seed: int) -> None:
    logits, targets, weights = batch_of(seed, 0, 8)
    shifted = torch.where(targets == 1, logits - 0.7, logits)
    found = loss_of(margin=0.7, margin_classes="rare")(logits, targets, weights)
    assert close(total(found), total(loss_of()(shifted, targets, weights)))


@given(seeds, st.sampled_from([1.0, 2.0, 4.0]))
def test_focal_damps_by_what_is_left_to_learn(seed: int, power: float) -> None:
    logits, targets, _ = batch_of(seed, 3, 8)
    q = torch.softmax(logits, 1)[torch.arange(8), targets]
    expected = (-((1 - q + 1e-6) ** power) * q.log()).mean()
    found = loss_of(3, focal=power)(logits, targets, torch.ones(8))
    assert list(found) == ["focal"]
    assert close(found["focal"], expected)


def test_asymmetric_focal_does_not_damp_the_rare_class() -> None:
    logits, targets = torch.tensor([3.0, -3.0]).double(), torch.tensor([1, 0])
    loss = loss_of(focal=4.0, focal_classes="common")
    rare, common = (
        total(loss(logits[[place]], targets[[place]], torch.ones(1))) for place in (0, 1)
    )
    plain = functional.softplus(torch.tensor(-3.0).double())
    left = 1e-6 + torch.sigmoid(torch.tensor(-3.0).double())
    assert close(rare, plain)
    assert close(common, left**4 * plain)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_terms_are_float32_under_autocast(kind: Any) -> None:  # noqa: ANN401
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(16, 8, generator=generator)
    head = torch.nn.Linear(8, 1)
    targets, weights = torch.arange(16) % 2, torch.ones(16)
    loss = loss_of(decoupling=0.1, margin=0.5, focal=2.0)
    with torch.autocast("cpu", kind):
        logits = head(features)[:, 0]
        found = loss(logits, targets, weights)
    assert logits.dtype == kind
    assert {term.dtype for term in found.values()} == {torch.float32}
    outside = loss(logits.float(), targets, weights)
    assert all(torch.equal(found[name], outside[name]) for name in found)
    total(found).backward()
    assert torch.isfinite(head.weight.grad).all()


def test_the_square_of_a_logit_of_half_precision_does_not_overflow() -> None:
    logits = torch.tensor([60000.0], dtype=torch.float16)
    found = loss_of(decoupling=1.0)(logits, torch.tensor([1]), torch.ones(1))["decoupling"]
    assert float(found) == pytest.approx(1.8e9, rel=1e-3)


@pytest.mark.parametrize(
    ("head", "shape"), [(3, (4,)), (3, (4, 2)), (2, (4, 3)), (2, (4, 1)), (2, (4, 2, 2))]
)
def test_logits_of_other_classes_are_refused(head: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="make the network's head for these classes"):
        loss_of(head)(torch.zeros(shape), torch.zeros(4).long(), torch.ones(4))


@pytest.mark.parametrize("shape", [(3,), (4, 3), (4, 1)])
def test_targets_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="targets: expected"):
        loss_of()(torch.zeros(4), torch.zeros(shape), torch.ones(4))


@pytest.mark.parametrize("number", [-1, 2])
def test_a_number_that_is_no_class_is_refused(number: int) -> None:
    with pytest.raises(ConfigError, match=f"targets: expected numbers from 0 to 1, got {number}"):
        loss_of()(torch.zeros(2), torch.tensor([0, number]), torch.ones(2))


def test_targets_that_are_measured_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="targets: expected whole numbers of benign, cancer"):
        loss_of()(torch.zeros(2), torch.tensor([0.0, 0.5]), torch.ones(2))


@pytest.mark.parametrize("classes", [(), ("benign",)])
def test_less_than_two_classes_are_refused(classes: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="classes: expected two or more"):
        Loss(LossConfig(), classes)


@given(SETTINGS, HEADS)
def test_terms_are_named_before_there_is_a_batch(values: dict[str, object], head: int) -> None:
    loss = loss_of(head, **values)
    assert tuple(loss(*batch_of(1, head, 3))) == loss.names


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_terms_are_the_same_and_nothing_waits_for_it() -> None:
    logits, targets, weights = (each.cuda() for each in batch_of(1, 3, 64))
    loss = loss_of(3, decoupling=0.1, focal=2.0, margin=0.5, smoothing=0.1)
    loss(logits, targets, weights)  # puts its numbers there
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = loss(logits, targets, weights)
        wrong = loss(logits, targets + 3, weights)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert close(total(found).cpu(), total(loss(logits.cpu(), targets.cpu(), weights.cpu())))
    assert total(wrong).isnan()
