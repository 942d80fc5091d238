"""What the tests of the convolution algorithms share: inputs, the passes of an algorithm, and those of the references."""

from contextlib import contextmanager

import numpy as np

import minitorch_flux as flux
from minitorch_flux.backend import use_kernels
from minitorch_flux.ops.convolution import conv_data_forward, conv_filter_forward, conv_forward
from tests.oracles import normal


def arrays(n, c, o, sizes, box, dtype=np.float64):
    """x, weights and a gradient of the result, with c and o channels in each group."""
    g = box.groups
    shapes = (n, c * g, *sizes), (o * g, c, *box.kernel), (n, o * g, *box.output_size(sizes))
    return [normal(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes)]


def three_passes(algorithm, x, w, y, box):
    """Forward, data and filter by the functions of a module."""
    sizes = x.shape[2:]
    return (
        algorithm.forward(x, w, box, box.output_size(sizes)),
        algorithm.data(y, w, box, sizes),
        algorithm.filter(x, y, box),
    )


def references(x, w, y, box):
    """The same by the references."""
    with use_kernels(False):
        return conv_forward(x, w, box), conv_data_forward(y, w, box, x.shape[2:]), conv_filter_forward(x, y, box)


@contextmanager
def threads(n):
    """The body runs with n threads."""
    before = flux.num_threads()
    flux.set_num_threads(n)
    try:
        yield
    finally:
        flux.set_num_threads(before)


def check_outputs_with_threads(passes, x, w, y, box):
    """Forward and data have the same bits for any number of threads."""
    found = []
    for n in (1, 2, 3):
        with threads(n):
            found.append(passes(x, w, y, box)[:2])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
