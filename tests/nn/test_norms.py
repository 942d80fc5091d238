"""BatchNorm, GroupNorm and InstanceNorm against PyTorch, nested loops and their own definitions."""

import functools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import (
    BatchNorm,
    Chain,
    Conv,
    Dense,
    GroupNorm,
    InstanceNorm,
    leakyrelu,
    no_grad,
    record,
    relu,
    softmax,
    tanh,
    testmode,
    trainmode,
    use_kernels,
)
from tests.oracles import normal

LAYERS = [lambda **k: BatchNorm(4, **k), lambda **k: GroupNorm(4, 2, **k), lambda **k: InstanceNorm(4, **k)]


def randomised(layer, seed=0):
    """The layer with random numbers in all of its arrays."""
    rng = np.random.default_rng(seed)
    for name in ("weight", "bias", "running_mean", "running_var"):
        if (t := getattr(layer, name)) is not None:
            t.data[:] = rng.uniform(0.5, 2, t.shape)
    return layer


def close(a, b, tolerance=1e-5):
    b = np.asarray(b)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max(initial=0)))


# -- what Flux's page says ---------------------------------------------------------------------------------------------


def test_batchnorm_computes_the_mean_and_variance_for_each_slice_and_shifts_them_to_a_new_mean_and_variance():
    """"... corresponding to the learnable, per-channel bias and scale parameters"; with the activation afterwards."""
    x = 5 + 3 * normal(8, 3, 6, 7, dtype=np.float32)
    layer = BatchNorm(3)
    layer.bias.data[:], layer.weight.data[:] = [10, -2, 0], [2, 0.5, 1]
    with record():
        y = layer(x).data
        layer.activation = relu
        z = layer(x).data
    close(y.mean((0, 2, 3)), [10, -2, 0])
    close(y.std((0, 2, 3)), [2, 0.5, 1], 1e-4)
    close(z, np.maximum(y, 0))


def test_for_a_batch_of_feature_vectors_the_channel_dimension_is_just_the_data_dimension():
    layer = trainmode(BatchNorm(5))
    x = 3 + normal(20, 5, dtype=np.float32)
    y = layer(x).data
    close(y.mean(0), np.zeros(5))
    close(y.var(0), np.ones(5), 1e-4)
    close(layer(x[:, :, None, None]).data[:, :, 0, 0], y)


def test_the_classifier_of_the_page_trains_and_is_put_into_test_mode():
    m = Chain(Dense(28**2, 64), BatchNorm(64, relu), Dense(64, 10), softmax)
    x = normal(16, 784, dtype=np.float32)
    y = np.arange(16) % 10
    loss = lambda m: flux.losses.crossentropy(m(x), y)  # noqa: E731
    opt = flux.setup(flux.Adam(1e-2), m)
    before = loss(m).item()
    for _ in range(20):
        _, grads = flux.withgradient(loss, m)
        flux.update(opt, m, grads)
    assert grads[1].weight.shape == grads[1].bias.shape == (64,)
    assert m[1].running_mean.data.any()
    testmode(m)
    assert loss(m).item() < before / 2


def test_groupnorm_example_32_channels_16_groups_thus_2_channels_per_group_used():
    m = Chain(Conv((3, 3), 1, 32, leakyrelu, pad=1), GroupNorm(32, 16))
    x = normal(2, 1, 6, 6, dtype=np.float32)
    y = m(x).data
    groups = y.reshape(2, 16, 2 * 36)
    close(groups.mean(2), np.zeros((2, 16)))
    h = m[:1](x).data.reshape(2, 16, 72)
    close(y, ((h - h.mean(2, keepdims=True)) / np.sqrt(h.var(2, keepdims=True) + 1e-5)).reshape(y.shape), 1e-4)
    grads = flux.gradient(lambda m: (m(x) ** 2 * x).sum(), m)
    assert grads[0].weight.any()
    assert grads[1].weight.shape == (32,)


def test_the_number_of_channels_must_be_an_integer_multiple_of_the_number_of_groups():
    for channels, groups in ((4, 3), (2, 4), (4, 0)):
        with pytest.raises(ValueError, match="GroupNorm: the number of channels must be an integer multiple of the number of "
                                             f"groups, got {channels} channels and {groups} groups"):
            GroupNorm(channels, groups)


def test_eps_defaults_to_1e_5_as_in_the_constructor_and_the_docstring_says_why_the_page_prints_1e_8():
    for layer in (BatchNorm(2), GroupNorm(2, 1), InstanceNorm(2)):
        assert layer.eps == 1e-5
    assert "1e-8" in BatchNorm.__doc__


# -- against PyTorch ---------------------------------------------------------------------------------------------------

TORCH = [
    ("BatchNorm1d", (6, 4), BatchNorm, (4,), {}, {}),
    ("BatchNorm1d", (3, 4, 5), BatchNorm, (4,), {"momentum": 0.5, "eps": 1e-2}, {"momentum": 0.5, "eps": 1e-2}),
    ("BatchNorm2d", (3, 4, 5, 2), BatchNorm, (4,), {"momentum": 1.0}, {"momentum": 1.0}),
    ("BatchNorm2d", (3, 4, 1, 1), BatchNorm, (4,), {"momentum": 0.0}, {"momentum": 0.0}),
    ("BatchNorm3d", (2, 4, 3, 2, 2), BatchNorm, (4,), {"affine": False}, {"affine": False}),
    ("BatchNorm2d", (3, 4, 5, 2), BatchNorm, (4,), {"track_stats": False}, {"track_running_stats": False}),
    ("BatchNorm2d", (1, 70, 7, 7), BatchNorm, (70,), {}, {}),
    ("GroupNorm", (3, 4, 5), GroupNorm, (4, 2), {}, {}),
    ("GroupNorm", (3, 4, 5, 2), GroupNorm, (4, 1), {"eps": 1e-2}, {"eps": 1e-2}),
    ("GroupNorm", (2, 4, 3, 2, 2), GroupNorm, (4, 4), {"affine": False}, {"affine": False}),
    ("InstanceNorm1d", (3, 4, 5), InstanceNorm, (4,), {}, {}),
    ("InstanceNorm2d", (3, 4, 5, 2), InstanceNorm, (4,), {"affine": True}, {"affine": True}),
    ("InstanceNorm2d", (3, 4, 5, 2), InstanceNorm, (4,), {"affine": True, "track_stats": True, "momentum": 0.3},
     {"affine": True, "track_running_stats": True, "momentum": 0.3}),
    ("InstanceNorm3d", (1, 4, 2, 3, 2), InstanceNorm, (4,), {"track_stats": True}, {"track_running_stats": True}),
]  # fmt: skip


@pytest.mark.parametrize("case", TORCH, ids=lambda c: f"{c[0]}{c[1]}{','.join(c[4])}")
@pytest.mark.parametrize("act", [None, tanh])
def test_several_training_steps_and_test_mode_against_torch(case, act):
    torch = pytest.importorskip("torch")
    name, shape, kind, sizes, keywords, torch_keywords = case
    ref = getattr(torch.nn, name)(*sizes[::-1], **torch_keywords).double()
    layer = kind(*sizes, *([act] if act else []), **keywords)
    for t in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
        if t is not None:
            t.data = t.data.astype(np.float64)
    with torch.no_grad():
        for p in ref.parameters():
            p.uniform_(0.5, 2, generator=torch.Generator().manual_seed(p.numel()))
    layer.load_state_dict({k: v.numpy() for k, v in ref.state_dict().items()})
    for step in range(3):
        x, dy = normal(*shape, seed=step) * (step + 1) + step, normal(*shape, seed=step + 9)
        if kind is BatchNorm and keywords.get("momentum") == 0.0:
            assert not layer.running_mean.data.any()
        tx = torch.tensor(x, requires_grad=True)
        ref.zero_grad()
        ty = torch.tanh(ref(tx)) if act else ref(tx)
        ty.backward(torch.tensor(dy))
        y, (grads, dx) = flux.withgradient(lambda m, x: ((y := m(x)) * dy).sum() * 1.0 + 0 * y.sum(), layer, x)  # noqa: B023
        close(y, (ty.detach().numpy() * dy).sum(), 1e-9)
        close(dx, tx.grad, 1e-8)
        if layer.affine:
            close(grads.weight, ref.weight.grad, 1e-9)
            close(grads.bias, ref.bias.grad, 1e-9)
        state = layer.state_dict()
        wanted = {k: v.numpy() for k, v in ref.state_dict().items() if k != "num_batches_tracked"}
        assert list(state) == list(wanted)
        for k, v in wanted.items():
            close(state[k], v, 1e-12)
    ref.eval()
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.tanh(ref(tx)) if act else ref(tx)
    close(layer(x).data, ty.detach().numpy(), 1e-9)
    (wanted,) = torch.autograd.grad(ty, tx, torch.tensor(dy))
    close(flux.gradient(lambda x: (testmode(layer)(x) * dy).sum(), x), wanted, 1e-9)


@pytest.mark.parametrize(("kind", "torch_name", "shape"), [
    (lambda: BatchNorm(3), "BatchNorm2d", (4, 3, 2, 2)), (lambda: BatchNorm(3), "BatchNorm1d", (5, 3)),
    (lambda: GroupNorm(4, 2), "GroupNorm", (2, 4, 3)), (lambda: InstanceNorm(3, affine=True), "InstanceNorm1d", (2, 3, 4)),
])  # fmt: skip
@pytest.mark.parametrize("train", [True, False])
def test_gradients_of_gradients_against_torch(kind, torch_name, shape, train):
    torch = pytest.importorskip("torch")
    layer = randomised(kind())
    sizes = (2, 4) if torch_name == "GroupNorm" else (3,)
    ref = getattr(torch.nn, torch_name)(*sizes, **({"affine": True} if "Instance" in torch_name else {})).double()
    ref.load_state_dict({k: torch.tensor(v) for k, v in layer.state_dict().items()}, strict=False)
    ref.train(train)
    testmode(layer, not train)
    for t in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
        if t is not None:
            t.data = t.data.astype(np.float64)
    x = normal(*shape)
    tx = torch.tensor(x, requires_grad=True)
    first = torch.autograd.grad((torch.tanh(ref(tx)) ** 2).sum(), [tx, ref.weight, ref.bias], create_graph=True)
    loss = sum((g**2).sum() for g in first)
    wanted = torch.autograd.grad(loss, [tx, ref.weight, ref.bias])

    def outer(m, x):
        grads, dx = flux.gradient(lambda m, x: (flux.tanh(m(x)) ** 2).sum(), m, x)
        return (dx**2).sum() + (grads.weight**2).sum() + (grads.bias**2).sum()

    grads, dx = flux.gradient(outer, layer, x)
    for got, w in zip((dx, grads.weight, grads.bias), wanted, strict=True):
        close(got, w, 1e-8)


@pytest.mark.parametrize("make", [
    lambda: BatchNorm(4, tanh), lambda: GroupNorm(4, 2, tanh), lambda: InstanceNorm(4, tanh),
    lambda: GroupNorm(4, 2, track_stats=True), lambda: BatchNorm(4, affine=False, track_stats=False),
])  # fmt: skip
def test_the_checker_passes_and_leaves_the_layer_as_it_was(make):
    layer = randomised(make())
    before, modes = layer.state_dict(), layer.active
    versions = [t.version for t in (layer.running_mean, layer.running_var) if t is not None]
    flux.check(layer, normal(3, 4, 3))
    after = layer.state_dict()
    assert layer.active is modes
    assert all(np.array_equal(before[k], after[k]) for k in before)
    assert versions == [t.version for t in (layer.running_mean, layer.running_var) if t is not None]


# -- running statistics ------------------------------------------------------------------------------------------------


def groupnorm_with_statistics(x, mean, var, groups, momentum):
    """Flux 0.8's running statistics, one group of one sample at a time: the new ``(mean, var)``."""
    n, channels = x.shape[:2]
    size = channels // groups
    new_mean, new_var = np.zeros(groups), np.zeros(groups)
    for g in range(groups):
        for i in range(n):
            values = [float(v) for v in np.ravel(x[i, g * size : (g + 1) * size])]
            m = len(values)
            mu = sum(values) / m
            var_i = sum((v - mu) ** 2 for v in values) / m
            new_mean[g] += ((1 - momentum) * mean[g] + momentum * mu) / n
            new_var[g] += ((1 - momentum) * var[g] + momentum * var_i * m / (m - 1)) / n
    return new_mean, new_var


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.lists(st.integers(2, 3), min_size=1, max_size=2),
       st.sampled_from([0.1, 0.9]))
def test_groupnorm_with_track_stats_against_loops(n, groups, size, sizes, momentum):
    layer = randomised(GroupNorm(groups * size, groups, track_stats=True, momentum=momentum, eps=1e-3))
    mean, var = layer.running_mean.data.astype(np.float64), layer.running_var.data.astype(np.float64)
    assert mean.shape == var.shape == (groups,)
    for step in range(2):
        x = normal(n, groups * size, *sizes, seed=step, dtype=np.float32) + step
        trainmode(layer)(x)
        mean, var = groupnorm_with_statistics(x, mean, var, groups, momentum)
        close(layer.running_mean.data, mean)
        close(layer.running_var.data, var)
    y = testmode(layer)(x).data
    for c in range(groups * size):
        g = c // size
        wanted = layer.weight.data[c] * (x[:, c] - mean[g]) / np.sqrt(var[g] + 1e-3) + layer.bias.data[c]
        close(y[:, c], wanted, 1e-4)


@pytest.mark.parametrize("kernels", [True, False])
def test_statistics_move_once_per_forward_in_train_mode_only(kernels):
    layer = BatchNorm(3, momentum=0.5)
    x = normal(6, 3, 4, dtype=np.float32) + 2
    mean, var = x.mean((0, 2)), x.transpose(1, 0, 2).reshape(3, -1).var(1, ddof=1)
    with use_kernels(kernels):
        layer(x)
        with no_grad():
            layer(x)
        with record(), no_grad():
            layer(x)
        testmode(layer)
        flux.gradient(lambda m: m(x).sum(), layer)
        assert not layer.running_mean.data.any()
        assert layer.running_mean.version == 0
        testmode(layer, "auto")
        flux.gradient(lambda m: (m(x) ** 2).sum(), layer)
        close(layer.running_mean.data, mean / 2)
        close(layer.running_var.data, (1 + var) / 2)
        assert (layer.running_mean.version, layer.running_var.version) == (1, 1)
        trainmode(layer)(x)  # nothing is recorded, yet it is train mode
        close(layer.running_mean.data, 0.75 * mean)
        assert layer.running_mean.version == 2
    assert layer.running_mean.track == 0


def test_running_statistics_are_not_differentiated():
    layer = BatchNorm(2)
    grads = flux.gradient(lambda m: (m(normal(4, 2)) ** 2).sum(), layer)
    assert grads.running_mean is None
    assert grads.running_var is None
    assert len(layer.parameters()) == 2
    assert [name for name, _ in layer.named_buffers()] == ["running_mean", "running_var"]


def test_statistics_that_move_between_a_test_mode_pass_and_its_backward_pass_are_noticed():
    layer = BatchNorm(2)
    x = normal(4, 2)
    with record():
        y = testmode(layer)(x).sum()
        trainmode(layer)(x)
    with pytest.raises(flux.TapeError, match="fixed_norm"):
        y.backward()
    with record():  # the batch's own statistics are nobody else's
        y = layer(x).sum()
        layer(x)
    y.backward()


@pytest.mark.parametrize("make", LAYERS)
def test_check_hessian_and_outputsize_leave_running_statistics_as_they_were(make):
    layer = randomised(make(track_stats=True))
    before = layer.state_dict()
    version = layer.running_mean.version
    x = normal(2, 4, 3)
    for mode in (None, True):
        layer.active = mode
        flux.hessian(lambda x: (layer(x) ** 2).sum(), x[:1, :, :2])
        flux.check(layer, x[:, :, :2], order=1)
        assert flux.outputsize(layer, (2, 4, 3)) == (2, 4, 3)
        assert all(np.array_equal(before[k], v) for k, v in layer.state_dict().items())
        assert layer.running_mean.version == version


def test_an_empty_batch_moves_nothing():
    for layer in (BatchNorm(4), GroupNorm(4, 2, track_stats=True), InstanceNorm(4, track_stats=True)):
        before = layer.state_dict()
        for shape in ((0, 4, 3), (2, 4, 0)):
            assert trainmode(layer)(np.zeros(shape)).shape == shape
            assert testmode(layer)(np.zeros(shape)).shape == shape
        assert all(np.array_equal(before[k], v) for k, v in layer.state_dict().items())


# -- modes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", LAYERS)
def test_three_modes(make):
    layer = make(track_stats=True)
    x = normal(5, 4, 3, dtype=np.float32) + 3
    fixed = layer(x).data
    close(fixed, x / np.sqrt(1 + 1e-5))
    trained = trainmode(make(track_stats=True))(x).data
    assert not np.allclose(fixed, trained)
    with record():
        close(testmode(make(track_stats=True))(x).data, fixed)
        close(make(track_stats=True)(x).data, trained)
        close(make(track_stats=True, active=False)(x).data, fixed)
        with no_grad():
            close(make(track_stats=True)(x).data, fixed)
    close(make(track_stats=True, active=True)(x).data, trained)
    assert testmode(testmode(layer), "auto").active is None


@pytest.mark.parametrize("make", LAYERS)
def test_without_statistics_both_modes_are_the_same(make):
    layer = make(track_stats=False)
    x = normal(5, 4, 3, dtype=np.float32) + 3
    close(testmode(layer)(x).data, trainmode(layer)(x).data)
    assert layer.running_mean is None
    assert list(layer.state_dict()) == (["weight", "bias"] if layer.affine else [])


def test_threads_have_modes_of_their_own():
    layer, found = BatchNorm(2), []
    x = normal(4, 2) + 5
    with record():
        thread = threading.Thread(target=lambda: found.append(layer(x).data))
        thread.start()
        thread.join()
    assert not layer.running_mean.data.any()
    close(found[0], x, 1e-4)


# -- arguments, state, printing ----------------------------------------------------------------------------------------

PRINTS = [
    (BatchNorm(64, relu), "BatchNorm(64, relu)"),
    (BatchNorm(3, eps=1e-3, momentum=0.5, affine=False, track_stats=False),
     "BatchNorm(3, affine=False, track_stats=False, eps=0.001, momentum=0.5)"),
    (BatchNorm(3, init_beta=flux.ones, init_gamma=flux.zeros, active=False),
     "BatchNorm(3, init_beta=ones, init_gamma=zeros, active=False)"),
    (GroupNorm(32, 16), "GroupNorm(32, 16)"),
    (GroupNorm(32, 16, relu, track_stats=True, momentum=0.2), "GroupNorm(32, 16, relu, track_stats=True, momentum=0.2)"),
    (InstanceNorm(3), "InstanceNorm(3)"),
    (InstanceNorm(3, tanh, affine=True, track_stats=True), "InstanceNorm(3, tanh, affine=True, track_stats=True)"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "wanted"), PRINTS, ids=[p[1] for p in PRINTS])
def test_printing_rebuilds_the_layer(layer, wanted):
    text = repr(layer)
    assert text.partition("  #")[0] == wanted
    again = eval(text, dict(vars(flux)))
    assert repr(again) == text
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in layer.state_dict().items()}


def test_printing_counts_parameters():
    assert repr(BatchNorm(64, relu)).endswith("  # 128 parameters, plus 128 non-trainable")


def test_arguments_are_kept_as_attributes():
    layer = GroupNorm(6, 3, tanh, affine=True, track_stats=True, eps=1e-4, momentum=0.2, init_beta=flux.ones, active=True)
    assert (layer.channels, layer.groups, layer.activation, layer.affine, layer.track_stats) == (6, 3, tanh, True, True)
    assert (layer.eps, layer.momentum, layer.init_beta, layer.init_gamma, layer.active) == (
        1e-4, 0.2, flux.ones, flux.ones, True)  # fmt: skip
    assert layer.bias.data.tolist() == [1] * 6
    assert (BatchNorm(5).groups, InstanceNorm(5).groups) == (5, 5)


def test_initialisers_are_called_with_the_number_of_channels():
    layer = BatchNorm(3, init_beta=lambda i: np.arange(i) + 1.0, init_gamma=lambda i: np.full(i, 7, np.float32))
    assert layer.bias.data.tolist() == [1, 2, 3]
    assert layer.weight.data.tolist() == [7] * 3
    with pytest.raises(ValueError, match=r"GroupNorm: init gave an array of shape \(\), asked for \(4,\)"):
        GroupNorm(4, 2, init_beta=lambda i: 0.0)


@pytest.mark.parametrize("make", LAYERS)
def test_epsilon_may_be_written_in_greek(make):
    assert make(ϵ=1e-3).eps == make(ε=1e-3).eps == 1e-3  # Python reads both letters as one
    assert "eps=0.001" in repr(make(ϵ=1e-3))
    with pytest.raises(TypeError, match="eps=0.1 and ϵ=0.2 are the same argument, give one of them"):
        make(eps=0.1, ϵ=0.2)


def test_state_dict_round_trip_with_torchs_names():
    a, b = randomised(BatchNorm(3)), BatchNorm(3)
    state = a.state_dict()
    assert list(state) == ["weight", "bias", "running_mean", "running_var"]
    b.load_state_dict(state | {"num_batches_tracked": np.array(7)})
    x = normal(2, 3, 4)
    np.testing.assert_array_equal(a(x).data, b(x).data)
    assert list(randomised(GroupNorm(4, 2)).state_dict()) == ["weight", "bias"]
    assert InstanceNorm(4).state_dict() == {}


def test_sizes_left_open_are_filled_at_first_sight():
    m = Chain(Conv((3, 3), 1, 6), BatchNorm(None, relu), GroupNorm(None, 3), InstanceNorm(None))
    assert m(np.ones((2, 1, 5, 5), np.float32)).shape == (2, 6, 3, 3)
    assert [layer.channels for layer in m[1:]] == [6, 6, 6]
    layer = BatchNorm(None)
    layer.load_state_dict(randomised(BatchNorm(5)).state_dict())
    assert layer.channels == 5
    layer = BatchNorm(None, affine=False)
    layer.load_state_dict(BatchNorm(5, affine=False).state_dict())
    assert layer.channels == 5


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_real_inputs_are_converted_to_the_dtype_of_the_layers_arrays():
    for x in (np.ones((2, 4, 3)), np.ones((2, 4, 3), int), np.ones((2, 4, 3)).tolist()):
        for make in LAYERS:
            assert make(affine=True)(x).dtype == np.float32
            assert make(affine=False, track_stats=True)(x).dtype == np.float32
    for make in LAYERS:  # 16-bit floats are computed in float32, and stay what they are
        for keywords in ({"affine": True}, {"affine": False, "track_stats": True}):
            assert make(**keywords)(np.ones((2, 4, 3), np.float16)).dtype == np.float16
    plain = InstanceNorm(4)  # has no arrays
    assert plain(np.ones((2, 4, 3))).dtype == np.float64
    assert plain(np.ones((2, 4, 3), np.float16)).dtype == np.float16
    assert plain(np.ones((2, 4, 3), int)).dtype == np.float32
    for make in LAYERS:
        with pytest.raises(TypeError, match="complex numbers are not supported"):
            make()(np.ones((2, 4, 3)) * 1j)


@pytest.mark.parametrize("make", LAYERS)
def test_inputs_of_any_layout_are_not_written_to(make):
    layer = make(affine=True)
    wide = normal(6, 8, 10, dtype=np.float32)
    whole = wide.copy()
    for x in (wide[::2, ::2], np.asfortranarray(wide[:, :4]), wide[:, 3::-1], wide[:1, :4], wide.transpose(2, 1, 0)[:, :4]):
        close(layer(x).data, layer(np.ascontiguousarray(x)).data, 1e-6)
        f = lambda m, x: (m(x) ** 3).sum()  # noqa: E731
        grads, dx = flux.gradient(f, layer, x)
        wanted, dx0 = flux.gradient(f, layer, np.ascontiguousarray(x))
        close(grads.weight, wanted.weight)
        close(dx, dx0)
    np.testing.assert_array_equal(wide, whole)


def test_any_function_may_be_the_activation():
    layer = trainmode(BatchNorm(4, softmax))
    x = normal(5, 4)
    y = layer(x).data
    close(y.sum(1), np.ones(5))
    assert layer.running_mean.data.any()
    close(trainmode(BatchNorm(4, lambda z: 2 * z))(x).data, 2 * trainmode(BatchNorm(4))(x).data)
    assert repr(layer).startswith("BatchNorm(4, softmax, active=True)")


def test_errors():
    with pytest.raises(ValueError, match=r"BatchNorm\(3, relu\): the input has 5 channels on axis 1, expected 3 "
                                         r"\(input shape \(2, 5, 4\)\)"):
        BatchNorm(3, relu)(np.zeros((2, 5, 4)))
    with pytest.raises(ValueError, match=r"GroupNorm\(4, 2\): the input has 6 channels on axis 1, expected 4"):
        GroupNorm(4, 2)(np.zeros((2, 6, 4)))
    with pytest.raises(ValueError, match=r"BatchNorm\(3\): the input has 1 axis, expected \(N, channels, ...\) "
                                         r"\(input shape \(3,\)\); x\[None\] has a batch axis more"):
        BatchNorm(3)(np.zeros(3))
    for layer in (GroupNorm(4, 2), InstanceNorm(4)):
        with pytest.raises(ValueError, match=r"the input has 2 axes, expected \(N, channels, sizes...\) \(input shape"):
            layer(np.zeros((2, 4)))
    with pytest.raises(TypeError, match=r"BatchNorm\(channels\): the number of channels must be a whole number, got 2.5"):
        BatchNorm(2.5)
    with pytest.raises(TypeError, match="the number of groups must be a whole number, got 'a'"):
        GroupNorm(4, "a")
    with pytest.raises(TypeError, match="BatchNorm: the activation must be a function, got 3"):
        BatchNorm(4, 3)
    with pytest.raises(ValueError, match="InstanceNorm: eps must be 0 or a small positive number, got -1"):
        InstanceNorm(4, eps=-1)
    with pytest.raises(ValueError, match="BatchNorm: momentum, the weight of the new value, must be between 0 and 1, got 9"):
        BatchNorm(4, momentum=9)
    with pytest.raises(ValueError, match="BatchNorm: active must be True .train., False .test. or None .automatic., got 'x'"):
        BatchNorm(4, active="x")
    for make, keyword, ours in ((BatchNorm, "num_features", "the first argument"), (BatchNorm, "initβ", "`init_beta=`"),
                                (BatchNorm, "initγ", "`init_gamma=`"), (BatchNorm, "track_running_stats", "`track_stats=`"),
                                (InstanceNorm, "epsilon", "`eps=`")):
        with pytest.raises(TypeError, match=f"{make.__name__}: `{keyword}=` is spelled {ours} here"):
            make(3, **{keyword: 1})


def test_one_value_per_channel_has_no_variance_in_train_mode_and_is_fine_in_test_mode():
    for shape in ((1, 3), (1, 3, 1, 1)):
        layer = BatchNorm(3)
        x = np.ones(shape)
        with record(), pytest.raises(ValueError, match=r"BatchNorm\(3\): one value per channel has no variance \(input shape "
                                                       r"\(1, 3.*\)\): give it larger inputs or call the layer in test mode"):
            layer(x)
        assert layer(x).shape == shape
        assert not layer.running_mean.data.any()
        with pytest.raises(ValueError, match="one value per channel has no variance.*give it larger inputs$"):
            BatchNorm(3, track_stats=False)(x)
    with pytest.raises(ValueError, match="one value per channel and sample has no variance"):
        InstanceNorm(3)(np.ones((4, 3, 1)))
    with pytest.raises(ValueError, match="one value per group has no variance"):
        GroupNorm(3, 3)(np.ones((4, 3, 1)))
    assert GroupNorm(4, 2)(np.ones((4, 4, 1))).shape == (4, 4, 1)


def test_a_bias_may_be_left_out_or_given():
    shift = np.array([1, -2, 3, 0], np.float32)
    for kind, *sizes in ((BatchNorm, 4), (GroupNorm, 4, 2), (InstanceNorm, 4)):
        make = functools.partial(kind, *sizes, affine=True)
        x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
        plain, none, some = make(), make(bias=False), make(bias=shift)
        assert none.bias is None
        assert set(plain.state_dict()) - set(none.state_dict()) == {"bias"}
        assert "bias=False" in repr(none)
        assert repr(eval(repr(none), dict(vars(flux)))) == repr(none)
        for mode in (True, False):
            y = flux.testmode(plain, mode)(x).data
            np.testing.assert_allclose(flux.testmode(none, mode)(x).data, y, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(flux.testmode(some, mode)(x).data, y + shift[:, None], rtol=1e-5, atol=1e-6)
        with pytest.raises(ValueError, match=r"the bias has shape \(3,\), expected \(4,\)"):
            make(bias=shift[:3])
    with pytest.raises(ValueError, match=r"BatchNorm: affine=False leaves the bias out, too; got one of shape \(4,\)"):
        BatchNorm(4, affine=False, bias=shift)
