"""Random flips, crops and holes: each result is one of the allowed ones, against loops over single images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor
from minitorch_flux.backend.generator import Generator, seed
from minitorch_flux.data import cutout, normalise, random_crop, random_flip

SIZES = st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
DTYPES = ["float32", "float64", "uint8"]


def images(shape, dtype="float32", seed=0):
    x = np.random.default_rng(seed).integers(1, 256, shape).astype(dtype)
    return x.transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2)  # not contiguous


FUNCTIONS = {
    "random_flip": lambda x, rng: random_flip(x, rng=rng),
    "random_crop": lambda x, rng: random_crop(x, pad=1, rng=rng),
    "cutout": lambda x, rng: cutout(x, 2, rng=rng),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@given(shape=SIZES, dtype=st.sampled_from(DTYPES))
def test_all_keep_shape_dtype_and_input(name, shape, dtype):
    x = images(shape, dtype)
    before = x.copy()
    y = FUNCTIONS[name](x, Generator(0))
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert not np.shares_memory(x, y)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(FUNCTIONS[name](Tensor(x), Generator(0)), y)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rng(name):
    x, f = images((16, 2, 6, 6)), FUNCTIONS[name]
    for make in (Generator, np.random.default_rng):
        np.testing.assert_array_equal(f(x, make(1)), f(x, make(1)))
        rng = make(1)
        assert not np.array_equal(f(x, rng), f(x, rng))  # the generator moves on
    seed(4)
    a = f(x, None)
    seed(4)
    np.testing.assert_array_equal(f(x, None), a)
    seed()
    with pytest.raises(TypeError, match="rng= must be"):
        f(x, 3)


@given(shape=SIZES, p=st.sampled_from([0.0, 0.3, 1.0]))
def test_flip(shape, p):
    x = images(shape)
    y = random_flip(x, p, Generator(1))
    flipped = 0
    for before, after in zip(x, y, strict=True):
        mirrored = np.array([[row[::-1] for row in channel] for channel in before])
        assert np.array_equal(after, before) or np.array_equal(after, mirrored)
        flipped += np.array_equal(after, mirrored)
    if p in (0, 1):
        np.testing.assert_array_equal(y, x if p == 0 else x[..., ::-1])


def test_flip_probability():
    x = np.broadcast_to(np.arange(2.0), (4000, 1, 1, 2))
    share = (random_flip(x, 0.3, Generator(0))[:, 0, 0, 0] == 1).mean()
    assert abs(share - 0.3) < 0.03


@given(shape=SIZES, pad=st.integers(0, 3), fill=st.sampled_from([0, 7]), data=st.data())
def test_crop_is_a_window_of_the_padded_image(shape, pad, fill, data):
    x = images(shape)
    h, w = (data.draw(st.integers(1, n + 2 * pad)) for n in shape[2:])
    y = random_crop(x, (h, w), pad, fill, Generator(2))
    assert y.shape == (*shape[:2], h, w)
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    for before, after in zip(padded, y, strict=True):
        rows, columns = (range(before.shape[i + 1] - size + 1) for i, size in enumerate((h, w)))
        assert any(np.array_equal(before[:, r : r + h, c : c + w], after) for r in rows for c in columns)


def test_crop_places_are_all_reached_equally_often():
    x = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    y = random_crop(np.repeat(x, 9000, 0), 1, rng=Generator(0))
    counts = np.bincount(y.astype(int).ravel(), minlength=10)[1:]
    assert (abs(counts - 1000) < 150).all()
    shifted = random_crop(np.ones((2000, 1, 1, 1)), pad=1, rng=Generator(0))  # one of nine places keeps the pixel
    assert abs(shifted.mean() - 1 / 9) < 0.03


@given(shape=SIZES, size=st.tuples(st.integers(1, 5), st.integers(1, 5)), p=st.sampled_from([0.0, 0.5, 1.0]))
def test_cutout_is_one_clipped_rectangle(shape, size, p):
    x = images(shape)
    y = cutout(x, size, p, fill=-1, rng=Generator(3))
    _, _, height, width = shape
    for before, after in zip(x, y, strict=True):
        choices = [before] if p < 1 else []
        if p > 0:
            for r in range(height):
                for c in range(width):
                    top, left = r - size[0] // 2, c - size[1] // 2
                    one = before.copy()
                    one[:, max(top, 0) : max(top + size[0], 0), max(left, 0) : max(left + size[1], 0)] = -1
                    choices.append(one)
        assert any(np.array_equal(after, one) for one in choices)


def test_cutout_square_and_probability():
    x = np.ones((3000, 1, 9, 9), "f4")
    holes = (cutout(x, 3, 0.4, rng=Generator(0)) == 0).sum((1, 2, 3))
    assert set(holes.tolist()) == {0, 4, 6, 9}  # none, in a corner, at an edge, inside
    for shape in ((2, 9), (9, 2)):  # all centres are reached
        assert (cutout(np.ones((1000, 1, *shape)), 1, rng=Generator(0)) == 0).any((0, 1)).all()
    assert abs((holes > 0).mean() - 0.4) < 0.03


@given(shape=SIZES, dtype=st.sampled_from([*DTYPES, "int64", "float16"]), data=st.data())
def test_normalise(shape, dtype, data):
    x = images(shape, dtype)
    channels = data.draw(st.sampled_from([1, shape[1]]))
    mean = data.draw(st.lists(st.floats(-1, 1), min_size=channels, max_size=channels))
    std = data.draw(st.lists(st.floats(0.25, 2), min_size=channels, max_size=channels))
    scale = data.draw(st.sampled_from([255.0, 16.0]))
    y = normalise(x, mean, std, scale)
    floating = np.dtype(dtype).kind == "f"
    assert y.dtype == (dtype if floating else "float32")
    assert y.flags.c_contiguous
    z = x.astype("f8") if floating else x / scale
    expected = (z - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    rtol = 2e-3 if dtype == "float16" else 1e-6
    np.testing.assert_allclose(y.astype("f8"), expected, rtol=rtol, atol=rtol * 10)


def test_normalise_with_numbers():
    np.testing.assert_allclose(normalise(np.full((1, 3, 1, 1), 0.5), 0.25, 0.5), np.full((1, 3, 1, 1), 0.5))


def test_errors():
    x = images((2, 3, 4, 5))
    for f in (random_flip, random_crop, lambda a: cutout(a, 2), lambda a: normalise(a, 0, 1)):
        with pytest.raises(ValueError, match=r"a batch of images \(N, C, H, W\), got an array of shape \(4, 5\)"):
            f(x[0, 0])
        with pytest.raises(ValueError, match=r"expected a batch of images \(N, C, H, W\), got list"):
            f([1])
    for f in (random_flip, lambda a, p: cutout(a, 2, p)):
        for p in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match="is no probability"):
                f(x, p)
    for size, pad in (((5, 5), 0), ((4, 8), 1), (0, 0), (2, -1)):
        with pytest.raises(ValueError, match="random_crop: a window of .* does not fit into images of 4 x 5 with"):
            random_crop(x, size, pad)
    with pytest.raises(ValueError, match="cutout: size=0: expected at least one pixel each way"):
        cutout(x, 0)
    with pytest.raises(ValueError, match=r"normalise: mean has shape \(2,\), the images \(shape .*\) have 3 "):
        normalise(x, (0, 0), 1)
    with pytest.raises(ValueError, match=r"normalise: std has shape \(4,\)"):
        normalise(x, 0, (1, 1, 1, 1))
    for std in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="normalise: std must be positive"):
            normalise(x, 0, std)
