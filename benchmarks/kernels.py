"""``python -m benchmarks.kernels``: how near each kernel comes to what this machine can do.

For each case (kernel_cases.py) the best time of several blocks, on a GPU between two device events; from it the bandwidth of
the arrays that go in and out, each once, as a share of what copying a large array reaches here, or the rate of floating-point
operations as a share of a large matrix product of the same dtype. ``*`` marks ops that ran their reference.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .clocks import on_cupy, on_host
from .kernel_cases import Draw
from .layer_kernel_cases import CASES

SIZES = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Numbers of a large array: more than a cache holds."""


class Clock:
    """Times calls on a device."""

    def __init__(self, device: str, seconds: float) -> None:
        self.device, self.seconds = device, seconds

    def best(self, f: Callable[[], Any], blocks: int = 5) -> float:
        """Seconds of a call: the best of ``blocks`` blocks of calls."""
        f()  # what is compiled and allocated is
        once = self._time(f, 1)
        calls = max(1, min(1000, int(self.seconds / blocks / max(once, 1e-7))))
        return min(self._time(f, calls) for _ in range(blocks)) / calls

    def _time(self, f: Callable[[], Any], calls: int) -> float:
        return (on_host if self.device == "cpu" else on_cupy)(f, calls)


def _bytes(x: Any) -> int:
    if isinstance(x, tuple | list):
        return sum(map(_bytes, x))
    return int(getattr(x, "nbytes", 0))


def ceilings(clock: Clock, dtypes: list[str], n: int) -> dict[str, float]:
    """Bytes a second of copying, and operations a second of a large product of each dtype."""
    from minitorch_flux.ops.products import matmul_forward

    x = Draw(clock.device, "float32", n).normal(n)
    y = x.copy()

    def copy() -> None:
        y[...] = x

    found = {"copy": 2 * x.nbytes / clock.best(copy)}
    side = 512 if clock.device == "cpu" else 8192
    side = min(side, max(16, int(n**0.5)))
    for dtype in dtypes:
        d = Draw(clock.device, dtype, side * side)
        a, b = d.normal(side, side), d.normal(side, side)
        found[dtype] = 2.0 * side**3 / clock.best(partial(matmul_forward, a, b))
    return found


def measure(names: list[str], dtypes: list[str], device: str, n: int, seconds: float) -> dict[str, Any]:
    """The ceilings, and a row for each case and dtype."""
    clock = Clock(device, seconds)
    tops = ceilings(clock, dtypes, n)
    rows = []
    for name in names:
        for dtype in (t for t in dtypes if t in CASES[name].dtypes):
            try:
                rows.append(_row(clock, name, dtype, n, tops))
            except Exception as error:  # one op that fails is a row, too: the others are still to be measured
                rows.append({"op": name, "dtype": dtype, "error": f"{type(error).__name__}: {error}"})
            print(line(rows[-1]), flush=True)
    return {"ceilings": tops, "rows": rows}


def _row(clock: Clock, name: str, dtype: str, n: int, tops: dict[str, float]) -> dict[str, Any]:
    f, arguments, operations = CASES[name].make(Draw(clock.device, dtype, n))
    before = getattr(f, "launches", 0)
    traffic = _bytes(arguments) + _bytes(f(*arguments))
    ran = getattr(f, "launches", 1) > before or not getattr(f, "launcher", None)
    seconds = clock.best(lambda: f(*arguments))
    rate, top = (operations / seconds, tops[dtype]) if operations else (traffic / seconds, tops["copy"])
    unit = "operations/s" if operations else "bytes/s"
    return {"op": name, "dtype": dtype, "us": seconds * 1e6, "rate": rate, "unit": unit, "share": rate / top, "kernel": ran}


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    if "error" in row:
        return f"| {row['op']} | {row['dtype']} | {row['error'][:100]} | | |"
    rate = f"{row['rate'] / 1e9:.0f} GB/s" if row["unit"] == "bytes/s" else f"{row['rate'] / 1e12:.2f} TFLOP/s"
    return f"| {row['op']}{'' if row['kernel'] else ' *'} | {row['dtype']} | {row['us']:.0f} | {rate} | {row['share']:.0%} |"


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser("python -m benchmarks.kernels", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ops", nargs="*", default=list(CASES), help="some of the cases, by their names or beginnings")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--dtypes", default="float32,float16")
    parser.add_argument("--numbers", type=int, help="of a large array (default: 2^22, on a GPU 2^26)")
    parser.add_argument("--seconds", type=float, default=0.25, help="for each row (default 0.25)")
    parser.add_argument("--tf32", action="store_true", help="allow tf32 for float32, on both sides of the share")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args(arguments)
    for op in options.ops:
        if not any(name.startswith(op) for name in CASES):
            parser.error(f"no case begins with {op!r}: there are {', '.join(CASES)}")
    device = "cuda:0" if options.device == "gpu" else "cpu"
    import minitorch_flux as flux
    from minitorch_flux.backend import to_device

    to_device(np.zeros(1), device)  # or say what is missing
    flux.allow_tf32(options.tf32)
    names = [name for name in CASES if any(name.startswith(op) for op in options.ops)]
    print("| op | dtype | us | rate | of the ceiling |\n|---|---|---|---|---|")
    numbers = options.numbers or SIZES[device.partition(":")[0]]
    found = measure(names, options.dtypes.split(","), device, numbers, options.seconds)
    tops = found["ceilings"]
    print(f"\ncopying: {tops['copy'] / 1e9:.0f} GB/s; matrix products: "
          + ", ".join(f"{dtype} {rate / 1e12:.2f} TFLOP/s" for dtype, rate in tops.items() if dtype != "copy"))
    if options.json:
        found |= {"device": device_name(device), "tf32": options.tf32}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return int(any("error" in row for row in found["rows"]))


def device_name(device: str) -> str:
    """What the device calls itself."""
    if device == "cpu":
        return platform.processor() or platform.machine()
    from cupy import cuda

    return str(cuda.runtime.getDeviceProperties(0)["name"].decode())


if __name__ == "__main__":
    sys.exit(main())
