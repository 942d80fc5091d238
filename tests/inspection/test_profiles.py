"""profile: what is counted, how times add up, and the files. Times are those of a clock that ticks when it is looked at."""

import itertools
import json
import threading
import types
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, Dense, MaxPool, flatten, relu
from minitorch_flux.backend import clocks
from minitorch_flux.inspection import profiles
from minitorch_flux.inspection.flames import tree
from tests.conftest import _has_gpu


def small():
    flux.seed(0)
    return Chain(Conv((3, 3), 1, 4, relu, pad=1), MaxPool((2, 2)), flatten, Dense(64, 3))


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


@pytest.fixture
def ticks(monkeypatch):
    """A clock on which every look takes a microsecond."""
    count = itertools.count(0, 1000)
    monkeypatch.setattr(clocks, "now", lambda: next(count))
    monkeypatch.setattr(profiles, "now", lambda: next(count))


def profiled(steps=2):
    model, x, y = small(), normal(5, 1, 8, 8), np.arange(5) % 3
    opt = flux.setup(flux.Adam(1e-3), model)
    with flux.profile(model) as p:
        for _ in range(steps):
            _, grads = flux.withgradient(lambda m: flux.losses.logitcrossentropy(m(x), y), model)
            flux.update(opt, model, grads)
    return model, p


def test_calls_of_operations_and_layers():
    model, p = profiled(3)
    calls = {(row.name, row.phase): row.calls for row in p.operations() if row.phase != "other"}
    assert calls == {(name, way): 3 for name in ("conv_bias_act", "max_pool", "reshape", "dense", "logitcrossentropy")
                     for way in ("forward", "backward")}
    assert [(row.place.path, row.calls) for row in p.layers()] == [("", 3), ("0", 3), ("1", 3), ("2", 3), ("3", 3)]
    assert type(model) is Chain
    assert type(model[0]) is Conv


def test_flops_are_those_of_the_summary():
    model, p = profiled(1)
    s = flux.summary(model, (1, 8, 8), batchsize=5)
    forward = {row.place.path: row for row in p.layers()}
    assert forward[""].flops == s.flops + s.backward_flops
    dense = next(row for row in p.operations() if (row.name, row.phase) == ("dense", "forward"))
    assert dense.flops == 5 * 3 * (2 * 64 + 1)
    assert dense.bytes == 4 * (5 * 64 + 3 * 64 + 3 + 5 * 3)


def test_every_nanosecond_is_in_one_of_three_places(ticks):
    _, p = profiled()
    assert p.kernels + p.arrays + p.python == p.wall
    assert p.kernels > 0 or not any(span.kind == "kernel" for span in p.spans)
    for span in p.spans:
        inside = sum(child.length for child in span.children)
        assert span.length >= inside + 1000 * len(span.children)
        assert span.own == span.length - inside
        for child in span.children:
            assert span.start < child.start
            assert child.start + child.length < span.start + span.length
    whole, layers = p.layers()[0], p.layers()[1:]
    assert whole.forward >= sum(row.forward for row in layers)
    assert whole.backward == sum(row.backward for row in layers)
    assert all(row.python <= row.forward for row in p.layers())


def test_without_kernels_no_time_is_spent_in_them():
    model, x = small(), normal(2, 1, 8, 8)
    with flux.use_kernels(False), flux.profile(model) as p:
        model(x)
    assert p.kernels == 0
    assert all(row.phase == "forward" for row in p.operations())


def test_without_a_model_and_outside_of_it():
    with flux.profile() as p:
        flux.relu(normal(3))
    assert [(row.name, row.calls) for row in p.operations()] == [("relu", 1)]
    assert p.layers() == []
    model = small()
    with flux.profile(model) as p:
        model[-1](normal(2, 64))
        flux.relu(normal(3))
    assert [row.place.path for row in p.layers()] == ["3"]
    assert [total.name for total in p.operations()].count("relu") == 1


def test_second_order():
    with flux.profile() as p:
        flux.gradient(lambda x: (flux.gradient(lambda x: (x**3).sum(), x) ** 2).sum(), np.ones(3))
    assert {row.phase for row in p.operations()} == {"forward", "backward"}


def test_other_threads_and_outlines_are_not_measured():
    model, x = small(), normal(2, 1, 8, 8)
    with flux.profile(model) as p:
        thread = threading.Thread(target=lambda: model(x))
        thread.start()
        thread.join()
        flux.outputsize(model, (1, 1, 8, 8))
    assert all(span.kind == "layer" for span in p.spans)  # of outputsize
    assert p.kernels == p.arrays == 0


def test_an_error_in_the_body_leaves_everything_as_it_was():
    model = small()
    with pytest.raises(ValueError, match="channels"), flux.profile(model) as p:
        model(normal(2, 3, 8, 8))
    assert type(model[0]) is Conv
    assert str(p)
    with flux.profile(model) as p:
        model(normal(1, 1, 8, 8))
    assert len(p.layers()) == 5
    with pytest.raises(RuntimeError, match="measures once"), p:
        pass


def test_as_text():
    _, p = profiled()
    text = str(p)
    words = ("wall time", "kernels", "NumPy", "Python", "operation", "GFLOP/s", "conv_bias_act", "of it Python", "Conv((3, 3)")
    assert all(word in text for word in words)
    assert "spans" in repr(p)
    with flux.profile() as p:
        pass
    assert "no operation ran" in str(p)


def test_a_chrome_trace(tmp_path, ticks):
    model, p = profiled()
    p.save(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    complete = [e for e in events if e["ph"] == "X"]
    assert len(complete) == len(p.spans)
    assert {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"} <= complete[0].keys()
    conv = next(e for e in complete if e["name"] == "conv_bias_act")
    assert conv["args"]["layer"] == "0"
    assert conv["args"]["flops"] > 0
    assert {e["cat"].split(",")[0] for e in complete} >= {"layer", "operation"}


def test_the_picture(tmp_path, ticks):
    _, p = profiled()
    bars = tree(p)
    assert [*bars.bars] == ["forward", "backward", "other"] or [*bars.bars] == ["forward", "backward"]
    assert "0  Conv((3, 3), 1, 4, relu, pad=1)" in bars.bars["backward"].bars["Chain"].bars

    def check(bar):
        assert bar.time >= sum(inner.time for inner in bar.bars.values())
        for inner in bar.bars.values():
            check(inner)

    check(bars)
    p.save(tmp_path / "flame.svg")
    root = ET.parse(tmp_path / "flame.svg").getroot()
    rects = list(root.iter("{http://www.w3.org/2000/svg}rect"))
    assert all(float(r.get("x", 0)) + float(r.get("width")) <= float(root.get("width")) + 0.1 for r in rects)
    assert any("GFLOP/s" in t.text for t in root.iter("{http://www.w3.org/2000/svg}title"))
    assert p._repr_svg_() == p.flame()
    p.save(tmp_path / "profile.txt")
    with pytest.raises(ValueError, match=r"ends in \.json, \.svg or \.txt"):
        p.save(tmp_path / "profile.png")


class Device:
    """A pretended GPU, whose clock is slower than the host's and starts elsewhere."""

    id, time = 0, 5.0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def synchronize(self):
        return None


class Event:
    def record(self):
        Device.time += 0.25
        self.at = Device.time

    def synchronize(self):
        assert self.at


class DeviceArray:
    device = Device()


def test_a_gpu_is_timed_by_events(monkeypatch):
    cuda = types.SimpleNamespace(Event=Event, get_elapsed_time=lambda a, b: b.at - a.at)
    monkeypatch.setattr(clocks, "_loaded_cupy", lambda: types.SimpleNamespace(ndarray=DeviceArray, cuda=cuda))
    timer = clocks.Timer()
    begin, end = timer.mark(DeviceArray()), timer.mark(DeviceArray())
    start, length = timer.span(begin, end)
    assert length == 250_000  # a quarter of a millisecond, whatever the host's clock says
    assert start == timer.first[0][0] - timer.origin + 250_000
    host = timer.mark(np.ones(1))
    assert timer.span(begin, host)[1] == host[0] - begin[0]


def test_what_is_said_of_a_gpu(ticks):
    _, p = profiled()
    for span in p.spans:
        span.gpu = span.kind != "layer"  # as if the host had only launched
    text = str(p)
    assert "GPU" in text
    assert "the GPU waits for Python" in text
    layers = p.layers()
    forward = [s.length for s in p.spans if s.kind == "operation" and s.phase == "forward" and s.place.path == "0"]
    assert layers[1].forward == sum(forward)
    assert {e["tid"] for e in p.trace()["traceEvents"] if e["ph"] == "X"} == {1, 2}
    bar = tree(p).bars["forward"].bars["Chain"]
    assert bar.time == sum(inner.time for inner in bar.bars.values())


@pytest.mark.gpu
@pytest.mark.skipif(not _has_gpu(), reason="no device")
def test_on_a_gpu():
    model, x = flux.gpu(small()), flux.gpu(normal(64, 1, 8, 8))
    flux.withgradient(lambda m: m(x).mean(), model)
    with flux.profile(model) as p:
        flux.withgradient(lambda m: m(x).mean(), model)
    assert any(span.gpu for span in p.spans)
    assert p.kernels + p.arrays > 0
    assert "GPU" in str(p)
    assert {e["tid"] for e in p.trace()["traceEvents"] if e["ph"] == "X"} == {1, 2}
