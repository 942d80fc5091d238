"""``python -m tests.errors`` writes docs/errors.md, and how many ``raise`` statements no case reaches to elsewhere.txt.

``python -m tests.errors FILE``, a file of ``tests.errors.recorder``, looks up where those are tested.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

from .table import ELSEWHERE, PACKAGE, PAGE, elsewhere, functions, page, raises, unreached


def main(records: list[str]) -> None:
    PAGE.write_text(page())
    known = {name: where for name, (_, where) in elsewhere().items()} if ELSEWHERE.exists() else {}
    for file in records:
        known |= tested(Path(file))
    left = unreached()
    ELSEWHERE.write_text("".join(f"{name}\t{left[name]}\t{known.get(name, '-')}\n" for name in sorted(left)))
    print(f"{functions().total()} raise statements, {left.total()} of them reached by no case")


def tested(file: Path) -> dict[str, str]:
    """``{function: test file}`` of a record; where several tests raise, the file that does so most often."""
    seen: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path, line, test in map(json.loads, file.read_text().splitlines()):
        for name, first, last in raises(PACKAGE / path):
            if first <= line <= last:
                seen[f"{path} {name}"][test] += 1
    return {name: max(tests, key=lambda t: tests[t]) for name, tests in seen.items()}


main(sys.argv[1:])
