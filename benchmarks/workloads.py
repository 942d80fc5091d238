"""The workloads: whole models whose training step and inference are timed. Every side reads the same tables of layers."""

from __future__ import annotations

from .tasks import Network

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def _characters(kind: str) -> Network:
    layers = (("embedding", 96, 64), (kind, 64, 256), ("dense", 256, 96, None))
    return Network(kind, f"96 characters, {kind.upper()} 64-256 over 64 steps", layers, (64,), 96, 32)


def basic_stages() -> tuple[tuple[object, ...], ...]:
    """The layers of ResNet-18 between its stem, of 64 planes, and its classifier, of 512."""
    layers: list[tuple[object, ...]] = []
    i = 64
    for o in (64, 128, 256, 512):
        for stride in (1 if o == 64 else 2, 1):
            branch = (("conv_norm", i, o, 3, stride, 1, "relu"), ("conv_norm", o, o, 3, 1, 1, None))
            layers.append(("add", branch, (("conv_norm", i, o, 1, stride, 1, None),) if i != o else (), "relu"))
            i = o
    return tuple(layers)


def _resnet18() -> Network:
    layers = (("conv_norm", 3, 64, 3, 1, 1, "relu"), *basic_stages(), ("mean", (2, 3)), ("dense", 512, 10, None))
    return Network("resnet18", "ResNet-18 for 32x32 (no pool)", layers, (3, 32, 32), 10, 32)


def _invres() -> Network:
    block = (("conv_norm", 32, 192, 1, 1, 1, "relu6"), ("conv_norm", 192, 192, 3, 1, 192, "relu6"),
             ("conv_norm", 192, 32, 1, 1, 1, None))
    layers = (("conv_norm", 3, 32, 3, 1, 1, "relu6"), ("add", block, (), None), ("add", block, (), None),
              ("mean", (2, 3)), ("dense", 32, 10, None))
    return Network("invres", "two inverted residuals 32-192-32 on 32x32", layers, (3, 32, 32), 10, 32)


def encoder_blocks(n: int, width: int = 192, heads: int = 3) -> tuple[tuple[object, ...], ...]:
    """``n`` pre-norm transformer blocks with an MLP four times as wide."""
    block = (("add", (("norm", width), ("attention", width, heads)), (), None),
             ("add", (("norm", width), ("dense", width, 4 * width, "gelu"), ("dense", 4 * width, width, None)), (), None))
    return block * n


def _vit() -> Network:
    layers = (*encoder_blocks(4), ("mean", (1,)), ("dense", 192, 10, None))
    return Network("vit", "four encoder blocks 192-768, 3 heads, 64 tokens", layers, (64, 192), 10, 32)


WORKLOADS = {
    w.name: w
    for w in (
        Network("tiny", "2-16-2 tanh", (("dense", 2, 16, "tanh"), ("dense", 16, 2, None)), (2,), 2, 4),
        Network("mlp", "784-512-512-10 relu",
                (("dense", 784, 512, "relu"), ("dense", 512, 512, "relu"), ("dense", 512, 10, None)), (784,), 10, 128),
        Network("lenet", "LeNet on 28x28", (
            ("conv", 1, 6, 5, 2, "relu"), ("pool",), ("conv", 6, 16, 5, 0, "relu"), ("pool",), ("flatten",),
            ("dense", 400, 120, "relu"), ("dense", 120, 84, "relu"), ("dense", 84, 10, None)), (1, 28, 28), 10, 128),
        *map(_characters, GATES),
        _resnet18(),
        _invres(),
        _vit(),
    )
}
