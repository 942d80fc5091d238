"""Coverage-guided fuzzing of the readers of files, for as long as one likes:

    pip install atheris && python tests/files/fuzz_readers.py CORPUS -max_total_time=600 -rss_limit_mb=2000

CORPUS is a folder; the first run fills it with small whole files. The first byte of an input says what the rest is: a file
of one of the formats, or what lies inside of one behind a checksum (a pickle, a header, a checkpoint's JSON). What may come
out is a value, FileError or StateError, and a model changes only by a whole load; everything else is a crash, which atheris
keeps as a file.
"""

import os
import struct
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports():
    import importlib
    import json
    import zipfile

    import numpy as np

    import minitorch_flux as flux
    import minitorch_flux.files
    from minitorch_flux.nn.state_dicts import StateError

    for standard in (json.decoder, zipfile):
        importlib.reload(standard)  # they were imported before anybody watched
    for path in Path(flux.files.__file__).parent.glob("[a-z]*.py"):
        importlib.import_module(f"minitorch_flux.files.{path.stem}")

FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
REFUSALS = (flux.FileError, StateError)
MODEL = flux.Chain(flux.Dense(2, 2), flux.BatchNorm(2))
BEFORE = MODEL.state_dict()


def pickled(data, path):
    """A file of PyTorch with this for its pickle, and two storages."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, record in (("data.pkl", data), ("data/0", bytes(64)), ("data/1", bytes(range(16)))):
            archive.writestr(f"archive/{name}", record)


def in_npz(data, path):
    np.savez(path, a=np.arange(3.0), __metadata__=np.frombuffer(data, np.uint8))


def npy(data, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0.weight.npy", data)


def header(data, path):
    path.write_bytes(struct.pack("<Q", len(data)) + data + bytes(range(64)))


KINDS = [(".safetensors", None), (".npz", None), (".pt", None), (".pt", pickled), (".npz", in_npz), (".npz", npy),
         (".safetensors", header)]


def seeds():
    """The number of a kind, and a small input of it; files of PyTorch's from the folder ``$SEEDS``, too."""
    parts = {"a": np.arange(3.0), "b": [1, {"c": "text", "d": np.ones((2, 1), np.float16)}], "n": None}
    for number, ending in ((0, ".safetensors"), (1, ".npz"), (2, ".pt")):
        path = FOLDER / f"seed{ending}"
        for value in (MODEL, parts):
            if ending == ".pt":
                flux.save_torch({"state_dict": value, "epoch": 1}, path)
                with zipfile.ZipFile(path) as archive:
                    yield 3, archive.read("archive/data.pkl")
            else:
                flux.save(path, value) if value is MODEL else flux.save_checkpoint(path, value)
            yield number, path.read_bytes()
    text = {"version": 1, "metadata": {"checkpoint": {"a": {"@": "a"}, "b": [1, None, "x"]}}}
    yield 4, json.dumps(text).encode()
    scalar = b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(X\x02\0\0\0f8\x89\x88tR(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ"
    scalar += b"\xff\xff\xff\xffK\0tbc_codecs\nencode\n(X\x08\0\0\0\0\0\0\0\0\0\0\0X\x06\0\0\0latin1tRtR."
    yield 3, b"\x80\x02" + scalar
    described = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }".ljust(63) + b"\n"
    yield 5, b"\x93NUMPY\x01\x00\x40\x00" + described + bytes(16)
    entry = {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}
    rest = {"dtype": "F32", "shape": [14], "data_offsets": [8, 64]}
    yield 6, json.dumps({"0.weight": entry, "x": rest, "__metadata__": {"minitorch_flux": json.dumps(text)}}).encode()
    for file in sorted(Path(os.environ["SEEDS"]).iterdir()) if "SEEDS" in os.environ else ():
        yield 2, file.read_bytes()  # such as legacy files of PyTorch


def one(data):
    """Read one input in every way that its kind has."""
    ending, make = KINDS[data[0] % len(KINDS)] if data else KINDS[0]
    path = FOLDER / f"x{ending}"
    (make or (lambda data, path: path.write_bytes(data)))(data[1:], path)
    reads = [flux.read_torch] if ending == ".pt" else [flux.load, flux.load_checkpoint, lambda p: flux.load(p, MODEL)]
    for read in [*reads, lambda p: flux.load_torch(MODEL, p, strict=False)]:
        before = MODEL.state_dict()
        try:
            read(path)
        except REFUSALS as error:
            if isinstance(error, flux.FileError) and len(str(error)) > 1000:
                raise AssertionError(f"an error of {len(str(error))} characters") from error
            if any(a.tobytes() != before[key].tobytes() for key, a in MODEL.state_dict().items()):
                raise AssertionError("a refused file has changed the model") from error
        MODEL.load_state_dict(BEFORE)


if __name__ == "__main__":
    corpus = Path(next(a for a in sys.argv[1:] if not a.startswith("-")))
    corpus.mkdir(parents=True, exist_ok=True)
    for i, (number, content) in enumerate(seeds()):
        (corpus / f"seed{i}").write_bytes(bytes([number]) + content)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
