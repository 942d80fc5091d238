"""``minitorch-flux summary resnet50 --shape 3,224,224``: what a model is made of and what it takes, without building it."""

from __future__ import annotations

from typing import Any

from ..autograd import shapes_only
from ..inspection import summary
from .program import WrongInput
from .recipes import MODELS, OPTIMISERS

SHAPES = {"lenet": (1, 28, 28), "mlp": (1, 28, 28)}
DEFAULT = (3, 224, 224)
CLASSES = 1000  # of the zoo; 10 for the two small ones


def run_summary(arguments: Any) -> int:
    """Print the summary of a model of the zoo, or of one layer in it; returns the exit code."""
    name = arguments.model
    shape = arguments.shape or SHAPES.get(name, DEFAULT)
    classes = arguments.classes or (10 if name in SHAPES else CLASSES)
    try:
        with shapes_only():
            model = MODELS[name](shape, classes)
        rule = None if arguments.optimiser is None else OPTIMISERS[arguments.optimiser].make(1e-3)
        text = str(summary(model, shape, batchsize=arguments.batch, depth=arguments.depth, optimiser=rule))
    except ValueError as error:
        raise WrongInput(str(error)) from None
    print(f"{name}, {text}")
    return 0
