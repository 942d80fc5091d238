"""Sizes left open: known at first sight, from a shape, or from a state dict, and an ordinary layer from then on."""

import copy
import pickle
import threading

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import (
    GRU,
    LSTM,
    RNN,
    WHCN,
    BatchNorm,
    Chain,
    Conv,
    ConvTranspose,
    CrossCor,
    Dense,
    DepthwiseConv,
    Dropout,
    Generator,
    GroupNorm,
    GRUv3,
    InstanceNorm,
    LayerNorm,
    LayerNormV2,
    Maxout,
    Module,
    Parallel,
    Param,
    RMSNorm,
    Scale,
    SkipConnection,
    Tensor,
    flatten,
    relu,
)

IMAGE, ROW, SEQUENCE = (2, 6, 5, 4), (3, 6), (5, 2, 6)
LAYERS = {  # a layer with the size n, and the shape of an input
    "Dense": (lambda n, rng: Dense(n, 4, rng=rng), ROW),
    "Dense, pair": (lambda n, rng: Dense((n, 4), relu, bias=False, rng=rng), (6,)),
    "Dense, keyword": (lambda n, rng: Dense(in_=n, out=4, activation=relu, rng=rng), (2, 3, 6)),
    "Conv": (lambda n, rng: Conv((3, 2), n, 4, relu, pad=1, groups=2, rng=rng), IMAGE),
    "Conv, pair": (lambda n, rng: Conv((3,), (n, 4), rng=rng), (6, 7)),
    "Conv, 3 axes": (lambda n, rng: Conv((1, 2, 3), n, 2, rng=rng), (6, 2, 3, 4)),
    "CrossCor": (lambda n, rng: CrossCor((3, 2), n, 4, rng=rng), IMAGE),
    "ConvTranspose": (lambda n, rng: ConvTranspose((3, 2), n, 4, stride=2, groups=2, rng=rng), IMAGE),
    "DepthwiseConv": (lambda n, rng: DepthwiseConv((3, 2), n, rng=rng), IMAGE),
    "DepthwiseConv, mul": (lambda n, rng: DepthwiseConv((3, 2), n, 3, relu, rng=rng), IMAGE),
    "DepthwiseConv, pair": (lambda n, rng: DepthwiseConv((3, 2), (n, 3), rng=rng), IMAGE),
    "RNN": (lambda n, rng: RNN(n, 4, relu, rng=rng), SEQUENCE),
    "LSTM": (lambda n, rng: LSTM(n, 4, num_layers=2, bidirectional=True, rng=rng), SEQUENCE),
    "GRU": (lambda n, rng: GRU((n, 4), rng=rng), ROW),
    "GRUv3": (lambda n, rng: GRUv3(n, 4, batch_first=True, rng=rng), SEQUENCE),
    "BatchNorm": (lambda n, rng: BatchNorm(n, relu), IMAGE),
    "BatchNorm of features": (lambda n, rng: BatchNorm(n), ROW),
    "BatchNorm, not affine": (lambda n, rng: BatchNorm(n, affine=False), IMAGE),
    "GroupNorm": (lambda n, rng: GroupNorm(n, 3), IMAGE),
    "InstanceNorm": (lambda n, rng: InstanceNorm(n, affine=True), IMAGE),
    "LayerNorm": (lambda n, rng: LayerNorm(n), ROW),
    "LayerNorm of two axes": (lambda n, rng: LayerNorm((n, 2)), (3, 6, 2)),
    "LayerNormV2": (lambda n, rng: LayerNormV2(n), ROW),
    "RMSNorm": (lambda n, rng: RMSNorm(n), ROW),
    "Scale": (lambda n, rng: Scale(n), ROW),
}
every = pytest.mark.parametrize("name", LAYERS)


def made(name):
    """The layer with its size open, the same one with its size given, and an input."""
    make, shape = LAYERS[name]
    return make(None, Generator(3)), make(6, Generator(3)), array(*shape)


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def same_state(a, b):
    assert list(a.state_dict()) == list(b.state_dict())
    for key, value in a.state_dict().items():
        np.testing.assert_array_equal(value, b.state_dict()[key], key)


# -- every layer -------------------------------------------------------------------------------------------------------


@every
def test_at_first_sight_it_is_the_ordinary_layer(name):
    layer, wanted, x = made(name)
    assert isinstance(layer, type(wanted))
    assert "None" in repr(layer)
    assert repr(layer).endswith("  # size not known yet")
    m = Chain(layer)
    y = m(x)
    assert m[0] is layer
    assert type(layer) is type(wanted)
    assert repr(layer) == repr(wanted)
    np.testing.assert_array_equal(y.data, wanted(x).data)
    same_state(layer, wanted)


@every
def test_the_gradient_of_the_first_call(name):
    layer, wanted, x = made(name)
    g, dx = flux.gradient(lambda m, x: (m(x) ** 2).sum(), layer, x)
    h, dz = flux.gradient(lambda m, x: (m(x) ** 2).sum(), wanted, x)
    assert repr(g) == repr(h)
    np.testing.assert_array_equal(dx, dz)
    for (_, a), (_, b) in zip(layer.named_parameters(), wanted.named_parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    same_state(layer, wanted)  # running statistics, too: this was a call in train mode


@every
def test_built_from_a_shape(name):
    layer, wanted, x = made(name)
    assert flux.build(layer, x.shape) is layer
    assert type(layer) is type(wanted)
    same_state(layer, wanted)
    np.testing.assert_array_equal(layer(x).data, wanted(x).data)
    layer, wanted, x = made(name)
    assert flux.outputsize(layer, x.shape) == wanted(x).shape
    assert repr(layer) == repr(wanted)


@every
def test_built_from_a_state_dict(name):
    layer, wanted, x = made(name)
    for p in wanted.parameters():
        p.data[:] = array(*p.shape, seed=5)
    m = Chain(relu, layer)
    state = Chain(relu, wanted).state_dict()
    if not state:
        pytest.skip("nothing is saved that would tell the size")
    m.load_state_dict(state)
    assert repr(layer) == repr(wanted)
    same_state(layer, wanted)
    np.testing.assert_array_equal(layer(x).data, wanted(x).data)
    layer, _, _ = made(name)
    assert flux.loadmodel(layer, wanted) is layer
    same_state(layer, wanted)


@every
def test_copies_and_pickles_of_an_open_layer(name):
    layer, wanted, x = made(name)
    layer.active = False
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), flux.cpu(layer), copy.copy(layer)):
        assert repr(other) == repr(layer)
        assert other.active is False
        np.testing.assert_array_equal(other(x).data, wanted(x).data)
        flux.reset(wanted)
        assert type(other) is type(wanted)
        assert type(layer) is not type(wanted)
        layer = made(name)[0]
        layer.active = False


@every
def test_modes_and_reset_before_the_size_is_known(name):
    layer, _, x = made(name)
    m = Chain(layer)
    assert flux.testmode(m) is m
    assert flux.reset(m) is m
    assert flux.truncate(m) is m
    assert flux.zero_grad(m) is m
    m(x)
    assert layer.active is False


# -- randomness --------------------------------------------------------------------------------------------------------


@every
def test_nothing_is_drawn_before_the_size_is_known(name):
    rng = Generator(0)
    before = rng.state_dict()
    LAYERS[name][0](None, rng)
    assert rng.state_dict() == before
    flux.seed(1)
    LAYERS[name][0](None, None)
    after = Dense(2, 2)
    flux.seed(1)
    np.testing.assert_array_equal(Dense(2, 2).weight.data, after.weight.data)


def test_layers_draw_in_the_order_in_which_they_are_built():
    flux.seed(1)
    a, b = Dense(2, 2), Dense(5, 3)
    flux.seed(1)
    m = Chain(Dense(None, 3), Dense(2, 2))
    m[0](array(1, 5))
    np.testing.assert_array_equal(m[1].weight.data, a.weight.data)
    np.testing.assert_array_equal(m[0].weight.data, b.weight.data)


def test_what_cannot_be_made_is_named_at_once():
    for wrong, error, text in [
        (lambda: Dense(None), TypeError, r"`out` must be a whole number, got None"),
        (lambda: Dense(None, "4"), TypeError, r"`out` must be a whole number, got '4'"),
        (lambda: Dense(None, 4, 5), TypeError, "Dense: the activation must be a function, got 5"),
        (lambda: Dense(None, 4, bias=np.ones(3)), ValueError, r"Dense: the bias has shape \(3,\), expected \(4,\)"),
        (lambda: Dense(None, 4, dim=1), TypeError, "`dim=` is spelled `axis=` here"),
        (lambda: Dense(None, 4, nonsense=1), TypeError, "nonsense"),
        (lambda: Conv(3, None, 4), TypeError, "the kernel is a tuple"),
        (lambda: Conv((3, 3), None), TypeError, "the channels are two whole numbers"),
        (lambda: Conv((3, 3), None, 4, stride=0), ValueError, "stride"),
        (lambda: Conv((3, 3), None, 5, groups=2), ValueError, "cannot be split into 2 groups"),
        (lambda: GroupNorm(None, 0), ValueError, "group"),
        (lambda: LSTM(None, 4, num_layers=0), ValueError, "num_layers must be at least 1"),
    ]:
        with pytest.raises(error, match=text):
            wrong()


def test_no_memory_is_taken_before_the_size_is_known():
    flux.free_memory()
    layer = LSTM(None, 100_000)  # 149 GiB, were it made
    assert repr(layer) == "LSTM(None, 100000)  # size not known yet"


# -- what an open layer cannot do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", [
    lambda m: flux.setup(flux.Adam(), m), lambda m: m.state_dict(), lambda m: m.parameters(),
    lambda m: list(m.named_parameters()), lambda m: flux.freeze(m), flux.state, lambda m: flux.check(m, array(2, 3)), flux.f64,
])
def test_what_needs_the_parameters_says_to_call_the_model_once(use):
    m = Chain(Dense(2, 3), Dense(None, 4))
    with pytest.raises(ValueError, match=r"Dense\(None, 4\) does not know its size yet: call the model once, or "
                                         r"flux\.build\(model, shape\)"):
        use(m)
    m(array(1, 2))
    flux.setup(flux.Adam(), m)


def test_attributes_of_an_open_layer():
    with pytest.raises(AttributeError, match=r"^Dense\(None, 4\) has no 'weight' yet, its size is not known: call the "):
        _ = Dense(None, 4).weight
    with pytest.raises(AttributeError, match="has no 'in_' yet"):
        _ = Dense(None, 4).in_
    assert not hasattr(Conv((3, 3), None, 4), "weight")


def test_saving_an_open_model_changes_no_file(tmp_path):
    flux.save(tmp_path / "m.npz", Dense(2, 4))
    before = (tmp_path / "m.npz").read_bytes()
    with pytest.raises(ValueError, match="does not know its size yet"):
        flux.save(tmp_path / "m.npz", Chain(Dense(None, 4)))
    assert (tmp_path / "m.npz").read_bytes() == before
    m = Dense(None, 4)
    flux.load(tmp_path / "m.npz", m)
    assert m.in_ == 2


def test_an_input_that_does_not_fit_decides_nothing():
    m = Chain(Conv((3, 3), None, 2), flatten, Dense(None, 3))
    with pytest.raises(ValueError, match=r"^Chain\[0\] .*kernel"):
        m(array(1, 4, 2, 2))  # too small for the kernel
    assert repr(m[0]) == "Conv((3, 3), None, 2)  # size not known yet"
    with pytest.raises(ValueError, match=r"^Chain\[0\] Conv\(\(3, 3\), None, 2\): its size is that of axis -3 of the input, "
                                         r"which has the shape \(4, 5\)$"):
        m(array(4, 5))
    m(array(2, 1, 4, 4))
    assert m[0].weight.shape == (2, 1, 3, 3)
    with pytest.raises(ValueError, match="the input has 3 channels on axis 1, expected 1"):
        m(array(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"Dense\(None, 3\): its size is that of axis -1 of the input, which has the "):
        Dense(None, 3)(np.float32(2))
    with pytest.raises(TypeError, match=r"Dense\(None, 3\): there is no input to take the size from"):
        Dense(None, 3)()
    with pytest.raises(ValueError, match=r"GroupNorm.*4 channels|4.*3 groups|groups"):
        GroupNorm(None, 3)(array(2, 4, 5))


# -- building ----------------------------------------------------------------------------------------------------------


def test_build_says_what_the_input_did_not_reach():
    class Half(Module):
        def __init__(self):
            self.used, self.rest = Dense(None, 2), [Dense(None, 3)]

        def __call__(self, x):
            return self.used(x)

    m = Half()
    with pytest.raises(ValueError, match=r"build: the input did not reach rest\.0: Dense\(None, 3\), whose size stays open"):
        flux.build(m, (4, 5))
    assert m.used.in_ == 5
    m.rest[0](array(1, 2))
    assert flux.build(m, (4, 5)) is m


def test_a_whole_model_from_one_shape():
    flux.seed(0)
    m = Chain(Conv((3, 3), None, 8, relu), BatchNorm(None), Dropout(0.5), flatten, Dense(None, 10))
    assert repr(m) == """Chain(
  Conv((3, 3), None, 8, relu),  # size not known yet
  BatchNorm(None),              # size not known yet
  Dropout(0.5),
  flatten,
  Dense(None, 10),              # size not known yet
)  # Total: 3 layers of a size not known yet."""
    assert flux.build(m, (32, 1, 28, 28)) is m
    assert m[1].weight.shape == (8,)
    assert not m[1].running_mean.data.any()  # nothing was computed
    assert repr(m[-1]) == "Dense(5408, 10)  # 54_090 parameters"
    assert flux.build(m, (1, 1, 28, 28)) is m  # again: nothing to do
    half = Chain(Dense(2, 3), Dense(None, 1))
    assert repr(half).endswith("# Total: 2 arrays, 9 parameters, 36 bytes, 1 layer of a size not known yet.")


def test_recurrent_state_after_building_is_that_of_a_new_layer():
    m = LSTM(None, 3)
    flux.build(m, (4, 2, 5))
    assert [s.shape for s in m.state] == [(3,), (3,)]
    m(array(2, 5))
    assert [s.shape for s in m.state] == [(2, 3), (2, 3)]


def test_open_layers_inside_of_others():
    m = Chain(Maxout(lambda: Dense(None, 4), 2), SkipConnection(Dense(None, 4), flux.add), Parallel(flux.add, a=Dense(None, 2),
                                                                                                   b=Chain(Dense(None, 2))))
    g = flux.gradient(lambda m: m(array(3, 5)).sum(), m)
    assert g[0][0].weight.shape == (4, 5)
    assert g[1].layer.weight.shape == (4, 4)
    assert g[2].b[0].weight.shape == (2, 4)
    assert len(m.parameters()) == 10
    assert WHCN(Chain(d := Dense(None, 2)))(array(5, 3)).shape == (2, 3)
    assert d.in_ == 5


def test_a_layer_that_is_there_twice_is_filled_once():
    d = Dense(None, 3)
    m = Chain(d, relu, d)
    m(array(2, 3))
    assert m[0] is m[2]
    assert len(m.parameters()) == 2
    d = Dense(None, 3)
    Chain(d, d).load_state_dict({"1.weight": array(3, 3), "1.bias": array(3)})
    assert d.in_ == 3


def test_training_starts_with_an_open_model():
    m = Chain(Dense(None, 8, relu), Dense(None, 1))
    x = array(20, 3)
    loss = lambda m: ((m(x) - x[:, :1]) ** 2).mean()  # noqa: E731
    first, grads = flux.withgradient(loss, m)
    opt = flux.setup(flux.Descent(0.1), m)
    flux.update(opt, m, grads)
    assert loss(m).item() < first
    m = Chain(Dense(None, 8, relu), Dense(None, 1))
    with flux.record():
        loss(m).backward()
    assert m[0].weight.grad.shape == (8, 3)
    m = Chain(Dense(None, 1))
    h = flux.gradient(lambda x: (flux.gradient(lambda x: (m(x) ** 2).sum(), x) ** 2).sum(), x)  # at second order, too
    w = m[0].weight.numpy().astype(float)
    np.testing.assert_allclose(h, 8 * (w @ w.T) * (x @ w.T @ w), rtol=1e-4)


def test_an_open_layer_that_is_not_used_has_no_gradient():
    m = Chain(Dense(2, 3), Dense(None, 4))
    g = flux.gradient(lambda m: m[0](array(1, 2)).sum(), m)
    assert g[1] is None
    assert g[0].weight.shape == (3, 2)


def test_a_class_made_from_a_layer():
    class Gained(Dense):
        def __init__(self, out):
            super().__init__(None, out)
            self.gain = Param(np.float32([2]))

        def __call__(self, x):
            return super().__call__(x) * self.gain

        def _arguments(self):
            return [self.out], {}

    m = Gained(3)
    assert m.gain.tolist() == [2]
    y = m(array(2, 5))
    np.testing.assert_array_equal(y.data, 2 * (array(2, 5) @ m.weight.data.T))
    assert type(m) is Gained
    assert list(m.state_dict()) == ["gain", "weight", "bias"]


def test_given_weights_leave_nothing_open():
    assert Conv(array(2, 3, 3, 3), None, relu).bias is None
    assert Dense(array(2, 3), None).weight.shape == (2, 3)
    assert Scale(Tensor(array(3)), None).weight.shape == (3,)


def test_no_features_are_a_size_too():
    m = Dense(None, 3)
    assert m(np.ones((2, 0))).shape == (2, 3)
    assert m.in_ == 0
    assert Dense(None, 3)([[1, 2], [3, 4]]).shape == (2, 3)


def test_threads_that_meet_at_the_first_input():
    for _ in range(5):
        m = Chain(Dense(None, 4), Dense(None, 2))
        x, results = array(3, 5), []
        barrier = threading.Barrier(4)

        def work(m=m, x=x, results=results, barrier=barrier):
            barrier.wait()
            results.append(m(x).numpy())

        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(results) == 4
        for y in results:
            np.testing.assert_array_equal(y, results[0])


# -- state dicts -------------------------------------------------------------------------------------------------------


def test_a_state_dict_that_does_not_fit_leaves_the_size_open():
    m = Chain(Dense(None, 4), Dense(4, 3))
    good = Chain(Dense(7, 4), Dense(4, 3)).state_dict()
    before = m[1].weight.numpy().copy()
    for change, text in [
        ({"0.weight": array(5, 7)}, r"0\.weight: shape \(5, 7\), the model has \(4, 7\)"),
        ({"1.bias": array(2)}, r"1\.bias: shape \(2,\), the model has \(3,\)"),
        ({"0.weight": None}, r"0: missing, nothing tells its size\n  0\.weight: unexpected\n  0\.bias: unexpected$"),
        ({"0.weight": array(4)}, "0: missing, nothing tells its size"),
        ({"0.extra": array(4)}, r"0\.extra: unexpected"),
    ]:
        with pytest.raises(flux.nn.state_dicts.StateError, match=text):
            m.load_state_dict({**good, **change})
        assert repr(m[0]) == "Dense(None, 4)  # size not known yet"
        np.testing.assert_array_equal(m[1].weight.data, before)
    report = m.load_state_dict({k: v for k, v in good.items() if k[0] == "1"}, strict=False)
    assert report == {"missing": ["0"], "unexpected": []}
    assert m.load_state_dict({k: v for k, v in good.items() if k != "0.bias"}, strict=False)["missing"] == ["0.bias"]
    assert m[0].in_ == 7
    with pytest.raises(flux.nn.state_dicts.StateError, match="the model: missing, nothing tells its size"):
        Dense(None, 3).load_state_dict({})
    with pytest.raises(flux.nn.state_dicts.StateError, match="groups"):
        GroupNorm(None, 3).load_state_dict({"weight": array(4), "bias": array(4)})


def test_weights_of_torch_tell_the_sizes():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ConvTranspose2d(4, 2, 3))
    ours = Chain(Conv((3, 3), None, 4), BatchNorm(None), ConvTranspose((3, 3), None, 2))
    ours.load_state_dict(theirs.state_dict())
    x = array(2, 3, 8, 8)
    theirs.eval()
    np.testing.assert_allclose(ours(x).data, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5)


# -- beside other parts of the library ---------------------------------------------------------------------------------


def test_layers_that_wrap_a_parameter_ask_for_the_size():
    with pytest.raises(TypeError, match=r"Dense\(None, 3\) has no parameter 'weight'.*its size is open"):
        flux.WeightNorm(Dense(None, 3))


def test_outlines_leave_no_trace_in_a_layer_that_they_build():
    m = Chain(BatchNorm(None), flux.flatten, Dense(None, 2))
    flux.testmode(m, False)
    flux.outputsize(m, (4, 3, 2))
    for key, a in m.state_dict().items():
        assert type(a) is np.ndarray, key
    assert not m[0].running_mean.data.any()
    assert m[0].active is True
    m(array(4, 3, 2))
    assert m[0].running_mean.data.any()
