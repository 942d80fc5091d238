"""ONNX: models trained elsewhere as ordinary models.

    model = flux.onnx.load("model.onnx")
    y = model(x)

``load`` reads a model, ``register`` supplies an operator. Needs the package onnx: ``pip install "minitorch-flux[onnx]"``.
"""

from . import (
    attentions,
    control,
    convolutions,
    elementwise,
    indexing,
    linear,
    losses,
    nonlinear,
    norms,
    pools,
    randoms,
    recurrent,
    reductions,
    resizing,
    sampling,
    shapes,
    updates,
)
from .networks import OnnxModel, load
from .registry import OnnxError, UnsupportedOperator, register

TRANSLATORS = (
    attentions, control, convolutions, elementwise, indexing, linear, losses, nonlinear, norms, pools, randoms, recurrent,
    reductions, resizing, sampling, shapes, updates,
)
"""The modules whose import fills the table of operators."""

__all__ = ["OnnxError", "OnnxModel", "UnsupportedOperator", "load", "register"]
