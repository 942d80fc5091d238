"""The pooling layers: they are the functions of ops with their arguments kept; printing and errors."""

import numpy as np
import pytest

from minitorch_flux import (
    AdaptiveMaxPool,
    AdaptiveMeanPool,
    Chain,
    GlobalMaxPool,
    GlobalMeanPool,
    MaxPool,
    MeanPool,
    SamePad,
    flatten,
)
from minitorch_flux.nn.pools import LpPool
from minitorch_flux.ops.adaptive_pooling import adaptive_maxpool, adaptive_meanpool
from minitorch_flux.ops.lp_pooling import lpnormpool
from minitorch_flux.ops.pooling import maxpool, meanpool
from tests.oracles import apart, check_operation, normal

PAIRS = [
    (MaxPool((2, 2)), lambda x: maxpool(x, 2)),
    (MaxPool(2), lambda x: maxpool(x, 2)),
    (MaxPool([3, 2], stride=(2, 1), pad=(1, 0)), lambda x: maxpool(x, (3, 2), stride=(2, 1), pad=(1, 0))),
    (MaxPool((2, 2), stride=1, dilation=2), lambda x: maxpool(x, 2, stride=1, dilation=2)),
    (MaxPool((3, 3), ceil_mode=True), lambda x: maxpool(x, 3, ceil_mode=True)),
    (MeanPool((2, 2)), lambda x: meanpool(x, 2)),
    (MeanPool(3, stride=2, pad=1, count_include_pad=False), lambda x: meanpool(x, 3, stride=2, pad=1, count_include_pad=False)),
    (MeanPool(3, stride=2, pad=SamePad()), lambda x: meanpool(x, 3, stride=2, pad=SamePad())),
    (LpPool(2, 3), lambda x: lpnormpool(x, 2, 3)),
    (AdaptiveMaxPool((3, 2)), lambda x: adaptive_maxpool(x, (3, 2))),
    (AdaptiveMeanPool(3), lambda x: adaptive_meanpool(x, 3)),
    (GlobalMaxPool(), lambda x: x.max(axis=(2, 3), keepdims=True)),
    (GlobalMeanPool(), lambda x: x.mean(axis=(2, 3), keepdims=True)),
]


@pytest.mark.parametrize(("layer", "function"), PAIRS, ids=[repr(layer) for layer, _ in PAIRS])
def test_a_layer_is_its_function(layer, function):
    x = apart(2, 3, 6, 8)
    wanted = function(x)
    np.testing.assert_allclose(layer(x).data, getattr(wanted, "data", wanted), rtol=1e-12)
    check_operation(layer, x)


@pytest.mark.parametrize(("layer", "shape"), [(GlobalMeanPool(), (2, 3, 4)), (GlobalMaxPool(), (2, 3, 2, 3, 2))])
def test_global_pools_keep_the_axes(layer, shape):
    assert layer(normal(*shape)).shape == (*shape[:2], *(1,) * (len(shape) - 2))
    check_operation(layer, apart(*shape))


def test_integers_are_averaged_as_floats():
    assert MeanPool((2,))(np.arange(4).reshape(1, 1, 4)).data.tolist() == [[[0.5, 2.5]]]
    assert MaxPool((2,))(np.arange(4).reshape(1, 1, 4)).data.tolist() == [[[1, 3]]]


def test_a_tuple_permits_one_sample():
    assert MaxPool((2, 2))(normal(3, 4, 6)).shape == (3, 2, 3)
    assert AdaptiveMeanPool((1, 1))(normal(3, 4, 6)).shape == (3, 1, 1)


def test_arguments_are_kept_as_attributes():
    layer = MaxPool((2, 3))
    assert (layer.k, layer.stride, layer.pad, layer.dilation, layer.ceil_mode) == ((2, 3), (2, 3), 0, 1, False)
    layer = MeanPool(2, stride=1, count_include_pad=False)
    assert (layer.k, layer.stride, layer.count_include_pad) == (2, 1, False)
    assert (LpPool(2, 3).p, AdaptiveMaxPool((1, 2)).out) == (3, (1, 2))


@pytest.mark.parametrize(
    "text",
    [
        "MaxPool((2, 2))", "MaxPool(2)", "MaxPool((3,), stride=2, pad=1, dilation=2, ceil_mode=True)",
        "MeanPool((2, 2), stride=1, pad=SamePad(), count_include_pad=False)", "LpPool((2, 2), 3, pad=1)",
        "AdaptiveMaxPool((3, 2))", "AdaptiveMeanPool(1)", "GlobalMaxPool()", "GlobalMeanPool()",
    ],
)
def test_it_prints_as_the_call_that_rebuilds_it(text):
    assert repr(eval(text)) == text


def test_in_a_chain():
    assert Chain(MaxPool((2, 2)), GlobalMeanPool(), flatten)(normal(2, 3, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: MaxPool((2, 0)), ValueError, r"MaxPool: kernel must be at least 1, got \(2, 0\)"),
        (lambda: MaxPool("2"), TypeError, "MaxPool: kernel is an int or 1 ints"),
        (lambda: MeanPool((2, 2), stride=(1, 2, 3)), ValueError, "MeanPool: stride="),
        (lambda: MaxPool((2, 2), pad=(1, 1, 0, 0)), ValueError, r"write \(lo, hi\) pairs"),
        (lambda: LpPool(2, -1), ValueError, "LpPool: p must be positive, got -1"),
        (lambda: MaxPool((2, 2), padding=1), TypeError, "pad"),
        (lambda: MaxPool((2, 2))(normal(2, 3)), ValueError, r"^MaxPool\(\(2, 2\)\): takes an input of 4 axes"),
        (lambda: LpPool((2, 2), 3)(normal(1, 2, 1, 3)), ValueError,
         r"^LpPool\(\(2, 2\), 3\): the kernel is larger than the input on axis -2 .*\(input shape \(1, 2, 1, 3\)\)$"),
        (lambda: MaxPool((2, 2), pad=2)(normal(1, 1, 4, 4)), ValueError, "must be smaller than the window"),
        (lambda: AdaptiveMaxPool((2, 0)), ValueError, r"AdaptiveMaxPool\(out\): the output size is a positive int"),
        (lambda: AdaptiveMeanPool(1.5), TypeError, r"AdaptiveMeanPool\(out\): each size must be a whole number, got 1.5"),
        (lambda: GlobalMeanPool()(normal(2, 3, 0)), ValueError, r"^GlobalMeanPool\(\): the input has an empty axis"),
        (lambda: GlobalMaxPool()(normal(2, 3, 0)), ValueError, r"^GlobalMaxPool\(\): the input has an empty axis"),
        (lambda: GlobalMeanPool()(normal(2, 3)), ValueError, r"^GlobalMeanPool\(\): takes an input of 3 to 5 axes"),
        (lambda: GlobalMaxPool()(normal(2, 3)), ValueError, r"^GlobalMaxPool\(\): takes an input of 3 to 5 axes"),
    ],
)
def test_errors(make, error, text):
    with pytest.raises(error, match=text):
        make()
