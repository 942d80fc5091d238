"""What every kernel must accept, as calls: a row for each array function that has a kernel (see test_accepts.py).

A row's ``inside(d)`` yields the arguments of calls that a kernel must serve, ``outside(d)`` of calls that are the
reference's. ``d`` draws the arrays: ``d.normal`` and ``d.uniform`` floats of the row's dtype in the layout that is tested,
``d.plain`` contiguous ones. Dtypes and layouts are the row's: ``dtypes`` those that the kernel takes (of others every call
is outside), ``copies`` whether what is not contiguous is copied (else it is outside).
"""

from dataclasses import dataclass

import numpy as np

from minitorch_flux.backend import FUNCTIONS, accumulator
from minitorch_flux.ops.batches import Batch
from minitorch_flux.ops.elementwise import LARGE, PARALLEL
from minitorch_flux.ops.geometry import window
from minitorch_flux.ops.nonlinearities import identity, relu, sigmoid, swish, tanh
from minitorch_flux.ops.reductions import FEW
from minitorch_flux.ops.scans import FEW as SCANNED
from minitorch_flux.ops.upsampling import linear_taps

LAYOUTS = ("contiguous", "transposed", "with gaps", "reversed")
FLOATS = ("float32", "float64", "float16", "bfloat16")
WIDE = ("float32", "float64")
SIZES = (1, 33, 1025)


class Draw:
    """Arrays of one dtype and layout, the same ones each time."""

    def __init__(self, dtype, layout="contiguous"):
        self.dtype, self.layout = np.dtype(dtype), layout
        self.rng = np.random.default_rng(0)

    def normal(self, *shape):
        return self._laid(self.rng.standard_normal(shape))

    def uniform(self, *shape):
        return self._laid(self.rng.uniform(0.1, 0.9, shape))

    def plain(self, *shape, dtype=None):
        return self.rng.uniform(0.1, 0.9, shape).astype(dtype or self.dtype)

    def high(self, *shape):
        """Statistics and the like: of the dtype that sums have."""
        return self.plain(*shape, dtype=accumulator(self.dtype))

    def whole(self, high, *shape):
        return self.rng.integers(high, size=shape)

    def flags(self, *shape):
        return self.rng.random(shape) < 0.6

    def _laid(self, a):
        a = a.astype(self.dtype)
        if self.layout == "transposed":
            return np.asfortranarray(a)
        if self.layout == "with gaps":
            wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
            wide[..., ::2] = a
            return wide[..., ::2]
        return np.ascontiguousarray(a[..., ::-1])[..., ::-1] if self.layout == "reversed" else a


def nothing(d):
    return iter(())


@dataclass(frozen=True)
class Row:
    """One array function: see above. ``tolerance``: in units of the resolution times the largest expected number.

    ``view`` makes of the result what kernel and reference agree in.
    """

    inside: object
    outside: object = nothing
    dtypes: tuple = FLOATS
    copies: bool = True
    tolerance: float = 64.0
    view: object = staticmethod(lambda *arrays: arrays)


ROWS = {}


def row(*names, outside=nothing, **options):
    """Decorator: the calls of one array function, or of several that take the same arguments."""

    def register(inside):
        for name in names:
            assert name not in ROWS, f"two rows for {name}"
            ROWS[name] = Row(inside, outside, **options)
        return inside

    return register


def reference(name, *args):
    return FUNCTIONS[name].reference(*args)


def empty_x(*rest, shape=(0, 3)):
    return lambda d: iter([(d.normal(*shape), *rest)])


# -- softmaxes.cu, crossentropies.cu -----------------------------------------------------------------------------------


@row("softmax_forward", "logsoftmax_forward", "logsumexp_forward", outside=empty_x(-1))
def _(d):
    for n in SIZES:
        yield d.normal(n), 0
        yield d.normal(3, n), -1
        yield d.normal(2, 3, n), 1
        yield d.normal(n, 2), 0


def _softmax_back_outside(d):
    yield d.normal(0, 3), d.normal(0, 3), -1
    yield d.normal(2, 3), d.plain(2, 3, dtype="float64" if d.dtype != "float64" else "float32"), -1


@row("softmax_backward", "logsoftmax_backward", outside=_softmax_back_outside)
def _(d):
    for n in SIZES:
        yield d.normal(3, n), d.uniform(3, n), -1
        yield d.normal(2, 3, n), d.uniform(2, 3, n), 1


@row("logitcrossentropy_forward", outside=lambda d: iter([(d.normal(0, 3), d.whole(3, 0), None, 1)]))
def _(d):
    for n in SIZES:
        yield d.normal(5, n), d.whole(n, 5), None, 1, 0.1
        yield d.normal(5, n), d.uniform(5, n), d.plain(n), 1
        yield d.normal(2, 3, n), d.whole(3, 2, n), d.plain(3), 1, 0.0, "none"


# -- layer_norms.cu ----------------------------------------------------------------------------------------------------


def _without_weight(d):
    yield d.normal(0, 3), None, None, 1, 0.1, False
    yield d.normal(2, 3), None, d.plain(3), 1, 0.1, False
    yield d.normal(2, 3), d.plain(3, dtype="float64" if d.dtype != "float64" else "float32"), None, 1, 0.1, False


@row("layer_norm_forward", outside=_without_weight)
def _(d):
    for n in SIZES[1:]:  # of one number the deviation is 0
        for inside in (False, True):
            yield d.normal(5, n), d.plain(n), d.plain(n), 1, 0.1, inside
        yield d.normal(2, 3, n), d.normal(3, n), None, 2, 0.1, True
        yield d.normal(2, n), d.high(n), d.high(n), 1, 0.1, True
        yield d.normal(n), None, None, 1, 0.1, False


@row("layer_norm_backward", outside=lambda d: iter([(d.normal(0, 3), d.normal(0, 3), None, d.high(0, 1), d.high(0, 1), 1, 0.1,
                                                     True, (True, False, False))]))
def _(d):
    for n in SIZES[1:]:
        x, w, b = d.normal(37, n), d.plain(n), d.plain(n)
        _, shift, s = reference("layer_norm_forward", x, w, b, 1, 0.1, True)
        yield d.normal(37, n), x, w, shift, s, 1, 0.1, True, (True, True, True)
        yield d.normal(37, n), x, d.high(n), shift, s, 1, 0.1, True, (True, True, True)
        yield d.normal(37, n), x, None, shift, s, 1, 0.1, True, (True, False, False)


@row("rms_norm_forward", outside=empty_x(None, 1, 0.1))
def _(d):
    for n in SIZES:
        yield d.normal(5, n), d.plain(n), 1, 0.1
        yield d.normal(5, n), d.high(n), 1, 0.1
        yield d.normal(2, 3, n), None, 2, 0.1


@row("rms_norm_backward", outside=lambda d: iter([(d.normal(0, 3), d.normal(0, 3), None, d.high(0, 1), 1, (True, False))]))
def _(d):
    for n in SIZES:
        x, w = d.normal(37, n), d.plain(n)
        _, scale = reference("rms_norm_forward", x, w, 1, 0.1)
        yield d.normal(37, n), x, w, scale, 1, (True, True)
        yield d.normal(37, n), x, d.high(n), scale, 1, (True, True)


# -- channel_norms.cu --------------------------------------------------------------------------------------------------

_IMAGES = ((4, 3, 1), (4, 3, 33), (2, 3, 5, 7), (9, 65))


def _norm_outside(d):
    yield d.normal(0, 3), None, None, 0.1
    yield d.normal(4, 3), d.plain(3), None, 0.1


def _whole_mean(y, stats):
    return y, stats[0] + stats[1], stats[2:]  # it comes in two parts


@row("batch_norm_forward", outside=_norm_outside, view=_whole_mean)
def _(d):
    for shape in _IMAGES:
        yield d.normal(*shape), d.plain(shape[1]), d.plain(shape[1]), 0.1, tanh
        yield d.normal(*shape), d.high(shape[1]), d.high(shape[1]), 0.1, tanh
        yield d.normal(*shape), None, None, 0.1


@row("batch_norm_backward", outside=lambda d: iter([(d.normal(4, 3), d.normal(4, 3), d.plain(3), None, d.high(4, 3), identity,
                                                     (True, True, False))]))
def _(d):
    for shape in _IMAGES:
        x, w, b = d.normal(*shape), d.plain(shape[1]), d.plain(shape[1])
        _, stats = reference("batch_norm_forward", x, w, b, 0.1, tanh)
        yield d.normal(*shape), x, w, b, stats, tanh, (True, True, True)
        yield d.normal(*shape), x, d.high(shape[1]), d.high(shape[1]), stats, tanh, (True, True, True)


@row("fixed_norm_forward", outside=lambda d: iter([(d.normal(0, 3), None, None, d.high(4, 3))]))
def _(d):
    for shape in _IMAGES:
        yield d.normal(*shape), d.plain(shape[1]), d.plain(shape[1]), d.high(4, shape[1]), tanh
        yield d.normal(*shape), d.high(shape[1]), d.high(shape[1]), d.high(4, shape[1]), tanh


@row("group_norm_forward", view=_whole_mean, outside=lambda d: iter([(d.normal(0, 4), None, None, 2, 0.1)]))
def _(d):
    for shape in ((3, 6, 33), (3, 6, 2, 3), (3, 6)):
        yield d.normal(*shape), d.plain(6), d.plain(6), 2, 0.1, tanh
        yield d.normal(*shape), d.high(6), d.high(6), 2, 0.1, tanh


@row("group_norm_backward", outside=lambda d: iter([(d.normal(0, 4), d.normal(0, 4), None, None, d.high(4, 0), 2, identity,
                                                     (True, False, False))]))
def _(d):
    for shape in ((3, 6, 33), (3, 6, 2, 3), (3, 6)):
        x, w, b = d.normal(*shape), d.plain(6), d.plain(6)
        _, stats = reference("group_norm_forward", x, w, b, 2, 0.1, tanh)
        yield d.normal(*shape), x, w, b, stats, 2, tanh, (True, True, True)
        yield d.normal(*shape), x, d.high(6), d.high(6), stats, 2, tanh, (True, True, True)


# -- nonlinearities.cu, special.cu, casts.cu, dropouts.cu, philox.cu ---------------------------------------------------


def _bias_act_outside(d):
    yield d.normal(2, 3), d.plain(3), 1, relu  # few elements
    yield d.normal(32, 33), None, 1, identity
    yield d.normal(32, 33), d.plain(33, dtype="float64" if d.dtype != "float64" else "float32"), 1, tanh


@row("bias_act_forward", outside=_bias_act_outside)
def _(d):
    for act in (sigmoid, tanh, identity):
        n = act.kernel_from
        yield d.normal(2, 3, n), d.plain(3), 1, act
        yield d.normal(n, 33), d.plain(33), -1, act
        if act is not identity:
            yield d.normal(n), None, -1, act


def _activation_back_outside(d):
    yield d.normal(2, 3), d.normal(2, 3), relu
    yield d.normal(32, 33), d.normal(32, 33), identity


@row("activation_backward", outside=_activation_back_outside)
def _(d):
    for act in (sigmoid, tanh):
        yield d.normal(act.kernel_from), d.uniform(act.kernel_from), act
        yield d.normal(3, act.kernel_from), d.uniform(3, act.kernel_from), act


@row("bias_backward", outside=lambda d: iter([(d.normal(5, 3), 1), (d.normal(0, 3, 2), 1)]))
def _(d):
    yield d.normal(5, 3, 33), 1
    yield d.normal(1, 1, 2), -2
    yield d.normal(3, 4, 2, 5), 1


@row("erf_forward")
def _(d):
    for n in SIZES:
        yield (d.normal(2, n),)


@row("astype_forward", dtypes=("float32", "float16", "bfloat16"), tolerance=0,
     outside=lambda d: iter([(d.normal(1023), "float32" if d.dtype != "float32" else "float16"), (d.normal(2000), d.dtype),
                             (d.normal(2000), np.dtype("float64"))]))
def _(d):
    for n in (1024, 4097):
        yield d.normal(n), np.dtype("float32" if d.dtype.itemsize == 2 else "float16")


@row("dropout_forward", outside=lambda d: iter([(d.normal(0, 3), 0.5, (1, 2), (0, 3), 2.0),
                                                (d.normal(2, 3), 0.5, (1, 2), (1, 3), 2.0)]))
def _(d):
    for n in SIZES:
        yield d.normal(2, n), 0.5, (1, 2), (2, n), 2.0
        yield d.normal(2, 3, n + 1), 0.5, (1, 2), (2, 3, 1), 2.0, 0.25, -1.0


@row("philox_uniform", tolerance=0)
def _(d):
    for shape in ((), (1,), (3, 11), (1025,)):
        yield 1, 2, shape, d.dtype


@row("philox_bernoulli", tolerance=0)
def _(d):
    for shape in ((), (1,), (3, 11), (1025,)):
        yield 1, 2, shape, 0.3


# -- elementwise.cu, comparisons.cu, scans.cu --------------------------------------------------------------------------


@row("exp_forward", "expm1_forward", "log_forward", "log1p_forward", "sqrt_forward", "sin_forward", "cos_forward",
     copies=False)
def _(d):
    yield (d.uniform(LARGE // d.dtype.itemsize),)
    yield (d.uniform(3, LARGE // d.dtype.itemsize),)


def _enough(d):
    return LARGE // 2 if d.dtype.itemsize == 2 else PARALLEL


def _binary_outside(d):
    n = _enough(d)
    yield d.normal(n - 1), 1.5
    yield d.normal(1, n), d.normal(1, 1)  # they broadcast


@row("add_forward", "subtract_forward", "multiply_forward", "divide_forward", copies=False, outside=_binary_outside)
def _(d):
    n = _enough(d)
    yield d.normal(n), d.uniform(n)
    yield d.normal(n), 1.5
    yield 2, d.uniform(n)


@row("where_forward", copies=False, outside=lambda d: iter([(d.flags(4095), d.normal(4095), 0.0),
                                                            (d.flags(5, 1), d.normal(5, 1000), 0.0)]))
def _(d):
    yield d.flags(4096), d.normal(4096), d.normal(4096)
    yield d.flags(3, 4097), d.normal(3, 4097), 1.5
    yield d.flags(4096), 0, d.normal(4096)


def _recurrence_outside(d):
    yield d.plain(2, 3, dtype="float64" if d.dtype != "float64" else "float32"), d.normal(2, 3), 1


@row("cumsum_forward", "cumprod_forward", outside=lambda d: iter([(d.normal(SCANNED - 1), 0)]))
def _(d):
    yield d.uniform(SCANNED), 0
    yield d.uniform(SCANNED // 16, 17), 1, True
    yield d.uniform(40, 3, 1025), 1


@row("recurrence_forward", outside=_recurrence_outside)
def _(d):
    for n in SIZES:
        yield d.uniform(2, n), d.normal(2, n), 1
        yield d.uniform(3, 2, n), d.normal(3, 2, n), 1, True


# -- reductions.cu, extremes.cu, indexing.cu, embedding.cu -------------------------------------------------------------


@row("sum_forward", copies=False, outside=lambda d: iter([(d.normal(FEW - 1), (0,)), (d.normal(1, FEW), (0,))]))
def _(d):
    yield d.normal(FEW), (0,)
    yield d.normal(8, FEW // 8), (1,), True
    yield d.normal(257, 256), (0,)
    yield d.normal(16, 65, 64), (0, 2), False, accumulator(d.dtype)


def _extreme_outside(d):
    yield d.normal(128, 127), (1,)
    yield d.normal(8192, 3), (1,)
    yield d.normal(32, 33, 32), (0, 2)


@row("max_forward", "min_forward", copies=False, tolerance=0, outside=_extreme_outside)
def _(d):
    yield d.normal(16384), (0,)
    yield d.normal(128, 129), (1,), True
    yield d.normal(16, 33, 32), (1, 2)


@row("argmax_forward", "argmin_forward", copies=False, tolerance=0, outside=_extreme_outside)
def _(d):
    yield d.normal(16384), (0,)
    yield d.normal(16, 33, 32), (1, 2)
    yield d.normal(129, 128), (0,)


@row("place_forward", tolerance=0, outside=lambda d: iter([(d.normal(128), d.whole(127, 128), (1,), (128, 127))]))
def _(d):
    yield d.normal(128), d.whole(129, 128), (1,), (128, 129)
    yield d.normal(2, 129), d.whole(65, 2, 129), (1,), (2, 65, 129)


def _take_outside(d):
    yield d.normal(9, 15), d.whole(9, 2000), 0
    yield d.normal(9, 16), d.whole(9, 1023), 0
    yield d.normal(9, 16), d.whole(9, 2000), 1


@row("take_forward", copies=False, tolerance=0, outside=_take_outside)
def _(d):
    yield d.normal(9, 16), d.whole(9, 1024), 0
    yield d.normal(9, 3, 11), d.whole(9, 20, 30), 0


@row("accumulate_rows", outside=lambda d: iter([(d.normal(0, 3), d.whole(3, 0), 4)]))
def _(d):
    for n in SIZES:
        yield d.normal(7, n), d.whole(5, 7), 6


def _bag(d, n):
    return d.whole(9, 13), np.array([0, 3, 3, 4, 13])


@row("bag_sum_forward", copies=False, outside=lambda d: iter([(d.normal(9, 3), None, d.whole(9, 0), np.array([0]))]))
def _(d):
    for n in SIZES:
        yield d.normal(9, n), None, *_bag(d, n)
        yield d.normal(9, n), d.plain(13), *_bag(d, n)


@row("bag_argmax", copies=False, tolerance=0, outside=lambda d: iter([(d.normal(9, 3), d.whole(9, 0), np.array([0, 0]))]))
def _(d):
    for n in SIZES:
        yield d.normal(9, n), *_bag(d, n)


# -- im2col.cu, convolution.cu, depthwise.cu ---------------------------------------------------------------------------


def _windows(groups=1, dilated=True):
    """(window, sizes): 1 to 3 axes, one pixel, odd sizes, strides, gaps, more padding on one side."""
    yield window("w", (1,), groups=groups), (1,)
    yield window("w", (3,), 2, 1, groups=groups), (33,)
    yield window("w", (3, 3), 1, 1, groups=groups), (5, 33)
    yield window("w", (2, 3), (1, 2), ((0, 1), (1, 2)), (2, 1) if dilated else 1, groups=groups), (5, 17)
    yield window("w", (2, 2, 2), (2, 1, 1), (1, 0, 1), groups=groups), (3, 4, 5)


@row("im2col_forward", dtypes=WIDE, tolerance=0, outside=lambda d: iter([(d.normal(0, 2, 5), window("w", (3,)))]))
def _(d):
    for box, sizes in _windows():
        yield d.normal(2, 3, *sizes), box


@row("col2im_forward", dtypes=WIDE, outside=lambda d: iter([(d.normal(0, 6, 3), window("w", (3,)), (5,))]))
def _(d):
    for box, sizes in _windows():
        yield d.normal(*reference("im2col_forward", d.plain(2, 3, *sizes), box).shape), box, sizes


def _triad(d, groups=1, mul=0):
    """(x, w, y, window, sizes) for grouped (mul 0: 2 inputs, 3 outputs a group) or depthwise convolution."""
    for box, sizes in _windows(groups):
        c, o = (groups, groups * mul) if mul else (2 * groups, 3 * groups)
        yield d.normal(2, c, *sizes), d.normal(o, c // groups, *box.kernel), d.normal(2, o, *box.output_size(sizes)), box, sizes


def _grouped(d):
    for groups, mul in ((1, 0), (2, 0), (3, 2)):
        yield from _triad(d, groups, mul)


_BOX = window("w", (3,))


@row("conv_forward", dtypes=WIDE, outside=lambda d: iter([(d.normal(0, 2, 5), d.normal(3, 2, 3), _BOX)]))
def _(d):
    for x, w, _, box, _ in _grouped(d):
        yield x, w, box


def _finished_outside(d):
    yield d.normal(0, 32, 16, 16), d.normal(64, 32, 1, 1), d.normal(64), window("w", (1, 1)), relu
    yield d.normal(2, 3, 9, 9), d.normal(4, 3, 3, 3), d.normal(4), window("w", (3, 3)), relu


@row("conv_bias_act_forward", dtypes=WIDE, outside=_finished_outside)
def _(d):
    x, w, b = d.normal(2, 32, 16, 16), d.normal(64, 32, 1, 1), d.normal(64)
    for bias, activation in ((b, identity), (b, relu), (None, relu), (b, swish)):
        yield x, w, bias, window("w", (1, 1)), activation


@row("conv_data_forward", dtypes=WIDE, outside=lambda d: iter([(d.normal(0, 3, 3), d.normal(3, 2, 3), _BOX, (5,))]))
def _(d):
    for _, w, y, box, sizes in _grouped(d):
        yield y, w, box, sizes


@row("conv_filter_forward", dtypes=WIDE, outside=lambda d: iter([(d.normal(0, 2, 5), d.normal(0, 3, 3), _BOX)]))
def _(d):
    for x, _, y, box, _ in _grouped(d):
        yield x, y, box


_DEEP = window("w", (3,), groups=3)
_WIDE_BOX = window("w", (12,), groups=3)


def _depthwise_outside(kind):
    def calls(d):
        for n, box in ((0, _DEEP), (2, _WIDE_BOX)):
            x, w, y = d.normal(n, 3, 15), d.normal(3, 1, *box.kernel), d.normal(n, 3, *box.output_size((15,)))
            yield {"forward": (x, w, box), "data": (y, w, box, (15,)), "filter": (x, y, box)}[kind]

    return calls


@row("depthwise_forward", dtypes=WIDE, copies=False, outside=_depthwise_outside("forward"))
def _(d):
    for x, w, _, box, _ in _triad(d, 3, 2):
        yield x, w, box


@row("depthwise_data", dtypes=WIDE, copies=False, outside=_depthwise_outside("data"))
def _(d):
    for _, w, y, box, sizes in _triad(d, 3, 2):
        yield y, w, box, sizes


@row("depthwise_filter", dtypes=WIDE, copies=False, outside=_depthwise_outside("filter"))
def _(d):
    for x, _, y, box, _ in _triad(d, 3, 2):
        yield x, y, box


# -- pooling.cu, adaptive_pooling.cu, upsampling.cu --------------------------------------------------------------------


def _pools():
    yield window("w", (1,)), (1,)
    yield window("w", (2, 2), 2), (5, 34)
    yield window("w", (3, 3), 1, 1), (4, 7)
    yield window("w", (2, 2, 3), (1, 2, 3), (1, 0, 1), (1, 1, 2)), (3, 4, 11)


_LONG = window("w", (17,))


def _no_max_pool(d):
    yield d.normal(0, 2, 5), _BOX
    yield d.normal(1, 2, 20), _LONG


@row("max_pool_forward", "max_pool_values", tolerance=0, outside=_no_max_pool)
def _(d):
    for box, sizes in _pools():
        yield d.normal(2, 3, *sizes), box


@row("max_pool_backward", outside=lambda d: iter([(d.normal(1, 2, 4), d.whole(4, 1, 2, 4).astype(np.int32), _LONG, (20,))]))
def _(d):
    for box, sizes in _pools():
        y, arg = reference("max_pool_forward", d.plain(2, 3, *sizes), box)
        yield d.normal(*y.shape), arg, box, sizes


@row("mean_pool_forward", outside=lambda d: iter([(d.normal(0, 2, 5), _BOX, True), (d.normal(1, 2, 20), _LONG, True)]))
def _(d):
    for box, sizes in _pools():
        for padding in (True, False):
            yield d.normal(2, 3, *sizes), box, padding


@row("mean_pool_backward", outside=lambda d: iter([(d.normal(1, 2, 4), _LONG, True, (20,))]))
def _(d):
    for box, sizes in _pools():
        yield d.normal(2, 3, *box.output_size(sizes)), box, False, sizes


@row("lp_pool_forward", outside=lambda d: iter([(d.uniform(0, 2, 5), _BOX, 2.0), (d.uniform(1, 2, 20), _LONG, 2.0)]))
def _(d):
    for box, sizes in _pools():
        yield d.uniform(2, 3, *sizes), box, 3.0


@row("lp_pool_backward", outside=lambda d: iter([(d.normal(1, 2, 4), d.uniform(1, 2, 20), d.uniform(1, 2, 4), _LONG, 2.0)]))
def _(d):
    for box, sizes in _pools():
        x = d.uniform(2, 3, *sizes)
        y = reference("lp_pool_forward", x, box, 3.0)
        yield d.normal(*y.shape), x, y, box, 3.0


_OUTS = (((1,), (1,)), ((7, 33), (3, 16)), ((3, 5), (4, 5)), ((4, 5, 9), (3, 2, 9)), ((33, 32), (1, 1)))


@row("adaptive_max_forward", tolerance=0, outside=empty_x((2,), shape=(0, 2, 5)))
def _(d):
    for sizes, out in _OUTS:
        yield d.normal(2, 3, *sizes), out


@row("adaptive_max_backward", outside=lambda d: iter([(d.normal(0, 2, 2), np.zeros((0, 2, 2), np.int32), (5,))]))
def _(d):
    for sizes, out in _OUTS:
        y, arg = reference("adaptive_max_forward", d.plain(2, 3, *sizes), out)
        yield d.normal(*y.shape), arg, sizes


@row("adaptive_mean_forward", outside=empty_x((2,), shape=(0, 2, 5)))
def _(d):
    for sizes, out in _OUTS:
        yield d.normal(2, 3, *sizes), out


@row("adaptive_mean_backward", outside=lambda d: iter([(d.normal(2, 3, 1, 1), (5, 5))]))
def _(d):
    for sizes, out in _OUTS[1:-1]:
        yield d.normal(2, 3, *out), sizes


@row("resample", dtypes=WIDE, outside=lambda d: iter([(d.normal(0, 5), 1, linear_taps(5, 7, None, False))]))
def _(d):
    for n in SIZES:
        yield d.normal(3, 5, n), 1, linear_taps(5, 12, None, False)
        yield d.normal(3, n), 1, linear_taps(n, 2 * n + 1, None, True)


@row("resample_planes", outside=lambda d: iter([(d.normal(0, 5, 5), _UP, _UP), (d.normal(2, 5, 12), _UP, _TO_ONE)]))
def _(d):
    for n in SIZES:
        yield d.normal(2, 5, n), _UP, linear_taps(n, 2 * n + 1, None, True)


_UP, _TO_ONE = linear_taps(5, 12, None, False), linear_taps(1, 12, None, False).transposed


# -- dense.cu ----------------------------------------------------------------------------------------------------------


def _dense_outside(d):
    yield d.normal(0, 5), d.normal(3, 5), None, relu
    yield d.normal(4, 5), d.normal(0, 5), None, relu
    yield d.normal(2, 100), d.normal(100, 100), None, relu  # few rows
    other = "float64" if d.dtype != "float64" else "float32"
    yield d.normal(9, 5), d.plain(3, 5, dtype=other), None, relu
    yield d.normal(9, 5), d.normal(3, 5), d.plain(3, dtype=other), relu


@row("dense_forward", outside=_dense_outside, dtypes=WIDE)
def _(d):
    for n in SIZES:
        yield d.normal(3, n), d.normal(2, n), d.plain(2), tanh
        yield d.normal(9, n), d.normal(33, n), d.plain(33), sigmoid
        yield d.normal(3, 3, 17), d.normal(n, 17), None, swish
        yield d.normal(17), d.normal(n % 50, 17), None, identity
    yield d.normal(40, 20), d.normal(60, 20), d.plain(60), identity


def _dense_data_outside(d):
    yield d.normal(9, 5), d.normal(5, 3)  # few multiplications
    yield d.normal(2, 100), d.normal(100, 100)  # few rows
    yield d.normal(20, 100), d.plain(100, 100, dtype="float64" if d.dtype != "float64" else "float32")


@row("dense_data", outside=_dense_data_outside, dtypes=WIDE)
def _(d):
    for n in SIZES[1:]:
        yield d.normal(9, n), d.normal(n, 48)
        yield d.normal(40, 30), d.normal(30, n)


def _dense_weights_outside(d):
    yield d.normal(9, 100), d.normal(9, 1000)  # few multiplications
    yield d.normal(2, 1024), d.normal(2, 1024)  # few rows
    yield d.normal(64, 128), d.plain(64, 128, dtype="float64" if d.dtype != "float64" else "float32")


@row("dense_weights", outside=_dense_weights_outside, dtypes=WIDE)
def _(d):
    yield d.normal(8, 1024), d.normal(8, 128)
    yield d.normal(1031, 2), d.normal(1031, 513)


# -- attention.cu, ctc.cu, recurrences.cu, updates.cu ------------------------------------------------------------------


@row("attention_weights", dtypes=WIDE, copies=False)
def _(d):
    for n in SIZES:
        yield d.normal(2, 3, 4, n), None, 0.7, -1
        yield d.normal(2, 3, 4, n), d.flags(2, 1, 4, n), 0.7, n // 2


@row("attention_weights_backward", dtypes=WIDE, copies=False)
def _(d):
    for n in SIZES:
        s = d.normal(2, 3, 4, n)
        _, lse = reference("attention_weights", s.copy(), None, 0.7, -1)
        yield s, d.normal(2, 3, 4, n), None, lse, 0.7, -1


# -- fused_attention.cu ------------------------------------------------------------------------------------------------


def _heads(d):
    for heads, length, n in ((2, 3, 5), (4, 70, 33)):
        yield d.normal(2, heads, length, 4), d.normal(2, 2, n, 4), d.normal(2, 2, n, 6), None, False, 0.7
        yield d.normal(2, heads, length, 4), d.normal(2, 2, n, 4), d.normal(2, 2, n, 6), d.flags(2, 1, length, n), True, 0.7


def _no_keys(d):
    yield d.normal(1, 1, 3, 4), d.normal(1, 1, 0, 4), d.normal(1, 1, 0, 4), None, False, 0.7


@row("attention_forward", outside=_no_keys)
def _(d):
    yield from _heads(d)


@row("attention_backward")
def _(d):
    for q, k, v, *rest in _heads(d):
        y, lse = reference("attention_forward", q, k, v, *rest)
        yield d.normal(*y.shape), q, k, v, lse, *rest


@row("self_attention_forward")
def _(d):
    yield d.normal(2, 7, 24), 2, 2, None, True, 0.7
    yield d.normal(2, 7, 32), 4, 2, None, False, 0.7


@row("self_attention_backward")
def _(d):
    for x, heads, kvheads in ((d.normal(2, 7, 24), 2, 2), (d.normal(2, 7, 32), 4, 2)):
        y, lse = reference("self_attention_forward", x, heads, kvheads, None, True, 0.7)
        yield d.normal(*y.shape), x, lse, heads, kvheads, None, True, 0.7


def _sequences(d, classes):
    labels = np.zeros((2, 5), np.int64)
    labels[:, 1::2] = d.whole(classes - 1, 2, 2) + 1
    lp = np.log(d.uniform(7, 2, classes))
    return lp, labels, np.array([7, 7]), np.array([5, 3])


@row("ctc_forward", dtypes=WIDE, copies=False)
def _(d):
    for classes in (2, 33):
        yield _sequences(d, classes)


@row("ctc_backward", dtypes=WIDE, copies=False, tolerance=256)
def _(d):
    for classes in (2, 33):
        inputs = _sequences(d, classes)
        loss, alpha = reference("ctc_forward", *inputs)
        yield d.plain(2), *inputs, alpha, loss, 0.5


_STEPS = ((5, 7), (3, 3), (4, 1), (1, 1))


def _weights(d, gates, n):
    return d.normal(gates * n, n) / d.dtype.type(n**0.5)


@row("rnn_forward", outside=lambda d: iter([(d.normal(2, 0, 3), d.normal(3, 3), d.normal(0, 3), None, tanh, False, True),
                                            (d.normal(2, 2, 3), d.normal(3, 3), d.normal(2, 3), None, sigmoid, False, True)]))
def _(d):
    for steps, batch in _STEPS:
        yield d.normal(steps, batch, 33), _weights(d, 1, 33), d.normal(batch, 33), d.flags(steps, batch), relu, True, True


@row("rnn_backward")
def _(d):
    for steps, batch in _STEPS:
        w, states = _weights(d, 1, 33), d.high(steps + 1, batch, 33)
        yield (d.normal(steps, batch, 33), None), w, states, None, None, tanh, False, (True, True, True)


@row("lstm_forward", outside=lambda d: iter([(d.normal(2, 0, 12), None, None, d.normal(12, 3), d.normal(0, 3), d.normal(0, 3),
                                              None, False, True)]))
def _(d):
    for steps, batch in (*_STEPS, (4, 17)):
        w, h, c = _weights(d, 4, 33), d.normal(batch, 33), d.normal(batch, 33)
        yield d.normal(steps, batch, 132), None, None, w, h, c, d.flags(steps, batch), False, True
        yield d.normal(steps, batch, 5), d.normal(132, 5), d.normal(132), w, h, c, None, True, False


@row("lstm_backward")
def _(d):
    for steps, batch in _STEPS:
        x, w = d.normal(steps, batch, 5), _weights(d, 4, 33)
        states, gates, cells = d.high(steps + 1, batch, 33), d.high(steps, batch, 132), d.high(steps + 1, batch, 33)
        w_in, dy = d.normal(132, 5), (d.normal(steps, batch, 33), None, d.normal(batch, 33))
        yield dy, x, w_in, w, states, gates, cells, None, False, (True,) * 6


def _no_sequence(d):
    yield d.normal(2, 0, 9), d.normal(9, 3), None, d.normal(0, 3), None, False, "gru", True


@row("gru_forward", outside=_no_sequence)
def _(d):
    for form in ("gru", "gruv3"):
        for steps, batch in _STEPS:
            gx, h = d.normal(steps, batch, 99), d.normal(batch, 33)
            yield gx, _weights(d, 3, 33), d.normal(99), h, d.flags(steps, batch), False, form, True


@row("gru_backward")
def _(d):
    for form in ("gru", "gruv3"):
        for steps, batch in _STEPS:
            w, states, gates = _weights(d, 3, 33), d.high(steps + 1, batch, 33), d.high(steps, batch, 132)
            yield (d.normal(steps, batch, 33), d.normal(batch, 33)), w, states, gates, None, False, form, (True,) * 4


def _batch(d, final=True):
    batch = Batch([d.normal(3, 33), d.normal(1), d.normal(5000)], [0, 99, 100])
    batch.final = final
    batch.load([d.normal(3, 33), d.normal(1), d.normal(5000)], copy=not final)
    return batch


def _update(name, slots, *numbers):
    def calls(d):
        yield _batch(d), *(d.high(5100) for _ in range(slots)), *numbers

    def outside(d):
        yield _batch(d, final=False), *(d.high(5100) for _ in range(slots)), *numbers

    row(name, copies=False, outside=outside)(calls)


_update("momentum_update", 1, -1.0, 0.1, 0.05, 0.9, 0.8, 1.0, 0.9)
_update("rmsprop_update", 3, 1.0, 0.1, 0.01, 0.99, 0.01, 0.01, 1e-4, 0.5)
_update("adam_update", 3, 1.0, 0.1, 0.99, 0.9, 0.1, 0.99, 0.01, 1.0, 1e-3, 2.0, 1e-3, 0.01, 0.02)
_update("adamax_update", 2, 1.0, 0.1, 0.01, 0.9, 0.1, 0.99, 1e-3)
_update("adadelta_update", 2, 1.0, 0.1, 0.5, 0.9, 0.1, 1e-4)
_update("lion_update", 1, -1.0, 0.1, 0.99, 0.02, 0.9, 0.1, 0.99, 0.01)
