"""Files of what was seen: the end of a file's name says what is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def write(path: Any, name: str, texts: Mapping[str, Callable[[], str]]) -> None:
    """Write what ``texts`` has for the suffix of ``path``; ValueError, naming all suffixes, where it has nothing."""
    path = Path(path)
    if path.suffix not in texts:
        *others, last = texts
        raise ValueError(f"{name}: the file's name ends in {', '.join(others)} or {last}, got {path.name!r}")
    path.write_text(texts[path.suffix](), encoding="utf-8")
