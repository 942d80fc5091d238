"""checkpoint: the same numbers with less memory, for one more forward pass."""

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import (
    LSTM,
    BatchNorm,
    Chain,
    Conv,
    Dense,
    Dropout,
    Parallel,
    SkipConnection,
    checkpoint,
    gelu,
    relu,
    tanh,
)
from minitorch_flux.autograd import TapeError
from minitorch_flux.backend import FUNCTIONS, default_generator, memory, memory_stats

X = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
Y = np.arange(16) % 3


def plain(f):
    return f


def block(rng=None):
    return Chain(Dense(8, 16, relu), BatchNorm(16), Dropout(0.3, rng=rng), Dense(16, 8, gelu))


def model(wrap, seed=1, rng=None):
    flux.seed(seed)
    inner = wrap(Chain(Dropout(0.5), Dense(8, 8, tanh)))
    return Chain(
        wrap(block(rng)),
        SkipConnection(wrap(Chain(Dense(8, 8, tanh), inner, inner)), lambda y, x: y + x),
        wrap(lambda x: x * x),
        wrap(Parallel(tuple, Dense(8, 8), Dense(8, 4))),
        wrap(lambda xs: {"a": xs[0], "b": [xs[1], 3]}),
        lambda found: found["a"] * found["b"][0].sum() * found["b"][1],
        wrap(Dense(8, 3)),
    )


def everything(m, steps=2):
    """Losses, gradients by both ways, weights and statistics, of some training steps."""
    flux.seed(7)
    opt = flux.setup(flux.Adam(1e-2), m)
    found = []
    for _ in range(steps):
        loss, grads = flux.withgradient(lambda m: flux.losses.logitcrossentropy(m(X), Y), m)
        flux.update(opt, m, grads)
        with flux.record():
            value = flux.losses.logitcrossentropy(m(X), Y)
        value.backward()
        found += [loss, value.data, *(p.grad for p in m.parameters())]
        flux.zero_grad(m)
    return [*found, *m.state_dict().values(), m(X).data]


@pytest.mark.parametrize("rng", [lambda: None, lambda: flux.Generator(3), lambda: np.random.default_rng(3)])
def test_training_has_the_same_bits_with_masks_and_statistics(rng):
    first, second = everything(model(plain, rng=rng())), everything(model(checkpoint, rng=rng()))
    assert len(first) == len(second) > 40
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_generators_are_where_they_would_be():
    counters = []
    for wrap in (plain, checkpoint):
        rng, other = flux.Generator(3), np.random.default_rng(3)
        m = Chain(wrap(Dropout(0.5, rng=rng)), wrap(Dropout(0.5, rng=other)), wrap(Dropout(0.5)))
        flux.seed(5)
        flux.gradient(lambda x, m=m: m(x).sum(), X)
        counters.append((rng.state_dict(), other.bit_generator.state["state"], default_generator().state_dict()))
    assert counters[0] == counters[1]


@given(st.lists(st.sampled_from(["dense", "norm", "drop", "skip"]), min_size=1, max_size=5), st.integers(0, 99))
def test_any_cut_of_a_chain_gives_the_same_bits(kinds, seed):
    make = {"dense": lambda: Dense(8, 8, tanh), "norm": lambda: BatchNorm(8, relu), "drop": lambda: Dropout(0.4),
            "skip": lambda: SkipConnection(Dense(8, 8), lambda y, x: y * x)}
    rng = np.random.default_rng(seed)
    cuts = sorted(rng.integers(0, len(kinds) + 1, 2))
    results = []
    for wrapped in (False, True):
        flux.seed(seed)
        layers = [make[k]() for k in kinds]
        whole = Chain(*layers)
        m = Chain(whole[: cuts[0]], checkpoint(whole[cuts[0] : cuts[1]]), whole[cuts[1] :]) if wrapped else whole
        flux.seed(seed)
        value, (dx, _) = flux.withgradient(lambda x, m: (m(x) ** 3).sum(), X, m)
        results.append([value, dx, *whole.state_dict().values()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_derivatives_of_second_order():
    def penalty(m, x):
        return (flux.gradient(lambda x: (m(x) ** 2).sum(), x) ** 2).sum()

    found = []
    for wrap in (plain, checkpoint):
        flux.seed(2)
        m = flux.f64(Chain(wrap(Chain(Dense(8, 6, tanh), wrap(Dense(6, 5, gelu)))), wrap(Dense(5, 2))))
        x = X.astype(np.float64)
        grads, dx = flux.gradient(penalty, m, x)
        found.append([dx, grads[0][0].weight, grads[0][1].bias, grads[1].weight,
                      flux.hessian(lambda v, m=m: (m(v) ** 2).sum(), x[0])])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    flux.check(checkpoint(Chain(Dense(3, 2, flux.tanh), Dense(2, 2))), np.ones((4, 3)))


def test_against_torch():
    torch = pytest.importorskip("torch")
    first, second = Dense(8, 6, tanh), Dense(6, 2)
    loss, grads = flux.withgradient(lambda m: (m(X) ** 2).sum(), Chain(checkpoint(first), second))
    w, b, v, c = (torch.tensor(p.numpy().copy(), requires_grad=True) for p in Chain(first, second).parameters())
    x = torch.tensor(X)
    theirs = ((torch.tanh(x @ w.T + b) @ v.T + c) ** 2).sum()
    theirs.backward()
    np.testing.assert_allclose(loss, theirs.item(), rtol=1e-5)
    np.testing.assert_allclose(grads[0].weight, w.grad.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grads[1].bias, c.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_several_inputs_keywords_closures_and_untouched_values():
    def f(a, b, *, scale, note):
        assert note == "kept"
        return a * b * scale + outer, a

    for wrap in (plain, checkpoint):
        def run(x, y, z, wrap=wrap):
            nonlocal outer
            outer = flux.exp(z)
            product, same = wrap(f)(x, y, scale=2.0, note="kept")
            assert (same is x) or wrap is plain
            return (product * same).sum()

        outer = None
        grads = flux.gradient(run, X, X + 1, X - 1)
        np.testing.assert_allclose(grads[0], 4 * X * (X + 1) + np.exp(X - 1), rtol=1e-5)
        np.testing.assert_allclose(grads[1], 2 * X * X, rtol=1e-5)
        np.testing.assert_allclose(grads[2], X * np.exp(X - 1), rtol=1e-5, atol=1e-6)
    assert checkpoint(lambda x: x)("text") == "text"
    assert checkpoint(lambda: 3)() == 3


def test_a_tensor_of_the_users_outside_of_any_scope():
    x = flux.tensor(X, requires_grad=True)
    drop = Dropout(0.5)
    y = checkpoint(Chain(lambda x: x * 3, drop))(x)  # automatic layers are in test mode here, both times
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, np.full_like(X, 3))


def runs(f):
    """How often the products of Dense run forward in ``f``."""
    before = FUNCTIONS["dense_forward"].launches
    calls = []
    reference, launcher = FUNCTIONS["dense_forward"].reference, FUNCTIONS["dense_forward"].launcher

    def counted(*args, **keywords):
        calls.append(1)
        return reference(*args, **keywords)

    FUNCTIONS["dense_forward"].reference, FUNCTIONS["dense_forward"].launcher = counted, None
    try:
        f()
    finally:
        FUNCTIONS["dense_forward"].reference, FUNCTIONS["dense_forward"].launcher = reference, launcher
        FUNCTIONS["dense_forward"].launches = before
    return len(calls)


def test_the_inside_runs_twice_in_training_and_once_otherwise():
    m = Chain(checkpoint(Chain(Dense(8, 8), Dense(8, 8))), Dense(8, 8))
    assert runs(lambda: m(X)) == 3
    assert runs(lambda: flux.gradient(lambda m: m(X).sum(), m)) == 5
    with flux.record():
        y = m(X).sum()
    assert runs(lambda: y.backward(retain_graph=True)) == 2
    assert runs(lambda: y.backward()) == 2, "a tape that is kept runs again"
    with pytest.raises(TapeError, match="the tape behind .* has been used and freed"):
        y.backward()
    with flux.no_grad():
        assert m(X).node is None
    nested = checkpoint(Chain(checkpoint(Dense(8, 8)), Dense(8, 8)))
    assert runs(lambda: flux.gradient(lambda m: m(X).sum(), nested)) == 2 + 2 + 1


def most(f, monkeypatch):
    """Bytes of the pool in use at the worst moment of ``f``, beyond those before."""
    flux.free_memory()
    before, take, used = memory_stats()["used"], memory._pool.take, []

    def taken(size):
        raw = take(size)
        used.append(memory._pool.used)
        return raw

    with monkeypatch.context() as patch:
        patch.setattr(memory._pool, "take", taken)
        f()
    return max(used) - before


def test_memory_is_what_summary_predicts(monkeypatch):
    x = np.random.default_rng(0).standard_normal((4096, 32)).astype(np.float32)
    layer, took, told = x.nbytes, {}, {}
    for length in (1, 4, 16):
        parts = [Dense(32, 32, tanh) for _ in range(16)]
        groups = [Chain(*parts[i : i + length]) for i in range(0, 16, length)]
        m = Chain(*(map(checkpoint, groups) if length > 1 else groups))
        took[length] = most(lambda m=m: flux.gradient(lambda m: m(x).mean(), m), monkeypatch)
        told[length] = flux.summary(m, 32, batchsize=4096)
    assert 16 * layer <= took[1] <= 20 * layer
    assert took[4] <= (4 + 4 + 3) * layer, "the inputs of four checkpoints, and the inside of one"
    assert took[16] >= 16 * layer, "one checkpoint around everything saves nothing"
    for length, summary in told.items():
        predicted = summary.peak_bytes - summary.parameter_bytes - summary.gradient_bytes - summary.input_bytes
        assert abs(took[length] - predicted) <= layer / 2
    assert told[1].activation_bytes >= 16 * layer
    assert told[4].activation_bytes <= 5 * layer
    assert told[4].flops == told[1].flops
    assert told[4].backward_flops == told[1].backward_flops + told[1].flops
    assert "in the backward pass of" in told[4].moment


def test_captured_steps_have_the_same_bits():
    losses = []
    for captured in (False, True):
        m = model(checkpoint)
        opt = flux.setup(flux.Adam(1e-2), m)

        def step(x, y, m=m, opt=opt):
            loss, grads = flux.withgradient(lambda m: flux.losses.logitcrossentropy(m(x), y), m)
            flux.update(opt, m, grads)
            return loss

        flux.seed(9)
        run = flux.capture(step) if captured else step
        losses.append([np.asarray(run(X, Y)).item() for _ in range(6)])
        if captured:
            assert run.replays == 3
    assert losses[0] == losses[1]


def test_names_gradients_modes_and_indices_are_those_of_the_layer_inside():
    flux.seed(1)
    inner = Chain(Dense(8, 16, relu), Dropout(0.5))
    m = Chain(checkpoint(inner), checkpoint(Dense(16, 3)), checkpoint(flux.flatten))
    assert list(m.state_dict()) == ["0.0.weight", "0.0.bias", "1.weight", "1.bias"]
    assert m[0][0] is inner[0]
    assert m[1].weight is m[1].layer.weight
    assert [id(p) for p in m.parameters()] == [id(p) for p in Chain(inner, m[1].layer).parameters()]
    grads = flux.gradient(lambda m: m(X).sum(), m)
    assert grads[0][0].weight.shape == (16, 8)
    assert grads[1].bias.shape == (3,)
    flux.trainmode(m)
    assert (inner[1].active, m[0].active, m[1].layer.active) == (True, True, True)
    flux.testmode(m, "auto")
    assert (inner[1].active, m[0].active) == (None, None)
    plain_one = Chain(Chain(Dense(8, 16, relu), Dropout(0.5)), Dense(16, 3), flux.flatten)
    plain_one.load_state_dict(m.state_dict())
    m.load_state_dict(plain_one.state_dict())
    m[1].bias = flux.Param(np.ones(3, np.float32))
    assert m[1].layer.bias.data[0] == 1
    flux.freeze(m[1])
    assert not m[1].layer.weight.requires_grad
    with pytest.raises(AttributeError, match="nothing"):
        _ = m[1].nothing


def test_it_prints_copies_and_pickles_as_python():
    m = Chain(checkpoint(Dense(3, 4, relu)), checkpoint(Chain(Dense(4, 2), Dropout(0.5))))
    assert repr(m[0]) == "Checkpointed(Dense(3, 4, relu))  # 16 parameters"
    assert repr(m[1]).startswith("Checkpointed(\n  Chain(\n    Dense(4, 2),  # 10 parameters\n")
    assert repr(eval(repr(m), vars(flux))) == repr(m)
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert other[0].weight is not m[0].weight
        np.testing.assert_array_equal(other(X[:, :3]).data, m(X[:, :3]).data)
    assert flux.outputsize(m, (5, 3)) == (5, 2)


def test_open_sizes_and_convolutions():
    m = Chain(checkpoint(Conv((3, 3), None, 4, relu)), flux.flatten, checkpoint(Dense(None, 2)))
    assert repr(m[0]) == "Checkpointed(Conv((3, 3), None, 4, relu))  # size not known yet"
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    flux.gradient(lambda x: m(x).sum(), x)
    assert m[0].weight.shape == (4, 3, 3, 3)
    assert m[2].weight.shape == (2, 64)


def test_recurrent_layers_are_refused():
    lstm = LSTM(8, 4)
    x = np.zeros((3, 2, 8), np.float32)
    with pytest.raises(ValueError, match=r"LSTM\(8, 4\): a checkpoint runs what is inside a second time"):
        flux.gradient(lambda x: checkpoint(lstm)(x).sum(), x)
    assert lstm(x).shape == (3, 2, 4)
    assert checkpoint(lstm.cell)(lstm.initial_state(2), x[0])[1].shape == (2, 4)
    with flux.no_grad():
        assert checkpoint(lstm)(x).shape == (3, 2, 4), "nothing runs twice there"


def test_what_does_not_repeat_itself_raises():
    sizes = iter((2, 3))
    with pytest.raises(TapeError, match="gave other outputs than the first one"):
        flux.gradient(lambda x: checkpoint(lambda x: x[: next(sizes)] * 2)(x).sum(), X)
    counts, drop = iter((1, 2)), Dropout(0.5, active=True)
    with pytest.raises(RuntimeError, match="draws more random numbers than the first one"):
        flux.gradient(lambda x: checkpoint(lambda x: sum(drop(x) for _ in range(next(counts))) * 1)(x).sum(), X)
    assert not flux.autograd.recording.is_checkpointing()


def test_a_parameter_that_changed_meanwhile_raises():
    m = Chain(checkpoint(Chain(Dense(8, 8), Dense(8, 8))), Dense(8, 3))
    opt = flux.setup(flux.Adam(), m)
    with flux.record():
        y = m(X).sum()
    _, grads = flux.withgradient(lambda m: m(X).sum(), m)
    flux.update(opt, m, grads)
    with pytest.raises(TapeError, match="changed in place since"):
        y.backward()
    bias = flux.Param(np.ones(8, np.float32))  # no operation saves it, but a second run would read it
    with flux.record():
        y = checkpoint(lambda x: x + bias)(X * 1.0).sum()
    bias.version += 1
    with pytest.raises(TapeError, match=r"checkpoint saved a value of shape \(8,\)"):
        y.backward()


def test_debug_sees_inputs_that_were_written_to():
    x = flux.tensor(X.copy(), requires_grad=True)
    with flux.debug():
        y = checkpoint(lambda x: x * x)(x).sum()
        x.data[0, 0] += 1
        with pytest.raises(TapeError, match="checkpoint saved an array"):
            y.backward()


def test_errors_name_the_path():
    with pytest.raises(ValueError, match=r"^Chain\[0\]\.Checkpointed Dense\(4, 3\): the input has 8 features"):
        Chain(checkpoint(Dense(4, 3)))(X)
    with pytest.raises(TypeError, match="Checkpointed: layer 0 is the class Dense, not a layer"):
        checkpoint(Dense)
    with pytest.raises(TypeError, match="Checkpointed: layer 0 is a list"):
        checkpoint([Dense(3, 2)])


def test_threads_do_not_meet():
    weights = Chain(*(Chain(Dense(8, 8, tanh), Dropout(0.5)) for _ in range(3))).state_dict()
    found = []

    def run():
        rngs = [flux.Generator(k) for k in range(3)]
        m = Chain(*(checkpoint(Chain(Dense(8, 8, tanh), Dropout(0.5, rng=r))) for r in rngs))
        m.load_state_dict(weights)
        found.append(flux.gradient(lambda x: m(x).sum(), X))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 4
    assert all(np.array_equal(found[0], g) for g in found)
