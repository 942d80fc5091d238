"""Surnames of ten languages: words to be read letter by letter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .embedded import EVERY, read_embedded

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class NameSplit(NamedTuple):
    """``names``: a list of words in small letters; ``labels (N,)`` int64: which language each is from."""

    names: list[str]
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class NameDataset:
    """Names in ``train`` and ``test`` splits; ``classes[label]`` is the language of a label."""

    train: NameSplit
    test: NameSplit
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        return (f"NameDataset({len(self.train.names)} training and {len(self.test.names)} test names, "
                f"{len(self.classes)} languages)")


def names() -> NameDataset:
    """7526 surnames from ten European languages, without the ones that two languages share; embedded.

    Letters are a to z: accents are removed. The languages have from 370 (Finnish) to 1174 (German) names. The split is
    fixed: in every language each fifth name in alphabetical order is a test name. Source: the lists of surnames of the
    package faker, see ``LICENSES.md``.
    """
    lines = [line.split(": ") for line in read_embedded("names.txt").decode().splitlines()]
    train, test = [(NameSplit([], np.zeros(0, np.int64))) for _ in range(2)]
    for label, (_, words) in enumerate(lines):
        for i, name in enumerate(words.split()):
            split = test if i % EVERY == EVERY - 1 else train
            split.names.append(name)
        counts = [len(split.names) - len(split.labels) for split in (train, test)]
        train, test = (NameSplit(s.names, np.append(s.labels, np.full(n, label)))
                       for s, n in zip((train, test), counts, strict=True))
    return NameDataset(train, test, tuple(language for language, _ in lines))


def encode_names(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """``(letters, lengths)`` of names: letters (T, N) as 1 to 26 with 0 after the end, time first; lengths (N,).

    Raises ValueError for a character that is not one of a to z.
    """
    longest = max(map(len, names), default=0)
    letters, lengths = np.zeros((longest, len(names)), np.int64), np.array([len(name) for name in names], np.int64)
    for i, name in enumerate(names):
        places = [LETTERS.find(letter) + 1 for letter in name]
        if 0 in places:
            raise ValueError(f"encode_names: {name!r} has the character {name[places.index(0)]!r}, which is not one of a to z")
        letters[: len(name), i] = places
    return letters, lengths
