"""AdaptiveMeanMaxPool against PyTorch's two pools."""

from functools import partial

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import AdaptiveMaxPool, AdaptiveMeanPool, Parallel, cat, maximum
from minitorch_flux.models.layers import AdaptiveMeanMaxPool, cat_channels

from .tools import randn, same_as_torch


@pytest.mark.parametrize(("arguments", "connection", "size"), [
    ((), "add", (1, 1)), (((2, 3),), "add", (2, 3)), ((maximum,), "maximum", (1, 1)), ((maximum, (2, 2)), "maximum", (2, 2)),
    ((flux.multiply, 3), "multiply", 3), ((lambda a, b: a - b, (2, 2)), None, (2, 2)),
])  # fmt: skip
def test_it_is_parallel_of_the_two_pools(arguments, connection, size):
    m = AdaptiveMeanMaxPool(*arguments)
    assert isinstance(m, Parallel)
    assert (type(m[0]), type(m[1])) == (AdaptiveMeanPool, AdaptiveMaxPool)
    assert m[0].out == m[1].out == size
    assert connection is None or m.connection.__name__ == connection
    x = randn(2, 3, 6, 7)
    wanted = m.connection(AdaptiveMeanPool(size)(x), AdaptiveMaxPool(size)(x))
    np.testing.assert_array_equal(m(x).numpy(), wanted.numpy())


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 5)])
def test_against_torch(size):
    torch = pytest.importorskip("torch")

    class Theirs(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.adaptive_avg_pool2d(x, size) + torch.nn.functional.adaptive_max_pool2d(x, size)

    same_as_torch(AdaptiveMeanMaxPool(size), Theirs(), randn(2, 3, 6, 7))


def test_printing_gradients_shapes_and_keywords():
    m = AdaptiveMeanMaxPool(output_size=(2, 2))
    again = eval(repr(m), {"Parallel": Parallel, "AdaptiveMeanPool": AdaptiveMeanPool, "AdaptiveMaxPool": AdaptiveMaxPool,
                           "add": flux.add})
    assert repr(again) == repr(m)
    flux.check(AdaptiveMeanMaxPool(connection=maximum, output_size=(2, 2)), randn(2, 2, 5, 4))
    assert flux.outputsize(m, (2, 3, 9, 9)) == (2, 3, 2, 2)
    assert AdaptiveMeanMaxPool(partial(cat, axis=1))(randn(2, 3, 4, 4)).shape == (2, 6, 1, 1)
    assert AdaptiveMeanMaxPool(cat_channels)(randn(2, 3, 4, 4)).shape == (2, 6, 1, 1)
    assert m.state_dict() == {}


def test_errors():
    with pytest.raises(TypeError, match=r"the connection is a function, got \(2, 2\)"):
        AdaptiveMeanMaxPool((2, 2), (1, 1))
    with pytest.raises(TypeError, match="the connection is a function of the outputs"):
        AdaptiveMeanMaxPool(flux.Dense, (1, 1))
