"""Arrays, devices, memory and the one dispatch between references and kernels."""

from .arrays import (
    PLAIN_DTYPES,
    Array,
    DeviceError,
    address_of,
    array_module,
    as_array,
    device_of,
    find_cupy,
    is_array,
    is_view,
    parse_device,
    read_only,
    to_device,
)
from .dispatch import FUNCTIONS, ArrayFunction, array_function, kernels_enabled, use_kernels
from .dtypes import DEFAULT, accumulator, is_float, is_number, refuse_complex
from .generator import Generator, default_generator, resolve_rng, seed
from .memory import contiguous, empty, empty_like, free_memory, is_whole, memory_stats
from .outlines import Outline, OutlineError, is_outline, outline_of
from .outlines import scopes as outline_scopes
from .precision import allow_tf32, product_dtype, tf32_allowed
from .tracers import is_unseen
from .workspaces import set_workspace_limit, too_small, within_limit, workspace_limit, workspace_of

__all__ = [
    "DEFAULT",
    "FUNCTIONS",
    "PLAIN_DTYPES",
    "Array",
    "ArrayFunction",
    "DeviceError",
    "Generator",
    "Outline",
    "OutlineError",
    "accumulator",
    "address_of",
    "allow_tf32",
    "array_function",
    "array_module",
    "as_array",
    "contiguous",
    "default_generator",
    "device_of",
    "empty",
    "empty_like",
    "find_cupy",
    "free_memory",
    "is_array",
    "is_float",
    "is_number",
    "is_outline",
    "is_unseen",
    "is_view",
    "is_whole",
    "kernels_enabled",
    "memory_stats",
    "outline_of",
    "outline_scopes",
    "parse_device",
    "product_dtype",
    "read_only",
    "refuse_complex",
    "resolve_rng",
    "seed",
    "set_workspace_limit",
    "tf32_allowed",
    "to_device",
    "too_small",
    "use_kernels",
    "within_limit",
    "workspace_limit",
    "workspace_of",
]
