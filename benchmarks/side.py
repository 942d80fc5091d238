"""One side of one workload in a process of its own: ``python -m benchmarks.side flux lenet`` prints one line of JSON.

The peers' thread pools get in each other's way inside one process, so every measurement has a process to itself; the parent
runs the sides in turn. A third argument is the number of timed blocks, a fourth a ``Setting`` as JSON.
"""

from __future__ import annotations

import json
import sys
import time

from .workloads import WORKLOADS, Setting, Side, Workload


def make(side: str, workload: Workload, setting: Setting) -> Side:
    """The workload on one side. Imports nothing of the other one."""
    if side == "torch":
        from .torch_side import TorchSide

        return TorchSide(workload, setting)
    from .flux_side import FluxSide

    return FluxSide(workload, setting)


def measure(name: str, side: str, blocks: int, setting: Setting) -> dict[str, object]:
    """Losses of the first steps, the first call, and the time per step of each block."""
    workload = WORKLOADS[name]
    start = time.perf_counter()
    ready = make(side, workload, setting)
    losses = [float(ready.step())]
    first = time.perf_counter() - start
    losses += [float(ready.step()) for _ in range(9)]
    ready.timed(workload.steps // 2)
    before = ready.fresh()
    times = [ready.timed(workload.steps) / workload.steps for _ in range(blocks)]
    fresh = ready.fresh()
    result: dict[str, object] = {"losses": losses, "first_call_s": first, "step_s": times, "device": ready.device}
    if before is not None and fresh is not None:
        result["new_bytes_per_step"] = (fresh - before) / (blocks * workload.steps)
    return result


def main(arguments: list[str]) -> None:
    """Measure what the arguments say, and print it."""
    side, name, *rest = arguments
    blocks, setting = int(rest[0]) if rest else 3, Setting(**json.loads(rest[1])) if len(rest) > 1 else Setting()
    print(json.dumps(measure(name, side, blocks, setting)))


if __name__ == "__main__":
    main(sys.argv[1:])
