"""What the layers of weights share: taking inputs, taking given weights and biases, and naming themselves in errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..autograd import Param, Tensor, is_outlining
from ..backend import (
    DEFAULT,
    DeviceError,
    Outline,
    OutlineError,
    accumulator,
    as_array,
    device_of,
    is_array,
    is_float,
    is_outline,
    refuse_complex,
    to_device,
)
from ..backend.outlines import MAKE_REAL, own
from . import printing
from .module import Module


def layer_name(layer: Module) -> str:
    """The layer as it prints, for error messages: ``Dense(64, 10, relu)``."""
    return printing.text(layer)


def as_input(x: Any, weight: Tensor, layer: Module) -> Tensor:
    """``x`` as a Tensor of the weight's dtype; real numbers of any dtype are converted.

    A layer that ``stays_float32`` takes 16-bit floats as they are beside float32 weights. Raises TypeError for complex
    numbers and for what is no array, DeviceError for an array on another device, OutlineError where the weights have no
    numbers.
    """
    if not isinstance(x, Tensor):
        try:
            array = as_array(x, like=weight.data)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{layer_name(layer)}: {_no_array(x, error)}") from None
        if array.dtype.kind == "c":
            refuse_complex(array.dtype, layer_name(layer))
        x = Tensor(array)
    a, w = x.data, weight.data
    if type(a) is not type(w) or x.device != "cpu":
        check_numbers(weight, layer)
        if not is_outline(a) and x.device != weight.device:
            raise DeviceError(
                f"{layer_name(layer)}: the input (shape {x.shape}) is on {device_of(a)}, the weights are on {device_of(w)}; "
                "move the model with flux.gpu(model) / flux.cpu(model), or the input with flux.gpu(x) / flux.cpu(x)"
            )
    if a.dtype == w.dtype or (layer.stays_float32 and accumulator(a.dtype) == w.dtype):
        return x
    return x.astype(w.dtype)


def check_numbers(weight: Tensor, layer: Module) -> None:
    """Raise OutlineError where ``weight`` has only a shape, and more than shapes is wanted."""
    if is_outline(weight.data) and not is_outlining():
        raise OutlineError(f"{layer_name(layer)}: its parameters have shapes, but no numbers: the model was made inside "
                           f"flux.shapes_only(); {MAKE_REAL}")


def as_real(x: Any, layer: Module, like: Any = None) -> Tensor:
    """``x`` as a Tensor of its own dtype, for layers that need no other; what is no array is put where the array ``like`` is.

    Raises TypeError where it is no array of real numbers.
    """
    if isinstance(x, Tensor):
        return x
    try:
        array = as_array(x, like=like)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{layer_name(layer)}: {_no_array(x, error)}") from None
    refuse_complex(array.dtype, layer_name(layer))
    return Tensor(array)


def _no_array(x: Any, error: Exception) -> str:
    got = f"holds no numbers ({error})" if is_array(x) else f"is a {type(x).__name__}, expected an array"
    return f"the input {got}"


def speak_for(error: Exception, layer: Module, x: Tensor) -> None:
    """An op's error, which names the class of ``layer``, in the name of the whole layer and with the shape of its input."""
    start, _, message = str(error.args[0] if error.args else "").partition(": ")
    if any(start == cls.__name__ for cls in type(layer).__mro__):
        shape = "" if "input shape" in message else f" (input shape {tuple(x.shape)})"
        error.args = (f"{layer_name(layer)}: {message}{shape}", *error.args[1:])


def whole(value: Any, what: str) -> int:
    """A size given to a layer as an int: Python's and NumPy's integers from 0 on. Raises TypeError."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < 0:
        raise TypeError(f"{what} must be a whole number, got {value!r}")
    return int(value)


class _Drawing(threading.local):
    on = True


_drawing = _Drawing()


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Layers that are made in the body, in this thread, have zeros without memory for weights: their arguments are tried."""
    before, _drawing.on = _drawing.on, False
    try:
        yield
    finally:
        _drawing.on = before


def drawn(init: Callable[..., Any], shape: tuple[int, ...], rng: Any, layer: str) -> Any:
    """The array that an initialiser draws, of the shape that was asked for; ``rng`` is passed on where there is one.

    Floats keep their dtype, other real numbers become float32.
    """
    if not callable(init):
        raise TypeError(f"{layer}: an initialiser is a function of the shape, such as glorot_uniform, got "
                        f"{printing.text(init)}")
    if own.only_shapes:
        settings = getattr(init, "settings", {})  # an initialiser's own
        return Outline(shape, settings.get("dtype", DEFAULT))
    if not _drawing.on:
        return np.broadcast_to(np.zeros((), DEFAULT), shape)
    try:
        array = as_array(init(*shape) if rng is None else init(*shape, rng=rng))
    except Exception as error:
        error.add_note(f"{layer}: its initialiser was called as {printing.text(init)}({', '.join(map(str, shape))}"
                       f"{'' if rng is None else ', rng=...'})")
        raise
    refuse_complex(array.dtype, layer)
    if array.shape != shape:
        raise ValueError(f"{layer}: init gave an array of shape {array.shape}, asked for {shape}")
    return array if is_float(array.dtype) else array.astype(DEFAULT)


def weights_from(array: Any, ndim: int | None, layer: str, what: str) -> Any:
    """A given weight array, copied: floats keep their dtype, other real numbers become float32."""
    try:
        a = as_array(array.data if isinstance(array, Tensor) else array)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{layer}: the {what} is an array of numbers, got {array!r} ({error})") from None
    refuse_complex(a.dtype, layer)
    if ndim is not None and a.ndim != ndim:
        raise ValueError(f"{layer}: the {what} has {ndim} axes, got shape {a.shape}")
    return a.astype(a.dtype if is_float(a.dtype) else DEFAULT, order="C", copy=True)


def bias_parameter(
    bias: Any, weight: Param, size: int | tuple[int, ...], init_bias: Callable[..., Any], layer: str
) -> Param | None:
    """The bias of a layer, of a shape (or a number of outputs): True draws it by ``init_bias``, False is none, an array is
    taken."""
    if bias is None or bias is False:
        return None
    shape = size if isinstance(size, tuple) else (size,)
    if bias is True:
        array = drawn(init_bias, shape, None, layer)
        return Param(to_device(array, weight.device).astype(weight.dtype, copy=False))
    array = weights_from(bias, None, layer, "bias")
    if array.shape != shape:
        raise ValueError(f"{layer}: the bias has shape {array.shape}, expected {shape}")
    return Param(array.astype(weight.dtype, copy=False))
