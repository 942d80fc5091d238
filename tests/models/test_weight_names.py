"""The names of published weights, as timm and torchvision have them, written out for small networks."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Layers, models
from minitorch_flux.models import published_names

SMALL = {"imsize": (8, 8), "patch_size": (4, 4), "nclasses": 3}


def both(*layers):
    return [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]


def blocks(n, *names, start="blocks."):
    return [f"{start}{i}.{name}" for i in range(n) for name in names]


def statistics(*norms):
    return [f"{norm}.{part}" for norm in norms for part in ("weight", "bias", "running_mean", "running_var")]


def res2_block(start, first):
    names = ["conv1.weight", *statistics("bn1"), "convs.0.weight", "convs.1.weight", *statistics("bns.0", "bns.1"),
             "conv3.weight", *statistics("bn3")]  # fmt: skip
    names += ["downsample.0.weight", *statistics("downsample.1")] if first else []
    return [f"{start}.{name}" for name in names]


ENDS = both("norm", "head")
CASES = {
    "ViT of timm": (models.ViT, lambda: models.vit(4, 2, 2, **SMALL), [
        "cls_token", "pos_embed", *both("patch_embed.proj"),
        *blocks(2, *both("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")), *ENDS]),
    "ViT of torchvision": (models.ViT, lambda: models.vit(4, 2, 2, **SMALL), [
        "class_token", *both("conv_proj"), "encoder.pos_embedding",
        *blocks(2, *both("ln_1"), "self_attention.in_proj_weight", "self_attention.in_proj_bias",
                *both("self_attention.out_proj", "ln_2", "mlp.0", "mlp.3"), start="encoder.layers.encoder_layer_"),
        *both("encoder.ln", "heads.head")]),
    "ConvNeXt of timm": (models.ConvNeXt, lambda: models.convnext([1, 2], [4, 6], nclasses=3), [
        *both("stem.0", "stem.1"),
        *blocks(1, "gamma", *both("conv_dw", "norm", "mlp.fc1", "mlp.fc2"), start="stages.0.blocks."),
        *both("stages.1.downsample.0", "stages.1.downsample.1"),
        *blocks(2, "gamma", *both("conv_dw", "norm", "mlp.fc1", "mlp.fc2"), start="stages.1.blocks."),
        *both("head.norm", "head.fc")]),
    "ConvNeXt of torchvision": (models.ConvNeXt, lambda: models.convnext([1, 2], [4, 6], nclasses=3), [
        *both("features.0.0", "features.0.1"),
        *blocks(1, "layer_scale", *both("block.0", "block.2", "block.3", "block.5"), start="features.1."),
        *both("features.2.0", "features.2.1"),
        *blocks(2, "layer_scale", *both("block.0", "block.2", "block.3", "block.5"), start="features.3."),
        *both("classifier.0", "classifier.2")]),
    "MLPMixer of timm": (models.MLPMixer, lambda: models.mixer(Layers.mixerblock, 4, 2, **SMALL), [
        *both("stem.proj"),
        *blocks(2, *both("norm1", "mlp_tokens.fc1", "mlp_tokens.fc2", "norm2", "mlp_channels.fc1", "mlp_channels.fc2")),
        *ENDS]),
    "ResMLP of timm": (models.ResMLP, lambda: models.mixer(Layers.resmixerblock, 4, 2, norm_layer=flux.Scale, **SMALL), [
        *both("stem.proj"),
        *blocks(2, "ls1", "ls2", "norm1.alpha", "norm1.beta", *both("linear_tokens"), "norm2.alpha", "norm2.beta",
                *both("mlp_channels.fc1", "mlp_channels.fc2")),
        "norm.alpha", "norm.beta", *both("head")]),
    "gMLP of timm": (models.gMLP, lambda: models.mixer(Layers.spatial_gating_block, 4, 2, **SMALL), [
        *both("stem.proj"),
        *blocks(2, *both("norm", "mlp_channels.fc1", "mlp_channels.gate.norm", "mlp_channels.gate.proj", "mlp_channels.fc2")),
        *ENDS]),
    "Res2Net of timm": (models.Res2Net, lambda: models.resnet(models.bottle2neck, [1, 2], planes=8, base_width=16, scale=3), [
        "conv1.weight", *statistics("bn1"),
        *(name for i, n in ((1, 1), (2, 2)) for j in range(n) for name in res2_block(f"layer{i}.{j}", first=not j)),
        *both("fc")]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_name_is_that_of_one_parameter(case):
    family, build, names = CASES[case]
    with flux.shapes_only():
        m = build()
    rename = published_names(family)
    ours = {name: rename(name) for name in names}
    assert sorted(ours.values()) == sorted(m.state_dict())
    assert published_names(family.__name__)(names[0]) == ours[names[0]]
    shapes = m.state_dict()
    rng = np.random.default_rng(0)
    state = {name: rng.standard_normal(shapes[key].shape).astype(np.float32) for name, key in ours.items()}
    for name in names:
        if name.endswith("layer_scale"):
            state[name] = state[name][:, None, None]  # as it is there
    flux.load_torch(m, state, rename=rename)
    for name, key in ours.items():
        np.testing.assert_array_equal(m.state_dict()[key], state[name].reshape(shapes[key].shape))


def test_other_families_and_names():
    with pytest.raises(ValueError, match="rules for ViT, ConvNeXt, .*, Res2NeXt, got 'ResNet'; the weights of other"):
        published_names(models.ResNet)
    assert published_names("ViT")("extra.weight") == "extra.weight"
