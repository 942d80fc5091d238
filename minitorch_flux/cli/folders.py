"""The folder of a run: a new one, never somebody else's."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

from .program import WrongInput

CHECKPOINT = "checkpoint.safetensors"
RESULTS = ("weights.safetensors", "log.csv", "curves.png", "confusion.png", "predictions.png", CHECKPOINT)


def make_folder(given: str | None, settings: Any, resumed: Path | None) -> Path:
    """The folder ``given`` by --out, the resumed run's own, or the next free ``runs/DATA-MODEL-N``."""
    if given is None and resumed is None:
        return _next_free(Path("runs"), f"{Path(settings.data).name}-{settings.model}")
    if given is None or (resumed is not None and Path(given).resolve() == resumed.resolve()):
        assert resumed is not None
        return _writable(resumed, "--resume")
    out = Path(given)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise WrongInput(f"--out {given}: there is a file where the folder should be") from None
    except OSError as error:
        raise WrongInput(f"--out {given}: cannot make this folder ({error.strerror})") from None
    if held := [name for name in RESULTS if (out / name).exists()]:
        raise WrongInput(f"--out {given}: the folder already holds a run ({', '.join(held)}); give another one, or go "
                         f"on with that run: --resume {given}")
    return _writable(out, "--out")


def _next_free(parent: Path, name: str) -> Path:
    for n in itertools.count(1):
        out = parent / f"{name}-{n}"
        try:
            out.mkdir(parents=True)
        except FileExistsError:
            continue
        except NotADirectoryError:
            raise WrongInput(f"cannot make {out}: {parent} is a file; give a folder with --out") from None
        except OSError as error:
            raise WrongInput(f"cannot make {out} ({error.strerror}); give a folder with --out") from None
        else:
            return out
    raise AssertionError


def _writable(out: Path, option: str) -> Path:
    try:
        with tempfile.TemporaryFile(dir=out):
            return out
    except OSError as error:
        raise WrongInput(f"{option} {out}: cannot write into this folder ({error.strerror})") from None
