"""Figures: what is drawn where, in which colours, and that it can be written to a file."""

import io
import subprocess
import sys

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux.inspection import figures

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)


def written(figure):
    file = io.BytesIO()
    figure.savefig(file, dpi=40)
    return file.getvalue()[1:4]


def pictures(figure):
    return [axis.images[0].get_array() for axis in figure.axes if axis.images]


def test_a_grid_of_maps():
    maps = RNG.standard_normal((7, 5, 6))
    figure = flux.show_maps(maps, titles=[f"map {i}" for i in range(7)], title="seven", columns=4)
    assert len(figure.axes) == 8
    drawn = pictures(figure)
    assert len(drawn) == 7
    for a, b in zip(drawn, maps, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [axis.get_title() for axis in figure.axes[:7]] == [f"map {i}" for i in range(7)]
    assert figure.get_suptitle() == "seven"
    assert written(figure) == b"PNG"


def test_scales():
    maps = np.stack([RNG.random((4, 4)), 10 * RNG.random((4, 4))])
    own, shared = (flux.show_maps(maps, shared=s).axes[0].images[0] for s in (False, True))
    assert own.get_clim() == (maps[0].min(), maps[0].max())
    assert shared.get_clim() == (maps.min(), maps.max())
    assert own.get_cmap().name == "magma"
    signed = flux.show_maps(maps - 4.0).axes[0].images[0]
    assert signed.get_cmap().name == "signed"
    low, high = signed.get_clim()
    assert low == -high
    assert flux.show_maps(maps - 4.0, signed=False).axes[0].images[0].get_cmap().name == "magma"
    assert flux.show_maps(np.zeros((1, 3, 3))).axes[0].images[0].get_clim() == (0, 1)
    assert written(flux.show_maps(np.full((2, 3, 3), np.nan))) == b"PNG"


def test_filters_of_colour_images_are_colour_pictures():
    w = RNG.standard_normal((4, 3, 3, 3)).astype("float32")
    w[0] = 0
    drawn = pictures(flux.show_maps(w))
    assert [a.shape for a in drawn] == [(3, 3, 3)] * 4
    assert (drawn[0] == 0.5).all()
    assert max(abs(drawn[1].max() - 0.5), abs(drawn[1].min() - 0.5)) == pytest.approx(0.5)
    np.testing.assert_allclose(drawn[2] - 0.5, w[2].transpose(1, 2, 0) / (2 * np.abs(w[2]).max()), rtol=1e-5)


def test_other_filters_are_a_picture_for_each_pair():
    w = RNG.standard_normal((5, 2, 3, 3))
    figure = flux.show_maps(flux.Tensor(w))
    np.testing.assert_array_equal(pictures(figure)[5 + 3], w[3, 1])  # the outputs are the columns
    assert len(pictures(flux.show_maps(w[:, :1]))) == 5
    assert len(pictures(flux.show_maps(w[0, 0]))) == 1
    assert pictures(flux.show_maps(np.arange(4).reshape(1, 2, 2)))[0].dtype == np.float32


@pytest.mark.parametrize("images", [RNG.integers(0, 256, (2, 8, 8, 3)).astype("uint8"), RNG.random((2, 3, 8, 8)),
                                    RNG.random((2, 8, 8)), RNG.standard_normal((2, 1, 8, 8))])  # fmt: skip
def test_heat_over_images_of_any_layout(images):
    heat = np.zeros((2, 4, 4))
    heat[:, 1, 2] = 1
    figure = flux.show_heat(images, heat, titles=["a", "b"], title="hot")
    drawn = pictures(figure)
    assert [a.shape for a in drawn] == [(160, 160, 3)] * 4
    assert all(0 <= a.min() <= a.max() <= 1 for a in drawn)
    grey = 0.3 + 0.6 * drawn[0].mean(2)
    cold, hot = drawn[2][130, 20], drawn[2][55:65, 95:105].mean((0, 1))
    np.testing.assert_allclose(cold, grey[130, 20], atol=1e-6)
    assert hot[0] - hot[2] > 0.2  # red and yellow
    assert [axis.get_title(loc="left") for axis in figure.axes[:2]] == ["a", "b"]
    assert written(figure) == b"PNG"


def test_rows_of_heat_have_names():
    heat = {"one": RNG.random((3, 4, 4)), "two": RNG.random((3, 16, 16))}
    figure = flux.show_heat(RNG.random((3, 3, 16, 16)), heat)
    assert len(figure.axes) == 9
    assert [figure.axes[3].get_ylabel(), figure.axes[6].get_ylabel()] == ["one", "two"]


def test_smooth_is_linear_between_pixels():
    torch = pytest.importorskip("torch")
    for shape, size in (((4, 5), (9, 20)), ((1, 3), (4, 4)), ((6, 6), (6, 6)), ((8, 8), (3, 2))):
        h = RNG.random(shape)
        found = figures._smooth(h, *size)
        if size >= shape:
            expected = torch.nn.functional.interpolate(torch.tensor(h)[None, None], size=size, mode="bilinear")[0, 0]
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12)
        assert found.shape == size


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (3, 3), (6, 3), (7, 4), (12, 4), (32, 8), (97, 14)])
def test_grids_have_no_gaps_where_that_can_be(count, columns):
    assert figures._columns(count) == columns


def test_share():
    h = np.arange(1000.0).reshape(10, 100)
    share = figures._share(h)
    assert share.max() == 1
    assert (share.reshape(-1)[:200] == 0).all()
    assert (share.reshape(-1)[-10:] == 1).all()
    assert (figures._share(np.zeros((3, 3))) == 0).all()
    assert figures._share(np.array([[np.nan, 1.0]])).tolist() == [[0, 1]]


@pytest.mark.parametrize(("call", "message"), [
    (lambda: flux.show_maps(np.zeros(3)), r"show_maps: takes pictures \(K, H, W\).*got shape \(3,\)"),
    (lambda: flux.show_maps(np.zeros((0, 3, 3))), r"got shape \(0, 3, 3\)"),
    (lambda: flux.show_maps(np.zeros((700, 2, 2))), r"show_maps: 700 pictures are more than a figure holds.*\[:600\]"),
    (lambda: flux.show_heat(np.zeros((2, 3, 8, 8)), np.zeros((3, 8, 8))),
     r"2 images need heat \(2, h, w\), got shape \(3, 8, 8\)"),
    (lambda: flux.show_heat(np.zeros((2, 5, 8, 8)), np.zeros((2, 8, 8))), r"takes images .*got shape \(2, 5, 8, 8\)"),
    (lambda: flux.show_heat(np.zeros((41, 8, 8)), np.zeros((41, 8, 8))), "show_heat: 41 pictures are more"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"figures need matplotlib .*pip install 'minitorch-flux\[viz\]'"):
        flux.show_maps(np.zeros((2, 2)))


def test_matplotlib_is_not_imported_before_it_is_needed():
    code = "import sys, minitorch_flux as f; f.show_maps, f.saliency; print('matplotlib' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
