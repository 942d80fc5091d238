"""Optimisers: rules, the state they keep for a model's parameters, and the step."""

from .adaptive import AdaBelief, AdaDelta, AdaGrad, Adam, AdaMax, AdamW, AMSGrad, NAdam, RAdam, RMSProp
from .composition import AccumGrad, ClipGrad, ClipNorm, OptimiserChain, WeightDecay
from .descents import Descent, Lion, Momentum, Nesterov
from .freezing import freeze, thaw
from .optimiser_states import OptimiserState, adjust, setup, update
from .rule import Rule
from .scaling import LossScale

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
    "LossScale",
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
