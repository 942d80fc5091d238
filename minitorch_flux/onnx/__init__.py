"""ONNX: models trained elsewhere as ordinary models.

    model = flux.onnx.load("model.onnx")
    y = model(x)

    flux.onnx.save(model, "model.onnx", x)

``load`` reads a model, ``register`` supplies an operator; ``save`` writes one, ``register_export`` supplies the form of an
operation. Needs the package onnx: ``pip install "minitorch-flux[onnx]"``.
"""

from . import (
    attentions,
    control,
    convolutions,
    detection,
    elementwise,
    export_ops_activations,
    export_ops_arithmetic,
    export_ops_layers,
    export_ops_losses,
    export_ops_recurrent,
    export_ops_reductions,
    export_ops_shapes,
    export_ops_windows,
    images,
    indexing,
    linear,
    linear_attention,
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
    spectra,
    updates,
)
from .dimensions import Dim, Varying
from .exporting import register_export
from .graph_writing import GraphWriter, Value
from .networks import OnnxModel, load
from .registry import OnnxError, UnsupportedOperator, register
from .saving import save
from .tracing import ExportError

TRANSLATORS = (
    attentions, control, convolutions, detection, elementwise, images, indexing, linear, linear_attention, losses, nonlinear,
    norms, pools, randoms, recurrent, reductions, resizing, sampling, shapes, spectra, updates,
)
"""The modules whose import fills the table of operators."""
RULES_OF_OPERATIONS = (
    export_ops_activations, export_ops_arithmetic, export_ops_layers, export_ops_losses, export_ops_recurrent,
    export_ops_reductions, export_ops_shapes, export_ops_windows,
)
"""The modules whose import fills the table of what is written."""

__all__ = [
    "Dim", "ExportError", "GraphWriter", "OnnxError", "OnnxModel", "UnsupportedOperator", "Value", "Varying", "load",
    "register", "register_export", "save",
]
