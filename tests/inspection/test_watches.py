"""watch: what is noted, against the same computed by hand, what is warned of, and the files."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import Chain, Conv, Dense, flatten, relu, sigmoid
from minitorch_flux.inspection import charts
from minitorch_flux.inspection.watches import MEASURES


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def rms(*arrays):
    flat = np.concatenate([np.ravel(a).astype(float) for a in arrays])
    return np.sqrt((flat**2).mean())


def trained(model, x, steps, every=1, eta=0.1):
    opt = flux.setup(flux.Descent(eta), model)
    with flux.watch(model, every=every) as w:
        for _ in range(steps):
            _, grads = flux.withgradient(lambda m: (m(x) ** 2).mean(), model)
            flux.update(opt, model, grads)
            model(x)  # is no step: nothing is recorded
    return w


def test_what_is_noted_is_what_it_says():
    flux.seed(1)
    model, x = Chain(Conv((3, 3), 1, 3, relu), flatten, Dense(48, 4, relu), Dense(4, 2)), normal(5, 1, 6, 6)
    before = {k: v.copy() for k, v in model.state_dict().items()}
    conv, hidden, out = (flux.testmode(model)[:n](x).numpy() for n in (1, 3, 4))
    flux.testmode(model, "auto")
    _, grads = flux.withgradient(lambda m: (m(x) ** 2).mean(), model)
    _, back = flux.vjp(lambda h: (model[3](h) ** 2).mean(), hidden)
    of_hidden = back(np.float32(1))
    w = trained(model, x, 1)
    record = w.records[0]
    assert record["step"] == 0
    for key, y in {"0": conv, "2": hidden, "3": out, ".": out}.items():
        assert record[key]["mean"] == pytest.approx(y.mean(), rel=1e-4, abs=1e-6)
        assert record[key]["std"] == pytest.approx(y.std(), rel=1e-4)
    assert record["0"]["dead"] == (conv.max(axis=(0, 2, 3)) == 0).mean()
    assert record["2"]["dead"] == (hidden.max(axis=0) == 0).mean()
    assert record["3"]["gradient"] == pytest.approx(rms(2 * out / out.size), rel=1e-4)
    assert record["2"]["gradient"] == pytest.approx(rms(of_hidden), rel=1e-4)
    assert record["0"]["weight_gradient"] == pytest.approx(rms(grads[0].weight, grads[0].bias), rel=1e-4)
    change = rms(*(model.state_dict()[k] - before[k] for k in ("3.weight", "3.bias")))
    assert record["3"]["update"] == pytest.approx(change / rms(before["3.weight"], before["3.bias"]), rel=1e-4)
    assert type(model[0]) is Conv


def test_every_few_steps():
    w = trained(Chain(Dense(3, 4, relu), Dense(4, 2)), normal(5, 3), 7, every=3)
    assert [r["step"] for r in w.records] == [0, 3, 6]
    series = w.series("std")
    assert {*series} == {"0", "1"}
    assert [step for step, _ in series["0"]] == [0, 3, 6]
    with pytest.raises(ValueError, match="the measures are mean, std"):
        w.series("median")


def test_a_shared_layer_has_one_gradient():
    f = Dense(3, 3)
    model, x = Chain(f, relu, f), normal(4, 3)
    _, grads = flux.withgradient(lambda m: (m(x) ** 2).mean(), model)
    w = trained(model, x, 1)
    assert w.records[0]["0"]["weight_gradient"] == pytest.approx(rms(grads[0].weight, grads[0].bias), rel=1e-4)


def test_the_steps_are_those_without_watching():
    results = []
    for every in (1, 1000):
        flux.seed(3)
        model = Chain(Dense(3, 4, relu), flux.Dropout(0.5), Dense(4, 2))
        trained(model, normal(5, 3), 4, every=every)
        results.append(model.state_dict())
    for k, v in results[0].items():
        np.testing.assert_array_equal(v, results[1][k])


def test_what_looks_wrong_is_said():
    flux.seed(0)
    dead = Chain(Dense(3, 8, relu, init=lambda *s: -flux.ones(*s), bias=False), Dense(8, 2))
    text = str(trained(dead, np.abs(normal(5, 3)), 1))
    assert "0, Dense(3, 8, relu" in text
    assert "100 % of its units are 0 for the whole batch (dead)" in text
    vanishing = Chain(*[Dense(8, 8, sigmoid) for _ in range(8)])
    assert "the gradient vanishes" in str(trained(vanishing, normal(5, 8), 1))
    exploding = Chain(*[Dense(8, 8, init=lambda *s: 10 * flux.ones(*s)) for _ in range(4)])
    assert "the gradient explodes" in str(trained(exploding, normal(5, 8), 1, eta=1e-12))
    assert "the step is too long" in str(trained(Chain(Dense(3, 2)), normal(5, 3), 1, eta=5))
    broken = Chain(Dense(3, 2))
    broken[0].weight.data[0, 0] = np.nan
    with np.errstate(invalid="ignore"):
        assert "flux.find_nonfinite says where" in str(trained(broken, normal(5, 3), 1))
    assert not trained(Chain(Dense(3, 2)), normal(5, 3), 1, eta=1e-3).warnings()


def test_files(tmp_path):
    w = trained(Chain(Dense(3, 4, relu), Dense(4, 2)), normal(5, 3), 3)
    w.save(tmp_path / "w.json")
    assert json.loads((tmp_path / "w.json").read_text())[2]["1"]["std"] == w.records[2]["1"]["std"]
    w.save(tmp_path / "w.csv")
    lines = (tmp_path / "w.csv").read_text().splitlines()
    assert lines[0] == ",".join(["step", "layer", *MEASURES])
    assert len(lines) == 1 + 3 * 3
    w.save(tmp_path / "w.svg")
    root = ET.parse(tmp_path / "w.svg").getroot()
    texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {*MEASURES.values()} <= {*texts}
    assert w._repr_svg_() == w.svg()
    assert "watch of 3 steps" in repr(w)
    with pytest.raises(ValueError, match=r"ends in \.svg, \.json or \.csv"):
        w.save(tmp_path / "w.png")


def test_nothing_watched():
    model = Chain(Dense(3, 2))
    with flux.watch(model) as w:
        model(normal(2, 3))
        flux.outputsize(model, (2, 3))
    assert str(w) == "nothing was watched: no recorded call of the model inside the block"
    assert w.warnings() == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: flux.watch(relu), TypeError, "watch takes a model"),
        (lambda: flux.watch(Dense(2, 2), every=0), ValueError, "at least 1, got 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_one_watch_at_a_time():
    with flux.watch(Dense(2, 2)) as w, pytest.raises(RuntimeError, match="at work already"), w:
        pass


def test_curves_of_odd_numbers():
    lines = {"a": [(0, 1.0), (1, np.nan), (2, 0.0)], "b": [(0, 5.0)], "empty": [(0, np.inf)]}
    for logarithmic in (False, True):
        root = ET.fromstring(charts.svg([("t", lines, logarithmic), ("none", {"c": [(0, np.nan)]}, logarithmic)], "all"))
        paths = [p for p in root.iter("{http://www.w3.org/2000/svg}path") if p.get("class") == "l"]
        assert len(paths) == 2
        for p in paths:
            numbers = [float(n) for pair in p.get("d").replace("M", "").replace("L", "").split() for n in pair.split(",")]
            assert all(0 <= n < 900 for n in numbers)
    many = {f"layer.{i}.with.a.long.name": [(0, float(i))] for i in range(60)}
    texts = [t.text for t in ET.fromstring(charts.svg([("t", many, False)], "many")).iter("{http://www.w3.org/2000/svg}text")]
    assert len(texts) < 40


def test_names_stand_at_the_ends_of_their_lines():
    lines = {"low": [(0, 0.1), (5, 0.0)], "near": [(0, 0.1), (5, 0.01)], "high": [(0, 0.1), (5, 1.0)]}
    text = charts.svg([("a panel", lines, False)], "curves")
    paths = re.findall(r'class="l" d="([^"]+)"[^>]*><title>(\w+)<', text)
    ends = {name: float(path.rpartition(",")[2]) for path, name in paths}
    names = {name: float(y) - 3.5 for y, name in re.findall(r'<text x="[\d.]+" y="([\d.]+)" style="fill:[^"]+">(\w+)<', text)}
    assert names["high"] == pytest.approx(ends["high"], abs=0.11)
    assert names["low"] - names["near"] == pytest.approx(charts.APART, abs=0.11)
    assert ends["low"] - charts.APART - 0.11 < names["near"] < ends["near"] + charts.APART
    assert names["low"] <= ends["low"] + 0.11  # the last one stays in the panel
