"""MHAttention: the self-attention of vision transformers."""

from __future__ import annotations

from typing import Any

from ...autograd import Tensor
from ...nn.dense import Dense
from ...nn.dropouts import check_active
from ...nn.inputs import as_input, layer_name, whole
from ...nn.module import Module, training
from ...ops.attention import dot_product_attention, self_attention
from ...ops.dropouts import check_probability, dropout


class MHAttention(Module):
    """MHAttention(planes, nheads=8, *, qkv_bias=False, attn_dropout_prob=0.0, proj_dropout_prob=0.0, rng=None, active=None)

    Multi-head self-attention of tokens ``x`` (N, L, planes), which keep their shape: queries, keys and values come from one
    Dense layer ``qkv`` (planes to 3 planes), attend in ``nheads`` heads, and go through the Dense layer ``proj``.

    ``qkv_bias``: whether ``qkv`` has a bias (``proj`` always has). ``attn_dropout_prob``: of the attention weights,
    ``proj_dropout_prob``: of the output, both in train mode only. ``rng`` draws the weights and what is dropped.
    ``MultiHeadAttention`` of the package also takes other keys and values, and masks.

    Raises ValueError where ``planes`` is not divisible by ``nheads`` and for another number of features.
    Source: Metalhead's ``Layers.MHAttention``, later ``MultiHeadSelfAttention``.
    """

    def __init__(
        self,
        planes: int,
        nheads: int = 8,
        *,
        qkv_bias: bool = False,
        attn_dropout_prob: float = 0.0,
        proj_dropout_prob: float = 0.0,
        rng: Any = None,
        active: bool | None = None,
    ) -> None:
        self.planes, self.nheads = whole(planes, "MHAttention: planes"), whole(nheads, "MHAttention: nheads")
        if not self.nheads or self.planes % self.nheads:
            raise ValueError(f"MHAttention: planes={planes} should be divisible by nheads={nheads}")
        self.qkv_bias = qkv_bias
        self.attn_dropout_prob = check_probability("MHAttention", attn_dropout_prob)
        self.proj_dropout_prob = check_probability("MHAttention", proj_dropout_prob)
        self.rng = rng if attn_dropout_prob or proj_dropout_prob else None  # from here on it draws what is dropped
        self.active = check_active("MHAttention", active)
        self.qkv = Dense(self.planes, 3 * self.planes, bias=qkv_bias, rng=rng)
        self.proj = Dense(self.planes, self.planes, rng=rng)

    def __call__(self, x: Any) -> Tensor:
        x = as_input(x, self.proj.weight, self)
        if x.ndim != 3 or x.shape[2] != self.planes:
            raise ValueError(f"{layer_name(self)}: expected an input (N, tokens, {self.planes}) (input shape {x.shape})")
        n, length, _ = x.shape
        qkv, p = self.qkv(x), self.attn_dropout_prob
        scale = (self.nheads / max(self.planes, 1)) ** 0.5
        if p and training(self):
            heads = qkv.reshape(n, length, 3, self.nheads, self.planes // self.nheads).transpose((2, 0, 3, 1, 4))
            y = dot_product_attention(heads[0], heads[1], heads[2], scale=scale, drop=lambda w: dropout(w, p, rng=self.rng))
            y = y.swapaxes(1, 2).reshape(n, length, self.planes)
        else:
            y = self_attention(qkv, heads=self.nheads, kvheads=self.nheads, mask=None, causal=False, scale=scale)
        return dropout(self.proj(y), self.proj_dropout_prob, rng=self.rng, active=training(self))
