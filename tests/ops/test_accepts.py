"""Every kernel serves what it says it accepts, and leaves the rest to the reference: the table is accept_rows.py.

Whether a call is served is found out without running a kernel: a launcher takes the launch, checks every argument against
the kernel's signature, and does nothing. So all dtypes, layouts and sizes are tried, on machines without a compiler, too.
"""

import numpy as np
import pytest

from minitorch_flux.backend import FUNCTIONS, use_kernels
from minitorch_flux.ops.batches import Batch
from minitorch_flux.readings import arguments
from minitorch_flux.readings.kernel import launching
from tests.ops.accept_rows import FLOATS, LAYOUTS, ROWS, Draw
from tests.oracles import needs_compiler

try:
    import ml_dtypes  # noqa: F401 - NumPy knows bfloat16 from then on
except ImportError:
    FLOATS = FLOATS[:3]

OURS = {name: f for name, f in FUNCTIONS.items() if f.reference.__module__.startswith("minitorch_flux.")}  # no test's own
NAMES = [name for name, function in OURS.items() if function.launcher is not None]


RESOLUTION = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


class Checks:
    """Takes launches: their arguments must fit. Runs nothing."""

    def launch(self, source, signature, types, constants, rows, width, args):
        arguments.fit_arguments(signature, types, args, np.ndarray, "cpu")
        return True


def served(name, args):
    """Whether the call is served: by kernels, or by what is as quick, such as a matrix product for a 1x1 convolution."""
    function = FUNCTIONS[name]
    before = function.launches
    with launching(Checks()), np.errstate(all="ignore"):
        function(*args)
    return function.launches > before


def arrays(x):
    """The arrays of a result; of a call without one those that it wrote to."""
    if isinstance(x, np.ndarray | np.generic):
        yield np.asarray(x)
    elif isinstance(x, Batch):
        yield from x.arrays
    elif isinstance(x, tuple | list):
        for part in x:
            yield from arrays(part)


def results(name, args, kernels):
    with use_kernels(kernels), np.errstate(all="ignore"):
        y = FUNCTIONS[name](*args)
    return ROWS[name].view(*arrays(args if y is None else y))


def same(name, calls, dtype, layout):
    """Kernel and reference of the same calls; fresh ones for each, for some write into their arguments."""
    pairs = zip(calls(Draw(dtype, layout)), calls(Draw(dtype, layout)), strict=True)
    for i, (ours, theirs) in enumerate(pairs):
        got, wanted = results(name, ours, True), results(name, theirs, False)
        assert len(got) == len(wanted)
        for a, b in zip(got, wanted, strict=True):
            what = f"call {i} in {dtype}, {layout}"
            assert (a.shape, a.dtype) == (b.shape, b.dtype), what
            tolerance = min(ROWS[name].tolerance, 4) if a.dtype.itemsize == 2 else ROWS[name].tolerance
            near = tolerance * RESOLUTION.get(a.dtype.name, 0.0)
            a, b = a.astype(np.float64), b.astype(np.float64)
            scale = np.abs(b[np.isfinite(b)]).max(initial=0.0) or 1.0
            np.testing.assert_allclose(a, b, rtol=0, atol=near * scale, err_msg=what)


def test_every_function_with_a_kernel_has_a_row():
    missing = sorted(set(NAMES) - set(ROWS))
    assert not missing, f"say in tests/ops/accept_rows.py what the kernels of {', '.join(missing)} must accept"
    assert not sorted(set(ROWS) - set(NAMES)), "rows of functions without a kernel"
    for name in NAMES:
        assert FUNCTIONS[name].accepts, f"{name} does not say in words what its kernel accepts"
        assert ("copied" in FUNCTIONS[name].accepts) <= ROWS[name].copies, name


@pytest.mark.parametrize("name", ROWS)
def test_accepted(name):
    for dtype in FLOATS:
        for layout in LAYOUTS if ROWS[name].copies else LAYOUTS[:1]:
            for i, args in enumerate(ROWS[name].inside(Draw(dtype, layout))):
                taken = served(name, args)
                if dtype in ROWS[name].dtypes:
                    assert taken, f"{name} declines call {i} in {dtype}, {layout}"
                else:
                    assert not taken, f"{name} takes {dtype}: add it to the row's dtypes"


@pytest.mark.parametrize("name", ROWS)
def test_declined(name):
    for dtype in ROWS[name].dtypes[:2]:
        for i, args in enumerate(ROWS[name].outside(Draw(dtype))):
            assert not served(name, args), f"{name} takes call {i} outside in {dtype}: it belongs inside"
        same(name, ROWS[name].outside, dtype, "contiguous")


@needs_compiler
@pytest.mark.parametrize("name", ROWS)
def test_layouts(name):
    """Served or not, the result is the reference's, whatever the layout."""
    for layout in LAYOUTS if ROWS[name].copies else LAYOUTS[:2]:
        same(name, ROWS[name].inside, "float32", layout)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS[1:])
@pytest.mark.parametrize("name", ROWS)
def test_dtypes(name, dtype):
    if dtype in ROWS[name].dtypes:
        same(name, ROWS[name].inside, dtype, "contiguous")


@needs_compiler
@pytest.mark.parametrize("name", ROWS)
def test_sizes_beyond_an_int(name, monkeypatch):
    """As if an int ended at 20: what a kernel then cannot count is left to the reference, and what it can is right."""
    monkeypatch.setattr(arguments, "LARGEST_INT", 20)
    from minitorch_flux.readings import host

    class Narrow:
        def launch(self, source, signature, types, constants, rows, width, args):
            fitted = arguments.fit_arguments(signature, types, args, np.ndarray, "cpu")
            return host.launcher(host.library_of(source, types, constants), signature, types)(rows, width, tuple(fitted))

    with launching(Narrow()):
        same(name, ROWS[name].inside, "float32", "contiguous")
