"""The random generators that a model draws from."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import Generator, default_generator
from .module import walk


def generators(model: Any) -> dict[str, Generator | np.random.Generator]:
    """The default generator, as ``"default"``, and every one that a layer of the model keeps, by its path, each once."""
    found: dict[str, Generator | np.random.Generator] = {"default": default_generator()}
    for path, module in walk(model):
        for name, value in vars(module).items():
            if isinstance(value, Generator | np.random.Generator) and all(value is not g for g in found.values()):
                found[f"{path}.{name}" if path else name] = value
    return found
