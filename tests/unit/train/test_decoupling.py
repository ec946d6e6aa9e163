"""Spectral decoupling: where it lets a separable tile rest, its forms, and what others call the same."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra train")

from wsi_pipeline.config import make_config  # noqa: E402
from wsi_pipeline.errors import ConfigError  # noqa: E402
from wsi_pipeline.train.decoupling import form_of, penalties, reduced  # noqa: E402
from wsi_pipeline.train.loss_config import DecouplingForm, LossConfig  # noqa: E402
from wsi_pipeline.train.losses import Loss  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES = ("benign", "cancer")
EQ2 = {
    "decoupling": {"benign": 0.0969, "cancer": 0.000698},
    "decoupling_gamma": {"benign": 1.83, "cancer": 2.61},
}
"""The study's values, of its experiment with cutouts."""


def loss_of(**values: object) -> Loss:
    return Loss(make_config(LossConfig, values), CLASSES)


def lowest(function: Callable[[Any], Any], start: list[float]) -> Any:  # noqa: ANN401
    """Return where a convex function is least, by Newton's method with halved steps, in float64."""
    place = torch.tensor(start, dtype=torch.float64)
    for _ in range(200):
        slope = torch.autograd.functional.jacobian(function, place)
        curve = torch.autograd.functional.hessian(function, place)
        step = torch.linalg.solve(curve, slope)
        while function(place - step) > function(place):
            step = step / 2
            if float(step.abs().max()) < 1e-12:
                return place
        place = place - step
        if float(step.abs().max()) < 1e-10:
            return place
    raise AssertionError("no rest point was found")


def rest(loss: Loss, target: int, *, logits: int = 1) -> Any:  # noqa: ANN401
    """Return the logits at which a tile of this class, learned by heart, stays."""

    def minimised(values: Any) -> Any:  # noqa: ANN401
        answer = values if logits == 1 else values[None]
        return sum(loss(answer, torch.tensor([target]), torch.ones(1)).values())

    return lowest(minimised, [0.0] * logits)


def chance(logit: float) -> float:
    return float(torch.sigmoid(torch.tensor(logit, dtype=torch.float64)))


@pytest.mark.parametrize(
    ("strength", "logit", "probability"),
    [
        (1e-1, 1.6335, 0.8366),
        (1e-2, 3.3593, 0.9664),
        (1e-3, 5.2452, 0.9948),
        (1e-4, 7.2312, 0.9993),
        (1e-5, 9.2845, 0.9999),
        (1e-6, 11.3833, 1.0000),
    ],
)
def test_eq_1_lets_one_logit_rest_symmetrically(
    strength: float, logit: float, probability: float
) -> None:
    loss = loss_of(decoupling=strength)
    assert float(rest(loss, 1)) == pytest.approx(logit, abs=6e-5)
    assert float(rest(loss, 0)) == pytest.approx(-logit, abs=6e-5)
    assert chance(float(rest(loss, 1))) == pytest.approx(probability, abs=6e-5)


@pytest.mark.parametrize(
    ("strength", "margin", "probability"),
    [
        (1e-1, 2.1280, 0.8936),
        (1e-2, 3.9140, 0.9804),
        (1e-3, 5.8342, 0.9971),
        (1e-4, 7.8434, 0.9996),
        (1e-5, 9.9123, 1.0),
        (1e-6, 12.0219, 1.0),
    ],
)
def test_eq_1_lets_two_logits_rest_at_a_margin(
    strength: float, margin: float, probability: float
) -> None:
    apart = rest(loss_of(decoupling=strength), 1, logits=2)
    assert float(apart[1] - apart[0]) == pytest.approx(margin, abs=6e-5)
    assert float(apart.sum()) == pytest.approx(0, abs=1e-8)
    assert chance(margin) == pytest.approx(probability, abs=6e-5)


@pytest.mark.parametrize(
    ("coefficient", "logit"),
    [
        (1e-1, 1.1775),
        (1e-2, 2.8180),
        (1e-3, 4.6651),
        (1e-4, 6.6250),
        (1e-5, 8.6608),
        (1e-6, 10.7477),
    ],
)
def test_a_coefficient_without_the_half_is_half_of_lambda(coefficient: float, logit: float) -> None:
    assert float(rest(loss_of(decoupling=2 * coefficient), 1)) == pytest.approx(logit, abs=6e-5)


@pytest.mark.parametrize(
    ("target", "logit", "probability"), [(0, -0.9820, 0.2725), (1, 6.0341, 0.9976)]
)
def test_eq_2_of_the_study_keeps_benign_tiles_unsure_and_lets_cancer_go(
    target: int, logit: float, probability: float
) -> None:
    found = float(rest(loss_of(**EQ2), target))
    assert found == pytest.approx(logit, abs=6e-5)
    assert chance(found) == pytest.approx(probability, abs=6e-5)


@pytest.mark.parametrize(("target", "logit"), [(0, -0.9522), (1, 2.7895)])
@pytest.mark.parametrize("reduction", ["batch", "class_mean"])
def test_the_values_for_celeba_rest_where_they_should(
    target: int, logit: float, reduction: str
) -> None:
    loss = loss_of(
        decoupling=0.2,
        decoupling_gamma={"benign": 0.44, "cancer": 2.5},
        decoupling_reduction=reduction,
    )
    assert float(rest(loss, target)) == pytest.approx(logit, abs=6e-5)


@pytest.mark.parametrize(
    ("target", "margin", "probability"), [(0, 2.1512, 0.8958), (1, 6.1430, 0.9979)]
)
def test_eq_2_with_all_logits_drawn_to_their_class_gamma(
    target: int, margin: float, probability: float
) -> None:
    apart = rest(loss_of(**EQ2, decoupling_form="all"), target, logits=2)
    found = float(apart[target] - apart[1 - target])
    assert found == pytest.approx(margin, abs=6e-5)
    assert chance(found) == pytest.approx(probability, abs=6e-5)


def test_the_target_form_does_not_bound_the_margin() -> None:
    loss = loss_of(decoupling=0.1, decoupling_gamma=2.0, decoupling_form="target")
    costs = [
        float(
            sum(
                loss(
                    torch.tensor([[other, 2.0]]).double(), torch.ones(1).long(), torch.ones(1)
                ).values()
            )
        )
        for other in (0.0, -5.0, -10.0, -20.0, -30.0)
    ]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == len(costs)


def test_the_column_form_rests_where_its_two_equations_say() -> None:
    loss = loss_of(**EQ2, decoupling_form="column")
    benign, cancer = rest(loss, 1, logits=2).tolist()
    left = 1 - chance(cancer - benign)
    assert 0.0969 * (benign - 1.83) == pytest.approx(-left, abs=1e-8)
    assert 0.000698 * (cancer - 2.61) == pytest.approx(left, abs=1e-8)


@given(st.integers(1, 40), st.integers(2, 6), st.floats(1e-4, 10), st.integers(0, 99))
def test_domainbed_s_weight_is_lambda_times_half_the_classes(
    tiles: int, classes: int, weight: float, seed: int
) -> None:
    logits = torch.randn(tiles, classes, generator=torch.Generator().manual_seed(seed)).double()
    theirs = weight * (logits**2).mean()
    names = [f"class {number}" for number in range(classes)]
    loss = Loss(LossConfig(decoupling=2 * weight / classes), names)
    ours = loss(logits, torch.zeros(tiles).long(), torch.ones(tiles))["decoupling"]
    assert float(ours) == pytest.approx(float(theirs), rel=1e-12)


def test_class_mean_is_the_penalty_of_each_class_alone_added_up() -> None:
    logits = torch.tensor([0.5, 1.5, 3.0, -2.0, 0.1], dtype=torch.float64)
    targets = torch.tensor([0, 0, 1, 0, 1])
    loss = loss_of(
        decoupling=0.2,
        decoupling_gamma={"benign": 0.44, "cancer": 2.5},
        decoupling_reduction="class_mean",
    )
    benign, cancer = logits[targets == 0], logits[targets == 1]
    expected = 0.1 * ((benign - 0.44) ** 2).mean() + 0.1 * ((cancer - 2.5) ** 2).mean()
    found = loss(logits, targets, torch.ones(5))["decoupling"]
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


def written_out(
    form: DecouplingForm,
    z: Any,  # noqa: ANN401  a number, or several
    y: int,
    strengths: list[float],
    gammas: list[float],
) -> float:
    """Return the penalty of one tile of class ``y``, by the formula of its form."""
    if form == "single":
        terms = [(strengths[y], z - gammas[y])]
    elif form == "target":
        terms = [(strengths[y], z[y] - gammas[y])]
    elif form == "all":
        terms = [(strengths[y], each - gammas[y]) for each in z]
    else:
        terms = [(strengths[k], each - gammas[k]) for k, each in enumerate(z)]
    return float(sum(strength / 2 * away**2 for strength, away in terms))


@pytest.mark.parametrize("form", ["single", "all", "target", "column"])
@given(st.integers(0, 999), st.integers(1, 9))
def test_every_form_is_what_its_formula_says_tile_by_tile(
    form: DecouplingForm, seed: int, tiles: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes = 2 if form == "single" else 3
    shape = (tiles,) if form == "single" else (tiles, classes)
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    strengths, gammas = torch.rand(2, classes, generator=generator, dtype=torch.float64)
    targets = torch.randint(classes, (tiles,), generator=generator)
    rows = zip(logits.tolist(), targets.tolist(), strict=True)
    expected = [written_out(form, z, y, strengths.tolist(), gammas.tolist()) for z, y in rows]
    found = penalties(logits, strengths, gammas, form)[torch.arange(tiles), targets]
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_class_that_a_batch_lacks_is_left_out_and_never_nan() -> None:
    logits = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = loss_of(decoupling=0.1, decoupling_reduction="class_mean")
    found = loss(logits, torch.tensor([1, 1]), torch.ones(2))["decoupling"]
    found.backward()
    assert found.item() == pytest.approx(0.05 * 2.5)
    assert torch.isfinite(logits.grad).all()


def test_class_mean_does_not_depend_on_how_many_tiles_a_class_has() -> None:
    each = torch.tensor([[1.0, 5.0]]).repeat(10, 1)
    one = torch.nn.functional.one_hot(torch.tensor([0] * 9 + [1]), 2).float()
    half = torch.nn.functional.one_hot(torch.tensor([0, 1] * 5), 2).float()
    for labels in (one, half):
        assert float(reduced(each, labels, torch.ones(10), "class_mean")) == pytest.approx(6.0)
    assert float(reduced(each, one, torch.ones(10), "batch")) == pytest.approx(1.4)


@pytest.mark.parametrize(
    ("form", "shape"), [("single", (4, 2)), ("all", (4,)), ("target", (4,)), ("column", (4,))]
)
def test_a_form_for_the_other_head_is_refused(form: DecouplingForm, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=f"decoupling_form: expected a form .*, got {form}"):
        loss_of(decoupling=0.1, decoupling_form=form)(
            torch.zeros(shape), torch.zeros(4).long(), torch.ones(4)
        )


def test_auto_is_single_for_one_logit_and_all_for_several() -> None:
    assert form_of("auto", torch.zeros(4)) == "single"
    assert form_of("auto", torch.zeros(4, 3)) == "all"


def slope_at_0(loss: Loss, chance_of_cancer: float) -> float:
    """Return where a tile's single logit is pulled at 0, if it looks like cancer with this chance."""
    logit = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    shares = torch.tensor([[1 - chance_of_cancer, chance_of_cancer]], dtype=torch.float64)
    sum(loss(logit, shares, torch.ones(1)).values()).backward()
    return float(logit.grad)


def test_eq_2_of_the_study_moves_the_threshold_to_a_lower_chance_of_cancer() -> None:
    benign, cancer = 0.0969 * 1.83, 0.000698 * 2.61
    chance = (0.5 - benign) / (1 - benign + cancer)
    assert chance == pytest.approx(0.391, abs=5e-4)
    assert slope_at_0(loss_of(**EQ2), chance) == pytest.approx(0, abs=1e-12)
    assert slope_at_0(loss_of(**EQ2), 0.5) < -0.01


@pytest.mark.parametrize("strengths", [0.01, {"benign": 0.5, "cancer": 0.001}])
def test_eq_1_leaves_the_threshold_where_it_is(strengths: object) -> None:
    assert slope_at_0(loss_of(decoupling=strengths), 0.5) == pytest.approx(0, abs=1e-12)
