import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor, gradient
from minitorch_flux.ops import products as ops
from tests.oracles import broadcastable, check_against_torch, check_operation, normal


def numpys(f):
    return lambda *xs, **keywords: np.asarray(f(*xs, **keywords))


@given(leading=broadcastable(2, 2), sizes=st.tuples(*[st.integers(0, 3)] * 3), vectors=st.integers(0, 3))
def test_matmul(leading, sizes, vectors):
    i, k, j = sizes
    x = (k,) if vectors & 1 else (*leading[0], i, k)
    y = (k,) if vectors & 2 else (*leading[1], k, j)
    dtypes = (np.float16, np.float32)
    check_operation(ops.matmul, normal(*x), normal(*y, seed=1), oracle=numpys(np.matmul), dtypes=dtypes)


@pytest.mark.parametrize("shapes", [
    ((5,), (5,)), ((4, 5), (5,)), ((5,), (5, 3)), ((4, 5), (5, 3)), ((2, 4, 5), (5, 3)), ((4, 5), (2, 5, 3)),
    ((3, 1, 4, 5), (2, 5, 3)), ((2, 4, 5), (5,)), ((5,), (2, 5, 3)),
])
def test_matmul_against_torch(shapes):
    torch = pytest.importorskip("torch")
    check_against_torch(ops.matmul, torch.matmul, normal(*shapes[0]), normal(*shapes[1], seed=1))


def test_matmul_operator_and_dtypes():
    a, b = normal(2, 3), normal(3, 4)
    for x, y in [(Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b))]:
        assert isinstance(x @ y, Tensor)
        np.testing.assert_allclose((x @ y).data, a @ b)
    whole = np.arange(6).reshape(2, 3)
    assert ops.matmul(whole, whole.T).dtype == np.int64
    np.testing.assert_array_equal(ops.matmul(whole, whole.T).data, whole @ whole.T)
    assert ops.matmul(whole, b).dtype == np.float64
    half = np.full((64, 4096), 0.1, np.float16)
    y = ops.matmul(half, half.T)  # added up in float32
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.data, half.astype(float) @ half.T.astype(float), rtol=1e-3)


@pytest.mark.parametrize("transform", [
    lambda a: a[:, ::2, ::2], lambda a: a[::-1, ::-1], lambda a: a.swapaxes(-1, -2),
    lambda a: np.broadcast_to(a[:1, :1], a.shape), lambda a: np.broadcast_to(a[:, :1], a.shape),
    lambda a: np.broadcast_to(a[..., :1], a.shape), np.asfortranarray,
])
def test_matmul_of_any_layout(transform):
    x, y = transform(normal(3, 160, 160)), transform(normal(3, 160, 160, seed=1))
    np.testing.assert_allclose(ops.matmul(x, y).data, np.einsum("bij,bjk->bik", x.copy(), y.copy()), atol=1e-10)
    np.testing.assert_allclose(ops.matmul(x, y[0]).data, np.einsum("bij,jk->bik", x.copy(), y[0].copy()), atol=1e-10)
    np.testing.assert_allclose(ops.matmul(x[0], y[0]).data, x[0].copy() @ y[0].copy(), atol=1e-10)


def test_matmul_of_a_sum_gradient():
    """The gradient of a sum is a stretched view, which BLAS cannot read."""
    x, w = normal(70, 90), normal(90, 80)
    dw = gradient(lambda w: (Tensor(x) @ w).sum(), w)
    np.testing.assert_allclose(dw, np.tile(x.sum(0)[:, None], (1, 80)))


def test_matmul_errors():
    message = r"matmul: the shapes \(2, 3\) and \(4, 5\) do not fit: axis -1 of the first has 3 elements, axis -2 of"
    with pytest.raises(ValueError, match=message):
        ops.matmul(np.ones((2, 3)), np.ones((4, 5)))
    with pytest.raises(ValueError, match="axis -1 of the first has 3 elements, axis 0 of the second 4"):
        ops.matmul(np.ones((2, 3)), np.ones(4))
    with pytest.raises(ValueError, match=r"matmul: the leading axes .* do not broadcast: axis -3 has the sizes 2"):
        ops.matmul(np.ones((2, 3, 3)), np.ones((4, 3, 3)))
    with pytest.raises(ValueError, match=r"matmul: needs at least one axis .* got the shapes \(2,\) and \(\)"):
        ops.matmul(np.ones(2), 3.0)


CONTRACTIONS = [
    "ij,jk->ik", "ij,jk->ki", "ij,kj->ik", "ji,jk->ik", "bij,bjk->bik", "bij,bjk->kbi", "ij,ij->", "ij,ij->i",
    "ij,ij->ij", "ij,ji->ij", "i,j->ij", "i,j->ji", "ijk,jkl->il", "ijk,kjl->li", "ijb,kjb->bik", ",i->i",
]


@pytest.mark.parametrize("letters", CONTRACTIONS)
@pytest.mark.parametrize("empty", [None, "i", "j"])
def test_contract(letters, empty):
    terms, to = letters.split("->")
    a, b = terms.split(",")
    sizes = {c: 0 if c == empty else 2 + i for i, c in enumerate("bijkl")}
    x, y = (normal(*(sizes[c] for c in term), seed=i) for i, term in enumerate((a, b)))
    check_operation(ops.contract, x, y, a=a, b=b, to=to, dtypes=(np.float16, np.float32),
                    oracle=lambda x, y, **_: np.asarray(np.einsum(letters, x, y)))


@pytest.mark.parametrize(("name", "shapes"), [
    ("dot", ((3,), (3,))), ("dot", ((2, 3), (3, 4))), ("dot", ((2, 3), (4, 3, 2))), ("dot", ((), (3,))),
    ("dot", ((2, 3), (3,))),
    ("inner", ((3,), (3,))), ("inner", ((2, 3), (4, 3))), ("inner", ((2, 3), ())), ("inner", ((0, 3), (4, 3))),
    ("vdot", ((2, 3), (3, 2))), ("vdot", ((0,), (0,))), ("outer", ((2, 3), (2,))), ("outer", ((), (0,))),
    ("kron", ((2, 3), (2, 2))), ("kron", ((2,), (1, 2, 2))), ("kron", ((2, 1, 3), (2, 2))),
])
def test_numpys_products(name, shapes):
    x, y = normal(*shapes[0]), normal(*shapes[1], seed=1)
    check_operation(getattr(ops, name), x, y, oracle=numpys(getattr(np, name)))


@pytest.mark.parametrize(("shapes", "axes"), [
    (((2, 3, 4), (3, 4, 2)), 2), (((2, 3), (4,)), 0), (((2, 3), (3,)), 1), (((2, 3, 4), (4, 5, 2)), ((0, -1), (2, 0))),
    (((2, 3), (2, 4)), (0, 0)), (((0, 3), (3, 2)), 1),
])
def test_tensordot(shapes, axes):
    x, y = normal(*shapes[0]), normal(*shapes[1], seed=1)
    check_operation(ops.tensordot, x, y, axes=axes, oracle=numpys(np.tensordot))


def test_product_errors():
    with pytest.raises(ValueError, match=r"dot: the shapes \(2, 3\) and \(4,\) do not fit: axis 1 of the first has 3"):
        ops.dot(np.ones((2, 3)), np.ones(4))
    with pytest.raises(ValueError, match=r"tensordot: the shapes \(2, 3\) and \(4, 2\) do not fit"):
        ops.tensordot(np.ones((2, 3)), np.ones((4, 2)), 1)
    with pytest.raises(ValueError, match="tensordot: cannot add up over 3 axes"):
        ops.tensordot(np.ones((2, 3)), np.ones((4, 2)), 3)
    with pytest.raises(ValueError, match="name 2 axes of the first and 1 of the second"):
        ops.tensordot(np.ones((2, 3)), np.ones((3, 2)), ((0, 1), (0,)))
    with pytest.raises(np.exceptions.AxisError, match="tensordot: there is no axis 5"):
        ops.tensordot(np.ones((2, 3)), np.ones((3, 2)), (5, 0))
