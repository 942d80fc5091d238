"""The pictures: for every kind of data there is one, and the words in them are true."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from minitorch_flux.cli import pictures
from minitorch_flux.data import ImageDataset, Split

RNG = np.random.default_rng(0)
HISTORY = [
    {"epoch": i, "loss": 2 / i, "accuracy": (i - 1) / 10, "test_loss": 2.1 / i, "test_accuracy": (i - 1) / 11}
    for i in range(1, 7)
]
TITLE = ("A network on some data", "test accuracy 0.5")


def dataset(n=60, classes=10, shape=(1, 28, 28)):
    split = Split(RNG.integers(0, 256, (n, *shape)).astype(np.uint8), np.arange(n) % classes)
    return ImageDataset("some data", split, split, tuple(f"class {i}" for i in range(classes)), (0.5,), (0.5,))


def scores_for(images, right):
    """Scores that are right for the first so many images."""
    y = images.test.labels
    found = np.where(np.arange(len(y)) < right, y, (y + 1) % len(images.classes))
    return np.eye(len(images.classes))[found] * RNG.uniform(1, 5, (len(y), 1))


def words(figure):
    """Every text of a figure, its axes included."""
    return [t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")) if t.get_text()]


def size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


@pytest.mark.parametrize(
    ("n", "classes", "shape", "right"),
    [
        (60, 10, (1, 28, 28), 40),
        (60, 10, (3, 32, 32), 0),
        (60, 10, (1, 8, 8), 60),
        (3, 2, (1, 12, 5), 2),
        (80, 40, (1, 9, 9), 50),
        (1, 1, (1, 8, 8), 1),
    ],
)
def test_three_pictures(n, classes, shape, right, tmp_path):
    images = dataset(n, classes, shape)
    pictures.draw(tmp_path, HISTORY[: 1 if n == 3 else 6], images, scores_for(images, right), TITLE)
    assert {p.name for p in tmp_path.iterdir()} == {"curves.png", "confusion.png", "predictions.png"}
    for path in tmp_path.iterdir():
        width, height = size(path)
        assert 1000 <= width <= 2000
        assert 600 <= height <= 1400
        assert path.stat().st_size > 10_000


def test_curves_are_labelled_with_their_last_values():
    found = words(pictures.curves(HISTORY, TITLE))
    for text in (*TITLE, "loss", "accuracy", "epoch", "train\n0.333", "test\n0.350", "train\n0.500", "test\n0.455"):
        assert text in found


def test_close_labels_are_moved_apart():
    history = [{**row, "test_loss": row["loss"], "test_accuracy": row["accuracy"]} for row in HISTORY]
    for ax in pictures.curves(history, TITLE).axes:
        places = [t.xy[1] for t in ax.texts]
        low, high = ax.get_ylim()
        assert abs(places[0] - places[1]) == pytest.approx(0.115 * (high - low))


def test_the_confusion_matrix_shows_counts_by_name():
    images = dataset(30, 3)
    found = words(pictures.confusion(scores_for(images, 15), images, TITLE))
    assert found.count("5") == 6
    assert {"class 0", "class 1", "class 2", "taken for", "is a", *TITLE} <= set(found)


def test_many_classes_are_not_named():
    images = dataset(80, 40)
    assert "class 3" not in words(pictures.confusion(scores_for(images, 50), images, TITLE))


def test_predictions_say_what_is_right_and_what_is_wrong():
    images = dataset(60, 10)
    scores = scores_for(images, 35)
    found = words(pictures.predictions(scores, images, TITLE))
    assert "right: 35 of 60" in found
    assert "wrong: 25 of 60" in found
    assert sum(t.startswith("is: ") for t in found) == 20
    sure = [int(t.rpartition(" ")[2][:-1]) for t in found if t.endswith("%")]
    assert len(sure) == 40
    assert sure[20:] == sorted(sure[20:], reverse=True)
    assert len(pictures.predictions(scores, images, TITLE).axes[0].images) == 40


def test_classes_take_turns():
    y = np.array([0, 0, 0, 2, 2, 1])
    assert y[pictures._by_turns(np.arange(6), y)].tolist() == [0, 1, 2, 0, 2, 0]
    assert pictures._by_turns(np.arange(0), y[:0]).tolist() == []


def test_confidence_is_the_softmax():
    scores = np.array([[1000.0, 0.0], [0.0, 1.0], [-1e4, -1e4]], np.float32)
    sure, found = pictures._confidence(scores)
    np.testing.assert_allclose(sure, [1, np.e / (1 + np.e), 0.5], rtol=1e-6)
    assert found.tolist() == [0, 1, 0]


def test_the_users_style_is_left_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    images = dataset()
    pictures.draw(tmp_path, HISTORY, images, scores_for(images, 30), TITLE)
    assert dict(matplotlib.rcParams) == before


def test_the_same_run_gives_the_same_pictures(tmp_path):
    images = dataset()
    scores = scores_for(images, 30)
    for name in "ab":
        (tmp_path / name).mkdir()
        pictures.draw(tmp_path / name, HISTORY, images, scores, TITLE)
    for name in ("curves", "confusion", "predictions"):
        assert (tmp_path / "a" / f"{name}.png").read_bytes() == (tmp_path / "b" / f"{name}.png").read_bytes()
