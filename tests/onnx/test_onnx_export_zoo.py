"""The smallest variant of every family of the zoo as ONNX: the checker, ONNX Runtime and this library's reader agree."""

from __future__ import annotations

import numpy as np
import pytest

import minitorch_flux as flux

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_cases import floats
from onnx_export import round_trip, shaken

TINY = {  # of the large ones a variant as small as its builder makes it
    "densenet121": 32, "efficientnet-b0": 32, "efficientnetlite-lite0": 32, "efficientnetv2-small": 32, "googlenet": 32,
    "googlenet-bn": 32, "mnasnet-a1": 32, "mnasnet-b1": 32, "mnasnet-small": 32, "mobilenetv1": 32, "mobilenetv2": 32,
    "mobilenetv3-small": 32, "resnet18": 32, "resnext50-32x4": 32, "res2net50": 32, "res2next50": 32, "seresnet18": 32,
    "seresnext50": 32, "squeezenet": 32, "vit-tiny": 32, "xception": 64, "convmixer-small": 32, "mlpmixer-small": 32,
    "resmlp-small": 32, "gmlp-small": 32, "convnext-tiny": 32,
}  # fmt: skip
LARGE = {"alexnet": 64, "vgg11": 32, "vgg11-bn": 32, "wideresnet50": 32, "resnet50": 64, "inceptionv3": 96, "inceptionv4": 96,
         "inceptionresnetv2": 96}  # fmt: skip


def agrees(name: str, size: int) -> None:
    flux.seed(0)
    model = shaken(flux.models.get_model(name, nclasses=10, imsize=(size, size)), 0.01)
    proto, _ = round_trip(model, floats(0, 1, 3, size, size), others=[(floats(1, 2, 3, size, size),)])
    state = set(model.state_dict())
    assert {t.name for t in proto.graph.initializer if "." in t.name} <= state
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("name", TINY)
def test_a_family_of_the_zoo(name):
    agrees(name, TINY[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_large_family_of_the_zoo(name):
    agrees(name, LARGE[name])


def test_every_family_is_here():
    def family(name: str) -> str:
        stem = name.partition("-")[0].rstrip("0123456789") if name[0] != "i" else name
        return "vgg-bn" if name.startswith("vgg") and name.endswith("bn") else stem

    found = {family(name) for name in (*TINY, *LARGE)}
    assert {family(name) for name in flux.models.list_models()} == found


@pytest.mark.parametrize("model", [
    lambda: (flux.models.LeNet(), (1, 28, 28)),
    lambda: (flux.models.MLP((1, 4, 3), (8,)), (1, 4, 3)),
])  # fmt: skip
def test_the_small_ones(model):
    model, shape = model()
    round_trip(shaken(model), floats(0, 2, *shape), others=[(floats(1, 3, *shape),)])


@pytest.mark.slow
def test_a_unet():
    round_trip(shaken(flux.models.UNet(), 0.01), floats(0, 1, 3, 64, 64))


def test_an_exported_network_trains_when_it_is_read_again(tmp_path):
    flux.seed(0)
    x, y = floats(0, 8, 1, 28, 28), np.arange(8) % 3
    flux.onnx.save(flux.models.LeNet(nclasses=3), tmp_path / "m.onnx", x)
    net = flux.onnx.load(tmp_path / "m.onnx")
    opt = flux.setup(flux.Adam(1e-2), net)
    losses = []
    for _ in range(6):
        loss, grads = flux.withgradient(lambda m: flux.losses.logitcrossentropy(m(x), y), net)
        flux.update(opt, net, grads)
        losses.append(loss)
    assert losses[-1] < 0.9 * losses[0]
