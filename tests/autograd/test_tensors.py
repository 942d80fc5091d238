"""What a Tensor is and refuses to be."""

import copy
import inspect
import pickle

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.autograd import Buffer, Param, Tensor


def test_tensor_copies_and_params_do_not():
    a = np.ones(2)
    assert not np.shares_memory(flux.tensor(a).data, a)
    assert Param(a).data is a


def test_a_tensor_of_a_tensor_is_a_constant_that_shares_its_memory():
    w = Param(np.ones(2))
    t = Tensor(w)
    assert t.data is w.data
    assert t.base is w
    x = flux.tensor([1.0], requires_grad=True)
    assert Tensor(x * 2).node is None
    for kind in (Param, Buffer, flux.tensor):  # these never share
        assert not np.shares_memory(kind(w).data, w.data)


def test_python_floats_become_float32_and_arrays_keep_their_dtype():
    assert flux.tensor([1.0, 2.0]).dtype == np.float32
    assert flux.tensor(1).dtype == np.int64
    assert flux.tensor(np.ones(2)).dtype == np.float64
    assert flux.tensor(np.ones(2), dtype="float32").dtype == np.float32
    assert flux.tensor(True).dtype == np.bool_
    assert flux.tensor(np.float16(1)).dtype == np.float16
    torch = pytest.importorskip("torch")
    assert flux.tensor(torch.ones(2, dtype=torch.float64)).dtype == np.float64


def test_only_numbers_make_tensors():
    for x in ("abc", None, object(), [1, "a"], {"a": 1}):
        with pytest.raises(TypeError, match="cannot make an array of"):
            flux.tensor(x)
    for a in (np.array(["a"]), np.array([None, 1]), np.array(["2026-01-01"], "M8[D]"), np.zeros(2, "f4,i4")):
        with pytest.raises(TypeError, match=r"dtype .* does not hold numbers: convert it first"):
            Tensor(a)
    with pytest.raises(TypeError, match=r"masked array \(shape \(2,\)\) would lose its mask.*\.filled\(value\)"):
        Tensor(np.ma.array([1.0, 2.0], mask=[True, False]))
    with pytest.raises(TypeError, match="Param: complex"):
        Param(np.ones(2) * 1j)


def test_subclasses_and_foreign_byte_orders_become_plain_arrays(tmp_path):
    class Matrix(np.ndarray):  # as numpy.matrix does
        def __mul__(self, other):
            return self @ other

    m = np.array([[1.0, 2.0], [3.0, 4.0]]).view(Matrix)
    t = Tensor(m)
    assert type(t.data) is np.ndarray
    for y in (t * t, t * m, flux.multiply(m, m)):
        assert y.data.tolist() == [[1, 4], [9, 16]]
    on_disk = np.memmap(tmp_path / "a", np.float32, "w+", shape=(3,))
    w = Param(on_disk)
    assert type(w.data) is np.ndarray
    w.data[:] = 7
    assert on_disk.tolist() == [7, 7, 7]
    swapped = np.arange(100_000, dtype=">f4")
    t = Tensor(swapped)
    assert t.dtype.isnative
    assert flux.softmax(t).data.sum() == pytest.approx(1)
    assert flux.relu(swapped).data.tolist() == swapped.tolist()


def test_arrays_and_tensors_mix_on_both_sides():
    a, t = np.array([1.0, 2.0]), Tensor(np.array([3.0, 4.0]))
    for y in (a + t, t + a):
        assert isinstance(y, Tensor)
        assert y.data.tolist() == [4, 6]
    assert (a - t).data.tolist() == [-2, -2]
    assert (2 / t).data.tolist() == [2 / 3, 0.5]
    assert Tensor.__array_ufunc__ is None


def test_numpys_operators_reach_ours_from_every_side():
    a, t = np.arange(1.0, 3.0), Tensor(np.array([3.0, 4.0]))
    x = flux.tensor(a, requires_grad=True)
    for f in (lambda p, q: p + q, lambda p, q: p - q, lambda p, q: p * q, lambda p, q: p / q, lambda p, q: p**q,
              lambda p, q: p // q, lambda p, q: p % q, lambda p, q: p @ q, lambda p, q: p < q, lambda p, q: p == q,
              lambda p, q: p >= q, lambda p, q: p != q):
        for p, q in ((a, t), (t, a), (t, t), (a, x), (np.float64(2), t), (t, np.float64(2)), (2, t), (t, 2)):
            try:
                wanted = f(*(v.data if isinstance(v, Tensor) else v for v in (p, q)))
            except ValueError:
                continue  # 2 @ t
            y = f(p, q)
            assert isinstance(y, Tensor)
            np.testing.assert_array_equal(y.data, wanted)
    with pytest.raises(TypeError, match="Tensor"):
        a += t


def test_numpy_functions_raise_and_name_ours():
    x = flux.tensor([1.0], requires_grad=True)
    with pytest.raises(TypeError, match=r"numpy\.sum does not take a Tensor: use minitorch_flux\.sum"):
        np.sum(x)
    with pytest.raises(TypeError, match=r"numpy\.concatenate does not take a Tensor"):
        np.concatenate([np.ones(1), x])
    with pytest.raises(TypeError, match="Tensor"):
        np.exp(x)
    for out in (np.asarray, np.array, lambda t: np.array([t, t]), lambda t: np.asarray(t * 2)):
        with pytest.raises(TypeError, match=r"numpy\.asarray cannot take a recorded Tensor.*\.numpy\(\)"):
            out(x)
    plain = Tensor(np.ones(2))
    assert np.asarray(plain).tolist() == [1, 1]
    assert np.asarray(plain, np.float32).dtype == np.float32
    assert not np.shares_memory(np.array(plain), plain.data)
    with flux.no_grad():
        assert np.asarray(x).tolist() == [1]
    w = Param(np.ones(2))
    assert np.asarray(w).tolist() == [1, 1]
    with flux.record(), pytest.raises(TypeError, match="recorded Tensor"):
        np.asarray(w)


def test_tensors_index_numpy_arrays():
    a = np.arange(5) * 10
    assert a[Tensor(np.array(2))] == 20
    assert a[Tensor(np.array([0, 3]))].tolist() == [0, 30]
    assert a[Tensor(a > 15)].tolist() == [20, 30, 40]
    with pytest.raises(IndexError):
        a[Tensor(np.array([0.5]))]


def read_only(a):
    with pytest.raises(ValueError, match="read-only"):
        a[...] = 9
    return True


def test_numpy_is_a_read_only_view_of_what_is_recorded():
    w = Param(np.ones(2))
    view = w.numpy()
    assert read_only(view)
    w.data[0] = 5
    assert view[0] == 5
    free = Tensor(np.ones(2)).numpy()
    free[0] = 3
    Tensor(np.ones(2))[:1].numpy()[0] = 3
    flux.Dense(2, 2)(np.ones(2)).detach().numpy()[0] = 3
    b = Buffer(np.zeros(1))
    assert read_only(b.numpy())
    assert not b.requires_grad
    assert read_only(flux.freeze(w).numpy())


def test_no_way_round_a_recorded_value_is_writable():
    w = Param(np.ones((2, 2)))
    x = flux.tensor(np.ones((2, 2)), requires_grad=True)
    y = x * 2.0
    for t in (w, x, y):
        assert read_only(t.numpy())
        assert read_only(t.detach().numpy())
        assert read_only(t.detach()[0].numpy())
        assert read_only(Tensor(t).numpy())
        with flux.no_grad():
            for view in (t[0], t.T, t.reshape(4), flux.broadcast_to(t, (3, 2, 2)), flux.split(t, 2)[1], t.astype(t.dtype)):
                assert read_only(view.numpy())
            (t * 1.0).numpy()[0] = 3  # memory of its own


def test_tensors_cannot_be_changed_in_place():
    x = Tensor(np.ones(2))
    with pytest.raises(TypeError, match=r"flux\.where"):
        x[0] = 3.0


def test_truth_length_and_numbers():
    assert bool(Tensor(np.array(1.0)))
    assert float(Tensor(np.array([2.5]))) == 2.5
    assert int(Tensor(np.array(3))) == 3
    assert [10, 20][Tensor(np.array(1))] == 20
    assert len(Tensor(np.ones((3, 2)))) == 3
    with pytest.raises(ValueError, match="2 elements is ambiguous"):
        bool(Tensor(np.ones(2)))
    with pytest.raises(TypeError, match="without axes"):
        len(Tensor(np.array(1.0)))
    assert f"{Tensor(np.array(1.23456)):.2f}" == f"{Tensor(np.array([1.23456])):.2f}" == "1.23"
    assert f"{Tensor(np.ones(2, np.float32))}" == "Tensor([1., 1.])"
    with pytest.raises(TypeError, match=r"format '\.2f' is for one number, this Tensor has shape \(2,\)"):
        f"{Tensor(np.ones(2)):.2f}"
    for convert in (float, int, lambda t: t.item()):
        with pytest.raises((TypeError, ValueError), match="size 1"):
            convert(Tensor(np.ones(2)))
    with pytest.raises(TypeError):
        [1, 2][Tensor(np.array(1.0))]
    assert Tensor(np.arange(4).reshape(2, 2)).tolist() == [[0, 1], [2, 3]]


def test_containment_and_iteration():
    t = Tensor(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert 3.0 in t
    assert 5 not in t
    assert Tensor(np.array(4.0)) in t
    assert [row.tolist() for row in t] == [[1, 2], [3, 4]]
    assert [row.tolist() for row in reversed(t)] == [[3, 4], [1, 2]]
    a, b = t
    assert b.tolist() == [3, 4]
    x = flux.tensor(np.arange(3.0), requires_grad=True)
    first, *_, last = x
    (first * 2.0 + last * 3.0).backward()
    assert x.grad.tolist() == [2, 0, 3]
    assert list(Tensor(np.ones((0, 2)))) == []


def test_copies():
    for t in (Param(np.ones(2)), Buffer(np.ones(2)), flux.tensor([1.0], requires_grad=True), Tensor(np.ones(2))[:1]):
        t.grad = np.ones(2)
        for other in (copy.deepcopy(t), copy.copy(t), pickle.loads(pickle.dumps(t))):
            assert type(other) is type(t)
            assert other.track == t.track
            assert other.tolist() == t.tolist()
            assert other.grad is other.base is None
            assert not np.shares_memory(other.data, t.data)
    y = flux.tensor([1.0], requires_grad=True) * 2
    for how, make in (("copy", copy.copy), ("copy", copy.deepcopy), ("pickle", pickle.dumps)):
        with pytest.raises(TypeError, match=rf"a {how} of a tensor computed by multiply would leave the tape: use .detach"):
            make(y)
    layer = flux.Dense(2, 2)
    pair = copy.deepcopy([layer, layer.weight])
    assert pair[0].weight is pair[1]


def test_dlpack():
    t = Tensor(np.arange(6.0).reshape(2, 3))
    a = np.from_dlpack(t)
    assert np.shares_memory(a, t.data)
    torch = pytest.importorskip("torch")
    assert torch.from_dlpack(t).tolist() == t.tolist()
    x = flux.tensor([1.0], requires_grad=True)
    with pytest.raises(BufferError, match="DLPack cannot take a recorded Tensor"):
        np.from_dlpack(x)
    with pytest.raises(BufferError, match="read-?only"):
        Param(np.ones(2)).__dlpack__()
    assert flux.tensor(torch.ones(2)).tolist() == [1, 1]


def test_repr_says_what_matters():
    assert repr(Tensor(np.ones(2, np.float32))) == "Tensor([1., 1.])"
    assert "dtype=float64" in repr(Tensor(np.ones(2)))
    assert repr(Tensor(np.ones((2, 0), np.float32))) == "Tensor([], shape=(2, 0))"
    assert "requires_grad=True" in repr(flux.tensor([1.0], requires_grad=True))
    assert "made by multiply" in repr(flux.tensor([1.0], requires_grad=True) * 2)


def test_requires_grad_of_results_cannot_be_set():
    y = flux.tensor([1.0], requires_grad=True) * 2
    with pytest.raises(ValueError, match="leaves only; this tensor was computed by multiply"):
        y.requires_grad = False
    d = y.detach()
    assert d.node is None
    assert np.shares_memory(d.data, y.data)


def test_requires_grad_of_leaves():
    w = Param(np.ones(1))
    w.requires_grad = False
    assert w.track == 0
    w.requires_grad = True
    assert w.track == 1
    x = Tensor(np.ones(1))
    x.requires_grad = True
    assert (x * 2).node is not None
    with pytest.raises(TypeError, match="a Buffer does not train; make the attribute a Param"):
        Buffer(np.ones(1)).requires_grad = True


def test_equality_is_elementwise():
    t = Tensor(np.array([1.0, 2.0]))
    assert (t == np.array([1.0, 3.0])).tolist() == [True, False]
    assert (t != 1).tolist() == [False, True]


def test_tensors_hash_by_identity():
    a, b = Tensor(np.ones(1)), Tensor(np.ones(1))
    assert len({a, b}) == 2


ARGUMENTS = [(), (0,), (1,), ((3, 4),), ((4, 3),), ((1, 0),), (0, 1), (None, None), (np.float32,), ([2],), (0, 0, None)]


def tensors_in(y):
    if isinstance(y, Tensor):
        yield y
    elif isinstance(y, tuple | list):
        for part in y:
            yield from tensors_in(part)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(12,), (3, 4), (1, 12)])
def test_no_function_and_no_method_hands_out_a_parameters_memory_unnoticed(shape):
    """Whatever shares a parameter's memory knows it, so that writes are seen through it and numpy() is read-only."""
    functions = {name: getattr(flux, name) for name in dir(flux) if callable(getattr(flux, name))}
    ours = "minitorch_flux.ops"
    functions = {n: f for n, f in functions.items() if getattr(inspect.unwrap(f), "__module__", "").startswith(ours)}
    methods = {f"Tensor.{n}": lambda w, *args, n=n: _get(w, n, args) for n in dir(Tensor) if n not in ("data", "backward")}
    assert len(functions) > 100
    shared = set()
    for name, f in {**functions, **methods}.items():
        for args in ARGUMENTS:
            w = Param(np.linspace(0.1, 0.9, 12, dtype=np.float32).reshape(shape))
            try:
                y = f(w, *args)
            except Exception:  # most arguments fit few functions
                continue
            if isinstance(y, np.ndarray):
                assert not (np.shares_memory(y, w.data) and y.flags.writeable), (name, args)
            for t in tensors_in(y):
                if t is not w and np.shares_memory(t.data, w.data):
                    shared.add(name)
                    assert t.base is w, (name, args)
    assert {"reshape", "transpose", "split", "Tensor.T", "Tensor.detach", "Tensor.ravel"} <= shared


def _get(w, name, args):
    value = getattr(w, name)
    return value(*args) if callable(value) else value
