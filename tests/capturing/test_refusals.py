"""What a replay could not do is refused, with everything as it was; what goes wrong in a step goes wrong as it does there."""

import copy
import pickle
import threading
import types
from dataclasses import dataclass

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Adam, BatchNorm, CaptureError, Chain, Dense, Dropout, tanh
from minitorch_flux.losses import logitcrossentropy

from .sides import World, alongside, tensors
from .test_capture import images, mlp, trainer

X, Y = images(1, 4, 2)[0]


def refused(step, match, *held, args=(X, Y)):
    """The second call of the captured step raises CaptureError and changes nothing."""
    fast = flux.capture(step)
    fast(*args)
    world = World(lambda: (step, *held))
    before = world.state()
    for _ in range(2):
        with pytest.raises(CaptureError, match=match):
            world.call(fast, args, {})
        assert world.state() == before
    assert all(type(t.data) is np.ndarray for x in held for t in tensors(x))


def with_value(look):
    """A training step that looks at its loss in some way."""
    step, model, opt = mlp(Adam(0.1))

    def looking(x, y):
        value = step(x, y)
        look(value)
        return value

    return looking, model


@pytest.mark.parametrize(
    ("look", "what"),
    [
        (float, r"float\(\)"),
        (int, r"int\(\)"),
        (print, "printing"),
        (lambda v: f"{v:.3f}", "printing"),
        (lambda v: v.tolist(), r"tolist\(\)"),
        (np.asarray, r"numpy.asarray"),
        (lambda v: [1, 2][v.astype(int)], "an index"),
        (lambda v: float(v.item()), r"float\(\)"),
        (lambda v: f"{v.item()}", "printing"),
        (lambda v: [1, 2][v.astype(int).item()], "an index"),
        (copy.deepcopy, "a copy"),
        (pickle.dumps, "a copy"),
        (lambda v: copy.copy(v.item()), "a copy"),
    ],
)
def test_looking_at_values(look, what, capsys):
    step, model = with_value(look)
    refused(step, rf"{what} of a value inside a captured step would freeze this number|{what}", model)


def test_writing_to_an_array_of_numpys_own():
    def kept_apart(x, y):
        buffer = np.zeros(4, "f4")
        buffer += x[:, 0]
        return buffer

    refused(kept_apart, "writes to an array .* that NumPy made inside the step")

    def filled(x, y):
        buffer = np.zeros((4, 2), "f4")
        buffer[:2] = x[:2]
        return buffer

    refused(filled, "numpy.asarray, or NumPy's writing to an array of its own")


def test_writing_to_an_argument():
    def doubled(x, y):
        x *= 2
        return x

    refused(doubled, r"writes to an array .shape .4, 2.. that it was given.*write to a copy")
    refused(lambda x, y: x[0].fill(3), "that it was given")


def test_a_refusal_that_the_step_swallows():
    def swallowing(x, y):
        try:
            return float(x.sum())
        except Exception:
            return 0.0

    refused(swallowing, r"float\(\) of a value")


@dataclass
class Result:
    value: object


def test_results_that_hide_values():
    refused(lambda x, y: Result(x * 2), "returns a Result, in which values of this one call would stay")
    refused(lambda x, y: {flux.tensor(x)}, "returns a set")
    refused(lambda x, y: lambda: x, "returns a function")
    refused(lambda x, y: flux.vjp(lambda t: t * 2, x)[1], "returns a function")
    refused(lambda x, y: (v for v in x), "returns a generator")
    fast = flux.capture(lambda x: (Result(3), {1, 2}, x))
    for _ in range(4):
        assert fast(X)[:2] == (Result(3), {1, 2})
    assert fast.replays == 1


REGISTRY = {}


def test_layers_that_nobody_can_find():
    """The parameters of a model that hides are found when they are used; a recurrent state that hides is refused."""

    class Hidden:
        __slots__ = ("model",)

    hidden = Hidden()
    hidden.model = Chain(Dense(2, 3), Dense(3, 2))
    alongside(lambda: (lambda x: hidden.model(x),), [(x,) for x, _ in images(5, 4, 2)])
    hidden.model = flux.LSTM(2, 3)
    fast = flux.capture(lambda x: hidden.model(x))
    y = fast(X)
    kept = hidden.model.state
    with pytest.raises(CaptureError, match="a recurrent layer that cannot be found from its function"):
        fast(X)
    assert np.array_equal(hidden.model.state[0].data, kept[0].data)
    assert y.shape == (4, 3)


def test_functions_that_give_other_things():
    refused(lambda x, y: np.array2string(x), "array2string gives a str|printing")
    refused(lambda x, y: (x.astype(object), 1)[1], "Python objects")


def test_variables_that_the_step_changes():
    losses, counter = [], {"n": 0}
    count = 0

    class Trainer:
        steps = 0

        def __init__(self):
            self.steps = 0

        def step(self, x, y):
            self.steps += 1
            return x

    def append(x, y):
        losses.append(x.sum())

    def entry(x, y):
        counter["n"] += 1

    def variable(x, y):
        nonlocal count
        count += 1

    refused(append, "changes what a replay would leave as it is: losses")
    refused(entry, r"counter\.n")
    refused(variable, "count")
    refused(Trainer().step, r"steps")


def test_attributes_of_layers():
    class Counting(flux.Module):
        def __init__(self):
            self.calls = 0

        def __call__(self, x):
            self.calls += 1
            return x

    model = Chain(Counting(), Dense(2, 3))
    refused(lambda x, y: model(x), r"model.*calls")


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda model, opt: flux.adjust(opt, 0.1), "adjust inside a captured step would happen once.*between the calls"),
        (lambda model, opt: flux.setup(Adam(), model), "setup inside a captured step"),
        (lambda model, opt: flux.seed(1), "seeding a generator inside a captured step.*seed before"),
        (lambda model, opt: flux.Generator(1).permutation(3), "a draw on the host"),
        (lambda model, opt: flux.glorot_normal(2, 3), "a draw on the host"),
        (lambda model, opt: flux.dropout(np.ones(3), 0.5, rng=np.random.default_rng(0)), "numpy.random.Generator inside"),
    ],
)
def test_acts_that_happen_once(act, match):
    step, model, opt = mlp(Adam(0.1))

    def acting(x, y):
        act(model, opt)
        return step(x, y)

    refused(acting, match, model, opt)


@pytest.mark.parametrize(
    ("act", "undo", "match"),
    [
        (flux.freeze, flux.thaw, "freezes or thaws parameters"),
        (flux.testmode, lambda m: flux.testmode(m, "auto"), r"changes what a replay would leave as it is: model"),
        (lambda m: setattr(m[0].weight, "data", m[0].weight.data * 1), lambda m: None, "exchanges the array of a tensor"),
    ],
)
def test_acts_that_stay(act, undo, match):
    model = Chain(Dense(2, 3))

    def acting(x):
        act(model)
        return model(x)

    fast = flux.capture(acting)
    for _ in range(2):
        fast(X)
        undo(model)
        undo(model)
        with pytest.raises(CaptureError, match=match):
            fast(X)
        fast.forget()
        undo(model)


def test_recorded_tensors():
    model = Dense(2, 3)
    refused(lambda x, y: flux.tensor(np.ones(2), requires_grad=True) * 2, "returns a recorded tensor .made by multiply.")
    t = flux.tensor(np.ones((4, 2)), requires_grad=True) * 2
    fast = flux.capture(lambda x: model(x))
    with pytest.raises(CaptureError, match=r"an argument of a captured step is a recorded tensor .made by multiply.*detach"):
        fast(t)
    with flux.record(), pytest.raises(CaptureError, match="inside a recording scope"):
        fast(X)


# -- what changes from call to call unseen -----------------------------------------------------------------------------


def test_a_replay_that_differs():
    """Random numbers, times and counters that nobody can see are found by the proof."""
    rng = np.random.default_rng(0)
    model = Chain(Dense(2, 3), BatchNorm(3))
    opt = flux.setup(Adam(0.1), model)

    def mixed(x, y):
        share = rng.random()
        value, grads = flux.withgradient(lambda m: logitcrossentropy(m(x * share), y), model)
        flux.update(opt, model, grads)
        return value

    fast = flux.capture(mixed)
    fast(X, Y)
    fast(X, Y)
    world = World(lambda: (mixed, model, opt))
    before = world.state()
    with pytest.raises(CaptureError, match="what differs: what it returns, the parameters"):
        world.call(fast, (X, Y), {})
    assert world.state() == before

    hidden = iter(range(100))
    fast = flux.capture(lambda x: x + next(hidden))
    fast(X)
    fast(X)
    with pytest.raises(CaptureError, match="does not give what the step itself gives"):
        fast(X)


def test_a_number_that_changes_at_every_call():
    holder = {"t": 0}
    fast = flux.capture(lambda x: x * holder["t"])
    for _ in range(10):
        holder["t"] += 1
        assert np.array_equal(fast(X), X * holder["t"])
    holder["t"] += 1
    with pytest.raises(CaptureError, match=r"<lambda>. has gone another way 8 times in a row.*holder\.t"):
        fast(X)
    fast.forget()
    assert np.array_equal(fast(X), X * holder["t"])


def test_answers_that_never_repeat():
    def step(x):
        n = x[0, 0].item()
        for k in range(40):
            if n == k:
                return x + k
        return x

    fast = flux.capture(step)
    for k in range(10):
        assert np.array_equal(fast(np.full((2, 2), k)), np.full((2, 2), 2 * k))
    with pytest.raises(CaptureError, match="numbers that the step looks at"):
        fast(np.full((2, 2), 10))


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors_of_the_step():
    """A wrong class index raises what it always raises: in the first call, while recording, in the proof and in a replay."""
    for at in range(5):

        def make():
            return trainer(Chain(Dense(2, 4), BatchNorm(4), Dropout(0.3), Dense(4, 3)), Adam(0.1))

        eager, replayed = World(make), World(make)
        fast = flux.capture(replayed.step)
        for i, (x, y) in enumerate(images(9, 4, 2)):
            y = np.array([0, 1, 7, 0]) if i == at else y
            results = []
            for world, function in ((eager, eager.step), (replayed, fast)):
                try:
                    results.append(world.call(function, (x, y), {}))
                except IndexError as error:
                    results.append(str(error))
            assert results[0] == results[1]
            assert ("the class index 7" in results[0]) == (i == at)
            assert eager.state() == replayed.state()
        assert fast.replays > 2


def test_errors_of_the_optimiser():
    def make():
        return trainer(Chain(Dense(2, 4, tanh), Dense(4, 3)), flux.OptimiserChain(flux.ClipNorm(1.0), Adam(0.1)))

    eager, replayed = World(make), World(make)
    fast = flux.capture(replayed.step)
    for i, (x, y) in enumerate(images(8, 4, 2)):
        x = x * np.float32("nan") if i in (2, 5) else x
        for world, function in ((eager, eager.step), (replayed, fast)):
            if i in (2, 5):
                with pytest.raises(FloatingPointError, match="ClipNorm: the gradient of"):
                    world.call(function, (x, y), {})
            else:
                world.call(function, (x, y), {})
        assert eager.state() == replayed.state()


def test_errors_between_two_updates():
    """What the first optimiser has done by then is done once."""

    def make():
        a, b = Chain(Dense(2, 4), BatchNorm(4), Dense(4, 3)), Chain(Dense(2, 4, tanh), Dropout(0.2), Dense(4, 3))
        oa, ob = flux.setup(Adam(0.1), a), flux.setup(flux.OptimiserChain(flux.ClipNorm(1.0), Adam(0.1)), b)

        def step(x, y, z, s):
            first, grads = flux.withgradient(lambda m: logitcrossentropy(m(x), y), a)
            flux.update(oa, a, grads)
            second, grads = flux.withgradient(lambda m: logitcrossentropy(m(x) + a(x), z) * s, b)
            flux.update(ob, b, grads)
            return first, second

        return step, a, b, oa, ob

    eager, replayed = World(make), World(make)
    fast = flux.capture(replayed.step)
    for i, (x, y) in enumerate(images(12, 4, 2)):
        z = np.array([0, 1, 3, 0]) if i in (1, 2, 5, 9) else y
        s = np.array(np.nan if i in (7, 8) else 1, "f4")
        results = []
        for world, function in ((eager, eager.step), (replayed, fast)):
            try:
                with np.errstate(all="ignore"):
                    results.append(world.call(function, (x, y, z, s), {}))
            except (IndexError, FloatingPointError) as error:
                results.append(str(error))
        assert results[0] == results[1]
        assert isinstance(results[0], str) == (i in (1, 2, 5, 7, 8, 9))
        assert eager.state() == replayed.state(), i
    assert fast.replays > 2


def test_errors_of_python():
    class Stop(Exception):
        pass

    stop = {"now": False}
    step, model, opt = mlp(Adam(0.1))

    def stopping(x, y):
        value = step(x, y)
        if stop["now"]:
            raise Stop
        return value

    fast = flux.capture(stopping)
    for i, (x, y) in enumerate(images(8, 4, 2)):
        stop["now"] = i in (1, 4)
        if stop["now"]:
            with pytest.raises(Stop):
                fast(x, y)
        else:
            fast(x, y)
        assert all(type(t.data) is np.ndarray for t in tensors(model))
    assert opt.states()["0.weight"]["t"] == 8


def test_what_is_no_step():
    with pytest.raises(TypeError, match=r"capture\(step\): the step is a function, got Chain|got int"):
        flux.capture(3)
    with pytest.raises(ValueError, match="plans must be at least 1, got 0"):
        flux.capture(lambda x: x, plans=0)
    with pytest.raises(TypeError):
        flux.capture(lambda x: x, plans=1.5)

    def numbers():
        yield 1

    with pytest.raises(TypeError, match="numbers is a generator or coroutine"):
        flux.capture(numbers)


# -- around it ---------------------------------------------------------------------------------------------------------


def test_threads():
    """Threads take turns, and others may use the model meanwhile."""
    step, model, opt = mlp(Adam(0.001))
    fast = flux.capture(step)
    wrong = []

    def train():
        try:
            for x, y in images(30, 4, 2):
                assert np.isfinite(fast(x, y))
        except Exception as error:
            wrong.append(error)

    def look():
        try:
            for _ in range(60):
                y = model(X)
                assert type(y.data) is np.ndarray or isinstance(y.numpy(), np.ndarray)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=f) for f in (train, train, look, look)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert opt.states()["0.weight"]["t"] == 60
    assert fast.replays >= 50


def test_other_threads_see_numbers():
    """While one thread records, the parameters of the model are stand-ins; others compute, save and print as ever."""
    model = Chain(Dense(2, 3, tanh), Dense(3, 2))
    opt = flux.setup(Adam(0.01), model)
    inside, done, seen, wrong = threading.Event(), threading.Event(), [], []
    calls = iter(range(9))

    def loss(m, x):
        if next(calls) == 1:
            inside.set()
            assert done.wait(30)
        return (m(x) ** 2).mean()

    def step(x):
        value, grads = flux.withgradient(lambda m: loss(m, x), model)
        flux.update(opt, model, grads)
        return value

    def look():
        try:
            assert inside.wait(30)
            w = model[0].weight
            seen.append(type(w.data).__name__)
            values = [float(w.data[0, 0]), f"{w.data.sum():.3f}", str(w), repr(w), np.asarray(w).sum(), w.data.tolist()]
            assert values[0] == w.tolist()[0][0]
            assert type(model(X).numpy()) is np.ndarray
            assert type(model.state_dict()["0.weight"]) is np.ndarray
            assert type(flux.gradient(lambda m: m(X).sum(), model)[0].weight) is np.ndarray
            assert copy.deepcopy(model)[0].weight.data.shape == (3, 2)
            assert bool((w.data == w.data).all())
            assert w.data.max().item() == max(map(max, w.tolist()))
        except Exception as error:
            wrong.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=look)
    thread.start()
    fast = flux.capture(step)
    fast(X)
    fast(X)
    thread.join()
    if wrong:
        raise wrong[0]
    assert seen == ["Tracer"]
    fast(X)
    fast(X)
    assert fast.replays == 1


def test_generators_that_others_draw_from():
    """A proof that another thread has disturbed is taken again."""
    rng = flux.Generator(3)
    calls = iter(range(99))

    def step(x):
        if next(calls) == 2:
            thread = threading.Thread(target=lambda: rng.uniform((4,), "float32"))
            thread.start()
            thread.join()
        return x + rng.uniform(x.shape, "float32")

    fast = flux.capture(step)
    for _ in range(3):
        fast(X)
    assert not fast._courses[0].proven
    for _ in range(2):
        fast(X)
    assert fast.replays == 1


def test_methods():
    class Trainer:
        def __init__(self, scale):
            self.scale = scale

        @flux.capture
        def step(self, x):
            return x * self.scale

    a, b = Trainer(2.0), Trainer(3.0)
    for _ in range(5):
        assert np.array_equal(a.step(X), X * 2)
        assert np.array_equal(b.step(X), X * 3)
    a.scale = 5.0
    assert np.array_equal(a.step(X), X * 5)
    assert Trainer.step.replays == 5


def test_inside_other_scopes():
    """One captured step inside another becomes part of it; under debug and in outlines the step itself runs."""
    inner = flux.capture(lambda x: x * 2)
    alongside(lambda: (lambda x: inner(x) + 1,), [(x,) for x, _ in images(6, 4, 2)])
    fast = flux.capture(lambda x: flux.exp(x))
    for _ in range(4):
        fast(X)
    assert fast.replays == 1
    with flux.debug():
        fast(X)
    assert fast.replays == 1
    with flux.no_grad():
        for _ in range(3):
            fast(X)
    assert fast.replays == 2


def test_printing_and_forgetting():
    fast = flux.capture(mlp(Adam(0.1))[0])
    assert repr(fast) == "<captured step: nothing recorded yet>"
    for _ in range(4):
        fast(X, Y)
    assert repr(fast).startswith("<captured step: ")
    assert "bytes" in repr(fast)
    fast.forget()
    assert "nothing" in repr(fast)
    assert fast.__name__ == "step"


def test_plans_are_let_go():
    fast = flux.capture(lambda x: x + 1, plans=2)
    for n in (1, 2, 3, 4):
        for _ in range(3):
            fast(np.ones(n))
    assert len(fast._courses) == 2


def test_the_emulator(monkeypatch):
    from minitorch_flux.readings import kernel

    step, *_ = mlp(Adam(0.1))
    fast = flux.capture(step)
    fast(X, Y)
    monkeypatch.setattr(kernel, "instead", types.SimpleNamespace(launch=lambda *args: False))
    with pytest.raises(CaptureError, match="kernels that run in the emulator"):
        fast(X, Y)
