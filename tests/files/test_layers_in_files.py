"""Whole models in files: every kind of layer comes back, and a file or a save that fails spoils nothing."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import (
    GRU,
    LSTM,
    RNN,
    BatchNorm,
    Chain,
    Conv,
    Dense,
    GroupNorm,
    InstanceNorm,
    Maxout,
    Parallel,
    SkipConnection,
)
from minitorch_flux.files import FileError, formats, load, save
from minitorch_flux.files.formats import write_arrays
from minitorch_flux.nn.state_dicts import StateError

both = pytest.mark.parametrize("kind", [".safetensors", ".npz"])


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


MODELS = {
    "norms": (lambda: Chain(Conv((2, 2), 2, 4), BatchNorm(4), InstanceNorm(4, track_stats=True),
                            GroupNorm(4, 2, track_stats=True)), (3, 2, 5, 4)),
    "recurrent": (lambda: Chain(RNN(3, 4), GRU(4, 3, hidden_bias=True), LSTM(3, 2, num_layers=2, bidirectional=True,
                                                                             train_init=True)), (5, 2, 3)),
    "combined": (lambda: Parallel(flux.add, a=SkipConnection(Dense(3, 3), flux.add), b=Maxout(lambda: Dense(3, 3), 2)), (2, 3)),
}


def trained(name):
    """A model whose numbers, buffers included, are no longer those of a new one, and an input."""
    make, shape = MODELS[name]
    m, x = make(), array(*shape)
    g = flux.gradient(lambda m: (m(x) ** 2).sum(), m)
    flux.update(flux.setup(flux.Adam(0.1), m), m, g)
    flux.reset(m)
    return m, x


def unchanged(m, before):
    assert list(m.state_dict()) == list(before)
    for key, a in m.state_dict().items():
        np.testing.assert_array_equal(a, before[key])


@both
@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_layer_comes_back(kind, name, tmp_path):
    m, x = trained(name)
    y = m(x).numpy()
    save(tmp_path / f"m{kind}", m)
    other = MODELS[name][0]()
    other(x)
    flux.reset(other)
    assert load(tmp_path / f"m{kind}", other) is other
    unchanged(other, m.state_dict())
    np.testing.assert_array_equal(other(x).numpy(), y)
    assert list(load(tmp_path / f"m{kind}")) == list(m.state_dict()) or kind == ".safetensors"  # whose order is its own
    if name == "norms":
        assert m[1].running_mean.data.any()
        assert {"1.running_var", "2.running_mean"} <= set(load(tmp_path / f"m{kind}"))


@both
def test_the_running_state_is_in_no_file(kind, tmp_path):
    m = LSTM(3, 2)
    m(array(4, 3))
    save(tmp_path / f"m{kind}", m)
    assert set(load(tmp_path / f"m{kind}")) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0"}


@both
def test_a_file_that_does_not_fit_or_is_damaged_changes_nothing(kind, tmp_path, monkeypatch):
    m, _ = trained("norms")
    before = m.state_dict()
    state = {k: a + 1 for k, a in before.items()}
    path = tmp_path / f"m{kind}"
    for wrong, error, text in [
        ({k: a for k, a in state.items() if k != "1.running_var"}, StateError, r"1\.running_var: missing"),
        ({**state, "1.running_mean": np.ones(5)}, StateError, r"1\.running_mean: shape \(5,\), the model has \(4,\)"),
        ({**state, "4.weight": np.ones(5)}, StateError, r"4\.weight: unexpected"),
    ]:
        save(path, wrong)
        with pytest.raises(error, match=text):
            load(path, m)
        unchanged(m, before)
    whole = path.read_bytes()
    for n in (0, 1, 7, 8, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:n])
        with pytest.raises(FileError):
            load(path, m)
        unchanged(m, before)
    with monkeypatch.context() as patch:
        patch.setattr(formats, "VERSION", 2)
        write_arrays(path, state)
    with pytest.raises(FileError, match="written in format version 2, this library reads up to 1; update it"):
        load(path, m)
    unchanged(m, before)


@both
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no space left on device"), MemoryError])
@pytest.mark.parametrize("at", ["fsync", "replace", "chmod"])
def test_an_interrupted_save_leaves_the_old_file_whole(kind, error, at, tmp_path, monkeypatch):
    m, _ = trained("combined")
    path = tmp_path / f"m{kind}"
    save(path, m)
    before, old = m.state_dict(), path.read_bytes()
    for p in m.parameters():
        p.data += 1

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        if at == "chmod":
            patch.setattr(formats.Path, "chmod", fail)
        else:
            patch.setattr(os, at, fail)
        with pytest.raises(error if isinstance(error, type) else type(error)):
            save(path, m)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == [path.name]
    unchanged(load(path, m), before)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_process_that_is_killed_while_it_saves_leaves_a_whole_file(tmp_path):
    path = tmp_path / "m.npz"
    program = """
        import sys, numpy as np
        from minitorch_flux.files import save
        k = 0
        while True:
            save(sys.argv[1], {"a": np.full(200_000, k), "b": np.full(3, k)})
            k += 1
            print(k, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for _ in range(3):
            child.stdout.readline()
        time.sleep(0.003)
        child.kill()
        child.stdout.read()
    arrays = load(path)
    assert arrays["a"].shape == (200_000,)
    assert (arrays["a"] == arrays["b"][0]).all()


@both
def test_a_file_fills_open_sizes(kind, tmp_path):
    m = Chain(Conv((2, 2), 2, 4), BatchNorm(4), flux.flatten, Dense(48, 3))
    x = array(3, 2, 4, 5)
    flux.gradient(lambda m: m(x).sum(), m)
    save(tmp_path / f"m{kind}", m)
    other = Chain(Conv((2, 2), None, 4), BatchNorm(None), flux.flatten, Dense(None, 3))
    load(tmp_path / f"m{kind}", other)
    assert repr(other) == repr(m)
    np.testing.assert_array_equal(other(x).data, m(x).data)
    other = Chain(Conv((2, 2), None, 4), BatchNorm(None), flux.flatten, Dense(None, 5))
    with pytest.raises(StateError, match=r"3\.weight: shape \(3, 48\), the model has \(5, 48\)"):
        load(tmp_path / f"m{kind}", other)
    assert repr(other[0]) == "Conv((2, 2), None, 4)  # size not known yet"


def test_files_of_torch_with_norms_and_recurrent_layers(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    theirs = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 4, batch_first=True), "norm": torch.nn.BatchNorm1d(4)})
    theirs["norm"](torch.randn(7, 4))
    theirs.eval()
    save_file(theirs.state_dict(), tmp_path / "m.safetensors")
    ours = {"rnn": LSTM(3, 4, batch_first=True, hidden_bias=True), "norm": BatchNorm(4)}
    load(tmp_path / "m.safetensors", ours)
    x = array(2, 5, 3)
    wanted = theirs["norm"](theirs["rnn"](torch.tensor(x))[0][:, -1]).detach().numpy()
    np.testing.assert_allclose(ours["norm"](ours["rnn"](x)[:, -1]).data, wanted, rtol=1e-4, atol=1e-5)
