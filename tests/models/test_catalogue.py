"""The zoo by names."""

import pytest

import minitorch_flux as flux
from minitorch_flux import models
from minitorch_flux.models import catalogue, get_model, list_models


@pytest.mark.parametrize("name", list_models())
def test_every_name_builds_a_classifier_of_images_and_classes(name):
    with flux.shapes_only():
        m = get_model(name, inchannels=1, nclasses=7)
    assert (m.inchannels, m.nclasses) == (1, 7)
    assert flux.outputsize(m, (2, 1, *(m.imsize or (224, 224)))) == (2, 7)


def test_a_name_is_short_for_its_family_s_call():
    with flux.shapes_only():
        for name, m in {
            "resnet18": models.ResNet(18),
            "vgg11-bn": models.VGG(11, batchnorm=True),
            "resnext50-64x4": models.ResNeXt(50, cardinality=64, base_width=4),
            "efficientnet-b0": models.EfficientNet("b0"),
            "mnasnet-a1": models.MNASNet("A1"),
            "vit-base-32": models.ViT("base", patch_size=(32, 32)),
        }.items():
            assert repr(get_model(name)) == repr(m)


def test_every_family_of_the_zoo_is_in_it():
    """Whatever ``models`` exports that begins with a capital is a family with a name here, but for what is no classifier."""
    others = {"LeNet", "MLP", "Network", "Layers", "UNet"}
    families = {getattr(build, "func", build).__name__ for build in catalogue.ZOO.values()}
    assert families == {name for name in models.__all__ if name[0].isupper() or name == "gMLP"} - others


def test_patterns():
    assert list_models("ResNet1*") == ["resnet18", "resnet101", "resnet152"]
    assert list_models("nothing*") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [("resnet19", "there is no model 'resnet19'; did you mean resnet"), ("ViT", "did you mean vit-tiny"),
     ("?", r"there is no model '\?'; list_models\(\) returns the names")],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        get_model(name)
