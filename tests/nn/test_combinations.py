"""Layers that combine layers, against PyTorch, NumPy and Flux's own definitions."""

import copy
import operator
import pickle
from functools import partial, reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import (
    Chain,
    Dense,
    Dropout,
    Maxout,
    Module,
    PairwiseFusion,
    Parallel,
    Param,
    SkipConnection,
    Tensor,
    relu,
    tanh,
)

NAMES = {name: getattr(flux, name) for name in flux.__all__}


def array(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def total(y):
    """The sum of one output or of several."""
    return sum(v.sum() for v in y) if isinstance(y, tuple) else y.sum()


def rebuilt(layer):
    """What the print of a layer makes when it is evaluated."""
    return eval(repr(layer), {**NAMES, "partial": partial, "tuple": tuple})


def double(model):
    """The model's parameters in float64."""
    for p in model.parameters():
        p.data = p.data.astype(np.float64)
    return model


def torch_dense(torch, layer):
    """PyTorch's layer with the same numbers."""
    ref = torch.nn.Linear(layer.in_, layer.out).double()
    with torch.no_grad():
        ref.weight.copy_(torch.tensor(layer.weight.numpy().copy()))
        ref.bias.copy_(torch.tensor(layer.bias.numpy().copy()))
    return ref


def same_as_torch(model, f, layers, *xs):
    """The value of ``model(*xs)`` and the gradients by inputs and by the Dense ``layers``, against ``f(*refs)(*xs)``."""
    torch = pytest.importorskip("torch")
    refs = [torch_dense(torch, layer) for layer in layers]
    txs = [torch.tensor(x, requires_grad=True) for x in xs]
    wanted = f(torch, refs, *txs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    dys = [array(*w.shape, seed=9 + i, dtype=np.float64) for i, w in enumerate(wanted)]
    sum((w * torch.tensor(dy)).sum() for w, dy in zip(wanted, dys, strict=True)).backward()
    y = model(*xs)
    for a, w in zip(y if isinstance(y, tuple) else (y,), wanted, strict=True):
        np.testing.assert_allclose(a.data, w.detach().numpy(), rtol=1e-12, atol=1e-12)

    def loss(*parameters):
        y = model(*parameters[: len(xs)])
        return sum((a * dy).sum() for a, dy in zip(y if isinstance(y, tuple) else (y,), dys, strict=True))

    grads = flux.gradient(loss, *xs, *[p for layer in layers for p in (layer.weight, layer.bias)])
    theirs = [t.grad for t in txs] + [p.grad for r in refs for p in (r.weight, r.bias)]
    for g, t in zip(grads, theirs, strict=True):
        np.testing.assert_allclose(g, t.numpy(), rtol=1e-10, atol=1e-10)


# -- Maxout ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(0, 4), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_maxout_has_internal_layers_with_the_same_input_and_returns_the_elementwise_maximum(n, batch, dtype, alone):
    layers = [Dense(array(3, 4, seed=i, dtype=dtype), array(3, seed=10 + i, dtype=dtype), tanh) for i in range(n)]
    x = array(4, dtype=dtype) if alone else array(batch, 4, dtype=dtype)
    wanted = reduce(np.maximum, [layer(x).numpy() for layer in layers])
    for m in (Maxout(*layers), Maxout(tuple(layers)), Maxout(layers)):
        y = m(x)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.data, wanted)


def test_the_three_ways_to_make_a_maxout():
    made = []
    m = Maxout(lambda: made.append(Dense(4, 2)) or made[-1], 3)
    assert list(m) == made
    assert len({id(layer.weight) for layer in m}) == 3
    a, b = Dense(4, 2), Dense(4, 2)
    assert list(Maxout((a, b))) == list(Maxout(a, b)) == list(Maxout([a, b])) == [a, b]
    assert list(Maxout(relu, tanh)) == [relu, tanh]
    assert list(Maxout((a,))) == list(Maxout(a)) == [a]


def test_maxout_against_torch():
    layers = [double(Dense(4, 3, rng=flux.Generator(i))) for i in range(3)]
    same_as_torch(Maxout(*layers), lambda torch, refs, x: torch.stack([r(x) for r in refs]).amax(0), layers,
                  array(6, 4, dtype=np.float64))


def test_at_a_tie_the_gradient_of_maxout_goes_to_the_first():
    a, b, c = (Dense(np.ones((1, 2)), np.zeros(1)) for _ in range(3))
    g = flux.gradient(lambda m: m(np.ones((5, 2))).sum(), Maxout(a, b, c))
    assert g[0].weight.tolist() == [[5, 5]]
    assert not g[1].weight.any()
    assert not g[2].bias.any()
    b.bias.data[:] = 1
    g = flux.gradient(lambda m: m(np.ones((5, 2))).sum(), Maxout(a, b, b))
    assert not g[0].weight.any()
    assert g[1].weight.tolist() == [[5, 5]]


def test_maxout_lets_nan_through():
    x = np.array([1.0, np.nan, 3.0, -np.inf])
    two = lambda x: np.full(4, 2.0)  # noqa: E731
    for m in (Maxout(lambda x: x, two), Maxout(two, lambda x: x)):
        np.testing.assert_array_equal(m(x).data, [2, np.nan, 3, 2])
        np.testing.assert_array_equal(flux.gradient(lambda x, m=m: m(x).sum(), x), [0, 1, 1, 0])


def test_maxout_of_wrong_things():
    with pytest.raises(ValueError, match=r"^Maxout: all layers must give the same shape, but layer 0 gave \(2, 3\) and "
                                         r"layer 1, Dense\(4, 1\), gave \(2, 1\)$"):
        Maxout(Dense(4, 3), Dense(4, 1))(array(2, 4))
    with pytest.raises(ValueError, match="needs at least one layer"):
        Maxout()
    with pytest.raises(ValueError, match="needs at least one layer"):
        Maxout(lambda: Dense(4, 3), 0)
    d = Dense(4, 3)
    with pytest.raises(ValueError, match="f gave the same layer twice"):
        Maxout(lambda: d, 2)
    with pytest.raises(TypeError, match=r"f is a function that makes a layer, such as lambda: Dense\(4, 2\)"):
        Maxout(Dense(4, 3), 2)
    with pytest.raises(TypeError, match=r"Maxout\(f, n\): `n` must be a whole number, got 2\.5"):
        Maxout(lambda: Dense(4, 3), 2.5)
    with pytest.raises(TypeError, match="layer 1 is a str"):
        Maxout([relu, "relu"])
    with pytest.raises(ValueError, match=r"^Maxout\[1\] Dense\(5, 3\): the input has 4 features"):
        Maxout(Dense(4, 3), Dense(5, 3))(array(2, 4))


# -- SkipConnection ----------------------------------------------------------------------------------------------------


def test_skipconnection_is_op_of_f_of_x_and_x():
    f, x = Dense(4, 4, tanh), array(3, 4)
    fx = f(x).numpy()
    for op, wanted in [
        (flux.add, fx + x),
        (lambda fx, x: fx - 2 * x, fx - 2 * x),  # the layer's output comes first
        (partial(flux.cat, axis=1), np.concatenate([fx, x], 1)),
        (flux.hstack, np.hstack([fx, x])),
        (flux.stack, np.stack([fx, x])),
    ]:
        np.testing.assert_array_equal(SkipConnection(f, op)(x).data, wanted)
    y, same = SkipConnection(f, tuple)(x)
    np.testing.assert_array_equal(y.data, fx)
    np.testing.assert_array_equal(same.data, x)
    assert SkipConnection(lambda v: v * 2, lambda a, b: a - b)(5) == 5


def test_skipconnection_against_torch():
    d = double(Dense(4, 4))
    same_as_torch(SkipConnection(Chain(d, tanh), flux.multiply), lambda torch, refs, x: torch.tanh(refs[0](x)) * x, [d],
                  array(5, 4, dtype=np.float64))


def test_skipconnection_without_its_connection():
    with pytest.raises(TypeError, match=r"SkipConnection\(layer, connection\): give the function that joins layer\(x\) and x"):
        SkipConnection(Dense(4, 4))
    with pytest.raises(TypeError, match="the connection is a function of the outputs.*got 'add'"):
        SkipConnection(Dense(4, 4), "add")
    with pytest.raises(TypeError, match="got the class Dense"):
        SkipConnection(Dense(4, 4), Dense)
    with pytest.raises(TypeError, match="SkipConnection: layer 0 is a int"):
        SkipConnection(4, flux.add)


# -- Parallel ----------------------------------------------------------------------------------------------------------


def test_parallel_gives_one_input_to_all_or_one_each():
    f, g, x, z = Dense(4, 3), Dense(4, 3, relu), array(2, 4), array(5, 4, seed=1)[:2]
    p = Parallel(lambda a, b: a - b, f, g)
    np.testing.assert_array_equal(p(x).data, f(x).data - g(x).data)
    np.testing.assert_array_equal(p(x, z).data, f(x).data - g(z).data)
    np.testing.assert_array_equal(p((x, z)).data, p(x, z).data)
    assert Parallel(lambda *ys: ys, abs, abs, abs)(-1, -2, -3) == (1, 2, 3)


def test_parallel_with_one_layer_takes_all_inputs_in_turn():
    f = Dense(4, 3)
    x, z = array(2, 4), array(2, 4, seed=1)
    np.testing.assert_array_equal(Parallel(flux.add, f)(x, z).data, (f(x) + f(z)).data)
    np.testing.assert_array_equal(Parallel(flux.add, f)((x, z)).data, (f(x) + f(z)).data)
    assert Parallel(abs, lambda x: x - 5)(3) == 2


def test_parallel_calls_its_connection_with_all_outputs():
    layers, x = [Dense(4, n) for n in (1, 2, 3)], array(2, 4)
    outputs = [layer(x).numpy() for layer in layers]
    assert isinstance(Parallel(tuple, *layers)(x), tuple)
    assert isinstance(Parallel(list, *layers)(x), list)
    for a, b in zip(Parallel(tuple, *layers)(x), outputs, strict=True):
        np.testing.assert_array_equal(a.data, b)
    same = [Dense(4, 3, rng=flux.Generator(i)) for i in range(3)]
    for f, g in [(flux.add, np.add), (flux.multiply, np.multiply), (flux.maximum, np.maximum), (flux.minimum, np.minimum),
                 (operator.add, np.add), (operator.mul, np.multiply)]:  # as Flux's +, *, max and min, of any number
        np.testing.assert_array_equal(Parallel(f, *same)(x).data, reduce(g, [layer(x).numpy() for layer in same]))
        np.testing.assert_array_equal(Parallel(f, same[0])(x).data, same[0](x).data)
    joined = Parallel(partial(flux.cat, axis=-1), *layers)(x)
    np.testing.assert_array_equal(joined.data, np.concatenate(outputs, -1))
    bilinear = Dense(6, 2)
    m = Parallel(Chain(partial(flux.cat, axis=1), bilinear), *layers)  # a connection that is a layer: it gets a tuple
    np.testing.assert_array_equal(m(x).data, bilinear(np.concatenate(outputs, -1)).data)


def test_parallel_against_torch():
    layers = [double(Dense(4, 3)), double(Dense(2, 3))]
    same_as_torch(Parallel(flux.multiply, *layers), lambda torch, refs, x, z: refs[0](x) * refs[1](z), layers,
                  array(5, 4, dtype=np.float64), array(5, 2, seed=1, dtype=np.float64))


def test_parallel_with_names():
    p = Parallel(flux.add, a=Dense(4, 3), b=Dense(4, 3))
    assert p.a is p["a"] is p[0]
    assert list(p.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    g = flux.gradient(lambda m: m(array(2, 4)).sum(), p)
    assert g.a.weight is g["a"].weight is g[0].weight
    p.b = relu
    assert p[1] is relu
    with pytest.raises(ValueError, match="Parallel: a layer may not be called 'connection'"):
        Parallel(flux.add, connection=relu)
    with pytest.raises(TypeError, match="Parallel: give either layers or named layers"):
        Parallel(flux.add, relu, a=relu)
    with pytest.raises(KeyError, match="Parallel has no layer called 'c'"):
        p["c"]
    with pytest.raises(AttributeError, match="Parallel has no layer or attribute 'c'"):
        _ = p.c


def test_parallel_with_the_wrong_number_of_inputs():
    p = Parallel(flux.add, Dense(4, 3), Dense(4, 3))
    for wrong in ((1, 2, 3), ((1, 2, 3),), (), ((),)):
        with pytest.raises(ValueError, match=r"Parallel: 2 layers take one input, or 2 inputs, got (3|0)"):
            p(*wrong)
    with pytest.raises(ValueError, match="Parallel: needs at least one layer"):
        Parallel(flux.add)
    with pytest.raises(TypeError, match="or tuple to keep them apart; got None"):
        Parallel(None, relu)


# -- PairwiseFusion ----------------------------------------------------------------------------------------------------


def fused(connection, layers, xs):
    """Flux's definition, written out."""
    ys = []
    for i, layer in enumerate(layers):
        ys.append(layer(xs[0]) if i == 0 else layer(connection(ys[-1], xs[i])))
    return ys


@given(st.integers(1, 4), st.booleans())
def test_pairwise_fusion_feeds_each_layer_the_output_before_and_its_own_input(n, one):
    layers = [Dense(3, 3, tanh, rng=flux.Generator(i)) for i in range(n)]
    xs = [array(2, 3, seed=i) for i in range(n)]
    if one:
        xs = [xs[0]] * n
    wanted = fused(lambda y, x: y - 2 * x, layers, xs)
    m = PairwiseFusion(lambda y, x: y - 2 * x, *layers)
    for ys in [m(*xs), m(tuple(xs))] + ([m(xs[0])] if one else []):
        assert isinstance(ys, tuple)
        assert len(ys) == n
        for a, b in zip(ys, wanted, strict=True):
            np.testing.assert_array_equal(a.data, b.data)


def test_pairwise_fusion_against_torch():
    layers = [double(Dense(3, 3, rng=flux.Generator(i))) for i in range(3)]

    def theirs(torch, refs, *xs):
        y1 = refs[0](xs[0])
        y2 = refs[1](y1 * xs[1])
        return y1, y2, refs[2](y2 * xs[2])

    same_as_torch(PairwiseFusion(flux.multiply, *layers), theirs, layers, *[array(2, 3, seed=i, dtype=np.float64)
                                                                            for i in range(3)])


def test_pairwise_fusion_of_wrong_things():
    m = PairwiseFusion(flux.add, a=Dense(3, 3), b=Dense(3, 3))
    assert list(m.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    with pytest.raises(ValueError, match="PairwiseFusion: 2 layers take one input, or 2 inputs, got 3"):
        m(1, 2, 3)
    with pytest.raises(ValueError, match="PairwiseFusion: 1 layers take one input, or 1 inputs, got 2"):
        PairwiseFusion(flux.add, relu)(1, 2)
    with pytest.raises(ValueError, match="PairwiseFusion: needs at least one layer"):
        PairwiseFusion(flux.add)
    with pytest.raises(ValueError, match=r"^PairwiseFusion: the connection add of \(2, 3\), \(2, 4\): add: the shapes"):
        m(array(2, 3), array(2, 4))
    assert isinstance(m[:1], PairwiseFusion)
    assert m[:1].names == ("a",)


# -- all of them -------------------------------------------------------------------------------------------------------

MODELS = {
    "maxout": lambda: Maxout(Dense(3, 3, tanh), Dense(3, 3)),
    "skip": lambda: SkipConnection(Chain(Dense(3, 3, tanh)), flux.multiply),
    "parallel": lambda: Parallel(flux.multiply, Dense(3, 3, tanh), b_layer()),
    "fusion": lambda: PairwiseFusion(flux.add, Dense(3, 3, tanh), Dense(3, 3, tanh)),
    "nested": lambda: SkipConnection(Parallel(flux.multiply, a=Maxout(lambda: Dense(3, 3), 2), b=Dense(3, 3)), flux.add),
}


def b_layer():
    return Dense(3, 3)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_both_orders(name):
    flux.check(MODELS[name](), array(2, 3, dtype=np.float64))


@pytest.mark.parametrize("name", MODELS)
def test_the_print_rebuilds_the_layer(name):
    m = MODELS[name]()
    other = rebuilt(m)
    assert repr(other) == repr(m)
    assert list(other.state_dict()) == list(m.state_dict())
    other.load_state_dict(m.state_dict())
    x = array(2, 3)
    y, z = other(x), m(x)
    for a, b in zip(y if isinstance(y, tuple) else [y], z if isinstance(z, tuple) else [z], strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_how_they_print():
    assert repr(SkipConnection(Dense(3, 3), flux.add)) == "SkipConnection(Dense(3, 3), add)  # 12 parameters"
    assert repr(Parallel(tuple, a=Dense(3, 3), b=relu)) == (
        "Parallel(\n  tuple,\n  a=Dense(3, 3),  # 12 parameters\n  b=relu,\n)  # Total: 2 arrays, 12 parameters, 48 bytes."
    )
    assert repr(Maxout(relu, tanh)) == "Maxout(\n  relu,\n  tanh,\n)"
    assert "partial(concatenate, axis=1)" in repr(Parallel(partial(flux.cat, axis=1), relu))


@pytest.mark.parametrize("make", [lambda *ls: Maxout(*ls), lambda *ls: Parallel(flux.add, *ls),
                                  lambda *ls: PairwiseFusion(flux.add, *ls)])
def test_indexing_slices_and_paths_are_those_of_a_chain(make):
    a, b, c = Dense(3, 3), Dense(3, 3), Dense(3, 3)
    m = make(a, b, c)
    assert m[0] is a
    assert m[-1] is c
    assert len(m) == 3
    assert list(m[1:]) == list(m[[1, 2]]) == list(m[[False, True, True]]) == [b, c]
    assert type(m[1:]) is type(m)
    assert m[1:].connection is m.connection
    assert list(m.state_dict()) == [f"{i}.{n}" for i in range(3) for n in ("weight", "bias")]
    with pytest.raises(IndexError, match=rf"{type(m).__name__} has 3 layers, there is none at 3"):
        m[3]
    g = flux.gradient(lambda m: total(m(array(2, 3))), m)
    assert len(g) == 3
    assert g[1].weight.shape == (3, 3)


def test_the_mode_reaches_every_layer():
    def drop():
        return Dropout(0.5)

    m = Chain(Maxout(drop, 2), SkipConnection(drop(), flux.add), Parallel(flux.add, a=drop(), b=Chain(drop())),
              PairwiseFusion(flux.add, drop(), drop()))
    drops = [layer for layer in m.modules() if isinstance(layer, Dropout)]
    assert len(drops) == 7
    for mode, active in [(True, False), (False, True), ("auto", None)]:
        assert flux.testmode(m, mode) is m
        assert all(d.active is active for d in drops)


def test_a_batch_norm_inside_moves_only_in_training():
    m = Parallel(flux.add, flux.BatchNorm(3), SkipConnection(flux.BatchNorm(3), flux.add))
    x = array(8, 3) + 1
    m(x)
    assert not any(b.any() for n, b in m.state_dict().items() if n.endswith("running_mean"))
    flux.gradient(lambda m: m(x).sum(), m)
    moved = [n for n, b in m.state_dict().items() if n.endswith("running_mean") and b.any()]
    assert moved == ["0.running_mean", "1.layer.running_mean"]


def test_a_connection_with_parameters():
    class Weighted(Module):
        def __init__(self):
            self.w = Param(np.float32([2, 3]))

        def __call__(self, a, b):
            return self.w[0] * a + self.w[1] * b

    for m, first in [(Parallel(Weighted(), Dense(3, 3), relu), "0"), (SkipConnection(Dense(3, 3), Weighted()), "layer"),
                     (PairwiseFusion(Weighted(), Dense(3, 3), relu), "0")]:
        assert list(m.state_dict()) == [f"{first}.weight", f"{first}.bias", "connection.w"]
        g = flux.gradient(lambda m: total(m(array(2, 3))), m)
        assert g.connection.w.shape == (2,)
        opt = flux.setup(flux.Descent(0.1), m)
        flux.update(opt, m, g)
        assert m.connection.w.tolist() != [2, 3]


def test_one_layer_that_is_shared_has_one_gradient():
    d = Dense(3, 3)
    x = array(2, 3)
    alone = flux.gradient(lambda m: m(x).sum(), d).weight
    for m, times in [(Parallel(flux.add, d, d), 2), (Chain(SkipConnection(d, lambda a, b: a), ), 1),
                     (Parallel(flux.add, d, Chain(Maxout(d))), 2)]:
        assert len(m.parameters()) == 2
        g = flux.gradient(lambda m: m(x).sum(), m)
        found = g[0].weight if isinstance(m, Parallel) else g[0].layer.weight
        np.testing.assert_allclose(found, times * alone, rtol=1e-6)
    g = flux.gradient(lambda m: m(x).sum(), Parallel(flux.add, d, d))
    assert g[0].weight is g[1].weight


def test_errors_carry_the_path_through_nested_models():
    m = Chain(Dense(4, 4), relu, Parallel(flux.add, Dense(4, 3), Chain(relu, Maxout(Dense(4, 3), Dense(64, 10)))))
    with pytest.raises(ValueError, match=r"^Chain\[2\]\.Parallel\[1\]\.Chain\[1\]\.Maxout\[1\] Dense\(64, 10\): the input has "
                                         r"4 features, expected 64 \(input shape \(8, 4\)\)$"):
        m(array(8, 4))
    named = Parallel(flux.add, a=relu, b=SkipConnection(SkipConnection(Dense(5, 3), flux.add), flux.add))
    with pytest.raises(ValueError, match=r"^Parallel\['b'\]\.SkipConnection\.SkipConnection Dense\(5, 3\): the input has 4"):
        named(array(8, 4))
    with pytest.raises(ValueError, match=r"^Chain\[0\]\.SkipConnection: the connection add of \(8, 3\), \(8, 4\): add: "):
        Chain(SkipConnection(Dense(4, 3), flux.add))(array(8, 4))
    with pytest.raises(ValueError, match=r"^Chain\[0\] Parallel: 2 layers take one input"):
        Chain(Parallel(flux.add, relu, relu))((1, 2, 3))


def test_other_errors_carry_the_path_in_a_note():
    def broken(*_):
        raise KeyError("missing")

    with pytest.raises(KeyError) as error:
        Chain(Parallel(broken, relu, relu))(array(2, 3))
    assert error.value.__notes__ == ["in Parallel: the connection broken of (2, 3), (2, 3)",
                                     "in Chain[0], Parallel(broken, relu, relu)"]
    with pytest.raises(KeyError) as error:
        SkipConnection(broken, flux.add)(array(2, 3))
    assert error.value.__notes__ == ["in SkipConnection, broken"]


def test_arrays_become_tensors_and_other_things_pass_through():
    seen = []

    def look(*xs):
        seen.extend(xs)
        return xs[0]

    Maxout(look)(array(2))
    SkipConnection(look, look)(array(2))
    Parallel(look, look, look)(array(2), np.arange(3))
    PairwiseFusion(look, look, look)((array(2), array(2)))
    assert all(isinstance(x, Tensor) for x in seen)
    assert Parallel(tuple, len, len)(["a", "b"], "abc") == (2, 3)
    assert Parallel(tuple, len, len)(["a", "b"]) == (2, 2)  # a list is one input
    seen.clear()
    SkipConnection(look, look)({"a": 1})
    assert seen == [{"a": 1}] * 3


def test_deep_nesting():
    m = Dense(2, 2)
    for i in range(60):
        m = [lambda f: SkipConnection(f, flux.add), lambda f: Parallel(flux.add, f, Dense(2, 2)), Chain][i % 3](m)
    assert m(array(3, 2)).shape == (3, 2)
    assert len(m.parameters()) == 2 + 2 * 20
    g = flux.gradient(lambda m: m(array(3, 2)).sum(), m)
    assert g[0][0].layer[0][0].layer is not None
    assert len(m.state_dict()) == 42


def test_models_that_hold_operations_are_copied_and_pickled():
    m = Chain(SkipConnection(Dense(3, 3), flux.add), flux.exp, Parallel(flux.multiply, relu, flux.sqrt), flux.softmax,
              flux.flatten)
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m)), flux.cpu(m)):
        assert repr(other) == repr(m)
        assert other[0].connection is flux.add
        assert other[0].layer is not m[0].layer
        np.testing.assert_array_equal(other(array(2, 3)).data, m(array(2, 3)).data)
