"""Make the embedded datasets from their sources: only for those who change them.

    python -m minitorch_flux.data.embed FASHION_FOLDER DIGITS_CSV OUTPUT_FOLDER
    python -m minitorch_flux.data.embed NAMES_OUTPUT_FOLDER

``FASHION_FOLDER`` holds the four official idx files (verified by sha256); ``DIGITS_CSV`` is UCI's ``optdigits.tes`` or
scikit-learn's ``digits.csv.gz``, which has the same 1797 rows of 64 pixels and a label (verified by the sha256 of the
65 columns as bytes). The names come from the package faker (made with its version 40.54.0). The npz files are written
without timestamps; the sha256 of all belong into ``embedded.py`` and ``LICENSES.md``.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import unicodedata
from pathlib import Path

import numpy as np

from .fashion import ARRAYS, SHA256
from .idx import NAMES, find_files, read_idx

DIGITS_SHA256 = "68aea062d35a127749050fa0e52dca09d6569ac08092c925610e0954e172dde2"
TRAIN_PER_CLASS, TEST_PER_CLASS = 200, 50
LANGUAGES = {
    "Croatian": ["hr_HR"],
    "Dutch": ["nl_NL", "nl_BE"],
    "English": ["en_GB", "en_US"],
    "Estonian": ["et_EE"],
    "Finnish": ["fi_FI"],
    "French": ["fr_FR", "fr_BE"],
    "German": ["de_DE", "de_AT"],
    "Italian": ["it_IT"],
    "Spanish": ["es_ES"],
    "Swedish": ["sv_SE"],
}
"""The lists of surnames that stand for a language."""


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """The indices of the first ``count`` entries of every label, in ascending order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))


def fashion_mini(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of ``fashion_mini.npz`` from a folder with the four official files."""
    files = find_files(folder)
    if files is None:
        raise FileNotFoundError(f"{folder}: expected {', '.join(NAMES)}, with .gz or without")
    arrays = [read_idx(path, sha256=SHA256[name]) for path, name in zip(files, NAMES, strict=True)]
    train = first_of_each_class(arrays[1], TRAIN_PER_CLASS)
    test = first_of_each_class(arrays[3], TEST_PER_CLASS)
    chosen = (train, train, test, test)
    return {key: a[i] for key, a, i in zip(ARRAYS, arrays, chosen, strict=True)}


def digits(csv: Path) -> dict[str, np.ndarray]:
    """The arrays of ``digits.npz`` from the rows of 64 pixels and a label, in the file's order."""
    rows = np.loadtxt(csv, delimiter=",").astype(np.uint8)
    if (digest := hashlib.sha256(rows.tobytes()).hexdigest()) != DIGITS_SHA256:
        raise ValueError(f"{csv}: the sha256 of its numbers is {digest}, expected {DIGITS_SHA256}")
    return {"images": rows[:, :64].reshape(-1, 8, 8), "labels": rows[:, 64]}


def names() -> str:
    """The text of ``names.txt``: a line for each language, its surnames in plain small letters, in alphabetical order.

    A name that two languages share is left out, and of one language at most the 1200 first that remain.
    """
    found: dict[str, set[str]] = {}
    for language, lists in LANGUAGES.items():
        words: set[str] = set()
        for locale in lists:
            provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
            for name in provider.last_names:
                plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
                if plain.isalpha() and len(plain) > 2 and len(plain) >= len(name):
                    words.add(plain)
        found[language] = words
    shared = {w for w in set().union(*found.values()) if sum(w in words for words in found.values()) > 1}
    return "".join(f"{language}: {' '.join(sorted(words - shared)[:1200])}\n" for language, words in found.items())


def main(fashion_folder: str, digits_csv: str, output: str) -> None:
    """Write both files and print their sha256."""
    for name, arrays in (("digits", digits(Path(digits_csv))), ("fashion_mini", fashion_mini(Path(fashion_folder)))):
        path = Path(output, f"{name}.npz")
        np.savez_compressed(path, allow_pickle=False, **arrays)
        data = path.read_bytes()
        print(f"{name}.npz  {len(data):,} bytes  sha256 {hashlib.sha256(data).hexdigest()}")


def write_names(output: str) -> None:
    """Write ``names.txt`` and print its sha256."""
    data = names().encode()
    Path(output, "names.txt").write_bytes(data)
    print(f"names.txt  {len(data):,} bytes  sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    (main if len(sys.argv) == 4 else write_names)(*sys.argv[1:])
