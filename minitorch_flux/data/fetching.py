"""Where datasets that are not in the package are looked for, and how they are downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

TIMEOUT = 30  # seconds without an answer


class NotFetched(OSError):
    """A download that did not happen; the text says why and what to do."""


def search_folders(name: str) -> list[Path]:
    """The folders that may hold the dataset called ``name``, in order; downloads go to the last one.

    ``$MINITORCH_FLUX_DATA/name`` and ``$MINITORCH_FLUX_DATA`` itself, then ``data/name`` under the cache folder.
    """
    from ..readings.cache import wanted_folder

    folders = []
    if own := os.environ.get("MINITORCH_FLUX_DATA"):
        folders += [Path(own, name), Path(own)]
    return [*folders, wanted_folder() / "data" / name]


def fetch(url: str, path: Path, verify: Callable[[Path], object]) -> Path:
    """Download ``url`` to ``path`` in the cache folder, where it appears only complete and verified.

    ``verify(file)`` raises for a wrong file. NotFetched without pooch (the extra ``data``),
    without a connection, or where the cache folder cannot be used.
    """
    import tempfile  # these here, because they are slow to import and seldom needed

    from ..readings.cache import refusal, wanted_folder

    try:
        import pooch
    except ModuleNotFoundError as error:
        raise NotFetched("downloading needs pooch: pip install 'minitorch-flux[data]'") from error
    if (why := refusal(wanted_folder())) is not None:
        raise NotFetched(f"the cache folder {wanted_folder()} {why}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # on the same disk, so that the move is atomic
            part = Path(folder, path.name)
            pooch.HTTPDownloader(timeout=TIMEOUT)(url, str(part), None)
            verify(part)
            os.replace(part, path)
    except OSError as error:  # requests' errors are among them
        raise NotFetched(f"{url}: {error}") from error
    return path
