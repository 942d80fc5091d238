"""Training in 16 bits over several ranks: masters, and one decision of the loss scale for all."""

import numpy as np
import pytest

from . import jobs, ranks


@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_runs_in_16_bits(dtype):
    """Sums over the ranks are formed in float32; a gradient is rounded to 16 bits on its rank, and the sum once more."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    first, second = ranks.run(2, "scaled_trainings", dtype)
    assert first == second
    (found, broken), alone = first, jobs.scaled_training(dtype)
    assert found["state"] == alone["state"]
    assert found["state"][1] > 2.0**12
    close = 0.01 if dtype == "float16" else 0.04
    np.testing.assert_allclose(found["losses"], alone["losses"], rtol=close)
    difference = np.subtract(found["masters"], alone["masters"])
    assert np.sqrt(np.mean(difference**2)) < close
    # A gradient that is infinite on one rank is skipped by all.
    assert broken["state"][0] == 1
    assert not np.isfinite(broken["losses"][3])
    assert np.isfinite(np.delete(broken["losses"], 3)).all()
    assert np.isfinite(broken["masters"]).all()
