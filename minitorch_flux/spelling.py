"""Names that users bring from other frameworks, and ours: one table, used for error messages only."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

NAMES = {
    "Linear": "Dense",
    "Sequential": "Chain",
    "LazyLinear": "Dense(None, out)",
    "LazyConv1d": "Conv((k,), None, out)",
    "LazyConv2d": "Conv((kh, kw), None, out)",
    "LazyConv3d": "Conv((kd, kh, kw), None, out)",
    "LazyBatchNorm1d": "BatchNorm(None)",
    "LazyBatchNorm2d": "BatchNorm(None)",
    "LazyBatchNorm3d": "BatchNorm(None)",
    "Conv1d": "Conv((k,), in, out)",
    "Conv2d": "Conv((kh, kw), in, out)",
    "Conv3d": "Conv((kd, kh, kw), in, out)",
    "ConvTranspose1d": "ConvTranspose((k,), in, out)",
    "ConvTranspose2d": "ConvTranspose((kh, kw), in, out)",
    "ConvTranspose3d": "ConvTranspose((kd, kh, kw), in, out)",
    "MaxPool1d": "MaxPool((k,))",
    "MaxPool2d": "MaxPool((kh, kw))",
    "MaxPool3d": "MaxPool((kd, kh, kw))",
    "AvgPool1d": "MeanPool((k,))",
    "AvgPool2d": "MeanPool((kh, kw))",
    "AvgPool3d": "MeanPool((kd, kh, kw))",
    "AdaptiveAvgPool2d": "AdaptiveMeanPool((oh, ow))",
    "AdaptiveMaxPool2d": "AdaptiveMaxPool((oh, ow))",
    "AvgPool": "MeanPool",
    "GlobalAvgPool": "GlobalMeanPool",
    "BatchNorm1d": "BatchNorm",
    "BatchNorm2d": "BatchNorm",
    "BatchNorm3d": "BatchNorm",
    "InstanceNorm1d": "InstanceNorm",
    "InstanceNorm2d": "InstanceNorm",
    "InstanceNorm3d": "InstanceNorm",
    "UpsamplingNearest2d": "Upsample('nearest')",
    "UpsamplingBilinear2d": "Upsample('bilinear', align_corners=True)",
    "interpolate": "upsample_nearest or upsample_linear",
    "weight_norm": "WeightNorm(layer)",
    "Dropout2d": "Dropout(p, axis=...)",
    "MultiheadAttention": "MultiHeadAttention",
    "scaled_dot_product_attention": "dot_product_attention",
    "CTCLoss": "losses.ctc_loss",
    "Flatten": "flatten",
    "ReLU": "relu",
    "LeakyReLU": "leakyrelu",
    "leaky_relu": "leakyrelu",
    "GELU": "gelu_erf",
    "SiLU": "swish",
    "silu": "swish",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softmax": "softmax",
    "log_softmax": "logsoftmax",
    "LogSoftmax": "logsoftmax",
    "CrossEntropyLoss": "losses.logitcrossentropy",
    "cross_entropy": "losses.logitcrossentropy",
    "NLLLoss": "losses.crossentropy",
    "MSELoss": "losses.mse",
    "mse_loss": "losses.mse",
    "L1Loss": "losses.mae",
    "BCELoss": "losses.binarycrossentropy",
    "BCEWithLogitsLoss": "losses.logitbinarycrossentropy",
    "SGD": "Descent (or Momentum, Nesterov)",
    "Adagrad": "AdaGrad",
    "Adadelta": "AdaDelta",
    "Adamax": "AdaMax",
    "RMSprop": "RMSProp",
    "Parameter": "Param",
    "from_numpy": "tensor",
    "manual_seed": "seed",
    "Optimiser": "setup",
    "params": "a model's .parameters()",
    "Recurrence": "Recur",
    "pack_padded_sequence": "LSTM(...)(x, lengths=...)",
    "pad_packed_sequence": "LSTM(...)(x, lengths=...)",
}
"""Public names of Flux.jl and PyTorch that are spelled differently here."""

KEYWORDS = {
    "padding": "pad",
    "kernel_size": "the first argument, a tuple",
    "batch_size": "batchsize",
    "dim": "axis",
    "dims": "axis",
    "keepdim": "keepdims",
    "reduction": "agg",
    "in_channels": "the channel pair (in, out)",
    "out_channels": "the channel pair (in, out)",
    "in_features": "the first argument",
    "out_features": "the second argument",
    "num_features": "the first argument",
    "input_size": "the first argument",
    "hidden_size": "the second argument",
    "output_padding": "outpad",
    "num_heads": "nheads",
    "attn_mask": "mask",
    "is_causal": "causal",
    "need_weights": "return_weights",
    "track_running_stats": "track_stats",
    "elementwise_affine": "affine",
    "num_channels": "the first argument",
    "normalized_shape": "the first argument",
    "scale_factor": "scale",
    "upscale_factor": "the first argument",
    "in1_features": "the pair (in1, in2)",
    "in2_features": "the pair (in1, in2)",
    "num_groups": "the second argument",
    "num_embeddings": "the first argument",
    "embedding_dim": "the second argument",
    "epsilon": "eps",
    "return_indices": "nothing: MaxPool keeps them itself",
    "σ": "the activation, after the sizes",
    "activation_fn": "the activation, after the sizes",
    "nonlinearity": "the activation, after the sizes",
    "learning_rate": "eta (or lr)",
    "num_classes": "nclasses",
    "approximate": "gelu (tanh form) or gelu_erf",
    "negative_slope": "the second argument",
    "divisor_override": "agg or a multiplication",
    "drop_last": "partial=False",
    "num_workers": "prefetch",
    "prefetch_factor": "prefetch",
    "collate_fn": "collate",
    "generator": "rng",
    "initW": "init",
    "initb": "init_bias",
    "init_w": "init",
    "init_b": "init_bias",
    "initβ": "init_beta",
    "initγ": "init_gamma",
}
"""Keywords of other frameworks and what says the same here."""


def check_keywords(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError, naming our spelling, for a keyword that ``what`` does not know but another framework does."""
    known = set(known)
    for name in given:
        if name not in known and name in KEYWORDS:
            ours = KEYWORDS[name]
            text = f"`{ours}=`" if ours.isidentifier() else ours
            raise TypeError(f"{what}: `{name}=` is spelled {text} here")


def known_keywords(function: Callable[..., Any]) -> frozenset[str] | None:
    """The names of the parameters of ``function``; None where it takes any keyword, so that none is foreign to it."""
    parameters = inspect.signature(function).parameters
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else frozenset(parameters)


@functools.cache  # two names of a function are one object
def teach(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with an error that gives our spelling for a foreign keyword."""
    known = known_keywords(function)
    if known is None:
        return function

    @functools.wraps(function)
    def taught(*args: Any, **keywords: Any) -> Any:
        if not known.issuperset(keywords):
            check_keywords(function.__name__, keywords, known)
        return function(*args, **keywords)

    return taught


def missing_name(name: str) -> AttributeError:
    """The error for ``flux.<name>``: our spelling where the name belongs to another framework."""
    ours = NAMES.get(name)
    hint = f": it is spelled {ours} here" if ours else ""
    return AttributeError(f"minitorch_flux has no {name!r}{hint}", name=name)
