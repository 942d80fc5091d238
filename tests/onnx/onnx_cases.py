"""ONNX's own test cases, made when they are asked for, and the oracles that graphs of our own are held against."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import warnings
from typing import Any

import numpy as np
import pytest

from minitorch_flux.onnx import OnnxModel, load

onnx = pytest.importorskip("onnx")
PLACE = "onnx.backend.test.case.node"


@functools.cache
def module_cases(name: str) -> list[Any]:
    """The node cases of one module of the generator, which makes them when it is imported (all together take 5 s)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = importlib.import_module(PLACE)._NodeTestCases
        before = len(made)
        importlib.import_module(f"{PLACE}.{name}")
        return made[before:]


def module_names() -> set[str]:
    """Every module of the generator."""
    package = importlib.import_module(PLACE)
    found = {m.name for m in pkgutil.iter_modules(package.__path__)}
    inner = importlib.import_module(f"{PLACE}.ai_onnx_ml")
    return {n for n in found if not n.startswith("_")} - {"ai_onnx_ml"} | {
        f"ai_onnx_ml.{m.name}" for m in pkgutil.iter_modules(inner.__path__)
    }


def as_array(value: Any) -> Any:
    """An input or output of a case as an array."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def outputs_of(model: Any, inputs: Any) -> list[np.ndarray]:
    """What a model, loaded or to be loaded, gives."""
    net = model if isinstance(model, OnnxModel) else load(model)
    got = net(*inputs)
    return [y.numpy() for y in (got if isinstance(got, tuple) else (got,))]


def assert_same(got: Any, wanted: Any, rtol: float, atol: float) -> None:
    """Equal dtypes and shapes, and numbers within the tolerances; two units in the last place of 16-bit floats."""
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    if got.dtype.itemsize == 2 and got.dtype.kind in "fV":
        rtol = atol = max(rtol, 2.0**-6 if got.dtype.kind == "V" else 2.0**-9)
        got, wanted = got.astype(np.float32), wanted.astype(np.float32)
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)


# -- graphs of our own -------------------------------------------------------------------------------------------------


def floats(seed: int, *shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Seeded normal numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def graph_of(nodes: Any, inputs: dict[str, Any], weights: dict[str, Any], outputs: Any, opset: int = 17, **domains: int) -> Any:
    """A checked ModelProto; ``inputs`` and ``weights`` are arrays, ``outputs`` names."""
    make = onnx.helper
    types = {n: make.np_dtype_to_tensor_dtype(np.asarray(a).dtype) for n, a in inputs.items()}
    graph = make.make_graph(
        nodes,
        "g",
        [make.make_tensor_value_info(n, types[n], [f"{n}{i}" for i in range(np.ndim(a))]) for n, a in inputs.items()],
        [make.make_value_info(o, onnx.TypeProto()) if isinstance(o, str) else o for o in outputs],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
    )
    imports = [make.make_opsetid("", opset), *(make.make_opsetid(d.replace("_", "."), v) for d, v in domains.items())]
    return make.make_model(graph, opset_imports=imports, ir_version=10)


def single(op: str, inputs: dict[str, Any], weights: dict[str, Any] | None = None, *, outputs: int = 1, order: Any = None,
           opset: int = 17, **attributes: Any) -> Any:
    """A graph of one node; ``order``: the node's inputs by name (default: inputs, then weights)."""
    weights = weights or {}
    names = [f"y{i}" for i in range(outputs)]
    node = onnx.helper.make_node(op, list(order or [*inputs, *weights]), names, name="node", **attributes)
    return graph_of([node], inputs, weights, names, opset)


def onnxruntime_outputs(model: Any, inputs: dict[str, Any]) -> list[np.ndarray]:
    """ONNX Runtime's answer."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(with_types(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def with_types(model: Any) -> Any:
    """The model with the types of its outputs filled in, which ONNX Runtime wants."""
    inferred = onnx.shape_inference.infer_shapes(model)
    for output in inferred.graph.output:
        output.type.tensor_type.elem_type = output.type.tensor_type.elem_type or onnx.TensorProto.FLOAT
        output.type.tensor_type.ClearField("shape")
    return inferred


def reference_outputs(model: Any, inputs: dict[str, Any]) -> list[np.ndarray]:
    """The answer of ONNX's reference implementation."""
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [np.asarray(y) for y in ReferenceEvaluator(model).run(None, inputs)]
