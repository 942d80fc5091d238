"""What holds for every layer, checked for every layer: one table of constructions that covers every keyword.

What a layer computes is in its own test file, against an independent oracle; this one holds all to the same laws.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import pickle
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import (
    GRU,
    LSTM,
    RNN,
    WHCN,
    AdaptiveMaxPool,
    AdaptiveMeanPool,
    AlphaDropout,
    BatchNorm,
    Bilinear,
    Chain,
    Checkpointed,
    Conv,
    ConvTranspose,
    CrossCor,
    Dense,
    DepthwiseConv,
    Dropout,
    Embedding,
    EmbeddingBag,
    Generator,
    GlobalMaxPool,
    GlobalMeanPool,
    GroupNorm,
    GRUCell,
    GRUv3,
    GRUv3Cell,
    InstanceNorm,
    LayerNorm,
    LayerNormV2,
    LpPool,
    LSTMCell,
    Maxout,
    MaxPool,
    MeanPool,
    Module,
    MultiHeadAttention,
    PairwiseFusion,
    Parallel,
    PixelShuffle,
    Recur,
    RMSNorm,
    RNNCell,
    SamePad,
    Scale,
    SkipConnection,
    Tensor,
    Upsample,
    WeightNorm,
    gelu,
    kaiming_normal,
    normal_init,
    ones,
    relu,
    sigmoid,
    swish,
    tanh,
    uniform_init,
)
from minitorch_flux.nn.printing import text


def numbers(*shape):
    """Numbers in no order of which no two are equal or opposite, and none is small: away from kinks and ties."""
    n = int(np.prod(shape))
    x = np.random.default_rng(n).permutation(n).astype(np.float32) + 1
    x[::2] *= -1
    return (2 * x / max(n, 1)).reshape(shape)


def integers(*shape):
    return np.random.default_rng(0).integers(0, 5, shape)


def fresh():
    """In the table: a new generator for each layer that is made."""


def bent(x):
    """An activation that no fused operation knows."""
    return x / (1 + x * x)


seeds = itertools.count(10)


def drawn(make, *args):
    """A layer whose weights are the same in every run."""
    return make(*args, rng=Generator(next(seeds)))


def without_counter(text):
    """A generator that has drawn the weights has moved on."""
    return re.sub(r", counter=\d+", "", text)


@dataclass
class Case:
    """A layer, by its class and arguments, and an input for it."""

    make: Any
    args: tuple[Any, ...]
    keywords: dict[str, Any]
    inputs: tuple[Any, ...]
    call: dict[str, Any] = field(default_factory=dict)  # keywords of the call
    batch: int | None = 0  # the axis of the inputs along which samples lie; None where there is none
    single: bool = False  # whether one sample without that axis is taken, too
    order: int = 2  # of the derivatives that are checked; 0: nothing to differentiate
    lists: bool = True  # whether lists are taken for arrays

    def layer(self):
        flux.seed(3)
        keywords = {k: Generator(1) if v is fresh else v for k, v in self.keywords.items()}
        return self.make(*copy.deepcopy(self.args), **copy.deepcopy(keywords))

    def name(self, m):
        """What the errors of a layer begin with: itself, or the path to a layer in it."""
        of_layers = (Chain, Maxout, SkipConnection, Parallel, PairwiseFusion, WHCN, Checkpointed)
        return self.make.__name__ if self.make in of_layers else without_counter(text(m))

    def __str__(self):
        keywords = [f"{k}={text(v)}" for k, v in (self.keywords | self.call).items()]
        return f"{self.make.__name__}({', '.join([*map(text, self.args), *keywords])})"


CASES: list[Case] = []


def add(make, *args, x, **keywords):
    """A row of the table; what belongs to ``Case`` itself is given as ``case_...``."""
    own = {k[5:]: keywords.pop(k) for k in list(keywords) if k.startswith("case_")}
    CASES.append(Case(make, args, keywords, x if isinstance(x, tuple) else (x,), **own))


b5, b4, b3 = (np.linspace(-1, 1, n, dtype=np.float32) for n in (5, 4, 3))
positive = uniform_init(low=0.5, high=1.5)

# dense
add(Dense, 4, 3, x=numbers(5, 4), case_single=True)
add(Dense, (4, 3), relu, x=numbers(2, 5, 4), bias=False)
add(Dense, 4, 3, gelu, x=numbers(5, 4), bias=b3, init=kaiming_normal(gain=1), rng=fresh, case_single=True)
add(Dense, 4, 3, bent, x=numbers(5, 4), init_bias=normal_init, case_single=True)
add(Scale, 4, x=numbers(3, 4), case_single=True)
add(Scale, (2, 4), tanh, x=numbers(3, 2, 4), bias=False, init=normal_init, rng=fresh, case_single=True)
add(Scale, 4, x=numbers(3, 4), bias=b4, init_bias=ones, case_single=True)
add(Bilinear, (3, 2), 4, x=(numbers(5, 3), numbers(5, 2)), case_single=True)
add(Bilinear, (3, 2), 4, sigmoid, x=(numbers(5, 3), numbers(5, 2)), bias=False, init=normal_init, rng=fresh)
add(Bilinear, 3, 4, bent, x=numbers(5, 3), bias=b4, init_bias=ones)
add(Embedding, 5, 3, x=integers(4, 2), case_single=True)
add(Embedding, (5, 3), x=integers(4), init=flux.glorot_uniform, padding_idx=-1, rng=fresh,
    case_order=0)
add(EmbeddingBag, 5, 3, x=integers(4, 2))
add(EmbeddingBag, 5, 3, "sum", x=integers(4, 6), init=flux.glorot_uniform, padding_idx=1, rng=fresh)
add(EmbeddingBag, 5, 3, mode="max", x=integers(4, 2, 6), case_single=True)
add(EmbeddingBag, 5, 3, x=integers(7), case_call={"offsets": np.array([0, 3, 3])}, case_batch=None)
add(EmbeddingBag, 5, 3, "sum", x=integers(4, 6), case_call={"per_sample_weights": numbers(4, 6)}, case_batch=None)

add(Dense, numbers(3, 4), b3, relu, x=numbers(5, 4))
add(Scale, numbers(4), b4, relu, x=numbers(5, 4))
add(Bilinear, numbers(4, 3, 2), b4, relu, x=(numbers(5, 3), numbers(5, 2)))
add(Embedding, numbers(5, 3), x=integers(4, 2))
add(EmbeddingBag, numbers(5, 3), x=integers(4, 2))
add(Conv, numbers(4, 2, 2, 3), b4, relu, x=numbers(2, 2, 4, 5))
add(ConvTranspose, numbers(2, 4, 2, 3), b4, relu, x=numbers(2, 2, 4, 5))
add(DepthwiseConv, numbers(4, 1, 2, 3), b4, relu, mul=2, x=numbers(2, 2, 4, 5))

# convolutions
for kind in (Conv, CrossCor, ConvTranspose):
    add(kind, (3,), 2, 4, x=numbers(2, 2, 7), case_single=True)
    add(kind, (2, 3), (2, 4), tanh, x=numbers(2, 2, 5, 6), pad=1, stride=2, bias=False, case_single=True)
    add(kind, (2, 1, 2), 2, 4, swish, x=numbers(1, 2, 3, 2, 3), dilation=(2, 1, 1), groups=2, bias=b4, init=normal_init,
        rng=fresh, case_single=True)
    add(kind, (2, 2), 2, 4, bent, x=numbers(1, 2, 3, 4), init_bias=ones, pad=SamePad(), case_single=True)
add(Conv, (2, 3), 2, 2, relu, x=numbers(2, 2, 5, 6), flipkernel=True, pad=((1, 0), (0, 2)), case_single=True)
add(Conv, (2, 3), 2, 2, x=numbers(2, 2, 5, 6), pad=SamePad("upper"), stride=2, case_single=True)
add(Conv, (2, 3), 2, 2, x=numbers(2, 2, 5, 6), pad="same", case_single=True)
add(ConvTranspose, (2, 3), 2, 2, relu, x=numbers(2, 2, 3, 4), flipkernel=True, stride=(2, 3), outpad=(1, 2), case_single=True)
add(DepthwiseConv, (3, 3), 2, x=numbers(2, 2, 4, 5), case_single=True)
add(DepthwiseConv, (2, 3), (2, 2), tanh, x=numbers(2, 2, 4, 5), pad=1, stride=2, bias=False, case_single=True)
add(DepthwiseConv, (3,), 2, relu, x=numbers(2, 2, 7), mul=2, dilation=2, bias=b4, init=normal_init, rng=fresh,
    flipkernel=True, case_single=True)
add(DepthwiseConv, (2, 2), 2, 1, x=numbers(2, 2, 4, 5), init_bias=ones, pad=SamePad(), case_single=True)

# pools and sizes
for pool in (MaxPool, MeanPool):
    add(pool, (2, 2), x=numbers(2, 2, 5, 6), case_single=True)
    add(pool, 2, x=numbers(2, 2, 5), stride=1, pad=1)
    add(pool, (2, 3), x=numbers(1, 2, 5, 6), stride=(2, 2), pad=((1, 0), (0, 1)), ceil_mode=True, case_single=True)
add(MaxPool, (2, 2), x=numbers(2, 2, 5, 6), dilation=2, pad=SamePad(), case_single=True)
add(MeanPool, (2, 3), x=numbers(2, 2, 5, 6), pad=1, count_include_pad=False, case_single=True)
add(LpPool, (2, 2), 2, x=numbers(2, 2, 5, 6), case_single=True)
add(LpPool, 2, 3, x=numbers(2, 2, 5), stride=1, pad=1)
for pool in (AdaptiveMaxPool, AdaptiveMeanPool):
    add(pool, (2, 3), x=numbers(2, 2, 5, 6), case_single=True)
    add(pool, 3, x=numbers(2, 2, 5))
for pool in (GlobalMaxPool, GlobalMeanPool):
    add(pool, x=numbers(2, 2, 5, 6))
for mode, *shape in (("nearest", 2, 2, 3, 4), ("linear", 2, 2, 5), ("bilinear", 1, 2, 3, 4), ("trilinear", 1, 1, 2, 3, 2),
                     ("bicubic", 1, 1, 4, 5)):
    add(Upsample, mode, x=numbers(*shape), scale=2)
    if mode != "nearest":
        add(Upsample, mode, x=numbers(*shape), size=7, align_corners=True)
add(Upsample, mode="nearest", x=numbers(2, 2, 3, 4), size=(5, 7))
add(PixelShuffle, 2, x=numbers(2, 8, 2, 3))

# norms and dropout
for norm, sizes, shape in ((BatchNorm, (4,), (3, 4, 5)), (GroupNorm, (4, 2), (3, 4, 5)), (InstanceNorm, (4,), (3, 4, 5))):
    add(norm, *sizes, x=numbers(*shape))
    add(norm, *sizes, tanh, x=numbers(*shape, 2), affine=True, track_stats=True, momentum=0.3, eps=1e-3, init_beta=normal_init,
        init_gamma=positive)
    add(norm, *sizes, bent, x=numbers(*shape), affine=False, track_stats=False, active=True)
    add(norm, *sizes, x=numbers(*shape), affine=True, bias=False)
    add(norm, *sizes, relu, x=numbers(*shape), affine=True, bias=b4)
add(BatchNorm, 4, x=numbers(6, 4), active=False, ϵ=1e-3)
add(GroupNorm, 4, 2, x=numbers(2, 4, 3), ϵ=1e-3)
add(InstanceNorm, 4, x=numbers(2, 4, 3), ϵ=1e-3)
for norm in (LayerNorm, LayerNormV2, RMSNorm):
    add(norm, 4, x=numbers(3, 4), case_single=True)
    add(norm, (2, 4), tanh, x=numbers(3, 2, 4), eps=1e-2, init=positive)
    add(norm, 4, bent, x=numbers(3, 4), affine=False)
for norm in (LayerNorm, LayerNormV2):
    add(norm, 4, x=numbers(3, 4), bias=False)
    add(norm, 4, x=numbers(3, 4), bias=b4, init_bias=ones)
add(Dropout, 0.3, x=numbers(4, 5), case_single=True)
add(Dropout, 0.3, x=numbers(4, 5), axis=(1,), rng=fresh, active=True)
add(Dropout, 0.3, x=numbers(4, 5), dims=0, active=False)
add(AlphaDropout, 0.3, x=numbers(4, 5), case_single=True)
add(AlphaDropout, 0.3, x=numbers(4, 5), rng=fresh, active=True)

# recurrent layers, time first
mask = np.array([[True, True], [True, True], [True, False]])
for kind in (RNN, LSTM, GRU, GRUv3):
    recur = functools.partial(add, kind, case_batch=1)
    recur(3, 4, x=numbers(3, 2, 3))
    recur((3, 4), x=numbers(3, 2, 3), bias=False, init=normal_init, init_recurrent=flux.orthogonal, rng=fresh,
          num_layers=2, bidirectional=True)
    recur(3, 4, x=numbers(3, 2, 3), hidden_bias=True, init_bias=ones, train_init=True, stateful=True)
    recur(3, 4, x=numbers(2, 3, 3), bias=np.linspace(-1, 1, 4 * kind.gates), batch_first=True, case_batch=0)
    recur(3, 4, x=numbers(3, 2, 3), num_layers=2, dropout=0.5)
    recur(3, 4, x=numbers(3, 2, 3), case_call={"mask": mask}, case_batch=None)
    h = numbers(2, 4) / 3
    recur(3, 4, x=numbers(3, 2, 3), case_call={"lengths": [2, 3], "state": (h, h) if kind is LSTM else h}, case_batch=None)
    add(kind, 3, 4, x=numbers(2, 3), case_single=True)
add(RNN, 3, 4, relu, x=numbers(3, 2, 3), case_batch=1)
add(RNN, 3, 4, activation=bent, x=numbers(3, 2, 3), case_batch=1)
state = numbers(2, 4) / 3
for kind in (RNNCell, LSTMCell, GRUCell, GRUv3Cell):
    h = (state, state) if kind is LSTMCell else state
    cell = functools.partial(add, kind, 3, 4, case_batch=None, case_lists=False)
    cell(x=(h, numbers(2, 3)))
    cell(x=(h, numbers(2, 3)), bias=False, init=normal_init, init_recurrent=flux.orthogonal, rng=fresh)
    cell(x=(h, numbers(2, 3)), bias=np.linspace(-1, 1, 4 * kind.gates), hidden_bias=True, init_bias=ones)
add(RNNCell, (3, 4), relu, x=(state, numbers(2, 3)), case_batch=None, case_lists=False)
add(RNNCell, 3, 4, activation=bent, x=(state, numbers(2, 3)), case_batch=None, case_lists=False)


def total(h, x):
    return h + x, h * x


add(Recur, drawn(RNNCell, 3, 4), x=numbers(2, 3), case_single=True, case_lists=False)
add(Recur, total, x=numbers(2, 3), state=b3, case_lists=False)

# attention
tokens = numbers(2, 3, 4)
add(MultiHeadAttention, 4, x=tokens, nheads=2)
add(MultiHeadAttention, 4, 4, x=(tokens, numbers(2, 5, 3), numbers(2, 5, 2)), nkvheads=2, kdim=3, vdim=2, bias=False,
    init=normal_init, rng=fresh)
add(MultiHeadAttention, (4, (6, 2), 3), x=tokens, nheads=2, init_bias=ones, dropout_prob=0.5, active=True)
add(MultiHeadAttention, 4, x=tokens, nheads=2, case_call={"causal": True, "mask": integers(3, 3) >= 0})
add(MultiHeadAttention, 4, x=tokens, nheads=2, case_batch=None,
    case_call={"key_padding_mask": np.array([[False, False, True], [False] * 3]), "return_weights": True})

# layers of layers
add(Chain, drawn(Dense, 4, 3, relu), tanh, BatchNorm(3), x=numbers(5, 4))
add(Chain, x=numbers(5, 4), first=drawn(Dense, 4, 3), second=Dropout(0.5, active=False), case_single=True)
add(Maxout, drawn(Dense, 4, 3), drawn(Dense, 4, 3), x=numbers(5, 4), case_single=True)
add(Maxout, (drawn(Dense, 4, 3), drawn(Dense, 4, 3, tanh)), x=numbers(5, 4), case_single=True)
add(Maxout, functools.partial(Dense, 4, 3), 3, x=numbers(5, 4), case_single=True)
add(SkipConnection, drawn(Dense, 4, 4), flux.add, x=numbers(5, 4), case_single=True)
add(SkipConnection, layer=drawn(Dense, 4, 4), connection=functools.partial(flux.cat, axis=-1), x=numbers(5, 4),
    case_single=True)
for kind in (Parallel, PairwiseFusion):
    add(kind, flux.add, drawn(Dense, 4, 4), drawn(Dense, 4, 4, tanh), x=numbers(5, 4), case_single=True)
    add(kind, drawn(Bilinear, (4, 4), 4), a=drawn(Dense, 4, 4), b=drawn(Dense, 4, 4), x=(numbers(5, 4), numbers(5, 4) * 0.5))
add(WeightNorm, drawn(Dense, 4, 3, relu), x=numbers(5, 4), case_single=True)
add(WeightNorm, drawn(LSTM, 3, 4), "weight_hh_l0", None, x=numbers(3, 2, 3), case_batch=1)
add(WeightNorm, layer=drawn(Conv, (2, 2), 2, 3), name="weight", axis=1, x=numbers(2, 2, 3, 4), case_single=True)
add(WHCN, Chain(drawn(Conv, (2, 3), 2, 3, tanh), BatchNorm(3)), x=numbers(4, 3, 2, 5), case_batch=3, case_lists=False)
add(WHCN, drawn(Dense, 4, 3), x=numbers(4, 5), case_batch=1, case_lists=False)
add(Checkpointed, drawn(Dense, 4, 3, relu), x=numbers(5, 4), case_single=True)
add(Checkpointed, layer=Chain(drawn(Conv, (2, 3), 2, 3, tanh), BatchNorm(3)), x=numbers(4, 2, 3, 5))

LAYERS = {n: v for n in flux.__all__ if isinstance(v := getattr(flux, n), type) and issubclass(v, Module) and v is not Module}

NORMS = (BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LayerNormV2, RMSNorm)

every_layer = pytest.mark.parametrize("case", CASES, ids=str)


# -- the table itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_the_table_has_every_keyword_of_every_layer(name):
    cases = [c for c in CASES if c.make is LAYERS[name]]
    assert cases, f"{name} is in no row of the table"
    for function, given in (
        (LAYERS[name].__init__, [(c.args, c.keywords) for c in cases]),
        (LAYERS[name].__call__, [(c.inputs, c.call) for c in cases]),
    ):
        signature = inspect.signature(function)
        seen = {n for args, keywords in given for n in signature.bind(None, *args, **keywords).arguments}
        missing = [n for n, p in signature.parameters.items() if n not in seen | {"self"} and p.kind is not p.VAR_KEYWORD]
        assert not missing, f"no row gives {', '.join(missing)} to {name}"


# -- the laws ----------------------------------------------------------------------------------------------------------


def outputs(y):
    """All tensors in an output."""
    if isinstance(y, tuple | list):
        return [t for part in y for t in outputs(part)]
    assert isinstance(y, Tensor), f"an output is a {type(y).__name__}"
    return [y]


def arrays(y):
    return [t.numpy() for t in outputs(y)]


def mapped(x, f):
    return tuple(mapped(v, f) for v in x) if isinstance(x, tuple) else f(x)


def same(a, b):
    a, b = arrays(a), arrays(b)
    assert len(a) == len(b)
    for u, v in zip(a, b, strict=True):
        assert u.dtype == v.dtype
        np.testing.assert_array_equal(u, v)


def near(a, b, tolerance=1e-5):
    for u, v in zip(a, b, strict=True):
        assert u.shape == v.shape
        np.testing.assert_allclose(u, v, rtol=tolerance, atol=tolerance)


def run(m, case, inputs=None):
    return flux.reset(m)(*(case.inputs if inputs is None else inputs), **case.call)


def attempt(f, *args, **keywords):
    """What f gives, or the error that it raises."""
    try:
        return f(*args, **keywords)
    except Exception as error:
        return error


@every_layer
def test_it_prints_as_python_that_rebuilds_it(case):
    m = case.layer()
    if "<array" in repr(m):
        return  # a state to begin with: arrays are not written out
    again = eval(repr(m), {**vars(flux), "total": total, "bent": bent, "partial": functools.partial})
    assert without_counter(repr(again)) == without_counter(repr(m))
    assert type(again) is type(m)


@every_layer
def test_arguments_are_kept_as_attributes_of_the_same_names(case):
    m = case.layer()
    signature = inspect.signature(case.make.__init__)
    for name in signature.bind(m, *case.args, **case.keywords).arguments:
        of_layers = signature.parameters[name].kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if not of_layers and name not in ("self", "rng", "ε") and case.make is not WeightNorm:  # which is the layer itself
            getattr(m, name)


@every_layer
def test_the_state_dict_makes_another_one_the_same(case):
    m = case.layer()
    sd = m.state_dict()
    for v in sd.values():
        assert type(v) is np.ndarray
    other = case.layer()
    for _, p in other.named_parameters():
        p.data[...] += 1
    report = other.load_state_dict(sd)
    assert report == {"missing": [], "unexpected": []}
    for k, v in other.state_dict().items():
        np.testing.assert_array_equal(v, sd[k])
    flux.testmode(m)
    flux.testmode(other)
    same(run(m, case), run(other, case))
    same(run(m, case), run(m, case))  # and again, bit for bit


@every_layer
def test_copies_and_pickles_are_equal_and_apart(case):
    m = flux.testmode(case.layer())
    y = run(m, case)
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m)), flux.f32(m)):
        assert repr(other) == repr(m)
        same(run(other, case), y)
        for _, p in other.named_parameters():
            p.data[...] += 1
    same(run(m, case), y)


@every_layer
def test_gradients_in_float64_of_first_and_second_order(case):
    m = case.layer()
    if case.order and (m.parameters() or any(a.dtype.kind == "f" for a in case.inputs)):
        flux.check(functools.partial(m, **case.call) if case.call else m, *case.inputs, order=case.order, few=4, directions=1)


@every_layer
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_it_computes_in_the_dtype_of_its_weights(case, dtype):
    convert = {"float16": flux.f16, "float32": flux.f32, "float64": flux.f64}[dtype]
    m = flux.testmode(convert(case.layer()))
    x = mapped(case.inputs, lambda a: a if a.dtype.kind == "i" else a.astype(dtype))
    y = run(m, case, x)
    assert {t.dtype.name for t in outputs(y)} == {dtype}
    if case.make in NORMS:  # without weights, too
        whole = run(m, case, mapped(case.inputs, lambda a: a.astype(int)))
        assert {t.dtype.name for t in outputs(whole)} == {dtype if m.state_dict() else "float32"}
    if m.parameters() and case.make is not SkipConnection:  # the input itself comes out beside the layer's output
        for other in ("float16", "float32", "float64", "int64"):
            if m.stays_float32 and (dtype, other) == ("float32", "float16"):
                continue  # norms take 16 bits as they are: test_mixed.py
            z = run(m, case, mapped(x, lambda a, other=other: a if a.dtype.kind == "i" else a.astype(other)))
            assert {t.dtype.name for t in outputs(z)} == {dtype}, f"of {other}"
    near(arrays(y), arrays(run(flux.testmode(case.layer()), case)), 3e-2 if dtype == "float16" else 1e-5)


@every_layer
def test_of_lists_tensors_and_odd_layouts_it_gives_the_same(case):
    m = flux.testmode(case.layer())
    y = run(m, case)
    before = mapped(case.inputs, np.copy)
    same(run(m, case, mapped(case.inputs, flux.tensor)), y)
    for layout in (lambda a: np.asfortranarray(a), lambda a: np.repeat(a, 2, -1)[..., ::2], lambda a: a[::-1].copy()[::-1]):
        near(arrays(run(m, case, mapped(case.inputs, layout))), arrays(y), 1e-6)
    with flux.use_kernels(False):
        near(arrays(run(m, case)), arrays(y))
    if case.lists:
        near(arrays(run(m, case, mapped(case.inputs, lambda a: a.tolist()))), arrays(y))
    for a, b in zip(before, case.inputs, strict=True):
        for u, v in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
            np.testing.assert_array_equal(u, v)


@every_layer
def test_an_empty_batch(case):
    if case.batch is None:
        return
    m = case.layer()
    none = mapped(case.inputs, lambda a: a[(slice(None),) * case.batch + (slice(0),)])
    shapes = [t.shape for t in outputs(run(flux.testmode(m), case))]
    at = [case.batch if len(shapes[0]) > case.batch else 0]
    for mode in (True, False):
        flux.testmode(m, mode)
        y = run(m, case, none)
        for t, shape in zip(outputs(y), shapes, strict=True):
            assert t.shape == (*shape[: at[0]], 0, *shape[at[0] + 1 :])
    if m.parameters():
        flux.testmode(m)
        grads = flux.gradient(lambda m: sum(t.sum() for t in outputs(run(m, case, none))), m)
        del grads


@every_layer
def test_one_sample_without_a_batch(case):
    if not case.single:
        return
    m = flux.testmode(case.layer())
    y = arrays(run(m, case))
    for i in range(case.inputs[0].shape[0]):
        near(arrays(run(m, case, tuple(a[i] for a in case.inputs))), [a[i] for a in y])


@every_layer
def test_modes(case):
    m = case.layer()
    for f, value in ((flux.testmode, False), (flux.trainmode, True)):
        assert f(m) is m
        assert all(part.active is value for part in m.modules())
    flux.testmode(m)
    sd, y = m.state_dict(), run(m, case)
    with flux.record():
        same(run(m, case), y)
    assert flux.testmode(m, "auto") is m
    assert all(part.active is None for part in m.modules())
    same(run(m, case), y)
    with flux.record(), flux.no_grad():
        same(run(m, case), y)
    for k, v in m.state_dict().items():
        np.testing.assert_array_equal(v, sd[k])


@every_layer
def test_outputsize_agrees_and_changes_nothing(case):
    m = case.layer()
    if case.call:
        return
    sd = m.state_dict()
    shapes = mapped(case.inputs, lambda a: np.shape(a))
    y = run(m, case)
    flux.reset(m)
    integer = case.inputs[0].dtype.kind == "i" if not isinstance(case.inputs[0], tuple) else False
    flux.seed(5)  # even in train mode nothing is drawn
    size = flux.outputsize(flux.trainmode(m), *shapes, dtype=int if integer else np.float32)
    assert flux.backend.generator.default_generator().state_dict() == Generator(5).state_dict()
    wanted = mapped(tuple(y), lambda t: t.shape) if isinstance(y, tuple) else y.shape
    assert size == wanted
    for k, v in m.state_dict().items():
        np.testing.assert_array_equal(v, sd[k])


@every_layer
def test_gradients_have_the_structure_of_the_layer(case):
    m = case.layer()

    def value(m):
        return sum((t * t).sum() for t in outputs(run(m, case)))

    grads = flux.gradient(value, m)
    if not m.parameters():
        assert grads is None
        return
    for path, p in m.named_parameters():
        g = grads
        for part in path.split("."):
            g = g[int(part)] if part.isdigit() else getattr(g, part)
        assert type(g) is np.ndarray
        assert g.shape == p.shape
        assert g.dtype == p.dtype
        assert np.isfinite(g).all()
        assert p.grad is None
    opt = flux.setup(flux.Descent(1e-3), m)
    before = float(value(m))
    flux.update(opt, m, grads)
    assert np.isfinite(before)


@every_layer
def test_what_is_no_array_of_real_numbers_is_refused_in_the_layers_name(case):
    m = case.layer()
    if case.make is Recur:  # which hands anything on
        return
    name = case.name(m)
    for wrong in ("abc", None, np.array(["a", "b"]), np.ones((1, 1, 1, 1), complex)):
        with pytest.raises(TypeError) as error:
            m(wrong, *case.inputs[1:], **case.call)
        assert without_counter(str(error.value)).startswith(name)


@every_layer
def test_another_size_is_refused_in_the_layers_name(case):
    """One axis fewer or more, and another size of each axis in turn: an error in the layer's name, or an ordinary output."""
    m = case.layer()
    if case.make is Recur:
        return
    name = case.name(m)
    for i, x in enumerate(case.inputs):
        if isinstance(x, tuple):
            continue
        others = [x[0], x[None], *(np.concatenate([x, x[(slice(None),) * k + (slice(1),)]], k) for k in range(x.ndim))]
        for other in (*others, x[..., :0], x.reshape(-1)[0]):
            flux.reset(m)
            y = attempt(m, *case.inputs[:i], other, *case.inputs[i + 1 :], **case.call)
            if isinstance(y, Exception):
                assert isinstance(y, ValueError | TypeError | IndexError), (y, other.shape)
                assert without_counter(str(y)).startswith(name), (y, other.shape)
            else:
                outputs(y)


# -- PyTorch's state dicts ---------------------------------------------------------------------------------------------

LIKE_TORCH = [
    (Dense(4, 3), "Linear(4, 3)", numbers(5, 4)),
    (Bilinear((3, 2), 4), "Bilinear(3, 2, 4)", (numbers(5, 3), numbers(5, 2))),
    (Embedding(5, 3), "Embedding(5, 3)", integers(4, 2)),
    (EmbeddingBag(5, 3, "max"), "EmbeddingBag(5, 3, mode='max')", integers(4, 2)),
    (Conv((3,), 2, 4), "Conv1d(2, 4, 3)", numbers(2, 2, 7)),
    (Conv((2, 3), 2, 4, groups=2, stride=(2, 1), bias=False), "Conv2d(2, 4, (2, 3), (2, 1), groups=2, bias=False)",
     numbers(2, 2, 5, 6)),
    (CrossCor((2, 1, 2), 2, 3, pad=1), "Conv3d(2, 3, (2, 1, 2), padding=1)", numbers(1, 2, 3, 2, 3)),
    (ConvTranspose((3,), 2, 4, stride=2, outpad=1), "ConvTranspose1d(2, 4, 3, 2, output_padding=1)", numbers(2, 2, 7)),
    (ConvTranspose((2, 3), 2, 4, groups=2), "ConvTranspose2d(2, 4, (2, 3), groups=2)", numbers(2, 2, 5, 6)),
    (ConvTranspose((2, 1, 2), 2, 3, dilation=2), "ConvTranspose3d(2, 3, (2, 1, 2), dilation=2)", numbers(1, 2, 3, 2, 3)),
    (DepthwiseConv((3, 3), 2, 3), "Conv2d(2, 6, 3, groups=2)", numbers(2, 2, 5, 6)),
    (BatchNorm(4), "BatchNorm2d(4)", numbers(2, 4, 3, 3)),
    (BatchNorm(4, affine=False), "BatchNorm1d(4, affine=False)", numbers(3, 4)),
    (GroupNorm(4, 2), "GroupNorm(2, 4)", numbers(2, 4, 3, 3)),
    (InstanceNorm(4, affine=True, track_stats=True), "InstanceNorm1d(4, affine=True, track_running_stats=True)",
     numbers(2, 4, 3)),
    (LayerNormV2((2, 4)), "LayerNorm((2, 4))", numbers(3, 2, 4)),
    (LayerNormV2(4, bias=False), "LayerNorm(4, bias=False)", numbers(3, 4)),
    (RMSNorm(4), "RMSNorm(4)", numbers(3, 4)),
    (RNN(3, 4, hidden_bias=True), "RNN(3, 4)", numbers(5, 2, 3)),
    (RNN(3, 4, relu, bias=False, batch_first=True), "RNN(3, 4, nonlinearity='relu', bias=False, batch_first=True)",
     numbers(5, 2, 3)),
    (LSTM(3, 4, hidden_bias=True, num_layers=2, bidirectional=True), "LSTM(3, 4, 2, bidirectional=True)", numbers(5, 2, 3)),
    (GRU(3, 4, hidden_bias=True, num_layers=2), "GRU(3, 4, 2)", numbers(5, 2, 3)),
    (MultiHeadAttention(4, nheads=2), "MultiheadAttention(4, 2, batch_first=True)", numbers(2, 3, 4)),
    (MultiHeadAttention(4, nheads=2, kdim=3, vdim=2), "MultiheadAttention(4, 2, kdim=3, vdim=2, batch_first=True)",
     (numbers(2, 3, 4), numbers(2, 5, 3), numbers(2, 5, 2))),
    (WeightNorm(Dense(4, 3)), "utils.weight_norm(nn.Linear(4, 3))", numbers(5, 4)),
    (WeightNorm(Conv((2, 2), 2, 3), axis=1), "utils.weight_norm(nn.Conv2d(2, 3, 2), dim=1)", numbers(1, 2, 4, 4)),
    (Chain(Dense(4, 3), BatchNorm(3), Dense(3, 2)), "Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))",
     numbers(5, 4)),
]


@pytest.mark.parametrize(("layer", "theirs", "inputs"), LIKE_TORCH, ids=[theirs for _, theirs, _ in LIKE_TORCH])
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_pytorchs_state_dict_loads_and_computes_the_same(layer, theirs, inputs):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    nn = torch.nn
    other = eval(f"nn.{theirs}", {"nn": nn})
    for name, t in other.state_dict().items():  # running statistics that are not those of a new layer
        if name.endswith(("mean", "var")):
            t.uniform_(0.5, 2)
    expected = {k for k in other.state_dict() if not k.endswith("num_batches_tracked")}
    assert set(layer.state_dict()) == expected
    assert layer.load_state_dict(other.state_dict()) == {"missing": [], "unexpected": []}
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    if theirs.startswith("Multihead"):
        ins = inputs if len(inputs) == 3 else inputs * 3
        wanted = other.eval()(*map(torch.tensor, ins), need_weights=False)
    else:
        wanted = other.eval()(*map(torch.tensor, inputs))
    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
    np.testing.assert_allclose(flux.testmode(layer)(*inputs).numpy(), wanted.detach().numpy(), rtol=1e-4, atol=1e-5)
    for k, v in layer.state_dict().items():
        np.testing.assert_array_equal(v, other.state_dict()[k].numpy())
