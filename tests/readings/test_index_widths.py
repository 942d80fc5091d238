"""Indices beyond 2**31, by construction: no address of a kernel is made from a product of ints (see index_widths.py)."""

import re

import pytest

from minitorch_flux.readings.inventory import kernel_texts
from minitorch_flux.readings.source import kernels_folder, parse_file
from tests.readings.index_widths import Expression, narrow_products

SMALL = {
    # The taps of a kernel, and with them the rows of a matrix of columns or of filters, are numbered by ints.
    "convolution.cu conv_data: w0 + (kd * KH + kh) * KW",
    "convolution.cu conv_channels: w + (c * taps + (kd * s.KH + kh) * KW) * OB + first",
    "depthwise.cu depthwise_data: w0 + m * taps + kd * KH * KW",
    "im2col.cu im2col_forward: KD * KH * KW",
    *(f"panel_convolution.cu panels_{end}: C * KH * KW" for end in ("forward", "data", "filter")),
    "image_columns.cu image_columns: KD * KH * KW",
    "image_columns.cu image_columns_data: KD * KH * KW",
    "im2col.cu col2im_forward: matrix + ((kd * KH + kh) * KW + kw) * row + ((long long)od * OH + oh) * OW",
    "conv_tensor.cu conv_tensor_filter: C * KD * KH * KW",
    "convolution.cu conv_data: (long long)lines * W * OB * O * taps / (sd * sh * SW) / 16 + 1",
    "image_columns.cu image_columns_data: r / H / D * taps + (kd * KH + kh) * KW + kw",
    # A place along an axis of an image.
    "conv_tensor.cu conv_tensor_forward: places[t] = q < pixels ? (n * G + g) * O * volume + ((long long)(od * td + fd) * YH + "
    "oh * th + fh) * YW + ow * tw + fw : -1",
    # A pixel of a line, whose length is an int.
    "im2col.cu col2im_forward: (first + i) * sw + shift",
}
"""Products of ints that cannot reach 2**31, with the reason."""


def found():
    return {str(narrow): narrow for text in kernel_texts() for narrow in narrow_products(text, text.path.read_text())}


def test_no_address_and_no_count_is_a_product_of_ints():
    new = sorted(set(found()) - SMALL)
    assert not new, "begin these with (long long), or say in SMALL why they cannot reach 2**31:\n" + "\n".join(new)


def test_headers():
    for header in sorted(kernels_folder().glob("*.h")):
        if header.name not in ("flux.h", "call.h", "emulate.h"):  # which hold no array
            text = header.read_text()
            assert not narrow_products(parse_file(header, text), text)


@pytest.mark.slow
def test_exceptions_are_still_there():
    assert not SMALL - set(found())


UNSEEN = ("FOUR_LINES(", "#define ", "sums, dx + ", "step_of(", "* PANEL", "* DEPTH", "36 * (long long)", "SW * (long long)P",
          "* BLOCK", "BLOCK_STEP(", "BLOCK * ", "PANELS(", "* TOGETHER", "UP((long long)", " / split", " / parts",
          " - 1) / lines", "box.width", "heads * E", "r * K;", "r * n", "start[q] * W", "g * H, u.count", "* G + g) * ",
          "* step, dz")
"""Lines with casts that are not missed: what macros make of their arguments; arguments of functions; products with constants
of a build, which count as small; shares of an int; second casts of a product."""


@pytest.mark.slow
@pytest.mark.parametrize("text", kernel_texts(), ids=lambda text: text.path.stem)
def test_a_cast_that_is_dropped_is_missed(text):
    """The check can fail: without any one of its (long long) a kernel is not let through."""
    code = text.path.read_text()
    known = {str(narrow) for narrow in narrow_products(text, code)}
    for m in re.finditer(r"\(long long\)", code):
        line = code[code.rfind("\n", 0, m.start()) + 1 : code.find("\n", m.end())]
        if not any(word in line for word in UNSEEN):
            without = code[: m.start()] + code[m.end() :]
            assert {str(narrow) for narrow in narrow_products(text, without)} - known, line.strip()


@pytest.mark.parametrize(
    ("expression", "narrow", "deep"),
    [
        ("i * n", True, False),
        ("i * n + j", True, False),
        ("(i * n + j) * m", True, True),
        ("r * n", False, False),
        ("(long long)i * n + j", False, False),
        ("(long long)(i * n)", True, False),
        ("r + i * n", True, False),
        ("r % n * m", False, False),
        ("i % n * m", True, False),
        ("i / n * m", True, False),
        ("3 * i + K * j", False, False),
        ("K * K2 * i", False, False),
        ("i * 4LL", False, False),
        ("i < n ? i * n : 0", True, False),
        ("-i * n", True, False),
        ("x[i * n]", True, False),
        ("f(i * n, 1) + 2", True, False),
        ("s.H * i", True, False),
        ("s.size * i", False, False),
        ("x[i] * n", False, False),
        ("(int)r * n", True, False),
        ("i + j - n / 2", False, False),
    ],
)
def test_expressions(expression, narrow, deep):
    types = dict.fromkeys("ijnm", "int") | {"r": "wide", "x": "pointer", "K": "constant", "K2": "constant"}
    read = Expression(expression, types | {".H": "int", ".size": "wide"})
    assert (read.narrow, read.deep) == (narrow, deep)


@pytest.mark.parametrize(
    ("expression", "mixed"),
    [
        ("r + i * n", True),
        ("(i * n + j) * r", True),
        ("r < i * n", False),
        ("i * n < j ? r : 0", False),
        ("r + (long long)i * n", False),
        ("x + i * n", True),
        ("f(i * n, r)", False),
        ("i ? r + ((i * n) + j) : 0", True),
        ("r * K * 2 + K * i", False),
    ],
)
def test_what_meets_a_wider_number(expression, mixed):
    types = dict.fromkeys("ijn", "int") | {"r": "wide", "x": "pointer", "K": "constant"}
    assert Expression(expression, types).mixed is mixed


TEXT = """#include "flux.h"
// constants: KW=2
struct Sizes { int H, W; long long volume; };
DEVICE ACC sum_of(const T* x, Sizes s, int d) { return x[(d * s.H + 1) * s.W]; }
KERNEL(a)(const T* __restrict__ x, T* __restrict__ y, long long rows, int n, int m, int k) {
    const int area = n * m, volume = (n * m + 1) * k;
    const long long whole = rows * n, plane = n * m, sum = rows + n * m;
    ROWS(r, rows, n * m) {
        const T *from = x + r * n * m, *other = x + n * m;
        T* to = y + KW * n;
        to += m * k;
        LANES(j, n) y[r * n + j * m] = other[j * KW] + from[area] + sum_of(x + j * m, {n, m, 1}, k) + x[(long long)j * m];
    }
}
"""


def test_a_text(tmp_path):
    path = tmp_path / "small.cu"
    path.write_text(TEXT)
    assert [str(narrow) for narrow in narrow_products(parse_file(path, TEXT), TEXT)] == [
        "small.cu a: r * n + j * m",
        "small.cu a: x + n * m",
        "small.cu a: m * k",
        "small.cu a: x + j * m",
        "small.cu a: (n * m + 1) * k",
        "small.cu a: n * m",
        "small.cu a: rows + n * m",
        "small.cu sum_of: (d * s.H + 1) * s.W",
    ]
