"""dense: a matrix product with bias and activation in one operation (kernels: kernels/dense.cu).

    z = x w^T + b       x (..., in), w (out, in), b (out,) or None
    y = act(z)          y (..., out)

    dz = dy act'(z)     from y where the activation permits it, so that z is not kept
    dx = dz w
    dw = dz^T x         summed over all leading axes
    db = sum dz

On the CPU the kernels make all three, from factors that they pack at each call: quicker than BLAS from a few rows of x on (1.05
to 1.5 times on a core, measured), the bias and the activation are done while the numbers are in the cache, and no two pools of
threads wait for each other.
"""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Tensor, operation
from ..backend import array_function, array_module, contiguous, device_of, empty, within_limit
from ..backend.threads import SMALL, num_threads, one_blas_thread
from ..readings import KernelFile
from .elementwise import as_tensor
from .nonlinearities import Activation, activation_backward, bias_act_forward, bias_backward, identity, parameter_of
from .products import matmul, matmul_forward


def _rows(x: Any) -> Any:
    """All leading axes as one, also where there are no elements to count by."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _shaped(x: Any, shape: tuple[int, ...]) -> Any:
    return x if x.shape == shape else x.reshape(shape)


def _product(a: Any, b: Any) -> Any:
    """``a b`` for two matrices: the plain case quickly, the others (16-bit, mixed, with steps) by ``matmul_forward``."""
    (n, k), m = a.shape, b.shape[1]
    large = n * k * m > ALONE
    if a.dtype != b.dtype or a.itemsize < 4 or (large and not (_whole(a) and _whole(b))):
        return matmul_forward(a, b)
    out = empty((n, m), a.dtype, like=a)
    if k == 1:  # BLAS takes three times as long
        return array_module(a).multiply(a, b, out=out)
    if large and n * k * m <= SMALL:
        with one_blas_thread:
            return array_module(a).matmul(a, b, out=out)
    return array_module(a).matmul(a, b, out=out)


ALONE = 1 << 18  # multiplications up to which BLAS takes one thread by itself, and steps in memory cost nothing


def _whole(a: Any) -> bool:
    return a.flags.c_contiguous or a.flags.f_contiguous


@array_function
def dense_forward(x: Any, w: Any, b: Any, activation: Activation = identity) -> tuple[Any, Any]:
    """``(y, z)``: the output, and the pre-activation where the gradient needs it (else None)."""
    z = _product(_rows(x), w.T)
    if activation.from_output:
        y, z = bias_act_forward(z, b, 1, activation, out=z), None
    else:
        if b is not None:
            z += b
        y = bias_act_forward(z, None, 1, activation)
    shape = (*x.shape[:-1], w.shape[0])
    return _shaped(y, shape), None if z is None else _shaped(z, shape)


@array_function
def dense_data(dz: Any, w: Any) -> Any:
    """dx = dz w, for matrices."""
    return _product(dz, w)


@array_function
def dense_weights(dz: Any, x: Any) -> Any:
    """dw = dz^T x, for matrices."""
    return _product(dz.T, x)


@array_function
def dense_backward(dy: Any, x: Any, w: Any, out: Any, z: Any, activation: Any, needs: Any) -> Any:
    """``(dx, dw, db)``."""
    dz = _rows(dy if activation is identity else activation_backward(dy, out if z is None else z, activation))
    return (
        _shaped(dense_data(dz, w), x.shape) if needs[0] else None,
        dense_weights(dz, _rows(x)) if needs[1] else None,
        bias_backward(dz, 1) if needs[2] else None,
    )


def _dense_rule(dy: Tensor, x: Any, w: Any, b: Any, activation: Any, needs: Any) -> Any:
    dz, x = dy, as_tensor(x)
    if activation is not identity:
        pre = matmul(x, w.T) if b is None else matmul(x, w.T) + b
        dz = activation.pull(dy, pre)
    leading = math.prod(dz.shape[:-1])
    rows = dz.reshape(leading, dz.shape[-1])
    return (
        matmul(dz, w) if needs[0] else None,
        matmul(rows.T, x.reshape(leading, x.shape[-1])) if needs[1] else None,
        rows.sum(axis=0) if needs[2] else None,
    )


dense = operation("dense", dense_forward, backward=dense_backward, rule=_dense_rule, residuals=("z",))


# -- kernels -----------------------------------------------------------------------------------------------------------

products = KernelFile("dense.cu")

PANEL = 48  # columns of the packed weights that lie side by side, as in the kernels
FEW = 1 << 13  # multiplications up to which packing costs more than it saves
MANY = 1 << 20  # from so many on the kernel of dw is quicker than BLAS, which packs nothing for fewer
LEAST = 8  # rows from which the kernels are quicker than BLAS
STRIP = 32  # rows that a panel of the weights is multiplied by at a time


def _suits(rows: int, space: int, a: Any, w: Any, few: bool) -> bool:
    """Whether a kernel should make this product, with ``space`` packed numbers."""
    if a.dtype != w.dtype or w.dtype.char not in "fd" or device_of(a) != "cpu":
        return False
    return few or (rows >= LEAST and within_limit(space * w.itemsize))


def by_panels(x: Any, w: Any, b: Any, activation: Activation, turned: bool, parts: int) -> Any:
    """``(y, z)`` of matrices by the kernel that packs the weights, in so many parts; w (K, n), or (n, K) when ``turned``."""
    (rows, k), n = x.shape, w.shape[not turned]
    x, w, b = contiguous(x), contiguous(w), contiguous(b)
    y, space = empty((rows, n), x.dtype, like=x), empty((parts, k, PANEL), x.dtype, like=x)
    z = None if activation.from_output else empty(y.shape, x.dtype, like=x)
    ran = products(
        "dense_forward", x, parts, PANEL, x, w, b, z, y, space, parameter_of(activation, ()), rows, k, n, turned, STRIP, parts,
        constants=activation.constants,
    )  # fmt: skip
    return (y, z) if ran else NotImplemented


def by_rows(x: Any, w: Any, b: Any, activation: Activation) -> Any:
    """``(y, z)`` of matrices by the kernel that reads the weights where they are."""
    (rows, k), n = x.shape, w.shape[0]
    x, w, b = contiguous(x), contiguous(w), contiguous(b)
    y = empty((rows, n), x.dtype, like=x)
    z = None if activation.from_output else empty(y.shape, x.dtype, like=x)
    ran = products(
        "dense_small", x, rows, n * k, x, w, b, z, y, parameter_of(activation, ()), rows, k, n, constants=activation.constants
    )
    return (y, z) if ran else NotImplemented


@dense_forward.kernel(
    accepts="float32 and float64 of one dtype on the CPU, not empty, with 8 rows or up to 8192 multiplications; copied where "
    "not contiguous"
)
def _(x: Any, w: Any, b: Any, activation: Activation = identity) -> Any:
    n, k = w.shape
    if not x.size or not n or (b is not None and b.dtype != w.dtype):
        return NotImplemented
    rows, few = x.size // k, x.size * n <= FEW
    if not _suits(rows, num_threads() * k * PANEL, x, w, few):
        return NotImplemented
    found = by_rows(_rows(x), w, b, activation) if few else by_panels(_rows(x), w, b, activation, True, num_threads())
    if x.ndim == 2 or found is NotImplemented:
        return found
    y, z = found
    shape = (*x.shape[:-1], n)
    return y.reshape(shape), None if z is None else z.reshape(shape)


@dense_data.kernel(
    accepts="float32 and float64 of one dtype on the CPU, with 8 rows and more than 8192 multiplications; copied where not "
    "contiguous"
)
def _(dz: Any, w: Any) -> Any:
    rows, n = dz.shape
    if dz.size * w.shape[1] <= FEW or not _suits(rows, num_threads() * n * PANEL, dz, w, False):
        return NotImplemented
    found = by_panels(dz, w, None, identity, False, num_threads())
    return found if found is NotImplemented else found[0]


CHUNK, GROUP = 256, 1024  # samples whose products are added up in registers, and outputs that are packed at a time


def _packing(rows: int, n: int, parts: int) -> tuple[int, int, int]:
    """(samples, outputs, numbers) that a part packs at a time."""
    chunk, group = min(rows, CHUNK), min(-(-n // parts) // 8 * 8 + 8, GROUP)
    return chunk, group, group * (chunk + 2) + chunk * PANEL


def weights_by_parts(dz: Any, x: Any, parts: int, chunk: int, group: int) -> Any:
    """dw by the kernel, in so many parts, each of which packs so many samples and outputs at a time."""
    (m, n), k = dz.shape, x.shape[1]
    dz, x = contiguous(dz), contiguous(x)
    dw, space = empty((n, k), x.dtype, like=x), empty((parts, group * (chunk + 2) + chunk * PANEL), x.dtype, like=x)
    ran = products("dense_weights", x, parts, PANEL, dz, x, dw, space, m, k, n, parts, chunk, group)
    return dw if ran else NotImplemented


@dense_weights.kernel(
    accepts="float32 and float64 of one dtype on the CPU, with 8 rows and from 2**20 multiplications on; copied where not "
    "contiguous"
)
def _(dz: Any, x: Any) -> Any:
    (rows, n), parts = dz.shape, num_threads()
    chunk, group, size = _packing(rows, n, parts)
    if dz.size * x.shape[1] < MANY or not _suits(rows, parts * size, dz, x, False):
        return NotImplemented
    return weights_by_parts(dz, x, parts, chunk, group)
