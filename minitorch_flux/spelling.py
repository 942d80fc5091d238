"""Names and keywords that users bring from other frameworks, and ours: used for error messages only."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from .foreign_names import NAMES

KEYWORDS = {
    "padding": "pad",
    "kernel_size": "the first argument, a tuple",
    "batch_size": "batchsize",
    "dim": "axis",
    "dims": "axis",
    "keepdim": "keepdims",
    "reduction": "agg",
    "in_channels": "the channel pair (in, out)",
    "out_channels": "the channel pair (in, out)",
    "in_features": "the first argument",
    "out_features": "the second argument",
    "num_features": "the first argument",
    "input_size": "the first argument",
    "hidden_size": "the second argument",
    "output_padding": "outpad",
    "num_heads": "nheads",
    "attn_mask": "`mask=` (True where a query attends, so the other way round)",
    "is_causal": "causal",
    "need_weights": "return_weights",
    "track_running_stats": "track_stats",
    "elementwise_affine": "affine",
    "num_channels": "the first argument",
    "normalized_shape": "the first argument",
    "scale_factor": "scale",
    "upscale_factor": "the first argument",
    "in1_features": "the pair (in1, in2)",
    "in2_features": "the pair (in1, in2)",
    "num_groups": "the second argument",
    "num_embeddings": "the first argument",
    "embedding_dim": "the second argument",
    "epsilon": "eps",
    "return_indices": "nothing: MaxPool keeps them itself",
    "σ": "the activation, after the sizes",
    "activation_fn": "the activation, after the sizes",
    "nonlinearity": "the activation, after the sizes",
    "learning_rate": "eta (or lr)",
    "num_classes": "nclasses",
    "approximate": "gelu (tanh form) or gelu_erf",
    "negative_slope": "the second argument",
    "divisor_override": "agg or a multiplication",
    "drop_last": "partial=False",
    "num_workers": "prefetch",
    "prefetch_factor": "prefetch",
    "collate_fn": "collate",
    "generator": "rng",
    "initW": "init",
    "initb": "init_bias",
    "init_w": "init",
    "init_b": "init_bias",
    "initβ": "init_beta",
    "initγ": "init_gamma",
}
"""Keywords of other frameworks and what says the same here."""


def check_keywords(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError, naming our spelling, for a keyword that ``what`` does not know but another framework does."""
    known = set(known)
    for name in given:
        if name not in known and name in KEYWORDS:
            ours = KEYWORDS[name]
            text = f"`{ours}=`" if ours.isidentifier() else ours
            raise TypeError(f"{what}: `{name}=` is spelled {text} here")


def known_keywords(function: Callable[..., Any]) -> frozenset[str] | None:
    """The names of the parameters of ``function``; None where it takes any keyword, so that none is foreign to it."""
    parameters = inspect.signature(function).parameters
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters.values()) else frozenset(parameters)


@functools.cache  # two names of a function are one object
def teach(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with an error that gives our spelling for a foreign keyword."""
    known = known_keywords(function)
    if known is None:
        return function

    @functools.wraps(function)
    def taught(*args: Any, **keywords: Any) -> Any:
        if not known.issuperset(keywords):
            check_keywords(function.__name__, keywords, known)
        return function(*args, **keywords)

    return taught


def missing_name(name: str) -> AttributeError:
    """The error for ``flux.<name>``: our spelling where the name belongs to another framework."""
    ours = NAMES.get(name)
    hint = f": it is spelled {ours} here" if ours else ""
    return AttributeError(f"minitorch_flux has no {name!r}{hint}", name=name)
