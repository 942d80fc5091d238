"""The ops suite: layers at the shapes in which real networks use them, and one row at least for every family of kernels.

A case is a network of one layer, so every side already knows how to build it. ``operations`` are those of the forward pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .convolution_shapes import draw
from .tasks import Network


@dataclass(frozen=True)
class Case:
    """A layer at a shape. ``family``: the kernel file that serves it (``products``: NumPy's BLAS alone). ``quick``: it is in
    the shortened suite. ``gradient``: it has one."""

    network: Network
    family: str
    operations: float
    parameters: int = 0
    gradient: bool = True
    quick: bool = False

    def traffic(self, output_shape: tuple[int, ...]) -> float:
        """Bytes of inputs, weights and outputs, each once: what no implementation of the forward pass can do without."""
        n = self.network
        return 4.0 * (n.batch * math.prod(n.input_shape) + self.parameters + math.prod(output_shape))


def conv(where: str, n: int, i: int, o: int, size: int, k: int, stride: int = 1, groups: int = 1, pad: int | None = None,
         quick: bool = False) -> Case:
    """A convolution of ``n`` images of ``size`` x ``size``."""
    pad = k // 2 if pad is None else pad
    out = (size + 2 * pad - k) // stride + 1
    kind = "depthwise" if groups == i and groups > 1 else "grouped" if groups > 1 else "conv"
    network = Network(f"{kind} {k}x{k}{f' /{stride}' if stride > 1 else ''}, {i}-{o}, {size}x{size}", where,
                      (("conv", i, o, k, pad, None, stride, groups),), (i, size, size), 1, n)
    macs = n * out * out * o * (i // groups) * k * k
    family = {"depthwise": "depthwise"}.get(kind, "convolution" if k > 1 else "panel_convolution")
    return Case(network, family, 2.0 * macs, o * (i // groups) * k * k + o, quick=quick)


def layer(name: str, where: str, family: str, entry: tuple[Any, ...], shape: tuple[int, ...], each: float = 1.0,
          parameters: int = 0, classes: int = 1, operations: float | None = None, **more: bool) -> Case:
    """Any other layer: ``each`` operations for a number of the input (a nominal count where functions are involved)."""
    batch, *rest = shape
    total = operations if operations is not None else each * math.prod(shape)
    return Case(Network(name, where, (entry,), tuple(rest), classes, batch), family, total, parameters, **more)


def dense(where: str, rows: int, i: int, o: int, act: str | None = None, quick: bool = False) -> Case:
    """A dense layer."""
    return layer(f"dense {i}-{o}{f' {act}' if act else ''}, {rows} rows", where, "dense", ("dense", i, o, act), (rows, i),
                 operations=2.0 * rows * i * o, parameters=(i + 1) * o, quick=quick)


def recurrent(kind: str, gates: int, where: str, quick: bool = False) -> Case:
    """64 steps of 32 sequences, 64 numbers in, 256 out."""
    return layer(f"{kind} 64-256, 64 steps", where, "recurrences", (kind, 64, 256), (64, 32, 64), quick=quick,
                 operations=2.0 * 64 * 32 * gates * 256 * (64 + 256), parameters=gates * 256 * (64 + 256 + 2))


def attention(where: str, n: int, tokens: int, size: int, heads: int, family: str, quick: bool = False) -> Case:
    """Self-attention with its projections. ``family``: "fused_attention" on the CPU, "attention" on a GPU."""
    return layer(f"attention {size}, {heads} heads, {tokens} tokens", where, family, ("attention", size, heads),
                 (n, tokens, size), operations=n * (8.0 * tokens * size**2 + 4.0 * tokens**2 * size),
                 parameters=4 * size * (size + 1), quick=quick)


def function(name: str, family: str, each: float = 1.0, gradient: bool = True, quick: bool = False) -> Case:
    """A function of 4096 rows of 1024 numbers."""
    return layer(f"{name}, 4096 x 1024", "any network", family, ("function", name), (4096, 1024), each, gradient=gradient,
                 quick=quick)


IMAGES = (8, 64, 56, 56)  # after the stem of ResNet, batch 8

CASES = [
    conv("ResNet stem", 8, 3, 64, 224, 7, 2, pad=3),
    conv("ResNet-18 stage 1", 8, 64, 64, 56, 3, quick=True),
    conv("ResNet-18 stage 2", 8, 128, 128, 28, 3),
    conv("ResNet-18 stage 3", 8, 256, 256, 14, 3),
    conv("ResNet-18 stage 4", 8, 512, 512, 7, 3),
    conv("ResNet-18, between stages", 8, 64, 128, 56, 3, 2),
    conv("ResNet-50 bottleneck", 8, 64, 256, 56, 1),
    conv("ResNet-50 bottleneck", 8, 256, 64, 56, 1),
    conv("ResNet-50 stage 4", 8, 2048, 512, 7, 1),
    conv("ResNeXt-50", 8, 128, 128, 56, 3, groups=32),
    conv("MobileNet", 8, 32, 64, 112, 1),
    conv("MobileNet", 8, 128, 128, 56, 3, groups=128, quick=True),
    conv("MobileNet, between stages", 8, 256, 256, 28, 3, 2, groups=256),
    conv("ConvNeXt", 8, 96, 96, 56, 7, groups=96),
    conv("LeNet", 128, 1, 6, 28, 5),
    conv("ViT patches", 8, 3, 192, 224, 16, 16, pad=0),
    layer("transposed conv 2x2 /2, 128-64, 28x28", "UNet", "convolution", ("deconv", 128, 64, 2, 2, 0), (8, 128, 28, 28),
          operations=2.0 * 8 * 28 * 28 * 128 * 64 * 4, parameters=128 * 64 * 4 + 64),
    layer("unfold 3x3, 64, 28x28", "any network", "im2col", ("unfold", 3, 1), (8, 64, 28, 28)),
    dense("VGG classifier", 32, 4096, 4096),
    dense("ViT MLP", 2048, 192, 768, "gelu", quick=True),
    dense("ViT MLP", 2048, 768, 192),
    attention("ViT tiny", 8, 197, 192, 3, "fused_attention", quick=True),
    attention("GPT-2 small", 1, 512, 768, 12, "attention"),
    recurrent("lstm", 4, "character model", quick=True),
    recurrent("gru", 3, "character model"),
    recurrent("rnn", 1, "character model"),
    layer("embedding 30000-256", "language model", "embedding", ("embedding", 30000, 256), (32, 64), 0.0, 0, 30000),
    layer("batch norm + relu, 64, 56x56", "ResNet-18", "channel_norms", ("batch_norm", 64, "relu"), IMAGES, 6.0, 128,
          quick=True),
    layer("group norm, 64, 56x56", "any network", "channel_norms", ("group_norm", 64, 32), IMAGES, 6.0, 128),
    layer("layer norm 192", "ViT tiny", "layer_norms", ("norm", 192), (2048, 192), 6.0, 384, quick=True),
    layer("RMS norm 768", "LLaMA-like", "layer_norms", ("rms_norm", 768), (2048, 768), 4.0, 768),
    layer("max pool 3x3 /2, 64, 112x112", "ResNet stem", "pooling", ("max_pool", 3, 2, 1), (8, 64, 112, 112), 9 / 4,
          quick=True),
    layer("mean pool 2x2, 128, 56x56", "DenseNet", "pooling", ("mean_pool", 2), (8, 128, 56, 56)),
    layer("adaptive mean 6x6, 256, 13x13", "AlexNet", "adaptive_pooling", ("adaptive_mean", 6), (8, 256, 13, 13)),
    layer("upsample x2, 64, 28x28", "UNet", "upsampling", ("upsample", 2), (8, 64, 28, 28), 4 * 8.0),
    layer("mean over 7x7, 512", "ResNet head", "reductions", ("mean", (2, 3)), (32, 512, 7, 7)),
    layer("cross entropy, 1000 classes", "classifier", "crossentropies", ("crossentropy",), (512, 1000), 6.0, quick=True),
    layer("CTC, 100 steps, 40 classes", "speech", "ctc", ("ctc", 20), (100, 16, 40), 6.0),
    function("relu", "nonlinearities", quick=True),
    function("gelu", "nonlinearities", 10),
    function("tanh", "nonlinearities", 10),
    function("exp", "elementwise", 8),
    function("add", "elementwise", 2, quick=True),
    function("where", "comparisons", 2),
    function("erf", "special", 10),
    function("half", "casts"),
    function("softmax", "softmaxes", 10, quick=True),
    function("logsoftmax", "softmaxes", 10),
    function("logsumexp", "softmaxes", 9),
    function("sum", "reductions", quick=True),
    function("sum of columns", "reductions"),
    function("max", "extremes"),
    function("argmax", "extremes", gradient=False),
    function("cumsum", "scans"),
]
UPDATES = [  # Adam's kernel: the parameters of two networks
    layer("Adam, 16.8 million numbers", "VGG classifier", "updates", ("dense", 4096, 4096, None), (1, 4096),
          operations=12.0 * 4097 * 4096, parameters=4097 * 4096, gradient=False),
    layer("Adam, 50 numbers", "tiny", "updates", ("dense", 9, 5, None), (1, 9), operations=12.0 * 50, parameters=50,
          gradient=False, quick=True),
]  # fmt: skip


def random_convolutions(n: int, seed: int = 0) -> list[Case]:
    """Shapes that nobody has tuned for (convolution_shapes.py says from what they are drawn)."""
    cases = []
    for i, shape in enumerate(draw(n, seed), 1):
        entry = ("conv", shape.c, shape.o, shape.k, shape.pad, None, shape.stride, shape.groups)
        network = Network(str(shape), f"shape {i}", (entry,), (shape.c, *shape.image), 1, shape.n)
        parameters = shape.o * (shape.c // shape.groups * shape.k**2 + 1)
        cases.append(Case(network, "convolution", 2.0 * shape.products, parameters))
    return cases
