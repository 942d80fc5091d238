"""einops on tensors, both its array API functions and its ordinary ones."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitorch_flux as flux
from minitorch_flux import Tensor
from tests.oracles import check_operation

einops = pytest.importorskip("einops")
from einops import array_api as standard  # noqa: E402

import minitorch_flux.einops as ours  # noqa: E402

tensor = flux.array_api.asarray
X = np.random.default_rng(0).standard_normal((2, 6, 4, 3))
REARRANGED = ["b c h w -> b (c h w)", "b (c r) h w -> b c (h r) w", "b c h w -> w h c b", "(b o) c h w -> b c o h w"]
LENGTHS = {"r": 2, "o": 2}


def lengths(pattern):
    left = pattern.split("->")[0]
    return {k: v for k, v in LENGTHS.items() if k in left.replace("(", " ").replace(")", " ").split()}


@pytest.mark.parametrize("module", [standard, ours, einops], ids=["array_api", "minitorch_flux.einops", "einops"])
def test_values_and_gradients(module):
    for pattern in REARRANGED:
        more = lengths(pattern)
        check_operation(lambda x, p=pattern, m=more: module.rearrange(tensor(x), p, **m), X,
                        oracle=lambda x, p=pattern, m=more: einops.rearrange(x, p, **m), layouts=False)
    for how in ("sum", "mean", "max", "min", "prod"):
        check_operation(lambda x, how=how: module.reduce(tensor(x), "b c (h k) w -> b h c", how, k=2), X,
                        oracle=lambda x, how=how: einops.reduce(x, "b c (h k) w -> b h c", how, k=2), layouts=False)
    check_operation(lambda x: module.repeat(tensor(x), "b c h w -> b (c k) h w n", k=2, n=3), X,
                    oracle=lambda x: einops.repeat(x, "b c h w -> b (c k) h w n", k=2, n=3), layouts=False)
    assert module.reduce(Tensor(X > 0), "b c h w -> b", "any").tolist() == (X > 0).any((1, 2, 3)).tolist()


@given(st.permutations("bchw"), st.integers(1, 3))
def test_any_order_and_grouping(order, cut):
    pattern = f"b c h w -> ({' '.join(order[:cut])}) {' '.join(order[cut:])}"
    expected = einops.rearrange(X, pattern)
    for module in (standard, ours):
        np.testing.assert_array_equal(module.rearrange(Tensor(X), pattern).numpy(), expected)


def test_pack_unpack_and_lists():
    a, b = Tensor(X), Tensor(X[:, :, 0])
    for module in (standard, ours):
        packed, shapes = module.pack([a, b], "b c *")
        assert packed.shape == (2, 6, 15)
        assert [t.shape for t in module.unpack(packed, shapes, "b c *")] == [a.shape, b.shape]
        assert module.rearrange([a, a], "k b c h w -> b (k c) h w").shape == (2, 12, 4, 3)


def test_einsum_and_parse_shape():
    check_operation(lambda x, y: ours.einsum(tensor(x), tensor(y), "b c h w, b d h w -> b c d"), X, X[:, :2] + 1,
                    oracle=lambda x, y: np.einsum("bchw,bdhw->bcd", x, y))
    assert ours.parse_shape(Tensor(X), "b c _ w") == {"b": 2, "c": 6, "w": 3}


def test_the_backend():
    backend = ours.TensorBackend()
    assert backend.is_appropriate_type(flux.Param(np.ones(2)))
    assert not backend.is_appropriate_type(np.ones(2))
    assert backend.to_numpy(backend.from_numpy(X)) is X
    assert backend.arange(1, 4).tolist() == [1, 2, 3]
    assert not backend.is_float_type(Tensor(np.ones(2, int)))
    with pytest.raises(einops.EinopsError, match="Error while processing"):
        ours.rearrange(Tensor(X), "b c h -> b")


def test_without_einops_the_error_says_what_to_install():
    code = "import sys; sys.modules['einops'] = None; import minitorch_flux.einops"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "minitorch_flux.einops needs einops" in out.stderr
    assert out.stderr.strip().endswith("pip install einops")
