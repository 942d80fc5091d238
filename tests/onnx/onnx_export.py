"""Saving a model and holding the file against the checker, ONNX Runtime and this library's own reader."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minitorch_flux as flux

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def saved(model: Any, *examples: Any, **keywords: Any) -> Any:
    """The ModelProto that ``flux.onnx.save`` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        flux.onnx.save(model, path, *examples, **keywords)
        return onnx.load(path)


def session(proto: Any) -> Any:
    """ONNX Runtime's session of a model, on one thread and silent."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def flat(x: Any) -> list[Any]:
    """The arrays in nested tuples and lists."""
    return [a for part in x for a in flat(part)] if isinstance(x, tuple | list) else [x]


def tensors(x: Any) -> Any:
    """Nested tuples and lists with tensors for the arrays."""
    return type(x)(map(tensors, x)) if isinstance(x, tuple | list) else flux.tensor(x)


def results(y: Any) -> list[np.ndarray]:
    """The outputs of a model as arrays."""
    return [t.numpy() for t in flat(y)]


def largest_difference(got: np.ndarray, wanted: np.ndarray) -> float:
    """Relative to the largest number wanted; shapes and dtypes must be equal."""
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    high = wanted.astype(np.float64)
    worst = np.abs(got.astype(np.float64) - high).max(initial=0)
    return float(worst / max(np.abs(high).max(initial=0), 1e-9))


def round_trip(model: Any, *examples: Any, others: Any = (), tolerance: float = 1e-4, **keywords: Any) -> tuple[Any, float]:
    """``(proto, largest difference)``: checked, run in ONNX Runtime and read again, with the examples and with others."""
    proto = saved(model, *examples, **keywords)
    onnx.checker.check_model(proto, full_check=True)
    runtime, again = session(proto), flux.onnx.load(proto)
    names = [i.name for i in runtime.get_inputs()]
    worst = 0.0
    for inputs in (examples, *others):
        if isinstance(model, flux.Module):
            flux.reset(model)
        wanted, arrays = results(model(*tensors(inputs))), [np.asarray(a) for a in flat(inputs)]
        for got in (runtime.run(None, dict(zip(names, arrays, strict=True))), results(again(*arrays))):
            for y, w in zip(got, wanted, strict=True):
                worst = max(worst, largest_difference(y, w))
    assert worst < tolerance
    return proto, worst


def shaken(model: Any, size: float = 0.1) -> Any:
    """The model with its parameters and running statistics moved a little, so that none is 0 or 1."""
    rng = np.random.default_rng(1)
    state = model.state_dict()
    for name, a in state.items():
        if a.dtype.kind == "f":
            noise = size * rng.standard_normal(a.shape)
            state[name] = (a + (np.abs(noise) if "var" in name else noise)).astype(a.dtype)
    model.load_state_dict(state)
    return model


def op_types(proto: Any) -> list[str]:
    """The operators of a graph in order."""
    return [n.op_type for n in proto.graph.node]


def node(proto: Any, op_type: str) -> dict[str, Any]:
    """The attributes of the one node of this operator."""
    (found,) = [n for n in proto.graph.node if n.op_type == op_type]
    return {a.name: onnx.helper.get_attribute_value(a) for a in found.attribute}


def stored(proto: Any) -> dict[str, np.ndarray]:
    """The initializers by name."""
    return {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
