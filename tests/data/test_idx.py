"""The idx format: what is written is read, and nothing malformed is believed."""

import gzip
import hashlib
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minitorch_flux.data import mnist_idx, read_idx
from minitorch_flux.data.idx import NAMES, moments

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(a):
    """The idx file of an array, written independently of the reader."""
    header = struct.pack(">BBBB", 0, 0, CODES[a.dtype.str[1:]], a.ndim) + struct.pack(f">{a.ndim}I", *a.shape)
    return header + a.astype(a.dtype.newbyteorder(">")).tobytes()


def write(path, data, packed=False):
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


@given(
    hnp.arrays(st.sampled_from(sorted(CODES)), hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)),
    st.booleans(),
)
def test_reads_every_type_and_shape(tmp_path_factory, a, packed):
    data = idx_bytes(a)
    path = write(tmp_path_factory.mktemp("idx") / "file", data, packed)
    b = read_idx(path, sha256=hashlib.sha256(data).hexdigest())
    assert b.dtype == a.dtype
    assert b.dtype.isnative
    np.testing.assert_array_equal(b, a)
    b[...] = 0  # an array of its own, writable


@given(st.data())
def test_no_damaged_file_is_read(tmp_path_factory, data):
    """Cut anywhere, or with one byte too many, an idx file is an error; a random file never reads as another length."""
    whole = idx_bytes(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    packed = data.draw(st.booleans())
    stored = gzip.compress(whole) if packed else whole
    stored = data.draw(st.sampled_from([stored[: data.draw(st.integers(0, len(stored) - 1))], stored + b"x"]))
    path = write(tmp_path_factory.mktemp("idx") / "file", stored)
    with pytest.raises(ValueError, match=r"not an idx file|truncated|follow"):
        read_idx(path)


@given(st.binary(max_size=64))
def test_noise_is_refused_or_exact(tmp_path_factory, noise):
    path = write(tmp_path_factory.mktemp("idx") / "file", noise)
    try:
        a = read_idx(path)
    except ValueError:
        return
    assert 4 + 4 * a.ndim + a.nbytes == len(noise)


def test_wrong_magic(tmp_path):
    with pytest.raises(ValueError, match="not an idx file .it begins with 89 50 4e 47"):
        read_idx(write(tmp_path / "a", b"\x89PNG\r\n"))
    with pytest.raises(ValueError, match="begins with nothing"):
        read_idx(write(tmp_path / "b", b""))
    with pytest.raises(ValueError, match="promises 0 axes"):
        read_idx(write(tmp_path / "c", b"\0\0\x08\0"))
    with pytest.raises(ValueError, match="promises 200 axes, expected 1 to 8"):
        read_idx(write(tmp_path / "d", b"\0\0\x08\xc8" + bytes(800)))
    with pytest.raises(ValueError, match="truncated inside its header"):
        read_idx(write(tmp_path / "e", b"\0\0\x08\x03\0\0\0\x01"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(0xFFFFFFFF, 1 << 31, 28), (0xFFFFFFFF,), (0, 0xFFFFFFFF, 0xFFFFFFFF), (1 << 30,)])
def test_absurd_sizes_take_no_memory(tmp_path, shape, packed):
    header = struct.pack(">BBBB", 0, 0, 8, len(shape)) + struct.pack(f">{len(shape)}I", *shape)
    path = write(tmp_path / "file", header + bytes(100), packed)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"the limit is 2,147,483,648|truncated"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_gzip_bomb_is_not_unpacked(tmp_path):
    """64 MB of zeros in 64 kB behind a header of 100 bytes: reading ends one byte after what was promised."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = packer.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 100))
    bomb += b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    path = write(tmp_path / "bomb.gz", bomb)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"more bytes follow the 100 .* \(shape \(100,\)\)"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_max_bytes(tmp_path):
    path = write(tmp_path / "file", idx_bytes(np.zeros((5, 5), "f8")))
    assert read_idx(path, max_bytes=200).shape == (5, 5)
    with pytest.raises(ValueError, match=r"promises shape \(5, 5\), 200 bytes; the limit is 199 \(max_bytes=\)"):
        read_idx(path, max_bytes=199)


def test_sound_gzip_of_a_short_file(tmp_path):
    path = write(tmp_path / "file", idx_bytes(np.zeros((2, 5), np.uint8))[:-1], packed=True)
    with pytest.raises(ValueError, match=r"truncated: the header promises shape \(2, 5\), 10 bytes, found 9"):
        read_idx(path)


def test_damaged_gzip(tmp_path):
    stored = bytearray(gzip.compress(idx_bytes(np.arange(250, dtype=np.uint8))))
    stored[-5] ^= 1  # the checksum
    with pytest.raises(ValueError, match="damaged or truncated gzip file .CRC check failed"):
        read_idx(write(tmp_path / "file", bytes(stored)))


def test_sha256_mismatch(tmp_path):
    path = write(tmp_path / "file", idx_bytes(np.zeros(3, np.uint8)))
    with pytest.raises(ValueError, match=r"the sha256 of the decompressed file is [0-9a-f]{64}, expected 00"):
        read_idx(path, sha256="00")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")


# -- mnist_idx -----------------------------------------------------------------------------------------------------


def images_and_labels(n, seed, size=(6, 5)):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *size), dtype=np.uint8), rng.integers(0, 3, n, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    arrays = [*images_and_labels(11, 0), *images_and_labels(4, 1)]
    arrays[1][0] = 3
    for name, a in zip(NAMES, arrays, strict=True):
        write(tmp_path / f"{name}.gz", idx_bytes(a), packed=True)
    return tmp_path, arrays


def test_folder_and_files_give_the_same(folder):
    path, (images, labels, test_images, test_labels) = folder
    data = mnist_idx(path)
    assert data.name == path.name
    assert data.shape == (1, 6, 5)
    assert data.classes == ("0", "1", "2", "3")
    for split, x, y in ((data.train, images, labels), (data.test, test_images, test_labels)):
        assert split.images.dtype == np.float32
        assert split.labels.dtype == np.int64
        np.testing.assert_array_equal(split.images, (x / 255).astype("f4")[:, None])
        np.testing.assert_array_equal(split.labels, y)
    np.testing.assert_allclose((*data.mean, *data.std), ((images / 255).mean(), (images / 255).std()), rtol=1e-12)
    again = mnist_idx([str(path / f"{name}.gz") for name in NAMES], dtype="uint8", classes="abcd")
    assert again.classes == ("a", "b", "c", "d")
    np.testing.assert_array_equal(again.train.images, images[:, None])
    assert again.mean == data.mean


@pytest.mark.parametrize("spelling", ["{}", "{}.gz", "dot", "dot.gz"])
def test_spellings_of_the_names(folder, spelling):
    path, arrays = folder
    for name in NAMES:
        new = spelling.format(name).replace("dot", name.replace("-idx", ".idx"))
        data = (path / f"{name}.gz").read_bytes()
        (path / f"{name}.gz").unlink()
        (path / new).write_bytes(data)  # packed whatever it is called: the content decides
    np.testing.assert_array_equal(mnist_idx(path, "uint8").test.images[:, 0], arrays[2])


def test_moments_are_exact():
    images = np.random.default_rng(0).integers(0, 256, (5000, 3, 2), dtype=np.uint8)  # more than one piece
    np.testing.assert_allclose(moments(images), ((images / 255).mean(), (images / 255).std()), rtol=1e-12)


def test_errors_of_mnist_idx(folder, tmp_path):
    path, _ = folder
    files = [path / f"{name}.gz" for name in NAMES]
    with pytest.raises(ValueError, match="dtype='float64': images come as 'float32'"):
        mnist_idx(path, dtype="float64")
    with pytest.raises(ValueError, match="a folder or four files .*, got 2"):
        mnist_idx(files[:2])
    with pytest.raises(ValueError, match="a label is 3 but classes= has 2 names, for 0 to 1"):
        mnist_idx(path, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"labels-.*: expected images as uint8 \(N, H, W\), found uint8 \(11,\)"):
        mnist_idx([files[1], files[1], *files[2:]])
    with pytest.raises(ValueError, match=r"expected labels as uint8 \(N,\), found uint8 \(11, 6, 5\)"):
        mnist_idx([files[0], files[0], *files[2:]])
    with pytest.raises(ValueError, match="has 11 images but .* has 4 labels"):
        mnist_idx([files[0], files[3], *files[2:]])
    other = write(tmp_path / "other", idx_bytes(np.zeros((4, 7, 5), np.uint8)))
    with pytest.raises(ValueError, match=r"the test images are \(7, 5\), the training images \(6, 5\)"):
        mnist_idx([*files[:2], other, files[3]])
    for a in (np.zeros((0, 6, 5), np.uint8), np.zeros((4, 6, 5), "f4")):
        with pytest.raises(ValueError, match="expected images as uint8"):
            mnist_idx([write(tmp_path / "bad", idx_bytes(a)), *files[1:]])
    files[2].unlink()
    with pytest.raises(FileNotFoundError, match="no MNIST-format files; expected train-images-idx3-ubyte, "):
        mnist_idx(path)
