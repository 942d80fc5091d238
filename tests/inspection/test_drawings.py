"""draw: what is in the picture, where it stands, and the texts for other programs."""

import os
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import (
    LSTM,
    Chain,
    Conv,
    Dense,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    Parallel,
    SkipConnection,
    flatten,
    models,
    relu,
)
from minitorch_flux.inspection.boxes import BOLD, CHARACTER, place_all, size_of
from minitorch_flux.inspection.followers import Place
from minitorch_flux.inspection.graphs import Vertex


def small():
    return Chain(Conv((3, 3), 1, 4, relu, pad=1), MaxPool((2, 2)), flatten, Dense(16, 3))


class Block(flux.Module):
    def __init__(self):
        self.norm, self.attention = LayerNorm(8), MultiHeadAttention(8, nheads=2)
        self.mlp = Chain(Dense(8, 16, relu), Dense(16, 8))

    def __call__(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.mlp(x)


def resnet():
    with flux.shapes_only():
        return models.ResNet(18, nclasses=10)


def inception():
    return Parallel(lambda *ys: flux.cat(ys, axis=1), Conv((1, 1), 4, 2), Chain(Conv((1, 1), 4, 2), Conv((3, 3), 2, 3, pad=1)))


PICTURES = {
    "LeNet": (models.LeNet, (1, 28, 28)),
    "ResNet-18": (resnet, (3, 64, 64)),
    "transformer": (lambda: Chain(Block(), Block(), Dense(8, 2)), (5, 8)),
    "inception": (inception, (4, 6, 6)),
    "function": (lambda: lambda x: (x * 2 + x).sum(), (3,)),
}


def edges(drawing):
    return [(a.title, b.title) for a, b in drawing.graph.edges]


# -- the graph ---------------------------------------------------------------------------------------------------------


def test_a_box_for_each_layer():
    d = flux.draw(small(), (1, 4, 4))
    assert [v.title for v in d.graph.vertices] == [
        "input", "Conv((3, 3), 1, 4, relu, pad=1)", "MaxPool((2, 2))", "flatten", "Dense(16, 3)", "output",
    ]  # fmt: skip
    assert [v.shape for v in d.graph.vertices] == [(1, 1, 4, 4), (1, 4, 4, 4), (1, 4, 2, 2), (1, 16), (1, 3), (1, 3)]
    assert len(d.graph.edges) == 5
    assert d.graph.vertices[4].note == "51 parameters"


def test_a_box_for_each_operation():
    d = flux.draw(Chain(Block()), (5, 8), unfolded=True)
    names = [v.title.split("  ")[-1] for v in d.graph.vertices]
    assert names == ["input", "layer_norm", "dense", "self_attention", "dense", "+", "dense, relu", "dense", "+", "output"]
    assert ("input", "+") in edges(d)
    assert d.graph.vertices[1].note == "weight 8, bias 8"
    assert [len(d.folded(depth).graph.vertices) for depth in (0, 1)] == [3, 3]
    assert d.folded(1).graph.vertices[1].title == "0  Block()"
    assert len(d.folded().unfolded().graph.vertices) == len(d.graph.vertices)


def test_a_layer_that_is_called_twice_is_drawn_twice():
    f = Dense(4, 4)
    d = flux.draw(Chain(f, relu, f), (4,))
    assert [v.title for v in d.graph.vertices] == ["input", "Dense(4, 4)", "relu", "Dense(4, 4)", "output"]


def test_skips_branches_and_several_inputs():
    d = flux.draw(SkipConnection(Dense(4, 4), flux.add), (4,))
    assert edges(d) == [("input", "Dense(4, 4)"), ("Dense(4, 4)", "+"), ("input", "+"), ("+", "output")]
    d = flux.draw(Parallel(tuple, Dense(3, 2), Dense(4, 5)), (3,), (4,))
    assert edges(d) == [("input 0", "Dense(3, 2)"), ("input 1", "Dense(4, 5)"), ("Dense(3, 2)", "output 0"),
                        ("Dense(4, 5)", "output 1")]


def test_sequences():
    d = flux.draw(Chain(LSTM(3, 4), Dense(4, 2)), (7, 3), axis=1)
    assert [v.shape for v in d.graph.vertices] == [(7, 1, 3), (7, 1, 4), (7, 1, 2), (7, 1, 2)]


def test_the_loss_is_drawn_along():
    d = flux.draw(Dense(4, 3), (4,), batchsize=6, loss=lambda y: flux.losses.logitcrossentropy(y, np.zeros(6, int)))
    assert [v.title for v in d.graph.vertices] == ["input", "Dense(4, 3)", "logitcrossentropy", "loss"]
    assert d.graph.vertices[-1].shape == ()


def test_the_tape_of_a_loss():
    model, x = small(), np.ones((2, 1, 4, 4), "float32")
    with flux.record():
        loss = flux.losses.logitcrossentropy(model(x), np.zeros(2, int))
    d = flux.draw(loss, model)
    assert [v.title.split("  ")[-1] for v in d.graph.vertices] == [
        "conv, relu", "max_pool", "reshape", "dense", "logitcrossentropy", "loss",
    ]  # fmt: skip
    assert d.graph.vertices[0].note == "weight 4 × 1 × 3 × 3, bias 4"
    assert d.graph.vertices[0].group.path in ("", "0")
    assert d.graph.vertices[0].shape == (2, 4, 4, 4)
    assert "parameter 4 × 1 × 3 × 3" in flux.draw(loss).dot()
    t = flux.tensor(np.ones(3), requires_grad=True)
    assert edges(flux.draw((t * t).sum())) == [("tensor", "×"), ("×", "sum"), ("sum", "loss")]
    with pytest.raises(TypeError, match="was not recorded"):
        flux.draw(model(x))
    with pytest.raises(TypeError, match="a recorded tensor, and the model"):
        flux.draw(loss, (1, 28, 28))


def test_the_model_is_left_as_it_was():
    model = Chain(Dense(None, 3), flux.BatchNorm(3))
    flux.draw(model, (4,))
    assert "not known" in repr(model)
    assert type(model[1]) is flux.BatchNorm


# -- the picture -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unfolded", [False, True])
@pytest.mark.parametrize("name", PICTURES)
def test_boxes_do_not_overlap_and_stand_in_their_frames(name, unfolded):
    make, shape = PICTURES[name]
    picture = place_all(flux.draw(make(), shape, unfolded=unfolded).graph)
    for i, a in enumerate(picture.boxes):
        assert -0.1 <= a.x <= a.x + a.width <= picture.width + 0.1
        assert -0.1 <= a.y <= a.y + a.height <= picture.height + 0.1
        for b in picture.boxes[:i]:
            assert a.x >= b.x + b.width or b.x >= a.x + a.width or a.y >= b.y + b.height or b.y >= a.y + a.height
        for frame in picture.frames:
            across = frame.x <= a.x and a.x + a.width <= frame.x + frame.width
            down = frame.y <= a.y and a.y + a.height <= frame.y + frame.height
            place = a.vertex.group
            while place is not None and place is not frame.place:
                place = place.parent
            assert (across and down) == (place is not None)
    where = {box.vertex: box for box in picture.boxes}
    for a, b, points in picture.edges:
        assert points[0] == pytest.approx((where[a].x + where[a].width / 2, where[a].y + where[a].height), abs=1)
        assert points[-1] == pytest.approx((where[b].x + where[b].width / 2, where[b].y), abs=1)
        assert all(lower[1] >= upper[1] - 0.01 for upper, lower in zip(points, points[1:], strict=False))


@pytest.mark.parametrize("name", PICTURES)
def test_the_svg_is_whole(name, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no other program is needed
    make, shape = PICTURES[name]
    d = flux.draw(make(), shape)
    root = ET.fromstring(d.svg("auto"))
    texts = ["".join(t.itertext()).replace("\xa0", " ") for t in root.iter("{http://www.w3.org/2000/svg}text")]
    for v in d.graph.vertices:
        assert v.title in texts
    paths = [p for p in root.iter("{http://www.w3.org/2000/svg}path") if p.get("class") == "e"]
    assert len(paths) == len(d.graph.edges)
    assert d._repr_svg_() == d.svg()


def test_a_residual_block_has_a_straight_middle():
    picture = place_all(flux.draw(resnet(), (3, 64, 64)).graph)
    middle = {box.vertex.title: box.x + box.width / 2 for box in picture.boxes}
    assert middle["input"] == pytest.approx(middle["output"], abs=1)


def test_names_are_escaped():
    d = flux.draw(Chain(lambda x: x * 2), (3,))
    assert "&lt;lambda&gt;" in d.svg()
    assert "#lt;lambda#gt;" in d.mermaid()
    ET.fromstring(d.svg())


# -- texts and files ---------------------------------------------------------------------------------------------------


def test_mermaid():
    model = Chain(a=Chain(Dense(2, 2), relu), b=SkipConnection(Dense(2, 2), flux.add))
    text = flux.draw(model, (2,)).mermaid()
    assert text.splitlines()[:10] == [
        "flowchart TD",
        '  v0(["input<br>1 × 2"]):::input',
        '  subgraph g0 ["Chain"]',
        '    subgraph g1 ["a  Chain"]',
        '      v1["Dense(2, 2)<br>1 × 2 · 6 parameters"]:::product',
        '      v2["relu<br>1 × 2"]:::other',
        "    end",
        '    subgraph g2 ["b  SkipConnection"]',
        '      v3["Dense(2, 2)<br>1 × 2 · 6 parameters"]:::product',
        '      v4(("+")):::join',
    ]
    assert '  v4 -- "1 × 2" --> v5' in text
    assert text.count("end") == 3


def test_dot():
    text = flux.draw(Chain(Dense(2, 2)), (2,)).dot()
    assert text.startswith("digraph {")
    assert text.count("{") == text.count("}") == 2
    assert 'v1 [label="Dense(2, 2)\\n1 × 2 · 6 parameters", fillcolor="#e6ddf3", color="#7b57b2"]' in text
    assert "v0 -> v1" in text


def test_files(tmp_path):
    d = flux.draw(small(), (1, 4, 4))
    starts = {"a.svg": "<svg", "a.dot": "digraph", "a.gv": "digraph", "a.mmd": "flowchart", "a.md": "```mermaid"}
    for name, start in starts.items():
        d.save(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)
    with pytest.raises(ValueError, match=r"ends in \.svg"):
        d.save(tmp_path / "a.png")
    assert "6 boxes and 5 edges" in repr(d)


def test_graphviz_where_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    d = flux.draw(small(), (1, 4, 4))
    with pytest.raises(RuntimeError, match="dot is not installed"):
        d.svg("graphviz")
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\nread line\necho \"<svg>$line</svg>\"\n")
    os.chmod(program, 0o755)
    assert d.svg("graphviz") == d.svg("auto") == "<svg>digraph {</svg>\n"
    assert "Conv" in d.svg("own")
    program.write_text("#!/bin/sh\necho no >&2\nexit 3\n")
    with pytest.raises(RuntimeError, match="could not draw it: no"):
        d.svg("graphviz")
    with pytest.raises(ValueError, match="engine is one of auto, own, graphviz"):
        d.svg("neato")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: flux.draw(small()), TypeError, "draw.*give the shape of one sample"),
        (lambda: flux.draw(small(), (2, 4, 4)), ValueError, "the input has 2 channels"),
        (lambda: flux.draw(lambda x: x if x.sum() > 0 else -x, (4,)), TypeError, "draw: the graph cannot be told from shapes"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_indices_that_change_their_dtype_on_the_way_are_not_lost():
    model = Chain(flux.Embedding(10, 4), flux.LSTM(4, 3))
    for d in (flux.draw(model, (5,), dtype="int32", axis=1), flux.draw(model, (5,), dtype="int64", axis=1, unfolded=True)):
        read = {b for _, b in d.graph.edges}
        assert [v.title for v in d.graph.vertices if v not in read] == ["input"]


def test_a_box_is_as_wide_as_its_text():
    wide, narrow = (Vertex(f"{name}(192)", "other", Place("", None, None)) for name in ("LayerNormV2", "x"))
    assert size_of(wide)[0] - size_of(narrow)[0] == pytest.approx(10 * (CHARACTER + BOLD), abs=74)
    named = Vertex("patches  PatchEmbedding(embedplanes=192)", "other", Place("", None, None))
    assert size_of(named)[0] > 39 * CHARACTER + 14 * BOLD
