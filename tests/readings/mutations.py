"""The rules that make mutants: one small bug each, planted in the text of a kernel file or a header.

A text is read as regions: a kernel, a helper function or a macro each, with the kernels that reach it. Comments, and what
only the CPU reading sees (`#ifdef FLUX_CPU`), are left alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from minitorch_flux.readings.source import _without_comments, kernels_folder, parse_kernels

Edit = tuple[int, int, str, str]
"""(start, end, what comes there instead, rule)."""

LOOPS = {"ROWS": 1, "EACH": 1, "LANES": 1, "VECTORS": 1, "parts": 0, "LANES_SUM": 2, "LANES_MAX": 2, "LANES_SUMS": 3}
"""Which argument of a loop of the vocabulary is its bound."""

AXES = [
    ("D", "H", "W"), ("OD", "OH", "OW"), ("KD", "KH", "KW"), ("sd", "sh", "sw"), ("dd", "dh", "dw"), ("pd", "ph", "pw"),
    ("kd", "kh", "kw"), ("od", "oh", "ow"), ("d", "h", "w"), ("SH", "SW"), ("DH", "DW"), ("EH", "EW"), ("mb", "mh", "ml"),
]  # fmt: skip
"""Names that stand for the same thing along neighbouring axes."""

USERS = {
    "flux.h": ("logsumexp_forward", "layer_norm_backward", "rnn_sequence", "erf_forward"),
    "vectors.h": ("max_pool_forward", "max_pool_backward", "conv_data", "conv_filter", "depthwise_data"),
}
"""The kernels that a header's mutants are tried with."""


@dataclass(frozen=True)
class Mutant:
    """One bug: in which file and part of it, by which rule, the line before and after, and the file's whole text.

    ``was`` stands at ``start`` of the file's text, ``now`` instead of it in the mutant's.
    """

    file: str
    part: str
    rule: str
    line: int
    before: str
    after: str
    text: str
    kernels: tuple[str, ...]
    start: int
    was: str
    now: str
    number: int = 1

    @property
    def end(self) -> int:
        return self.start + len(self.was)

    @property
    def key(self) -> str:
        """What names it in the table of survivors: no line number, which moves."""
        again = f" ({self.number})" if self.number > 1 else ""
        return f"{self.file} {self.part}: {self.rule}{again}: {self.before}  ->  {self.after}"


@dataclass(frozen=True)
class Region:
    """A part of a file that is mutated: a kernel, a helper or a macro, with its place and the kernels that reach it."""

    name: str
    start: int
    end: int
    kernels: tuple[str, ...]


def blanked(text: str) -> str:
    """The text with comments and what only the CPU reads made blank; places stay."""
    code = _without_comments(text)
    lines, skipping, depth = code.split("\n"), 0, 0
    for i, line in enumerate(lines):
        directive = re.match(r"\s*#\s*(if|ifdef|ifndef|else|elif|endif)\b\s*(.*)", line)
        if directive:
            word, rest = directive[1], directive[2].strip()
            if word in ("if", "ifdef", "ifndef"):
                depth += 1
                if not skipping and word == "ifdef" and rest == "FLUX_CPU":
                    skipping = depth
            elif word in ("else", "elif") and skipping == depth:
                skipping = 0
            elif word == "endif":
                skipping = 0 if skipping == depth else skipping
                depth -= 1
        elif skipping:
            lines[i] = " " * len(line)
    return "\n".join(lines)


def regions(file: str, text: str) -> list[Region]:
    """The parts of a file."""
    code = blanked(text)
    kernels = parse_kernels(code, file)
    found = [(k.name, k.start, k.end) for k in kernels.values()]
    for m in re.finditer(r"^(?:template <[^\n]*>\s*)?DEVICE\s[^;{}]*?(\w+)\s*\([^;{}]*\)\s*\{", code, re.MULTILINE):
        end, depth = m.end(), 1
        while depth:
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            end += 1
        found.append((m[1], m.start(), end))
    for m in re.finditer(r"^#define (\w+)\((?:[^\n]*\\\n)*[^\n]*", code, re.MULTILINE):
        words = ("KERNEL", "SHARED", "ROW_SYNC", "TEAM", "TEAM_SYNC", "ONE_LANE", "INDEX")
        if m[1] not in (*words, *(LOOPS if file != "flux.h" else ())):
            found.append((m[1], m.start(), m.end()))
    uses: dict[str, set[str]] = {}
    for name, start, end in found:
        uses.setdefault(name, set()).update(re.findall(r"\w+", code[start:end]))
    names = set(uses)

    def reached(name: str) -> set[str]:
        seen, new = set(), {name}
        while new:
            seen |= new
            new = {u for n in new for u in uses[n] & names} - seen
        return seen

    reach = {k: reached(k) for k in kernels}
    return [
        Region(name, start, end, USERS.get(file) or tuple(k for k in kernels if name in reach[k])) for name, start, end in found
    ]


def mutants_of(file: str) -> list[Mutant]:
    """Every mutant of a file of the kernels' folder."""
    text = (kernels_folder() / file).read_text()
    return list(mutants_in(file, text))


def mutants_in(file: str, text: str) -> Iterator[Mutant]:
    code, seen = blanked(text), Counter[str]()
    for region in regions(file, text):
        if not region.kernels:
            continue
        for start, end, instead, rule in sorted(set(edits(code, region))):
            changed = text[:start] + instead + text[end:]
            line = text.count("\n", 0, start)
            mutant = Mutant(
                file, region.name, rule, line + 1, _shown(text, start, end), _shown(changed, start, start + len(instead)),
                changed, region.kernels, start, text[start:end], instead,
            )  # fmt: skip
            seen[mutant.key] += 1
            yield replace(mutant, number=seen[mutant.key])


def _shown(text: str, start: int, end: int) -> str:
    """The lines of a place, as one without surplus spaces."""
    first, last = text.rfind("\n", 0, start) + 1, text.find("\n", end)
    return " ".join(text[first:last].split())


def edits(code: str, region: Region) -> Iterator[Edit]:
    """What every rule makes of a region."""
    body = code[region.start : region.end]
    brace = body.find("{") if not body.startswith("#define") else body.find(")") + 1
    calls = [] if body.startswith("#define") else re.finditer(r"\b(ROWS|VECTORS)\(", body)
    idle = [_arguments(body, m.end() - 1)[2] for m in calls]  # how much work a row is: it decides about speed alone
    for rule in RULES:
        for start, end, instead, name in rule(body):
            if start >= brace and not any(a <= start < b for a, b in idle):
                yield region.start + start, region.start + end, instead, name


def _closing(text: str, start: int) -> int:
    """The place of the bracket that closes the one at ``start``."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1, "[": 1, "]": -1}.get(text[i], 0)
        if depth == 0:
            return i
    return len(text) - 1


def _arguments(text: str, start: int) -> list[tuple[int, int]]:
    """The places of the arguments inside the bracket at ``start``."""
    end, depth, begin, found = _closing(text, start), 0, start + 1, []
    for i in range(start + 1, end):
        depth += {"(": 1, ")": -1, "[": 1, "]": -1}.get(text[i], 0)
        if text[i] == "," and depth == 0:
            found.append((begin, i))
            begin = i + 1
    return [*found, (begin, end)]


def _barriers(body: str) -> Iterator[Edit]:
    for m in re.finditer(r"\b(ROW_SYNC|TEAM_SYNC|__syncthreads|__syncwarp)\(\);", body):
        yield m.start(), m.end(), ";", "barrier removed"


def _reductions(body: str) -> Iterator[Edit]:
    for m in re.finditer(r"\b(row_sum|row_max)\(", body):
        yield m.start(), m.end(), "(", "row reduction removed"


def _one_lane(body: str) -> Iterator[Edit]:
    for m in re.finditer(r"\bONE_LANE\b", body):
        yield m.start(), m.end(), "", "ONE_LANE removed"


def _loops(body: str) -> Iterator[Edit]:
    for m in re.finditer(rf"\b({'|'.join(LOOPS)})\(", body):
        start, end = _arguments(body, m.end() - 1)[LOOPS[m[1]]]
        bound = body[start:end].strip()
        # A register of VECTORS beyond the end has no number to load or to store: one step more does nothing.
        for step in ("+ 1", "- 1") if m[1] != "VECTORS" else ("- 1",):
            yield start, end, f" ({bound}) {step}", "bound moved"


def floats(body: str) -> set[str]:
    """Names that stand for floating-point numbers, or for arrays of them."""
    found: set[str] = set()
    for m in re.finditer(r"\b(?:T|ACC|Vec|float|double|V|E|FROM)\b[ *&]+(?:__restrict__ )?(?:OPTIONAL )?(?=([^;{}()]*))", body):
        for part in m[1].split(","):
            name = re.match(r"\s*\*?(?:__restrict__ )?(\w+)\s*(?:\[[^]]*\])*\s*(?:=|$)", part)
            if name is None:
                break  # a parameter of another type
            found.add(name[1])
    return found


def _comparisons(body: str) -> Iterator[Edit]:
    """Bounds in conditions: moved by one, and (but in loops, which would not end) taken out."""
    real = floats(body)
    loops = [(m.end(), _closing(body, m.end() - 1)) for m in re.finditer(r"\bfor \(", body)]
    moved = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
    for m in re.finditer(r" (<=|>=|<|>) ", body):
        start, end = m.start(), m.end()
        depth = 0
        while start > 0 and not (depth == 0 and re.match(r"[({;,?:=&|!]", body[start - 1])):
            depth += {")": 1, "]": 1, "(": -1, "[": -1}.get(body[start - 1], 0)
            start -= 1
        depth = 0
        while end < len(body) and not (depth == 0 and re.match(r"[)};,?:&|]", body[end])):
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(body[end], 0)
            end += 1
        start += len(body[start:]) - len(body[start:].lstrip())
        end -= len(body[:end]) - len(body[:end].rstrip())
        returned = body.startswith("return ", start)
        start += len("return ") * returned
        whole = body[start:end]
        if set(re.findall(r"(?<!\.)\b[A-Za-z_]\w*", whole)) & (real | {"ACC", "T", "INFINITY"}):
            continue
        inside = any(a <= m.start() < b for a, b in loops)
        left, right = re.escape(body[start : m.start()].strip()), re.escape(body[m.end() : end].strip())
        # Of two equal numbers either is the smaller; and of a loop that takes some at a time, a loop for the rest takes over.
        smaller = re.match(rf"\s*\? (?:\(\w+\))?(?:{left} : {right}|{right} : {left})", body[end:])
        taken = re.match(r"(\w+) \+ ", whole) if m[1] == "<=" and inside else None
        rest = taken and re.search(rf"for \(; {taken[1]} < {right};", body[end:])
        if not smaller and not rest:
            other = f"{body[start : m.start(1)]}{moved[m[1]]}{body[m.end(1) : end]}"
            yield start, end, other.strip(), "bound moved"
        if not inside and not returned:
            yield start, end, "true", "bound removed"


def _index_pairs(body: str) -> Iterator[Edit]:
    real = floats(body)
    name = r"[A-Za-z_][\w.]*"
    for m in re.finditer(rf"(?<![\w.*/%] )\b({name}) \* ({name}) \+ ({name})\b(?! \*|\(|\[)", body):
        if not {m[1], m[2], m[3]} & real and m[1] != m[3]:
            yield m.start(), m.end(), f"{m[3]} * {m[2]} + {m[1]}", "index pair exchanged"
    for m in re.finditer(rf"\) \* ({name}) \+ ({name})\b(?! \*|\(|\[)", body):
        if not {m[1], m[2]} & real:
            yield m.start(), m.end(), f") * {m[2]} + {m[1]}", "index pair exchanged"


def _axes(body: str) -> Iterator[Edit]:
    """A height for a width, a depth for a height: where both are known; once a line."""
    words = set(re.findall(r"\w+", body)) - floats(body)
    for names in AXES:
        for name, other in zip(names, names[1:]):
            if name not in words or other not in words:
                continue
            lines = set()
            for m in re.finditer(rf"(?<!int )(?<!, )\b{name}\b(?!\s*[=(])|(?<=[(\[, ]){name}\b(?= [-+*/%<>])", body):
                line = body.count("\n", 0, m.start())
                member = body[m.start() - 1] in ".>"
                known = re.search(rf"[.>]{other}\b", body) if member else re.search(rf"\b{other}\b", body[: m.start()])
                if known and line not in lines:  # else it does not build
                    lines.add(line)
                    yield m.start(), m.end(), other, "index pair exchanged"


def _subscripts(body: str) -> Iterator[Edit]:
    """Constant subscripts: another one of the same array."""
    found: dict[str, set[int]] = {}
    for m in re.finditer(r"\b([\w.]+)\[(\d)\]", body):
        found.setdefault(m[1], set()).add(int(m[2]))
    for m in re.finditer(r"\b([\w.]+)\[(\d)\]", body):
        others = sorted(found[m[1]] - {int(m[2])}, key=lambda v, k=int(m[2]): (abs(v - k), v))
        if others:
            yield m.start(2), m.end(2), str(others[0]), "index pair exchanged"


def _gates(body: str) -> Iterator[Edit]:
    """Gates lie side by side, H numbers each: the next one's, or the first one's for the last."""
    place = r"\b(\w+)\[(?:(?:(\d) \* )?H \+ )?j\]"
    number = lambda m: int(m[2]) if m[2] else int("H" in m[0])  # noqa: E731
    most: dict[str, int] = {}
    for m in re.finditer(place, body):
        most[m[1]] = max(most.get(m[1], 0), number(m))
    for m in re.finditer(place, body):
        if most[m[1]]:
            k = (number(m) + 1) % (most[m[1]] + 1)
            yield m.start(), m.end(), f"{m[1]}[{['j', 'H + j'][k] if k < 2 else f'{k} * H + j'}]", "gate exchanged"


def _narrowed(body: str) -> Iterator[Edit]:
    for m in re.finditer(r"(?<!const )(?<![\w<(] )(?<![<(])\b(ACC|Vec) (?=\w+( =|\[|;|,))", body):
        if body[: m.start()].rstrip().endswith(("{", ";", "}", ")")):
            yield m.start(1), m.end(1), "float", "accumulator narrowed"


RULES = (_barriers, _reductions, _one_lane, _loops, _comparisons, _index_pairs, _axes, _subscripts, _gates, _narrowed)
