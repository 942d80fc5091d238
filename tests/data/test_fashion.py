"""Full Fashion-MNIST: where it is looked for, that it is verified, and how it is downloaded."""

import functools
import gzip
import hashlib
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from test_idx import idx_bytes, images_and_labels

from minitorch_flux.data import cifar, fashion, fashion_mnist, fetching
from minitorch_flux.data.idx import NAMES
from minitorch_flux.readings.cache import clear_cache


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.seen.append(self.path)


@pytest.fixture
def server(tmp_path):
    """A web server on 127.0.0.1 for ``tmp_path/web``; ``.seen`` lists what it was asked for."""
    web = tmp_path / "web"
    web.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(web))) as s:
        s.seen, s.folder, s.url = [], web, f"http://127.0.0.1:{s.server_address[1]}/"
        thread = threading.Thread(target=s.serve_forever)
        thread.start()
        yield s
        s.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache, no data folder, no Debian package; small stand-ins for the official files."""
    monkeypatch.setenv("MINITORCH_FLUX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MINITORCH_FLUX_DATA", raising=False)
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path / "debian")
    arrays = [*images_and_labels(11, 0, (28, 28)), *images_and_labels(4, 1, (28, 28))]
    for name, a in zip(NAMES, arrays, strict=True):
        monkeypatch.setitem(fashion.SHA256, name, hashlib.sha256(idx_bytes(a)).hexdigest())
    return tmp_path, arrays


def put(folder, arrays, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, a in zip(NAMES, arrays, strict=True):
        data = idx_bytes(a)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)


def same(data, arrays):
    np.testing.assert_array_equal(data.train.images[:, 0], arrays[0])
    np.testing.assert_array_equal(data.train.labels, arrays[1])
    np.testing.assert_array_equal(data.test.images[:, 0], arrays[2])
    np.testing.assert_array_equal(data.test.labels, arrays[3])


@pytest.mark.parametrize("place", ["data", "data/fashion-mnist", "cache/data/fashion-mnist", "debian"])
@pytest.mark.parametrize("packed", [False, True])
def test_where_it_is_found(home, monkeypatch, place, packed):
    folder, arrays = home
    monkeypatch.setenv("MINITORCH_FLUX_DATA", str(folder / "data"))
    put(folder / place, arrays, packed)
    data = fashion_mnist(mini=False, dtype="uint8")
    same(data, arrays)
    assert (data.name, data.mean, data.std) == ("fashion-mnist", (0.2860,), (0.3530,))
    assert len(data.classes) == 10
    assert fashion_mnist(mini=False).train.images.dtype == np.float32


def test_another_file_is_refused(home):
    folder, arrays = home
    put(folder / "debian", [arrays[0] ^ 1, *arrays[1:]])
    with pytest.raises(ValueError, match=f"{NAMES[0]}.gz: the sha256 of the decompressed file is .*, expected"):
        fashion_mnist(mini=False)


def test_without_pooch(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match=r"in none of .*cache.* were not downloaded: downloading needs pooch: "
                       r"pip install 'minitorch-flux\[data\]'.*apt-get install dataset-fashion-mnist"):
        fashion_mnist(mini=False)
    assert not (home[0] / "cache").exists()  # nothing is made for nothing


def test_download(home, server, monkeypatch):
    pytest.importorskip("pooch")
    folder, arrays = home
    put(server.folder, arrays)
    monkeypatch.setattr(fashion, "URL", server.url)
    same(fashion_mnist(mini=False, dtype="uint8"), arrays)
    assert server.seen == [f"/{name}.gz" for name in NAMES]
    same(fashion_mnist(mini=False, dtype="uint8"), arrays)  # from the cache
    assert len(server.seen) == 4
    cache = folder / "cache" / "data" / "fashion-mnist"
    assert sorted(p.name for p in cache.iterdir()) == sorted(f"{name}.gz" for name in NAMES)
    clear_cache()  # of built kernels: datasets stay
    (cache / f"{NAMES[1]}.gz").unlink()  # as if the first time had been interrupted
    same(fashion_mnist(mini=False, dtype="uint8"), arrays)
    assert server.seen[4:] == [f"/{NAMES[1]}.gz"]


def test_a_wrong_download_is_not_kept(home, server, monkeypatch):
    pytest.importorskip("pooch")
    folder, arrays = home
    put(server.folder, [arrays[0] ^ 1, *arrays[1:]])
    monkeypatch.setattr(fashion, "URL", server.url)
    with pytest.raises(ValueError, match="the sha256 of the decompressed file"):
        fashion_mnist(mini=False)
    assert list((folder / "cache" / "data" / "fashion-mnist").iterdir()) == []


def test_a_failed_download_says_what_to_do(home, server, monkeypatch):
    pytest.importorskip("pooch")
    monkeypatch.setattr(fashion, "URL", server.url + "nowhere/")
    with pytest.raises(FileNotFoundError, match=r"404 .*apt-get install dataset-fashion-mnist.*fashion_mnist\(\)"):
        fashion_mnist(mini=False)
    server.shutdown()
    monkeypatch.setattr(fetching, "TIMEOUT", 1)
    monkeypatch.setattr(fashion, "URL", "http://127.0.0.1:9/")  # nobody listens there
    with pytest.raises(FileNotFoundError, match="were not downloaded: http://127.0.0.1:9/train-images"):
        fashion_mnist(mini=False)


def test_a_cache_that_cannot_be_used(home, monkeypatch):
    pytest.importorskip("pooch")
    (home[0] / "file").write_text("")
    monkeypatch.setenv("MINITORCH_FLUX_CACHE", str(home[0] / "file" / "cache"))
    with pytest.raises(FileNotFoundError, match=r"were not downloaded: the cache folder .*file/cache cannot be made"):
        fashion_mnist(mini=False)


def test_real_urls():
    """The addresses themselves; they are fetched by hand, not by tests."""
    assert f"{fashion.URL}{NAMES[0]}.gz" == (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/train-images-idx3-ubyte.gz"
    )
    assert cifar.URL == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"


@pytest.mark.slow
@pytest.mark.skipif(not fashion.DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_files(monkeypatch):
    monkeypatch.delenv("MINITORCH_FLUX_DATA", raising=False)
    data = fashion_mnist(mini=False, dtype="uint8")
    assert (data.train.images.shape, data.test.images.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    from minitorch_flux.data.idx import moments

    np.testing.assert_allclose(moments(data.train.images), (data.mean[0], data.std[0]), atol=5e-5)
