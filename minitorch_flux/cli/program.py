"""The command's arguments and its exit codes.

0: done. 1: it failed on the way. 2: wrong input. 128 + n: ended by signal n, 130 for Ctrl-C. Whatever is wrong is one
line on the standard error, never a traceback.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from ..distributed import DistributedError, launched, rank
from ..distributed import abort as end_all
from ..distributed import init as join
from .recipes import DATASETS, MODELS, OPTIMISERS, PRECISIONS


class WrongInput(Exception):
    """What the user asked for cannot be done; the text says why. Exit code 2."""


class Failure(Exception):
    """It was tried and did not work out; the text says why. Exit code 1."""


class _Parser(argparse.ArgumentParser):
    """argparse, with an error in one line."""

    def error(self, message: str) -> NoReturn:
        raise WrongInput(f"{message} (see {self.prog} --help)")


def count(text: str) -> int:
    """A whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _seed(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2**64 - 1, got {text!r}")
    return value


def _model(text: str) -> str:
    if text in MODELS:
        return text
    near = get_close_matches(text, MODELS, 3) or ["lenet", "mlp", "resnet18"]
    raise argparse.ArgumentTypeError(f"there is no model {text!r}; there are {', '.join(near)} and "
                                     f"{len(MODELS) - len(near)} more (minitorch_flux.models.list_models())")


def _shape(text: str) -> tuple[int, ...]:
    """``"3,224,224"`` as a tuple of three numbers."""
    try:
        shape = tuple(int(n) for n in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if len(shape) != 3 or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"expected channels, height and width of an image, such as 3,224,224, got {text!r}")
    return shape


def called_as() -> str:
    """How this program was started, as one types it in a shell."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        python = Path(sys.executable)
        return f"{_short(python)} -m minitorch_flux"
    return _short(program) if program.name == "minitorch-flux" else "minitorch-flux"


def _short(program: Path) -> str:
    """The program's name alone where a shell would find this very one."""
    found = shutil.which(program.name)
    return program.name if found is not None and Path(found) == program.absolute() else shlex.quote(str(program))


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    from .. import __version__

    parser = _Parser(prog="minitorch-flux", allow_abbrev=False, description="A deep learning framework from scratch.")
    parser.add_argument("--version", action="version", version=f"minitorch-flux {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", parser_class=_Parser)
    about = "train a network on images; without options LeNet on 2000 photographs of clothes"
    train = commands.add_parser("train", help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False)
    names = ", ".join(DATASETS)
    train.add_argument("--data", metavar="DATA", help=f"{names}, or a folder with MNIST-like idx files or CIFAR-10's "
                       "binary files (default: fashion-mini)")
    train.add_argument("--model", type=_model, metavar="NAME", help="lenet, mlp or one of the zoo, such as resnet18 (default: "
                       "lenet; mlp for images below 12 x 12 pixels)")
    train.add_argument("--epochs", type=count, metavar="N", help="default: by the dataset (fashion-mini: "
                       f"{DATASETS['fashion-mini'].epochs})")
    train.add_argument("--batch", type=count, metavar="N", help="images in a step (default: "
                       f"{DATASETS['fashion-mini'].batch})")
    train.add_argument("--lr", type=positive, metavar="RATE", help="the highest learning rate of the one-cycle schedule "
                       f"(default: by the optimiser; adamw: {OPTIMISERS['adamw'].eta:g})")
    train.add_argument("--optimiser", choices=OPTIMISERS, metavar="NAME", help=f"{', '.join(OPTIMISERS)} "
                       "(default: adamw)")
    train.add_argument("--precision", choices=PRECISIONS, metavar="NAME", help="float32 (the default), or 16-bit numbers with "
                       "float32 masters of the weights: bfloat16 or float16")
    train.add_argument("--device", metavar="DEVICE", help="cpu, cuda or cuda:N (default: cpu)")
    train.add_argument("--seed", type=_seed, metavar="N", help="default: 0; the same seed gives the same network")
    train.add_argument("--out", metavar="FOLDER", help="a new or empty folder for the results (default: the next free "
                       "runs/DATA-MODEL-N)")
    train.add_argument("--resume", metavar="RUN", help="go on with an interrupted run: its folder or checkpoint file; "
                       "it keeps its settings")
    _add_summary(commands)
    _add_kernels(commands)
    _add_emulate(commands)
    commands.add_parser("bench", add_help=False, help="measure speed and memory beside PyTorch and JAX, "
                        "where installed; its own arguments: bench --help")
    commands.add_parser("info", help="what this machine has for it, and what to install for what is missing",
                        description="What this machine has, and what to install for what is missing.")
    return parser


def _add_summary(commands: Any) -> None:
    about = "what a model is made of and what it takes: shapes, parameters, FLOPs, memory; nothing is built or run"
    summary = commands.add_parser("summary", help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False)
    summary.add_argument("model", type=_model, metavar="MODEL", help="lenet, mlp or one of the zoo, such as resnet50")
    summary.add_argument("--shape", type=_shape, metavar="C,H,W", help="of one image (default: 3,224,224; lenet and mlp: "
                         "1,28,28)")
    summary.add_argument("--classes", type=count, metavar="N", help="scores that go out (default: 1000; lenet and mlp: 10)")
    summary.add_argument("--batch", type=count, metavar="N", default=1, help="images in a step (default: 1)")
    summary.add_argument("--depth", type=count, metavar="N", help="add up what lies deeper (default: every layer by itself)")
    summary.add_argument("--optimiser", choices=OPTIMISERS, metavar="NAME", help=f"count its state: {', '.join(OPTIMISERS)}")


def _add_kernels(commands: Any) -> None:
    about = "list the kernels: what they are for, where they run, what they take of a GPU"
    kernels = commands.add_parser("kernels", help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False)
    kernels.add_argument("names", nargs="*", metavar="NAME", help="kernels, or files such as softmaxes (default: all)")
    kernels.add_argument("--arch", metavar="ARCH", help="GPU architectures, such as sm_90 or sm_75,sm_120, or all "
                         "(default: sm_75, sm_90 and sm_120)")
    kernels.add_argument("--dtype", choices=DTYPES, default="float32", help="default: float32")
    kernels.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_emulate(commands: Any) -> None:
    about = "run a kernel as a GPU would, thread by thread on the CPU, and report what is wrong with it"
    emulate = commands.add_parser("emulate", help=about, description=f"{about[0].upper()}{about[1:]}.", allow_abbrev=False)
    emulate.add_argument("names", nargs="+", metavar="NAME", help="kernels, or files such as softmaxes")
    emulate.add_argument("--sanitize", choices=("address", "undefined", "thread"), help="AddressSanitizer and UBSan, "
                         "UBSan alone, or ThreadSanitizer, which finds races (default: none, results alone)")
    emulate.add_argument("--dtype", choices=DTYPES[:3], help="default: float32, or what the kernel takes")
    emulate.add_argument("--elements", type=count, metavar="N", help="elements of a row, pixels of a line and the like "
                         "(default: by the kernel, 65 at most)")
    emulate.add_argument("--patience", type=positive, metavar="SECONDS", default=60.0, help="a launch that runs for longer "
                         "is an error (default: 60)")
    emulate.add_argument("--report", action="store_true", help="show a sanitizer's whole report")


DTYPES = ("float32", "float64", "float16", "bfloat16")


def _run(argv: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["bench"]:  # it has a parser of its own
        from .bench import run_bench

        return run_bench(given[1:])
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    if arguments.command == "info":
        from .information import show_info

        show_info()
        return 0
    if arguments.command == "summary":
        from .summaries import run_summary

        return run_summary(arguments)
    if arguments.command == "kernels":
        from .kernel_tables import run_kernels

        return run_kernels(arguments)
    if arguments.command == "emulate":
        from .emulations import run_emulate

        return run_emulate(arguments)
    from .training import run_training

    return run_training(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the program's); returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show must not end a run
            stream.reconfigure(errors="backslashreplace")
    code: Any = 0
    try:
        if launched():
            join()
        code = _run(argv)
        sys.stdout.flush()
    except WrongInput as error:
        code = _say(error, 2)
    except Failure as error:
        code = _say(error, 1)
    except KeyboardInterrupt:
        code = _say("interrupted", 130)
    except BrokenPipeError:  # the reader of a pipe has left: nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    except (OSError, DistributedError, ImportError) as error:  # a full disk, ranks that do not fit, a missing package
        code = _say(error, 1)
    if code:
        end_all(code)  # the other ranks would wait for this one
    return code


def _say(error: object, code: int) -> int:
    text = " ".join(str(error).split())
    if launched() and rank():
        time.sleep(0.5)  # what all ranks find, rank 0 says
        text = f"rank {rank()}: {text}"
    print(f"minitorch-flux: {'error: ' if code < 128 else ''}{text}", file=sys.stderr, flush=True)
    return code
