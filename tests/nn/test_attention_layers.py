"""MultiHeadAttention against PyTorch and against its own parts."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Generator, MultiHeadAttention, relu
from minitorch_flux.ops import attention as page
from tests.oracles import normal


def both(d, nheads, **keywords):
    """A layer and PyTorch's with the same weights."""
    torch = pytest.importorskip("torch")
    theirs = torch.nn.MultiheadAttention(d, nheads, batch_first=True, **keywords)
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_()
    ours = MultiHeadAttention(d, nheads, **keywords)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return torch, ours, theirs


def compare(torch, ours, theirs, inputs, mine, their):
    """Values and gradients of ``ours(*inputs, **mine)`` and ``theirs(q, k, v, **their)``."""
    y, back = flux.vjp(lambda m, *xs: m(*xs, **mine), ours, *inputs)
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    q, k, v = (tensors + tensors[-1:] * 2)[:3]
    wanted, _ = theirs(q, k, v, **their)
    dy = normal(*y.shape, dtype=np.float32)
    wanted.backward(torch.tensor(dy))
    grads, *dxs = back(dy)
    np.testing.assert_allclose(y, wanted.detach().numpy(), rtol=1e-4, atol=1e-4)
    for dx, t in zip(dxs, tensors, strict=True):
        np.testing.assert_allclose(dx, t.grad.numpy(), rtol=1e-3, atol=1e-3)
    for name, p in theirs.named_parameters():
        got = grads
        for part in name.split("."):
            got = getattr(got, part)
        np.testing.assert_allclose(got, p.grad.numpy(), rtol=1e-3, atol=1e-3, err_msg=name)


# -- against PyTorch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_self_and_cross_attention_are_torchs(bias, inputs):
    torch, ours, theirs = both(6, 3, bias=bias)
    arrays = [normal(2, length, 6, seed=length, dtype=np.float32) for length in (5, 4, 4)]
    arrays[2] = normal(2, 4, 6, seed=9, dtype=np.float32)
    compare(torch, ours, theirs, arrays[:inputs], {}, {})


@pytest.mark.parametrize("sizes", [{"kdim": 5}, {"vdim": 4}, {"kdim": 5, "vdim": 4}])
def test_keys_and_values_of_other_sizes_are_torchs(sizes):
    torch, ours, theirs = both(6, 2, **sizes)
    assert "in_proj_weight" not in ours.state_dict()
    arrays = [normal(2, 3, 6, dtype=np.float32), normal(2, 4, sizes.get("kdim", 6), seed=1, dtype=np.float32),
              normal(2, 4, sizes.get("vdim", 6), seed=2, dtype=np.float32)]  # fmt: skip
    compare(torch, ours, theirs, arrays, {}, {})


@pytest.mark.parametrize("kind", ["causal", "mask", "heads", "padding", "all"])
def test_masks_are_torchs_the_other_way_round(kind):
    torch, ours, theirs = both(6, 3)
    x = normal(2, 5, 6, dtype=np.float32)
    rng = np.random.default_rng(0)
    seen = rng.random({"heads": (2, 3, 5, 5)}.get(kind, (5, 5))) < 0.7
    seen[..., 0] = True
    ignored = np.array([[False, False, False, True, True], [False, True, False, False, False]])
    mine, their = {}, {}
    if kind == "causal":
        mine, their["attn_mask"] = {"causal": True}, torch.tensor(~np.tril(np.ones((5, 5), bool)))
    if kind in ("mask", "heads", "all"):
        mine["mask"] = seen
        their["attn_mask"] = torch.tensor(~seen.reshape(-1, 5, 5) if kind == "heads" else ~seen)
    if kind in ("padding", "all"):
        mine["key_padding_mask"] = ignored
        their["key_padding_mask"] = torch.tensor(ignored)
    if kind == "all":
        mine["causal"] = True
        their["attn_mask"] = torch.tensor(~(seen & np.tril(np.ones((5, 5), bool))))
    compare(torch, ours, theirs, [x], mine, their)
    wanted, weights = theirs(*[torch.tensor(x)] * 3, average_attn_weights=False, **their)
    y, w = ours(x, return_weights=True, **mine)
    np.testing.assert_allclose(w.data, weights.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(y.data, wanted.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_masks_with_a_batch_axis_and_as_tensors():
    layer, x = MultiHeadAttention(6, nheads=3), normal(2, 4, 6, dtype=np.float32)
    seen = np.random.default_rng(0).random((2, 4, 4)) < 0.5
    y = layer(x, mask=seen).data
    np.testing.assert_allclose(y, layer(x, mask=np.repeat(seen[:, None], 3, axis=1)).data, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(y, layer(x, mask=flux.tensor(seen)).data)
    ignored = seen[:, 0]
    np.testing.assert_array_equal(layer(x, key_padding_mask=flux.tensor(ignored)).data, layer(x, key_padding_mask=ignored).data)
    np.testing.assert_allclose(layer(x, key_padding_mask=ignored).data,
                               layer(x, mask=np.broadcast_to(~ignored[:, None], (2, 4, 4))).data, rtol=1e-5, atol=1e-6)


# -- grouped queries, free sizes, paths that must agree ----------------------------------------------------------------


@pytest.mark.parametrize(("nheads", "nkvheads"), [(4, 2), (4, 1), (3, 3)])
def test_grouped_queries_are_repeated_keys_and_values(nheads, nkvheads):
    d = 2 * nheads
    grouped, full = MultiHeadAttention(d, nheads, nkvheads=nkvheads), MultiHeadAttention(d, nheads)
    state = grouped.state_dict()
    assert state["in_proj_weight"].shape == (d + 4 * nkvheads, d)
    for name in ("in_proj_weight", "in_proj_bias"):
        a = state[name] = normal(*state[name].shape, dtype=np.float32)
        repeated = [a[d + start : d + start + 2 * nkvheads].reshape(nkvheads, 2, *a.shape[1:]) for start in (0, 2 * nkvheads)]
        repeated = [np.repeat(r, nheads // nkvheads, axis=0).reshape(d, *a.shape[1:]) for r in repeated]
        full.load_state_dict({name: np.concatenate([a[:d], *repeated])}, strict=False)
    grouped.load_state_dict(state)
    full.out_proj = grouped.out_proj
    x, z = normal(2, 5, d, dtype=np.float32), normal(2, 3, d, seed=1, dtype=np.float32)
    for inputs in ([x], [x, z], [x, z, z.copy()]):
        np.testing.assert_allclose(grouped(*inputs, causal=True).data, full(*inputs, causal=True).data, rtol=1e-4, atol=1e-5)


def test_sizes_as_in_flux():
    layer = MultiHeadAttention(((4, 5, 6), (6, 4), 7), nheads=2)
    assert layer(np.ones((3, 2, 4)), np.ones((3, 8, 5)), np.ones((3, 8, 6))).shape == (3, 2, 7)
    shapes = {k: v.shape for k, v in layer.state_dict().items()}
    assert shapes == {"q_proj_weight": (6, 4), "k_proj_weight": (6, 5), "v_proj_weight": (4, 6), "in_proj_bias": (16,),
                      "out_proj.weight": (7, 4), "out_proj.bias": (7,)}  # fmt: skip
    layer = MultiHeadAttention((4, 12, 5), nheads=3)
    assert layer(np.ones((3, 2, 4))).shape == (3, 2, 5)
    assert layer.in_proj_weight.shape == (36, 4)
    assert MultiHeadAttention([4, (6, 3), 5], nheads=3)(np.ones((3, 2, 4)), np.ones((3, 4, 4))).shape == (3, 2, 5)


def test_every_way_of_calling_gives_the_same():
    layer, x = MultiHeadAttention(8, nheads=2), normal(3, 4, 8, dtype=np.float32)
    y = layer(x).data
    for other in (layer(x, x), layer(x, x, x), layer(x, x.copy()), layer(x, x.copy(), x.copy()), layer(flux.tensor(x)),
                  layer(x, return_weights=True)[0], layer(x.astype(np.float64))):  # fmt: skip
        assert other.dtype == np.float32
        np.testing.assert_allclose(other.data, y, rtol=1e-5, atol=1e-6)


def test_tokens_of_the_first_page():
    assert MultiHeadAttention(192, nheads=3)(np.zeros((2, 64, 192), "float32")).shape == (2, 64, 192)
    assert MultiHeadAttention(16).nheads == 8
    assert flux.outputsize(MultiHeadAttention(16, nheads=2), (5, 7, 16)) == (5, 7, 16)
    assert MultiHeadAttention(4, nheads=2)(np.ones((0, 3, 4))).shape == (0, 3, 4)
    assert MultiHeadAttention(4, nheads=2)(np.ones((2, 0, 4))).shape == (2, 0, 4)


@pytest.mark.parametrize("bias", [True, False])
def test_check_of_both_orders(bias):
    x, z = normal(2, 3, 4), normal(2, 2, 4, seed=1)
    layer = MultiHeadAttention(4, nheads=2, bias=bias, rng=Generator(0))
    flux.check(lambda m, x: m(x, causal=True), layer, x)
    flux.check(lambda m, x, z: m(x, z), layer, x, z)
    dropping = MultiHeadAttention(4, nheads=2, nkvheads=1, bias=bias, dropout_prob=0.5, rng=Generator(1))
    flux.check(dropping, x)
    flux.check(lambda m, x: m(x, return_weights=True)[1], layer, x, order=1)


def test_a_token_with_nothing_to_attend_to_gets_the_bias_of_the_output():
    layer, x = MultiHeadAttention(6, nheads=3), normal(2, 4, 6, dtype=np.float32)
    layer.out_proj.bias.data[:] = np.arange(6)
    seen = np.ones((4, 4), bool)
    seen[2] = False
    for y in (layer(x, mask=seen), layer(x, mask=seen, return_weights=True)[0]):
        np.testing.assert_array_equal(y.data[:, 2], np.broadcast_to(np.arange(6), (2, 6)))
    ignored = np.array([[True] * 4, [False] * 4])
    y, w = layer(x, key_padding_mask=ignored, return_weights=True)
    assert not w.data[0].any()
    np.testing.assert_allclose(w.data[1].sum(-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(y.data[0], np.broadcast_to(np.arange(6), (4, 6)))


# -- dropout of weights ------------------------------------------------------------------------------------------------


def test_dropout_prob_drops_weights_in_train_mode_only():
    layer = MultiHeadAttention(8, nheads=2, dropout_prob=0.5, rng=Generator(3))
    x = normal(16, 10, 8, dtype=np.float32)
    plain = MultiHeadAttention(8, nheads=2)
    plain.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(layer(x).data, plain(x).data)
    _, w = plain(x, return_weights=True)
    with flux.record():
        y, dropped = layer(x, return_weights=True)
    share = (dropped.data == 0).mean()
    assert abs(share - 0.5) < 4 * 0.5 / dropped.size**0.5
    kept = dropped.data != 0
    np.testing.assert_allclose(dropped.data[kept], 2 * w.data[kept], rtol=1e-5)
    assert np.abs(y.data - plain(x).data).max() > 0.01
    flux.testmode(layer)
    with flux.record():
        np.testing.assert_array_equal(layer(x).data, plain(x).data)
    assert np.abs(flux.trainmode(layer)(x).data - plain(x).data).max() > 0.01


def test_the_same_seed_gives_the_same_bits():
    x = normal(2, 4, 8, dtype=np.float32)
    runs = []
    for _ in range(2):
        layer = MultiHeadAttention(8, nheads=2, dropout_prob=0.3, rng=Generator(3))
        runs.append(flux.gradient(lambda m: (m(x) ** 2).sum(), layer).in_proj_weight)
    np.testing.assert_array_equal(*runs)


# -- state, printing, errors -------------------------------------------------------------------------------------------


def test_state_and_initial_values():
    layer = MultiHeadAttention(6, nheads=2, rng=Generator(1))
    assert {k: v.shape for k, v in layer.state_dict().items()} == {
        "in_proj_weight": (18, 6), "in_proj_bias": (18,), "out_proj.weight": (6, 6), "out_proj.bias": (6,)}  # fmt: skip
    assert not layer.in_proj_bias.data.any()
    bound = (6 / 12) ** 0.5  # glorot_uniform of each projection by itself
    assert 0.9 * bound < np.abs(layer.in_proj_weight.data).max() <= bound
    np.testing.assert_array_equal(MultiHeadAttention(6, nheads=2, rng=Generator(1)).in_proj_weight.data,
                                  layer.in_proj_weight.data)
    ones = MultiHeadAttention(4, nheads=2, init=flux.ones, init_bias=flux.ones)
    assert all((a == 1).all() for a in ones.state_dict().values())
    assert list(MultiHeadAttention(4, nheads=2, bias=False).state_dict()) == ["in_proj_weight", "out_proj.weight"]


def test_the_generator_is_printed_where_it_draws_again():
    assert repr(MultiHeadAttention(4, 2, rng=Generator(0))).startswith("MultiHeadAttention(4, nheads=2)  #")
    dropping = MultiHeadAttention(4, 2, dropout_prob=0.5, rng=Generator(0))
    assert f"rng={dropping.rng!r}" in repr(dropping)


def test_foreign_keywords_of_the_call():
    m, x = MultiHeadAttention(8, nheads=2), np.zeros((1, 3, 8), np.float32)
    for name, ours in {"attn_mask": r"`mask=` \(True where a query attends, so the other way round\)", "is_causal": "`causal=`",
                       "need_weights": "`return_weights=`"}.items():
        with pytest.raises(TypeError, match=rf"MultiHeadAttention\(8, nheads=2\): `{name}=` is spelled {ours} here"):
            m(x, **{name: None})
    with pytest.raises(TypeError, match="a call has no keyword 'maks'; it takes mask, key_padding_mask, causal, return_w"):
        m(x, maks=None)


def test_printing_rebuilds_the_layer():
    cases = {
        "MultiHeadAttention(6, nheads=3)  # 168 parameters": MultiHeadAttention(6, 3),
        "MultiHeadAttention(6, nheads=6, nkvheads=2, bias=False)  # 96 parameters": MultiHeadAttention(
            6, 6, nkvheads=2, bias=False),
        "MultiHeadAttention(6, nheads=2, kdim=5, vdim=4, dropout_prob=0.1)  # 150 parameters": MultiHeadAttention(
            6, 2, kdim=5, vdim=4, dropout_prob=0.1),
        "MultiHeadAttention((4, (6, 2), 3), nheads=2, init=kaiming_uniform, active=False)  # 79 parameters": flux.testmode(
            MultiHeadAttention([4, (6, 2), 3], 2, init=flux.kaiming_uniform)),
    }  # fmt: skip
    for text, layer in cases.items():
        assert repr(layer) == text
        assert repr(eval(text, vars(flux))) == text


def test_wrong_arguments():
    name = "MultiHeadAttention"
    with pytest.raises(ValueError, match=f"{name}: the width 7 of the queries and keys is not divisible by nheads=2"):
        MultiHeadAttention(7, 2)
    with pytest.raises(ValueError, match=f"{name}: the width 7 of the values is not divisible by nheads=2"):
        MultiHeadAttention((4, (6, 7), 4), 2)
    with pytest.raises(ValueError, match=f"{name}: nheads=6 is not divisible by nkvheads=4"):
        MultiHeadAttention(6, 6, nkvheads=4)
    with pytest.raises(ValueError, match=f"{name}: nheads must be at least 1, got 0"):
        MultiHeadAttention(6, 0)
    with pytest.raises(TypeError, match=f"{name}: nheads must be a whole number, got 2.5"):
        MultiHeadAttention(6, 2.5)
    with pytest.raises(TypeError, match=f"{name}: nheads must be a whole number, got <function|{name}: nheads must be a whole"):
        MultiHeadAttention(6, relu)
    with pytest.raises(TypeError, match=r"the size d is one number or \(in, inner, out\), got \(4, 6\)"):
        MultiHeadAttention((4, 6))
    with pytest.raises(TypeError, match=r"the size d as \(in, inner, out\) has one or three numbers"):
        MultiHeadAttention(((4, 5), 6, 6))
    with pytest.raises(TypeError, match=r"d=\(4, 6, 4\) has all sizes; give no kdim= and vdim= beside it"):
        MultiHeadAttention((4, 6, 4), 2, kdim=3)
    with pytest.raises(TypeError, match="bias must be True or False, there are two of them"):
        MultiHeadAttention(4, 2, bias=np.ones(12))
    with pytest.raises(TypeError, match=f"{name}: `num_heads=` is spelled `nheads=` here"):
        MultiHeadAttention(4, num_heads=2)
    with pytest.raises(ValueError, match=f"{name}: the probability p must be between 0 and 1, got 2"):
        MultiHeadAttention(4, 2, dropout_prob=2)
    with pytest.raises(ValueError, match=f"{name}: active must be True"):
        MultiHeadAttention(4, 2, active="on")


def test_wrong_inputs():
    layer, x = MultiHeadAttention(4, nheads=2), np.ones((2, 3, 4), np.float32)
    name = r"MultiHeadAttention\(4, nheads=2\): "
    with pytest.raises(ValueError, match=name + r"the queries have 5 features, expected 4 \(input shape \(2, 3, 5\)\)"):
        layer(np.ones((2, 3, 5)))
    with pytest.raises(ValueError, match=name + r"the values have 5 features, expected 4"):
        layer(x, x, np.ones((2, 3, 5)))
    with pytest.raises(ValueError, match=name + r"the queries must have three axes, \(batch, length, features\), got shape "
                       r"\(3, 4\); of one sample take x\[None\]"):
        layer(x[0])
    with pytest.raises(ValueError, match=name + "the keys must have three axes"):
        layer(x, np.ones((1, 2, 3, 4)))
    for k, v in ((x[:1], None), (x, x[:, :2])):
        with pytest.raises(ValueError, match=name + "queries, keys and values must have one batch size, keys and values one"):
            layer(x, k, v)
    with pytest.raises(TypeError, match=name + r"values without keys; call it with \(q\), \(q, kv\) or \(q, k, v\)"):
        layer(x, v=x)
    with pytest.raises(TypeError, match=name + "mask must hold booleans, True where a query may attend to a key, got dtype"):
        layer(x, mask=np.ones((3, 3), int))
    with pytest.raises(ValueError, match=name + r"mask must have the shape \(queries, keys\) = \(3, 3\), \(2, 3, 3\) with the"):
        layer(x, mask=np.ones((3, 4), bool))
    with pytest.raises(TypeError, match=name + "key_padding_mask must hold booleans, True where a key is to be ignored"):
        layer(x, key_padding_mask=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=name + r"key_padding_mask must have the shape \(batch, keys\) = \(2, 3\), got"):
        layer(x, key_padding_mask=np.zeros((3, 2), bool))


def test_self_attention_takes_the_fused_path(monkeypatch):
    calls = []
    monkeypatch.setattr(page, "suits", lambda *given: False)
    monkeypatch.setattr(page, "_attend", lambda *a, f=page._attend: (calls.append(1), f(*a))[1])
    layer, x = MultiHeadAttention(4, nheads=2), np.ones((2, 3, 4), np.float32)
    layer(x)
    layer(x, x.copy())
    assert len(calls) == 2
    layer(x, return_weights=True)
    assert len(calls) == 2
