"""One side of one workload in a process of its own: ``python -m benchmarks.side flux lenet`` prints one line of JSON.

The peers' thread pools get in each other's way inside one process, so every measurement has a process to itself; the parent
runs the sides in turn.
"""

from __future__ import annotations

import json
import sys
import time


def measure(side: str, name: str, blocks: int, threads: int) -> dict[str, object]:
    """Losses of the first steps, the first call, and the time per step of each block."""
    from .workloads import SIDES, WORKLOADS

    if side == "torch":
        import torch

        torch.set_num_threads(threads)
    else:
        import minitorch_flux as flux

        flux.set_num_threads(threads)
    workload = WORKLOADS[name]
    start = time.perf_counter()
    step = SIDES[side](workload)
    losses = [float(step())]
    first = time.perf_counter() - start
    losses += [float(step()) for _ in range(9)]
    for _ in range(workload.steps // 2):
        step()
    before = _fresh_bytes(side)
    times = []
    for _ in range(blocks):
        start = time.perf_counter()
        for _ in range(workload.steps):
            step()
        times.append((time.perf_counter() - start) / workload.steps)
    fresh = _fresh_bytes(side)
    result: dict[str, object] = {"losses": losses, "first_call_s": first, "step_s": times}
    if before is not None and fresh is not None:
        result["new_bytes_per_step"] = (fresh - before) / (blocks * workload.steps)
    return result


def _fresh_bytes(side: str) -> int | None:
    if side != "flux":
        return None
    import minitorch_flux as flux

    return flux.memory_stats()["fresh_bytes"]


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
