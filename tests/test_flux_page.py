"""The model reference of Flux, sentence by sentence: each test's name quotes the key words of what it holds us to.

Arrays of the page have Flux's order of axes, (W, H, C, N) and (in, N); ``WHCN(model)`` takes them as they are. Where a test
follows the page's own numbers from 1, ours count from 0.
"""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import (
    GRU,
    LSTM,
    RNN,
    WHCN,
    AlphaDropout,
    BatchNorm,
    Chain,
    Conv,
    ConvTranspose,
    Dense,
    DepthwiseConv,
    Dropout,
    GroupNorm,
    LayerNorm,
    Maxout,
    MaxPool,
    MeanPool,
    Recur,
    elu,
    identity,
    leakyrelu,
    relu,
    sigmoid,
    softmax,
    swish,
    tanh,
    testmode,
)


@pytest.fixture(autouse=True)
def seed():
    flux.seed(0)


def rand(*shape):
    return np.random.default_rng(sum(shape)).random(shape)


def randn(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def trains(model, *inputs):
    """Every parameter has a gradient that is not zero throughout, in train mode; returns the gradients by path."""
    flux.trainmode(model)
    with flux.record():
        y = model(*inputs)
        loss = (y * (y + np.linspace(0, 1, y.size, dtype=y.dtype).reshape(y.shape))).sum()
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert grads
    for name, g in grads.items():
        assert g is not None, name
        assert np.isfinite(g).all(), name
        assert np.abs(g).max() > 0, name
    flux.zero_grad(model)
    testmode(model, "auto")
    return grads


# -- basic layers ------------------------------------------------------------------------------------------------------


def test_chain_multiple_layers_or_functions_called_in_sequence_on_a_given_input():
    m = Chain(lambda x: x**2, lambda x: x + 1)
    assert m(5) == 26
    m = Chain(Dense(10, 5, tanh), Dense(5, 2))
    x = rand(10)
    np.testing.assert_array_equal(m(x).numpy(), m[1](m[0](x)).numpy())
    trains(m, rand(7, 10))


def test_chain_also_supports_indexing_and_slicing_e_g_m_2_or_m_1_end_minus_1():
    m = Chain(Dense(10, 5, relu), BatchNorm(5), Dense(5, 2))
    assert m[1] is m.layers[1]
    assert isinstance(m[:-1], Chain)
    assert list(m[:-1]) == [m[0], m[1]]
    assert m[:-1][0].weight is m[0].weight  # the slice shares its layers
    trains(m[:-1], rand(4, 10))


def test_m_1_to_3_of_x_will_calculate_the_output_of_the_first_three_layers():
    m = Chain(Dense(10, 5, relu), Dense(5, 4, sigmoid), Dense(4, 3), softmax)
    x = rand(6, 10)
    np.testing.assert_array_equal(m[0:3](x).numpy(), m[2](m[1](m[0](x))).numpy())


def test_creates_a_traditional_dense_layer_with_parameters_W_and_b():
    d = Dense(5, 2, sigmoid)
    assert [(name, p.shape) for name, p in d.named_parameters()] == [("weight", (2, 5)), ("bias", (2,))]
    assert Dense(5, 2).activation is identity  # σ = identity
    trains(d, rand(3, 5))


def test_y_equals_sigma_of_W_times_x_plus_b():
    d = Dense(5, 2, sigmoid, init_bias=flux.ones)
    x = randn(5)
    W, b = d.weight.numpy(), d.bias.numpy()
    np.testing.assert_allclose(d(x).numpy(), 1 / (1 + np.exp(-(W @ x + b))), rtol=1e-6)
    flux.check(d, randn(3, 5))


def test_the_input_x_must_be_a_vector_of_length_in_or_a_batch_represented_as_an_in_by_N_matrix():
    d = Dense(5, 2, tanh)
    assert d(rand(5)).shape == (2,)
    assert d(rand(7, 5)).shape == (7, 2)  # our batch comes first
    assert WHCN(d)(rand(5, 7)).shape == (2, 7)  # Flux's in x N
    for x, got in ((rand(4), "4 features"), (rand(7, 4), "4 features")):
        with pytest.raises(ValueError, match=rf"Dense\(5, 2, tanh\): the input has {got}, expected 5"):
            d(x)


def test_the_out_y_will_be_a_vector_or_batch_of_length_out():
    d = Dense(5, 2, relu)
    x = rand(7, 5)
    np.testing.assert_allclose(d(x).numpy()[3], d(x[3]).numpy(), rtol=1e-6)
    np.testing.assert_allclose(WHCN(d)(x.T).numpy().T, d(x).numpy(), rtol=1e-6)


def test_d_is_dense_5_2_prints_and_gives_a_2_element_array():
    d = Dense(5, 2)
    assert repr(d).startswith("Dense(5, 2)")
    y = d(rand(5))
    assert y.shape == (2,)
    assert y.dtype == np.float32  # the page's Float64 is from an older version


# -- convolution and pooling -------------------------------------------------------------------------------------------


def test_these_layers_are_used_to_build_convolutional_neural_networks():
    m = Chain(Conv((3, 3), 1, 4, relu, pad=1), MaxPool((2, 2)), Conv((3, 3), 4, 8, relu), MeanPool((2, 2)), flux.flatten,
              Dense(8 * 3 * 3, 10))
    assert m(rand(2, 1, 16, 16)).shape == (2, 10)
    trains(m, rand(2, 1, 16, 16))


@pytest.mark.parametrize("layer", [Conv, ConvTranspose])
def test_standard_convolutional_layer_size_should_be_a_tuple_like_2_2_in_and_out_specify_the_number_of_channels(layer):
    m = layer((2, 2), 3, 5, relu)
    assert m(randn(4, 3, 6, 7)).shape[:2] == (4, 5)
    assert repr(m).startswith(f"{layer.__name__}((2, 2), 3, 5, relu)")
    np.testing.assert_array_equal(layer((2, 2), (3, 5), relu, rng=flux.Generator(1)).weight.numpy(),
                                  layer((2, 2), 3, 5, relu, rng=flux.Generator(1)).weight.numpy())  # in => out
    with pytest.raises(TypeError, match="kernel is a tuple"):
        layer(2, 3, 5)
    with pytest.raises(ValueError, match="4 channels.*3"):
        m(randn(4, 4, 6, 7))
    trains(m, randn(4, 3, 6, 7))


def test_conv_to_a_1_channel_input_using_a_2x2_window_giving_us_a_16_channel_output_activated_with_relu():
    size, in_, out = (2, 2), 1, 16
    m = Conv(size, (in_, out), relu)
    x = randn(2, 1, 5, 6)
    y = m(x)
    assert y.shape == (2, 16, 4, 5)
    assert y.numpy().min() == 0
    w, b = m.weight.numpy(), m.bias.numpy()
    wanted = [[[[b[o] + (w[o, 0] * x[n, 0, i : i + 2, j : j + 2]).sum() for j in range(5)] for i in range(4)]
               for o in range(16)] for n in range(2)]
    np.testing.assert_allclose(y.numpy(), np.maximum(wanted, 0), rtol=1e-5, atol=1e-6)
    trains(m, x)


@pytest.mark.parametrize("make", [Conv, DepthwiseConv, ConvTranspose])
def test_data_should_be_stored_in_WHCN_order_a_100x100_RGB_image_is_100x100x3x1_and_a_batch_of_50_is_100x100x3x50(make):
    layer = make((2, 2), (3, 4), relu)
    image, batch = np.asfortranarray(randn(100, 101, 3, 1)), np.asfortranarray(randn(10, 11, 3, 50))
    m = WHCN(layer)
    y = m(image)
    channels = layer(image.T).shape[1]
    assert y.shape[2:] == (channels, 1)
    np.testing.assert_array_equal(y.numpy(), layer(image.T).numpy().T)
    assert np.shares_memory(image, image.T)  # the same bytes, read the other way round
    assert m(batch).shape[2:] == (channels, 50)
    assert m(image[..., 0]).shape == y.shape[:3]  # DepthwiseConv and ConvTranspose call 100x100x3 an image
    g = flux.gradient(lambda a: (m(a) ** 2).sum(), batch)
    np.testing.assert_allclose(g, flux.gradient(lambda a: (layer(a) ** 2).sum(), batch.T).T, rtol=1e-5, atol=1e-6)


def test_conv_takes_the_keyword_arguments_pad_stride_and_dilation():
    x = randn(2, 3, 9, 8)
    for keywords, size in (({"pad": 1}, (9, 8)), ({"stride": 2}, (4, 3)), ({"dilation": 2}, (5, 4)),
                           ({"pad": (1, 0), "stride": (1, 2), "dilation": (2, 1)}, (7, 3)), ({"pad": ((1, 0), (0, 2))}, (8, 8)),
                           ):
        m = Conv((3, 3), 3, 4, tanh, **keywords)
        assert m(x).shape == (2, 4, *size), keywords
        trains(m, x)


@pytest.mark.parametrize(("pool", "reduce"), [(MaxPool, np.max), (MeanPool, np.mean)])
def test_max_or_mean_pooling_layer_k_stands_for_the_size_of_the_window_for_each_dimension_of_the_input(pool, reduce):
    x = randn(2, 3, 6, 8)
    y = pool((2, 4))(x)
    assert y.shape == (2, 3, 3, 2)
    for i in range(3):
        for j in range(2):
            np.testing.assert_allclose(y.numpy()[..., i, j], reduce(x[..., 2 * i : 2 * i + 2, 4 * j : 4 * j + 4], axis=(2, 3)),
                                       rtol=1e-5, atol=1e-7)
    flux.check(pool((2, 3)), randn(1, 2, 5, 6))


@pytest.mark.parametrize("pool", [MaxPool, MeanPool])
def test_pooling_takes_the_keyword_arguments_pad_and_stride(pool):
    x = randn(2, 3, 6, 8)
    assert pool((3, 3), pad=1, stride=2)(x).shape == (2, 3, 3, 4)
    assert pool((3, 3), stride=(1, 3))(x).shape == (2, 3, 4, 2)
    flux.check(pool((3, 3), pad=1, stride=2), randn(1, 2, 5, 6))


def test_depthwise_convolutional_layer_in_and_mul_specify_the_input_channels_and_the_channel_multiplier():
    m = DepthwiseConv((2, 2), (3, 5), relu)
    x = randn(2, 3, 4, 5)
    y = m(x)
    assert y.shape == (2, 15, 3, 4)
    w, b = m.weight.numpy().reshape(3, 5, 2, 2), m.bias.numpy().reshape(3, 5)
    for c in range(3):
        for k in range(5):  # input-channel-major: channel c's five come together
            one = Conv(w[c, k][None, None], b[c, k : k + 1], relu)(x[:, c : c + 1])
            np.testing.assert_allclose(y.numpy()[:, 5 * c + k], one.numpy()[:, 0], rtol=1e-5, atol=1e-6)
    trains(m, x)


def test_in_case_the_mul_is_not_specified_it_is_taken_as_1():
    m = DepthwiseConv((2, 2), 3)
    assert m(randn(2, 3, 4, 5)).shape == (2, 3, 3, 4)
    assert m.weight.shape == (3, 1, 2, 2)
    trains(m, randn(2, 3, 4, 5))


def test_depthwise_conv_takes_the_keyword_arguments_pad_and_stride():
    m = DepthwiseConv((3, 3), (2, 2), swish, pad=1, stride=2)
    assert m(randn(2, 2, 5, 6)).shape == (2, 4, 3, 3)
    trains(m, randn(2, 2, 5, 6))


def test_standard_convolutional_transpose_layer():
    m = ConvTranspose((2, 2), 3, 5)
    x, y = randn(1, 3, 4, 4), randn(1, 5, 5, 5)
    back = Conv(m.weight.numpy(), False)  # its weight (in, out, h, w) is that of the Conv from 5 to 3 channels
    m.bias.data[...] = 0
    np.testing.assert_allclose((m(x).numpy() * y).sum(), (x * back(y).numpy()).sum(), rtol=1e-4)


def test_conv_transpose_takes_the_keyword_arguments_pad_stride_and_dilation():
    x = randn(2, 3, 4, 5)
    for keywords, size in (({"pad": 1}, (4, 5)), ({"stride": 2}, (9, 11)), ({"dilation": 2}, (8, 9)),
                           ({"pad": 1, "stride": (2, 1), "dilation": (1, 2)}, (7, 7))):
        m = ConvTranspose((3, 3), 3, 2, tanh, **keywords)
        assert m(x).shape == (2, 2, *size), keywords
        trains(m, x)


# -- recurrent layers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [RNN, LSTM, GRU])
def test_recurrent_layers_together_with_the_core_layers_process_sequence_data(layer):
    m = Chain(Dense(3, 4, relu), layer(4, 5), Dense(5, 2))
    assert m(randn(6, 2, 3)).shape == (6, 2, 2)
    trains(m, randn(6, 2, 3))


def test_rnn_essentially_acts_as_a_dense_layer_but_with_the_output_fed_back_into_the_input_each_time_step():
    m = RNN(3, 4)
    assert m.activation is tanh  # σ = tanh
    xs = randn(5, 3)
    weights = m.state_dict()
    dense = Dense(np.concatenate([weights["weight_ih_l0"], weights["weight_hh_l0"]], axis=1), weights["bias_ih_l0"], tanh)
    y = np.zeros(4, np.float32)
    for x in xs:
        y = dense(np.concatenate([x, y])).numpy()
        np.testing.assert_allclose(m(x).numpy(), y, rtol=1e-5, atol=1e-6)
    trains(RNN(3, 4, relu), randn(5, 2, 3))


@pytest.mark.parametrize("layer", [LSTM, GRU])
def test_behaves_like_an_rnn_but_generally_exhibits_a_longer_memory_span_over_sequences(layer):
    """What is left to learn about the first of fifteen inputs after 150 steps of training: the mean of five runs."""
    def remember(make, seed):
        rng = np.random.default_rng(seed)
        m = Chain(make(4, 16, rng=flux.Generator(seed)), lambda y: y[-1], Dense(16, 3, rng=flux.Generator(seed + 100)))
        opt = flux.setup(flux.Adam(1e-2), m)
        for _ in range(150):
            x, y = np.zeros((15, 32, 4), np.float32), rng.integers(0, 3, 32)
            x[..., 3] = rng.standard_normal((15, 32)) * 0.5
            x[0, :, :3] = 2 * np.eye(3)[y]
            loss, grads = flux.withgradient(lambda m, x=x, y=y: flux.losses.logitcrossentropy(m(x), y), m)
            flux.update(opt, m, grads)
        return float(loss)

    assert np.mean([remember(layer, s) for s in range(5)]) < 0.3 * np.mean([remember(RNN, s) for s in range(5)])


def test_recur_takes_a_recurrent_cell_and_makes_it_stateful_managing_the_hidden_state_in_the_background():
    rnn = Recur(flux.RNNCell(3, 4))
    cell = rnn.cell
    x1, x2 = randn(2, 3), randn(2, 3)
    h, y1 = cell(np.zeros((2, 4), np.float32), x1)
    _, y2 = cell(h, x2)
    np.testing.assert_allclose(rnn(x1).numpy(), y1.numpy(), rtol=1e-6)
    np.testing.assert_allclose(rnn(x2).numpy(), y2.numpy(), rtol=1e-6)
    np.testing.assert_allclose(rnn.state.numpy(), y2.numpy(), rtol=1e-6)


def test_cell_should_be_a_model_of_the_form_h_y_is_cell_of_h_and_x():
    rnn = Recur(lambda h, x, z: (h + x * z, h - x), 1)
    assert (rnn(2, 10), rnn(3, 1)) == (-1, 18)
    assert rnn.state == 24
    with pytest.raises(TypeError, match="must return two values"):
        Recur(lambda h, x: h + x, 0)(1)


def test_a_recurrent_network_that_keeps_a_running_total_of_its_inputs():
    def accum(h, x):
        return h + x, x

    rnn = Recur(accum, 0)
    assert rnn(2) == 2
    assert rnn(3) == 3
    assert rnn.state == 5
    assert rnn.map(range(1, 11)) == list(range(1, 11))  # apply to a sequence
    assert rnn.state == 60
    assert [rnn(x) for x in range(3)] == [0, 1, 2]
    assert flux.reset(rnn).state == 0
    g = flux.gradient(lambda x: (flux.reset(rnn), rnn(x), rnn(x * x), rnn.state)[-1].sum(), np.array([3.0, 4.0]))
    np.testing.assert_allclose(g, [7, 9])


# -- other general purpose layers --------------------------------------------------------------------------------------


def test_maxout_has_internal_layers_which_all_have_the_same_input_and_returns_the_elementwise_maximum_of_their_outputs():
    m = Maxout(lambda: Dense(6, 3, tanh), 4)
    x = randn(5, 6)
    wanted = np.max([layer(x).numpy() for layer in m.layers], axis=0)
    np.testing.assert_array_equal(m(x).numpy(), wanted)
    assert len({id(layer.weight) for layer in m.layers}) == 4  # separate layers
    same = Maxout(tuple(m.layers))
    np.testing.assert_array_equal(same(x).numpy(), wanted)
    trains(m, randn(64, 6))


def test_maxout_over_linear_dense_layers_satisfies_the_universal_approximation_theorem():
    x = np.linspace(-2, 2, 200, dtype=np.float32)[:, None]
    y = np.sin(2 * x)  # neither convex nor concave: the difference of two maxouts
    m = flux.Parallel(lambda a, b: a - b, Maxout(lambda: Dense(1, 1), 8), Maxout(lambda: Dense(1, 1), 8))
    for layer in m.modules():
        if isinstance(layer, Dense):
            layer.bias.data[...] = np.random.default_rng(int(1e6 * abs(layer.weight.data[0, 0]))).normal()
    opt = flux.setup(flux.Adam(0.03), m)
    for _ in range(400):
        flux.update(opt, m, flux.gradient(lambda m: flux.losses.mse(m(x), y), m))
    assert np.abs(m(x).numpy() - y).max() < 0.25
    assert flux.losses.mse(m(x), y).item() < 0.005


# -- activations -------------------------------------------------------------------------------------------------------


def test_non_linearities_that_go_between_layers_are_available_by_default():
    for f in (sigmoid, relu, leakyrelu, elu, swish, flux.σ, tanh, flux.gelu, flux.selu, flux.softplus, flux.mish):
        trains(Chain(Dense(3, 8, f), f, Dense(8, 2)), randn(6, 3))


@pytest.mark.parametrize("f", [sigmoid, relu, leakyrelu, elu, swish], ids=lambda f: f.name)
def test_activations_take_scalars_and_are_applied_to_arrays_by_broadcasting(f):
    x = randn(2, 3, 4)
    y = f(x).numpy()
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    for i in np.ndindex(*x.shape):
        np.testing.assert_allclose(f(float(x[i])).item(), y[i], rtol=1e-5)


X = np.array([-3.0, -1.0, -1e-3, 0.0, 1e-3, 0.5, 4.0])


@pytest.mark.parametrize(("f", "formula", "at_zero"), [
    (sigmoid, lambda x: 1 / (1 + np.exp(-x)), 0.25),
    (relu, lambda x: np.maximum(0, x), 0.0),
    (leakyrelu, lambda x: np.maximum(0.01 * x, x), 0.01),
    (elu, lambda x: np.where(x > 0, x, 1 * (np.exp(x) - 1)), 1.0),
    (swish, lambda x: x * (1 / (1 + np.exp(-x))), 0.5),
], ids=["σ(x) = 1 ÷ (1 + exp(-x))", "relu(x) = max(0, x)", "leakyrelu(x) = max(0.01x, x)", "elu(x) = x > 0 ? x : α(exp(x) - 1)",
        "swish(x) = x σ(x)"])
def test_the_formula_of_the_activation_and_its_derivative(f, formula, at_zero):
    np.testing.assert_allclose(f(X).numpy(), formula(X), rtol=1e-12, atol=1e-15)
    away = X[X != 0]
    np.testing.assert_allclose(flux.gradient(lambda x: f(x).sum(), away), (formula(away + 1e-6) - formula(away - 1e-6)) / 2e-6,
                               rtol=1e-6, atol=1e-8)
    assert flux.gradient(lambda x: f(x).sum(), np.zeros(1))[0] == at_zero
    assert np.isnan(f(np.array([np.nan])).numpy()[0])
    limits = f(np.array([-np.inf, np.inf])).numpy()
    wanted = {"sigmoid": [0, 1], "relu": [0, np.inf], "leakyrelu": [-np.inf, np.inf], "elu": [-1, np.inf], "swish": [0, np.inf]}
    np.testing.assert_array_equal(limits, wanted[f.name])


def test_sigma_is_the_classic_sigmoid_activation_function():
    assert flux.σ is sigmoid
    assert sigmoid(0.0).item() == 0.5
    assert sigmoid(np.full(1, -200, np.float32)).item() == 0  # no overflow on the way


def test_leaky_rectified_linear_unit_you_can_also_specify_the_coefficient_explicitly():
    np.testing.assert_allclose(leakyrelu(X, 0.2).numpy(), np.maximum(0.2 * X, X))
    np.testing.assert_array_equal(leakyrelu(X, 0.01).numpy(), leakyrelu(X).numpy())
    np.testing.assert_allclose(flux.gradient(lambda x: leakyrelu(x, 0.2).sum(), X), np.where(X > 0, 1, 0.2))


def test_exponential_linear_unit_you_can_also_specify_the_coefficient_explicitly():
    np.testing.assert_allclose(elu(X, 0.5).numpy(), np.where(X > 0, X, 0.5 * np.expm1(X)))
    np.testing.assert_array_equal(elu(X, 1).numpy(), elu(X).numpy())
    away = X[X != 0]
    np.testing.assert_allclose(flux.gradient(lambda x: elu(x, 0.5).sum(), away), np.where(away > 0, 1, 0.5 * np.exp(away)))


# -- normalisation and regularisation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [BatchNorm(6), Dropout(0.5), AlphaDropout(0.5), LayerNorm(6), GroupNorm(6, 3)],
                         ids=lambda m: type(m).__name__)
def test_these_layers_do_not_affect_the_structure_of_the_network(layer):
    x = randn(4, 6, 5, 6) if isinstance(layer, GroupNorm) else randn(4, 6)
    for mode in (True, False):
        assert testmode(layer, mode)(x).shape == x.shape


def test_put_layers_like_dropout_and_batchnorm_into_testing_mode_or_back_to_training_mode_with_false():
    m = Chain(Dense(5, 6), BatchNorm(6, relu), Dropout(0.5))
    x = randn(8, 5)
    assert testmode(m) is m
    with flux.record():  # even where recording would have switched them on
        np.testing.assert_array_equal(m(x).numpy(), m(x).numpy())
    assert (m[1].running_mean.numpy() == 0).all()
    testmode(m, False)
    assert (m(x).numpy() != m(x).numpy()).any()
    assert (m[1].running_mean.numpy() != 0).any()
    testmode(m, "auto")
    np.testing.assert_array_equal(m(x).numpy(), m(x).numpy())
    with flux.record():
        assert (m(x).numpy() != m(x).numpy()).any()


def test_batch_normalization_layer_the_channels_input_should_be_the_size_of_the_channel_dimension_in_your_data():
    m = BatchNorm(3, relu, init_beta=flux.zeros, init_gamma=flux.ones, eps=1e-8, momentum=0.1)
    assert BatchNorm(3).eps == 1e-5  # the code that the page documents uses 1e-5, not the 1e-8 that it prints
    assert BatchNorm(3).activation is identity
    with pytest.raises(ValueError, match=r"BatchNorm.*4 channels.*3"):
        m(randn(2, 4, 5, 5))
    trains(m, randn(8, 3, 5, 5))


@pytest.mark.parametrize("shape", [(16, 3), (4, 3, 7), (4, 3, 5, 6), (2, 3, 4, 5, 6)])
def test_given_an_array_with_N_dimensions_call_the_N_minus_1th_the_channel_dimension(shape):
    m = testmode(BatchNorm(3), False)
    x = (randn(*shape) * 3 + 2).astype(np.float32)
    y = m(x).numpy()
    axes = tuple(i for i in range(len(shape)) if i != 1)  # with the batch first, the second axis
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axes), 1, atol=1e-3)
    np.testing.assert_allclose(WHCN(m)(x.T).numpy(), y.T, rtol=1e-5, atol=1e-6)


def test_batchnorm_computes_the_mean_and_variance_for_each_W_H_1_N_slice_and_shifts_them_to_the_learnable_bias_and_scale():
    m = testmode(BatchNorm(3, tanh), False)
    m.weight.data[...], m.bias.data[...] = [1, 2, 3], [0.1, 0.2, 0.3]
    x = randn(8, 3, 5, 6) * 2 + 1
    mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    shape = (1, 3, 1, 1)
    wanted = np.tanh((x - mean) / np.sqrt(var + 1e-5) * m.weight.numpy().reshape(shape) + m.bias.numpy().reshape(shape))
    np.testing.assert_allclose(m(x).numpy(), wanted, rtol=1e-4, atol=1e-5)
    n = x.size / 3
    np.testing.assert_allclose(m.running_mean.numpy(), 0.1 * mean.ravel(), rtol=1e-5)
    np.testing.assert_allclose(m.running_var.numpy(), 0.9 + 0.1 * var.ravel() * n / (n - 1), rtol=1e-5)
    flux.check(BatchNorm(2, tanh), randn(4, 2, 3))


def test_the_classifier_with_batchnorm():
    m = Chain(Dense(28**2, 64), BatchNorm(64, relu), Dense(64, 10), BatchNorm(10), softmax)
    x, y = flux.data.fashion_mnist().train
    x, y = x[:128].reshape(128, -1), y[:128]
    loss = lambda m: flux.losses.crossentropy(m(x), y)  # noqa: E731
    opt = flux.setup(flux.Adam(1e-2), m)
    first, _ = flux.withgradient(loss, m)
    for _ in range(20):
        flux.update(opt, m, flux.gradient(loss, m))
    assert loss(m).item() < 0.7 * float(first)
    np.testing.assert_allclose(m(x).numpy().sum(-1), 1, rtol=1e-5)
    trains(m, x)


def test_a_dropout_layer_for_each_input_either_sets_it_to_0_with_probability_p_or_scales_it_by_1_over_1_minus_p():
    m = testmode(Dropout(0.3), False)
    x = np.ones(100_000, np.float32)
    y = m(x).numpy()
    assert set(np.unique(y).tolist()) == {0.0, float(np.float32(1 / 0.7))}
    assert abs((y == 0).mean() - 0.3) < 0.01
    with flux.record():
        t = flux.tensor(x, requires_grad=True)
        out = m(t)
        out.sum().backward()
    np.testing.assert_array_equal(t.grad, out.numpy())  # the same mask: x is 1


def test_dropout_reduces_overfitting_during_training():
    """Far more weights than examples of a noisy line: without dropout a net fits the noise better, and the line worse."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (24, 8)).astype(np.float32)
    y = x[:, :1] + rng.normal(0, 0.5, (24, 1)).astype(np.float32)
    unseen = rng.uniform(-1, 1, (2000, 8)).astype(np.float32)

    def errors(p):
        flux.seed(1)
        m = Chain(Dense(8, 64, relu), Dropout(p), Dense(64, 64, relu), Dropout(p), Dense(64, 1))
        opt = flux.setup(flux.Adam(5e-3), m)
        for _ in range(300):
            flux.update(opt, m, flux.gradient(lambda m: flux.losses.mse(m(x), y), m))
        return flux.losses.mse(m(x), y).item(), flux.losses.mse(m(unseen), unseen[:, :1]).item()

    (fit, wrong), (fit_dropout, wrong_dropout) = errors(0.0), errors(0.5)
    assert fit < fit_dropout
    assert wrong_dropout < wrong


def test_dropout_does_nothing_to_the_input_once_in_testmode():
    x = flux.tensor(randn(4, 5))
    m = testmode(Dropout(0.5))
    assert m(x) is x
    with flux.record():
        assert m(x) is x


def test_alpha_dropout_ensures_that_mean_and_variance_of_activations_remain_the_same_as_before():
    x = randn(200_000)
    for p in (0.05, 0.2, 0.5):
        y = testmode(AlphaDropout(p), False)(x).numpy()
        assert abs(y.mean() - x.mean()) < 0.015
        assert abs(y.std() - x.std()) < 0.015
    np.testing.assert_array_equal(testmode(AlphaDropout(0.5))(x).numpy(), x)


def test_alpha_dropout_is_used_in_self_normalizing_neural_networks():
    layers = []
    for _ in range(6):
        layers += [Dense(256, 256, flux.selu, init=flux.lecun_normal), AlphaDropout(0.1)]
    m = flux.trainmode(Chain(*layers))
    y = m(randn(256, 256)).numpy()
    assert abs(y.mean()) < 0.1
    assert abs(y.std() - 1) < 0.15
    trains(m, randn(8, 256))


def test_a_normalisation_layer_designed_to_be_used_with_recurrent_hidden_states_of_size_h():
    m = Chain(LSTM(3, 8), LayerNorm(8), Dense(8, 2))
    assert m(randn(5, 4, 3)).shape == (5, 4, 2)
    trains(m, randn(5, 4, 3))


def test_layernorm_normalises_the_mean_and_stddev_of_each_input_before_applying_a_per_neuron_gain_and_bias():
    m = LayerNorm(6)
    m.weight.data[...], m.bias.data[...] = np.arange(1, 7), np.linspace(-1, 1, 6)
    x = randn(5, 6) * 4 + 3
    wanted = (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-5) * np.arange(1, 7) + np.linspace(-1, 1, 6)
    np.testing.assert_allclose(m(x).numpy(), wanted, rtol=1e-4, atol=1e-5)
    flux.check(LayerNorm(4, tanh), randn(3, 4))


def test_group_normalization_can_outperform_batch_normalization_and_instance_normalization():
    """With one image in a batch of one pixel per channel, the others have nothing to average over; groups of channels do."""
    x = randn(1, 6, 1, 1)
    for norm in (BatchNorm(6), flux.InstanceNorm(6)):
        with pytest.raises(ValueError, match="one value per channel"):
            flux.trainmode(norm)(x)
    assert np.abs(GroupNorm(6, 2)(x).numpy()).max() > 0.5


def test_chs_is_the_number_of_channels_the_N_minus_1th_index_and_G_the_groups_along_which_the_statistics_are_computed():
    m = GroupNorm(6, 3, relu, init_beta=flux.zeros, init_gamma=flux.ones, eps=1e-5, momentum=0.1)
    x = randn(2, 6, 4, 5) * 2 + 1
    groups = x.reshape(2, 3, 2, 4, 5)  # two consecutive channels each
    wanted = (groups - groups.mean((2, 3, 4), keepdims=True)) / np.sqrt(groups.var((2, 3, 4), keepdims=True) + 1e-5)
    np.testing.assert_allclose(m(x).numpy(), np.maximum(wanted, 0).reshape(x.shape), rtol=1e-4, atol=1e-5)
    assert m.weight.shape == (6,)
    with pytest.raises(ValueError, match="5 channels.*6"):
        m(randn(2, 5, 4, 5))
    flux.check(GroupNorm(4, 2, tanh), randn(2, 4, 3))


def test_the_number_of_channels_must_be_an_integer_multiple_of_the_number_of_groups():
    with pytest.raises(ValueError, match="multiple of the number of groups"):
        GroupNorm(32, 5)


def test_conv_with_leakyrelu_then_groupnorm_32_16_thus_2_channels_per_group():
    m = Chain(Conv((3, 3), (1, 32), leakyrelu, pad=1), GroupNorm(32, 16))
    x = randn(2, 1, 6, 6)
    y = m(x).numpy().reshape(2, 16, 2 * 36)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(-1), 1, atol=0.02)
    trains(m, x)


def test_groupnorm_with_track_stats_keeps_running_statistics_and_uses_them_in_testmode():
    m = GroupNorm(4, 2, track_stats=True)
    x = randn(8, 4, 3, 3) * 3 + 2
    flux.trainmode(m)
    for _ in range(200):
        m(x)
    testmode(m)
    groups = x.reshape(8, 2, -1)
    np.testing.assert_allclose(m.running_mean.numpy(), groups.mean((0, 2)), rtol=1e-3)
    y = m(x[:1]).numpy().reshape(1, 2, -1)
    wanted = (groups[:1] - groups.mean((0, 2))[:, None]) / np.sqrt(m.running_var.numpy() + 1e-5)[:, None]
    np.testing.assert_allclose(y, wanted, rtol=1e-2, atol=1e-3)
