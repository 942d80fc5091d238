"""Tensor: an array that knows how it was computed.

The operators and NumPy's methods (``sum``, ``reshape``, ...) are attached by ``ops/methods.py``: this file holds only
what a tensor *is*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import PLAIN_DTYPES, Array, as_array, device_of, is_float, read_only, refuse_complex, to_device
from ..backend.outlines import MAKE_REAL, OutlineError, is_outline, outline_of, own
from .recording import state

if TYPE_CHECKING:
    from .node import Node


class Tensor:
    """An array and, if it was recorded, the operation that made it.

    ``data`` is the array (NumPy or CuPy), ``grad`` the gradient that ``backward`` left (None before). A tensor is never
    changed in place by an op; only the library's own updates (optimisers, loading) write to parameters.
    """

    __slots__ = ("__weakref__", "base", "data", "grad", "node", "output", "track", "version")

    __array_ufunc__ = None  # so that ``array + tensor`` reaches Tensor.__radd__
    __hash__ = object.__hash__  # by identity, although == compares elementwise

    data: Array
    grad: Any
    node: Node | None  # the operation that made it
    output: int  # which output of the node it is
    track: int  # see recording.py
    version: int  # how often the library has written to the data in place
    base: Tensor | None  # the leaf whose memory this tensor shares, if any

    def __init__(self, data: Any, track: int = 0) -> None:
        self.node = self.grad = self.base = None
        self.output = self.version = 0
        self.track = track
        if isinstance(data, Tensor):
            shared = data.detach()
            self.data, self.base = shared.data, shared.base
        elif type(data) is np.ndarray and data.dtype in PLAIN_DTYPES:
            self.data = data
        else:
            self.data = as_array(data)
            refuse_complex(self.data.dtype, type(self).__name__)

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the numbers."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.data.size

    @property
    def nbytes(self) -> int:
        """The number of bytes of the elements."""
        return self.data.nbytes

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda:N"``."""
        return device_of(self.data)

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this tensor (for a parameter: inside a recording scope)."""
        return self.track > 0

    @requires_grad.setter
    def requires_grad(self, on: bool) -> None:
        if self.node is not None:
            raise ValueError("requires_grad can be set on leaves only; this tensor was computed by "
                             f"{self.node.op.name}; use .detach() for a constant copy")
        if on and not self._leaf_track:
            raise TypeError("a Buffer does not train; make the attribute a Param")
        if on and not is_float(self.dtype):
            raise TypeError(f"only floating-point tensors can require gradients, this one has dtype {self.dtype}")
        self.track = self._leaf_track if on else 0

    _leaf_track = 2

    @property
    def recorded(self) -> bool:
        """Whether an operation on this tensor is recorded here and now."""
        return self.track + state.level > 2

    # -- ways out --------------------------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """The numbers as a NumPy array, copied from the GPU if need be.

        A recorded tensor, a parameter or buffer, and what shares memory with one give a read-only view: the tape may
        still need these numbers.
        """
        if self.device != "cpu":
            return to_device(self.data, "cpu")
        if is_outline(self.data) and not own.scopes:
            raise OutlineError(f"this {type(self).__name__} has a shape, {self.shape}, but no numbers: the model was made "
                               f"inside flux.shapes_only(); {MAKE_REAL}")
        owner = self if self.base is None else self.base
        return read_only(self.data) if self.track or owner.track or type(owner) is not Tensor else self.data

    def item(self) -> float | int | bool:
        """The one element as a Python number."""
        return self.data.item()

    def tolist(self) -> Any:
        """The numbers as nested lists."""
        return self.data.tolist()

    def detach(self) -> Tensor:
        """The same numbers as a constant: no gradient flows through it. The memory is shared, to be read only."""
        t = Tensor(self.data if self.node is None else read_only(self.data))
        t.base = self.base if self.base is not None else self if self.node is None else None
        return t

    def backward(self, dy: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add the gradient of this tensor to the ``.grad`` of every leaf that it was computed from.

        ``dy``: the incoming gradient, of this tensor's shape; may be left out for a single element (then 1).
        ``retain_graph``: keep the saved values for another backward pass.
        ``create_graph``: record the backward pass itself; the ``.grad`` are then tensors. (Each then knows its own leaf
        through the tape: set ``.grad`` to None when done, or the memory waits for Python's garbage collector.)

        Where it raises, no ``.grad`` has changed; but the tape, without ``retain_graph``, is used up.
        """
        from .walk import backward

        backward(self, dy, retain_graph=retain_graph, create_graph=create_graph)

    # -- copies ----------------------------------------------------------------------------------------------------

    def _leave(self, how: str) -> None:
        if self.node is not None:
            raise TypeError(f"{how} of a tensor computed by {self.node.op.name} would leave the tape: use .detach() first")

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        self._leave("a copy")
        new = memo[id(self)] = _rebuild(type(self), self.data.copy(), self.track)
        return new

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})  # as of NumPy's arrays: two tensors with one memory would not see each other's versions

    def __reduce__(self) -> Any:  # for pickle: leaves only, without .grad
        self._leave("a pickle")
        return _rebuild, (type(self), self.data, self.track)

    # -- what NumPy may not do with it -----------------------------------------------------------------------------

    def _refuse(self, what: str) -> None:
        raise TypeError(
            f"{what} cannot take a recorded Tensor (shape {self.shape}): it would leave the tape. "
            "Use the function of the same name in minitorch_flux, or .numpy() to leave on purpose"
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """What ``numpy.asarray`` gets: the array itself where ``dtype`` and ``copy`` let it be, see ``numpy()``."""
        if self.recorded:
            self._refuse("numpy.asarray")
        if copy is False and self.device != "cpu":
            raise ValueError(f"numpy.asarray: an array of a Tensor on {self.device} is a copy, and copy=False forbids one")
        a = self.numpy()
        return np.array(a, dtype, copy=copy) if dtype is not None or copy else a

    def __dlpack__(self, **keywords: Any) -> Any:
        """The memory for another library: ``torch.from_dlpack(t)`` shares it. What ``numpy()`` gives read-only is so here.

        Raises BufferError for a recorded tensor (as PyTorch does), for an axis that runs backwards (PyTorch would end the
        process) and for a dtype that NumPy or CuPy cannot export.
        """
        if self.recorded:
            raise BufferError(f"DLPack cannot take a recorded Tensor (shape {self.shape}): it would leave the tape. Export "
                              ".detach() of it, which shares the memory, to be read only")
        a = self.numpy() if self.device == "cpu" else self.data
        if not keywords.get("copy") and any(n > 1 and step < 0 for n, step in zip(a.shape, a.strides, strict=True)):
            raise BufferError(f"DLPack: an axis of this Tensor (shape {a.shape}, strides {a.strides}) runs backwards, which "
                              "its readers do not take: export .copy() of it")
        try:
            return a.__dlpack__(**keywords)
        except BufferError as error:
            if "dtypes" not in str(error):
                raise
            raise BufferError(f"DLPack: NumPy cannot export {self.dtype}: convert it first, .astype('float32'), or export its "
                              "bits as integers, .numpy().view('int16')") from error

    def __dlpack_device__(self) -> Any:
        """DLPack's numbers of the device: (1, 0) is the CPU, (2, N) ``"cuda:N"``."""
        return self.data.__dlpack_device__()

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"numpy.{func.__name__} does not take a Tensor: use minitorch_flux.{func.__name__} where it "
                        "exists, or .numpy() to leave the tape on purpose")

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("a Tensor cannot be changed in place, the tape may still need its values: use flux.where(mask, "
                        "value, t), flux.stack / flux.concatenate, or t.scatter(...)")

    # -- Python's protocols ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a Tensor without axes")
        return self.shape[0]

    def __contains__(self, value: Any) -> bool:
        """Whether an element equals ``value``."""
        return bool((self.data == (value.data if isinstance(value, Tensor) else value)).any())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"the truth value of a Tensor with {self.size} elements is ambiguous: use .any() or .all()")
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.data.item())

    def __int__(self) -> int:
        return int(self.data.item())

    def __index__(self) -> int:
        return self.data.__index__()

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        if self.size != 1:
            raise TypeError(f"the format {spec!r} is for one number, this Tensor has shape {self.shape}: format its .item()s, "
                            "or print it as it is")
        return format(self.item(), spec)

    def __repr__(self) -> str:
        name = type(self).__name__
        if is_outline(self.data):
            return f"{name}({self.data!r})"
        body = np.array2string(to_device(self.data, "cpu"), separator=", ", prefix=name + "(", threshold=200)
        notes = f", shape={self.shape}" if not self.size and self.ndim > 1 else ""
        notes += "" if self.dtype in (np.float32, np.int64, np.bool_) else f", dtype={self.dtype}"
        notes += "" if self.device == "cpu" else f", device={self.device!r}"
        if self.node is not None:
            notes += f", made by {self.node.op.name}"
        elif self.track == 2:
            notes += ", requires_grad=True"
        return f"{name}({body}{notes})"

    if TYPE_CHECKING:  # attached by ops/methods.py

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __iter__(self) -> Any: ...
        def __neg__(self) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...


class Param(Tensor):
    """A trainable array of a layer: recorded inside a recording scope only.

    The array is taken as it is (not copied): updates write to it. Of a tensor it takes a copy.
    """

    __slots__ = ()
    _leaf_track = 1

    def __init__(self, data: Any) -> None:
        super().__init__(data.data.copy() if isinstance(data, Tensor) else data, track=1)
        if not is_float(self.data.dtype):
            raise TypeError(f"a Param must be floating-point, got dtype {self.data.dtype}; use Buffer for other values")
        if own.only_shapes:
            self.data = outline_of(self.data)


class Buffer(Tensor):
    """A saved array of a layer that is not trained, such as a running mean."""

    __slots__ = ()
    _leaf_track = 0

    def __init__(self, data: Any) -> None:
        super().__init__(data.data.copy() if isinstance(data, Tensor) else data)
        if own.only_shapes:
            self.data = outline_of(self.data)


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None) -> Tensor:
    """A Tensor with its own copy of ``data``.

    ``requires_grad=True`` makes a leaf that is recorded anywhere, also outside recording scopes. Python floats become
    float32, integers int64; arrays keep their dtype unless ``dtype`` is given.
    """
    if isinstance(data, Tensor):
        data = data.data
    a = as_array(data)
    refuse_complex(a.dtype, "tensor")
    if dtype is None:
        dtype = np.float32 if a.dtype == np.float64 and not hasattr(data, "dtype") else a.dtype
    t = Tensor(a.astype(dtype, copy=True))
    if requires_grad:
        t.requires_grad = True
    return t


def _rebuild(kind: type[Tensor], data: Array, track: int) -> Tensor:
    new = kind.__new__(kind)
    Tensor.__init__(new, data, track)
    return new
