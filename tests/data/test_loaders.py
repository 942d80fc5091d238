"""DataLoader: every observation once, every option, and resuming exactly."""

import gc
import json
import threading
import traceback

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor
from minitorch_flux.backend.generator import Generator, default_generator, seed
from minitorch_flux.data import DataLoader

RNGS = {
    "flux": lambda s: Generator(s),
    "PCG64": lambda s: np.random.Generator(np.random.PCG64(s)),
    "MT19937": lambda s: np.random.Generator(np.random.MT19937(s)),
    "Philox": lambda s: np.random.Generator(np.random.Philox(s)),
    "SFC64": lambda s: np.random.Generator(np.random.SFC64(s)),
}


def values(loader):
    return [batch.tolist() for batch in loader]


def workers():
    return [t for t in threading.enumerate() if t.name == "flux-prefetch"]


class Squares:
    """A dataset with nothing but ``len`` and indexing."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return np.full((2, 2), i, "f4"), i * i


@given(
    n=st.integers(0, 20),
    batchsize=st.integers(1, 25),
    shuffle=st.booleans(),
    partial=st.booleans(),
    prefetch=st.integers(0, 3),
    kind=st.sampled_from(sorted(RNGS)),
)
def test_every_observation_once(n, batchsize, shuffle, partial, prefetch, kind):
    x = np.arange(n)
    if not partial and 0 < n < batchsize:
        return
    loader = DataLoader((x, x[:, None] * 2.0), batchsize, shuffle, partial, RNGS[kind](0), prefetch=prefetch)
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader)
        sizes = [len(a) for a, _ in batches]
        assert all(size == batchsize for size in sizes[:-1])
        assert sum(sizes) == (n if partial else n - n % batchsize)
        seen = [i for a, _ in batches for i in a.tolist()]
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(n))
        for a, b in batches:
            np.testing.assert_array_equal(a[:, None] * 2.0, b)
        if not shuffle:
            assert seen == list(range(len(seen)))


@given(
    n=st.integers(1, 12),
    batchsize=st.integers(1, 12),
    shuffle=st.booleans(),
    prefetch=st.integers(0, 2),
    kind=st.sampled_from(sorted(RNGS)),
    stop=st.integers(0, 30),
    other_draws=st.integers(0, 2),
)
def test_resume_is_exact(n, batchsize, shuffle, prefetch, kind, stop, other_draws):
    """Save after ``stop`` batches (in any epoch, in its middle or between), resume elsewhere: the streams are equal."""

    def stream(loader, log, first=0):
        """Three epochs in all; other users of the generator draw from it, too."""
        count = first
        for _ in range(loader.epoch, 3):
            for batch in loader:
                count += 1
                log.append((json.dumps(loader.state_dict()), batch.tolist()))
                for _ in range(other_draws):
                    loader.rng.permutation(3)
                yield count

    x = np.arange(n) * 10
    make = lambda s, p: DataLoader(x, batchsize, shuffle, rng=RNGS[kind](s), prefetch=p)  # noqa: E731
    whole: list = []
    for _ in stream(make(0, 0), whole):
        pass
    loader, first = make(0, prefetch), []
    state = json.loads(json.dumps(loader.state_dict()))
    for count in stream(loader, first):
        if count <= stop:
            state = json.loads(json.dumps(loader.state_dict()))
    resumed, rest = make(99, prefetch), []
    resumed.load_state_dict(state)
    assert json.loads(json.dumps(resumed.state_dict())) == state  # before the first batch, too
    for _ in stream(resumed, rest):
        pass
    assert whole[: min(stop, len(whole))] + rest == whole
    assert resumed.state_dict() == loader.state_dict()


def test_resume_between_epochs_and_in_the_same_loader():
    loader = DataLoader(np.arange(9), 2, shuffle=True, rng=Generator(3))
    values(loader)
    between = loader.state_dict()
    assert (loader.epoch, loader.position) == (1, 0)
    second = values(loader)
    third = values(loader)
    loader.load_state_dict(between)
    assert [values(loader), values(loader)] == [second, third]


def test_resume_twice_in_one_epoch():
    whole = values(DataLoader(np.arange(9), 2, shuffle=True, rng=Generator(3)))
    seen, state = [], DataLoader(np.arange(9), 2, shuffle=True, rng=Generator(3)).state_dict()
    for s in range(5):
        loader = DataLoader(np.arange(9), 2, shuffle=True, rng=Generator(s))
        loader.load_state_dict(state)
        seen.append(next(iter(loader)).tolist())
        state = loader.state_dict()
    assert seen == whole


def test_leaving_early_saves_the_place_and_the_next_for_is_a_new_epoch():
    loader = DataLoader(np.arange(9), 2, shuffle=True, rng=Generator(3))
    whole = DataLoader(np.arange(9), 2, shuffle=True, rng=Generator(3))
    epochs = [values(whole) for _ in range(3)]
    for batch in loader:
        assert batch.tolist() == epochs[0][0]
        break
    assert (loader.epoch, loader.position) == (0, 1)
    state = loader.state_dict()
    assert values(loader) == epochs[1]
    assert loader.epoch == 2
    again = DataLoader(np.arange(9), 2, shuffle=True, rng=Generator(5))
    again.load_state_dict(state)
    assert values(again) == epochs[0][1:]
    assert values(again) == epochs[1]


def test_iterators_side_by_side():
    """zip(loader, loader) works; the loader's place is that of the newest one."""
    loader = DataLoader(np.arange(4), 1)
    first, second = iter(loader), iter(loader)
    assert [next(first)[0], next(first)[0], next(second)[0]] == [0, 1, 0]
    assert (loader.epoch, loader.position) == (1, 1)
    assert [next(first)[0], next(second)[0]] == [2, 1]
    assert (loader.epoch, loader.position) == (1, 2)


def test_reshuffled_every_epoch_and_seeded():
    make = lambda: DataLoader(np.arange(50), 50, shuffle=True, rng=Generator(1))  # noqa: E731
    a, b = make(), make()
    epochs = [values(a) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs == [values(b) for _ in range(3)]


def test_the_default_generator():
    seed(5)
    first = values(DataLoader(np.arange(20), 20, shuffle=True))
    seed(5)
    loader = DataLoader(np.arange(20), 20, shuffle=True)  # the generator is looked up when it is needed
    assert loader.rng is None
    assert values(loader) == first
    assert loader.state_dict()["rng"] == default_generator().state_dict()
    seed()


def test_numpys_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    values(DataLoader(np.arange(20), 3, shuffle=True, prefetch=1))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_no_draw_without_shuffle():
    g = Generator(0)
    loader = DataLoader(np.arange(4), rng=g)
    values(loader)
    assert g.counter == 0
    assert loader.state_dict()["rng"] is None


def test_structures():
    x, y = np.arange(12.0).reshape(4, 3), np.arange(4)
    assert next(iter(DataLoader(x, 2))).shape == (2, 3)
    assert type(next(iter(DataLoader(Tensor(x), 2)))) is np.ndarray
    a, b = next(iter(DataLoader([x, y], 2)))
    assert (a.shape, b.shape) == ((2, 3), (2,))
    batch = next(iter(DataLoader({"image": x, "more": (y, ["a", "b", "c", "d"])}, 3, shuffle=True, rng=Generator(0))))
    assert batch["image"].shape == (3, 3)
    assert [["a", "b", "c", "d"][i] for i in batch["more"][0]] == batch["more"][1]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_anything_with_len_and_indexing(shuffle, prefetch):
    loader = DataLoader(Squares(7), 3, shuffle, rng=Generator(0), prefetch=prefetch)
    batches = list(loader)
    assert [x.shape for x, _ in batches] == [(3, 2, 2), (3, 2, 2), (1, 2, 2)]
    for x, y in batches:
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x[:, 0, 0] ** 2, y)


def test_collate_gets_single_observations():
    got = list(DataLoader((np.arange(3), ["a", "b", "c"]), 2, collate=lambda items: items))
    assert got == [[(0, "a"), (1, "b")], [(2, "c")]]
    lists = [[1], [1, 2], [3]]
    assert list(DataLoader(lists, 3, shuffle=True, rng=Generator(0), collate=lambda items: max(map(len, items)))) == [2]


def test_batches_are_new_arrays():
    x = np.arange(6.0)
    for shuffle in (False, True):
        for batch in DataLoader(x, 4, shuffle):
            assert batch.flags.writeable
            assert not np.shares_memory(batch, x)
            batch[...] = -1
    np.testing.assert_array_equal(x, range(6))


def test_nothing():
    loader = DataLoader(np.zeros((0, 3)), 4, shuffle=True, partial=False, prefetch=1, rng=Generator(0))
    assert len(loader) == 0
    assert list(loader) == list(loader) == []
    assert loader.epoch == 2


def test_batchsize_above_n():
    assert values(DataLoader(np.arange(3), 8)) == [[0, 1, 2]]
    with pytest.raises(ValueError, match="there are 3 observations, so partial=False leaves no batch of 8"):
        DataLoader(np.arange(3), 8, partial=False)


# -- the thread ----------------------------------------------------------------------------------------------------


def test_no_thread_is_left_after_the_end_a_break_and_an_exception():
    loader = DataLoader(np.arange(1000), 1, prefetch=3)
    for _ in loader:
        pass
    assert workers() == []
    for _ in loader:
        assert len(workers()) == 1
        break
    assert workers() == []

    def fails(batches):
        for _ in batches:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails(loader)
    gc.collect()  # the exception's traceback held the iterator
    assert workers() == []
    iterator = iter(loader)
    next(iterator)
    del loader
    assert len(workers()) == 1  # still in use
    del iterator
    assert workers() == []


@pytest.mark.parametrize("prefetch", [0, 2])
def test_exceptions_of_the_data_reach_the_loop(prefetch):
    class Broken(Squares):
        def __getitem__(self, i):
            if i == 5:
                raise OSError("the disk is on fire")
            return i

    loader = DataLoader(Broken(8), 2, prefetch=prefetch)
    iterator = iter(loader)
    assert [next(iterator).tolist(), next(iterator).tolist()] == [[0, 1], [2, 3]]
    with pytest.raises(OSError, match="on fire") as caught:
        next(iterator)
    assert "in __getitem__" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert loader.position == 2
    with pytest.raises(StopIteration):  # as with a generator; above all, it does not wait for ever
        next(iterator)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_stop_iteration_is_not_taken_for_the_end(prefetch):
    class Ends(Squares):
        def __getitem__(self, i):
            return next(iter(()))

    with pytest.raises(RuntimeError, match="batch 0: the data or collate raised StopIteration"):
        list(DataLoader(Ends(8), 2, prefetch=prefetch))


# -- errors and printing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("batch_size", "`batchsize=`"),
        ("drop_last", "partial=False"),
        ("num_workers", "`prefetch=`"),
        ("prefetch_factor", "`prefetch=`"),
        ("collate_fn", "`collate=`"),
        ("generator", "`rng=`"),
    ],
)
def test_foreign_names(name, ours):
    with pytest.raises(TypeError, match=f"DataLoader: `{name}=` is spelled {ours} here"):
        DataLoader(np.arange(3), **{name: 1})


def test_wrong_arguments():
    x = np.arange(3)
    with pytest.raises(TypeError, match="DataLoader has no argument 'colour'$"):
        DataLoader(x, colour=1)
    for wrong in (0, -1, 2.5, "2", True):
        with pytest.raises(ValueError, match="batchsize must be an integer of at least 1"):
            DataLoader(x, wrong)
    with pytest.raises(ValueError, match="prefetch must be an integer of at least 0, got -1"):
        DataLoader(x, prefetch=-1)
    with pytest.raises(TypeError, match=r"rng= must be .* pass flux.Generator\(3\)"):
        DataLoader(x, rng=3)
    with pytest.raises(TypeError, match="collate must be a function"):
        DataLoader(x, collate=True)
    with pytest.raises(ValueError, match=r"DataLoader: data\[0\] has 3 observations .* but data\[1\] has 2"):
        DataLoader((x, x[:2]))
    with pytest.raises(TypeError, match="data is a generator"):
        DataLoader(i for i in x)
    assert len(DataLoader(x, np.int32(2))) == 2


def test_states_of_other_loaders():
    x = np.arange(6)
    state = DataLoader(x, 2, shuffle=True, rng=Generator(0)).state_dict()
    for other, what in (
        (DataLoader(x, 3, shuffle=True), "batchsize=2, this loader has 3"),
        (DataLoader(x[:5], 2, shuffle=True), "observations=6, this loader has 5"),
        (DataLoader(x, 2), "shuffle=True, this loader has False"),
        (DataLoader(x, 2, shuffle=True, partial=False), "partial=True, this loader has False"),
        (DataLoader(x, 2, shuffle=True, rng=np.random.default_rng(0)), "is of another kind than rng=Generator"),
    ):
        with pytest.raises(ValueError, match=what):
            other.load_state_dict(state)
    loader = DataLoader(x, 2, shuffle=True, rng=Generator(0))
    with pytest.raises(ValueError, match="no such place: epoch 0, position 4 of 3"):
        loader.load_state_dict({**state, "position": 4})
    with pytest.raises(KeyError, match=r"missing entries \['rng'\] and unknown entries \['x'\]"):
        loader.load_state_dict({"x": 1, **{k: v for k, v in state.items() if k != "rng"}})
    numpys = DataLoader(x, 2, shuffle=True, rng=np.random.default_rng(0)).state_dict()
    with pytest.raises(ValueError, match="of another kind"):
        loader.load_state_dict(numpys)


def test_printing():
    assert repr(DataLoader(np.zeros(10), 3)) == "DataLoader(10 observations, batchsize=3)  # 4 batches"
    full = repr(DataLoader(np.zeros(10), 3, shuffle=True, partial=False, prefetch=2))
    assert full == "DataLoader(10 observations, batchsize=3, shuffle=True, partial=False, prefetch=2)  # 3 batches"
