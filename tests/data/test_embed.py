"""The embedded files can be made again from their sources."""

import gzip
import hashlib

import numpy as np
import pytest
from test_idx import idx_bytes

from minitorch_flux.data import embed, fashion
from minitorch_flux.data.embedded import load_embedded
from minitorch_flux.data.idx import NAMES


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Small stand-ins for the official files, with their hashes in place of the real ones."""
    rng = np.random.default_rng(0)
    arrays = []
    for n in (5000, 1500):
        arrays += [rng.integers(0, 256, (n, 2, 2), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8)]
    for name, a in zip(NAMES, arrays, strict=True):
        data = idx_bytes(a)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data))
        monkeypatch.setitem(fashion.SHA256, name, hashlib.sha256(data).hexdigest())
    rows = np.concatenate([rng.integers(0, 17, (7, 64)), rng.integers(0, 10, (7, 1))], axis=1)
    csv = tmp_path / "digits.csv.gz"
    csv.write_bytes(gzip.compress("".join(",".join(map(str, row)) + "\n" for row in rows).encode()))
    monkeypatch.setattr(embed, "DIGITS_SHA256", hashlib.sha256(rows.astype(np.uint8).tobytes()).hexdigest())
    return tmp_path, csv, arrays, rows


def test_main_writes_both_files(sources, tmp_path_factory, capsys):
    folder, csv, arrays, rows = sources
    out = tmp_path_factory.mktemp("out")
    embed.main(str(folder), str(csv), str(out))
    printed = capsys.readouterr().out
    for name in ("digits", "fashion_mini"):
        assert hashlib.sha256((out / f"{name}.npz").read_bytes()).hexdigest() in printed
    with np.load(out / "digits.npz") as stored:
        np.testing.assert_array_equal(stored["images"].reshape(7, 64), rows[:, :64])
        np.testing.assert_array_equal(stored["labels"], rows[:, 64])
    with np.load(out / "fashion_mini.npz") as stored:
        for split, count, (images, labels) in (("train", 200, arrays[:2]), ("test", 50, arrays[2:])):
            left = dict.fromkeys(range(10), count)
            chosen = []  # a nested-loop oracle: walk through the file, take what is still wanted
            for i, label in enumerate(labels.tolist()):
                if left[label]:
                    left[label] -= 1
                    chosen.append(i)
            np.testing.assert_array_equal(stored[f"{split}_images"], images[chosen])
            np.testing.assert_array_equal(stored[f"{split}_labels"], labels[chosen])


def test_sources_are_verified(sources, monkeypatch):
    folder, csv, _, _ = sources
    monkeypatch.setattr(embed, "DIGITS_SHA256", "00")
    with pytest.raises(ValueError, match="the sha256 of its numbers is .*, expected 00"):
        embed.digits(csv)
    monkeypatch.setitem(fashion.SHA256, NAMES[3], "00")
    with pytest.raises(ValueError, match="expected 00"):
        embed.fashion_mini(folder)
    (folder / f"{NAMES[0]}.gz").unlink()
    with pytest.raises(FileNotFoundError, match="expected train-images-idx3-ubyte"):
        embed.fashion_mini(folder)


@pytest.mark.skipif(not fashion.DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_embedded_subset_is_the_official_files_beginning():
    made, stored = embed.fashion_mini(fashion.DEBIAN), load_embedded("fashion_mini")
    assert set(made) == set(stored)
    for name, a in made.items():
        np.testing.assert_array_equal(a, stored[name])
