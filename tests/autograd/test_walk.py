"""The tape and the walk backwards: depth, sharing, freeing, and values that change behind the tape's back."""

import contextlib
import gc
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_an_error_in_the_middle_of_a_walk_writes_no_gradient():
    def fail(dy):
        raise FloatingPointError("by design")

    failing = operation("test_fails_backwards", lambda x: x * 2, backward=fail)
    x, y = leaf(2.0), leaf(3.0)
    x.grad = before = np.array([7.0])
    z = failing(y) + x * x  # x's part of the walk comes first: the later operation
    for _ in range(2):
        with pytest.raises(FloatingPointError, match="by design"):
            z.backward(retain_graph=True)
        assert x.grad is before
        assert y.grad is None
    with pytest.raises(FloatingPointError):
        z.backward()
    with pytest.raises(TapeError, match="used and freed"):  # a walk that frees cannot be taken up again
        z.backward()
    assert x.grad is before
    assert not flux.is_recording()


def test_a_gradient_of_a_wrong_shape_or_number_is_reported_and_not_written():
    wrong_shape = operation("test_wrong_shape", lambda x: x * 2, backward=lambda dy: np.ones(3))
    x, y = leaf(1.0), leaf(1.0)
    with pytest.raises(TapeError, match=r"gradient of shape \(3,\) arrived at a leaf of shape \(1,\)"):
        (wrong_shape(x) + y).backward()
    assert x.grad is y.grad is None
    too_many = operation("test_too_many", lambda x: x * 2, backward=lambda dy: (dy, dy))
    with pytest.raises(TapeError, match="gradient of test_too_many returned 2 values for 1 inputs"):
        too_many(x).backward()
    unknown = operation("test_unknown_keyword", lambda x: x * 2, backward=lambda dy, alpha: dy)
    with pytest.raises(TapeError, match="test_unknown_keyword asks for 'alpha', which its forward does not know"):
        unknown(x).backward()
    x.grad = np.ones(5)
    with pytest.raises(ValueError, match=r"leaf of shape \(1,\) has shape \(5,\); set it to None"):
        (x * 2).backward()
    with pytest.raises(ValueError, match="two operations called 'test_too_many'"):
        operation("test_too_many", lambda x: x)
    assert repr(too_many) == "<operation test_too_many>"


def test_a_stored_gradient_that_somebody_holds_is_left_alone_by_the_next_pass():
    x = leaf(1.0, 2.0)
    (x * 2.0).backward(np.ones(2))
    held = x.grad
    (x * 3.0).backward(np.ones(2))
    assert held.tolist() == [2, 2]
    assert x.grad.tolist() == [5, 5]
    x.grad = None
    (x * 3.0).backward(np.ones(2), create_graph=True)
    (x * 3.0).backward(np.ones(2), create_graph=True)
    assert x.grad.data.tolist() == [6, 6]
    x.grad = None


def test_stored_gradients_share_memory_with_nothing():
    x, z, w = leaf(1.0, 2.0), leaf(1.0, 2.0), flux.tensor(np.ones((1, 2)), requires_grad=True)
    dy = np.ones(2)
    (x + z + w.reshape(2) + x[::-1]).backward(dy)
    grads = [dy, x.grad, z.grad, w.grad]
    for i, a in enumerate(grads):
        assert a.flags.writeable
        for b in grads[:i]:
            assert not np.shares_memory(a, b)
    y = leaf(1.0, 2.0, 3.0)
    y.sum().backward()  # the gradient of sum is one number stretched
    y.grad *= np.array([1, 2, 3])
    assert y.grad.tolist() == [1, 2, 3]


def test_gradients_without_axes_are_arrays():
    x = flux.tensor(np.array(3.0), requires_grad=True)
    (x * x + x).backward()
    assert type(x.grad) is np.ndarray
    assert x.grad == 7


def test_a_leaf_itself_can_start_a_walk():
    x = flux.tensor([2.0], requires_grad=True)
    x.backward(np.array([3.0]))  # float64
    assert x.grad.dtype == np.float32
    x.backward(Tensor(np.array([4.0])))
    assert x.grad == 7
    assert x.grad.dtype == np.float32
    w = Param(np.ones(1))
    with flux.record():
        w.backward()
    assert w.grad == 1
    with pytest.raises(TypeError, match=r"backward\(\): complex"):
        x.backward(np.array([1j]))


def test_unused_outputs_of_an_operation_get_no_gradient():
    x = leaf(1.0, 2.0, 3.0, 4.0)
    a, b, c = flux.split(x, [1, 3])
    ((b * b).sum() + (b * 10.0).sum()).backward()
    assert x.grad.tolist() == [0, 14, 16, 0]
    assert a.node is c.node


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


@pytest.mark.parametrize("training", ["withgradient", "tape", "vjp", "hessian", "custom", "debug", "error", "views"])
def test_a_step_leaves_nothing_for_the_cycle_collector(training):
    model = flux.Chain(flux.Dense(3, 4, flux.tanh), flux.Dense(4, 2))
    opt = flux.setup(flux.Adam(), model)
    x = np.ones((5, 3), np.float32)
    loss = lambda m: (m(x) ** 2).sum()  # noqa: E731

    @flux.custom_gradient
    def exp(x):
        y = flux.exp(x)
        return y, lambda dy: dy * y

    def step():
        if training in ("withgradient", "debug"):
            with flux.debug(training == "debug"):
                _, grads = flux.withgradient(loss, model)
            flux.update(opt, model, grads)
        elif training == "tape":
            with flux.record():
                value = loss(model)
            value.backward()
            flux.update(opt, model)
        elif training == "vjp":
            flux.vjp(flux.tanh, x)[1](x)
        elif training == "hessian":
            flux.hessian(lambda t: (t * t * t).sum(), np.ones(3))
        elif training == "custom":
            flux.gradient(lambda t: exp(t).sum(), x)
        elif training == "error":
            with pytest.raises(ValueError, match="features"):
                flux.gradient(lambda m: m(np.ones((5, 7))).sum(), model)
        else:
            t = flux.tensor(x, requires_grad=True)
            a, b, _ = flux.split(t.T, 3)
            (a * b.detach()).sum().backward()

    step()
    gc.collect()
    gc.disable()
    try:
        step()
        assert gc.collect() == 0
    finally:
        gc.enable()


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


VIEWS = {
    "itself": lambda w: w,
    "transpose": lambda w: w.T,
    "reshape": lambda w: w.reshape(3, 2),
    "ravel": lambda w: w.ravel(),
    "slice": lambda w: w[:, 1:],
    "row": lambda w: w[0],
    "slice of a slice": lambda w: w[:, 1:].T[::-1],
    "new axis": lambda w: flux.expand_dims(w, 0),
    "broadcast_to": lambda w: flux.broadcast_to(w, (4, 2, 3)),
    "flip": lambda w: flux.flip(w),
    "split": lambda w: flux.split(w, 3, axis=1)[1],
    "unstack": lambda w: list(w)[1],
    "detach": lambda w: w.detach(),
    "detach of a view": lambda w: w.T.detach()[1],
    "view of a detached": lambda w: w.detach().T,
    "Tensor of it": lambda w: Tensor(w),
    "same dtype": lambda w: w.astype(w.dtype),
}
COPIES = {
    "reshape that copies": lambda w: w.T.reshape(6),
    "astype": lambda w: w.astype(np.float64),
    "copy": lambda w: w.copy(),
    "index array": lambda w: w[[0, 1]],
    "arithmetic": lambda w: w + 0.0,
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("made", ["inside", "outside"])
def test_a_view_of_a_parameter_notices_its_change(name, made):
    w, x = Param(np.ones((2, 3), np.float32)), flux.tensor(1.0, requires_grad=True)
    early = VIEWS[name](w)
    with flux.record():
        v = early if made == "outside" else VIEWS[name](w)
        assert np.shares_memory(v.data, w.data)
        y = (x * v).sum()
    flux.update(flux.setup(flux.Descent(0.1), w), w, np.ones((2, 3), np.float32))
    with pytest.raises(TapeError, match=r"multiply saved a value of shape \(2, 3\).*changed in place"):
        y.backward()


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_of_a_parameter_may_outlive_its_change(name):
    w, x = Param(np.ones((2, 3), np.float32)), flux.tensor(1.0, requires_grad=True)
    with flux.record():
        v = COPIES[name](w)
        y = (x * v).sum()
    flux.update(flux.setup(flux.Descent(0.1), w), w, np.ones((2, 3), np.float32))
    y.backward()
    assert x.grad == 6


def test_every_write_of_the_library_is_counted():
    layer = flux.Dense(2, 2)
    writes = {
        "update": lambda: flux.update(flux.setup(flux.Adam(), layer), layer, flux.gradient(
            lambda m: m(np.ones((1, 2), np.float32)).sum(), layer)),
        "load_state_dict": lambda: layer.load_state_dict(layer.state_dict()),
    }
    for name, write in writes.items():
        before = layer.weight.version
        write()
        assert layer.weight.version == before + 1, name


def test_debug_names_the_operation_whose_saved_array_the_caller_wrote_to():
    x = leaf(1.0, 2.0)
    a = np.array([3.0, 4.0])
    view = a[::-1]
    with flux.debug():
        y = x * a
    view[0] = 7  # through a view that the tape has never seen
    with pytest.raises(TapeError, match=r"multiply saved an array of shape \(2,\).*somebody wrote to"):
        y.backward(np.ones(2))
    y = x * a
    a[0] = 1  # without debug nobody looks
    y.backward(np.ones(2))


def test_debug_sees_outputs_and_exchanged_arrays_too():
    x = leaf(1.0, 2.0)
    with flux.debug():
        y = flux.exp(x)
    y.data[0] = 0
    with pytest.raises(TapeError, match="exp saved an array"):
        y.backward(np.ones(2))
    x = leaf(1.0, 2.0)
    with flux.debug():
        y = x * x
    x.data = np.array([5.0, 6.0])
    with pytest.raises(TapeError, match=r"multiply saved a tensor of shape \(2,\).*\.data was exchanged"):
        y.backward(np.ones(2))


def test_debug_raises_no_false_alarm():
    model = flux.Chain(flux.Dense(3, 4, flux.relu), flux.Dense(4, 4, flux.gelu), flux.Dense(4, 2))
    opt = flux.setup(flux.Adam(), model)
    x = np.array([[1.0, np.nan, -np.inf], [0, 1, 2]], np.float32)
    with flux.debug(), np.errstate(all="ignore"):
        for _ in range(3):
            value, grads = flux.withgradient(lambda m: flux.logsumexp(m(x)[:, ::-1].T.reshape(-1)), model)
            flux.update(opt, model, grads)
            t = flux.tensor(np.ones((2, 3)), requires_grad=True)
            y = (flux.broadcast_to(t, (4, 2, 3)) * t.detach() + t.T.reshape(2, 3)).sum()
            y.backward(retain_graph=True)
            y.backward()
            z = flux.tensor(np.zeros((0, 3)), requires_grad=True)
            (z * z).sum().backward()
        pictures = np.ones((3, 2, 8, 8), np.float32)
        convolutional = flux.Chain(flux.Conv((3, 3), 2, 4, flux.gelu, pad=1), flux.MaxPool((2, 2)),
                                   flux.Conv((3, 3), 4, 4, flux.relu), flux.flatten, flux.Dense(16, 3))
        opt = flux.setup(flux.Adam(), convolutional)
        for _ in range(3):
            loss = lambda m: flux.losses.logitcrossentropy(m(pictures), np.arange(3))  # noqa: E731
            flux.update(opt, convolutional, flux.gradient(loss, convolutional))


def test_debug_belongs_to_the_thread_and_ends():
    from minitorch_flux.autograd.recording import state

    seen = []
    with flux.debug():
        assert state.debug
        thread = threading.Thread(target=lambda: seen.append(state.debug))
        thread.start()
        thread.join()
        with flux.debug(False):
            assert not state.debug
        assert state.debug
    assert not state.debug
    assert seen == [False]


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


@given(st.lists(st.sampled_from(["record", "no_grad", "gradient", "fail"]), max_size=6))
def test_the_innermost_scope_rules_and_the_one_before_comes_back(scopes):
    w, x = Param(np.ones(1)), leaf(1.0)

    def recorded():
        return flux.is_recording(), (w * 1.0).node is not None, (x * 1.0).node is not None

    wanted = {"record": (True, True, True), "gradient": (True, True, True), "no_grad": (False, False, False)}

    def enter(rest, now):
        assert recorded() == now
        if not rest:
            return
        name, *rest = rest
        if name == "fail":
            with contextlib.suppress(KeyError), flux.record():
                enter(rest, wanted["record"])
                raise KeyError
        elif name == "gradient":
            flux.gradient(lambda t: (enter(rest, wanted[name]), t * 1.0)[1], 1.0)
        else:
            with getattr(flux, name)():
                enter(rest, wanted[name])
        assert recorded() == now

    enter(scopes, (False, False, True))


@pytest.mark.parametrize("scope", [flux.record, flux.no_grad])
def test_a_scope_object_may_be_entered_inside_itself(scope):
    one = scope()
    with one:
        with one, flux.record():
            pass
        assert flux.is_recording() == (scope is flux.record)
    assert not flux.is_recording()
    x = leaf(1.0)
    assert (x * 2).node is not None


def test_a_scope_object_may_be_shared_by_threads():
    shared = flux.no_grad()
    go = [threading.Event() for _ in range(2)]
    seen = []

    def other():
        with flux.record():
            go[0].wait()
            with shared:  # entered after and left before the first thread's
                seen.append(flux.is_recording())
            seen.append(flux.is_recording())
        go[1].set()

    thread = threading.Thread(target=other)
    thread.start()
    with shared:
        go[0].set()
        go[1].wait()
    thread.join()
    assert seen == [False, True]
    assert not flux.is_recording()
    assert (leaf(1.0) * 2).node is not None


def test_threads_record_and_walk_without_getting_in_each_others_way():
    w = Param(np.full(50, 2.0))
    results = [None] * 4

    def work(k):
        for _ in range(30):
            results[k] = flux.gradient(lambda p: (p**3).sum() * (k + 1.0), w)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k, g in enumerate(results):
        np.testing.assert_array_equal(g, 12.0 * (k + 1))
    assert w.grad is None


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


def test_an_ordinary_pass_calls_the_backward_function_and_a_recorded_one_the_rule():
    calls = []

    def backward(dy):
        calls.append(type(dy))
        return dy * 3

    def rule(dy, x):
        calls.append(type(dy))
        assert flux.is_recording() or not isinstance(dy, Tensor) or dy.node is None
        return dy * 3 + x * 0.0

    both = operation("test_two_gradients", lambda x: x * 3, backward=backward, rule=rule)
    only_rule = operation("test_only_a_rule", lambda x: x * 3, rule=rule)
    one_text = operation("test_one_text", lambda x: x * 3, gradient=backward)
    x = leaf(1.0)
    for op, plain, recorded in ((both, np.ndarray, Tensor), (only_rule, Tensor, Tensor), (one_text, np.ndarray, Tensor)):
        for create_graph, kind in ((False, plain), (True, recorded)):
            calls.clear()
            op(x).backward(create_graph=create_graph)
            assert calls == [kind]
            assert x.grad == 3
            assert isinstance(x.grad, Tensor) == create_graph
            x.grad = None


def test_gradients_have_the_dtype_of_their_inputs():
    x = flux.tensor(np.ones(3, np.float32), requires_grad=True)
    y = x * np.ones(3, np.float64)
    assert y.dtype == np.float64
    (y * np.float64(2)).backward(np.ones(3))
    assert x.grad.dtype == np.float32


def test_numpy_scalars_and_python_numbers_do_not_widen():
    x = Tensor(np.ones(3, np.float32))
    for k in (2, 2.0, True, np.float64(2), np.int64(2), np.bool_(True)):
        assert (x * k).dtype == np.float32
        assert (k * x).dtype == np.float32
        assert (np.ones(3, np.float32) * Tensor(np.float32(1)) * k).dtype == np.float32


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
    for z in (np.array([1j]), 1j, np.complex64(1j)):
        with pytest.raises(TypeError, match="multiply: complex"):
            leaf(1.0) * z
    with pytest.raises(TypeError, match="Tensor: complex"):
        Tensor(np.ones(2) * 1j)


def test_zero_size_gradients():
    x = leaf()
    (x * 2.0).backward(np.ones(0))
    assert x.grad.shape == (0,)
