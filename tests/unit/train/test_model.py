"""Networks: heads, weights from files, and what is frozen."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")

from safetensors.torch import save_file  # noqa: E402

from wsi_pipeline.config import make_config  # noqa: E402
from wsi_pipeline.errors import ConfigError  # noqa: E402
from wsi_pipeline.train.model import load_pretrained, make_model, parameter_groups  # noqa: E402
from wsi_pipeline.train.model_config import ModelConfig  # noqa: E402

NAME = "test_efficientnet"


def model_of(classes: int = 2, **settings: object) -> Any:  # noqa: ANN401  a Network
    values = {"name": NAME, "image_px": 32, "stochastic_depth": 0.1, **settings}
    return make_model(make_config(ModelConfig, values), classes)


def images(count: int = 3, side: int = 32) -> Any:  # noqa: ANN401  a tensor
    torch.manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("head", "classes", "shape"),
    [("single", 2, (3,)), ("classes", 2, (3, 2)), ("single", 5, (3, 5)), ("classes", 5, (3, 5))],
)
def test_a_head_has_one_logit_or_one_of_each_class(
    head: str, classes: int, shape: tuple[int, ...]
) -> None:
    assert model_of(classes, head=head).eval()(images()).shape == shape


def test_a_single_tile_has_its_logit() -> None:
    assert model_of().eval()(images(1)).shape == (1,)


@pytest.mark.parametrize("side", [32, 64, 50])
def test_tiles_of_any_side_are_brought_to_the_networks(side: int) -> None:
    assert model_of().eval()(images(side=side)).shape == (3,)


def test_uint8_tiles_and_prepared_ones_give_the_same_logits() -> None:
    model = model_of().eval()
    with torch.inference_mode():
        assert torch.equal(model(images()), model(model.prepared(images())))


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])
def test_any_model_of_timm_can_be_taken(name: str) -> None:
    model = model_of(name=name, stochastic_depth=0).eval()
    assert model(images()).shape == (3,)


def test_a_model_that_timm_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.name: expected a model of timm, got effcientnet"):
        model_of(name="effcientnet_b0")


def test_stochastic_depth_of_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.stochastic_depth: vgg11 has none; set it to 0"):
        model_of(name="vgg11")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module.", "net."])
def test_weights_of_a_file_are_taken_but_for_the_head(
    suffix: str, prefix: str, tmp_path: Path
) -> None:
    other = model_of(5, head="classes").net.state_dict()
    path = tmp_path / f"weights{suffix}"
    weights = {f"{prefix}{name}": value.contiguous() for name, value in other.items()}
    save_file(weights, path) if suffix == ".safetensors" else torch.save(
        {"state_dict": weights}, path
    )
    model = model_of(pretrained=str(path))
    for name, value in model.net.state_dict().items():
        assert name in ("classifier.weight", "classifier.bias") or torch.equal(value, other[name])
    assert sorted(load_pretrained(model)) == ["classifier.bias", "classifier.weight"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "expected a file of weights"),
        (b"not weights", "cannot be read as weights"),
        ({"epoch": 3}, "lacking"),
        ([1, 2], "holds no weights by name"),
        ({"conv_stem.weight": "nan"}, "lacking"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(
    content: object, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ConfigError, match=says):
        model_of(pretrained=str(path))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harmed",))

    torch.save({"state_dict": Harm()}, tmp_path / "weights.pth")
    with pytest.raises(
        ConfigError, match=r"cannot be read as weights .it is damaged or holds more"
    ):
        model_of(pretrained=str(tmp_path / "weights.pth"))
    assert not (tmp_path / "harmed").exists()


def test_weights_of_another_network_are_refused_with_what_differs(tmp_path: Path) -> None:
    weights = model_of().net.state_dict()
    weights["conv_stem.weight"] = torch.zeros(2, 3, 3, 3)
    del weights["bn1.weight"]
    torch.save(weights, tmp_path / "weights.pth")
    says = r"lacking: bn1.weight; of another shape: conv_stem.weight \(2, 3, 3, 3\) instead of"
    with pytest.raises(ConfigError, match=says):
        model_of(pretrained=str(tmp_path / "weights.pth"))


def test_without_a_network_the_hubs_weights_are_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("cannot reach the hub\nand much more")

    monkeypatch.setattr("timm.create_model", offline_if_pretrained(offline))
    says = "cannot be had from timm's hub .cannot reach the hub.; download them"
    with pytest.raises(ConfigError, match=says) as said:
        model_of(pretrained=True)
    assert "\n" not in str(said.value)


def offline_if_pretrained(offline: Any) -> Any:  # noqa: ANN401  a function of timm
    import timm  # noqa: PLC0415  untouched by then

    made = timm.create_model

    def create(*given: object, pretrained: bool = False, **options: object) -> Any:  # noqa: ANN401
        return (offline if pretrained else made)(*given, **options)

    return create


def trained_names(model: Any) -> set[str]:  # noqa: ANN401  a Network
    return {name for name, each in model.net.named_parameters() if each.requires_grad}


@pytest.mark.parametrize("name", [NAME, "test_vit", "test_resnet"])
def test_a_frozen_backbone_leaves_the_head(name: str) -> None:
    model = model_of(name=name, freeze="backbone", stochastic_depth=0)
    assert trained_names(model) == set(model.head_names)


def test_the_first_stages_are_frozen_by_their_number() -> None:
    model = model_of(freeze=1)
    frozen = {name for name, _ in model.net.named_parameters()} - trained_names(model)
    assert "conv_stem.weight" in frozen
    assert any(name.startswith("blocks.0.") for name in frozen)
    assert not any(name.startswith(("blocks.1.", "classifier")) for name in frozen)


def test_parts_are_frozen_by_patterns() -> None:
    model = model_of(freeze=["blocks.2*"])
    frozen = {name for name, _ in model.net.named_parameters()} - trained_names(model)
    assert frozen
    assert all(name.startswith("blocks.2") for name in frozen)


@pytest.mark.parametrize(
    ("freeze", "says"),
    [("blocks.99*", "means no part"), (["backbone", "classifier*"], "nothing is left to train")],
)
def test_what_freezes_nothing_or_all_is_refused(freeze: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        model_of(freeze=freeze)


def test_batch_statistics_of_a_frozen_part_stay() -> None:
    model = model_of(freeze="backbone", dropout=0).train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    first = model(model.prepared(images()))
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert torch.equal(first, model(model.prepared(images())))


def test_unfrozen_it_trains_as_a_whole() -> None:
    model = model_of(freeze="backbone", unfreeze_epoch=1)
    model.unfreeze()
    model.train()
    assert trained_names(model) == {name for name, _ in model.net.named_parameters()}
    assert all(module.training for module in model.modules())


def test_biases_and_norms_do_not_decay() -> None:
    model = model_of()
    decays, rest = parameter_groups(model, weight_decay=0.05)
    assert (decays["weight_decay"], rest["weight_decay"]) == (0.05, 0.0)
    assert all(each.ndim > 1 for each in decays["params"])
    assert all(each.ndim <= 1 for each in rest["params"])
    count = len(decays["params"]) + len(rest["params"])
    assert count == len(list(model.parameters()))


def test_what_is_unfrozen_later_has_a_learning_rate_of_its_own() -> None:
    model = model_of(freeze="backbone", unfreeze_epoch=2, unfreeze_lr=0.01)
    shares = [group["share"] for group in parameter_groups(model, weight_decay=0)]
    assert shares == [1.0, 1.0, 0.01, 0.01]


def test_what_stays_frozen_is_not_the_optimisers() -> None:
    model = model_of(freeze="backbone")
    chosen = [each for group in parameter_groups(model, weight_decay=0) for each in group["params"]]
    assert len(chosen) == len(model.head_names)
