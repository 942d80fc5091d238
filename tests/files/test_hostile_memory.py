"""Files made to exhaust memory or to hang whoever opens them, read by a process that is given little of it."""

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

import minitorch_flux as flux

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of a process's memory is Linux's")

READER = """
import resource, sys
from pathlib import Path
import numpy as np
import minitorch_flux as flux
from minitorch_flux.nn.state_dicts import StateError

model = flux.Chain(flux.Dense(2, 2), flux.BatchNorm(2))
before = model.state_dict()
for path in (Path(sys.argv[1]) / "warm.npz", Path(sys.argv[1]) / "warm.safetensors"):  # imports what is needed
    flux.save(path, model)
    flux.load(path, model)
flux.save_torch(model, Path(sys.argv[1]) / "warm.pt")
flux.load_torch(model, Path(sys.argv[1]) / "warm.pt")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
for name in sys.argv[2:]:
    path = Path(sys.argv[1]) / name
    reads = [flux.read_torch] if path.suffix == ".pt" else [flux.load, flux.load_checkpoint, lambda p: flux.load(p, model)]
    for read in [*reads, lambda p: flux.load_torch(model, p)]:
        try:
            read(path)
            print(name, "was read")
        except (flux.FileError, StateError) as error:
            assert len(str(error)) < 2000, name
    assert all((before[k] == a).all() for k, a in model.state_dict().items()), name
print("survived")
"""


def zeros(n):
    """``n`` zeros in deflate's smallest form, made of copies of one block."""
    step = 2**20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(step)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (n // step) + b"\x03\x00"


def bomb(path, name, n, header=b""):
    """An archive whose one entry really holds ``n`` zeros behind a header."""
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packed.compress(header) + packed.flush(zlib.Z_FULL_FLUSH) + zeros(n)
    crc = zlib.crc32(header)
    for _ in range(n // 2**20):
        crc = zlib.crc32(bytes(2**20), crc)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        z.writestr(name, data)
    raw = bytearray(buffer.getvalue())
    for signature, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        begin = raw.index(signature)
        raw[begin + at : begin + at + 2] = struct.pack("<H", 8)  # deflated
        raw[begin + at + 6 : begin + at + 18] = struct.pack("<III", crc, len(data), n + len(header))
    path.write_bytes(raw)


def npy(shape):
    text = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def hostile_files(folder):
    n = 300 * 2**20
    bomb(folder / "zeros.npz", "a.npy", n, npy((n,)))
    bomb(folder / "zeros.pt", "archive/data.pkl", n, b"\x80\x02")
    for name, entry in {
        "shape": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
        "overflow": {"dtype": "F64", "shape": [2**62, 2**62], "data_offsets": [0, 8]},
        "bfloat": {"dtype": "BF16", "shape": [2**33], "data_offsets": [0, 2**34]},
    }.items():
        header = json.dumps({"0.weight": entry}).encode()
        (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    for name, length in (("header", 2**40), ("longest", 2**63 - 9), ("negative", 2**64 - 1)):
        (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", length) + b"{" + b" " * 100)
    with (folder / "sparse.safetensors").open("wb") as f:  # 90 MB that take no place on the disk
        f.write(struct.pack("<Q", 90_000_000) + b"{")
        f.truncate(90_000_100)
    nested = json.dumps({"version": 1, "metadata": {"checkpoint": 0}}).replace("0}}", "[" * 200_000 + "]" * 200_000 + "}}")
    with zipfile.ZipFile(folder / "nested.npz", "w") as z:
        z.writestr("__metadata__.npy", npy((len(nested),)) + nested.encode())
    with zipfile.ZipFile(folder / "shape.npz", "w") as z:
        z.writestr("a.npy", npy((2**40,)) + bytes(8))
    legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}."
    kind = b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    long = b"\x8a\x08" + struct.pack("<q", 2**60)
    (folder / "legacy.pt").write_bytes(
        legacy + kind + long + b"tQ.\x80\x02](X\x01\x00\x00\x000e." + struct.pack("<q", 2**60)
    )
    (folder / "text.pt").write_bytes(b"\x80\x02X\xff\xff\xff\xff")
    (folder / "long.pt").write_bytes(b"\x80\x02\x8d" + b"\xff" * 8)
    return sorted(p.name for p in folder.iterdir())


def test_a_process_with_little_memory_survives_them_all(tmp_path):
    names = hostile_files(tmp_path)
    assert len(names) == 14
    environment = {**os.environ, "PYTHONPATH": str(Path(flux.__file__).parent.parent), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", READER, str(tmp_path), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == ["survived"]


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".pt"])
def test_what_is_no_file_is_not_opened(ending, tmp_path):
    """A pipe would wait for ever, a device never end."""
    os.mkfifo(tmp_path / f"pipe{ending}")
    (tmp_path / f"zero{ending}").symlink_to("/dev/zero")
    (tmp_path / f"folder{ending}").mkdir()
    (tmp_path / f"circle{ending}").symlink_to(tmp_path / f"circle{ending}")
    model = flux.Dense(2, 2)
    for name in ("pipe", "zero", "folder", "circle"):
        path = tmp_path / f"{name}{ending}"
        for read in (flux.read_torch, lambda p: flux.load_torch(model, p)) if ending == ".pt" else (
                flux.load, flux.load_checkpoint, lambda p: flux.load(p, model), lambda p: flux.load_torch(model, p)):
            with pytest.raises(FileNotFoundError, match="no such file"):
                read(path)
