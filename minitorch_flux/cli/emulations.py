"""``minitorch-flux emulate``: a kernel under the emulator and a sanitizer, run by the op that launches it."""

from __future__ import annotations

import difflib
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from ..readings import KernelBuildError, KernelError
from ..readings.emulator import Emulation, EmulatorError, compiler
from ..readings.findings import first_finding
from ..readings.inventory import kernel_texts
from ..readings.kernel import launching
from ..readings.source import KernelText
from .kernel_samples import SAMPLES, Difference, Sample, compare, launches
from .kernel_samples.running import expected
from .program import Failure, WrongInput

SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"grid": 3, "lanes": 64},
    {"grid": 2, "lanes": 32, "rows": 4},
    {"grid": 3, "lanes": 64, "backwards": True},
)
"""The launch shapes that a kernel is run in: the GPU's own, a block and a warp to a row, and the last threads first."""
OF_A_GPU: tuple[dict[str, Any], ...] = ({}, {"grid": 3}, {"grid": 2, "backwards": True})
"""Of a text for GPUs only, which says how many threads a block has."""

CHECKED = {
    None: "results",
    "address": "results, accesses beyond an array and undefined behaviour",
    "undefined": "results and undefined behaviour",
    "thread": "results and races",
}


def find_kernels(names: list[str]) -> list[tuple[KernelText, str]]:
    """(file, kernel) for each kernel that is named, alone or by its file. Raises WrongInput for a name that is neither."""
    texts = kernel_texts()
    every = [(text, kernel) for text in texts for kernel in text.kernels]
    found: list[tuple[KernelText, str]] = []
    for name in names:
        chosen = [(t, k) for t, k in every if k == name] or [(t, k) for t, k in every if t.path.stem == Path(name).stem]
        if not chosen:
            known = [k for _, k in every] + [t.path.stem for t in texts]
            near = difflib.get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`minitorch-flux kernels` lists them"
            raise WrongInput(f"there is no kernel or kernel file {name!r}; {hint}")
        found += [pair for pair in chosen if pair not in found]
    return found or every


def sample_of(kernel: str, text: KernelText) -> Sample:
    """The sample call of a kernel. Raises WrongInput where nobody has written one."""
    if kernel not in SAMPLES:
        raise WrongInput(f"{kernel} of {text.path} has no sample call; add one to minitorch_flux/cli/kernel_samples")
    return SAMPLES[kernel]


def run_emulate(arguments: Namespace) -> int:
    """The command. Raises WrongInput, or Failure with the first finding."""
    try:
        compiler()
        for text, kernel in find_kernels(arguments.names):
            _emulate(text, kernel, arguments)
    except KernelBuildError as error:
        raise Failure(f"it does not build: {_first_error(str(error))}") from None
    except KernelError as error:
        raise Failure(str(error)) from None
    return 0


def _emulate(text: KernelText, kernel: str, arguments: Namespace) -> None:
    sample = sample_of(kernel, text)
    dtype = np.dtype(arguments.dtype or sample.dtypes[0])
    n = arguments.elements or min(100, max(sample.sizes))
    if kernel not in (launch.signature.name for launch in launches(sample, n, dtype)):
        raise WrongInput(f"{kernel} is not launched for {dtype} and {n} elements: the op runs its reference; "
                         "try another --dtype or other --elements")
    wanted = expected(sample, n, dtype)
    print(f"{kernel} of {text.path}, {dtype}, {n} elements; checked: {CHECKED[arguments.sanitize]}")
    for shape in OF_A_GPU if text.gpu else SHAPES:
        emulation = Emulation(**shape, sanitize=arguments.sanitize, patience=arguments.patience)
        emulation.gpu = sample.gpu  # or an op could prefer a text for GPUs only to the one that is asked for
        try:
            with launching(emulation), np.errstate(all="ignore"):
                far = compare(sample, n, dtype, wanted)
        except EmulatorError as error:
            raise _failure(kernel, emulation, str(error), arguments) from None
        except Difference as error:
            raise Failure(f"{kernel}, {emulation}: wrong result: {error}") from None
        print(f"  {str(emulation):<50} {emulation.launches:>3} launches, clean, at most {far:.1f} eps from the reference")


def _failure(kernel: str, emulation: Emulation, report: str, arguments: Namespace) -> Failure:
    """Show what was found; the error to end with."""
    finding = first_finding(report)
    if arguments.report:
        print(report)
    print(f"  {str(emulation):<50} {finding.what}")
    for place in finding.places:
        print(f"      {place}\n          {place.text}")
    hint = "; --report shows all that was reported" if finding.places else ""
    if not finding.places and arguments.sanitize is None:
        hint = "; --sanitize address names the line"
    return Failure(f"{kernel}: {finding}{hint}")


def _first_error(message: str) -> str:
    lines = message.splitlines()
    return next((line for line in lines if " error: " in line), lines[0])
