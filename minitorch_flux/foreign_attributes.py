"""Attributes that tensors and layers have in other frameworks: reading one raises an error that says how it is done here."""

from __future__ import annotations

from typing import Any

TENSOR = {
    "bmm": "x @ y",
    "bool": "x.astype(bool)",
    "chunk": "flux.split(x, n, axis)",
    "contiguous": "nothing: every operation takes any layout",
    "cpu": "flux.cpu(x)",
    "cuda": "flux.gpu(x)",
    "data_ptr": "x.numpy().ctypes.data",
    "dim": "x.ndim",
    "double": "flux.f64(x)",
    "expand": "flux.broadcast_to(x, shape)",
    "float": "flux.f32(x)",
    "gather": "flux.take_along_axis(x, index, axis)",
    "grad_fn": "x.node",
    "half": "flux.f16(x)",
    "index_select": "x.take(index, axis)",
    "int": "x.astype('int32')",
    "is_cuda": "x.device",
    "log_softmax": "flux.logsoftmax(x, axis)",
    "long": "x.astype(int)",
    "masked_fill": "flux.where(mask, value, x)",
    "matmul": "x @ y",
    "mm": "x @ y",
    "narrow": "x[:, start:stop]",
    "numel": "x.size",
    "pow": "x**y",
    "relu": "flux.relu(x)",
    "requires_grad_": "flux.tensor(x, requires_grad=True)",
    "sigmoid": "flux.sigmoid(x)",
    "softmax": "flux.softmax(x, axis)",
    "t": "x.T",
    "tanh": "flux.tanh(x)",
    "tile": "flux.tile(x, repeats)",
    "topk": "flux.topk(x, k)",
    "type": "x.astype(dtype)",
    "unbind": "flux.unstack(x, axis)",
    "unsqueeze": "flux.expand_dims(x, axis)",
    "view": "x.reshape(shape)",
    "view_as": "x.reshape(y.shape)",
}
"""Of PyTorch's tensors."""

LAYER = {
    "add_module": "an attribute: model.name = layer",
    "apply": "a loop over model.modules()",
    "bfloat16": "flux.bf16(model), or flux.mixed(model) to train",
    "buffers": "model.named_buffers()",
    "compile": "flux.capture(step)",
    "cpu": "flux.cpu(model)",
    "cuda": "flux.gpu(model)",
    "device": "that of its parameters, model.parameters()[0].device",
    "double": "flux.f64(model)",
    "fit": "flux.train(loss, model, data, opt)",
    "float": "flux.f32(model)",
    "half": "flux.f16(model), or flux.mixed(model, 'float16') to train",
    "load": "flux.load(file, model)",
    "named_modules": "model.modules()",
    "predict": "model(x)",
    "register_buffer": "an attribute: self.name = flux.Buffer(array)",
    "register_forward_hook": "flux.watch(model)",
    "register_module": "an attribute: self.name = layer",
    "register_parameter": "an attribute: self.name = flux.Param(array)",
    "requires_grad_": "flux.freeze(model), flux.thaw(model)",
    "save": "flux.save(file, model)",
    "summary": "flux.summary(model, shape)",
    "zero_grad": "flux.zero_grad(model)",
}
"""Of PyTorch's and Keras's layers and models."""


class Foreign:
    """A class's attribute of another framework. It is none: ``hasattr`` is False, an instance may have its own."""

    def __init__(self, name: str, ours: str) -> None:
        self.name, self.ours = name, ours

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        cls = type(owner) if owner is not None else kind
        raise AttributeError(f"{getattr(cls, '__name__', '')} has no attribute {self.name!r}; here it is {self.ours}",
                             name=self.name, obj=owner)


def attach(cls: type, table: dict[str, str]) -> None:
    """Give ``cls`` the names of ``table`` that it does not have."""
    for name, ours in table.items():
        if not hasattr(cls, name):
            setattr(cls, name, Foreign(name, ours))
