"""``minitorch-flux summary``."""

import pytest

from minitorch_flux.cli import main


def test_resnet50(capsys):
    assert main(["summary", "resnet50", "--shape", "3,224,224"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("resnet50, Network for (1, 3, 224, 224) float32\n")
    assert "25,557,032" in text
    assert "backbone.stage1.0" in text
    assert "memory of a step" in text
    assert max(map(len, text.splitlines()[:-8])) < 150


def test_options(capsys):
    assert main(["summary", "lenet", "--batch", "64", "--depth", "1", "--optimiser", "adam", "--classes", "5"]) == 0
    text = capsys.readouterr().out
    assert "(64, 5)" in text
    assert "Adam(" in text
    assert main(["summary", "mlp", "--depth", "1"]) == 0
    assert "(1, 10)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary"], "the following arguments are required: MODEL"),
        (["summary", "resnet5"], "there is no model 'resnet5'"),
        (["summary", "lenet", "--shape", "1,8,8"], "images of 8 x 8 (height x width) are too small"),
        (["summary", "lenet", "--shape", "28,28"], "expected channels, height and width of an image"),
        (["summary", "lenet", "--shape", "a"], "expected channels, height and width of an image"),
    ],
)
def test_wrong_input(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
