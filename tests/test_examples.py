"""The examples, shortened: they do what they say, and leave their pictures."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(request, monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    spec = importlib.util.spec_from_file_location(f"example_{request.param}", FOLDER / f"{request.param}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


@pytest.mark.parametrize("example", ["names"], indirect=True)
def test_names_to_languages_beats_the_commonest_language(example, tmp_path, capsys):
    accuracy, baseline = example.main(epochs=2, out=tmp_path)
    assert baseline < 0.2
    assert accuracy > 0.5
    assert is_picture(tmp_path / "confusion.png")
    assert is_picture(tmp_path / "reading.png")
    assert f"the GRU: accuracy {accuracy:.3f}" in capsys.readouterr().out


@pytest.mark.parametrize("example", ["characters"], indirect=True)
def test_the_character_lstm_beats_the_bigrams_and_writes(example, tmp_path, capsys):
    perplexity, bigrams = example.main(steps=100, out=tmp_path)
    assert perplexity < bigrams
    assert is_picture(tmp_path / "perplexity.png")
    assert is_picture(tmp_path / "surprise.png")
    sample = (tmp_path / "sample.txt").read_text()
    assert len(sample) == 800
    assert sample in capsys.readouterr().out
    assert {"the", "of", "to", "is", "a"} & set(sample.split())


@pytest.mark.parametrize("example", ["characters"], indirect=True)
def test_counting_gives_the_perplexities_of_its_formula(example):
    import numpy as np

    train, test = np.array([0, 1, 0, 1, 0, 2]), np.array([0, 1, 0])
    n = len(example.ALPHABET)
    p = [(2 + 0.1) / (3 + 0.1 * n), (2 + 0.1) / (2 + 0.1 * n)]  # 1 after 0, 0 after 1
    assert example.counted(train, test, 1) == pytest.approx(np.exp(-np.mean(np.log(p))))
    q = [(2 + 0.1) / (5 + 0.1 * n), (2 + 0.1) / (5 + 0.1 * n)]
    assert example.counted(train, test, 0) == pytest.approx(np.exp(-np.mean(np.log(q))))
    x, y = next(example.batches(np.arange(21), 2, 5))
    assert x.tolist() == [[0, 10], [1, 11], [2, 12], [3, 13], [4, 14]]
    assert (y == x + 1).all()


@pytest.mark.parametrize("example", ["photographs"], indirect=True)
def test_photographs_are_named(example, tmp_path, capsys):
    import skimage.data
    from PIL import Image

    Image.fromarray(skimage.data.coffee()).save(tmp_path / "cup.png")
    (likeliest, second, _), = example.main(files=[tmp_path / "cup.png"], out=tmp_path).values()
    assert likeliest[0] == "espresso"
    assert likeliest[1] > 0.9 > 0.1 > second[1]
    assert is_picture(tmp_path / "photographs.png")
    assert "loaded 247 arrays by order\ncup: espresso 9" in capsys.readouterr().out
