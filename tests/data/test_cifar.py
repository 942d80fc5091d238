"""CIFAR-10's binary format, from a folder, an archive or a download."""

import gzip
import hashlib
import io
import sys
import tarfile

import numpy as np
import pytest
from test_fashion import server  # noqa: F401

from minitorch_flux.data import cifar, cifar10

RECORDS = 7


@pytest.fixture
def batches(tmp_path, monkeypatch):
    """A folder of six small files (seven records each) and the same as arrays."""
    monkeypatch.setattr(cifar, "RECORDS", RECORDS)
    monkeypatch.setenv("MINITORCH_FLUX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINITORCH_FLUX_DATA", raising=False)
    rng = np.random.default_rng(0)
    folder = tmp_path / "own" / cifar.FOLDER
    folder.mkdir(parents=True)
    images, labels = [], []
    for name in cifar.FILES:
        images.append(rng.integers(0, 256, (RECORDS, 3, 32, 32), dtype=np.uint8))
        labels.append(rng.integers(0, 10, RECORDS, dtype=np.uint8))
        data = b"".join(bytes([y]) + x.tobytes() for x, y in zip(images[-1], labels[-1], strict=True))
        (folder / name).write_bytes(data)
    return folder, images, labels


def archive(folder, path, names=None, extra=()):
    with tarfile.open(path, "w:gz") as tar:
        for name in names or sorted(p.name for p in folder.iterdir()):
            tar.add(folder / name, f"{cifar.FOLDER}/{name}")
        for name, data in extra:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def same(data, images, labels):
    np.testing.assert_array_equal(data.train.images, np.concatenate(images[:5]))
    np.testing.assert_array_equal(data.train.labels, np.concatenate(labels[:5]))
    np.testing.assert_array_equal(data.test.images, images[5])
    np.testing.assert_array_equal(data.test.labels, labels[5])


def test_folder_parent_and_archive(batches, tmp_path):
    folder, images, labels = batches
    (folder / "readme.html").write_text("a page")
    for source in (folder, str(folder.parent), archive(folder, tmp_path / "c.tar.gz")):
        data = cifar10(source, dtype="uint8")
        same(data, images, labels)
    assert (data.name, data.shape, data.classes[3], len(data.classes)) == ("cifar-10", (3, 32, 32), "cat", 10)
    assert len(data.mean) == len(data.std) == 3
    floats = cifar10(folder)
    np.testing.assert_array_equal(floats.test.images, (images[5] / 255).astype("f4"))
    data.train.images[...] = 0  # writable


@pytest.mark.parametrize("place", [f"data/{cifar.FOLDER}", "data", f"cache/data/{cifar.FOLDER}"])
@pytest.mark.parametrize("packed", [False, True])
def test_where_it_is_found(batches, tmp_path, monkeypatch, place, packed):
    folder, images, labels = batches
    monkeypatch.setenv("MINITORCH_FLUX_DATA", str(tmp_path / "data"))
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    if packed:
        (tmp_path / place).mkdir()
        archive(folder, tmp_path / place / "cifar-10-binary.tar.gz")
    else:
        folder.rename(tmp_path / place)
    same(cifar10(dtype="uint8"), images, labels)


def test_download(batches, server, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("pooch")
    folder, images, labels = batches
    path = archive(folder, server.folder / "cifar-10-binary.tar.gz")
    monkeypatch.setattr(cifar, "URL", server.url + path.name)
    with pytest.raises(ValueError, match="the sha256 of the download is .*, expected c4a38c50"):
        cifar10()
    monkeypatch.setattr(cifar, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    same(cifar10(dtype="uint8"), images, labels)
    same(cifar10(dtype="uint8"), images, labels)
    assert server.seen == [f"/{path.name}"] * 2  # the refused one and the kept one


def test_without_pooch(batches, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match="CIFAR-10 is in none of .* was not downloaded: .* needs pooch"):
        cifar10()


def test_wrong_sizes_and_labels(batches):
    folder, _, _ = batches
    path = folder / "data_batch_2.bin"
    good = path.read_bytes()
    for bad in (good[:-1], good[:-3073], good + b"x", b""):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=rf"data_batch_2.bin: {len(bad):,} bytes, expected 21,511 \(7 records"):
            cifar10(folder)
    path.write_bytes(good[:3073] + b"\x0a" + good[3074:])
    with pytest.raises(ValueError, match="data_batch_2.bin: record 1 has the label 10, expected 0 to 9"):
        cifar10(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"missing: data_batch_2.bin \(the Python and MATLAB versions"):
        cifar10(folder)
    with pytest.raises(ValueError, match="images come as"):
        cifar10(folder, dtype="float16")


def test_bad_archives(batches, tmp_path):
    folder, _, _ = batches
    path = tmp_path / "c.tar.gz"
    with pytest.raises(ValueError, match="the archive lacks test_batch.bin"):
        cifar10(archive(folder, path, names=cifar.FILES[:5]))
    with pytest.raises(ValueError, match="data_batch_1.bin: 3 bytes, expected"):
        cifar10(archive(folder, path, names=cifar.FILES[1:], extra=[("x/data_batch_1.bin", b"abc")]))
    whole = archive(folder, path).read_bytes()
    for bad in (whole[: len(whole) // 2], b"no archive", gzip.compress(b"no archive" * 100), b""):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"damaged or truncated archive|lacks"):
            cifar10(path)


def test_archive_that_unpacks_to_too_much(batches, tmp_path):
    folder, _, _ = batches
    path = archive(folder, tmp_path / "c.tar.gz", extra=[("zeros", bytes(8 << 20))])
    with pytest.raises(ValueError, match="unpacks to more than CIFAR-10's six files"):
        cifar10(path)
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * (8 << 20)}):
        pass
    with pytest.raises(ValueError, match="unpacks to more than CIFAR-10's six files"):
        cifar10(path)


def test_paths_in_an_archive_are_never_used(batches, tmp_path):
    """Links, folders and names that climb are only skipped or read from."""
    folder, images, labels = batches
    path = tmp_path / "c.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("x/test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name in cifar.FILES:
            tar.add(folder / name, f"../../{name}")
    same(cifar10(path, dtype="uint8"), images, labels)
    assert not list(tmp_path.glob("*.bin"))
