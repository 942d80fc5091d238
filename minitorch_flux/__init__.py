"""minitorch_flux: Flux's layers and Metalhead's models in Python, from scratch on NumPy and CuPy.

    import minitorch_flux as flux

This file is the table of contents: every public name, by the part of the package that it comes from.
"""

from __future__ import annotations

import importlib
from types import FunctionType
from typing import TYPE_CHECKING, Any

from . import losses
from .autograd import (
    Buffer,
    Param,
    TapeError,
    Tensor,
    custom_gradient,
    debug,
    gradient,
    hessian,
    is_recording,
    jacobian,
    no_grad,
    record,
    tensor,
    vjp,
    withgradient,
)
from .backend import DeviceError, Generator, allow_tf32, free_memory, memory_stats, seed, use_kernels
from .backend.threads import num_threads, set_num_threads
from .nn.attention_layers import MultiHeadAttention
from .nn.cells import GRUCell, GRUv3Cell, LSTMCell, RNNCell
from .nn.chain import Chain, activations
from .nn.combinations import Maxout, PairwiseFusion, Parallel, SkipConnection
from .nn.conversions import bf16, f16, f32, f64
from .nn.convolutions import Conv, CrossCor
from .nn.dense import Dense
from .nn.depthwise_convolutions import DepthwiseConv
from .nn.dropouts import AlphaDropout, Dropout
from .nn.embeddings import Embedding, EmbeddingBag
from .nn.initialisers import (
    glorot_normal,
    glorot_uniform,
    identity_init,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    nfan,
    normal_init,
    ones,
    orthogonal,
    sparse_init,
    truncated_normal,
    uniform_init,
    zeros,
)
from .nn.layer_norms import LayerNorm, LayerNormV2, RMSNorm
from .nn.layouts import WHCN
from .nn.lazy_sizes import build
from .nn.models_state import loadmodel, state
from .nn.module import Module, testmode, trainmode, zero_grad
from .nn.moving import cpu, gpu
from .nn.norms import BatchNorm, GroupNorm, InstanceNorm
from .nn.output_sizes import outputsize
from .nn.pools import (
    AdaptiveMaxPool,
    AdaptiveMeanPool,
    GlobalMaxPool,
    GlobalMeanPool,
    LpPool,
    MaxPool,
    MeanPool,
)
from .nn.recurrence import Recur, reset, truncate
from .nn.recurrent_layers import GRU, LSTM, RNN, GRUv3
from .nn.scales import Bilinear, Scale
from .nn.transposed_convolutions import ConvTranspose
from .nn.upsamples import PixelShuffle, Upsample
from .nn.weight_norms import WeightNorm
from .ops.adaptive_pooling import adaptive_maxpool, adaptive_meanpool
from .ops.arithmetic import (
    absolute,
    add,
    ceil,
    divide,
    floor,
    floor_divide,
    fmod,
    multiply,
    negative,
    remainder,
    sign,
    subtract,
    trunc,
)
from .ops.arithmetic import (
    round as round,
)
from .ops.attention import dot_product_attention
from .ops.comparisons import (
    allclose,
    array_equal,
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    clip,
    equal,
    greater,
    greater_equal,
    invert,
    isclose,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    nan_to_num,
    not_equal,
    where,
)
from .ops.contractions import einsum
from .ops.convolution import conv
from .ops.diagonals import diag, diagonal, tril, triu
from .ops.dropouts import alpha_dropout, dropout
from .ops.elementary import (
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    cbrt,
    cos,
    cosh,
    exp,
    exp2,
    expm1,
    hypot,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    power,
    reciprocal,
    rsqrt,
    sin,
    sinh,
    sqrt,
    square,
    tan,
)
from .ops.extremes import amax, amin, argmax, argmin
from .ops.extremes import max as max
from .ops.extremes import min as min
from .ops.geometry import SamePad
from .ops.im2col import fold, unfold
from .ops.indexing import take, take_along_axis
from .ops.irregular_activations import glu, rrelu
from .ops.joining import cat, chunk, concatenate, dstack, hstack, split, stack, unstack, vstack
from .ops.lp_pooling import lpnormpool
from .ops.nonlinearities import (
    bias_act,
    celu,
    elu,
    gelu,
    gelu_erf,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    identity,
    leakyrelu,
    lisht,
    logcosh,
    logsigmoid,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    softplus,
    softshrink,
    softsign,
    swish,
    tanh,
    tanhshrink,
    trelu,
    σ,
)
from .ops.padding import pad, pad_constant
from .ops.pooling import maxpool, meanpool
from .ops.products import dot, inner, kron, matmul, outer, tensordot, vdot
from .ops.reductions import all as all
from .ops.reductions import any as any
from .ops.reductions import broadcast_to, count_nonzero, mean, prod, sum_to
from .ops.reductions import sum as sum
from .ops.scans import cumprod, cumsum
from .ops.scattering import put_along_axis, scatter, scatter_add
from .ops.shapes import (
    astype,
    atleast_1d,
    atleast_2d,
    atleast_3d,
    copy,
    expand_dims,
    flatten,
    flip,
    moveaxis,
    permute,
    ravel,
    repeat,
    reshape,
    roll,
    rot90,
    squeeze,
    swapaxes,
    tile,
    transpose,
)
from .ops.softmaxes import logsoftmax, logsumexp, softmax
from .ops.sorting import argsort, sort, topk
from .ops.special import erf, xlogy
from .ops.statistics import median, norm, std, var
from .ops.transposed_convolution import conv_transpose
from .ops.upsampling import pixel_shuffle, upsample_bicubic, upsample_linear, upsample_nearest
from .optimisers import (
    AccumGrad,
    AdaBelief,
    AdaDelta,
    AdaGrad,
    Adam,
    AdaMax,
    AdamW,
    AMSGrad,
    ClipGrad,
    ClipNorm,
    Descent,
    Lion,
    Momentum,
    NAdam,
    Nesterov,
    OptimiserChain,
    RAdam,
    RMSProp,
    WeightDecay,
    adjust,
    freeze,
    setup,
    thaw,
    update,
)
from .spelling import missing_name, teach

if TYPE_CHECKING:  # imported when first used: training needs files, progress bars and data sets, a layer does not
    from . import data, models, onnx, schedules
    from .autograd.checker import CheckError, check
    from .capturing import CaptureError, capture
    from .data import DataLoader, onecold, onehot, onehotbatch, splitobs
    from .files import FileError, load, load_checkpoint, save, save_checkpoint
    from .models import layers as Layers
    from .training import (
        Callback,
        Checkpoint,
        CSVLog,
        EarlyStopping,
        Evaluate,
        JSONLog,
        Progress,
        Schedule,
        StopOnNonFinite,
        StopOnSignal,
        TrainState,
        accuracy,
        confusion_matrix,
        evaluate,
        predict,
        train,
    )

__version__ = "0.1.0"

abs = absolute  # NumPy's other name, as flux.abs

# Of the public names only those that would shadow a builtin (abs, all, any, max, min, round, sum) are left out.
__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "WHCN",
    "AMSGrad",
    "AccumGrad",
    "AdaBelief",
    "AdaDelta",
    "AdaGrad",
    "AdaMax",
    "Adam",
    "AdamW",
    "AdaptiveMaxPool",
    "AdaptiveMeanPool",
    "AlphaDropout",
    "BatchNorm",
    "Bilinear",
    "Buffer",
    "CSVLog",
    "Callback",
    "CaptureError",
    "Chain",
    "CheckError",
    "Checkpoint",
    "ClipGrad",
    "ClipNorm",
    "Conv",
    "ConvTranspose",
    "CrossCor",
    "DataLoader",
    "Dense",
    "DepthwiseConv",
    "Descent",
    "DeviceError",
    "Dropout",
    "EarlyStopping",
    "Embedding",
    "EmbeddingBag",
    "Evaluate",
    "FileError",
    "GRUCell",
    "GRUv3",
    "GRUv3Cell",
    "Generator",
    "GlobalMaxPool",
    "GlobalMeanPool",
    "GroupNorm",
    "InstanceNorm",
    "JSONLog",
    "LSTMCell",
    "LayerNorm",
    "LayerNormV2",
    "Layers",
    "Lion",
    "LpPool",
    "MaxPool",
    "Maxout",
    "MeanPool",
    "Module",
    "Momentum",
    "MultiHeadAttention",
    "NAdam",
    "Nesterov",
    "OptimiserChain",
    "PairwiseFusion",
    "Parallel",
    "Param",
    "PixelShuffle",
    "Progress",
    "RAdam",
    "RMSNorm",
    "RMSProp",
    "RNNCell",
    "Recur",
    "SamePad",
    "Scale",
    "Schedule",
    "SkipConnection",
    "StopOnNonFinite",
    "StopOnSignal",
    "TapeError",
    "Tensor",
    "TrainState",
    "Upsample",
    "WeightDecay",
    "WeightNorm",
    "absolute",
    "accuracy",
    "activations",
    "adaptive_maxpool",
    "adaptive_meanpool",
    "add",
    "adjust",
    "allclose",
    "allow_tf32",
    "alpha_dropout",
    "amax",
    "amin",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "argmax",
    "argmin",
    "argsort",
    "array_equal",
    "astype",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "bf16",
    "bias_act",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "broadcast_to",
    "build",
    "capture",
    "cat",
    "cbrt",
    "ceil",
    "celu",
    "check",
    "chunk",
    "clip",
    "concatenate",
    "confusion_matrix",
    "conv",
    "conv_transpose",
    "copy",
    "cos",
    "cosh",
    "count_nonzero",
    "cpu",
    "cumprod",
    "cumsum",
    "custom_gradient",
    "data",
    "debug",
    "diag",
    "diagonal",
    "divide",
    "dot",
    "dot_product_attention",
    "dropout",
    "dstack",
    "einsum",
    "elu",
    "equal",
    "erf",
    "evaluate",
    "exp",
    "exp2",
    "expand_dims",
    "expm1",
    "f16",
    "f32",
    "f64",
    "flatten",
    "flip",
    "floor",
    "floor_divide",
    "fmod",
    "fold",
    "free_memory",
    "freeze",
    "gelu",
    "gelu_erf",
    "glorot_normal",
    "glorot_uniform",
    "glu",
    "gpu",
    "gradient",
    "greater",
    "greater_equal",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hessian",
    "hstack",
    "hypot",
    "identity",
    "identity_init",
    "inner",
    "invert",
    "is_recording",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "jacobian",
    "kaiming_normal",
    "kaiming_uniform",
    "kron",
    "leakyrelu",
    "lecun_normal",
    "less",
    "less_equal",
    "lisht",
    "load",
    "load_checkpoint",
    "loadmodel",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logcosh",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsigmoid",
    "logsoftmax",
    "logsumexp",
    "losses",
    "lpnormpool",
    "matmul",
    "maximum",
    "maxpool",
    "mean",
    "meanpool",
    "median",
    "memory_stats",
    "minimum",
    "mish",
    "models",
    "moveaxis",
    "multiply",
    "nan_to_num",
    "negative",
    "nfan",
    "no_grad",
    "norm",
    "normal_init",
    "not_equal",
    "num_threads",
    "onecold",
    "onehot",
    "onehotbatch",
    "ones",
    "onnx",
    "orthogonal",
    "outer",
    "outputsize",
    "pad",
    "pad_constant",
    "permute",
    "pixel_shuffle",
    "power",
    "predict",
    "prod",
    "put_along_axis",
    "ravel",
    "reciprocal",
    "record",
    "relu",
    "relu6",
    "remainder",
    "repeat",
    "reset",
    "reshape",
    "roll",
    "rot90",
    "rrelu",
    "rsqrt",
    "save",
    "save_checkpoint",
    "scatter",
    "scatter_add",
    "schedules",
    "seed",
    "selu",
    "set_num_threads",
    "setup",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "softmax",
    "softplus",
    "softshrink",
    "softsign",
    "sort",
    "sparse_init",
    "split",
    "splitobs",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "state",
    "std",
    "subtract",
    "sum_to",
    "swapaxes",
    "swish",
    "take",
    "take_along_axis",
    "tan",
    "tanh",
    "tanhshrink",
    "tensor",
    "tensordot",
    "testmode",
    "thaw",
    "tile",
    "topk",
    "train",
    "trainmode",
    "transpose",
    "trelu",
    "tril",
    "triu",
    "trunc",
    "truncate",
    "truncated_normal",
    "unfold",
    "uniform_init",
    "unstack",
    "update",
    "upsample_bicubic",
    "upsample_linear",
    "upsample_nearest",
    "use_kernels",
    "var",
    "vdot",
    "vjp",
    "vstack",
    "where",
    "withgradient",
    "xlogy",
    "zero_grad",
    "zeros",
    "σ",
]

_LATER = {
    "CSVLog": "training",
    "Callback": "training",
    "CaptureError": "capturing",
    "CheckError": "autograd.checker",
    "Checkpoint": "training",
    "DataLoader": "data",
    "EarlyStopping": "training",
    "Evaluate": "training",
    "FileError": "files",
    "JSONLog": "training",
    "Layers": "models",
    "Progress": "training",
    "Schedule": "training",
    "StopOnNonFinite": "training",
    "StopOnSignal": "training",
    "TrainState": "training",
    "accuracy": "training",
    "capture": "capturing",
    "check": "autograd.checker",
    "confusion_matrix": "training",
    "data": ".",
    "evaluate": "training",
    "load": "files",
    "load_checkpoint": "files",
    "models": ".",
    "onecold": "data",
    "onehot": "data",
    "onehotbatch": "data",
    "onnx": ".",
    "predict": "training",
    "save": "files",
    "save_checkpoint": "files",
    "schedules": ".",
    "splitobs": "data",
    "train": "training",
}


def _taught(value: Any) -> Any:
    if not isinstance(value, FunctionType):
        return value
    taught = teach(value)
    if taught is not value:
        taught.__module__ = __name__  # where pickles find it
    return taught


for _name, _value in list(globals().items()):
    if not _name.startswith("_"):
        globals()[_name] = _taught(_value)


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise missing_name(name)
    place = _LATER[name]
    if place == ".":
        return importlib.import_module(f".{name}", __name__)
    value = globals()[name] = _taught(getattr(importlib.import_module(f".{place}", __name__), name))
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
