"""Kernel texts: finding, parsing, composing."""

import re

import numpy as np
import pytest

from minitorch_flux.readings import KernelError, source
from minitorch_flux.readings.source import compose, constant_text, kernels_folder, parse_file, read_kernels

TYPES = {"T": "float", "ACC": "float"}


def parsed(tmp_path, text):
    return parse_file(tmp_path / "some.cu", text)


def test_the_folder_is_beside_the_package_or_inside_it(monkeypatch, tmp_path):
    assert (kernels_folder() / "flux.h").is_file()
    package = tmp_path / "minitorch_flux"
    (package / "_kernels").mkdir(parents=True)
    monkeypatch.setattr(source, "PACKAGE", package)
    with pytest.raises(KernelError, match=r"kernel texts are missing.*reinstall"):
        kernels_folder()
    (package / "_kernels" / "flux.h").touch()
    assert kernels_folder() == package / "_kernels"
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "flux.h").touch()
    assert kernels_folder() == tmp_path / "kernels"


def test_signatures(tmp_path):
    text = parsed(
        tmp_path,
        """// KERNEL(no)(int n) { EACH(i, n) {} } is a comment
/* KERNEL(neither)(int n) {} */
KERNEL(one)(const T* __restrict__ x, ACC*y, OPTIONAL const unsigned char * mask,  // the mask {
            long long n, ACC eps) { EACH(i, n) { if (n) { } } }
  KERNEL(two)
      (int const* x, int n)
{ ROWS(r, n, 1) {} }
""",
    )
    assert list(text.kernels) == ["one", "two"]
    one, two = text.kernels.values()
    assert str(one) == "one(const T* x, ACC* y, const unsigned char* mask, long long n, ACC eps)"
    assert [(p.pointer, p.const, p.optional) for p in one.parameters] == [
        (True, True, False),
        (True, False, False),
        (True, True, True),
        (False, False, False),
        (False, False, False),
    ]
    assert str(two) == "two(const int* x, int n)"
    assert one.elementwise
    assert not two.elementwise
    assert text.text[one.start : one.end].startswith("KERNEL(one)")
    assert text.text[one.start : one.end].endswith("{ } } }")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("KERNEL(a)(T** x) { }", r"some.cu:1: cannot read the parameter 'T\*\* x'; write it as"),
        ("\nKERNEL(a)(int) { }", r"some.cu:2: cannot read the parameter 'int'"),
        ("KERNEL(a)(int x { }", r"some.cu:1: the '\(' is never closed"),
        ("KERNEL(a)(int x) { {", r"some.cu:1: the '\{' is never closed"),
        ("KERNEL(a)(int x);", r"KERNEL\(a\)\(...\) is not followed by its body"),
        (
            "KERNEL(a)(int n) { EACH(i, n) {} }\nKERNEL(a)(int n) { EACH(i, n) {} }",
            "some.cu:2: there are two kernels 'a'",
        ),
        ("KERNEL(a)(int n) { n = 1; }", "some.cu:1: a has neither ROWS nor EACH"),
        ("// constants: K", "some.cu: cannot read '// constants: K'; write `// constants: NAME=value"),
        ("// types:", "some.cu: cannot read '// types:'; write `// types: NAME=value"),
    ],
)
def test_a_text_that_cannot_be_read(tmp_path, text, message):
    with pytest.raises(KernelError, match=message):
        parsed(tmp_path, text)


def test_a_kernel_that_is_not_there(tmp_path):
    text = parsed(tmp_path, "KERNEL(a)(int n) { EACH(i, n) {} } KERNEL(b)(int n) { EACH(i, n) {} }")
    with pytest.raises(KernelError, match=r"some.cu has no kernel 'c'; it has a, b$"):
        text.signature("c")
    with pytest.raises(KernelError, match="it has none"):
        parsed(tmp_path, "").signature("c")
    with pytest.raises(KernelError, match=r"there is no kernel file .*none\.cu"):
        read_kernels(tmp_path / "none.cu")


def test_declarations(tmp_path):
    text = parsed(tmp_path, "// constants: KH=2 KW=3\n//constants: KH=1 KW=relu\n// types: I=int64 J=uint8\n")
    assert text.constants == ({"KH": "2", "KW": "3"}, {"KH": "1", "KW": "relu"})
    assert text.types == ({"I": "int64", "J": "uint8"},)
    assert text.declared == {"KH", "KW", "I", "J"}


def test_every_kernel_file_can_be_read():
    files = sorted(kernels_folder().glob("*.cu"))
    assert files
    for file in files:
        assert read_kernels(file).kernels, file


def test_constants_as_text():
    assert constant_text("K", 3) == "3"
    assert constant_text("K", -3) == "(-3)"
    assert constant_text("K", True) == "1"
    assert constant_text("K", 0.5) == "ACC(0.5)"
    assert constant_text("K", float("-inf")) == "ACC(-INFINITY)"
    assert constant_text("K", float("inf")) == "ACC(INFINITY)"
    assert constant_text("K", float("nan")) == "ACC(NAN)"
    assert constant_text("K", "relu") == "relu"
    assert constant_text("K", np.int64(4)) == "4"
    assert constant_text("K", np.float32(0.5)) == "ACC(0.5)"
    for bad in ("a b", "1;", None, [1], ""):
        with pytest.raises(KernelError, match="the constant K=.* is neither a number nor an identifier"):
            constant_text("K", bad)


def lines_of(text, file):
    """{line number: line} of one file in a composed text, as a compiler would count."""
    found, here, at = {}, None, 0
    for line in text.splitlines():
        if m := re.match(r'#line (\d+) "(.*)"', line):
            here, at = m[2], int(m[1])
            continue
        if here == str(file):
            found[at] = line
        at += 1
    return found


def test_composition_keeps_every_line_where_it_was(tmp_path):
    (tmp_path / "part.h").write_text("DEVICE int one() { return 1; }\n")
    (tmp_path / "inner.h").write_text('#include "part.h"\n// the end\n')
    body = """// constants: K=2
#include "flux.h"
#include "inner.h"
#include "part.h"
KERNEL(a)(T* y, int n) {
    EACH(i, n) y[i] = K;
}
KERNEL(b)(T* y, int n) { EACH(i, n) y[i] = one(); }
"""
    path = tmp_path / "some.cu"
    path.write_text(body)
    source = read_kernels(path)
    assert source.needs == {"a": {"K"}, "b": set()}
    text = compose(source, TYPES, {}, after=" AFTER({name}, {optional})")
    lines, original = lines_of(text, path), body.splitlines()
    assert lines[8] == original[7] + " AFTER(b, 0ull)"
    assert all(not lines[i] for i in (5, 6, 7))  # the kernel that needs K is left out
    assert text.count("int one()") == 1
    assert lines_of(text, tmp_path / "part.h")[1] == "DEVICE int one() { return 1; }"
    assert lines_of(text, tmp_path / "inner.h")[2] == "// the end"
    text = compose(source, TYPES, {"K": 2}, after=" AFTER({name}, {optional})")
    lines = lines_of(text, path)
    assert [lines[i] for i in (5, 6)] == original[4:6]
    assert lines[7] == "} AFTER(a, 0ull)"
    assert "#define K 2\n" in text


def test_optional_bits_and_defaults(tmp_path):
    text = parsed(
        tmp_path,
        """// constants: K=2
#ifndef K
#define K 1
#endif
KERNEL(a)(OPTIONAL T* x, T* y, OPTIONAL T* z, int n) { EACH(i, n) y[i] = K; }
""",
    )
    assert "AFTER(a, 5ull)" in compose(text, TYPES, {}, after=" AFTER({name}, {optional})")


def test_what_a_file_does_not_declare(tmp_path):
    text = parsed(tmp_path, "KERNEL(a)(T* y, int n) { EACH(i, n) y[i] = 1; }")
    with pytest.raises(KernelError, match=r"some.cu does not declare K; add a line `// constants: K=3`, so that tests"):
        compose(text, TYPES, {"K": 3})
    with pytest.raises(KernelError, match="does not declare I; add a line `// types: I=int64`"):
        compose(text, {**TYPES, "I": "long long"}, {})


def test_a_text_for_gpus_only(tmp_path):
    body = "KERNEL(a)(T* y, int n) { ROWS(r, n, 1) y[r] = 1; }"
    assert parsed(tmp_path, body).gpu is None
    needs = parsed(tmp_path, f"// gpu: sm=80 block=128 T=float16,float32\n{body}").gpu
    assert (needs.sm, needs.block, needs.dtypes) == (80, 128, ("float16", "float32"))
    half, double = np.dtype("float16"), np.dtype("float64")
    assert [needs.takes(half, 80), needs.takes(half, 75), needs.takes(double, 90)] == [True, False, False]
    for line in ("sm=80", "sm=80 block=100 T=float16", "sm=x block=32 T=float16", "sm=80 block=32 T=float16\n// gpu: sm=90"):
        with pytest.raises(KernelError, match="some.cu: write one line `// gpu: sm=80 block=128 T=float16,float32`"):
            parsed(tmp_path, f"// gpu: {line}\n{body}")
