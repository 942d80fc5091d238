"""DropBlock and StochasticDepth as layers, and the schedule. The mask itself is tested in tests/ops/test_dropblocks.py."""

import copy
import pickle

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, Dense, Dropout, Generator, SkipConnection, identity
from minitorch_flux.models.layers import DropBlock, StochasticDepth, dropblock, linear_scheduler

from .tools import randn


@pytest.mark.parametrize(("layer", "wanted"), [
    (DropBlock(), "DropBlock()"),
    (DropBlock(0.2, 5), "DropBlock(0.2, 5)"),
    (DropBlock(0.2, gamma_scale=0.25), "DropBlock(0.2, gamma_scale=0.25)"),
    (DropBlock(0.2, 3, 0.5, Generator(1)), "DropBlock(0.2, 3, 0.5, Generator(1))"),
    (DropBlock(0.1, 7, 1.0, rng=Generator(1)), "DropBlock(rng=Generator(1))"),
    (DropBlock(batchwise=True, edge="valid", noise=True, active=False),
     "DropBlock(batchwise=True, edge='valid', noise=True, active=False)"),
    (StochasticDepth(0.2), "StochasticDepth(0.2)"),
    (StochasticDepth(0.2, "batch"), "StochasticDepth(0.2, 'batch')"),
    (StochasticDepth(0.2, mode="row", rng=Generator(1), active=True), "StochasticDepth(0.2, rng=Generator(1), active=True)"),
])  # fmt: skip
def test_printing_rebuilds_and_copies_are_equal(layer, wanted):
    assert repr(layer) == wanted
    for other in (eval(wanted), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(other) is type(layer)
        assert repr(other) == wanted
    assert layer.state_dict() == {}
    assert flux.outputsize(layer, (2, 3, 8, 8)) == (2, 3, 8, 8)


@pytest.mark.parametrize("make", [lambda: DropBlock(None), lambda: DropBlock(drop_block_prob=None, block_size=3),
                                  lambda: DropBlock(None, 5, 1.0, Generator(0)), lambda: StochasticDepth(None),
                                  lambda: StochasticDepth(None, "batch"), lambda: StochasticDepth(p=None, rng=Generator(0))])
def test_what_is_off_is_identity(make):
    assert make() is identity


@pytest.mark.parametrize("make",
                         [lambda: DropBlock(0.5, 3), lambda: StochasticDepth(0.5), lambda: StochasticDepth(0.5, "batch")])
def test_modes(make):
    flux.seed(0)
    layer, x = make(), flux.tensor(np.ones((16, 2, 6, 6), np.float32))
    assert layer(x) is x  # automatic, outside a recording scope
    with flux.record():
        assert layer(x) is not x
        with flux.no_grad():
            assert layer(x) is x
    flux.trainmode(layer)
    assert layer(x) is not x
    flux.testmode(layer)
    with flux.record():
        assert layer(x) is x
    flux.testmode(layer, "auto")
    assert layer(x) is x
    assert type(layer)(0.5, active=True)(x) is not x


def test_drop_block_is_dropblock():
    x = randn(3, 2, 9, 9)
    for keywords in ({}, {"batchwise": True}, {"edge": "valid"}, {"noise": True}):
        layer = DropBlock(0.3, 3, 0.5, Generator(5), active=True, **keywords)
        wanted = dropblock(Generator(5), x, 0.3, 3, 0.5, **keywords)
        np.testing.assert_array_equal(layer(x).numpy(), wanted.numpy())
        assert not np.array_equal(layer(x).numpy(), wanted.numpy())  # the next draw


def test_gradients():
    for layer in (DropBlock(0.3, 3, 1.0, Generator(5)), DropBlock(0.3, 2, 1.0, Generator(5), edge="valid"),
                  StochasticDepth(0.5, rng=Generator(5)), StochasticDepth(0.5, "batch", rng=Generator(5))):
        flux.check(Chain(Conv((2, 2), 2, 2, flux.tanh), layer), randn(3, 2, 5, 5, dtype=np.float64))


@pytest.mark.parametrize("shape", [(4000,), (4000, 2), (4000, 2, 3), (4000, 1, 2, 2), (4000, 1, 1, 2, 2)])
def test_row_drops_whole_samples_whatever_the_rank(shape):
    y = StochasticDepth(0.3, rng=Generator(0), active=True)(np.ones(shape)).numpy().reshape(4000, -1)
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    assert set(np.unique(y)) == {0, 1 / 0.7}
    assert (y[:, 0] == 0).mean() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 2, 3), (4, 1, 2, 2)])
def test_batch_drops_all_or_nothing(shape):
    layer, x = StochasticDepth(0.3, "batch", rng=Generator(0), active=True), np.ones(shape)
    ys = [layer(x).numpy() for _ in range(1000)]
    assert all(y.min() == y.max() for y in ys)
    assert np.mean([y.max() == 0 for y in ys]) == pytest.approx(0.3, abs=0.05)
    assert max(y.max() for y in ys) == 1 / 0.7


@pytest.mark.parametrize("mode", ["row", "batch"])
def test_the_ends_of_stochastic_depth(mode):
    x = flux.tensor(randn(5, 3))
    assert StochasticDepth(0, mode, active=True)(x) is x
    np.testing.assert_array_equal(StochasticDepth(1, mode, active=True)(x).numpy(), 0)
    assert StochasticDepth(0.5, mode, active=True)(np.ones((0, 3))).shape == (0, 3)
    assert isinstance(StochasticDepth(0.5, mode), Dropout)


def test_the_mean_over_many_draws_is_the_input():
    x = np.linspace(-1, 1, 8)[:, None]
    layer = StochasticDepth(0.4, rng=Generator(1), active=True)
    mean = np.mean([layer(x).numpy() for _ in range(3000)], axis=0)
    np.testing.assert_allclose(mean, x, atol=0.06)


def test_a_dropped_branch_leaves_the_skip_connection_alone():
    m = SkipConnection(Chain(Dense(4, 4), StochasticDepth(0.5, rng=Generator(3))), flux.add)
    x = randn(64, 4)
    with flux.record():
        y = m(x).numpy()
    full = x + 2 * m.layer[0](x).numpy()
    dropped = (y == x).all(axis=1)
    assert 15 < dropped.sum() < 49
    np.testing.assert_allclose(y[~dropped], full[~dropped], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rng", [lambda: Generator(4), lambda: np.random.default_rng(4)])
@pytest.mark.parametrize("make", [lambda rng: DropBlock(0.4, 3, 1.0, rng), lambda rng: StochasticDepth(0.5, rng=rng)])
def test_the_generator_decides(make, rng):
    x = np.ones((20, 2, 8, 8), np.float32)
    a, b = (flux.trainmode(make(rng()))(x).numpy() for _ in range(2))
    np.testing.assert_array_equal(a, b)
    layer = flux.trainmode(make(rng()))
    layer(x)
    assert not np.array_equal(layer(x).numpy(), a)
    flux.seed(3)
    c = flux.trainmode(make(None))(x).numpy()
    flux.seed(3)
    np.testing.assert_array_equal(flux.trainmode(make(None))(x).numpy(), c)


@pytest.mark.parametrize(("arguments", "keywords", "wanted"), [
    ((0.2,), {"depth": 4}, [0, 0.05, 0.1, 0.15]),
    ((0.5,), {"start_value": 0.1, "depth": 5}, [0.1, 0.18, 0.26, 0.34, 0.42]),
    ((), {"depth": 3}, [0, 0, 0]),
    ((0.7,), {"depth": 1}, [0]),
    ((0.1,), {"start_value": 0.3, "depth": 2}, [0.3, 0.2]),
    ((0.5,), {"depth": 0}, []),
])  # fmt: skip
def test_linear_scheduler(arguments, keywords, wanted):
    schedule = linear_scheduler(*arguments, **keywords)
    assert isinstance(schedule, list)
    assert schedule == pytest.approx(wanted)


def test_linear_scheduler_of_nothing():
    assert linear_scheduler(None, depth=3) == [None] * 3
    assert linear_scheduler(None, depth=0) == []
    assert [StochasticDepth(p) for p in linear_scheduler(None, depth=2)] == [identity, identity]


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: DropBlock(1.5), ValueError, "DropBlock: drop_block_prob must be between 0 and 1, got 1.5"),
    (lambda: DropBlock("a"), TypeError, "drop_block_prob must be a number between 0 and 1, got 'a'"),
    (lambda: DropBlock(0.1, 0), ValueError, "block_size must be at least 1, got 0"),
    (lambda: DropBlock(0.1, 7, 2.0), ValueError, "gamma_scale must be between 0 and 1, got 2.0"),
    (lambda: DropBlock(edge="sharp"), ValueError, "edge must be 'free'"),
    (lambda: DropBlock(active="on"), ValueError, "DropBlock: active must be True"),
    (lambda: DropBlock()(np.ones((3, 8, 8))), ValueError, r"DropBlock\(\): the input has 3 axes, expected 4, \(N, C, H, W\)"),
    (lambda: DropBlock(0.1, rng=7, active=True)(np.ones((1, 1, 8, 8))), TypeError, "rng= must be a flux.Generator"),
    (lambda: StochasticDepth(1.5), ValueError, "probability p must be between 0 and 1, got 1.5"),
    (lambda: StochasticDepth(0.5, "column"), ValueError, "mode must be 'row' .* or 'batch' .* got 'column'"),
    (lambda: StochasticDepth(0.5, active=2), ValueError, "active must be True"),
    (lambda: StochasticDepth(), TypeError, "missing 1 required positional argument: 'p'"),
    (lambda: StochasticDepth(0.5, active=True)(np.float32(1.0)), ValueError, "axis 0"),
    (lambda: linear_scheduler(None, start_value=0.1, depth=3), TypeError, "drops nothing, so there is no start_value, got 0.1"),
    (lambda: linear_scheduler(0.1, depth=-1), TypeError, "depth must be a whole number"),
    (lambda: linear_scheduler(0.1), TypeError, "depth"),
])  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
