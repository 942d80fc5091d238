"""The tape and the walk backwards: depth, sharing, freeing, and values that change behind the tape's back."""

import gc
import threading
import weakref

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.autograd import Param, TapeError, Tensor, operation


def leaf(*values, dtype=np.float64):
    return flux.tensor(np.array(values, dtype), requires_grad=True)


def test_a_graph_100_000_operations_deep_works_and_is_freed_without_a_stack():
    x = leaf(2.0)
    y = x
    for _ in range(100_000):
        y = y * 1.0
    y.backward()
    assert x.grad == 1.0
    for _ in range(100_000):  # a tape that no backward pass has freed is let go of without recursion, too
        y = y + 1.0
    del y
    gc.collect()


def test_a_value_used_twice_gets_the_sum_of_its_gradients():
    x = leaf(3.0)
    y = x * x
    (y * y + y).backward()  # x^4 + x^2
    assert x.grad == 4 * 27 + 6


def test_many_users_of_one_value_leave_the_gradients_that_they_share_alone():
    x = leaf(1.0, 2.0)
    dy = np.array([1.0, 1.0])
    a = x + 0.0
    (((a + a) + a) + a).backward(dy)
    assert x.grad.tolist() == [4, 4]
    assert dy.tolist() == [1, 1]


def test_gradients_accumulate_over_backward_passes_and_are_the_leafs_own():
    x, z = leaf(1.0), leaf(1.0)
    dy = np.array([1.0])
    (x + z).backward(dy)
    (x + z).backward(dy)
    assert x.grad == z.grad == 2
    w, v = leaf(1.0), leaf(1.0)
    (w + v).backward(dy)
    w.grad *= 10
    assert v.grad == 1
    assert dy == 1


def test_a_second_walk_needs_retain_graph():
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad == 8
    with pytest.raises(TapeError, match=r"multiply has been used and freed.*retain_graph=True"):
        y.backward()


def test_intermediates_are_freed_as_the_walk_passes_them():
    alive = []

    def forward(x):
        y = x * 2
        alive.append(weakref.ref(y))
        return y

    double = operation("test_double", forward, backward=lambda dy, out: dy * 2)
    x = leaf(1.0)
    y = double(double(double(x)))
    assert all(r() is not None for r in alive)
    z = y + 1.0
    del y
    z.backward()
    assert all(r() is None for r in alive)
    assert x.grad == 8


def test_only_what_the_gradient_asks_for_is_kept():
    x = leaf(*range(10))
    y = x + 1.0
    ref = weakref.ref(y)
    z = y + 1.0  # addition needs no values
    del y
    assert ref() is None
    z.backward(np.ones(10))


def test_a_parameter_that_changes_before_the_backward_pass_is_noticed():
    w = Param(np.ones(2))
    with flux.record():
        y = w * w
    w.data += 1
    w.version += 1
    with pytest.raises(TapeError, match=r"multiply saved a value of shape \(2,\).*changed in place"):
        y.backward(np.ones(2))


def test_a_view_of_a_parameter_notices_the_change_too():
    w = Param(np.ones(2))
    with flux.record():
        y = flux.broadcast_to(w, (3, 2)) * np.full((3, 2), 2.0) * flux.broadcast_to(w, (3, 2))
    w.version += 1
    with pytest.raises(TapeError, match="changed in place"):
        y.backward(np.ones((3, 2)))


def test_debug_names_the_operation_whose_saved_array_the_caller_wrote_to():
    x = leaf(1.0, 2.0)
    a = np.array([3.0, 4.0])
    with flux.debug():
        y = x * a
    a[0] = 7
    with pytest.raises(TapeError, match=r"multiply saved an array of shape \(2,\).*somebody wrote to"):
        y.backward(np.ones(2))
    with flux.debug():
        y = x * a
    y.backward(np.ones(2))
    assert x.grad.tolist() == [7, 4]


def test_backward_of_what_was_not_recorded_says_how_to_record():
    w = Param(np.ones(1))
    with pytest.raises(TapeError, match=r"flux\.record\(\).*withgradient"):
        (w * 2).backward()
    with pytest.raises(ValueError, match=r"one element, got shape \(2,\)"):
        (leaf(1.0, 2.0) * 2).backward()
    with pytest.raises(ValueError, match=r"incoming gradient has shape \(3,\), the value has \(2,\)"):
        (leaf(1.0, 2.0) * 2).backward(np.ones(3))


def test_parameters_are_recorded_in_a_scope_only_and_tensors_anywhere():
    w, x = Param(np.ones(1)), leaf(1.0)
    assert (w * 2).node is None
    assert (x * 2).node is not None
    with flux.record():
        assert (w * 2).node is not None
        with flux.no_grad():
            assert (w * 2).node is None
            assert (x * 2).node is None
        assert flux.is_recording()
    assert not flux.is_recording()


def test_the_scope_ends_with_an_error_in_it():
    with pytest.raises(KeyError), flux.record():
        raise KeyError
    assert not flux.is_recording()


def test_recording_belongs_to_the_thread():
    seen = []
    with flux.record():
        thread = threading.Thread(target=lambda: seen.append(flux.is_recording()))
        thread.start()
        thread.join()
    assert seen == [False]


def test_create_graph_records_the_backward_pass():
    x = leaf(3.0)
    (x * x * x).backward(create_graph=True)
    g = x.grad
    assert isinstance(g, Tensor)
    assert g.data == 27
    x.grad = None
    g.backward()
    assert x.grad == 18


def test_an_operation_without_a_second_derivative_raises():
    double = operation("test_first_order_only", lambda x: x * 2, backward=lambda dy: dy * 2)
    x = leaf(1.0)
    with pytest.raises(TapeError, match="test_first_order_only has no second derivative"):
        double(x).backward(create_graph=True)


def test_gradients_have_the_dtype_of_their_inputs():
    x = flux.tensor(np.ones(3, np.float32), requires_grad=True)
    y = x * np.ones(3, np.float64)
    assert y.dtype == np.float64
    (y * np.float64(2)).backward(np.ones(3))
    assert x.grad.dtype == np.float32


def test_numpy_scalars_and_python_numbers_do_not_widen():
    x = Tensor(np.ones(3, np.float32))
    for k in (2, 2.0, np.float64(2), np.int64(2)):
        assert (x * k).dtype == np.float32
        assert (k * x).dtype == np.float32


def test_integers_are_constants():
    i = Tensor(np.arange(3))
    x = leaf(1.0, 2.0, 3.0)
    (x * i).backward(np.ones(3))
    assert x.grad.tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match="only floating-point"):
        flux.tensor(np.arange(3), requires_grad=True)
    with pytest.raises(TypeError, match="Param must be floating-point"):
        Param(np.arange(3))


def test_complex_numbers_are_refused():
    with pytest.raises(TypeError, match="complex numbers are not supported"):
        flux.tensor(np.ones(2) * 1j)
    with pytest.raises(TypeError, match="multiply: complex"):
        leaf(1.0) * np.array([1j])


def test_zero_size_gradients():
    x = leaf()
    (x * 2.0).backward(np.ones(0))
    assert x.grad.shape == (0,)
