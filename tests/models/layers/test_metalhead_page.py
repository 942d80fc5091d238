"""The guide to Metalhead's Layers, sentence by sentence: each test's name quotes the key words of what it holds us to.

Arrays of the guide have Flux's order of axes, (H, W, C, N), here they are (N, C, H, W). Where upstream's code contradicts its
own guide, the guide holds: the tests say so.
"""

import inspect
from functools import partial

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import (
    AdaptiveMaxPool,
    AdaptiveMeanPool,
    BatchNorm,
    Chain,
    Conv,
    Dense,
    Dropout,
    Generator,
    GroupNorm,
    LayerNorm,
    Layers,
    MaxPool,
    MeanPool,
    Parallel,
    Scale,
    SkipConnection,
    hardswish,
    identity,
    maximum,
    relu,
    sigmoid,
    swish,
    tanh,
    testmode,
    trainmode,
)
from minitorch_flux.models import basicblock, resnet
from minitorch_flux.models.layers import (
    AdaptiveMeanMaxPool,
    ChannelLayerNorm,
    DropBlock,
    LayerNormV2,
    LayerScale,
    MHAttention,
    StochasticDepth,
    basic_conv_bn,
    conv_norm,
    create_classifier,
    dropblock,
    linear_scheduler,
    mlp_block,
    prenorm,
    squeeze_excite,
)

from .tools import randn, randomise, trains


@pytest.fixture(autouse=True)
def seed():
    flux.seed(0)


def prints(layers):
    return [repr(layer).partition("  #")[0] for layer in layers]


def defaults(function):
    return {n: p.default for n, p in inspect.signature(function).parameters.items() if p.default is not p.empty}


# -- an introduction to the Layers module ------------------------------------------------------------------------------


def test_exports_a_layers_module_that_contains_a_number_of_useful_layers_and_utilities():
    from minitorch_flux import Layers, models
    from minitorch_flux.models import layers

    assert Layers is layers is models.Layers is flux.Layers
    for name in Layers.__all__:
        assert (getattr(Layers, name).__doc__ or "").strip(), name


def test_make_sure_that_the_functions_and_types_are_available_in_your_current_scope():
    scope = {}
    exec("from minitorch_flux.models.layers import *", scope)  # using Metalhead.Layers
    assert set(Layers.__all__) <= set(scope)
    assert scope["conv_norm"] is Layers.conv_norm


# -- convolution + normalisation ---------------------------------------------------------------------------------------


def test_a_convolutional_layer_followed_by_a_normalisation_layer_combined_with_conv_norm():
    m = Chain(*conv_norm((3, 3), 32, 64))
    x = randn(2, 32, 7, 6)
    trainmode(m)
    z = m[0](x).numpy()
    normal = (z - z.mean((0, 2, 3), keepdims=True)) / np.sqrt(z.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(m(x).numpy(), np.maximum(normal, 0), rtol=1e-3, atol=1e-5)
    testmode(m)
    np.testing.assert_allclose(m(x).numpy(), m[1](m[0](x)).numpy())
    trains(m, x)


def test_the_function_signature_of_conv_norm():
    a = conv_norm((3, 3), 32, 64)
    b = conv_norm((3, 3), 32, 64, relu, norm_layer=BatchNorm, revnorm=False, preact=False, stride=1, pad=0, dilation=1,
                  groups=1)
    assert prints(a) == prints(b)


def test_kernel_size_is_a_tuple_inplanes_and_outplanes_are_numbers_of_feature_maps():
    conv, norm = conv_norm((3, 5), 4, 6)
    assert conv.weight.shape == (6, 4, 3, 5)
    assert norm.channels == 6
    with pytest.raises(TypeError, match="the kernel is a tuple"):
        conv_norm(3, 4, 6)


def test_activation_is_the_activation_function_for_the_final_layer():
    assert prints(conv_norm((3, 3), 4, 6, swish)) == ["Conv((3, 3), 4, 6, bias=False)", "BatchNorm(6, swish)"]
    assert prints(conv_norm((3, 3), 4, 6, swish, revnorm=True)) == ["BatchNorm(4)", "Conv((3, 3), 4, 6, swish, bias=False)"]


def test_using_identity_as_the_normalisation_layer_will_result_in_no_normalisation_being_applied():
    m = conv_norm((3, 3), 4, 6, norm_layer=identity)
    assert prints(m) == ["Conv((3, 3), 4, 6, relu)"]
    trains(Chain(*m), randn(2, 4, 5, 5))


@pytest.mark.parametrize("keywords", [{"preact": True}, {"revnorm": True}, {"preact": True, "revnorm": True}])
def test_identity_is_only_compatible_with_preact_and_revnorm_both_set_to_false(keywords):
    with pytest.raises(ValueError, match="has no meaning with norm_layer=identity"):
        conv_norm((3, 3), 4, 6, norm_layer=identity, **keywords)


def test_revnorm_places_the_normalisation_layer_before_the_convolution():
    norm, conv = conv_norm((3, 3), 4, 6, tanh, revnorm=True)
    assert norm.channels == 4
    m = trainmode(Chain(norm, conv))
    x = randn(3, 4, 5, 5)
    normal = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(m(x).numpy(), conv(normal).numpy(), rtol=1e-4, atol=1e-5)
    trains(m, x)


def test_preact_places_the_activation_function_before_the_normalisation_layer_only_compatible_with_revnorm_false():
    conv, norm = conv_norm((3, 3), 4, 6, tanh, preact=True)
    assert (conv.activation, norm.activation) == (tanh, identity)
    m = trainmode(Chain(conv, norm))
    y = m(randn(3, 4, 5, 5)).numpy()
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-5)  # what comes last is normal
    trains(m, randn(3, 4, 5, 5))
    with pytest.raises(ValueError, match="exclude each other"):
        conv_norm((3, 3), 4, 6, preact=True, revnorm=True)


def test_bias_is_set_to_false_by_default_if_norm_layer_is_not_identity_and_true_otherwise():
    assert conv_norm((3, 3), 4, 6)[0].bias is None
    assert conv_norm((3, 3), 4, 6, norm_layer=GroupNorm)[0].bias is None
    assert conv_norm((3, 3), 4, 6, norm_layer=identity)[0].bias is not None
    assert conv_norm((3, 3), 4, 6, bias=True)[0].bias is not None
    assert conv_norm((3, 3), 4, 6, norm_layer=identity, bias=False)[0].bias is None  # upstream ignores it here


@pytest.mark.parametrize(("keywords", "size"), [({"stride": 2}, (4, 3)), ({"pad": 1}, (9, 8)), ({"dilation": 2}, (5, 4)),
                                                ({"groups": 2}, (7, 6)),
                                                ({"stride": 2, "pad": 1, "dilation": 2, "groups": 4}, (4, 3))])
def test_stride_padding_dilation_and_groups_of_the_convolution_kernel(keywords, size):
    m = Chain(*conv_norm((3, 3), 4, 8, **keywords))
    assert m(randn(2, 4, 9, 8)).shape == (2, 8, *size)
    assert m[0].weight.shape == (8, 4 // keywords.get("groups", 1), 3, 3)
    trains(m, randn(2, 4, 9, 8))


def test_weight_and_init_initialization_for_the_convolution_kernel():
    weight = randn(6, 4, 3, 3)
    np.testing.assert_array_equal(conv_norm((3, 3), 4, 6, weight=weight)[0].weight.numpy(), weight)
    np.testing.assert_array_equal(conv_norm((3, 3), 4, 6, init=flux.ones)[0].weight.numpy(), 1)


def test_this_returns_a_vector_with_the_desired_layers_to_use_it_the_user_should_splat_it_into_a_chain():
    layers = conv_norm((3, 3), 32, 64)
    assert isinstance(layers, list)
    m = Chain(Dense(3, 32), *conv_norm((3, 3), 32, 64), Dense(64, 10))
    assert prints(m) == ["Dense(3, 32)", "Conv((3, 3), 32, 64, bias=False)", "BatchNorm(64, relu)", "Dense(64, 10)"]
    with pytest.raises(TypeError, match=r"forget the \* before a list"):
        Chain(Dense(3, 32), layers)
    with pytest.raises(ValueError, match=r"Chain\[1\] Conv\(\(3, 3\), 32, 64, bias=False\): the input has"):
        m(randn(2, 3, 8, 3))  # Dense acts on the last axis, so this example runs on no input
    with pytest.raises(ValueError, match=r"Chain\[3\] Dense\(64, 10\): the input has 30 features, expected 64"):
        m(randn(2, 32, 8, 3))


def test_the_default_activation_is_relu_and_the_default_normalisation_layer_is_batch_norm():
    conv, norm = conv_norm((3, 3), 32, 64)
    assert isinstance(norm, BatchNorm)
    assert (conv.activation, norm.activation) == (identity, relu)


def test_to_use_a_different_activation_function_pass_it_in_as_a_positional_argument_sigmoid():
    m = Chain(*conv_norm((3, 3), 32, 64, sigmoid))
    assert m[1].activation is sigmoid
    y = m(randn(2, 32, 5, 5)).numpy()
    assert 0 < y.min() < y.max() < 1
    trains(m, randn(2, 32, 5, 5))


def test_use_a_group_norm_layer_instead_norm_layer_is_group_norm():
    """Upstream this example throws: GroupNorm needs its number of groups."""
    m = Chain(*conv_norm((3, 3), 32, 64, norm_layer=GroupNorm))
    assert prints(m)[1] == "GroupNorm(64, 32, relu)"
    trains(m, randn(2, 32, 5, 5))


def test_change_the_number_of_groups_with_an_anonymous_function_that_takes_in_the_number_of_planes():
    """Upstream this example throws: the function is called with two arguments."""
    norm_layer = lambda planes: GroupNorm(planes, 4)  # noqa: E731
    m = Chain(*conv_norm((3, 3), 32, 64, norm_layer=norm_layer))
    assert prints(m) == ["Conv((3, 3), 32, 64, bias=False)", "GroupNorm(64, 4)", "relu"]
    x = randn(2, 32, 5, 5)
    z = m[0](x).numpy().reshape(2, 4, -1)
    normal = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(m(x).numpy(), np.maximum(normal, 0).reshape(2, 64, 3, 3), rtol=1e-3, atol=1e-5)
    trains(m, x)


def test_using_anonymous_functions_allows_us_to_configure_the_layers_in_a_very_flexible_manner():
    for norm_layer in (lambda planes, act: BatchNorm(planes, act, momentum=0.3), partial(BatchNorm, momentum=0.3)):
        assert prints(conv_norm((3, 3), 4, 6, tanh, norm_layer=norm_layer))[1] == "BatchNorm(6, tanh, momentum=0.3)"


def test_tensorflow_uses_an_epsilon_value_of_1e_3_for_batch_norm_layers():
    m = Chain(*conv_norm((3, 3), 32, 64, norm_layer=lambda planes: BatchNorm(planes, eps=1e-3)))
    assert m[1].eps == 1e-3
    assert m(randn(2, 32, 5, 5)).dtype == np.float32  # 1e-3 needs no care: arrays keep their dtype
    trains(m, randn(2, 32, 5, 5))


def test_which_is_very_similar_to_the_code_used_internally_for_the_basic_conv_bn_layer():
    by_hand = Chain(*conv_norm((3, 3), 4, 6, norm_layer=lambda planes: BatchNorm(planes, eps=1e-3), rng=Generator(0)))
    basic = Chain(*basic_conv_bn((3, 3), 4, 6, rng=Generator(0)))
    x = randn(2, 4, 5, 5)
    np.testing.assert_array_equal(trainmode(by_hand)(x).numpy(), trainmode(basic)(x).numpy())


def test_returns_a_convolution_and_batch_normalisation_pair_with_activation_as_used_by_the_inception_family():
    assert prints(basic_conv_bn((3, 3), 4, 6, tanh)) == ["Conv((3, 3), 4, 6, bias=False)", "BatchNorm(6, tanh, eps=0.001)"]
    assert prints(basic_conv_bn((3, 3), 4, 6))[1] == "BatchNorm(6, relu, eps=0.001)"
    trains(Chain(*basic_conv_bn((3, 3), 4, 6, tanh)), randn(2, 4, 5, 5))


def test_batchnorm_set_to_true_to_include_batch_normalization_after_each_convolution():
    assert prints(basic_conv_bn((3, 3), 4, 6, tanh, batchnorm=False)) == ["Conv((3, 3), 4, 6, tanh)"]
    assert len(basic_conv_bn((3, 3), 4, 6, batchnorm=True)) == 2


def test_keyword_arguments_are_passed_to_conv_norm():
    assert prints(basic_conv_bn((3, 3), 4, 6, stride=2, pad=1, preact=True, bias=True)) == [
        "Conv((3, 3), 4, 6, relu, stride=2, pad=1)", "BatchNorm(6, eps=0.001)"]  # fmt: skip


# -- normalisation layers ----------------------------------------------------------------------------------------------


def test_layer_scale_creates_a_scale_layer_of_the_channel_dimension_with_initialisation_value_lambda():
    m = LayerScale(4, 1e-3)
    assert isinstance(m, Scale)
    np.testing.assert_array_equal(m.weight.numpy(), np.full(4, 1e-3, np.float32))
    assert m.bias is None
    x = randn(2, 3, 4)
    np.testing.assert_array_equal(m(x).numpy(), x * np.diag(np.diag(np.full(4, np.float32(1e-3)))))  # a diagonal matrix
    trains(m, x)  # learnable


def test_layer_norm_v2_is_the_same_as_layer_norm_but_eps_is_added_before_taking_the_square_root():
    x = randn(3, 5)
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    np.testing.assert_allclose(LayerNormV2(5, eps=0.1)(x).numpy(), (x - mean) / np.sqrt(var + 0.1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(LayerNorm(5, eps=0.1)(x).numpy(), (x - mean) / (np.sqrt(var) + 0.1), rtol=1e-4, atol=1e-5)
    assert defaults(LayerNormV2.__init__)["eps"] == 1e-5
    assert defaults(LayerNormV2.__init__)["affine"] is True


def test_layer_norm_v2_matches_pytorchs_layer_norm():
    torch = pytest.importorskip("torch")
    x, sizes = randn(2, 3, 4), (3, 4)
    m = randomise(LayerNormV2(sizes, tanh))
    w, b = (torch.from_numpy(a) for a in m.state_dict().values())
    wanted = torch.tanh(torch.nn.functional.layer_norm(torch.from_numpy(x), sizes, w, b))
    np.testing.assert_allclose(m(x).numpy(), wanted.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(LayerNormV2(sizes, tanh, affine=False)(x).numpy(),
                               torch.tanh(torch.nn.functional.layer_norm(torch.from_numpy(x), sizes)).numpy(), rtol=1e-4,
                               atol=1e-5)
    trains(m, x)


def test_channel_layer_norm_where_the_input_is_normalised_along_the_channel_dimension():
    m = ChannelLayerNorm(4)
    y = m(5 + 3 * randn(2, 4, 3, 5)).numpy()
    np.testing.assert_allclose(y.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=1), 1, rtol=1e-3)
    assert defaults(ChannelLayerNorm.__init__)["eps"] == 1e-6
    assert m.activation is identity


def test_the_input_is_expected_to_have_channel_dimension_with_size_sz():
    with pytest.raises(ValueError, match="the input has 5 channels on axis 1, expected 4"):
        ChannelLayerNorm(4)(randn(2, 5, 3, 3))


def test_it_also_applies_a_learnable_shift_and_rescaling_after_the_normalization():
    m = ChannelLayerNorm(4, tanh)
    assert {k: v.shape for k, v in m.state_dict().items()} == {"weight": (4,), "bias": (4,)}
    trains(m, randn(2, 4, 3, 5))
    x, plain = randn(2, 4, 3, 5), ChannelLayerNorm(4)
    randomise(m)
    w, b = (m.state_dict()[k][:, None, None] for k in ("weight", "bias"))
    np.testing.assert_allclose(m(x).numpy(), np.tanh(plain(x).numpy() * w + b), rtol=1e-4, atol=1e-5)


def test_this_is_specifically_for_inputs_with_4_dimensions():
    for shape in ((4,), (2, 4), (2, 4, 3), (1, 2, 4, 3, 3)):
        with pytest.raises(ValueError, match=f"the input has {len(shape)} axes, expected 4"):
            ChannelLayerNorm(4)(randn(*shape))


def test_prenorm_applies_a_normalisation_layer_before_a_given_block_and_simply_returns_a_chain():
    block = mlp_block(8, 16)
    m = prenorm(8, block)
    assert isinstance(m, Chain)
    assert list(m)[1] is block
    assert isinstance(m[0], LayerNorm)
    x = randn(2, 5, 8)
    np.testing.assert_array_equal(m(x).numpy(), block(m[0](x)).numpy())
    assert isinstance(prenorm(8, block, norm_layer=LayerNormV2)[0], LayerNormV2)
    trains(m, x)


def test_prenorm_is_useful_for_creating_vision_transformer_like_models():
    encoder = Chain(SkipConnection(prenorm(8, MHAttention(8, 2)), flux.add),
                    SkipConnection(prenorm(8, mlp_block(8, 16)), flux.add))
    vit = Chain(Layers.PatchEmbedding((8, 8), patch_size=(4, 4), embedplanes=8), Layers.ClassTokens(8),
                Layers.ViPosEmbedding(8, 5),
                encoder, lambda tokens: tokens[:, 0], Dense(8, 3))
    x = randn(2, 3, 8, 8)
    assert vit(x).shape == (2, 3)
    assert flux.outputsize(vit, x.shape) == (2, 3)
    trains(vit, x)


# -- dropout layers ----------------------------------------------------------------------------------------------------


def test_the_signature_of_drop_block():
    assert {"drop_block_prob": 0.1, "block_size": 7, "gamma_scale": 1.0,
            "rng": None}.items() <= defaults(DropBlock.__init__).items()
    m = DropBlock(0.2, 5, 0.5, Generator(0))
    assert (m.drop_block_prob, m.block_size, m.gamma_scale) == (0.2, 5, 0.5)


def test_while_training_it_zeroes_out_contiguous_regions_of_size_block_size_in_the_input():
    x = np.ones((200, 1, 12, 12), np.float32)
    m = DropBlock(0.02, 3, rng=Generator(1), edge="valid")
    with flux.record():  # while training
        dropped = m(x).numpy()[:, 0] == 0
    single = [d for d in dropped if d.sum() == 9]
    assert len(single) > 20
    for d in single:
        rows, columns = np.nonzero(d.any(axis=1))[0], np.nonzero(d.any(axis=0))[0]
        assert np.ptp(rows) == np.ptp(columns) == 2  # 3 x 3, and all of it


def test_during_inference_it_simply_returns_the_input_x():
    x = flux.tensor(randn(2, 3, 8, 8))
    assert DropBlock()(x) is x
    assert testmode(DropBlock(0.9))(x) is x
    a = randn(2, 3, 8, 8)
    np.testing.assert_array_equal(DropBlock()(a).numpy(), a)  # exactly; upstream multiplies by 1 + 1e-6


def test_it_can_be_used_with_all_blocks_having_the_same_survival_probability_or_with_a_linear_scaling_rule():
    x = randn(4, 2, 10, 10)
    same = Chain(*(layer for _ in range(3) for layer in (Conv((3, 3), 2, 2, pad=1), DropBlock(0.1, 3))))
    linear = Chain(*(layer for p in linear_scheduler(0.3, depth=3) for layer in (Conv((3, 3), 2, 2, pad=1), DropBlock(p, 3))))
    assert [layer.drop_block_prob for layer in linear if isinstance(layer, DropBlock)] == pytest.approx([0, 0.1, 0.2])
    for m in (same, linear):
        trains(m, x)
        np.testing.assert_array_equal(m(x).numpy(), Chain(*(layer for layer in m if isinstance(layer, Conv)))(x).numpy())


def test_at_test_time_the_drop_block_layer_is_equivalent_to_identity():
    m = testmode(Chain(DropBlock(0.5, 3), StochasticDepth(0.5), DropBlock(1.0, 3)))
    x = flux.tensor(randn(2, 3, 8, 8))
    with flux.record():
        assert m(x) is x


def test_probability_of_dropping_a_block_if_nothing_is_passed_it_returns_identity():
    assert DropBlock(None) is identity
    with pytest.raises(ValueError, match="drop_block_prob must be between 0 and 1"):
        DropBlock(-0.1)


def test_survival_probability_is_equivalent_to_1_minus_drop_block_prob():
    x = np.ones((500, 2, 14, 14), np.float32)
    kept = trainmode(DropBlock(0.2, 5, rng=Generator(0), edge="valid"))(x).numpy() != 0
    assert kept.mean() == pytest.approx(0.8, abs=0.03)


def test_gamma_scale_is_a_multiplicative_factor_for_gamma_refer_to_the_paper():
    """gamma = (1 - keep) / block^2 * feat^2 / (feat - block + 1)^2."""
    for feat, block in ((56, 7), (14, 7), (7, 7), (10, 3)):
        wanted = 0.1 / block**2 * feat**2 / (feat - block + 1) ** 2
        assert Layers.dropblock_gamma(0.1, block, 1.0, feat, feat) == pytest.approx(wanted)
        assert Layers.dropblock_gamma(0.1, block, 0.25, feat, feat) == pytest.approx(wanted / 4)
    x = np.ones((400, 4, 20, 20), np.float32)
    full, quarter = ((trainmode(DropBlock(0.02, 3, s, Generator(0)))(x).numpy() == 0).mean() for s in (1.0, 0.25))
    assert quarter == pytest.approx(full / 4, rel=0.15)


def test_rng_can_be_used_to_pass_in_a_custom_rng_instead_of_the_default():
    x = np.ones((4, 2, 8, 8), np.float32)
    for make in (lambda rng: DropBlock(0.5, 3, 1.0, rng), lambda rng: StochasticDepth(0.5, rng=rng)):
        for rng in (Generator, np.random.default_rng):
            a, b = (trainmode(make(rng(5)))(x).numpy() for _ in range(2))
            np.testing.assert_array_equal(a, b)


def test_custom_rngs_are_only_supported_on_the_cpu():
    """Ours are supported everywhere; NumPy's on the CPU only, and what is no generator nowhere."""
    with pytest.raises(TypeError,
                       match=r"rng= must be a flux.Generator or a numpy.random.Generator, got int; pass flux.Generator\(3\)"):
        dropblock(np.ones((1, 1, 8, 8)), 0.5, 3, 1.0, rng=3)


def test_stochastic_depth_is_a_dropout_layer_that_drops_values_with_probability_p():
    m = StochasticDepth(0.3, rng=Generator(0))
    assert isinstance(m, Dropout)
    with flux.record():
        y = m(np.ones((5000, 2))).numpy()
    assert (y[:, 0] == 0).mean() == pytest.approx(0.3, abs=0.03)
    assert y.max() == 1 / 0.7
    assert StochasticDepth(None) is identity


def test_drop_certain_blocks_in_a_residual_structure_and_allow_them_to_propagate_through_the_skip_connection():
    m = SkipConnection(Chain(Dense(4, 4, tanh), StochasticDepth(0.5, rng=Generator(1))), flux.add)
    x = randn(40, 4)
    y = trainmode(m)(x).numpy()
    dropped = (y == x).all(axis=1)
    assert 8 < dropped.sum() < 32
    np.testing.assert_allclose(y[~dropped], (x + 2 * m.layer[0](x).numpy())[~dropped], rtol=1e-5)
    trains(m, x)


def test_stochastic_depth_is_performed_only_at_training_time():
    x = flux.tensor(randn(6, 4))
    assert StochasticDepth(0.9)(x) is x
    assert testmode(StochasticDepth(0.9, "batch"))(x) is x


def test_batch_randomly_zeroes_the_entire_input_row_zeroes_randomly_selected_rows_from_the_batch():
    x = np.ones((50, 2, 3, 3))
    for _ in range(20):
        y = trainmode(StochasticDepth(0.5, "batch"))(x).numpy()
        assert y.min() == y.max()
    rows = trainmode(StochasticDepth(0.5, "row"))(x).numpy()
    assert set(np.unique(rows.reshape(50, -1).sum(axis=1))) == {0, 36}


def test_the_default_is_row():
    assert StochasticDepth(0.5).mode == "row"
    with pytest.raises(ValueError, match="mode must be 'row' .* or 'batch'"):
        StochasticDepth(0.5, "rows")


@pytest.mark.parametrize("rng", [[], [Generator(0)]])
def test_drop_block_also_has_a_functional_variant_rng_x_drop_block_prob_block_size_gamma_scale_active(rng):
    x = flux.tensor(np.ones((2, 3, 9, 9), np.float32))
    assert (dropblock(*rng, x, 0.5, 3, 1.0).numpy() == 0).any()  # active is true by default
    assert (dropblock(*rng, x, 0.5, 3, 1.0, True).numpy() == 0).any()
    assert dropblock(*rng, x, 0.5, 3, 1.0, False) is x  # otherwise, it simply returns the input x
    assert dropblock(*rng, x, None, 3, 1.0) is x  # if nothing is passed, identity
    flux.check(lambda x: dropblock(Generator(3), x, 0.3, 3, 1.0), randn(1, 2, 4, 4))


def test_for_each_input_dropblock_zeroes_out_contiguous_regions():
    y = dropblock(Generator(0), np.ones((30, 3, 10, 10)), 0.2, 3, 1.0).numpy()
    assert len({y[n, c].tobytes() for n in range(30) for c in range(3)}) > 80  # each sample and channel has blocks of its own


def test_the_linear_scheduler_returns_evenly_spaced_values_between_start_value_and_drop_prob_not_including_drop_prob():
    assert linear_scheduler(0.2, depth=4) == pytest.approx([0, 0.05, 0.1, 0.15])
    assert linear_scheduler(0.5, start_value=0.1, depth=5) == pytest.approx([0.1, 0.18, 0.26, 0.34, 0.42])
    assert linear_scheduler(depth=2) == [0, 0]  # drop_prob = 0.0


def test_if_drop_prob_is_nothing_it_returns_a_vector_of_length_depth_with_all_values_equal_to_nothing():
    assert linear_scheduler(None, depth=3) == [None, None, None]


def test_the_resnet_function_is_configured_to_allow_the_use_of_both_these_layers():
    m = resnet(basicblock, [1, 1], planes=8, inplanes=8, nclasses=3, dropblock_prob=0.2, stochastic_depth_prob=0.4)
    drops, depths = ([layer for layer in m.modules() if isinstance(layer, kind)] for kind in (DropBlock, StochasticDepth))
    assert [d.drop_block_prob for d in drops] == pytest.approx(linear_scheduler(0.2, depth=2))
    assert [d.p for d in depths] == pytest.approx(linear_scheduler(0.4, depth=2))
    x = randn(4, 3, 40, 40)
    assert not np.array_equal(trainmode(m)(x).numpy(), m(x).numpy())
    np.testing.assert_array_equal(testmode(m)(x).numpy(), m(x).numpy())


# -- pooling layers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connection", [maximum, flux.multiply, lambda a, b: 0.5 * (a + b)])
def test_adaptive_mean_max_pool_uses_both_and_is_equivalent_to_parallel_of_the_two(connection):
    m, x = AdaptiveMeanMaxPool(connection, (2, 3)), randn(2, 3, 7, 8)
    wanted = Parallel(connection, AdaptiveMeanPool((2, 3)), AdaptiveMaxPool((2, 3)))
    np.testing.assert_array_equal(m(x).numpy(), wanted(x).numpy())
    flux.check(m, randn(1, 2, 4, 5))


def test_when_connection_is_not_specified_it_defaults_to_plus_and_output_size_to_1_1():
    x = randn(2, 3, 5, 4)
    np.testing.assert_allclose(AdaptiveMeanMaxPool()(x).numpy()[:, :, 0, 0], x.mean((2, 3)) + x.max((2, 3)), rtol=1e-5)
    assert AdaptiveMeanMaxPool((2, 2))(x).shape == (2, 3, 2, 2)


def test_many_functions_support_passing_custom_pooling_layers_to_them_in_the_classifier_head():
    for pool, planes in ((AdaptiveMeanMaxPool((1, 1)), 6), (MeanPool((3, 3)), 24), (MaxPool((7, 6)), 6)):
        m = create_classifier(planes, 3, pool_layer=pool)
        assert m[0] is pool
        assert m(randn(2, 6, 7, 6)).shape == (2, 3)
        trains(m, randn(2, 6, 7, 6))


def test_for_example_the_resnet_function_supports_this():
    pool = AdaptiveMeanMaxPool((1, 1))
    m = resnet(basicblock, [1], planes=8, inplanes=8, nclasses=3, pool_layer=pool)
    assert m.classifier[0] is pool
    trains(m, randn(2, 3, 32, 32))


# -- classifier creation -----------------------------------------------------------------------------------------------


def test_creates_a_classifier_head_inplanes_nclasses_activation():
    m = create_classifier(6, 10)
    assert list(m)[1].__name__ == "flatten"
    assert isinstance(m[0], AdaptiveMeanPool)
    assert m[0].out == (1, 1)
    assert m[2].activation is identity
    x = randn(3, 6, 4, 4)
    np.testing.assert_allclose(m(x).numpy(), m[2](x.mean((2, 3))).numpy(), rtol=1e-4, atol=1e-5)
    assert create_classifier(6, 10, sigmoid)[2].activation is sigmoid
    trains(create_classifier(6, 10, sigmoid), x)


def test_use_conv_whether_to_use_a_1x1_convolutional_layer_instead_of_a_dense_layer():
    for pool, size in ((identity, (4, 5)), (AdaptiveMeanPool((1, 1)), (1, 1))):
        m = create_classifier(6, 10, tanh, use_conv=True, pool_layer=pool)
        assert prints(m)[-1] == "Conv((1, 1), 6, 10, tanh)"
        assert m(randn(2, 6, 4, 5)).shape == (2, 10, *size)
        trains(m, randn(2, 6, 4, 5))
    trains(create_classifier(6, 8, 10, use_conv=(True, True), pool_layer=identity), randn(2, 6, 4, 5))  # upstream throws


def test_pool_layer_is_passed_in_with_the_layer_instantiated():
    pool = AdaptiveMeanPool((1, 1))
    assert create_classifier(6, 10, pool_layer=pool)[0] is pool
    with pytest.raises(TypeError, match="pool_layer is a layer, such as AdaptiveMeanPool"):
        create_classifier(6, 10, pool_layer=AdaptiveMeanPool)


def test_dropout_probability_used_in_the_classifier_head_set_to_nothing_to_disable_dropout():
    assert not any(isinstance(layer, Dropout) for layer in create_classifier(6, 10, dropout_prob=None))
    assert prints(create_classifier(6, 10, dropout_prob=0.3))[2] == "Dropout(0.3)"
    assert prints(create_classifier(6, 8, 10, dropout_prob=0.3))[3] == "Dropout(0.3)"
    m = create_classifier(6, 10, dropout_prob=0.5)
    x = randn(8, 6, 3, 3)
    np.testing.assert_array_equal(m(x).numpy(), m[3](x.mean((2, 3))).numpy())
    assert not np.array_equal(trainmode(m)(x).numpy(), m(x).numpy())


def test_creates_a_classifier_head_with_an_extra_hidden_layer():
    m = create_classifier(6, 8, 10)
    assert [layer.activation for layer in m if isinstance(layer, Dense)] == [relu, identity]
    assert [layer.weight.shape for layer in m if isinstance(layer, Dense)] == [(8, 6), (10, 8)]
    trains(m, randn(4, 6, 3, 3))


def test_activations_is_a_tuple_of_two_elements_the_first_for_the_hidden_layer_and_the_second_for_the_output_layer():
    m = create_classifier(6, 8, 10, (tanh, sigmoid))
    assert [layer.activation for layer in m if isinstance(layer, Dense)] == [tanh, sigmoid]
    with pytest.raises(TypeError, match="activations is a pair"):
        create_classifier(6, 8, 10, tanh)


def test_use_conv_is_a_tuple_of_two_booleans_the_first_for_the_hidden_layer_and_the_second_for_the_output_layer():
    m = create_classifier(6, 8, 10, use_conv=(True, False))
    assert [type(layer).__name__ for layer in m] == ["AdaptiveMeanPool", "Conv", "function", "Dense"]
    trains(m, randn(2, 6, 4, 5))
    with pytest.raises(ValueError, match="makes no sense"):
        create_classifier(6, 8, 10, use_conv=(False, True))


def test_the_function_can_be_called_with_two_different_signatures_the_latter_is_used_in_mobile_net_v3():
    one, two = create_classifier(960, 1000), create_classifier(960, 1280, 1000, (hardswish, identity), dropout_prob=0.2)
    assert prints(one)[2:] == ["Dense(960, 1000)"]
    assert prints(two)[2:] == ["Dense(960, 1280, hardswish)", "Dropout(0.2)", "Dense(1280, 1000)"]
    assert two(randn(1, 960, 2, 2)).shape == (1, 1000)


def test_layers_can_also_be_used_to_construct_other_custom_models():
    """A small residual network of most of the guide, trained for a few steps."""
    def block(planes, p):
        branch = [*conv_norm((3, 3), planes, planes, swish, pad=1), DropBlock(p, 3),
                  *conv_norm((3, 3), planes, planes, identity, pad=1),
                  squeeze_excite(planes), StochasticDepth(p)]
        return SkipConnection(Chain(*branch), Layers.addact)

    m = Chain(*basic_conv_bn((3, 3), 3, 8, pad=1), *(block(8, p) for p in linear_scheduler(0.2, depth=2)),
              create_classifier(8, 4, pool_layer=AdaptiveMeanMaxPool((1, 1)), dropout_prob=0.1))
    x, y = randn(16, 3, 8, 8), np.arange(16) % 4
    loss = lambda m: flux.losses.logitcrossentropy(m(x), y)  # noqa: E731
    opt = flux.setup(flux.Adam(1e-2), m)
    first = flux.withgradient(loss, m)[0]
    for _ in range(12):
        value, grads = flux.withgradient(loss, m)
        flux.update(opt, m, grads)
    assert value < 0.9 * first
    assert flux.outputsize(m, x.shape) == (16, 4)
