"""Reports of the emulator and the sanitizers, read: what was found first, and at which lines of the kernel's text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """A line of a text, and what was done there: "write", "earlier read", "waits"."""

    action: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.action} at {self.file}:{self.line}".strip()

    @property
    def text(self) -> str:
        """The line itself, "" where the file cannot be read."""
        try:
            return Path(self.file).read_text(encoding="utf-8").splitlines()[self.line - 1].strip()
        except (OSError, IndexError):
            return ""


@dataclass(frozen=True)
class Finding:
    """What was found, and where; ``places`` may be empty, after a crash without a sanitizer."""

    what: str
    places: tuple[Place, ...]

    def __str__(self) -> str:
        return f"{self.what}{': ' * bool(self.places)}{', '.join(map(str, self.places))}"


_FRAME = re.compile(r"#\d+ (?:0x[0-9a-f]+ in )?.*? (\S+):(\d+)(?::\d+)?(?: \(|$)", re.MULTILINE)
_ACCESS = re.compile(
    r"^ *(?:\[failed to restore the stack\]|(Previous )?(?:atomic )?(write|read) of size \d+.*)$", re.MULTILINE | re.IGNORECASE
)


def _place(action: str, frames: str) -> tuple[Place, ...]:
    """The innermost frame that is in a kernel file, else in a header of theirs."""
    found = [Place(action, m[1], int(m[2])) for m in _FRAME.finditer(frames)]
    own = [p for p in found if p.file.endswith(".cu")] or [p for p in found if p.file.endswith(".h")]
    return tuple([p for p in own if not p.file.endswith("emulate.h")][:1])


def first_finding(report: str) -> Finding:
    """What a report says first."""
    if m := re.search(r"(\S+?):(\d+):\d+: runtime error: (.*)", report):
        return Finding(m[3], (Place("", m[1], int(m[2])),))
    if m := re.search(r"AddressSanitizer: ([\w-]+)", report):
        access = _ACCESS.search(report, m.end())
        frames = report[m.end() :].split("\n\n")[0]
        return Finding(m[1], _place(access[2].lower() if access and access[2] else "", frames))
    if m := re.search(r"ThreadSanitizer: (.*?) \(pid", report):
        places: tuple[Place, ...] = ()
        for section in report[m.end() :].split("\n\n")[:2]:
            if access := _ACCESS.search(section):
                earlier = "earlier " if access[1] else ""
                places += _place(f"{earlier}{(access[2] or 'access').lower()}", section[access.end() :])
        return Finding(m[1], places)
    if m := re.search(r"emulator: (.*)", report):
        waits = re.findall(r"thread (\(\d+, \d+\)) waits at (\S+):(\d+)", report)
        return Finding(m[1], tuple(Place(f"thread {who} waits", file, int(line)) for who, file, line in waits[:2]))
    return Finding(f"the program crashed ({report.strip().splitlines()[-1] if report.strip() else 'it says nothing'})", ())
