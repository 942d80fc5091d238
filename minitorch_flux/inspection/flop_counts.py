"""FLOPs: how many floating-point operations an operation takes, told from shapes.

The convention: a multiplication and an addition are two operations (a multiply-add is 2, as in the papers on hardware; those
that count "MACs" or "multiply-adds" print half of these numbers). What only moves numbers counts nothing: views, copies,
indexing, joining. Every other element that an elementwise operation writes counts 1, whatever it takes inside (exp is 1).

Sizes: N the batch, P the pixels of an output, K those of a window, C and O channels in and out.

The backward pass of a product is one product of the same size for each of the two inputs that wants a gradient; that of
anything else counts as much as it forwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

MOVES = frozenset((
    "alias", "astype", "broadcast_to", "concatenate", "copy", "embedding", "flip", "getitem", "getitem_arrays", "identity",
    "pad", "pick", "place", "reshape", "roll", "shift", "split", "spread", "stack", "take", "take_along_axis", "transfer",
    "transpose", "tril", "triu", "unfold", "unstack", "where",
))
"""Operations that only move numbers."""

PRODUCTS = frozenset((
    "conv", "conv_bias_act", "conv_data", "conv_filter", "conv_transpose_bias_act", "contract", "dense", "matmul",
))
"""Operations that are linear in each of their first two inputs: the gradient of each is another product of the same size."""

Arrays = Sequence[Any]
Count = Callable[[Arrays, dict[str, Any], Arrays], int]
COUNTS: dict[str, Count] = {}
"""By the name of an operation: ``count(inputs, static, outputs)``."""


def flops(name: str, inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """The floating-point operations of one call of the operation ``name``, forward."""
    if name in MOVES:
        return 0
    return COUNTS.get(name, elementwise)(inputs, static, outputs)


def backward_flops(name: str, forward: int, needs: Sequence[bool]) -> int:
    """Those of its backward pass, where the call took ``forward`` and ``needs`` says which inputs want a gradient."""
    if name in PRODUCTS:
        return forward * sum(needs[:2])
    return 2 * forward if name in ("lstm", "rnn", "gru", "dot_product_attention", "self_attention") else forward


def _counts(*names: str) -> Callable[[Count], Count]:
    def register(count: Count) -> Count:
        COUNTS.update(dict.fromkeys(names, count))
        return count

    return register


def elementwise(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """1 for each element that is written."""
    return outputs[0].size


@_counts("sum", "mean", "prod", "max", "min", "any", "all", "count_nonzero", "argmax", "argmin", "sum_to", "cumsum", "cumprod",
         "bag_sum", "adaptive_max", "adaptive_mean", "adaptive_max_gather")
def reduction(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """1 for each element that is read: n - 1 additions or comparisons give one number, and a mean divides."""
    return inputs[0].size


@_counts("conv", "conv_bias_act")
def convolution(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """2 N P O K C/groups; with a bias N P O more, and as many with an activation."""
    w, y = inputs[1], outputs[0]
    return 2 * y.size * math.prod(w.shape[1:]) + _finish(inputs, static, y)


@_counts("conv_data", "conv_transpose_bias_act")
def transposed_convolution(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """2 N P C K O/groups with the pixels P and the channels C of the *input*; bias and activation as for a convolution."""
    x, w = inputs[:2]
    return 2 * x.size * math.prod(w.shape[1:]) + _finish(inputs, static, outputs[0])


@_counts("conv_filter")
def convolution_filter(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """2 N P O K C/groups, with the pixels P and the channels O of the second input."""
    return 2 * inputs[1].size * math.prod(outputs[0].shape[1:])


@_counts("dense")
def dense(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """2 N in out; with a bias N out more, and as many with an activation."""
    return 2 * outputs[0].size * inputs[1].shape[1] + _finish(inputs, static, outputs[0])


def _finish(inputs: Arrays, static: dict[str, Any], y: Any) -> int:
    bias = len(inputs) > 2 and inputs[2] is not None
    activation = getattr(static.get("activation"), "name", "identity") != "identity"
    return (bias + activation) * y.size


@_counts("matmul")
def matmul(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """2 n k m for (n, k) times (k, m), for each matrix of a batch."""
    return 2 * outputs[0].size * inputs[0].shape[-1]


@_counts("contract")
def contraction(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """2 for each combination of letters: the output's size times the sizes that are added up."""
    a, to = static.get("a", ""), static.get("to", "")
    return 2 * outputs[0].size * math.prod(n for letter, n in zip(a, inputs[0].shape, strict=False) if letter not in to)


@_counts("dot_product_attention")
def attention(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """2 N H L S D for q k^T, 2 N H L S E for p v, and 5 N H L S for the softmax between them (masked or not)."""
    q, k, v = inputs[:3]
    return math.prod(q.shape[:-1]) * k.shape[-2] * (2 * q.shape[-1] + 2 * v.shape[-1] + 5)


@_counts("self_attention")
def self_attention(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """That of the attention of all H heads: N L (4 S H D + 5 S H) with S = L and H D features in the output."""
    n, length, width = outputs[0].shape
    return n * length * length * (4 * width + 5 * static["heads"])


@_counts("rnn")
def rnn(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """T N (2 H^2 + 2 H): the product with the state, a sum, the activation; the product with the input is a dense before."""
    steps, n, size = outputs[0].shape
    return steps * n * (2 * size * size + 2 * size)


@_counts("lstm")
def lstm(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """T N (8 H (in + H) + 17 H): four gates of two products each, with in = 0 where the input's product comes before; 4
    biases, 4 sums, 5 nonlinearities, 3 products and a sum of the cell."""
    steps, n, size = outputs[0].shape
    features = 0 if inputs[1] is None else inputs[1].shape[1]
    return steps * n * (8 * size * (features + size) + 17 * size)


@_counts("gru")
def gru(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """T N (6 H^2 + 13 H): three gates; the product with the input is a dense before."""
    steps, n, size = outputs[0].shape
    return steps * n * (6 * size * size + 13 * size)


@_counts("max_pool", "mean_pool", "lp_pool")
def pool(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """K for each output: a comparison or an addition for each pixel of its window."""
    return outputs[0].size * math.prod(static["window"].kernel)


@_counts("softmax", "logsoftmax", "logsumexp")
def softmax(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """5 for each input: maximum, difference, exp, sum, quotient (or difference)."""
    return 5 * inputs[0].size


@_counts("logitcrossentropy", "logitbinarycrossentropy")
def crossentropy(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """7 for each logit: 5 of the softmax, the product with the target and its sum."""
    return 7 * inputs[0].size


@_counts("mse")
def squared_error(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """3 for each element: difference, square, sum."""
    return 3 * inputs[0].size


@_counts("batch_norm", "group_norm")
def statistics_norm(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """8 for each input: mean 1, variance 3, shift and scale 2, weight and bias 2; 1 more with an activation."""
    return (8 + (getattr(static.get("activation"), "name", "identity") != "identity")) * inputs[0].size


@_counts("fixed_norm")
def fixed_norm(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """2 for each input, a factor and a shift for each channel; 1 more with an activation."""
    return (2 + (getattr(static.get("activation"), "name", "identity") != "identity")) * inputs[0].size


@_counts("layer_norm", "rms_norm")
def layer_norm(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """8 for each input, as for a batch norm."""
    return 8 * inputs[0].size


@_counts("var", "std", "norm")
def variance(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """4 for each input: mean, difference, square, sum."""
    return 4 * inputs[0].size


@_counts("upsample")
def upsample(inputs: Arrays, static: dict[str, Any], outputs: Arrays) -> int:
    """2 for each output: a factor and a sum."""
    return 2 * outputs[0].size
