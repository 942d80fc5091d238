"""Depth and size: a chain of 10,000 layers does all that a short one does, and a batch may come in parts."""

import copy
import pickle

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Dense, SkipConnection, checkpoint

LAYERS = 10_000
X = np.random.default_rng(0).standard_normal((1, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def deep():
    flux.seed(0)
    return Chain(*(Dense(2, 2, init=flux.identity_init) for _ in range(LAYERS)))


def loss(m):
    return (m(X) ** 2).sum()


def test_it_trains(deep):
    before = loss(deep).item()
    opt = flux.setup(flux.Descent(1e-6), deep)
    value, grads = flux.withgradient(loss, deep)
    flux.update(opt, deep, grads)
    assert value == pytest.approx(before)
    np.testing.assert_allclose(grads[0].bias, grads[-1].bias, rtol=1e-3)  # the weights are identities
    assert 0 < loss(deep).item() < before
    with flux.record():
        y = loss(deep)
    y.backward()
    flux.update(opt, deep)


def test_it_prints_and_gives_its_state(deep):
    text = repr(deep)
    assert text.count("Dense(2, 2") == LAYERS
    assert text.endswith(f"# Total: {2 * LAYERS} arrays, {6 * LAYERS:_} parameters, 234.375 KiB.")
    state = deep.state_dict()
    assert len(state) == 2 * LAYERS
    assert f"{LAYERS - 1}.bias" in state
    deep.load_state_dict(state)
    assert len(deep.parameters()) == 2 * LAYERS
    flux.testmode(deep)
    flux.testmode(deep, "auto")


def test_it_is_copied_and_pickled(deep):
    for other in (copy.deepcopy(deep), pickle.loads(pickle.dumps(deep))):
        assert len(other) == LAYERS
        np.testing.assert_array_equal(other(X).data, deep(X).data)


def test_checkpoints_within_it_change_nothing(deep):
    value, grads = flux.withgradient(loss, deep)
    cut = Chain(*(checkpoint(deep[i : i + 100]) for i in range(0, LAYERS, 100)))
    again, found = flux.withgradient(loss, cut)
    assert again == value
    for i in (0, 99, 100, LAYERS - 1):
        np.testing.assert_array_equal(found[i // 100][i % 100].weight, grads[i].weight)


@pytest.mark.slow
def test_a_captured_step_of_it(deep):
    opt = flux.setup(flux.Descent(1e-6), deep)

    def step(x):
        value, grads = flux.withgradient(lambda m: (m(x) ** 2).sum(), deep)
        flux.update(opt, deep, grads)
        return value

    run = flux.capture(step)
    values = [np.asarray(run(X)).item() for _ in range(5)]
    assert run.replays == 2
    assert values == sorted(values, reverse=True)


def test_a_tape_of_a_hundred_thousand_operations_goes_without_recursion():
    x = flux.tensor(np.ones(2), requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 1])
    z = x * 1.0
    for _ in range(100_000):
        z = z + 1.0
    del z  # never walked


def test_a_large_batch_in_parts_by_accumgrad():
    """The same weights as from the whole batch, with the memory of a part."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((4096, 32)).astype(np.float32), rng.integers(0, 3, 4096)
    models, most = [], []
    for parts in (1, 8):
        flux.seed(5)
        m = Chain(Dense(32, 64, flux.relu), SkipConnection(Dense(64, 64, flux.tanh), flux.add), Dense(64, 3))
        rule = flux.Adam(0.01)
        opt = flux.setup(flux.OptimiserChain(flux.AccumGrad(parts), rule) if parts > 1 else rule, m)
        flux.free_memory()
        fresh = flux.memory_stats()["fresh_bytes"]
        for _ in range(3):
            for part, labels in zip(np.split(x, parts), np.split(y, parts), strict=True):
                _, grads = flux.withgradient(
                    lambda m, part=part, labels=labels: flux.losses.logitcrossentropy(m(part), labels), m)
                flux.update(opt, m, grads)
        most.append(flux.memory_stats()["fresh_bytes"] - fresh)
        models.append(m)
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-3, atol=1e-4)
    assert most[1] < most[0] / 4


def launches_of(f):
    """How many calls of array functions ``f`` makes."""
    calls = []
    call = flux.backend.ArrayFunction.__call__

    def counted(self, *args, **keywords):
        calls.append(self.name)
        return call(self, *args, **keywords)

    flux.backend.ArrayFunction.__call__ = counted
    try:
        f()
    finally:
        flux.backend.ArrayFunction.__call__ = call
    return len(calls)


def test_the_number_of_calls_grows_linearly_with_depth_and_not_with_the_batch():
    def step(depth, batch):
        m = Chain(*(Dense(4, 4, flux.tanh) for _ in range(depth)))
        x = np.ones((batch, 4), np.float32)
        return launches_of(lambda: flux.gradient(lambda m: m(x).sum(), m))

    few, many = step(10, 8), step(20, 8)
    assert step(40, 8) - many == 2 * (many - few)
    assert step(10, 80) <= few + 10


def test_memory_grows_linearly_with_the_batch_and_the_sequence():
    lstm = flux.LSTM(16, 32)
    told = [flux.summary(lstm, (steps, 16), batchsize=batch, axis=1).activation_bytes
            for steps, batch in ((64, 8), (128, 8), (256, 8), (64, 16), (64, 32))]
    first, rest = told[1] - told[0], (told[2] - told[1], told[4] - told[3])
    assert rest[0] == pytest.approx(2 * first, rel=0.01)
    assert rest[1] == pytest.approx(2 * (told[3] - told[0]), rel=0.01)
    assert told[1] == pytest.approx(2 * told[0], rel=0.1)
