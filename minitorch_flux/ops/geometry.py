"""Windows that slide over the last axes of an array: kernel, stride, pad, dilation, groups, and the sizes they give.

One frozen value object, ``Window``, serves convolutions and pools alike: the reference, the kernels and the error
texts read the same numbers. Per axis, with I the input's size, k the kernel's, s the stride, d the dilation, lo and hi
the padding before and after:

    span = (k - 1) d + 1
    output      O = floor((I + lo + hi - span) / s) + 1
    ceil_mode   O = ceil((I + lo + hi - span) / s) + 1, less one if the last window would start in the padding after
    transposed  O = (I - 1) s + span - lo - hi + outpad        (outpad: hi is the less by it)

Tuples are in array order, (h, w) for images. Sources: Flux.jl and NNlib.jl (``SamePad()``), PyTorch (``pad="same"``,
``ceil_mode``), TensorFlow and ONNX (``SamePad("upper")``).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

Pad = Any  # int | Sequence[int | tuple[int, int]] | SamePad | "same"


@dataclass(frozen=True)
class SamePad:
    """Padding for which a stride of 1 keeps the size, and a stride of s divides it by s, rounded up.

    ``SamePad()`` pads by span - 1, whatever the stride, and puts an odd pixel first (Flux). ``SamePad("upper")`` pads
    by what the stride and the size of the input leave over, and puts an odd pixel last (TensorFlow's SAME, ONNX's
    SAME_UPPER). ``pad="same"``, PyTorch's, is for a stride of 1 and puts an odd pixel last.
    """

    mode: str = "lower"

    def __post_init__(self) -> None:
        if self.mode not in ("lower", "upper"):
            raise ValueError(f"SamePad() puts an odd pixel first, SamePad('upper') last; got SamePad({self.mode!r})")

    def __repr__(self) -> str:
        return "SamePad()" if self.mode == "lower" else f"SamePad({self.mode!r})"


@dataclass(frozen=True)
class Window:
    """A validated window over ``len(kernel)`` axes; make one with ``window(...)``.

    ``pad`` has a pair (lo, hi) per axis; it is a ``SamePad("upper")`` until ``at(sizes)`` has turned it into pairs. A
    negative hi leaves out pixels at the end of the input.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[tuple[int, int], ...] | SamePad
    dilation: tuple[int, ...]
    groups: int = 1
    ceil_mode: bool = False
    name: str = "window"

    @property
    def ndim(self) -> int:
        """The number of axes that the window slides over."""
        return len(self.kernel)

    @property
    def span(self) -> tuple[int, ...]:
        """How many pixels the kernel reaches over, per axis: (k - 1) d + 1."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation))

    @property
    def lo(self) -> tuple[int, ...]:
        """The padding before, per axis."""
        return tuple(lo for lo, _ in self.pad)  # type: ignore[union-attr]

    def pad_for(self, sizes: tuple[int, ...], out: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The padding that lets ``out`` windows reach everywhere; with ``ceil_mode`` the last may need more than ``pad``."""
        ends = [(o - 1) * s + span for o, s, span in zip(out, self.stride, self.span)]
        return tuple((lo, max(hi, end - i - lo)) for i, end, (lo, hi) in zip(sizes, ends, self.pad))  # type: ignore[arg-type]

    def at(self, sizes: tuple[int, ...]) -> Window:
        """The window with its padding in pairs, for an input of these sizes."""
        return self if isinstance(self.pad, tuple) else _resolved(self, sizes)

    def output_size(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """The sizes of the output for an input of these sizes.

        Raises ValueError where the kernel reaches over more than the padded input.
        """
        return _output_size(self.at(sizes), tuple(sizes))

    def transposed_size(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """The sizes of a transposed convolution's output: the input sizes for which ``output_size`` is ``sizes``."""
        if isinstance(self.pad, SamePad):
            raise ValueError(f"{self.name}: {self.pad!r} depends on the sizes of the other side; write the pad in pairs")
        out = []
        for axis, (i, s, span, (lo, hi)) in enumerate(zip(sizes, self.stride, self.span, self.pad)):
            size = (i - 1) * s + span - lo - hi
            if size < 0 or i < 1:
                raise ValueError(
                    f"{self.name}: {i} pixels on {_axis(axis, self.ndim)} with kernel span {span}, stride {s} and "
                    f"padding {lo} + {hi} leave an output of {size}; use less padding"
                )
            out.append(size)
        return tuple(out)

    def outpadded(self, outpad: Any) -> Window:
        """The window of a transposed convolution whose output is ``outpad`` pixels longer, at the end.

        With a stride of s there are s input sizes with the same ``output_size``; ``outpad`` (an int or one per axis,
        smaller than the stride or the dilation) says which. The padding after is the less by it, perhaps negative.
        """
        pairs = []
        for axis, (extra, s, d, (lo, hi)) in enumerate(
            zip(_ints(self.name, "outpad", outpad, self.ndim, 0), self.stride, self.dilation, self.pad)  # type: ignore[arg-type]
        ):
            if extra >= max(s, d):
                raise ValueError(f"{self.name}: outpad {extra} on {_axis(axis, self.ndim)} must be smaller than the stride "
                                 f"{s} or the dilation {d}")
            pairs.append((lo, hi - extra))
        return replace(self, pad=tuple(pairs))

    def unit_stride(self) -> bool:
        """Whether every stride is 1."""
        return all(s == 1 for s in self.stride)

    def reversed(self) -> Window:
        """The window that goes from output to input where every stride is 1; its padding may be negative: a crop."""
        pairs = tuple((span - 1 - lo, span - 1 - hi) for span, (lo, hi) in zip(self.span, self.pad))  # type: ignore[arg-type]
        return replace(self, pad=pairs)

    def pointwise(self) -> bool:
        """Whether the window is one pixel that visits every pixel: no window at all."""
        return self == replace(
            self, kernel=(1,) * self.ndim, stride=(1,) * self.ndim, pad=((0, 0),) * self.ndim
        )


def window(
    name: str,
    kernel: Any,
    stride: Any = 1,
    pad: Pad = 0,
    dilation: Any = 1,
    groups: int = 1,
    ceil_mode: bool = False,
    *,
    ndim: int | None = None,
    transposed: bool = False,
) -> Window:
    """Validate the geometry of ``name``, the layer or function in whose name errors speak.

    ``kernel`` is a tuple with one size per axis, or an int for ``ndim`` axes. ``stride`` and ``dilation`` are an int or
    one per axis. ``pad`` is an int, one per axis, pairs (lo, hi), ``SamePad()``, ``SamePad("upper")`` or ``"same"``.
    ``transposed``: ``SamePad()`` then leaves span - stride, so that the output is s times the input.
    """
    try:
        return _window(name, kernel, stride, pad, dilation, groups, ceil_mode, ndim, transposed)
    except TypeError:  # a list, which cannot be looked up; or an error that comes again
        kernel, stride, pad, dilation = map(_frozen, (kernel, stride, pad, dilation))
        return _window(name, kernel, stride, pad, dilation, groups, ceil_mode, ndim, transposed)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


@functools.lru_cache(maxsize=4096)
def _window(
    name: str, kernel: Any, stride: Any, pad: Any, dilation: Any, groups: Any, ceil_mode: Any, ndim: Any, transposed: Any
) -> Window:
    if ndim is None:
        if not isinstance(kernel, tuple):
            raise TypeError(f"{name}: the kernel size is a tuple with one number per axis, such as ({kernel}, {kernel}) "
                            f"for images; got {kernel!r}")
        ndim = len(kernel)
    if not 1 <= ndim <= 3:
        raise ValueError(f"{name}: windows slide over 1, 2 or 3 axes, got the kernel size {kernel!r} for {ndim}")
    kernel = _ints(name, "kernel", kernel, ndim, 1)
    stride = _ints(name, "stride", stride, ndim, 1)
    dilation = _ints(name, "dilation", dilation, ndim, 1)
    groups = operator.index(groups)
    if groups < 1:
        raise ValueError(f"{name}: groups must be at least 1, got {groups}")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
    pairs = _pairs(name, pad, spans, stride, transposed)
    return Window(kernel, stride, pairs, dilation, groups, bool(ceil_mode), name)


def _ints(name: str, what: str, value: Any, ndim: int, least: int) -> tuple[int, ...]:
    """``value``, an int or one per axis, as a tuple of ``ndim`` ints of at least ``least``."""
    try:
        numbers = tuple(map(operator.index, value)) if isinstance(value, (tuple, list)) else (operator.index(value),) * ndim
    except TypeError:
        raise TypeError(f"{name}: {what} is an int or {ndim} ints, one per axis; got {value!r}") from None
    if len(numbers) != ndim:
        raise ValueError(f"{name}: {what}={value!r} has {len(numbers)} numbers for {ndim} axes; write one per axis")
    if min(numbers) < least:
        raise ValueError(f"{name}: {what} must be at least {least}, got {value!r}")
    return numbers


def _pairs(name: str, pad: Any, spans: Sequence[int], stride: Sequence[int], transposed: bool) -> Any:
    ndim = len(spans)
    if isinstance(pad, SamePad):
        if pad.mode == "upper" and not transposed:
            return pad
        totals = [span - s if transposed else span - 1 for span, s in zip(spans, stride)]
        if min(totals) < 0:
            raise ValueError(f"{name}: {pad!r} needs a kernel that spans at least the stride; the kernel spans "
                             f"{tuple(spans)}, the stride is {tuple(stride)}; use pad=0 and outpad")
        return tuple((t // 2, t - t // 2) if pad.mode == "upper" else (t - t // 2, t // 2) for t in totals)
    if isinstance(pad, str):
        if pad != "same":
            raise ValueError(f"{name}: pad={pad!r} is not known; use 'same', SamePad(), numbers or pairs")
        if transposed:
            raise ValueError(f"{name}: pad='same' is for convolutions; use SamePad(), which multiplies the size by the stride")
        if any(s != 1 for s in stride):
            raise ValueError(f"{name}: pad='same' is for a stride of 1, got stride {tuple(stride)}; use SamePad() or "
                             "SamePad('upper'), which divide the size by the stride")
        return tuple(((span - 1) // 2, span - 1 - (span - 1) // 2) for span in spans)
    entries = pad if isinstance(pad, (tuple, list)) else (pad,) * ndim
    if len(entries) == 2 * ndim and not any(isinstance(e, (tuple, list)) for e in entries):
        pairs = tuple(zip(entries[::2], entries[1::2]))
        raise ValueError(f"{name}: pad={pad!r} has {2 * ndim} numbers for {ndim} axes; write (lo, hi) pairs: pad={pairs!r}")
    if len(entries) != ndim:
        raise ValueError(f"{name}: pad={pad!r} has {len(entries)} entries for {ndim} axes; write a number or a pair "
                         "(lo, hi) per axis")
    return tuple(_ints(name, "pad", e, 2, 0) for e in entries)


@functools.lru_cache(maxsize=4096)
def _resolved(window: Window, sizes: tuple[int, ...]) -> Window:
    pairs = []
    for i, s, span in zip(sizes, window.stride, window.span):
        total = max((-(-i // s) - 1) * s + span - i, 0)
        pairs.append((total // 2, total - total // 2))
    return replace(window, pad=tuple(pairs))


@functools.lru_cache(maxsize=4096)
def _output_size(window: Window, sizes: tuple[int, ...]) -> tuple[int, ...]:
    if len(sizes) != window.ndim:
        raise ValueError(f"{window.name}: the window slides over {window.ndim} axes, the input has {len(sizes)} of them")
    out = []
    for axis, (i, s, span, (lo, hi)) in enumerate(zip(sizes, window.stride, window.span, window.pad)):  # type: ignore[arg-type]
        room = i + lo + hi - span
        if room < 0 and not (window.ceil_mode and room > -s and i + lo):  # there even the first window may not fit whole
            k, d = window.kernel[axis], window.dilation[axis]
            raise ValueError(
                f"{window.name}: the kernel is larger than the input on {_axis(axis, window.ndim)}: it spans {span} "
                f"pixels (size {k}, dilation {d}), the input has {i} + padding {lo} + {hi}; pad more or use a smaller kernel"
            )
        o = room // s + 1
        if window.ceil_mode:
            o = -(-room // s) + 1
            o -= (o - 1) * s >= i + lo
        out.append(o)
    return tuple(out)


def _axis(axis: int, ndim: int) -> str:
    """An axis that the window slides over, counted from the end, so that it is right with and without a batch axis."""
    names = {1: ("width",), 2: ("height", "width"), 3: ("depth", "height", "width")}[ndim]
    return f"axis {axis - ndim} ({names[axis]})"
