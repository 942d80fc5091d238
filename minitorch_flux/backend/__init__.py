"""Arrays, devices, memory and the one dispatch between references and kernels."""

from .arrays import (
    Array,
    DeviceError,
    address_of,
    array_module,
    as_array,
    device_of,
    find_cupy,
    is_array,
    parse_device,
    to_device,
)
from .dispatch import FUNCTIONS, ArrayFunction, array_function, kernels_enabled, use_kernels
from .dtypes import DEFAULT, accumulator, is_float, refuse_complex
from .generator import Generator, default_generator, resolve_rng, seed
from .memory import empty, empty_like, free_memory, memory_stats

__all__ = [
    "DEFAULT",
    "FUNCTIONS",
    "Array",
    "ArrayFunction",
    "DeviceError",
    "Generator",
    "accumulator",
    "address_of",
    "array_function",
    "array_module",
    "as_array",
    "default_generator",
    "device_of",
    "empty",
    "empty_like",
    "find_cupy",
    "free_memory",
    "is_array",
    "is_float",
    "kernels_enabled",
    "memory_stats",
    "parse_device",
    "refuse_complex",
    "resolve_rng",
    "seed",
    "to_device",
    "use_kernels",
]
