"""A check of index arithmetic: what is added to a pointer must not be a product of ints, which ends at 2**31.

Every expression that is an address (a subscript of a pointer, what a pointer is set to or moved by, an argument that
begins with a pointer) is read with C's rules: a product of two ints is an int however wide the sum around it. So are what a
64-bit number is set to, how often ROWS, EACH and LANES go round, and every sum or product of a product of ints and a wider
number, wherever it stands. Constants of a build, and sums of them, count as small. Ints that are set to products of
products, and so may count the elements of a plane, are read likewise. What a launcher passes for an int is checked when it
is called. Not covered: what macros build from their arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from minitorch_flux.readings.source import KernelText, parse_kernels

from .mutations import blanked, regions

WIDE = ("long long", "int64_t", "uint64_t", "i64", "u64")
NUMBERS = "long long|int64_t|uint64_t|unsigned|uint32_t|int|bool|i64|u64|i32|u32"
OTHERS = "T|ACC|FROM|BITS|E|Words"
TOKEN = re.compile(
    rf"\s*(?:(?P<cast>\((?:{NUMBERS}|T|ACC)\))|(?P<number>0x[0-9a-fA-F]+|\d+(?:LL|ll|u|f)?)\b|(?P<name>[A-Za-z_][\w:]*)"
    r"|(?P<sign><<|>>|<=|>=|==|!=|&&|\|\||->|[-+*/%<>?:()\[\].,!~&|^=]))"
)
LEVELS = ("?", "||", "&&", "|", "^", "&", "== !=", "< > <= >=", "<< >>", "+ -", "* / %")
BINARY = {sign: level for level, signs in enumerate(LEVELS) for sign in signs.split()}
LOOPS = {"ROWS": 0, "EACH": 0, "LANES": 0, "LANES_SUM": 1, "LANES_MAX": 1, "LANES_SUMS": 2, "VECTORS": 0}
"""Which argument of each loop is its variable; what it counts to follows."""
ORDER = ("pointer", "wide", "other", "int", "constant")
"""What a sum is, if its parts are: the first of these kinds that one of them has."""


@dataclass(frozen=True)
class Narrow:
    """A product of ints that may be too large for one."""

    file: str
    part: str
    text: str

    def __str__(self) -> str:
        return f"{self.file} {self.part}: {self.text}"


@dataclass(frozen=True)
class Value:
    """What is known about an expression: its kind, one of ORDER (a constant is a small int), whether it has a product."""

    kind: str
    product: bool = False

    def plus(self, other: Value) -> Value:
        return Value(min(self.kind, other.kind, key=ORDER.index), self.product or other.product)


class Expression:
    """Reads a list of expressions: ``narrow`` is whether one has a product of two ints that are no constants, ``deep``
    whether a factor of such a product has a product itself, ``mixed`` whether such a product meets a wider number."""

    def __init__(self, text: str, types: Mapping[str, str]) -> None:
        self.types, self.narrow, self.deep, self.mixed = types, False, False, False
        self.tokens, at = list[tuple[str, str]](), 0
        while m := TOKEN.match(text, at):
            self.tokens.append((m.lastgroup or "", m[m.lastgroup or 0]))
            at = m.end()
        self.tokens += [("end", "")] * 2
        self.i = 0
        while self.sign() != "" or self.tokens[self.i][0] != "end":
            before = self.i
            self.expression()
            self.i += self.i == before

    def sign(self) -> str:
        return self.tokens[self.i][1] if self.tokens[self.i][0] == "sign" else ""

    def take(self, *signs: str) -> bool:
        """Go past the next token if it is one of these signs."""
        found = self.sign() in signs
        self.i += found
        return found

    def expression(self, level: int = 0) -> Value:
        left = self.unary()
        while BINARY.get(self.sign(), -1) >= level:
            sign = self.sign()
            self.i += 1
            if sign == "?":
                left = self.expression()
                self.take(":")
                left = left.plus(self.expression())
                continue
            right = self.expression(BINARY[sign] + 1)
            for one, other in ((left, right), (right, left)):
                self.mixed |= sign in "+-*" and one.kind == "int" and one.product and other.kind in ("wide", "pointer")
            if sign == "*" and left.kind == right.kind == "int":
                self.narrow, self.deep = True, self.deep or left.product or right.product
                left = Value("int", True)
            elif sign in "/%":
                left = Value(left.plus(right).kind)
            else:
                left = left.plus(right) if sign in "+-*" else Value("other")
        return left

    def unary(self) -> Value:
        kind, word = self.tokens[self.i]
        if self.take("-", "+", "!", "~", "&", "*"):
            return self.unary()
        if kind == "cast":
            self.i += 1
            value, to = self.unary(), word[1:-1]
            return Value("wide") if to in WIDE else Value("int" if value.kind == "wide" else value.kind, value.product)
        if self.take("("):
            value = self.expression()
            self.take(")")
        else:
            wide = word.lower().endswith("ll")
            value = Value({"number": "wide" if wide else "constant", "name": self.types.get(word, "other")}.get(kind, "other"))
            self.i += kind in ("number", "name")
        while self.sign() in ("[", "(", ".", "->"):
            value = self.postfix(value)
        return value

    def postfix(self, value: Value) -> Value:
        if self.take(".", "->"):
            field = self.types.get(f".{self.tokens[self.i][1]}", "other")
            self.i += self.tokens[self.i][0] == "name"
            return Value(field)
        closing = "]" if self.sign() == "[" else ")"
        self.i += 1
        while self.tokens[self.i][0] != "end" and not self.take(closing):
            before = self.i
            self.expression()
            self.take(",")
            self.i += self.i == before
        return Value("other" if value.kind == "pointer" else value.kind)


def types_of(source: KernelText, code: str, body: str) -> dict[str, str]:
    """What the names of a part of a file stand for: kinds of ORDER."""
    found = dict.fromkeys(source.declared, "constant")
    found.update({m[1]: "constant" for m in re.finditer(r"^#define (\w+) ", code, re.MULTILINE)})
    for struct in re.finditer(r"\bstruct \w+ \{([^{}]*)\}", code):
        found.update({f".{name}": kind for name, kind in _declared(struct[1])})
    for m in re.finditer(r"template <([^>]*)>", body):
        found.update(dict.fromkeys(re.findall(r"(?:int|bool) (\w+)", m[1]), "constant"))
    brace = body.find("{")
    for parameter in _split(body[body.find("(", body.find(")") if body.startswith("KERNEL") else 0) + 1 : brace]):
        found.update(_declared(parameter.rstrip(" )") + ";"))
    found.update(_declared(body[brace:]))
    for m in re.finditer(r"\bconstexpr int ([^;]*);", body):
        found.update(dict.fromkeys(re.findall(r"(\w+) = ", m[1]), "constant"))
    for m in re.finditer(rf"\b({'|'.join(LOOPS)})\(([^()]*)", body):
        loop = m[2].split(",")[LOOPS[m[1]]].strip()
        found[loop] = "wide" if m[1] in ("ROWS", "EACH") else "int"
    return found


def _declared(text: str) -> Iterator[tuple[str, str]]:
    """(name, kind) of the declarations in a text: `const T *a = x, *b = y;`, `int i = 0;`."""
    for m in re.finditer(rf"\b({NUMBERS}|{OTHERS})\b(?= ?[\w*&])([^;{{}}]*?)(?=;|$)", text):
        for part in _split(m[2]):
            name = re.match(r"\s*(?:const )?([*&]?)\s*(?:__restrict__\s+)?(?:OPTIONAL\s+)?(\w+)\s*(\[)?", part)
            if not name:
                break
            number = "wide" if m[1] in WIDE else "other" if m[1] in OTHERS.split("|") else "int"
            yield name[2], "pointer" if name[1] == "*" else "other" if name[3] else number


def _split(text: str) -> list[str]:
    parts, depth, begin = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append(text[begin:i])
            begin = i + 1
    return [*parts, text[begin:]]


def addresses(body: str, types: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(expression, which products matter) for everything that becomes an address or a count, or an int that may: "narrow",
    "deep" or "mixed" ones."""
    for m in re.finditer(r"\b(\w+)\[", body):
        if types.get(m[1]) == "pointer":
            yield body[m.end() : _close(body, m.end() - 1)], "narrow"
    for m in re.finditer(r"(?<![=<>!])\b(\w+) \+?= (?=([^;]*))", body):
        if types.get(m[1]) == "pointer":
            for part in _split(m[2])[:1]:
                yield part, "narrow"
    for m in re.finditer(r"[(,]\s*(\w+) \+ ", body):
        if types.get(m[1]) == "pointer":
            end, depth = m.end(), 0
            while end < len(body) and not (depth == 0 and body[end] in ",);"):
                depth += (body[end] in "([") - (body[end] in ")]")
                end += 1
            yield body[m.start(1) : end], "narrow"
    for kind, products in ((r"int", "deep"), (rf"(?:{'|'.join(WIDE)})", "narrow")):
        for m in re.finditer(rf"\b{kind} (\w+ = [^;{{}}]*);", body):
            for part in _split(m[1]):
                if " = " in part:
                    yield part.split(" = ", 1)[1], products
    for m in re.finditer(rf"\b({'|'.join(LOOPS)})\(", body):
        for part in _split(body[m.end() : _close(body, m.end() - 1)])[LOOPS[m[1]] + 1 :]:
            yield part, "narrow"
    for statement in re.split(r"[;{}]", body):
        if " * " in statement:
            yield statement, "mixed"


def _close(text: str, start: int) -> int:
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "([") - (text[i] in ")]")
        if depth == 0:
            return i
    return len(text)


def narrow_products(source: KernelText, text: str) -> list[Narrow]:
    """Products of ints in the addresses of a kernel file's own text."""
    code, found = blanked(text), list[Narrow]()
    parse_kernels(code, source.name)
    for region in regions(source.name, text):
        body = code[region.start : region.end]
        types = types_of(source, code, body)
        seen = list[str]()
        for address, products in addresses(body, types):
            known = products == "mixed" and any(part in address for part in seen)
            if not known and getattr(Expression(address, types), products):
                seen.append(address)
                found.append(Narrow(source.name, region.name, " ".join(address.split())))
    return list(dict.fromkeys(found))
