"""What a Tensor is and refuses to be."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.autograd import Buffer, Param, Tensor


def test_tensor_copies_and_params_do_not():
    a = np.ones(2)
    assert not np.shares_memory(flux.tensor(a).data, a)
    assert Param(a).data is a


def test_python_floats_become_float32_and_arrays_keep_their_dtype():
    assert flux.tensor([1.0, 2.0]).dtype == np.float32
    assert flux.tensor(1).dtype == np.int64
    assert flux.tensor(np.ones(2)).dtype == np.float64
    assert flux.tensor(np.ones(2), dtype="float32").dtype == np.float32


def test_arrays_and_tensors_mix_on_both_sides():
    a, t = np.array([1.0, 2.0]), Tensor(np.array([3.0, 4.0]))
    for y in (a + t, t + a):
        assert isinstance(y, Tensor)
        assert y.data.tolist() == [4, 6]
    assert (a - t).data.tolist() == [-2, -2]
    assert (2 / t).data.tolist() == [2 / 3, 0.5]
    assert Tensor.__array_ufunc__ is None


def test_numpy_functions_raise_and_name_ours():
    x = flux.tensor([1.0], requires_grad=True)
    with pytest.raises(TypeError, match=r"numpy\.sum does not take a Tensor: use minitorch_flux\.sum"):
        np.sum(x)
    with pytest.raises(TypeError, match="Tensor"):
        np.exp(x)
    with pytest.raises(TypeError, match=r"numpy\.asarray cannot take a recorded Tensor.*\.numpy\(\)"):
        np.asarray(x)
    assert np.asarray(Tensor(np.ones(2))).tolist() == [1, 1]


def test_numpy_is_a_read_only_view_of_what_is_recorded():
    w = Param(np.ones(2))
    view = w.numpy()
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 2
    w.data[0] = 5
    assert view[0] == 5
    free = Tensor(np.ones(2)).numpy()
    free[0] = 3
    b = Buffer(np.zeros(1))
    assert not b.requires_grad


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
    assert f"{Tensor(np.array(1.23456)):.2f}" == "1.23"


def test_repr_says_what_matters():
    assert repr(Tensor(np.ones(2, np.float32))) == "Tensor([1., 1.])"
    assert "dtype=float64" in repr(Tensor(np.ones(2)))
    assert "requires_grad=True" in repr(flux.tensor([1.0], requires_grad=True))
    assert "made by multiply" in repr(flux.tensor([1.0], requires_grad=True) * 2)


def test_requires_grad_of_results_cannot_be_set():
    y = flux.tensor([1.0], requires_grad=True) * 2
    with pytest.raises(ValueError, match="leaves only; this tensor was computed by multiply"):
        y.requires_grad = False
    d = y.detach()
    assert d.node is None
    assert np.shares_memory(d.data, y.data)


def test_tensors_hash_by_identity():
    a, b = Tensor(np.ones(1)), Tensor(np.ones(1))
    assert len({a, b}) == 2
