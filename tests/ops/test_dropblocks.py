"""DropBlock's mask against nested loops, its statistics against the formula, and PyTorch's build of the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import Generator
from minitorch_flux.ops.dropblocks import dropblock, dropblock_gamma, dropblock_mask
from minitorch_flux.ops.philox import philox_bernoulli
from tests.oracles import check_operation


def blocks_by_loops(seeds, block, valid):
    """What the document says, pixel by pixel: True where no block lies."""
    kept = np.ones(seeds.shape, bool)
    n, c, h, w = seeds.shape
    before, after = (block - 1) // 2, block // 2
    for s, k, i, j in zip(*np.nonzero(seeds), strict=True):
        if valid and not (before <= i < h - after and before <= j < w - after):
            continue
        for a in range(i - before, i + after + 1):
            for b in range(j - before, j + after + 1):
                if 0 <= a < h and 0 <= b < w:
                    kept[s, k, a, b] = False
    return kept


def possible_seeds(n, block, valid):
    """For each place of a line of n pixels: the seeds whose block would cover it."""
    before, after = (block - 1) // 2, block // 2
    seeds = range(before, n - after) if valid else range(n)
    return np.array([sum(i - before <= place <= i + after for i in seeds) for place in range(n)])


def shares(h, w, p, block_size, gamma_scale, valid):
    """The probability that each pixel is dropped."""
    block = min(block_size, h, w)
    k = possible_seeds(h, block, valid)[:, None] * possible_seeds(w, block, valid)
    return 1 - (1 - dropblock_gamma(p, block_size, gamma_scale, h, w)) ** k


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.floats(0, 1), st.integers(0, 1000))
def test_the_mask_is_that_of_nested_loops(h, w, block, valid, gamma, seed):
    block, shape = min(block, h, w), (2, 3, h, w)
    kept = dropblock_mask(seed, 5, shape, gamma, block, valid)
    np.testing.assert_array_equal(kept, blocks_by_loops(philox_bernoulli(seed, 5, shape, gamma), block, valid))


@pytest.mark.parametrize(("p", "block", "scale", "h", "w", "wanted"), [
    (0.1, 7, 1.0, 56, 56, 0.00256), (0.1, 7, 1.0, 14, 14, 0.00625), (0.1, 7, 1.0, 7, 7, 0.1), (0.1, 3, 1.0, 10, 10, 0.0173611),
    (0.1, 7, 1.0, 6, 6, 0.1), (0.1, 7, 1.0, 5, 5, 0.1), (0.1, 7, 1.0, 5, 9, 0.036), (0.1, 7, 0.25, 14, 14, 0.0015625),
    (1.0, 1, 1.0, 4, 4, 1.0), (1.0, 3, 1.0, 3, 3, 1.0), (1.0, 2, 1.0, 3, 2, 0.75),
])  # fmt: skip
def test_gamma(p, block, scale, h, w, wanted):
    assert dropblock_gamma(p, block, scale, h, w) == pytest.approx(wanted, rel=1e-3)


@given(st.floats(0, 1), st.integers(1, 20), st.floats(0, 1), st.integers(1, 20), st.integers(1, 20))
def test_gamma_is_a_probability_for_all_maps_and_blocks(p, block, scale, h, w):
    assert 0 <= dropblock_gamma(p, block, scale, h, w) <= 1


@pytest.mark.parametrize("edge", ["free", "valid"])
@pytest.mark.parametrize(("h", "w", "block"), [(12, 9, 3), (12, 9, 4), (7, 7, 7), (5, 9, 7), (6, 6, 1)])
def test_the_share_of_dropped_pixels_is_that_of_the_formula(h, w, block, edge):
    n = 4000
    x = np.ones((n // 4, 4, h, w), np.float32)
    y = dropblock(x, 0.2, block, 1.0, rng=Generator(7), edge=edge).numpy()
    wanted = shares(h, w, 0.2, block, 1.0, edge == "valid")
    np.testing.assert_allclose((y == 0).mean(axis=(0, 1)), wanted, atol=5 * 0.5 / np.sqrt(n))
    if edge == "valid":
        assert wanted.mean() == pytest.approx(0.2, abs=0.03)  # what the formula of gamma is made for


@pytest.mark.parametrize(("h", "w", "block"), [(8, 8, 3), (8, 8, 4), (7, 7, 7), (5, 9, 7), (1, 1, 7), (2, 6, 5)])
def test_in_valid_mode_whole_blocks_are_dropped(h, w, block):
    """Where one block lies alone it is a full square of min(block, h, w) pixels."""
    block_ = min(block, h, w)
    y = dropblock(np.ones((300, 1, h, w)), 0.05, block, 1.0, rng=Generator(3), edge="valid").numpy()
    dropped = (y == 0).sum(axis=(1, 2, 3))
    assert set(dropped[dropped > 0]).issubset(range(block_**2, h * w + 1))
    assert (dropped == block_**2).sum() > 3


def test_free_blocks_stick_out_over_the_edge():
    y = dropblock(np.ones((500, 1, 6, 6)), 0.02, 5, 1.0, rng=Generator(0)).numpy()
    dropped = (y == 0).sum(axis=(1, 2, 3))
    assert {9, 12, 15, 20, 25} & set(dropped) >= {9, 12}  # corners and edges of 5 x 5


def test_what_is_kept_is_scaled_so_that_the_mean_of_ones_stays():
    y = dropblock(np.ones((4, 3, 20, 20)), 0.3, 4, 1.0, rng=Generator(0)).numpy()
    assert y.mean() == pytest.approx(1)
    kept = y[y != 0]
    assert kept.min() == kept.max() == pytest.approx(y.size / kept.size)  # one scale for the whole batch


def test_all_dropped_gives_zeros_and_no_nan():
    np.testing.assert_array_equal(dropblock(np.ones((2, 1, 3, 3)), 1.0, 3, 1.0, rng=Generator(0)).numpy(), 0)
    np.testing.assert_array_equal(dropblock(np.ones((2, 1, 4, 6)), 1.0, 1, 1.0, rng=Generator(0)).numpy(), 0)


def test_batchwise_is_one_mask_for_all_samples():
    y = dropblock(np.ones((5, 3, 9, 9)), 0.2, 3, 1.0, rng=Generator(0), batchwise=True).numpy()
    np.testing.assert_array_equal(y, np.broadcast_to(y[:1], y.shape))
    assert (y == 0).any()
    assert not np.array_equal(y[0, 0], y[0, 1])
    z = dropblock(np.ones((5, 3, 9, 9)), 0.2, 3, 1.0, rng=Generator(0)).numpy()
    assert not np.array_equal(z[0], z[1])


@pytest.mark.parametrize("batchwise", [False, True])
def test_noise_fills_the_blocks_and_scales_nothing(batchwise):
    x = np.random.default_rng(0).uniform(10, 20, (6, 4, 16, 16)).astype(np.float32)
    kept = dropblock(np.ones_like(x), 0.4, 3, 1.0, rng=Generator(1), batchwise=batchwise).numpy() > 0
    y = dropblock(x, 0.4, 3, 1.0, rng=Generator(1), batchwise=batchwise, noise=True)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y.numpy()[kept], x[kept])
    noise = y.numpy()[~kept]
    assert abs(noise.mean()) < 0.15
    assert 0.9 < noise.std() < 1.1
    again = dropblock(x, 0.4, 3, 1.0, rng=Generator(1), batchwise=batchwise, noise=True)
    np.testing.assert_array_equal(y.numpy(), again.numpy())


@pytest.mark.parametrize("keywords", [{}, {"edge": "valid"}, {"batchwise": True}, {"noise": True}])
def test_gradients_of_first_and_second_order(keywords):
    x = np.random.default_rng(0).standard_normal((2, 2, 5, 6))
    check_operation(lambda x: dropblock(x, 0.3, 3, 1.0, rng=Generator(2), **keywords) ** 2, x, dtypes=(np.float32, np.float16))


@pytest.mark.parametrize("edge", ["free", "valid"])
@pytest.mark.parametrize("block", [3, 5, 7])
def test_against_a_build_in_pytorch_with_the_same_seeds(block, edge):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(block).standard_normal((3, 2, 9, 11))
    h, w = x.shape[2:]
    rng = Generator(11)
    seeds = torch.from_numpy(philox_bernoulli(11, 0, x.shape, dropblock_gamma(0.2, block, 0.5, h, w)).astype(float))
    xt = torch.from_numpy(x).requires_grad_()
    if edge == "valid":
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        r = block // 2
        inside = (rows >= r) & (rows < h - r) & (columns >= r) & (columns < w - r)
        seeds = seeds * inside
    mask = 1 - torch.nn.functional.max_pool2d(seeds, block, stride=1, padding=block // 2)
    wanted = xt * mask * (mask.numel() / mask.sum())
    (wanted**2).sum().backward()
    y, dx = flux.withgradient(lambda x: (dropblock(rng, x, 0.2, block, 0.5, edge=edge) ** 2).sum(), x)
    np.testing.assert_allclose(y, (wanted**2).sum().item(), rtol=1e-12)
    np.testing.assert_allclose(dx, xt.grad.numpy(), rtol=1e-12)


def test_both_functional_signatures():
    x = np.ones((2, 2, 8, 8), np.float32)
    a = dropblock(Generator(4), x, 0.3, 3, 1.0).numpy()
    np.testing.assert_array_equal(a, dropblock(x, 0.3, 3, 1.0, rng=Generator(4)).numpy())
    np.testing.assert_array_equal(a, dropblock(x=x, drop_block_prob=0.3, block_size=3, gamma_scale=1.0, active=True,
                                               rng=Generator(4)).numpy())
    flux.seed(9)
    b = dropblock(x, 0.3, 3, 1.0, True).numpy()
    flux.seed(9)
    np.testing.assert_array_equal(b, dropblock(x, 0.3, 3, 1.0).numpy())
    numpys = [dropblock(np.random.default_rng(s), x, 0.3, 3, 1.0).numpy() for s in (0, 0, 1)]
    np.testing.assert_array_equal(numpys[0], numpys[1])
    assert not np.array_equal(numpys[0], numpys[2])


def test_the_mask_is_the_same_in_every_dtype_with_and_without_kernels():
    x = np.ones((2, 3, 8, 8))
    masks = [dropblock(x.astype(d), 0.3, 3, 1.0, rng=Generator(0)).numpy() == 0 for d in (np.float64, np.float32, np.float16)]
    with flux.use_kernels(False):
        masks.append(dropblock(x, 0.3, 3, 1.0, rng=Generator(0)).numpy() == 0)
    for m in masks[1:]:
        np.testing.assert_array_equal(m, masks[0])


@pytest.mark.parametrize(("p", "scale", "active"), [(None, 1.0, True), (0.0, 1.0, True), (0.5, 0.0, True), (0.5, 1.0, False),
                                                    (0.5, 1.0, None), (0, 1, True)])
def test_what_is_off_returns_the_input_and_draws_nothing(p, scale, active):
    x, rng = flux.tensor(np.ones((2, 2, 8, 8), np.float32)), Generator(0)
    assert dropblock(x, p, 3, scale, active, rng=rng) is x
    assert rng.counter == 0
    a = np.ones((2, 2, 8, 8), np.float32)
    assert np.shares_memory(dropblock(a, p, 3, scale, active).numpy(), a)


def test_active_none_drops_inside_a_recording_scope():
    with flux.record():
        assert (dropblock(np.ones((2, 2, 8, 8)), 0.5, 3, 1.0, None).numpy() == 0).any()


@pytest.mark.parametrize("shape", [(0, 2, 4, 4), (2, 0, 4, 4), (2, 2, 0, 4), (2, 2, 4, 0)])
def test_empty_inputs_stay(shape):
    assert dropblock(np.ones(shape), 0.5, 3, 1.0).shape == shape


def test_integers_become_float64_and_nothing_is_written_to():
    x = np.ones((2, 2, 6, 6), np.int64)
    assert dropblock(x, 0.5, 3, 1.0).dtype == np.float64
    np.testing.assert_array_equal(x, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_dropped_may_be_anything(value):
    y = dropblock(np.full((1, 1, 30, 30), value), 0.1, 3, 1.0, rng=Generator(0)).numpy()
    kept = dropblock(np.ones((1, 1, 30, 30)), 0.1, 3, 1.0, rng=Generator(0)).numpy() > 0
    np.testing.assert_array_equal(y, np.where(kept, value, 0))


def test_strided_inputs():
    x = np.random.default_rng(0).standard_normal((2, 6, 8, 10))[:, ::2, ::-1]
    np.testing.assert_array_equal(dropblock(x, 0.3, 3, 1.0, rng=Generator(0)).numpy(),
                                  dropblock(x.copy(), 0.3, 3, 1.0, rng=Generator(0)).numpy())


def test_its_shape_is_told_without_numbers():
    assert flux.outputsize(lambda x: dropblock(x, 0.3, 3, 1.0), (2, 3, 8, 8)) == (2, 3, 8, 8)


x4 = np.ones((1, 1, 4, 4))


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), [
    ((np.ones((3, 4, 4)), 0.1, 3, 1.0), {}, ValueError,
     r"input has 3 axes, expected 4, \(N, C, H, W\) \(input shape \(3, 4, 4\)\)"),
    ((np.ones((3, 4, 4)), None, 3, 1.0), {}, ValueError, "input has 3 axes"),
    ((x4, 1.5, 3, 1.0), {}, ValueError, "drop_block_prob must be between 0 and 1, got 1.5"),
    ((x4, float("nan"), 3, 1.0), {}, ValueError, "drop_block_prob must be between 0 and 1, got nan"),
    ((x4, "a", 3, 1.0), {}, TypeError, "drop_block_prob must be a number between 0 and 1, got 'a'"),
    ((x4, 0.1, 3, -0.5), {}, ValueError, "gamma_scale must be between 0 and 1, got -0.5"),
    ((x4, 0.1, 3, None), {}, TypeError, "gamma_scale must be a number between 0 and 1, got None"),
    ((x4, 0.1, 0, 1.0), {}, ValueError, "block_size must be at least 1, got 0"),
    ((x4, 0.1, 2.5, 1.0), {}, TypeError, "block_size must be a whole number, got 2.5"),
    ((x4, 0.1, 3, 1.0), {"edge": "exact"}, ValueError, "edge must be 'free' .* or 'valid' .* got 'exact'"),
    ((x4, 0.1, 3, 1.0), {"rng": 5}, TypeError, "rng= must be a flux.Generator"),
    ((Generator(0), x4, 0.1, 3, 1.0), {"rng": Generator(0)}, TypeError, "the generator is given twice"),
    ((x4, 0.1), {}, TypeError, r"dropblock\(\) missing 2 required positional arguments: 'block_size' and 'gamma_scale'"),
])  # fmt: skip
def test_errors(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        dropblock(*arguments, **keywords)
