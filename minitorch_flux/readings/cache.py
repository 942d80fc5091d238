"""The folder of built kernels, private to its user and whole at every moment.

A cache holds code that will run in this process, so a folder that somebody else could write is refused. Entries are
folders named by the sha256 of everything the result depends on; they are written under a temporary name and renamed,
so two processes that build at once cannot meet a half-written one, and carry their own checksum, because loading a
truncated library would kill the process.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import stat
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from .errors import KernelWarning

VARIABLE = "MINITORCH_FLUX_CACHE"


def wanted_folder() -> Path:
    """$MINITORCH_FLUX_CACHE, else $XDG_CACHE_HOME/minitorch_flux, else ~/.cache/minitorch_flux."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser().absolute()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(xdg) if os.path.isabs(xdg) else Path("~/.cache").expanduser()
    return base / "minitorch_flux"


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else -1


def refusal(folder: Path) -> str | None:
    """Why this folder cannot hold our builds, or None; makes it, closed to others, where it is missing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.stat(folder)
    except (OSError, RuntimeError) as error:
        return f"cannot be made ({getattr(error, 'strerror', None) or error})"
    if hasattr(os, "geteuid"):
        if found.st_uid != _user():
            return f"belongs to another user (uid {found.st_uid}, you are {_user()})"
        if stat.S_IMODE(found.st_mode) & 0o022:
            return f"can be written by others (mode {stat.S_IMODE(found.st_mode):o}); chmod 700 it"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "cannot be written"
    return None


def _temporary_folder() -> Path:
    """A private folder under the system's temporary one: this user's own if it is sound, else one for this process."""
    folder = Path(tempfile.gettempdir()) / f"minitorch_flux-{_user()}"
    if hasattr(os, "geteuid") and not folder.is_symlink() and refusal(folder) is None:
        return folder
    folder = Path(tempfile.mkdtemp(prefix="minitorch_flux-"))  # mode 0700, a new name
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.lru_cache(maxsize=8)
def _checked(folder: Path) -> Path:
    why = refusal(folder)
    if why is None:
        return folder
    temporary = _temporary_folder()
    warnings.warn(
        f"the cache of built kernels {folder} {why}; using {temporary}. Set {VARIABLE} to a folder of your own.",
        KernelWarning,
        stacklevel=2,
    )
    return temporary


def cache_folder() -> Path:
    """The folder of built kernels in use: the wanted one, or (with a warning, once) a temporary one."""
    return _checked(wanted_folder())


def digest(*parts: str) -> str:
    """A short name for everything that a result depends on."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _sound(file: Path) -> bool:
    try:
        return (file.parent / "sha256").read_text() == _checksum(file)
    except (OSError, UnicodeDecodeError):
        return False


def is_cached(key: str, file: str) -> bool:
    """Whether the entry is there, whole."""
    return _sound(cache_folder() / key / file)


def cached(key: str, file: str, make: Callable[[Path], None]) -> Path:
    """The file called `file` of the entry `key`; where it is missing or damaged, `make(folder)` must write it."""
    entry = cache_folder() / key
    if _sound(entry / file):
        return entry / file
    entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # somebody may have cleared it since
    work = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=entry.parent))
    try:
        made = work / "new"
        made.mkdir(mode=0o700)
        make(made)
        (made / "sha256").write_text(_checksum(made / file))
        for _ in range(10):
            try:
                os.rename(made, entry)  # whole or not at all, whoever else is building it
                return entry / file
            except OSError:
                if _sound(entry / file):  # another process was first
                    return entry / file
                _move_away(entry, work)
        raise OSError(f"cannot write the kernel cache entry {entry}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move_away(entry: Path, work: Path) -> None:
    """Take a damaged entry out of the way; another process may have done so already."""
    with contextlib.suppress(OSError):
        os.rename(entry, Path(tempfile.mkdtemp(prefix="damaged.", dir=work)) / "entry")


def clear_cache() -> int:
    """Delete every built kernel; returns how many entries went. Downloaded datasets (`data`) stay."""
    entries = [p for p in cache_folder().iterdir() if p.is_dir() and p.name != "data"]
    for entry in entries:
        shutil.rmtree(entry, ignore_errors=True)
    return len(entries)
