"""MultiHeadAttention: every token looks at all others, several times over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Param, Tensor
from ..backend import array_module, as_array
from ..ops.attention import dot_product_attention, read_mask, self_attention
from ..ops.dense import dense
from ..ops.dropouts import check_probability, dropout
from ..spelling import check_keywords
from .dense import Dense
from .dropouts import check_active
from .initialisers import glorot_uniform, zeros
from .inputs import as_input, bias_parameter, drawn, layer_name, whole
from .module import Module, training

CALL_KEYWORDS = ("mask", "key_padding_mask", "causal", "return_weights")


class MultiHeadAttention(Module):
    """MultiHeadAttention(d, nheads=8, *, nkvheads=nheads, kdim=d, vdim=d, bias=True, dropout_prob=0,
    init=glorot_uniform, init_bias=zeros, rng=None, active=None)

    Queries, keys and values are projected, split into heads, attend, and are projected back:
    ``y = out_proj(join(softmax(q_h k_h^T / sqrt(d / nheads)) v_h))``.

    ``m(q)`` is self-attention, ``m(q, kv)`` and ``m(q, k, v)`` cross-attention: q (N, L, d), k and v (N, S, d) give
    (N, L, d). ``kdim`` and ``vdim``: the features of keys and values where they differ from ``d``. All sizes are free with
    Flux's ``in => (qk, v) => out`` as a tuple for ``d``: ``(in, inner, out)``, ``in`` a size or those of (q, k, v), ``inner``
    the width of all heads together, one or (queries and keys, values). ``nkvheads``: grouped queries, so many heads of
    keys and values, each for nheads / nkvheads heads of queries.

    In the call: ``causal=True``, token l attends to the tokens 0 to l; ``mask``, True where a query may attend to a key,
    (L, S), (N, L, S) or (N, nheads, L, S); ``key_padding_mask`` (N, S), True where a key is to be ignored. A token with
    nothing to attend to gets the bias of ``out_proj`` alone. ``return_weights=True`` gives (y, weights), the weights of
    each head (N, nheads, L, S). In train mode weights are dropped with ``dropout_prob``; ``rng`` draws them and the
    initial values. Weights and dropout form all L x S products at once, attention without them works in blocks.

    ``in_proj_weight`` holds the rows of queries, keys and values, each drawn by ``init``; where the inputs differ in size
    there are ``q_proj_weight``, ``k_proj_weight`` and ``v_proj_weight``. ``in_proj_bias`` and ``out_proj`` (a Dense) as in
    PyTorch, whose state dict loads. ``bias=False`` leaves both biases out (Flux's default; PyTorch's is True).

    Raises ValueError for sizes that do not fit each other, TypeError for masks that are not boolean.
    Sources: Flux's ``MultiHeadAttention``; Vaswani and others, "Attention is all you need", NIPS 2017; Ainslie and others,
    "GQA: training generalized multi-query transformer models", EMNLP 2023.
    """

    def __init__(
        self,
        d: Any,
        nheads: int = 8,
        *,
        nkvheads: int | None = None,
        kdim: int | None = None,
        vdim: int | None = None,
        bias: bool = True,
        dropout_prob: float = 0.0,
        init: Callable[..., Any] = glorot_uniform,
        init_bias: Callable[..., Any] = zeros,
        rng: Any = None,
        active: bool | None = None,
    ) -> None:
        name = "MultiHeadAttention"
        self.d, self.kdim, self.vdim = tuple(d) if isinstance(d, list) else d, kdim, vdim
        self.sizes, (qk, v), out = _sizes(d, kdim, vdim)
        self.nheads = _positive(nheads, f"{name}: nheads")
        self.nkvheads = self.nheads if nkvheads is None else _positive(nkvheads, f"{name}: nkvheads")
        for what, size in (("queries and keys", qk), ("values", v)):
            if size % self.nheads:
                raise ValueError(f"{name}: the width {size} of the {what} is not divisible by nheads={self.nheads}")
        if self.nheads % self.nkvheads:
            raise ValueError(f"{name}: nheads={self.nheads} is not divisible by nkvheads={self.nkvheads}")
        if not isinstance(bias, bool | np.bool_):
            raise TypeError(f"{name}: bias must be True or False, there are two of them; load given ones with "
                            f"load_state_dict, got {type(bias).__name__}")
        self.dropout_prob = check_probability(name, dropout_prob)
        self.init, self.init_bias, self.active = init, init_bias, check_active(name, active)
        self.rng = rng if self.dropout_prob else None  # from here on it draws what is dropped
        shared = self.nheads // self.nkvheads
        self.widths = qk, qk // shared, v // shared
        weights = [drawn(init, shape, rng, name) for shape in zip(self.widths, self.sizes, strict=True)]
        if len(set(self.sizes)) == 1:
            self.in_proj_weight = Param(np.concatenate(weights))
        else:
            self.q_proj_weight, self.k_proj_weight, self.v_proj_weight = map(Param, weights)
        first = self._projection(0)[0]
        self.in_proj_bias = bias_parameter(bool(bias), first, sum(self.widths), init_bias, name)
        self.out_proj = Dense(v, out, bias=bool(bias), init=init, init_bias=init_bias, rng=rng)

    @property
    def bias(self) -> bool:
        """Whether the projections have biases."""
        return self.in_proj_bias is not None

    def __call__(
        self,
        q: Any,
        k: Any = None,
        v: Any = None,
        *,
        mask: Any = None,
        key_padding_mask: Any = None,
        causal: bool = False,
        return_weights: bool = False,
        **foreign: Any,
    ) -> Any:
        if foreign:
            check_keywords(layer_name(self), foreign, CALL_KEYWORDS)
            raise TypeError(f"{layer_name(self)}: a call has no keyword {next(iter(foreign))!r}; it takes "
                            f"{', '.join(CALL_KEYWORDS)}")
        if k is None and v is not None:
            raise TypeError(f"{layer_name(self)}: values without keys; call it with (q), (q, kv) or (q, k, v)")
        k = q if k is None else k
        v = k if v is None else v
        q_in, k_in, v_in = self._inputs(q, k, v)
        shape = (q_in.shape[0], self.nheads, q_in.shape[1], k_in.shape[1])
        seen = self._seen(mask, key_padding_mask, shape, q_in.data)
        p = self.dropout_prob if training(self) else 0.0
        scale = (self.nheads / max(self.widths[0], 1)) ** 0.5
        plain = not (p or return_weights)
        if plain and q is k and k is v and self._is_packed and self.widths[1] == self.widths[2]:
            x = dense(q_in, self.in_proj_weight, self.in_proj_bias)
            y = self_attention(x, heads=self.nheads, kvheads=self.nkvheads, mask=seen, causal=causal, scale=scale)
            return self.out_proj(y)
        heads = [_split(x, n) for x, n in zip(self._projected(q_in, k_in, v_in, k is v), self._heads, strict=True)]
        result = dot_product_attention(
            *heads, mask=seen, causal=causal, scale=scale, return_weights=return_weights,
            drop=(lambda w: dropout(w, p, rng=self.rng)) if p else None,
        )  # fmt: skip
        y, weights = result if return_weights else (result, None)
        y = self.out_proj(y.swapaxes(1, 2).reshape(*q_in.shape[:2], self.out_proj.in_))
        return (y, weights) if return_weights else y

    @property
    def _is_packed(self) -> bool:
        return "in_proj_weight" in vars(self)

    @property
    def _heads(self) -> tuple[int, int, int]:
        return self.nheads, self.nkvheads, self.nkvheads

    def _projection(self, i: int, end: int | None = None) -> tuple[Any, Any]:
        """The weight and the bias of input ``i`` (0 the queries), or of the inputs i to end - 1 together."""
        end = i + 1 if end is None else end
        rows = slice(sum(self.widths[:i]), sum(self.widths[:end]))
        bias = vars(self).get("in_proj_bias")
        bias = None if bias is None else bias[rows]
        if self._is_packed:
            return self.in_proj_weight[rows], bias
        return (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[i], bias

    def _projected(self, q: Tensor, k: Tensor, v: Tensor, same: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The projected inputs; keys and values in one product where they are the same."""
        y = dense(q, *self._projection(0))
        if not (same and self._is_packed):
            return y, dense(k, *self._projection(1)), dense(v, *self._projection(2))
        both = dense(k, *self._projection(1, 3))
        width = self.widths[1]
        return y, both[..., :width], both[..., width:]

    def _inputs(self, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
        weight = self.out_proj.weight
        tensors: list[Tensor] = []
        for what, x, size in zip(("queries", "keys", "values"), given, self.sizes, strict=True):
            before = [t for t, y in zip(tensors, given, strict=False) if y is x]
            t = before[0] if before else as_input(x, weight, self)
            if t.ndim != 3:
                raise ValueError(f"{layer_name(self)}: the {what} must have three axes, (batch, length, features), got shape "
                                 f"{t.shape}{'; of one sample take x[None]' if t.ndim == 2 else ''}")
            if t.shape[2] != size:
                raise ValueError(f"{layer_name(self)}: the {what} have {t.shape[2]} features, expected {size} (input shape "
                                 f"{t.shape})")
            tensors.append(t)
        q, k, v = tensors
        if not (q.shape[0] == k.shape[0] == v.shape[0] and k.shape[1] == v.shape[1]):
            raise ValueError(f"{layer_name(self)}: queries, keys and values must have one batch size, keys and values one "
                             f"length, got the shapes {q.shape}, {k.shape} and {v.shape}")
        return q, k, v

    def _seen(self, mask: Any, ignored: Any, shape: tuple[int, int, int, int], like: Any) -> Any:
        """Both masks as one, True where a query may attend."""
        seen = None if mask is None else read_mask(layer_name(self), mask, shape, like)
        if ignored is None:
            return seen
        m = as_array(ignored.data if isinstance(ignored, Tensor) else ignored, like=like)
        if m.dtype != np.bool_:
            raise TypeError(f"{layer_name(self)}: key_padding_mask must hold booleans, True where a key is to be ignored, got "
                            f"dtype {m.dtype}")
        if m.shape != (shape[0], shape[3]):
            raise ValueError(f"{layer_name(self)}: key_padding_mask must have the shape (batch, keys) = "
                             f"{(shape[0], shape[3])}, got {m.shape}")
        kept = array_module(m).logical_not(m)[:, None, None]
        return kept if seen is None else seen & kept

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        keywords: dict[str, Any] = {"nheads": self.nheads}
        if self.nkvheads != self.nheads:
            keywords["nkvheads"] = self.nkvheads
        defaults = {"kdim": None, "vdim": None, "bias": True, "dropout_prob": 0.0, "init": glorot_uniform,
                    "init_bias": zeros, "rng": None, "active": None}  # fmt: skip
        for name, default in defaults.items():
            value = getattr(self, name)
            if value is not default and value != default:
                keywords[name] = value
        return [self.d], keywords


def _split(x: Tensor, heads: int) -> Tensor:
    """(N, L, heads D) as (N, heads, L, D)."""
    n, length, width = x.shape
    return x.reshape(n, length, heads, width // heads).swapaxes(1, 2)


def _positive(value: Any, what: str) -> int:
    if (n := whole(value, what)) < 1:
        raise ValueError(f"{what} must be at least 1, got {n}")
    return n


def _sizes(d: Any, kdim: Any, vdim: Any) -> tuple[tuple[int, int, int], tuple[int, int], int]:
    """The sizes of the three inputs, the widths of queries (and keys) and of values, and the size of the output."""
    what = "MultiHeadAttention: the size d"
    if not isinstance(d, tuple | list):
        n = whole(d, what)
        k = n if kdim is None else whole(kdim, "MultiHeadAttention: kdim")
        v = n if vdim is None else whole(vdim, "MultiHeadAttention: vdim")
        return (n, k, v), (n, n), n
    if kdim is not None or vdim is not None:
        raise TypeError(f"MultiHeadAttention: d={d!r} has all sizes; give no kdim= and vdim= beside it")
    if len(d) != 3:
        raise TypeError(f"{what} is one number or (in, inner, out), got {d!r}")
    ins, inner, out = (tuple(x) if isinstance(x, tuple | list) else (x,) for x in d)
    if len(ins) not in (1, 3) or len(inner) not in (1, 2) or len(out) != 1:
        raise TypeError(f"{what} as (in, inner, out) has one or three numbers (q, k, v) for `in`, one or two (qk, v) for "
                        f"`inner` and one for `out`, got {d!r}")
    ins, inner, out = (tuple([whole(n, what) for n in part]) for part in (ins, inner, out))
    return ins * (3 // len(ins)), inner * (2 // len(inner)), out[0]  # type: ignore[return-value]
