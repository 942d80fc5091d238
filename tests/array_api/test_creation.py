"""Memory shared with NumPy, PyTorch and others (DLPack), and what NumPy makes of a tensor (``__array__``)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import Param, Tensor
from minitorch_flux.backend import find_cupy

torch = pytest.importorskip("torch")

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64"]


# -- out ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_and_torch_share_a_tensor_s_memory(dtype):
    data = np.arange(12).reshape(3, 4).astype(dtype)
    t = Tensor(data)
    a, b = np.from_dlpack(t), torch.from_dlpack(t)
    assert a.dtype == data.dtype
    assert str(b.dtype) == f"torch.{dtype}"
    data[1, 2] = 0  # written here, read there
    assert a[1, 2] == 0
    assert b[1, 2] == 0
    b[2, 3] = 1  # and back
    assert t.numpy()[2, 3] == 1
    assert t.__dlpack_device__() == (1, 0)


@given(st.data())
def test_any_view_is_shared_as_it_is(data):
    base = np.arange(60.0).reshape(3, 4, 5)
    steps = [slice(data.draw(st.integers(0, 2)), None, data.draw(st.integers(1, 2))) for _ in range(3)]
    view = base.transpose(data.draw(st.permutations(range(3))))[tuple(steps)]
    for shared in (np.from_dlpack(Tensor(view)), torch.from_dlpack(Tensor(view)).numpy()):
        assert shared.strides == view.strides or not view.size
        np.testing.assert_array_equal(shared, view)
        assert not view.size or np.shares_memory(shared, base)


def test_what_is_stretched_is_shared_to_be_read():
    t = flux.broadcast_to(np.ones((1, 3)), (4, 3))
    assert torch.from_dlpack(t).shape == (4, 3)
    assert not np.from_dlpack(t).flags.writeable


def test_parameters_are_shared_to_be_read_only():
    layer = flux.Dense(2, 3)
    a = np.from_dlpack(layer.weight)
    assert np.shares_memory(a, layer.weight.data)
    assert not a.flags.writeable
    assert torch.from_dlpack(layer.weight).tolist() == layer.weight.tolist()  # PyTorch knows no read-only memory
    with pytest.raises(BufferError, match="read-?only"):
        layer.weight.__dlpack__()  # a reader that cannot be told


def test_recorded_tensors_are_refused_and_detached_ones_are_not():
    x = flux.tensor(np.ones(2), requires_grad=True)
    for t in (x, x * 2):
        with pytest.raises(BufferError, match=r"DLPack cannot take a recorded Tensor \(shape \(2,\)\).*\.detach\(\)"):
            torch.from_dlpack(t)
        assert np.shares_memory(np.from_dlpack(t.detach()), t.data)
    layer = flux.Dense(2, 3)
    with flux.record(), pytest.raises(BufferError, match="recorded Tensor"):
        np.from_dlpack(layer.weight)


def test_an_axis_that_runs_backwards_is_refused():
    t = flux.flip(np.arange(3.0))
    with pytest.raises(BufferError, match=r"an axis of this Tensor .*strides \(-8,\)\) runs backwards.*\.copy\(\)"):
        torch.from_dlpack(t)
    assert torch.from_dlpack(t.copy()).tolist() == [2, 1, 0]
    assert np.from_dlpack(t, copy=True).tolist() == [2, 1, 0]
    assert torch.from_dlpack(flux.flip(np.ones((1, 2)), 0)).tolist() == [[1, 1]]  # one element has no direction


def test_bfloat16_says_what_to_do():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    t = Tensor(np.array([1.5, -2.0], ml_dtypes.bfloat16))
    with pytest.raises(BufferError, match=r"NumPy cannot export bfloat16: convert it first.*\.view\('int16'\)"):
        torch.from_dlpack(t)
    bits = torch.from_dlpack(t.numpy().view("int16")).view(torch.bfloat16)  # as the message says
    assert bits.tolist() == [1.5, -2.0]


def test_the_protocol_s_keywords():
    t = Tensor(np.arange(3.0))
    assert not np.shares_memory(np.from_dlpack(t, copy=True), t.data)
    assert np.shares_memory(np.from_dlpack(t, copy=False, device="cpu"), t.data)
    assert "dltensor_versioned" in repr(t.__dlpack__(max_version=(1, 0)))
    assert '"dltensor"' in repr(t.__dlpack__())


# -- in ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_from_dlpack_shares_torch_s_memory(dtype):
    theirs = torch.arange(12).reshape(3, 4).to(getattr(torch, dtype))
    t = flux.from_dlpack(theirs)
    assert type(t) is Tensor
    assert t.dtype == np.dtype(dtype)
    theirs[1, 2] = 0
    assert t[1, 2].item() == 0
    t.data[0, 0] = 1
    assert theirs[0, 0].item() == 1


def test_from_dlpack_of_views_and_of_numpy():
    theirs = torch.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1)[::2, :, 1:]
    t = flux.from_dlpack(theirs)
    assert t.tolist() == theirs.tolist()
    assert t.data.ctypes.data == theirs.data_ptr()
    a = np.arange(3.0)
    assert np.shares_memory(flux.from_dlpack(a).data, a)
    assert np.shares_memory(flux.from_dlpack(Tensor(a)).data, a)
    a.flags.writeable = False
    assert not flux.from_dlpack(a).data.flags.writeable
    assert flux.from_dlpack(torch.zeros(0, 3)).shape == (0, 3)
    assert flux.from_dlpack(torch.tensor(2.5)).item() == 2.5
    assert flux.array_api.asarray(torch.ones(2)).tolist() == [1, 1]


def test_ops_and_gradients_go_through_shared_memory():
    theirs = torch.randn(4, 3)
    layer = flux.Dense(3, 2)
    loss, gradient = flux.withgradient(lambda m: (m(flux.from_dlpack(theirs)) ** 2).sum(), layer)
    weight = torch.from_dlpack(layer.weight).clone().requires_grad_()
    expected = ((theirs @ weight.T + torch.from_dlpack(layer.bias)) ** 2).sum()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient.weight, weight.grad.numpy(), rtol=1e-4)


def test_the_memory_lives_as_long_as_its_last_holder():
    import gc

    t = flux.from_dlpack(torch.full((1000,), 7.0))  # PyTorch's own name is gone
    back = torch.from_dlpack(Tensor(np.full(1000, 5.0)))
    gc.collect()
    others = [np.zeros(1000) for _ in range(50)]
    assert (t.data == 7).all()
    assert (back == 5).all()
    del others


def test_copy_and_device():
    theirs = torch.ones(2)
    assert not np.shares_memory(flux.from_dlpack(theirs, copy=True).data, theirs.numpy())
    assert np.shares_memory(flux.from_dlpack(theirs, copy=False, device="cpu").data, theirs.numpy())
    if not torch.cuda.is_available():
        with pytest.raises((flux.DeviceError, ValueError)):
            flux.from_dlpack(theirs, device="cuda:0")
    with pytest.raises(ValueError, match="from cpu to cuda:0 is a copy, and copy=False forbids one"):
        flux.from_dlpack(theirs, device="cuda:0", copy=False)


class Elsewhere:
    """An array on a device of DLPack's that is not ours."""

    def __dlpack_device__(self):
        return (8, 0)

    def __dlpack__(self, **keywords):
        raise AssertionError


def test_refusals():
    with pytest.raises(TypeError, match=r"from_dlpack: a list has no __dlpack__ and __dlpack_device__; flux\.tensor\(x\)"):
        flux.from_dlpack([1, 2])
    with pytest.raises(flux.DeviceError, match=r"DLPack's device type 8 is neither the CPU \(1\) nor a CUDA device \(2\)"):
        flux.from_dlpack(Elsewhere())
    with pytest.raises(BufferError, match=r"NumPy has no dtype for this Tensor of torch\.bfloat16; convert it first"):
        flux.from_dlpack(torch.ones(2, dtype=torch.bfloat16))
    with pytest.raises(TypeError, match="complex"):
        flux.from_dlpack(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(BufferError, match="require gradient"):
        flux.from_dlpack(torch.ones(2, requires_grad=True))
    with pytest.raises(RuntimeError, match="too big"):
        flux.from_dlpack(np.ones(2).view(Sick))


class Sick(np.ndarray):
    """An array whose export fails for a reason of its own."""

    def __dlpack__(self, **keywords):
        raise RuntimeError("too big")


# -- __array__ ---------------------------------------------------------------------------------------------------------


def test_asarray_follows_numpy_2():
    data = np.arange(6.0).reshape(2, 3)
    t = Tensor(data)
    assert np.asarray(t) is data
    assert np.asarray(t, copy=False) is data
    assert not np.shares_memory(np.array(t), data)
    assert not np.shares_memory(np.asarray(t, copy=True), data)
    assert np.asarray(t, dtype="float64") is data
    assert np.asarray(t, dtype=np.float32).dtype == np.float32
    assert np.asarray(t, dtype=np.float32, copy=True).dtype == np.float32
    with pytest.raises(ValueError, match="[Uu]nable to avoid copy"):
        np.asarray(t, dtype=np.float32, copy=False)
    assert not np.asarray(Param(np.ones(2))).flags.writeable
    assert np.array(Param(np.ones(2))).flags.writeable
    assert np.asarray([t, t]).shape == (2, 2, 3)
    with flux.record(), pytest.raises(TypeError, match=r"numpy\.asarray cannot take a recorded Tensor"):
        np.asarray(Param(np.ones(2)))


def test_asarray_of_a_tensor_elsewhere_cannot_be_without_a_copy(monkeypatch):
    t = Tensor(np.ones(2))
    monkeypatch.setattr(Tensor, "device", property(lambda self: "cuda:0"))
    with pytest.raises(ValueError, match=r"an array of a Tensor on cuda:0 is a copy, and copy=False forbids one"):
        t.__array__(copy=False)


def _has_gpu():
    try:
        return bool(find_cupy())
    except flux.DeviceError:
        return False


@pytest.mark.gpu
@pytest.mark.skipif(not _has_gpu(), reason="no CUDA device")
def test_cupy_and_torch_share_memory_on_the_device():
    cupy = pytest.importorskip("cupy")
    a = cupy.arange(6.0).reshape(2, 3)
    t = flux.from_dlpack(a)
    assert t.device == "cuda:0"
    assert t.__dlpack_device__() == (2, 0)
    t.data[0, 1] = 9
    assert a[0, 1] == 9
    b = cupy.from_dlpack(t)
    b[1, 1] = 7
    assert t.tolist()[1][1] == 7
    assert np.asarray(flux.from_dlpack(a, device="cpu").data).tolist() == a.tolist()
    with pytest.raises(BufferError, match="recorded Tensor"):
        cupy.from_dlpack(flux.tensor(a, requires_grad=True))
    if torch.cuda.is_available():
        theirs = torch.ones(3, device="cuda")
        ours = flux.from_dlpack(theirs)
        theirs[1] = 5
        torch.cuda.synchronize()
        assert ours.tolist() == [1, 5, 1]
        assert torch.from_dlpack(ours).data_ptr() == theirs.data_ptr()
    assert t.to_device("cpu").device == "cpu"
    xp = flux.array_api
    assert xp.zeros(2, device="cuda:0").device == xp.zeros_like(t).device == "cuda:0"
    assert xp.cumulative_sum(t, axis=0, include_initial=True).device == "cuda:0"
    assert xp.unique_all(t).counts.device == "cuda:0"
    assert xp.diff(t).device == xp.searchsorted(t[0], t).device == xp.isin(t, t).device == "cuda:0"
