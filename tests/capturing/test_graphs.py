"""Steps on a GPU as one CUDA graph: on a pretended one, where what is captured is not run, and is NaN until it is launched."""

import gc
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import BatchNorm, Chain, Conv, Dense, Dropout, Embedding, MaxPool, MultiHeadAttention
from minitorch_flux.backend import default_generator, device_of, to_device
from minitorch_flux.backend.tracers import CaptureError
from tests.capturing.random_programs import COMMON, run_program
from tests.capturing.sides import tensors

pytest.importorskip("cupy")
pretended = pytest.importorskip("tests.pretended")
graphs = pretended.graphs


@pytest.fixture(autouse=True)
def gpu():
    with pretended.pretended_gpu() as cupy:
        yield cupy


def on_gpu(a):
    return to_device(np.asarray(a), "cuda:0")


def bits(x):
    if isinstance(x, flux.Tensor):
        x = x.data
    if isinstance(x, list | tuple):
        return [bits(v) for v in x]
    x = to_device(x, "cpu") if hasattr(x, "dtype") else np.asarray(x)
    return x.dtype.name, x.shape, x.tobytes()


def numbers(shape, n=6, dtype="f4"):
    rng = np.random.default_rng(1)
    return [(on_gpu(rng.standard_normal(shape).astype(dtype)), on_gpu(rng.integers(0, 3, shape[0]))) for _ in range(n)]


class Training:
    """A model that learns on the device."""

    def __init__(self, model, rule=None, tape=False):
        flux.seed(11)
        self.model = model().to("cuda")
        self.opt = flux.setup(rule or flux.Adam(1e-2), self.model)
        self.tape = tape

    def step(self, x, y):
        if self.tape:
            with flux.record():
                loss = flux.losses.logitcrossentropy(self.model(x), y)
            loss.backward()
            flux.update(self.opt, self.model)
            return loss.detach()
        loss, grads = flux.withgradient(lambda m: flux.losses.logitcrossentropy(m(x), y), self.model)
        flux.update(self.opt, self.model, grads)
        return loss, (grads[-1] if isinstance(self.model, Chain) else grads).bias


def state(world):
    """Everything that a step changes, but the default generator."""
    counts = [dict(n) for leaf in world.opt._leaves for n in leaf.clock.numbers]
    states = [{k: bits(v) for k, v in s.items()} for s in world.opt.states().values()]
    return [bits(t) for t in tensors(world.model)], [t.version for t in tensors(world.model)], counts, states


class Timeline:
    """A world with the default generator as it is in that world."""

    def __init__(self, *args):
        self.world = Training(*args)
        self.counter = default_generator().state_dict()

    def call(self, step, x, y):
        default_generator().load_state_dict(self.counter)
        try:
            return bits(step(x, y))
        finally:
            self.counter = default_generator().state_dict()

    def state(self):
        return state(self.world), self.counter


def alongside(model, inputs, rule=None, between=None, tape=False, replays=None):
    """The captured training beside the eager one: the same bits after each call. Returns what capture gave."""
    eager, captured = Timeline(model, rule, tape), Timeline(model, rule, tape)
    fast = flux.capture(captured.world.step)
    for i, (x, y) in enumerate(inputs):
        for line in (eager, captured):
            if between:
                between(i, line.world)
        launches = graphs.launches
        assert captured.call(fast, x, y) == eager.call(eager.world.step, x, y), f"call {i}"
        assert captured.state() == eager.state(), f"after call {i}"
        assert graphs.launches - launches == (i >= 2 if replays is None else i in replays), f"call {i}"
    assert fast.replays == (len(inputs) - 3 if replays is None else len(replays) - 2)
    return fast


def time_first(x):
    return x.swapaxes(0, 1)


MODELS = {
    "dense": (lambda: Chain(Dense(4, 8, flux.tanh), Dense(8, 3)), (5, 4)),
    "dropout": (lambda: Chain(Dense(4, 16), Dropout(0.5), Dense(16, 3)), (5, 4)),
    "convolution": (lambda: Chain(Conv((3, 3), 2, 4, flux.relu, pad=1, stride=2), flux.flatten, Dense(36, 3)), (3, 2, 5, 6)),
    "norm and pool": (lambda: Chain(Conv((1, 1), 2, 4), BatchNorm(4, flux.relu), MaxPool((2, 2)), flux.flatten, Dense(24, 3)),
                      (3, 2, 4, 6)),
    "attention": (lambda: Chain(flux.LayerNormV2(4), MultiHeadAttention(4, 2), lambda x: x.mean(axis=1), Dense(4, 3)),
                  (3, 5, 4)),
    "lstm": (lambda: Chain(time_first, flux.LSTM(4, 5), lambda x: x[-1], Dense(5, 3)), (3, 9, 4)),
    "a state that goes on": (lambda: Chain(time_first, flux.GRU(4, 5, stateful=True), lambda x: x[-1], Dense(5, 3)), (3, 4, 4)),
    "one sample, one number": (lambda: Chain(Dense(1, 1, flux.tanh), Dense(1, 3)), (1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_gives_the_bits_of_the_step(name):
    model, shape = MODELS[name]
    fast = alongside(model, numbers(shape))
    assert (fast._courses[0].plan.products > 0) == (name != "one sample, one number")  # which are multiplied elementwise
    assert "bytes" in repr(fast)


def test_the_learning_rate_changes_between_the_launches():
    def between(i, world):
        flux.adjust(world.opt, 0.1 / (i + 1))

    fast = alongside(MODELS["dense"][0], numbers((5, 4), 8), between=between)
    assert len(fast._courses) == 1


RULES = [
    flux.Descent(0.1), flux.Momentum(0.1, 0.9, 0.5), flux.Nesterov(0.1), flux.RMSProp(0.01, momentum=0.5, centred=True),
    flux.Adam(0.01, amsgrad=True), flux.AdamW(0.01, weight_decay=0.1), flux.NAdam(0.01), flux.AdaMax(0.01), flux.AdaGrad(0.1),
    flux.AdaDelta(1.0), flux.Lion(0.01),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_what_optimisers_count_goes_on(rule):
    alongside(lambda: Dense(4, 3), numbers((5, 4)), rule=rule)


def test_gradients_on_the_tape():
    alongside(lambda: Dense(4, 3), numbers((5, 4)), tape=True)


@pytest.mark.parametrize("dtype", ["f2", "f8"])
def test_other_dtypes(dtype):
    convert = {"f2": flux.f16, "f8": flux.f64}[dtype]
    alongside(lambda: convert(Dense(4, 3)), numbers((5, 4), dtype=dtype))


def test_masks_are_others_at_every_launch():
    drop, x = Dropout(0.5), on_gpu(np.ones((8, 8), "f4"))
    flux.trainmode(drop)
    fast = flux.capture(lambda x: drop(x))
    masks = [bits(fast(x)) for _ in range(8)]
    assert len(set(masks)) == 8
    assert fast.replays == 5


def test_rows_of_a_table():
    """The gradient of an embedding orders its indices; a graph does so without sorting."""
    rng = np.random.default_rng(3)
    inputs = [(on_gpu(rng.integers(-1, 5, (4, 7)) % 5), on_gpu(rng.integers(0, 3, 4))) for _ in range(5)]
    alongside(lambda: Chain(Embedding(5, 6), lambda x: x.mean(axis=1), Dense(6, 3)), inputs)


def test_many_arrays_are_joined():
    def joined(x):
        return flux.cat([x * i for i in range(9)], axis=1) + flux.stack([x] * 10).sum(axis=0).mean()

    alongside(lambda: Chain(Dense(4, 4), joined, Dense(36, 3)), numbers((5, 4)))


def test_inputs_of_another_form_get_a_graph_of_their_own():
    a, b = numbers((5, 4), 5), numbers((7, 4), 5)
    fast = alongside(lambda: Dense(4, 3), [a[0], a[1], b[0], a[2], b[1], a[3], b[2]], replays=[3, 4, 5, 6])  # two are proofs
    assert len(fast._courses) == 2


def test_views_constants_and_numbers():
    scale = on_gpu(np.arange(12.0).reshape(3, 4))

    def step(x):
        y = x.T[::2].copy()
        y[0] += 1
        zeros = flux.backend.array_module(x).zeros_like(x)
        zeros[1:] = 2 * x[:-1]
        xp = flux.backend.array_module(x)
        made = xp.full((2,), 3.0), xp.arange(4)
        return y, zeros, xp.where(x > 0, x, scale), x[np.array([2, 0])], made, x @ scale.T, x[0] @ x[1]

    fast = flux.capture(step)
    rng = np.random.default_rng(0)
    for _ in range(6):
        x = on_gpu(rng.standard_normal((3, 4)))
        assert bits(fast(x)) == bits(step(x))
    assert fast.replays == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 10), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_random_programs(program, seed):
    """Any sequence of views, writes, reductions and products, launched with other numbers."""
    rng = np.random.default_rng(seed)

    def step(x, y):
        xp = flux.backend.array_module(x)
        return run_program([*COMMON, "concatenate", "reshape", "zeros_like"], program, xp, x, y)

    fast = flux.capture(step)
    for _ in range(5):
        x, y = (on_gpu(rng.standard_normal((3, 3))) for _ in range(2))
        assert bits(fast(x, y)) == bits(step(x, y))
    assert fast.replays == 2


def test_results_are_the_callers():
    fast = flux.capture(lambda x: (x * 2, x))
    xs = [on_gpu(np.full(3, float(i))) for i in range(6)]
    results = [fast(x) for x in xs]
    for i, (y, same) in enumerate(results):
        np.testing.assert_array_equal(y.get(), np.full(3, 2.0 * i))
        np.testing.assert_array_equal(same.get(), np.full(3, float(i)))
        assert device_of(y) == "cuda:0"


def test_the_pool_lives_as_long_as_the_graph():
    gc.collect()
    before = len(graphs.MemoryPool.living), len(graphs.Graph.living)
    fast = alongside(MODELS["dropout"][0], numbers((5, 4)))
    gc.collect()
    assert len(graphs.MemoryPool.living) == before[0] + 1
    fast.forget()
    gc.collect()
    assert (len(graphs.MemoryPool.living), len(graphs.Graph.living)) == before


def test_indices_are_ordered_without_sorting():
    from minitorch_flux.ops.positions import _order_by_ranks, row_starts, stable_order

    index = np.random.default_rng(0).integers(0, 4, 50)
    np.testing.assert_array_equal(_order_by_ranks(index), stable_order(index, 4))
    fast = flux.capture(lambda i: (stable_order(i, 4), row_starts(i, 4)))
    for _ in range(4):
        order, start = fast(on_gpu(index))
    np.testing.assert_array_equal(order.get(), stable_order(index, 4))
    np.testing.assert_array_equal(start.get(), row_starts(index, 4))


def test_tables_of_addresses_are_kept(monkeypatch):
    from minitorch_flux.ops import batches

    monkeypatch.setattr(batches, "KNOWN", 2)
    a, b, c = ([on_gpu(np.ones(n, "f4")) for n in (3, 5)] for _ in range(3))
    tables = batches.Batch(a, [0, 3]).tables
    first, second = tables.addresses(a), tables.addresses(b)
    assert tables.addresses(a) is first
    third = tables.addresses(c)
    assert tables.addresses(a) is first
    assert tables.addresses(c) is third
    assert tables.addresses(b) is not second
    np.testing.assert_array_equal(second.get(), [x.data.ptr for x in b])


# -- what has no place in a graph --------------------------------------------------------------------------------------


class Sign(flux.optimisers.Rule):
    """A rule that somebody has written."""

    eta: float = 0.1

    def apply(self, batch, slots, numbers):
        for piece in batch.pieces:
            _, dx = piece.read()
            piece.step(self.eta * batch.xp.sign(dx))


def training(rule):
    world = Training(lambda: Dense(4, 3), rule)
    return lambda x: world.step(x, on_gpu([0, 1, 2]))[0]


REFUSED = {
    "item": (lambda x: x * x.sum().item(), r"\.item\(\) in a captured step on a GPU would wait for the device"),
    "if": (lambda x: x if x.sum() > 0 else -x, "an `if` on a value in a captured step on a GPU"),
    "float": (lambda x: x * float(x.sum()), r"float\(\) of a value inside a captured step"),
    "a mask": (lambda x: x[x > 0], "an index of truth values gives an array whose shape depends on numbers"),
    "nonzero": (lambda x: flux.backend.array_module(x).flatnonzero(x), "flatnonzero gives an array whose shape"),
    "places": (lambda x: flux.backend.array_module(x).where(x > 0), "where gives an array whose shape depends"),
    "a library": (lambda x: flux.backend.array_module(x).einsum("ij,ij->i", x, x), "einsum calls a library that CuPy does not"),
    "the host": (lambda x: to_device(x, "cpu"), "a copy from cuda:0 to cpu inside a captured step"),
    "an argument": (lambda x: x.__setitem__(0, 1), "writes to an array .* that it was given"),
    "a chain": (lambda: training(flux.OptimiserChain(flux.WeightDecay(0.1), flux.Adam(0.1))), "is no single kernel"),
    "clipping": (lambda: training(flux.ClipNorm(1.0)), "is no single kernel"),
    "a rule of one's own": (lambda: training(Sign(0.1)), r"Sign\(eta=0.1\) is no single kernel"),
    "whole numbers' products": (lambda x: x.astype("i4") @ x.astype("i4").T, "matmul cannot be part of a CUDA graph: "),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    step, message = REFUSED[name]
    if name in ("a chain", "clipping", "a rule of one's own"):
        step = step()
    fast, x = flux.capture(step), on_gpu(np.random.default_rng(0).standard_normal((3, 4)))
    x = x.astype("f4")
    fast(x)
    with pytest.raises(CaptureError, match=message):
        fast(x)
    assert graphs.state.graph is None
    assert graphs.state.stream.ptr == 0


def test_a_refused_step_leaves_everything_as_it_was():
    world = Training(MODELS["dropout"][0])

    def step(x, y):
        loss, _ = world.step(x, y)
        return loss, x.astype("i4") @ x.astype("i4").T

    fast, (x, y) = flux.capture(step), numbers((5, 4))[0]
    fast(x, y)
    before = state(world), default_generator().state_dict()
    with pytest.raises(CaptureError, match="cannot be part of a CUDA graph"):
        fast(x, y)
    assert (state(world), default_generator().state_dict()) == before
    fine = flux.capture(world.step)
    for _ in range(5):
        fine(x, y)
    assert fine.replays == 2


def test_kernels_that_are_switched_off():
    drop, x = flux.trainmode(Dropout(0.5)), on_gpu(np.ones((4, 4), "f4"))
    fast = flux.capture(lambda x: drop(x))
    update = flux.capture(training(flux.Adam(0.1)))
    with flux.use_kernels(False):
        for step, message in ((fast, "kernels can; they are switched off"), (update, "update ran without a kernel")):
            step(x[:3])
            with pytest.raises(CaptureError, match=message):
                step(x[:3])


def test_arrays_of_two_devices():
    fast = flux.capture(lambda x, y: x)
    fast(on_gpu(np.ones(3)), np.ones(3))
    with pytest.raises(CaptureError, match=r"argument .* is on cuda:0, but an argument .* \(shape \(3,\)\) on cpu"):
        fast(on_gpu(np.ones(3)), np.ones(3))


def test_products_in_tf32_get_a_graph_of_their_own():
    fast, (x, _) = flux.capture(lambda x: x @ x.T), numbers((5, 4))[0]
    for _ in range(4):
        fast(x)
    with flux.allow_tf32():
        for _ in range(3):
            fast(x)
    assert len(fast._courses) == 2
    assert fast.replays == 2


def test_too_many_indices(monkeypatch):
    from minitorch_flux.ops import positions

    monkeypatch.setattr(positions, "MOST_RANKED", 3)
    table, i = Embedding(5, 2).to("cuda"), on_gpu([0, 1, 2, 3])
    fast = flux.capture(lambda i: flux.gradient(lambda m: m(i).sum(), table).weight)
    fast(i)
    with pytest.raises(CaptureError, match="sorts 4 indices .* at most 3 can be"):
        fast(i)


def test_a_replay_that_goes_another_way_is_noticed(monkeypatch):
    """A parameter that was frozen, an optimiser that was loaded: recorded anew, not replayed with the old addresses."""
    world = Training(lambda: Chain(Dense(4, 8), Dense(8, 3)))
    fast, inputs = flux.capture(world.step), itertools.cycle(numbers((5, 4)))
    for _ in range(4):
        fast(*next(inputs))
    other = Training(lambda: Chain(Dense(4, 8), Dense(8, 3)))
    other.model.load_state_dict(world.model.state_dict())
    other.opt.load_state_dict(world.opt.state_dict())
    world.opt.load_state_dict(world.opt.state_dict())
    for _ in range(4):
        pair = next(inputs)
        assert bits(fast(*pair)[0]) == bits(other.step(*pair)[0])


# -- matrix products ---------------------------------------------------------------------------------------------------

SHAPES = [
    ((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (6, 4, 5)), ((2, 3, 4), (4,)), ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((1, 4), (4, 1)),
    ((2, 3, 0), (2, 0, 5)), ((1, 1), (1, 1)), ((2, 1, 4), (2, 4, 1)),
]  # fmt: skip
LAYOUTS = [lambda a: a, lambda a: np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2) if a.ndim > 1 else a,
           lambda a: np.repeat(a, 2, axis=-1)[..., ::2]]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_products_are_those_of_cupy(gpu, shapes, dtype):
    """Every layout and every way that cuBLAS is called, on addresses, against NumPy."""
    from minitorch_flux.backend.cublas import Products

    kept, rng = [], np.random.default_rng(0)
    stream = gpu.cuda.Stream()
    with stream:
        products = Products(gpu, gpu.cuda.Device(), stream, kept.append, lambda a: kept.append(on_gpu(a)) or kept[-1])
        for left, right in itertools.product(LAYOUTS, LAYOUTS):
            x, y = (layout(rng.standard_normal(s).astype(dtype)) for layout, s in zip((left, right), shapes, strict=True))
            wanted = np.matmul(x.astype("f8"), y.astype("f8"))
            z = products.matmul(pretended.ndarray(x), pretended.ndarray(y))
            assert z.dtype == dtype
            assert z.shape == wanted.shape
            np.testing.assert_allclose(z.get(), wanted, rtol=0, atol=20 * np.finfo(dtype).eps)
            out = pretended.ndarray(np.empty(wanted.shape[::-1], dtype).T)
            assert products.matmul(pretended.ndarray(x), pretended.ndarray(y), out=out) is out
            np.testing.assert_array_equal(out.get(), z.get())


def test_products_that_cublas_has_not(gpu):
    from minitorch_flux.backend.cublas import ProductError, Products

    with gpu.cuda.Stream() as stream:
        products = Products(gpu, gpu.cuda.Device(), stream, lambda a: None, on_gpu)
        with pytest.raises(ProductError, match="the product of int64 .* is none of cuBLAS"):
            products.matmul(on_gpu([[1]]), on_gpu([[1]]))
        graphs.Cublas.cublasGemmEx, before = (lambda *args: 13), graphs.Cublas.cublasGemmEx
        try:
            with pytest.raises(ProductError, match="cublasGemmEx gave the status 13"):
                products.matmul(on_gpu(np.ones((2, 3))), on_gpu(np.ones((3, 2))))
        finally:
            graphs.Cublas.cublasGemmEx = before
