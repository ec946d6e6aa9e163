"""Class activation maps: what they sum to, and what they are of the simplest networks."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra train")
timm = pytest.importorskip("timm", reason="needs the extra train")

from torch import Tensor, nn  # noqa: E402

from wsi_pipeline.errors import ConfigError  # noqa: E402
from wsi_pipeline.evaluate.maps.cam import class_activation, feature_layer  # noqa: E402
from wsi_pipeline.train.model import make_model  # noqa: E402
from wsi_pipeline.train.model_config import ModelConfig  # noqa: E402

Method = Literal["gradcam", "hirescam"]
METHODS: tuple[Method, ...] = ("gradcam", "hirescam")


def pooled(logits: int, *, seed: int = 0, act: Callable[[], nn.Module] = nn.SiLU) -> nn.Sequential:
    """Return convolutions, a mean over the picture and one linear layer."""
    torch.manual_seed(seed)
    head: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, logits)]
    if logits == 1:
        head.append(nn.Flatten(0))
    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), act(), *head).double().eval()


def images_of(seed: int, *, count: int = 3, side: int = 15) -> Tensor:
    return torch.rand(
        (count, 3, side, side), generator=torch.Generator().manual_seed(seed)
    ).double()


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 4), st.sampled_from(METHODS))
def test_maps_of_a_linear_head_add_up_to_the_logit_less_its_bias(
    seed: int, classes: int, method: Method
) -> None:
    network = pooled(classes, seed=seed)
    images = images_of(seed)
    for number in range(classes):
        maps, logits = class_activation(network, images, layer="1", number=number, method=method)
        bias = network[-1].bias.detach()[number]
        np.testing.assert_allclose(maps.sum(dim=(1, 2)), logits - bias, atol=1e-6)
        np.testing.assert_allclose(logits, network(images).detach()[:, number], atol=1e-6)


def test_both_ways_are_the_same_of_a_linear_head_and_not_of_another() -> None:
    images = images_of(3)
    first, second = (
        class_activation(pooled(2), images, layer="1", number=1, method=method)[0]
        for method in METHODS
    )
    torch.testing.assert_close(first, second)
    torch.manual_seed(0)
    whole = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 49, 2)
    ).double()
    first, second = (
        class_activation(whole, images, layer="1", number=1, method=method)[0] for method in METHODS
    )
    assert not torch.allclose(first, second, atol=1e-3)


def test_a_map_is_gradient_times_feature_worked_out_by_hand() -> None:
    network = pooled(2, seed=5)
    images = images_of(5, count=2)
    features = network[1](network[0](images)).detach()
    weights = network[-1].weight[1].detach() / (features.shape[2] * features.shape[3])
    expected = torch.einsum("k,bkhw->bhw", weights, features)
    maps, _ = class_activation(network, images, layer="1", number=1, method="hirescam")
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    assert maps.dtype == torch.float32


def test_of_a_single_logit_the_first_class_is_the_negative_of_the_second() -> None:
    network, images = pooled(1), images_of(1)
    (first, low), (second, high) = (
        class_activation(network, images, layer="1", number=number, method="hirescam")
        for number in (0, 1)
    )
    torch.testing.assert_close(first, -second)
    torch.testing.assert_close(low, -high)


def test_a_tile_has_the_same_map_whatever_tiles_are_beside_it() -> None:
    network, images = pooled(2), images_of(2, count=4)
    whole, _ = class_activation(network, images, layer="1", number=1, method="gradcam")
    alone, _ = class_activation(network, images[2:3], layer="1", number=1, method="gradcam")
    torch.testing.assert_close(whole[2:3], alone)


def test_a_bright_corner_is_where_a_network_that_counts_brightness_looks() -> None:
    network = pooled(1, act=nn.Identity)
    with torch.no_grad():
        network[0].weight.fill_(1 / 27)
        network[0].bias.zero_()
        network[-2].weight.fill_(1 / 6)
    images = torch.zeros((1, 3, 15, 15), dtype=torch.float64)
    images[:, :, :5, 10:] = 1
    maps, _ = class_activation(network, images, layer="1", number=1, method="gradcam")
    row, column = divmod(int(maps[0].argmax()), maps.shape[2])
    assert row <= 1
    assert column >= 5
    assert float(maps[0, 4:].abs().max()) == 0


def test_what_works_in_its_place_after_the_layer_changes_nothing() -> None:
    torch.manual_seed(0)
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)]
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), *tail).double().eval()
    images = images_of(4)
    before, _ = class_activation(network, images, layer="0", number=1, method="hirescam")
    network[1] = nn.ReLU()
    after, _ = class_activation(network, images, layer="0", number=1, method="hirescam")
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("test_efficientnet", "bn2"), ("test_resnet", "layer4"), ("mobilenetv3_small_050", "blocks")],
)
def test_the_last_convolutional_features_of_timms_networks_are_found(name: str, layer: str) -> None:
    network = make_model(ModelConfig(name=name, image_px=64), 2).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert feature_layer(network, images) == layer
    maps, logits = class_activation(network, images, layer=layer, number=1, method="hirescam")
    assert maps.shape == (2, 2, 2)
    torch.testing.assert_close(logits, network(images).detach())


def test_of_efficientnet_the_map_adds_up_to_the_logit() -> None:
    network = make_model(ModelConfig(name="test_efficientnet", image_px=96), 2).eval()
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    maps, logits = class_activation(network, images, layer="bn2", number=1, method="gradcam")
    bias = network.net.classifier.bias.detach().sum()
    torch.testing.assert_close(maps.sum(dim=(1, 2)), logits - bias, atol=1e-5, rtol=1e-4)


def test_a_frozen_network_has_maps_too_and_keeps_no_gradient() -> None:
    config = ModelConfig(name="test_efficientnet", image_px=64, freeze=("backbone",))
    network = make_model(config, 2).eval()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        layer = feature_layer(network, images)
    maps, _ = class_activation(network, images, layer=layer, number=1, method="gradcam")
    assert float(maps.abs().max()) > 0
    assert all(each.grad is None for each in network.parameters())


def test_a_transformer_is_refused_in_a_sentence() -> None:
    network = make_model(ModelConfig(name="test_vit", image_px=160), 2).eval()
    images = torch.zeros((1, 3, 160, 160), dtype=torch.uint8)
    with pytest.raises(ConfigError, match="takes a convolutional network"):
        feature_layer(network, images)


@pytest.mark.parametrize(
    ("layer", "message"),
    [("nowhere", "has no layer nowhere; the last ones are"), ("3", "expected features .* of 3")],
)
def test_a_layer_that_cannot_be_explained_is_refused(layer: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        class_activation(pooled(2), images_of(0), layer=layer, number=1, method="hirescam")


def test_a_layer_beside_the_way_to_the_logit_is_refused() -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.aside = pooled(2), nn.Conv2d(3, 2, 3).double()

        def forward(self, images: Tensor) -> Tensor:
            self.aside(images)
            logits: Tensor = self.main(images)
            return logits

    with pytest.raises(ConfigError, match="does not depend on aside"):
        class_activation(Aside(), images_of(0), layer="aside", number=1, method="hirescam")
