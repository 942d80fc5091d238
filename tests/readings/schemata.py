"""Many mutants in one program: each place asks at run time whether its mutant is the one that is wanted.

    i < n          ->  (FLUX_IS(17) ? i <= n : i < n)
    ROW_SYNC();    ->  { if (!FLUX_IS(18)) { ROW_SYNC(); } }
    LANES(j, n)    ->  LANES(j, (n) + FLUX_IS(19))

One build then serves hundreds of mutants. What cannot be asked at run time (the type of an accumulator, an array's size, a
template's argument) is built alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .mutations import Mutant

Change = Callable[[str], str]
"""What a place becomes, from what it is (with the choices inside it)."""

PROLOGUE = """\
extern "C" { __attribute__((visibility("default"))) int flux_mutant = 0; }
#define FLUX_IS(k) (flux_mutant == k)
"""
"""Before every program."""

HELPERS = """
#ifdef FLUX_CPU
#define FLUX_ONE_LANE(k)
#else
#define FLUX_ONE_LANE(k) if (FLUX_IS(k) || threadIdx.x == 0)
#endif
template <class V> DEVICE V flux_row_sum(int k, V v) { return FLUX_IS(k) ? v : row_sum(v); }
template <class V> DEVICE V flux_row_max(int k, V v) { return FLUX_IS(k) ? v : row_max(v); }
"""
"""After flux.h."""

_TOKENS = re.compile(r"[A-Za-z_][\w.]*|\d+|\S")


def _flat(text: str) -> str:
    """On one line, so that the lines of the file stay where they are."""
    return re.sub(r"\s*\\?\n\s*", " ", text)


def changes(mutant: Mutant, k: int) -> list[tuple[int, int, Change]]:
    """The places where the mutant's number k is asked for; none where it cannot be."""
    is_k, start, end, now = f"FLUX_IS({k})", mutant.start, mutant.end, _flat(mutant.now)
    either: Change = lambda t: f"({is_k} ? {now.strip()} : {t.strip()})"  # noqa: E731
    if "constexpr" in mutant.before:
        return []
    if mutant.rule == "barrier removed":
        return [(start, end, lambda t: f"{{ if (!{is_k}) {{ {t} }} }}")]
    if mutant.rule == "row reduction removed":
        return [(start, end, lambda t: f"flux_{t}{k}, ")]
    if mutant.rule == "ONE_LANE removed":
        return [(start, end, lambda t: f"FLUX_ONE_LANE({k})")]
    if mutant.rule == "bound removed":
        return [(start, end, lambda t: f"({is_k} || {t})")]
    if mutant.rule == "bound moved" and (step := re.fullmatch(r" \(.*\) ([+-]) 1", now)):
        return [(start, end, lambda t: f" ({t}) {step[1]} {is_k}")]
    if mutant.rule in ("bound moved", "gate exchanged"):
        return [(start, end, either)]
    if mutant.rule == "index pair exchanged":
        return _exchanged(mutant, is_k)
    return []


def _exchanged(mutant: Mutant, is_k: str) -> list[tuple[int, int, Change]]:
    """Names and numbers, each asked for by itself: no brackets change how the rest is read."""
    was, now = (list(_TOKENS.finditer(t)) for t in (mutant.was, mutant.now))
    if len(was) != len(now):
        return []
    owner = re.search(r"(?:\w+(?:\.|->))*$", mutant.text[: mutant.start])
    prefix = owner[0] if owner and was else ""
    if prefix:  # a member: s.H for s.D
        start, end = mutant.start - len(prefix), mutant.end
        return [(start, end, lambda t: f"({is_k} ? {prefix}{mutant.now} : {t})")]
    found: list[tuple[int, int, Change]] = []
    for a, b in zip(was, now, strict=True):
        if a[0] != b[0]:
            change: Change = lambda t, other=b[0]: f"({is_k} ? {other} : {t})"  # type: ignore[misc]  # noqa: E731
            found.append((mutant.start + a.start(), mutant.start + a.end(), change))
    return found


def schema(text: str, mutants: Mapping[int, Mutant]) -> tuple[str, set[int]]:
    """The text with a choice for each mutant, and the numbers of those for which there is none in it."""
    left: set[int] = set()
    items = []
    for k, mutant in mutants.items():
        places = changes(mutant, k)
        if not places:
            left.add(k)
        items += [(start, -end, k, change) for start, end, change in places]
    items.sort(key=lambda item: item[:3])
    inside: list[int] = []  # the ends of the places that we are in
    for start, end, k, _ in items:
        while inside and inside[-1] <= start:
            inside.pop()
        if inside and -end > inside[-1]:
            left.add(k)  # it begins inside another one's place and ends after it
        elif k not in left:
            inside.append(-end)
    return _written(text, 0, len(text), [(s, -e, change) for s, e, k, change in items if k not in left]), left


def _written(text: str, start: int, end: int, items: list[tuple[int, int, Change]]) -> str:
    parts, at = [], start
    while items:
        first, last, _ = items[0]
        same = [change for s, e, change in items if (s, e) == (first, last)]
        within = [item for item in items if item[1] <= last and item[:2] != (first, last)]
        body = _written(text, first, last, within)
        for change in same:
            body = change(body)
        parts += [text[at:first], body]
        at, items = last, [item for item in items if item[0] >= last]
    return "".join([*parts, text[at:end]])


def refused(messages: str, file: str, text: str, mutants: Mapping[int, Mutant]) -> set[int]:
    """Of a schema that a compiler refuses: the choices before the places that it names, or else on their lines."""
    lines, found = text.split("\n"), set()
    for m in re.finditer(rf"{re.escape(file)}:(\d+):(\d+):[^\n]*error", messages):
        line, column = lines[int(m[1]) - 1] if int(m[1]) <= len(lines) else "", int(m[2])
        chosen = [(c.start(), int(c[1])) for c in re.finditer(r"FLUX_\w+\((\d+)|flux_row_\w+\((\d+)", line) if c[1]]
        found |= {k for at, k in chosen if at < column and k in mutants and not any(at < a < column for a, _ in chosen)}
    if found:
        return found
    for what in (r":\d+:[^\n]*error", ""):
        named = {int(m[1]) for m in re.finditer(rf"{re.escape(file)}:(\d+){what}", messages)}
        found = {k for k, m in mutants.items() if named & set(range(m.line, m.line + m.was.count("\n") + 1))}
        if found:
            return found
    return set(mutants)
