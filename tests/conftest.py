"""Profiles of the property tests: dev 10 examples, ci 50, long 1000 (HYPOTHESIS_PROFILE=long). Devices to test on."""

import contextlib
import ctypes
import importlib.util
import os

import pytest
from hypothesis import HealthCheck, settings

from tests import oracles

for _name, _examples in {"dev": 10, "ci": 50, "long": 1000}.items():
    settings.register_profile(
        _name,
        max_examples=_examples,
        deadline=None,
        derandomize=_name != "long",
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")
    parser.addoption("--pretend-gpu", action="store_true", help="check operations on a pretended GPU, too (tests/pretended.py)")
    parser.addoption("--differences", metavar="FILE", help="tests/test_devices.py writes how far the device's results are off")


def _has_gpu():
    """Whether there is CuPy and a CUDA device, found out without importing CuPy."""
    if importlib.util.find_spec("cupy") is None:
        return False
    count = ctypes.c_int()
    with contextlib.suppress(OSError):
        cuda = ctypes.CDLL("libcuda.so.1")
        return cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    return False


def pytest_configure(config):
    if config.getoption("--pretend-gpu"):
        from tests.pretended import pretended_gpu

        stack = contextlib.ExitStack()
        stack.enter_context(pretended_gpu())
        config.add_cleanup(stack.close)
    if config.getoption("--pretend-gpu") or _has_gpu():
        oracles.DEVICES.append("cuda:0")


SANITIZED = {"test_indexing.py", "test_scans.py", "test_softmaxes.py"}
"""The files whose sanitizer runs are a sample of all: the others are slow."""


def _sanitized(item):
    how = item.callspec.params.get("how") if hasattr(item, "callspec") else None
    return isinstance(how, dict) and "sanitize" in how and item.path.name not in SANITIZED


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="slow: run with --slow")
        for item in items:
            if "slow" in item.keywords or _sanitized(item):
                item.add_marker(skip)
