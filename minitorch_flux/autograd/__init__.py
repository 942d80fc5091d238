"""The tape: tensors, operations, the walk backwards, and functions of functions."""


from .custom import custom_gradient
from .node import TapeError
from .operations import OPERATIONS, Operation, operation
from .recording import debug, is_outlining, is_recording, no_grad, outlining, record, shapes_only
from .tensors import Buffer, Param, Tensor, tensor
from .transforms import alias, gradient, hessian, jacobian, vjp, withgradient
from .tree import Gradients, Structure, parameters

__all__ = [
    "OPERATIONS",
    "Buffer",
    "Gradients",
    "Operation",
    "Param",
    "Structure",
    "TapeError",
    "Tensor",
    "alias",
    "custom_gradient",
    "debug",
    "gradient",
    "hessian",
    "is_outlining",
    "is_recording",
    "jacobian",
    "no_grad",
    "operation",
    "outlining",
    "parameters",
    "record",
    "shapes_only",
    "tensor",
    "vjp",
    "withgradient",
]
