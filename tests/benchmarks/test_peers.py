"""The sides: each knows every layer of the tables, and all do the same work. No times are looked at."""

import dataclasses
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import minitorch_flux as flux
from benchmarks.kernel_cases import CASES as KERNELS
from benchmarks.op_cases import CASES, UPDATES, random_convolutions
from benchmarks.peers import OURS, PEERS, Peer, Side, framework, sides
from benchmarks.peers.flux import FUNCTIONS, LAYERS, chain
from benchmarks.peers.flux import make as make_flux
from benchmarks.tasks import Absent, Network, Setting, Task, weights
from benchmarks.turns import difference
from benchmarks.workloads import WORKLOADS

KERNEL_FILES = (Path(__file__).parents[2] / "kernels").glob("*.cu")
INSTALLED = [name for name, peer in PEERS.items() if peer.installed]


def small(name):
    """A workload with the layers of the real one, few observations and small maps."""
    w = WORKLOADS[name]
    if name in ("resnet18", "invres"):
        w = dataclasses.replace(w, input_shape=(3, 16, 16))  # resnet18 ends in maps of 2 x 2
    if name in ("rnn", "lstm", "gru", "vit"):
        w = dataclasses.replace(w, input_shape=(8, *w.input_shape[1:]))
    return dataclasses.replace(w, batch=4)


def compare(task, names, layouts=("contiguous",)):
    ours = make_flux(Setting()).ready(task).answers(3)
    for name in names:
        for layout in layouts:
            difference(task, ours, framework(name, Setting(layout=layout)).ready(task).answers(3))


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("name", [w for w in WORKLOADS if w != "resnet18"] + [pytest.param("resnet18", marks=pytest.mark.slow)])
def test_both_sides_do_the_same_work(name, mode):
    pytest.importorskip("torch")
    layouts = ("contiguous", "channels_last") if small(name).images else ("contiguous",)
    compare(Task(small(name), mode), ["torch"], layouts)


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("name", ["tiny", "lenet", "gru", "invres", "vit"])
def test_jax_does_the_same_work(name, mode):
    pytest.importorskip("jax")
    compare(Task(small(name), mode), ["jax"])


TINY = [  # a layer of each kind, and what its input is
    (("dense", 5, 3, "relu"), (5,)), (("conv", 4, 6, 3, 1, None, 2, 2), (4, 7, 6)), (("deconv", 3, 2, 2, 2, 0), (3, 4, 4)),
    (("conv_norm", 3, 4, 3, 1, 1, "relu6"), (3, 5, 5)), (("batch_norm", 3, "relu"), (3, 4, 4)), (("flatten",), (2, 3, 3)),
    (("group_norm", 4, 2), (4, 3, 3)), (("norm", 6), (6,)), (("rms_norm", 6), (6,)), (("pool",), (2, 4, 4)),
    (("max_pool", 3, 2, 1), (2, 7, 7)), (("mean_pool", 2), (2, 6, 6)), (("adaptive_mean", 2), (2, 5, 5)),
    (("mean", (1,)), (5, 3)),
    (("attention", 8, 2), (5, 8)), (("rnn", 3, 4), (2, 3)), (("lstm", 3, 4), (2, 3)), (("gru", 3, 4), (2, 3)),
    (("crossentropy",), (7,)), (("ctc", 2), (2, 5)), (("upsample", 2), (2, 3, 4)), (("unfold", 3, 1), (2, 4, 4)),
    (("embedding", 9, 3), (6,)), (("add", (("dense", 4, 4, "tanh"),), (), "relu"), (4,)),
    *((("function", name), (6,)) for name in FUNCTIONS),
]  # fmt: skip


ABSENT = {("jax", kind) for kind in ("adaptive_mean", "ctc", "upsample")}


@pytest.mark.parametrize("peer", INSTALLED)
@pytest.mark.parametrize("mode", ["infer", "gradient"])
@pytest.mark.parametrize(("entry", "shape"), TINY, ids=lambda x: x[-1] if x[0] == "function" else str(x[0]))
def test_every_layer_is_the_same_on_every_side(entry, shape, mode, peer):
    if entry == ("function", "argmax") and mode == "gradient":
        pytest.skip("has no gradient")
    task = Task(Network("small", "a layer", (entry,), shape, 9, 6), mode)
    if (peer, entry[0]) in ABSENT:
        with pytest.raises(Absent, match="JAX has no "):
            compare(task, [peer])
    else:
        compare(task, [peer])


@pytest.mark.parametrize("peer", INSTALLED)
def test_updates_are_the_same(peer):
    compare(Task(small("tiny"), "update"), [peer])


def test_all_sides_know_the_same_layers_and_functions():
    assert {entry[0] for entry, _ in TINY} == set(LAYERS)
    for name in INSTALLED:
        module = importlib.import_module(f"benchmarks.peers.{name}")
        assert set(module.LAYERS) == set(LAYERS)
        assert set(module.FUNCTIONS) == set(FUNCTIONS)


def test_the_cases_are_made_of_known_layers_and_every_kernel_of_an_op_has_one():
    names = [case.network.name for case in CASES + UPDATES]
    assert len(set(names)) == len(names)
    for case in [*CASES, *UPDATES, *random_convolutions(5)]:
        assert all(entry[0] in LAYERS for entry in case.network.layers)
        assert case.operations >= 0
        assert case.traffic((1,)) > 0
    # random numbers and an embedding's gradient have rows in benchmarks.kernels, and a convolution's parts are in its rows
    elsewhere = {"dropouts": "dropout_forward", "philox": "philox_uniform", "indexing": "take_forward"}
    assert set(elsewhere.values()) <= set(KERNELS)
    files = {path.stem for path in KERNEL_FILES if not re.search("conv|winograd|columns", path.stem)}
    assert files - {case.family for case in CASES + UPDATES} - set(elsewhere) == set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.network.name)
def test_the_parameters_of_a_case_are_counted(case):
    with flux.shapes_only():
        model = chain(case.network.layers)
        n = sum(int(np.prod(p.shape)) for p in model.parameters())
    assert case.parameters in (n, 0)


def test_a_captured_step_is_the_step():
    task = Task(WORKLOADS["tiny"], "train")
    plain, captured = (make_flux(Setting(capture=capture)).ready(task) for capture in (False, True))
    np.testing.assert_array_equal(plain.answers(5), captured.answers(5))
    assert captured.call.replays == 2
    side = make_flux(Setting())
    assert side.timed(plain.call, 2) > 0
    assert side.fresh() >= 0
    side.release()


@pytest.mark.parametrize("name", ["tiny", "lstm", "invres", "vit"])
def test_steps_on_a_device(name):
    """Eagerly and as a CUDA graph on a pretended GPU: the losses of the CPU."""
    pytest.importorskip("cupy")
    from tests.pretended import pretended_gpu

    task = Task(small(name), "train")
    wanted, before = make_flux(Setting()).ready(task).answers(1)[0][0], []
    with pretended_gpu():
        for capture in (False, True):
            side = make_flux(Setting(device="cuda", capture=capture))
            assert side.device == "a pretended GPU"
            ready = side.ready(task)
            losses = ready.answers(4)[0].tolist()
            np.testing.assert_allclose(losses[0], wanted, rtol=1e-4)
            assert side.timed(ready.call, 1) > 0
            assert side.fresh() is None
            if capture:
                assert ready.call.replays == 2
                assert losses == before
            before = losses


@pytest.mark.parametrize("mode", ["infer", "gradient", "update"])
def test_other_modes_on_a_device(mode):
    pytest.importorskip("cupy")
    from tests.pretended import pretended_gpu

    task = Task(small("lenet"), mode)
    wanted = make_flux(Setting()).ready(task).answers(2)
    with pretended_gpu():
        found = make_flux(Setting(device="cuda")).ready(task).answers(2)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * abs(b).max())


def test_weights_are_drawn_by_name_and_shape():
    drawn = weights([("0.weight", (3, 4)), ("0.bias", (3,)), ("1.weight", (5,)), ("1.bias", (5,))])
    assert [a.shape for a in drawn] == [(3, 4), (3,), (5,), (5,)]
    assert (drawn[2] == 1).all()
    assert all(abs(a).max() <= 0.5 for a in (drawn[0], drawn[1], drawn[3]))
    assert all(a.dtype == np.float32 for a in drawn)


def test_the_networks_whose_accuracy_is_compared_are_the_same():
    torch = pytest.importorskip("torch")
    from benchmarks.accuracy import MODEL, torch_resnet18

    torch.set_num_threads(1)
    ours = flux.models.get_model(MODEL, inchannels=1, nclasses=10, rng=flux.Generator(0))
    theirs = torch_resnet18(ours, 10)
    x = np.random.default_rng(0).standard_normal((3, 1, 28, 28)).astype(np.float32)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(flux.trainmode(ours)(x).numpy(), wanted, atol=1e-3 * np.abs(wanted).max())


def test_the_table_of_peers():
    assert [side.name for side in sides((PEERS["torch"], PEERS["jax"]))] == [OURS.name, "torch", "torch channels_last", "jax"]
    assert [side.name for side in sides((PEERS["torch"], PEERS["jax"]), "cuda")] == [OURS.name, "torch", "torch channels_last"]
    assert Side(PEERS["torch"], "channels_last").title == "PyTorch, channels_last"
    assert not Side(PEERS["torch"], "channels_last").takes(WORKLOADS["vit"])
    assert Side(PEERS["torch"], "channels_last").takes(WORKLOADS["lenet"])
    nobody = Peer("no_such_framework", "Nobody")
    assert not nobody.installed
    assert nobody.advice == "Nobody is not installed, so it is not measured: pip install no_such_framework"
