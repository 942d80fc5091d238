"""A captured step gives what the step itself gives, bit for bit: models, optimisers, modes, states."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import (
    LSTM,
    Adam,
    AdamW,
    BatchNorm,
    Chain,
    Conv,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    MaxPool,
    Momentum,
    Nesterov,
    OptimiserChain,
    flatten,
    relu,
    tanh,
)
from minitorch_flux.losses import logitcrossentropy

from .sides import alongside


def images(n, *shape, classes=3, seed=0, dtype="float32"):
    """``n`` batches of random inputs and class indices."""
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal(shape).astype(dtype), rng.integers(0, classes, shape[0])) for _ in range(n)]


def trainer(model, rule, loss=logitcrossentropy):
    """The plain training step of a model."""
    opt = flux.setup(rule, model)

    def step(x, y):
        value, grads = flux.withgradient(lambda m: loss(m(x), y), model)
        flux.update(opt, model, grads)
        return value

    return step, model, opt


def mlp(rule, *, dtype="float32"):
    model = Chain(Dense(2, 16, tanh), Dense(16, 3))
    return trainer(flux.f64(model) if dtype == "float64" else model, rule)


def lenet(rule):
    return trainer(Chain(Conv((3, 3), 1, 4, relu, pad=1), MaxPool((2, 2)), flatten, Dense(36, 5, relu), Dense(5, 3)), rule)


def normed(rule):
    return trainer(Chain(Conv((3, 3), 1, 4, pad=1), BatchNorm(4, relu), Dropout(0.3), flatten, Dense(144, 8), LayerNorm(8),
                         Dropout(0.2), Dense(8, 3)), rule)


RULES = [
    flux.Descent(0.1), Momentum(0.05), Nesterov(0.05), Adam(0.01), AdamW(0.01), flux.RMSProp(0.01), flux.Lion(0.01),
    flux.NAdam(0.01), flux.RAdam(0.01), flux.AdaGrad(0.05),
    OptimiserChain(flux.ClipGrad(0.05), Adam(0.01)),
    OptimiserChain(flux.ClipNorm(0.1, total=True), flux.WeightDecay(0.01), Momentum(0.05)),
    OptimiserChain(flux.AccumGrad(3), flux.ClipNorm(0.1), AdamW(0.01)),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_every_optimiser(rule):
    alongside(mlp, images(10, 4, 2), rule)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes(dtype):
    alongside(lambda: mlp(Adam(0.01), dtype=dtype), images(6, 4, 2, dtype=dtype))


@pytest.mark.parametrize("make", [lenet, normed])
@pytest.mark.parametrize("kernels", [True, False])
def test_layers(make, kernels):
    with flux.use_kernels(kernels):
        alongside(make, images(7, 5, 1, 6, 6), Adam(0.01))


# -- states that live between the steps --------------------------------------------------------------------------------


def tokens(n, steps, batch, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, 7, (steps, batch)), rng.integers(0, 7, (steps, batch))) for _ in range(n)]


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("kind", [flux.LSTM, flux.GRU, flux.RNN])
def test_language_model(kind, stateful):
    def make():
        return trainer(Chain(Embedding(7, 5), kind(5, 6, stateful=stateful), Dense(6, 7)), Adam(0.01))

    # a stateful layer has no state before the first step: its second call is the first of its kind
    alongside(make, tokens(8, 4, 3))


def test_reset_between_the_calls_and_inside_the_step():
    def make():
        model = Chain(LSTM(3, 4), Dense(4, 2))
        opt = flux.setup(Adam(0.01), model)

        def step(xs):
            flux.reset(model)
            value, grads = flux.withgradient(lambda m: sum((m(x) ** 2).sum() for x in xs), model)
            flux.update(opt, model, grads)
            return value, model[0].state

        return step, model, opt

    rng = np.random.default_rng(0)
    calls = [([rng.standard_normal((2, 3)).astype("f4") for _ in range(3)],) for _ in range(6)]
    alongside(make, calls)

    def stepping():
        model = LSTM(3, 4)
        return (lambda x: model(x)), model

    xs = [(rng.standard_normal((2, 3)).astype("f4"),) for _ in range(14)]
    between = lambda i, m: flux.reset(m) if i in (5, 9, 12) else None  # noqa: E731
    # call 0 is run, 1 recorded with a state, 2 proves it; 5 finds no state and is recorded, 9 proves that
    alongside(stepping, xs, between=between, replays=len(xs) - 5)


def test_backward_and_stored_gradients():
    def make():
        model = Chain(Dense(2, 8, tanh), Dense(8, 3))
        opt = flux.setup(Adam(0.01), model)

        def step(x, y):
            with flux.record():
                loss = logitcrossentropy(model(x), y)
            loss.backward()
            flux.update(opt, model)
            return loss.detach()

        return step, model, opt

    alongside(make, images(6, 4, 2))


def test_gradients_that_stay():
    """Accumulated in .grad over several calls, and used outside."""

    def make():
        model = Chain(Dense(2, 8, tanh), Dense(8, 3))
        opt = flux.setup(Adam(0.01), model)

        def step(x, y):
            with flux.record():
                loss = logitcrossentropy(model(x), y)
            loss.backward()

        return step, model, opt

    def between(i, model, opt):
        if i % 3 == 0 and i:
            flux.update(opt, model)

    fast = alongside(make, images(12, 4, 2), between=between, replays=12 - 5)
    assert len(fast._courses) == 2  # with gradients there and without


# -- settings that change ----------------------------------------------------------------------------------------------


def test_schedules():
    """adjust between the calls is followed without recording anew."""
    alongside(mlp, images(9, 4, 2), Adam(0.1), between=lambda i, model, opt: flux.adjust(opt, 0.1 / (i + 1), beta=(0.9, 0.99)))


def test_freezing_parts():
    def between(i, model, opt):
        if i == 4:
            flux.freeze(model[0])
        if i == 8:
            flux.thaw(model[0])

    alongside(mlp, images(12, 4, 2), Adam(0.1), between=between, replays=12 - 5)
    alongside(mlp, images(12, 4, 2), Adam(0.1), between=lambda i, m, opt: flux.freeze(opt[1]) if i == 4 else None)


def test_test_mode():
    def between(i, model, opt):
        if i == 4:
            flux.testmode(model)
        if i == 7:
            flux.testmode(model, "auto")

    # the third way: the layers have a mode of their own now, which is the automatic one
    alongside(normed, images(10, 5, 1, 6, 6), Adam(0.01), between=between, replays=10 - 7)


def test_loading_and_conversions():
    """Loaded numbers are read where they lie; new arrays behind the parameters are noticed."""

    def between(i, model, opt):
        if i == 4:
            model.load_state_dict({k: v * 0.5 for k, v in model.state_dict().items()})
        if i == 6:
            model.to("cpu")
        if i == 7:
            for t in model.parameters():
                t.data = t.data * 2

    alongside(mlp, images(12, 4, 2), Adam(0.1), between=between, replays=12 - 5)


def test_optimiser_states_that_are_loaded():
    saved = {}

    def between(i, model, opt):
        if i == 3:
            saved[id(opt)] = opt.state_dict()
        if i == 6:
            opt.load_state_dict(saved[id(opt)])

    alongside(mlp, images(9, 4, 2), Adam(0.1), between=between)


def test_variables():
    """A number that the function uses is honoured: another value is recorded anew, a known one replayed."""
    scales = {}

    def make():
        step, model, opt = mlp(Adam(0.1))
        holder = {"scale": 1.0}
        scales[id(model)] = holder

        def scaled(x, y):
            value, grads = flux.withgradient(lambda m: logitcrossentropy(m(x) * holder["scale"], y), model)
            flux.update(opt, model, grads)
            return value

        return scaled, model, opt

    def between(i, model, opt):
        scales[id(model)]["scale"] = 1.0 if i % 8 < 4 else 0.5

    fast = alongside(make, images(20, 4, 2), between=between, replays=20 - 5)
    assert len(fast._courses) == 2


SCALE = 1.0


def test_globals_and_attributes():
    class Trainer:
        def __init__(self):
            self.model = Chain(Dense(2, 4, tanh), Dense(4, 3))
            self.opt = flux.setup(Adam(0.1), self.model)
            self.smoothing, self.unused = 0.0, 0

        def loss(self, m, x, y):
            return logitcrossentropy(m(x) * SCALE, y, label_smoothing=self.smoothing)

        def step(self, x, y):
            value, grads = flux.withgradient(lambda m: self.loss(m, x, y), self.model)
            flux.update(self.opt, self.model, grads)
            return value

    def make():
        trainer = Trainer()
        trainers[id(trainer.model)] = trainer
        return trainer.step, trainer.model, trainer.opt

    def between(i, model, opt):
        global SCALE
        SCALE = 1.0 if i < 5 else 2.0
        trainers[id(model)].smoothing = 0.0 if i < 8 else 0.1
        trainers[id(model)].unused = i

    trainers = {}
    alongside(make, images(12, 4, 2), between=between, replays=12 - 7)


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_shapes_and_dtypes_change():
    calls = images(6, 4, 2) + images(5, 3, 2) + images(4, 4, 2) + images(4, 4, 2, dtype="float64") + images(2, 3, 2)
    fast = alongside(mlp, calls, Adam(0.01), replays=len(calls) - 7)
    assert len(fast._courses) == 3


def test_layouts_of_inputs():
    calls = [(np.asfortranarray(x), y) for x, y in images(4, 4, 2)] + [(x[::2, ::-1], y[::2]) for x, y in images(4, 8, 2)]
    alongside(mlp, calls, Adam(0.01), replays=len(calls) - 5)


def test_keywords_defaults_and_nested_inputs():
    def make():
        model = Chain(Dense(2, 8, tanh), Dense(8, 3))
        opt = flux.setup(Adam(0.01), model)

        def step(batch, *, weight=None, options=("mean", 0.1)):
            loss = lambda m: logitcrossentropy(m(batch["x"]), batch["y"][0], weight=weight, agg=options[0],  # noqa: E731
                                               label_smoothing=options[1])
            value, grads = flux.withgradient(loss, model)
            flux.update(opt, model, grads)
            return {"loss": value, "grads": grads, "norms": [(p.data**2).sum() for p in model.parameters()]}

        return step, model, opt

    rng = np.random.default_rng(1)
    calls = [(({"x": flux.tensor(x), "y": (y,)},), {"weight": rng.random(3).astype("f4")}) for x, y in images(6, 4, 2)]
    alongside(make, calls)
    calls = [(({"x": x, "y": (y,)},), {"options": ("sum", 0.0)}) for x, y in images(6, 4, 2)]
    calls += [(({"x": x, "y": (y,)},), {"options": ("sum", 0.2)}) for x, y in images(3, 4, 2)]
    alongside(make, calls, replays=9 - 5)


def test_inputs_are_not_kept():
    """An array that changes after the call, or is given again, is read anew each time."""
    x = np.ones((4, 2), "f4")
    y = np.zeros(4, int)
    eager, model, _ = mlp(Adam(0.1))
    step, other, _ = mlp(Adam(0.1))
    other.load_state_dict(model.state_dict())
    fast = flux.capture(step)
    for i in range(6):
        x[...] = i
        assert eager(x, y).tobytes() == fast(x, y).tobytes()
    assert fast.replays == 3


def test_results_are_the_callers_own():
    step, _, _ = mlp(Adam(0.1))
    fast = flux.capture(lambda x, y: (step(x, y), x * 2))
    results = [fast(*images(1, 4, 2, seed=i)[0]) for i in range(6)]
    kept = [(v.copy(), a.copy()) for v, a in results]
    for _, a in results[-2:]:
        a[...] = -1
    fast(*images(1, 4, 2, seed=9)[0])
    assert [v for v, _ in results] == [v for v, _ in kept]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(results[:-2], kept[:-2], strict=True))


# -- several steps, several models -------------------------------------------------------------------------------------


def test_two_captured_functions_share_a_model():
    def world():
        flux.seed(3)
        model = Chain(Dense(2, 8, tanh), Dropout(0.5), Dense(8, 3))
        opt = flux.setup(Adam(0.05), model)

        def train(x, y):
            value, grads = flux.withgradient(lambda m: logitcrossentropy(m(x), y), model)
            flux.update(opt, model, grads)
            return value

        return model, train, lambda x: model(x)

    batches = images(10, 4, 2)
    model, train, predict = world()
    expected = [(train(x, y).tobytes(), predict(x).data.tobytes()) for x, y in batches]
    model, train, predict = world()
    train, predict = flux.capture(train), flux.capture(predict)
    assert [(train(x, y).tobytes(), predict(x).data.tobytes()) for x, y in batches] == expected
    assert train.replays == predict.replays == 7


def test_adversaries():
    """Two models and two optimisers in one step, the second reads what the first update has changed."""

    def make():
        g, d = Chain(Dense(2, 8, tanh), Dense(8, 2)), Chain(Dense(2, 8, relu), Dropout(0.2), Dense(8, 1))
        og, od = flux.setup(Adam(0.01), g), flux.setup(OptimiserChain(flux.ClipGrad(0.1), Momentum(0.1)), d)
        loss = flux.losses.logitbinarycrossentropy

        def step(z, x):
            fake = g(z)
            ones, zeros = np.ones((len(z), 1), "f4"), np.zeros((len(z), 1), "f4")
            ld, grads = flux.withgradient(lambda m: loss(m(x), ones) + loss(m(fake), zeros), d)
            flux.update(od, d, grads)
            lg, grads = flux.withgradient(lambda m: loss(d(m(z)), ones), g)
            flux.update(og, g, grads)
            return ld, lg

        return step, g, d, og, od

    rng = np.random.default_rng(0)
    alongside(make, [tuple(rng.standard_normal((2, 4, 2)).astype("f4")) for _ in range(7)])


def test_gradients_of_gradients():
    """A gradient penalty: second derivatives inside the step."""

    def make():
        model = Chain(Dense(2, 8, tanh), Dense(8, 1))
        opt = flux.setup(Adam(0.01), model)

        def loss(m, x):
            g = flux.gradient(lambda x: m(x).sum(), x)
            return ((g**2).sum(axis=1) - 1).square().mean() + m(x).mean()

        def step(x):
            value, grads = flux.withgradient(lambda m: loss(m, x), model)
            flux.update(opt, model, grads)
            return value

        return step, model, opt

    alongside(make, [(x,) for x, _ in images(6, 4, 2)])


def test_running_means_of_the_weights():
    """Writing to parameters in place, as moving averages and clipping of weights do."""

    def make():
        model, mean = Chain(Dense(2, 8, tanh), Dense(8, 3)), Chain(Dense(2, 8, tanh), Dense(8, 3))
        step, _, opt = trainer(model, Adam(0.1))

        def averaged(x, y):
            value = step(x, y)
            for p, q in zip(model.parameters(), mean.parameters(), strict=True):
                p.data[...] = np.clip(p.data, -0.3, 0.3)
                q.data[...] = 0.9 * q.data + 0.1 * p.data
            return value

        return averaged, model, mean, opt

    alongside(make, images(6, 4, 2))


def test_plain_arrays_as_parameters():
    def make():
        rng = np.random.default_rng(0)
        w = {"a": rng.standard_normal((3, 2)).astype("f4"), "b": np.zeros(3, "f4")}
        opt = flux.setup(Adam(0.1), w)

        def step(x, y):
            value, grads = flux.withgradient(lambda p: logitcrossentropy(x @ p["a"].T + p["b"], y), w)
            flux.update(opt, w, grads)
            return value, w["a"]

        return step, opt

    alongside(make, images(6, 4, 2))


def test_steps_without_a_model():
    alongside(lambda: (lambda x, y: flux.sin(x) * 2 + y.mean(),), images(6, 4, 2))
    alongside(lambda: (lambda x, y: flux.gradient(lambda t: (t**3).sum(), x),), images(6, 4, 2))
    alongside(lambda: (lambda x, y: None,), images(6, 4, 2))


def test_noise_from_a_generator():
    def make():
        rng = flux.Generator(5)
        return (lambda x, y: x + rng.normal(x.shape, "float32") * rng.uniform((), "float32")), rng

    alongside(make, images(6, 4, 2))


def test_numbers_read_from_arrays():
    """.item() gives a number that is read anew at every replay, and computed with."""

    def make():
        def step(x, y):
            n = x.sum().item()
            return x * n, n / 2 + 1, (n > 0) * 1.0, y - y.max().item()

        return (step,)

    alongside(make, images(6, 4, 2))


def test_ways_that_depend_on_numbers():
    """An `if` on a tensor: each answer is recorded once, and a replay takes the right way."""

    def make():
        step, model, opt = mlp(Adam(0.1))

        def choosy(x, y):
            if x.mean() > 0:
                x = x * 0.5
            value, grads = flux.withgradient(lambda m: logitcrossentropy(m(x), y), model)
            if value.item() > 1.0:
                grads = flux.capturing.nested.mapped(grads, lambda g: g * 0.1)
            flux.update(opt, model, grads)
            return value

        return choosy, model, opt

    fast = alongside(make, images(30, 4, 2), replays=30 - 9)
    assert len(fast._courses) <= 4


def test_gradients_that_are_tensors():
    """Gradients that functions of the library have changed are tensors; an update takes them, too."""

    def make():
        model = Chain(Dense(2, 8, tanh), Dense(8, 3))
        opt = flux.setup(Adam(0.1), model)

        def step(x, y):
            value, grads = flux.withgradient(lambda m: logitcrossentropy(m(x), y), model)
            flux.update(opt, model, flux.capturing.nested.mapped(grads, lambda g: flux.clip(g, -0.01, 0.01)))
            return value

        return step, model, opt

    alongside(make, images(6, 4, 2))


def test_constants_are_the_callers_own():
    fast = flux.capture(lambda x: (np.arange(3), flux.backend.array_module(x).asarray([1.0, 2.0]), x))
    for _ in range(6):
        a, b, _ = fast(np.ones(2))
        assert a.tolist() == [0, 1, 2]
        assert b.tolist() == [1.0, 2.0]
        a[...], b[...] = 7, 7
    assert fast.replays == 3
