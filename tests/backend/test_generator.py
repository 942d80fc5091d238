"""The generator: state, copies, threads, host draws, `rng=` and what it leaves alone."""

import copy
import json
import pickle
import subprocess
import sys
import threading
from itertools import chain, pairwise
from types import SimpleNamespace

import numpy as np
import pytest

import minitorch_flux.ops.philox  # noqa: F401  (attaches the bulk draws)
from minitorch_flux.backend import DeviceError
from minitorch_flux.backend.generator import Generator, default_generator, resolve_rng, seed


@pytest.fixture(autouse=True)
def keep_the_default_generator():
    state = default_generator().state_dict()
    yield
    default_generator().load_state_dict(state)


def draws(rng):
    return [
        rng.uniform((3, 5)),
        rng.bernoulli(0.3, 7),
        rng.normal(4, "float64"),
        rng.permutation(11),
        rng.integers(-3, 9, (2, 2)),
        rng.host().gamma(2.0, size=3),
    ]


def same(a, b):
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def test_the_same_seed_gives_the_same_numbers():
    assert same(draws(Generator(7)), draws(Generator(7)))
    assert not same(draws(Generator(7)), draws(Generator(8)))


def test_successive_draws_differ():
    rng = Generator(7)
    assert not same(draws(rng), draws(rng))


def test_a_draw_depends_on_its_position_only():
    rng = Generator(3)
    rng.uniform(10)  # three blocks
    after = Generator(3, counter=3)
    assert rng.counter == 3
    assert same(draws(rng), draws(after))


def test_no_two_draws_share_a_block():
    rng = Generator(1)
    everything = rng.uniform((8, 4), "float32")
    rng = Generator(1)
    pieces = [rng.uniform(n) for n in (4, 3, 8, 1, 12)]  # an incomplete block is used up
    rows = [everything[0], everything[1, :3], everything[2:4], everything[4, :1], everything[5:8]]
    assert all(np.array_equal(p, r.ravel()) for p, r in zip(pieces, rows, strict=True))


def test_state_dict_is_plain_and_resumes_exactly():
    rng = Generator(2**64 - 1)
    draws(rng)
    state = json.loads(json.dumps(rng.state_dict()))
    expected = draws(rng)
    fresh = Generator()
    fresh.load_state_dict(state)
    assert same(draws(fresh), expected)
    fresh.load_state_dict({k: np.array(v, np.uint64) for k, v in state.items()})  # as from a file
    assert same(draws(fresh), expected)


@pytest.mark.parametrize(
    ("state", "error", "text"),
    [
        ({"key": 1}, KeyError, "exactly 'key' and 'counter', got .'key'."),
        ({"key": 1, "counter": 0, "x": 0}, KeyError, "exactly 'key' and 'counter'"),
        ({"key": 1.5, "counter": 0}, TypeError, "key must be an integer, got 1.5"),
        ({"key": 1, "counter": -1}, ValueError, "counter must be at least 0 and below .*, got -1"),
    ],
)
def test_a_wrong_state_is_refused_and_changes_nothing(state, error, text):
    rng = Generator(5, counter=2)
    with pytest.raises(error, match=text):
        rng.load_state_dict(state)
    assert rng.state_dict() == {"key": 5, "counter": 2}


def test_repr_rebuilds():
    rng = Generator(5)
    assert repr(rng) == "Generator(5)"
    rng.uniform(1)
    assert repr(rng) == "Generator(5, counter=1)"
    assert same(draws(eval(repr(rng))), draws(rng))


def test_copies_and_pickles_continue_from_the_same_position():
    rng = Generator(5)
    draws(rng)
    copies = [copy.copy(rng), copy.deepcopy(rng), pickle.loads(pickle.dumps(rng))]
    expected = draws(rng)
    assert all(same(draws(c), expected) for c in copies)


@pytest.mark.parametrize("bad", [-1, 2**64])
def test_seed_out_of_range(bad):
    with pytest.raises(ValueError, match=rf"seed must be at least 0 and below 2\*\*64, got {bad}"):
        Generator(bad)


def test_seed_must_be_an_integer():
    with pytest.raises(TypeError, match=r"seed must be an integer, got 1\.0"):
        Generator(1.0)
    assert Generator(np.int64(3)).key == 3


def test_the_counter_wraps():
    rng = Generator(1, counter=2**64 - 1)
    rng.uniform(8)
    assert rng.counter == 1


def test_without_a_seed_the_key_is_entropy():
    assert Generator().key != Generator().key


def test_the_default_generator_is_entropy_seeded_before_seed():
    code = "from minitorch_flux.backend.generator import default_generator as d; print(d().key)"
    keys = {subprocess.check_output([sys.executable, "-c", code]) for _ in range(2)}
    assert len(keys) == 2


def test_seed_reseeds_the_default_generator_in_place():
    rng = default_generator()
    seed(3)
    first = draws(rng)
    seed(3)
    assert default_generator() is rng
    assert same(draws(rng), first)
    assert same(draws(Generator(3)), first)
    seed(None)
    assert not same(draws(rng), first)


def test_numpy_s_global_generator_is_not_touched():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    seed(1)
    draws(default_generator())
    draws(resolve_rng(np.random.default_rng(0)))
    Generator().spawn(2)
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_permutation():
    rng = Generator(0)
    p = rng.permutation(1000)
    assert p.dtype == np.int64
    assert np.array_equal(np.sort(p), np.arange(1000))
    assert not np.array_equal(p, np.arange(1000))
    assert rng.permutation(0).shape == (0,)
    assert rng.permutation(1).tolist() == [0]


def test_permutations_are_evenly_drawn():
    rng = Generator(0)
    counts = np.zeros((4, 4))
    for _ in range(2000):
        counts[np.arange(4), rng.permutation(4)] += 1
    assert np.abs(counts - 500).max() < 5 * np.sqrt(2000 * 3 / 16)


def test_integers():
    rng = Generator(0)
    x = rng.integers(-2, 3, (500,))
    assert x.dtype == np.int64
    assert set(x.tolist()) == {-2, -1, 0, 1, 2}
    assert set(rng.integers(3, shape=200).tolist()) == {0, 1, 2}
    assert rng.integers(5).shape == ()


def test_spawn_gives_independent_generators_and_moves_on():
    rng = Generator(9)
    a, b = rng.spawn(2)
    c, d = rng.spawn(2)
    assert len({g.key for g in (rng, a, b, c, d)}) == 5
    again = Generator(9).spawn(2)
    assert [g.key for g in again] == [a.key, b.key]
    assert abs(np.corrcoef(a.normal(4000), b.normal(4000))[0, 1]) < 5 / np.sqrt(4000)


def test_host_draws_are_independent_of_bulk_draws():
    n = 4000
    rng = Generator(0)
    x = [Generator(0).uniform(n), rng.host().random(n), rng.host().random(n)]
    assert np.abs(np.corrcoef(x) - np.eye(3)).max() < 5 / np.sqrt(n)


def test_threads_never_share_a_block():
    rng = Generator(0)
    taken = [[] for _ in range(8)]

    def work(mine):
        for i in range(300):
            mine.append((rng.reserve(1 + i % 3)[1], 1 + i % 3))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in taken]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    ranges = sorted(chain.from_iterable(taken))
    assert all(a + n == b for (a, n), (b, _) in pairwise(ranges))
    assert rng.counter == sum(ranges[-1])


def test_resolve_rng():
    rng = Generator(1)
    assert resolve_rng() is resolve_rng(None) is default_generator()
    assert resolve_rng(rng) is rng
    assert resolve_rng(rng, like=np.zeros(3)) is rng


def test_resolve_numpy_s_generator():
    numpy_rng = np.random.default_rng(0)
    a = resolve_rng(numpy_rng, like=np.zeros(3))
    b = resolve_rng(numpy_rng)  # has moved on
    again = resolve_rng(np.random.default_rng(0))
    assert isinstance(a, Generator)
    assert a.key == again.key != b.key


def test_numpy_s_generator_for_an_array_on_a_gpu_names_both():
    on_gpu = SimpleNamespace(device=SimpleNamespace(id=1), shape=(2, 3))
    with pytest.raises(
        DeviceError,
        match=r"numpy\.random\.Generator, which serves CPU arrays only.*shape \(2, 3\).* on cuda:1"
        r".*flux\.Generator\(seed\)",
    ):
        resolve_rng(np.random.default_rng(0), like=on_gpu)
    assert resolve_rng(None, like=on_gpu) is default_generator()


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (42, r"got int; pass flux\.Generator\(42\)"),
        (np.random, r"got module; pass flux\.Generator\(seed\)"),
        (np.random.RandomState(0), r"got RandomState; pass flux\.Generator\(seed\)"),
    ],
)
def test_resolve_rng_refuses(bad, text):
    with pytest.raises(TypeError, match=text):
        resolve_rng(bad)
