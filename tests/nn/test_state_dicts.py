"""State dicts: copies out, everything or nothing in."""

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Dense, relu
from minitorch_flux.autograd import Buffer, Param
from minitorch_flux.nn.module import Module
from minitorch_flux.nn.state_dicts import StateError


class WithBuffer(Module):
    def __init__(self):
        self.weight = Param(np.ones(2, np.float32))
        self.mean = Buffer(np.zeros(2, np.float32))


def test_round_trip_and_copies():
    m = Chain(Dense(3, 4, relu), Dense(4, 2))
    sd = m.state_dict()
    assert list(sd) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    before = sd["0.weight"].copy()
    m[0].weight.data += 1
    np.testing.assert_array_equal(sd["0.weight"], before)
    other = Chain(Dense(3, 4, relu), Dense(4, 2))
    assert other.load_state_dict(sd) == {"missing": [], "unexpected": []}
    np.testing.assert_array_equal(other[0].weight.data, before)


def test_loading_writes_in_place_converts_and_counts_a_version():
    m = Dense(2, 2)
    w, version = m.weight.data, m.weight.version
    m.load_state_dict({"weight": np.ones((2, 2)), "bias": [1, 2]})
    assert m.weight.data is w
    assert w.dtype == np.float32
    assert m.weight.version == version + 1
    assert m.bias.data.tolist() == [1, 2]


def test_strict_lists_everything_and_changes_nothing():
    m = Chain(Dense(2, 2), Dense(2, 2))
    before = m.state_dict()
    wrong = {"0.weight": np.ones((2, 2)), "0.bias": np.ones(3), "2.weight": np.ones(1)}
    with pytest.raises(StateError) as error:
        m.load_state_dict(wrong)
    text = str(error.value)
    assert "0.bias: shape (3,), the model has (2,)" in text
    assert "1.weight: missing" in text
    assert "2.weight: unexpected" in text
    assert "nothing was loaded" in text
    for key, a in m.state_dict().items():
        np.testing.assert_array_equal(a, before[key])


def test_not_strict_reports_but_shapes_must_still_fit():
    m = Dense(2, 2)
    report = m.load_state_dict({"weight": np.full((2, 2), 5), "more": np.ones(1)}, strict=False)
    assert report == {"missing": ["bias"], "unexpected": ["more"]}
    assert (m.weight.data == 5).all()
    with pytest.raises(StateError, match="bias: shape"):
        m.load_state_dict({"weight": np.zeros((2, 2)), "bias": np.ones(7)}, strict=False)
    assert (m.weight.data == 5).all()


def test_buffers_are_saved_and_batch_counts_of_pytorch_ignored():
    m = WithBuffer()
    sd = m.state_dict()
    assert list(sd) == ["weight", "mean"]
    sd["mean"] += 3
    m.load_state_dict({**sd, "num_batches_tracked": np.array(7)})
    assert m.mean.data.tolist() == [3, 3]


def test_a_shared_parameter_is_saved_once_and_loaded_by_either_path():
    d = Dense(2, 2)
    m = Chain(d, d)
    sd = m.state_dict()
    assert list(sd) == ["0.weight", "0.bias"]
    both = {**sd, "1.weight": sd["0.weight"], "1.bias": sd["0.bias"]}
    m.load_state_dict(both)
    m.load_state_dict({"1.weight": np.zeros((2, 2)), "1.bias": np.ones(2)})
    assert (m[0].weight.data == 0).all()
    with pytest.raises(StateError, match=r"1\.weight: differs from 0\.weight"):
        m.load_state_dict({**both, "1.weight": np.ones((2, 2)) * 9})


def test_the_tape_notices_a_load():
    m = Dense(2, 1)
    with flux.record():
        y = (m(np.ones((1, 2), np.float32)) * m.weight.sum()).sum()
    m.load_state_dict(m.state_dict())
    with pytest.raises(flux.TapeError, match="changed in place"):
        y.backward()


def test_wrong_kinds_of_numbers_are_refused():
    with pytest.raises(StateError, match="weight: dtype complex128"):
        Dense(2, 2).load_state_dict({"weight": np.ones((2, 2)) * 1j, "bias": np.ones(2)})
    with pytest.raises(StateError, match="weight: dtype <U1"):
        Dense(1, 1).load_state_dict({"weight": np.array([["a"]]), "bias": np.ones(1)})

    class Counts(Module):
        def __init__(self):
            self.n = Buffer(np.array(1))

    with pytest.raises(StateError, match="n: dtype float64, the model has int64"):
        Counts().load_state_dict({"n": np.array(2.5)})
    m = Counts()
    m.load_state_dict({"n": np.array(3, np.int32)})
    assert m.n.data == 3


def test_anything_but_a_dict_is_refused():
    with pytest.raises(TypeError, match=r"takes a dict of arrays by path, got str; for a file write flux\.load\(path, model\)"):
        Dense(1, 1).load_state_dict("weights.npz")


def test_loading_from_the_models_own_memory():
    m = Chain(Dense(1, 1), Dense(1, 1))
    m[0].weight.data[:], m[1].weight.data[:] = 1, 2
    swapped = {"0.weight": m[1].weight, "1.weight": m[0].weight.numpy(), "0.bias": m[0].bias.data, "1.bias": np.ones(1)}
    m.load_state_dict(swapped)
    assert (m[0].weight.item(), m[1].weight.item(), m[1].bias.item()) == (2, 1, 1)
    d = Dense(np.arange(4.0).reshape(2, 2))
    d.load_state_dict({"weight": d.weight.data.T, "bias": [0, 0]})
    assert d.weight.tolist() == [[0, 2], [1, 3]]


def test_a_read_only_parameter_is_named_before_anything_is_written():
    m = Chain(Dense(2, 2), Dense(2, 2))
    m[1].weight = Param(np.broadcast_to(np.float32(1), (2, 2)))
    before = m[0].weight.data.copy()
    with pytest.raises(StateError, match=r"1\.weight: the model's own array is read-only; make the parameter of a copy"):
        m.load_state_dict({k: np.zeros(a.shape) for k, a in m.state_dict().items()})
    np.testing.assert_array_equal(m[0].weight.data, before)


def test_nan_is_no_difference_between_the_two_names_of_a_shared_parameter():
    d = Dense(1, 1)
    m = Chain(d, d)
    m.load_state_dict({"0.weight": [[np.nan]], "1.weight": [[np.nan]], "0.bias": [1], "1.bias": [1.0]})
    assert np.isnan(d.weight.item())


def test_many_problems_are_cut_short():
    m = Chain(*(Dense(1, 1) for _ in range(15)))
    with pytest.raises(StateError, match=r"\.\.\. and 10 more$"):
        m.load_state_dict({})


def test_frozen_parameters_are_saved():
    assert list(flux.freeze(Chain(Dense(1, 1))).state_dict()) == ["0.weight", "0.bias"]


def test_values_of_any_layout():
    m = Dense(3, 4)
    w = np.arange(48.0).reshape(4, 12)
    for a in (w[:, ::4], np.asfortranarray(w[:, :3]), w[::-1, 3:0:-1], np.broadcast_to(np.float32(2), (4, 3)),
              w[:, :3].astype(">f4"), w[:, :3].astype(np.float16), w[:, :3].astype(int), w[:, :3] > 5):
        a = a.view()
        a.flags.writeable = False
        m.load_state_dict({"weight": a, "bias": (1, 2, 3, 4)})
        np.testing.assert_array_equal(m.weight.data, a.astype(np.float32))
        assert type(m.weight.data) is np.ndarray
        assert m.weight.data.flags.c_contiguous
        assert m.weight.data.flags.writeable
        assert not np.shares_memory(m.weight.data, a)


class Odd(Module):
    """Arrays without axes, without elements, and of integers."""

    def __init__(self):
        self.scale, self.nothing = Param(np.float64(3)), Param(np.zeros((2, 0), np.float32))
        self.count, self.on = Buffer(np.int64(4)), Buffer(np.bool_(True))


def test_arrays_without_axes_and_without_elements():
    m = Odd()
    sd = m.state_dict()
    assert {k: (a.shape, a.dtype.name) for k, a in sd.items()} == {
        "scale": ((), "float64"), "nothing": ((2, 0), "float32"), "count": ((), "int64"), "on": ((), "bool"),
    }
    m.load_state_dict({"scale": 7, "nothing": np.ones((2, 0)), "count": np.int32(9), "on": False})
    assert (m.scale.item(), m.count.item(), m.on.item()) == (7, 9, False)
    assert m.scale.dtype == np.float64
    for wrong, text in [
        ({"scale": [7]}, r"scale: shape \(1,\), the model has \(\)"),
        ({"count": 2.5}, "count: dtype float64, the model has int64"),
        ({"on": 0.0}, "on: dtype float64, the model has bool"),
        ({"nothing": np.ones((0, 2))}, r"nothing: shape \(0, 2\), the model has \(2, 0\)"),
    ]:
        with pytest.raises(StateError, match=text):
            m.load_state_dict({**sd, **wrong})
    assert m.scale.item() == 7


def test_a_value_that_is_no_array_is_one_problem_among_others():
    m = Chain(Dense(1, 1), Dense(1, 1))
    before = m.state_dict()
    with pytest.raises(StateError) as error:
        m.load_state_dict({"0.weight": None, "0.bias": "text", "1.weight": [[1], [2, 3]], "1.bias": object(), 7: np.ones(1),
                           ("a", "b"): np.ones(1), "more": None})
    lines = str(error.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["0.weight", "0.bias", "1.weight", "1.bias", "7", "('a', 'b')",
                                                              "more"]
    assert "NoneType is no array" in lines[0]
    assert "str is no array" in lines[1]
    assert "list is no array" in lines[2]
    assert lines[4].endswith("unexpected")
    for key, a in m.state_dict().items():
        np.testing.assert_array_equal(a, before[key])


def test_tensors_of_torch_as_values():
    torch = pytest.importorskip("torch")
    m = Dense(2, 3)
    theirs = torch.nn.Linear(2, 3)
    turned = {"weight": theirs.weight.double().t().contiguous().t(), "bias": theirs.bias}
    for state in (theirs.state_dict(), dict(theirs.named_parameters()), turned):
        m.weight.data[:] = 0
        m.load_state_dict(state)
        np.testing.assert_array_equal(m.weight.data, theirs.weight.detach().numpy())
        assert not np.shares_memory(m.weight.data, theirs.weight.detach().numpy())
    halves = {k: v.bfloat16() for k, v in theirs.state_dict().items()}
    m.load_state_dict(halves)
    np.testing.assert_array_equal(m.weight.data, halves["weight"].float().numpy())
    with pytest.raises(StateError, match="weight: Tensor is no array"):
        m.load_state_dict({**theirs.state_dict(), "weight": torch.zeros(3, 2).to_sparse()})
    with pytest.raises(StateError, match="weight: dtype complex64"):
        m.load_state_dict({**theirs.state_dict(), "weight": torch.zeros(3, 2, dtype=torch.complex64)})


@pytest.mark.parametrize("cut", range(5))
def test_a_load_that_fails_anywhere_changes_nothing(cut):
    flux.seed(0)
    m = Chain(Dense(2, 3), flux.BatchNorm(3), flux.LSTM(3, 2))
    good = {k: a + 1 for k, a in m.state_dict().items()}
    before, versions = m.state_dict(), [p.version for p in m.parameters()]
    key = list(good)[2 * cut]
    for bad in ({**good, key: good[key][..., None]}, {k: a for k, a in good.items() if k != key}, {**good, key + "x": 1},
                {**good, key: good[key].astype(complex)}):
        with pytest.raises(StateError, match=key):
            m.load_state_dict(bad)
        for k, a in m.state_dict().items():
            np.testing.assert_array_equal(a, before[k])
    assert [p.version for p in m.parameters()] == versions
    m.load_state_dict(good)
    for k, a in m.state_dict().items():
        np.testing.assert_array_equal(a, good[k])


def test_batch_counts_of_torch_are_ignored_at_every_depth():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.BatchNorm1d(3)))
    theirs(torch.randn(5, 2))
    m = Chain(Dense(2, 3), Chain(flux.BatchNorm(3)))
    assert "1.0.num_batches_tracked" in theirs.state_dict()
    assert m.load_state_dict(theirs.state_dict()) == {"missing": [], "unexpected": []}
    np.testing.assert_allclose(m[1][0].running_mean.data, theirs[1][0].running_mean.numpy())
    assert "1.0.num_batches_tracked" not in m.state_dict()


def test_recurrent_layers_of_torch_load_by_name_and_keep_their_state():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    m = flux.LSTM(3, 4, num_layers=2, bidirectional=True, hidden_bias=True)
    assert set(m.state_dict()) == set(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    m(x)
    state = m.state
    m.load_state_dict(theirs.state_dict())
    assert m.state is not None
    assert len(state) == len(m.state)
    np.testing.assert_allclose(m(x).data, theirs(torch.tensor(x))[0].detach().numpy(), rtol=1e-4, atol=1e-5)


def test_one_array_for_two_parameters_is_copied_twice():
    m = Chain(Dense(2, 2), Dense(2, 2))
    a, b = np.ones((2, 2), np.float32), np.ones(2, np.float32)
    m.load_state_dict({"0.weight": a, "1.weight": a, "0.bias": b, "1.bias": b})
    m[0].weight.data[:] = 5
    assert (m[1].weight.data == 1).all()
    assert (a == 1).all()


def test_values_beyond_the_range_of_the_models_dtype():
    m = Dense(1, 1)
    with np.errstate(all="ignore"):
        m.load_state_dict({"weight": [[1e300]], "bias": [np.nan]})
    assert m.weight.item() == np.inf
    assert np.isnan(m.bias.item())
