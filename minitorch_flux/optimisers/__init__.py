"""Optimisers: rules, the state they keep for a model's parameters, and the step."""

from .adaptive import AdaBelief, AdaDelta, AdaGrad, Adam, AdaMax, AdamW, AMSGrad, NAdam, RAdam, RMSProp
from .composition import AccumGrad, ClipGrad, ClipNorm, OptimiserChain, WeightDecay
from .descents import Descent, Lion, Momentum, Nesterov
from .freezing import freeze, thaw
from .rule import Rule
from .state import OptimiserState, adjust, setup, update

__all__ = [
    "AMSGrad",
    "AccumGrad",
    "AdaBelief",
    "AdaDelta",
    "AdaGrad",
    "AdaMax",
    "Adam",
    "AdamW",
    "ClipGrad",
    "ClipNorm",
    "Descent",
    "Lion",
    "Momentum",
    "NAdam",
    "Nesterov",
    "OptimiserChain",
    "OptimiserState",
    "RAdam",
    "RMSProp",
    "Rule",
    "WeightDecay",
    "adjust",
    "freeze",
    "setup",
    "thaw",
    "update",
]
