"""The examples, shortened: they do what they say, and leave their pictures."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import minitorch_flux as flux

FOLDER = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(request, monkeypatch):
    """The module of an example, as ``python examples/NAME.py`` finds it."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    monkeypatch.syspath_prepend(FOLDER)
    before = dict(sys.modules)
    settings = pyplot.rcParams.copy()
    yield importlib.import_module(request.param)
    pyplot.close("all")
    pyplot.rcParams.update(settings)
    for name in sys.modules.keys() - before.keys():
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


def of(name):
    return pytest.mark.parametrize("example", [name], indirect=True)


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_each_example_is_a_page(path):
    text = path.read_text()
    assert text.count("\n") < 120
    if "__main__" in text:
        assert f"\n    python examples/{path.name} [" in text


@of("lenet")
def test_lenet_tells_clothes_apart(example, tmp_path, capsys):
    accuracy = example.main(epochs=2, out=tmp_path)
    assert accuracy > 0.7
    assert is_picture(tmp_path / "lenet.png")
    assert f"accuracy on test images {accuracy:.3f}\n" in capsys.readouterr().out


@of("vae")
def test_the_vae_beats_the_mean_image(example, tmp_path, capsys):
    cost, baseline = example.main(epochs=4, out=tmp_path)
    assert cost < baseline
    assert is_picture(tmp_path / "vae.png")
    assert f"test images: {cost:.1f} nats an image; drawing always the mean image: {baseline:.1f}" in capsys.readouterr().out


@of("vae")
def test_the_divergence_is_that_of_gaussians(example):
    model = example.VAE(flux.Generator(0))
    x = np.linspace(0, 1, 3 * example.PIXELS, dtype=np.float32).reshape(3, -1)
    mean, logvar = (t.numpy().astype(np.float64) for t in model.encode(x))
    draws = mean + np.exp(logvar / 2) * np.random.default_rng(0).standard_normal((200_000, 3, 2))
    ratio = -0.5 * ((draws - mean) ** 2 / np.exp(logvar) + logvar) + 0.5 * draws**2  # log q(z | x) - log N(z; 0, 1)
    assert model.terms(x)[1].item() == pytest.approx(ratio.sum(-1).mean(), abs=0.01)


@of("dcgan")
def test_the_dcgan_invents_images(example, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(example, "WIDTH", 4)
    real, made = example.main(epochs=1, out=tmp_path)
    assert made.shape == (80, 28, 28)
    assert real.shape == (2000, 28, 28)
    assert max(np.abs(real).max(), np.abs(made).max()) <= 1
    assert made.std(0).mean() > 0.001
    assert is_picture(tmp_path / "dcgan.png")
    assert "epoch   1: generator " in capsys.readouterr().out


@of("dcgan")
def test_the_verdict_is_about_the_class_in_question(example):
    logits = np.random.default_rng(0).standard_normal((3, 10)).astype(np.float32)
    p = 1 / (1 + np.exp(-logits[[0, 1, 2], [7, 0, 7]]))
    found = example.verdict(lambda x: x, flux.tensor(logits), flux.onehotbatch([7, 0, 7], 10), 0.9)
    assert found.item() == pytest.approx(-(0.9 * np.log(p) + 0.1 * np.log(1 - p)).mean(), rel=1e-5)


@of("names")
def test_names_to_languages_beats_the_commonest_language(example, tmp_path, capsys):
    accuracy, baseline = example.main(epochs=2, out=tmp_path)
    assert baseline < 0.2
    assert accuracy > 0.5
    assert is_picture(tmp_path / "names.png")
    assert f"the GRU: accuracy {accuracy:.3f}" in capsys.readouterr().out


@of("characters")
def test_the_character_lstm_learns_and_writes(example, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(example, "HIDDEN", 128)
    perplexity, best, sample = example.main(steps=60, out=tmp_path)
    assert best < 5
    assert perplexity < 20  # that of counting single characters is 26
    assert is_picture(tmp_path / "characters.png")
    assert len(sample) == 800
    assert sample in capsys.readouterr().out


@of("gpt")
def test_the_gpt_learns_and_writes(example, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(example, "WIDTH", 64)
    monkeypatch.setattr(example, "CONTEXT", 64)
    perplexity, sample = example.main(steps=60, out=tmp_path)
    assert perplexity < 20
    assert is_picture(tmp_path / "gpt.png")
    assert len(sample) == 800
    assert sample in capsys.readouterr().out


@of("gpt")
def test_the_gpt_sees_no_later_characters(example):
    flux.seed(0)
    model, x = example.GPT(), np.arange(12).reshape(2, 6)
    changed = x.copy()
    changed[:, 4:] = 50
    before, after = model(x).numpy(), model(changed).numpy()
    np.testing.assert_allclose(after[:, :4], before[:, :4], rtol=1e-5, atol=1e-5)
    assert (after[:, 4:] != before[:, 4:]).all()


@of("manual")
def test_counting_gives_the_perplexities_of_its_formula(example):
    train, test = np.array([0, 1, 0, 1, 0, 2]), np.array([0, 1, 0, 7])
    n = len(example.ALPHABET)
    p = {c: (k + 3 / n) / (6 + 3) for c, k in {0: 3, 1: 2, 2: 1}.items()} | {7: 3 / n / 9}  # 3 of 6 are 0; there are 3 kinds
    assert example.counted(train, test, 0) == pytest.approx(np.exp(-np.mean(np.log([p[0], p[1], p[0], p[7]]))))
    p = {0: (2 + 3 / n) / (5 + 3), 1: (2 + 3 / n) / (5 + 3)} | {c: 3 / n / (5 + 3) for c in (5, 7)}  # without the first place
    q = [(2 + 2 * p[1]) / (3 + 2), (2 + 1 * p[0]) / (2 + 1), 2 * p[7] / (3 + 2)]  # 1 after 0, 0 after 1, 7 after 0
    assert example.counted(train, test, 1) == pytest.approx(np.exp(-np.mean(np.log(q))))
    assert example.counted(train, np.array([5, 5, 1]), 1) == pytest.approx(np.exp(-np.mean(np.log([p[5], p[1]]))))


@of("characters")
def test_streams_go_on_where_they_were(example):
    pieces = list(example.batches(np.arange(21), 2, 5))
    assert pieces[0][0].tolist() == [[0, 10], [1, 11], [2, 12], [3, 13], [4, 14]]
    assert pieces[1][0][0].tolist() == [5, 15]
    assert all((y == x + 1).all() for x, y in pieces)


@of("vit")
def test_the_vit_reads_digits(example, tmp_path, capsys):
    accuracy, nearest = example.main(epochs=4, out=tmp_path)
    assert nearest > 0.98
    assert accuracy > 0.3
    assert is_picture(tmp_path / "vit.png")
    assert f"accuracy on test images {accuracy:.3f}" in capsys.readouterr().out


@of("timeseries")
def test_the_forecast_knows_more_than_yesterday(example, tmp_path, capsys):
    errors, covered = example.main(epochs=1, out=tmp_path)
    assert errors["GRU"] < errors["as yesterday"]
    assert 0.4 < covered < 0.95
    assert is_picture(tmp_path / "timeseries.png")
    assert f"GRU: wrong by {errors['GRU']:.1f} bicycles" in capsys.readouterr().out


@of("timeseries")
def test_the_forecast_is_made_of_the_past(example):
    counts = np.arange(40 * 24.0)
    first = np.array([30 * 24])
    (x, y), changed = example.windows(example.features(counts), first), counts.copy()
    changed[30 * 24 :] = 7
    np.testing.assert_array_equal(example.windows(example.features(changed), first)[0], x)
    np.testing.assert_allclose((10 * y[:, 0]) ** 2, counts[30 * 24 : 31 * 24], rtol=1e-5)
    truth = np.linspace(0, 1, 1001)[:, None]
    losses = [example.pinball(flux.tensor(np.full((1001, 1, 3), q)), truth, 0.7).item() for q in (0.6, 0.7, 0.8)]
    assert losses[1] < min(losses[0], losses[2])


@of("membrane")
def test_the_membrane_obeys_its_equation(example, tmp_path, capsys):
    error = example.main(steps=150, out=tmp_path)
    assert error < 0.2
    assert is_picture(tmp_path / "membrane.png")
    assert "step   100: the equation is off by" in capsys.readouterr().out


@of("membrane")
def test_the_residual_is_the_equation(example, monkeypatch):
    p = np.random.default_rng(0).uniform(-1, 1, (5, 2))
    monkeypatch.setattr(example, "load", lambda p: 3.0)
    x, y = p.T
    np.testing.assert_allclose(  # u = (1 - x^2)(1 - y^2) x
        example.residual(lambda p: p[:, :1], p), -6 * x * (1 - y**2) - 2 * x * (1 - x**2) + 3, rtol=1e-10
    )


@of("photographs")
def test_photographs_are_named(example, tmp_path, capsys):
    import skimage.data
    from PIL import Image

    Image.fromarray(skimage.data.coffee()).save(tmp_path / "cup.png")
    (likeliest, second, _), = example.main(files=[tmp_path / "cup.png"], out=tmp_path).values()
    assert likeliest[0] == "espresso"
    assert likeliest[1] > 0.9 > 0.1 > second[1]
    assert is_picture(tmp_path / "photographs.png")
    assert "loaded 247 arrays by order\ncup: espresso 9" in capsys.readouterr().out


@of("transfer")
def test_published_weights_are_fine_tuned(example, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(example, "TESTED", 12)
    fine, scratch = example.main(epochs=(1, 1), images=24, size=48, out=tmp_path)
    assert len(fine) == len(scratch) == 2
    assert all(0 <= accuracy <= 1 for accuracy in fine + scratch)
    assert is_picture(tmp_path / "transfer.png")
    said = capsys.readouterr().out
    assert "loaded 245 arrays by order\nunused: _fc.weight, _fc.bias\nmissing: classifier.last.weight, " in said
    assert f"accuracy: {fine[-1]:.3f} with ImageNet's weights, {scratch[-1]:.3f} from scratch" in said


@of("transfer")
def test_the_backbone_is_frozen_first_and_thawed_then(example, monkeypatch):
    seen = []

    def train(model, *_):
        seen.append((model.backbone.stem.conv.weight.requires_grad, model.classifier.last.weight.requires_grad,
                     model.backbone.stem.norm.active))
        return [0.5]

    monkeypatch.setattr(example, "train", train)
    model, accuracies = example.transferred(None, None, (1, 1), 0)
    assert seen == [(False, True, False), (True, True, False)]
    assert accuracies == [0.5, 0.5]
    assert model.classifier.last.weight.shape == (2, 1280)


@of("transfer")
def test_solar_cells_are_dealt_once_and_turned_without_loss(example):
    (x, y), (x_test, y_test) = example.solar_cells(5, 16, seed=0)
    assert x.shape == (10, 16, 16)
    assert x_test.shape == (2 * example.TESTED, 16, 16)
    assert np.bincount(y).tolist() == [5, 5]
    assert np.bincount(y_test).tolist() == [example.TESTED] * 2
    assert not any((x_test == image).all((1, 2)).any() for image in x)  # none is in both
    turned = example.turned(x, np.random.default_rng(0))
    assert (np.sort(turned.reshape(10, -1)) == np.sort(x.reshape(10, -1))).all()
    assert len({t.tobytes() for t in example.turned(np.repeat(x[:1], 60, 0), np.random.default_rng(0))}) == 8
