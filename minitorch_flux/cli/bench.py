"""``minitorch-flux bench``: the benchmark suite, which is a package of its own beside this one."""

from __future__ import annotations

import importlib
from collections.abc import Sequence


def run_bench(arguments: Sequence[str]) -> int:
    """Run the suite with these arguments; returns its exit code. The same as ``python -m benchmarks``."""
    command = importlib.import_module("benchmarks.command")
    return int(command.main(arguments, prog="minitorch-flux bench"))
