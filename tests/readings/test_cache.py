"""The folder of built kernels: where it is, who may own it, and entries that are whole."""

import os
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from minitorch_flux.readings import KernelWarning, cache


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """No cache chosen yet; the temporary folder is the test's own."""
    cache._checked.cache_clear()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    yield
    cache._checked.cache_clear()


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.wanted_folder() == tmp_path / ".cache" / "minitorch_flux"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.wanted_folder() == tmp_path / "xdg" / "minitorch_flux"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says: ignore it
    assert cache.wanted_folder() == tmp_path / ".cache" / "minitorch_flux"
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "mine"))
    assert cache.wanted_folder() == tmp_path / "mine"
    monkeypatch.setenv(cache.VARIABLE, "~/mine")
    assert cache.wanted_folder() == tmp_path / "mine"


def test_it_is_made_closed_to_others(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "a" / "b"))
    before = os.umask(0)
    try:
        folder = cache.cache_folder()
    finally:
        os.umask(before)
    assert folder == tmp_path / "a" / "b"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def refused(match):
    """The warning that the wanted folder is refused, and the temporary one that is used instead."""
    with pytest.warns(KernelWarning, match=match) as caught:
        folder = cache.cache_folder()
    assert len(caught) == 1
    assert cache.VARIABLE in str(caught[0].message)
    assert str(folder) in str(caught[0].message)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert cache.cache_folder() == folder
    return folder


def test_a_missing_home(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "cache"))
    folder = refused("cannot be made")
    assert folder == tmp_path / "tmp" / f"minitorch_flux-{os.geteuid()}"


def test_a_read_only_home(monkeypatch, tmp_path):
    def read_only(*args, **keywords):
        raise OSError(30, "Read-only file system")

    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    original = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", lambda p, *a, **k: (read_only if p.name == "cache" else original)(p, *a, **k))
    refused(r"cannot be made \(Read-only file system\)")


def test_a_home_that_became_read_only(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    original = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p).name != "cache" and original(p, mode))
    refused("cannot be written;")


def owned_by(monkeypatch, names, uid):
    original = os.stat

    def fake(path, *args, **keywords):
        found = original(path, *args, **keywords)
        if Path(path).name in names:
            return SimpleNamespace(st_uid=uid, st_mode=found.st_mode)
        return found

    monkeypatch.setattr(cache.os, "stat", fake)


def test_a_folder_of_another_user(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    owned_by(monkeypatch, {"cache"}, 12345)
    refused(r"belongs to another user \(uid 12345")


def test_another_user_was_first_in_the_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    trap = f"minitorch_flux-{os.geteuid()}"
    owned_by(monkeypatch, {"cache", trap}, 12345)
    folder = refused("belongs to another user")
    assert folder.name != trap
    assert folder.parent == tmp_path / "tmp"


def test_a_link_in_the_temporary_folder_is_not_followed(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "cache"))
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    link = tmp_path / "tmp" / f"minitorch_flux-{os.geteuid()}"
    link.symlink_to(tmp_path / "elsewhere")
    assert refused("cannot be made") != link
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write(monkeypatch, tmp_path, mode):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    refused(f"can be written by others .mode {mode:o}.; chmod 700 it")


def test_a_folder_that_others_can_read_is_fine(monkeypatch, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o755)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    assert cache.cache_folder() == tmp_path / "cache"


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return cache.cache_folder()


def maker(text, calls):
    def make(folder):
        calls.append(folder)
        (folder / "result").write_text(text)

    return make


def test_an_entry_is_made_once(folder):
    calls = []
    first = cache.cached("key", "result", maker("one", calls))
    second = cache.cached("key", "result", maker("two", calls))
    assert first == second == folder / "key" / "result"
    assert first.read_text() == "one"
    assert len(calls) == 1
    assert [p.name for p in folder.iterdir()] == ["key"]  # nothing temporary is left


@pytest.mark.parametrize("damage", ["truncated", "changed", "no checksum", "bad checksum", "gone"])
def test_a_damaged_entry_is_made_again(folder, damage):
    calls = []
    file = cache.cached("key", "result", maker("the whole text", calls))
    if damage == "truncated":
        file.write_text("the wh")
    elif damage == "changed":
        file.write_text("the whole tent")
    elif damage == "no checksum":
        (file.parent / "sha256").unlink()
    elif damage == "bad checksum":
        (file.parent / "sha256").write_bytes(b"\xff\xfe\0")
    else:
        file.unlink()
    assert cache.cached("key", "result", maker("the whole text", calls)) == file
    assert file.read_text() == "the whole text"
    assert len(calls) == 2
    assert [p.name for p in folder.iterdir()] == ["key"]


def test_a_failed_build_leaves_nothing(folder):
    def fail(folder):
        (folder / "result").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.cached("key", "result", fail)
    assert not list(folder.iterdir())


def test_a_cleared_folder_is_made_again(folder):
    cache.cached("key", "result", maker("one", []))
    assert cache.clear_cache() == 1
    folder.rmdir()
    assert cache.cached("key", "result", maker("two", [])).read_text() == "two"


def test_threads_that_build_at_once(folder):
    """All see a whole entry, whoever wins."""
    gate, seen = threading.Barrier(8), []

    def build(i):
        def make(folder):
            gate.wait()  # everybody is building
            (folder / "result").write_text(str(i) * 1000)

        seen.append(cache.cached("key", "result", make).read_text())

    threads = [threading.Thread(target=build, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert all(len(text) == 1000 and len(set(text)) == 1 for text in seen)
    assert [p.name for p in folder.iterdir()] == ["key"]


def test_an_entry_that_cannot_be_placed(folder, monkeypatch):
    def no(*args):
        raise OSError("no")

    monkeypatch.setattr(cache.os, "rename", no)
    with pytest.raises(OSError, match="cannot write the kernel cache entry"):
        cache.cached("key", "result", maker("one", []))


def test_two_processes_that_build_at_once(tmp_path):
    """Two processes compile the same file at the same time, with an empty cache; both get right results."""
    program = """
        import sys, time
        import numpy as np
        from minitorch_flux.readings import KernelFile

        x, y = np.arange(5, dtype=np.float32), np.ones(5, np.float32)
        time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
        assert KernelFile(sys.argv[1])("axpy", x, 1, 5, 2.0, x, y, 5)
        assert y.tolist() == [1, 3, 5, 7, 9], y
    """
    environment = os.environ | {cache.VARIABLE: str(tmp_path / "cache"), "PYTHONPATH": os.getcwd()}
    sample = str(Path(__file__).parent / "sample.cu")
    command = [sys.executable, "-c", textwrap.dedent(program), sample, str(time.time() + 1)]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate()[1] for process in processes]
    assert errors == ["", "", ""]
    assert [process.returncode for process in processes] == [0, 0, 0]
    entries = list((tmp_path / "cache").iterdir())
    assert len(entries) == 2  # the flags and the library
    assert all("." not in entry.name for entry in entries)
