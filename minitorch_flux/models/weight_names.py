"""published_names: PyTorch's names of published weights as the names of the zoo, for ``load_torch(..., rename=...)``.

Most families need none of it: their weights load in the order in which they are. In the networks below the libraries keep
some parameters elsewhere than beside the layer that they belong to.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Rule = tuple[str, str | Callable[[re.Match[str]], str]]

_BLOCK: Rule = (r"^(?:blocks\.|encoder\.layers\.encoder_layer_)(\d+)\.", lambda m: f"backbone.block{int(m[1]) + 1}.")
_TOKENS: list[Rule] = [
    (r"^(patch_embed|stem)\.proj\.|^conv_proj\.", "backbone.patches.proj."),
    _BLOCK,
    (r"^(norm|encoder\.ln)\.", "backbone.norm."),
    (r"^(head|heads\.head)\.", "classifier.last."),
]
"""What all networks of tokens have."""
_RES2: list[Rule] = [
    (r"^conv1\.", "backbone.stem.conv1."),
    (r"^bn1\.", "backbone.stem.norm1."),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", r"backbone.stage\1.\2.shortcut.conv."),
    (r"^layer(\d)\.(\d+)\.downsample\.1\.", r"backbone.stage\1.\2.shortcut.norm."),
    (r"^layer(\d)\.(\d+)\.", r"backbone.stage\1.\2.branch."),
    (r"\.convs\.(\d+)\.", r".scales.\1.conv1."),
    (r"\.bns\.(\d+)\.", r".scales.\1.norm1."),
    (r"\.bn1\.", ".norm1."),
    (r"\.conv3\.", ".conv2."),
    (r"\.bn3\.", ".norm2."),
    (r"^fc\.", "classifier.last."),
]

RULES: dict[str, list[Rule]] = {  # timm's and torchvision's names, each rule applied in turn
    "ViT": [
        *_TOKENS,
        (r"^(cls_token|class_token)$", "backbone.token.token"),
        (r"^(pos_embed|encoder\.pos_embedding)$", "backbone.positions.vectors"),
        (r"\.(norm1|ln_1)\.", ".0.layer.norm."),
        (r"\.(norm2|ln_2)\.", ".1.layer.norm."),
        (r"\.(attn\.qkv\.|self_attention\.in_proj_)", ".0.layer.attention.qkv."),
        (r"\.(attn\.proj|self_attention\.out_proj)\.", ".0.layer.attention.proj."),
        (r"\.mlp\.(fc1|0|linear_1)\.", ".1.layer.mlp.0."),
        (r"\.mlp\.(fc2|3|linear_2)\.", ".1.layer.mlp.2."),
    ],
    "ConvNeXt": [
        (r"^(stem|features\.0)\.0\.", "backbone.stem.conv."),
        (r"^(stem|features\.0)\.1\.", "backbone.stem.norm."),
        (r"^stages\.(\d)\.downsample\.0\.", r"backbone.down\1.norm."),
        (r"^stages\.(\d)\.downsample\.1\.", r"backbone.down\1.conv."),
        (r"^stages\.(\d)\.blocks\.(\d+)\.", lambda m: f"backbone.stage{int(m[1]) + 1}.{m[2]}.layer."),
        (r"^features\.([246])\.0\.", lambda m: f"backbone.down{int(m[1]) // 2}.norm."),
        (r"^features\.([246])\.1\.", lambda m: f"backbone.down{int(m[1]) // 2}.conv."),
        (r"^features\.([1357])\.(\d+)\.", lambda m: f"backbone.stage{int(m[1]) // 2 + 1}.{m[2]}.layer."),
        (r"\.(gamma|layer_scale)$", ".scale.weight"),
        (r"\.(conv_dw|block\.0)\.", ".conv."),
        (r"\.block\.2\.", ".norm."),
        (r"\.(mlp\.fc1|block\.3)\.", ".dense1."),
        (r"\.(mlp\.fc2|block\.5)\.", ".dense2."),
        (r"^(head\.norm|classifier\.0)\.", "classifier.norm."),
        (r"^(head\.fc|classifier\.2)\.", "classifier.last."),
    ],
    "MLPMixer": [
        *_TOKENS,
        (r"\.norm1\.", ".0.layer.0."),
        (r"\.mlp_tokens\.fc1\.", ".0.layer.2.0."),
        (r"\.mlp_tokens\.fc2\.", ".0.layer.2.2."),
        (r"\.norm2\.", ".1.layer.0."),
        (r"\.mlp_channels\.fc1\.", ".1.layer.1.0."),
        (r"\.mlp_channels\.fc2\.", ".1.layer.1.2."),
    ],
    "ResMLP": [
        *_TOKENS,
        (r"\.alpha$", ".weight"),
        (r"\.beta$", ".bias"),
        (r"\.norm1\.", ".0.layer.0."),
        (r"\.linear_tokens\.", ".0.layer.2."),
        (r"\.ls1$", ".0.layer.4.weight"),
        (r"\.norm2\.", ".1.layer.0."),
        (r"\.mlp_channels\.fc1\.", ".1.layer.1.0."),
        (r"\.mlp_channels\.fc2\.", ".1.layer.1.2."),
        (r"\.ls2$", ".1.layer.2.weight"),
    ],
    "gMLP": [
        *_TOKENS,
        (r"^(backbone\.block\d+)\.norm\.", r"\1.layer.0."),
        (r"\.mlp_channels\.fc1\.", ".layer.1.0."),
        (r"\.mlp_channels\.gate\.", ".layer.1.2."),
        (r"\.mlp_channels\.fc2\.", ".layer.1.3."),
    ],
    "Res2Net": _RES2,
    "Res2NeXt": _RES2,
}


def published_names(family: Any) -> Callable[[str], str]:
    """published_names(family)

    The function that turns the names of a family's published weights, timm's or torchvision's, into those of the zoo:

        flux.load_torch(models.ViT("base"), "vit_base_patch16_224.pth", rename=models.published_names("ViT"))

    ``family``: "ViT", "ConvNeXt", "MLPMixer", "ResMLP", "gMLP", "Res2Net" or "Res2NeXt", or the function of this name. Names
    that it does not know stay as they are. Raises ValueError for another family; those need no renaming.
    """
    name = getattr(family, "__name__", family)
    if name not in RULES:
        raise ValueError(f"published_names: there are rules for {', '.join(RULES)}, got {name!r}; the weights of other "
                         "families load without, in their order")
    rules = [(re.compile(pattern), replacement) for pattern, replacement in RULES[name]]

    def rename(key: str) -> str:
        for pattern, replacement in rules:
            key = pattern.sub(replacement, key)
        return key

    return rename
