import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitorch_flux.autograd import Tensor
from minitorch_flux.ops import contractions
from minitorch_flux.ops.contractions import einsum
from tests.oracles import check_against_torch, check_operation, normal


def check(subscripts, *shapes, **keywords):
    arrays = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    check_operation(lambda *xs, optimize=True: einsum(subscripts, *xs, optimize=optimize), *arrays,
                    oracle=lambda *xs, **_: np.asarray(np.einsum(subscripts, *xs)), **keywords)


@pytest.mark.parametrize(("subscripts", "shapes"), [
    ("ij,jk->ik", [(2, 3), (3, 4)]),  # explicit and implicit
    ("ij,jk", [(2, 3), (3, 4)]),
    ("ba", [(2, 3)]),
    ("bj, ja", [(2, 3), (3, 2)]),
    (" i j , j k -> i k ", [(2, 3), (3, 4)]),
    ("ii", [(3, 3)]),  # diagonals and traces
    ("ii->i", [(3, 3)]),
    ("iii->i", [(2, 2, 2)]),
    ("iij->ji", [(2, 2, 3)]),
    ("iijj->", [(2, 2, 3, 3)]),
    ("ii,ij->j", [(3, 3), (3, 2)]),
    ("...ii->...", [(2, 3, 3)]),
    ("...i,i...->...", [(2, 3, 4), (4, 3)]),  # ellipsis
    ("...,...", [(2, 3), (3,)]),
    ("b...i,b...j->b...ij", [(2, 3, 2), (2, 1, 3)]),
    ("...j,jk", [(2, 3), (3, 4)]),
    ("i...->...i", [(2, 3, 4)]),
    ("...->", [()]),
    ("", [()]),
    (",ij->ji", [(), (2, 3)]),
    ("ij->", [(2, 3)]),  # sums
    ("ij->j", [(2, 3)]),
    ("ij,k->k", [(2, 3), (2,)]),
    ("ij,ij->", [(1, 3), (2, 1)]),  # axes of size one broadcast
    ("i,i->i", [(1,), (3,)]),
    ("ij,j->i", [(2, 0), (0,)]),  # nothing to add up
    ("abc,cd,de->abe", [(2, 3, 2), (2, 3), (3, 2)]),  # more operands
    ("i,i,i->i", [(3,)] * 3),
    ("ij,jk,kl,lm->im", [(2, 3), (3, 2), (2, 4), (4, 2)]),
    ("i,j,k->kji", [(2,), (3,), (2,)]),
    ("bhqd,bhkd->bhqk", [(2, 2, 3, 2), (2, 2, 4, 2)]),  # attention
    ("aB,Bc->ca", [(2, 3), (3, 2)]),
])
@pytest.mark.parametrize("optimize", [True, False, "optimal"])
def test_forms(subscripts, shapes, optimize):
    dtypes = (np.float32,) if optimize is True else ()
    check(subscripts, *shapes, optimize=optimize, layouts=optimize is True, dtypes=dtypes)


@st.composite
def equations(draw):
    sizes = {c: draw(st.integers(0 if c == "a" else 1, 3)) for c in "abcd"}
    terms = [draw(st.text("abcd", max_size=3)) for _ in range(draw(st.integers(1, 3)))]
    used = sorted(set("".join(terms)))
    output = draw(st.permutations(used)) if used else []
    output = "".join(output[: draw(st.integers(0, len(used)))])
    arrow = "->" + output if draw(st.booleans()) else ""
    shapes = []
    for term in terms:
        single = [len(terms) > 1 and term.count(c) == 1 and sizes[c] and draw(st.integers(0, 4)) == 0 for c in term]
        shapes.append(tuple(1 if one else sizes[c] for c, one in zip(term, single, strict=True)))
    return ",".join(terms) + arrow, shapes


@given(case=equations())
def test_any_equation(case):
    check(case[0], *case[1], dtypes=(), layouts=False)


def test_lists_of_numbers():
    x, y = normal(2, 3), normal(3, 4)
    np.testing.assert_allclose(einsum(x, [0, 1], y, [1, 2], [2, 0]).data, np.einsum(x, [0, 1], y, [1, 2], [2, 0]))
    np.testing.assert_allclose(einsum(x, [5, 1], y, [1, 2]).data, np.einsum(x, [5, 1], y, [1, 2]))
    np.testing.assert_allclose(einsum(x, [..., 1], y, [1, 2]).data, np.einsum(x, [..., 1], y, [1, 2]))
    check_operation(lambda x, y: einsum(x, [0, 1], y, [1, 2], [2, 0]), x, y)


def test_a_path():
    arrays = normal(2, 3), normal(3, 4), normal(4, 2)
    product = arrays[0] @ arrays[1] @ arrays[2]
    path = np.einsum_path("ij,jk,kl->il", *arrays, optimize="optimal")[0]
    for plan in (path, path[1:], [(1, 2), (0, 1)], [(0, 1, 2)]):
        plan = plan if plan[0] == "einsum_path" else ["einsum_path", *plan]
        np.testing.assert_allclose(einsum("ij,jk,kl->il", *arrays, optimize=plan).data, product)


def test_against_torch():
    torch = pytest.importorskip("torch")
    check_against_torch(lambda x, y: einsum("bij,bjk->bki", x, y), lambda x, y: torch.einsum("bij,bjk->bki", x, y),
                        normal(2, 3, 4), normal(2, 4, 2))


def test_dtypes():
    x = np.ones((2, 3), np.float32)
    assert einsum("ij,kj->ik", x, x).dtype == np.float32
    assert einsum("ij->i", x.astype(np.float16)).dtype == np.float16
    assert einsum("ij,kj->ik", np.arange(6).reshape(2, 3), np.arange(6).reshape(2, 3)).dtype == np.int64
    assert einsum("ij,ij->i", Tensor(x), np.ones((2, 3))).dtype == np.float64


def test_paths_are_remembered():
    contractions._path.cache_clear()
    for _ in range(3):
        einsum("ij,jk,kl->il", np.ones((2, 3)), np.ones((3, 2)), np.ones((2, 2)))
    assert contractions._path.cache_info().misses == 1


@pytest.mark.parametrize(("arguments", "message"), [
    (("ij,jk->ik", np.ones((2, 3)), np.ones((4, 2))),
     r"einsum: axis 1 of operand 0 \(shape \(2, 3\)\) has 3 elements, axis 0 of operand 1 \(shape \(4, 2\)\) has 4"),
    (("ii->i", np.ones((2, 3))), r"axis 0 of operand 0 .* has 2 elements, axis 1 of operand 0 .* has 3"),
    (("ij->i", np.ones(3)), r"operand 0 has shape \(3,\) with 1 axes, but its letters 'ij' name 2"),
    (("i->i", np.ones((3, 2))), r"its letters 'i' name 1; '...' stands for further axes"),
    (("ij->ik", np.ones((3, 2))), "'k' of the result 'ik' is no letter of an operand"),
    (("ij->ii", np.ones((3, 2))), "'i' of the result 'ii' comes twice in it"),
    (("...i->i", np.ones((3, 2))), r"the result 'i' needs '\.\.\.' too"),
    (("i,j->ij", np.ones(3)), "has letters for 2 operands, got 1"),
    (("i1->i", np.ones((3, 2))), "'1' in 'i1->i' is no letter"),
    (("i.j->i", np.ones((3, 2))), r"'\.' in 'i\.j->i' is no letter"),
    ((), "give the letters and the operands"),
])
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        einsum(*arguments)


def test_lists_errors():
    with pytest.raises(TypeError, match="after each operand comes the list of its axes' numbers"):
        einsum(np.ones((2, 3)), "ij")
    with pytest.raises(ValueError, match="53 different axes"):
        einsum(*[a for i in range(53) for a in (np.ones(1), [i])])
