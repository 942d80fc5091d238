"""Inverted residual networks in plain PyTorch, block by block from the papers' tables: the independent builds that ours are
compared with."""

import numpy as np
import pytest

import minitorch_flux as flux

torch = pytest.importorskip("torch")
nn = torch.nn


class Same(nn.Module):
    """TensorFlow's padding before a convolution."""

    def __init__(self, kernel, stride):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        widths = []
        for size in reversed(x.shape[2:]):
            needed = max((-(-size // self.stride) - 1) * self.stride + self.kernel - size, 0)
            widths += [needed // 2, needed - needed // 2]
        return nn.functional.pad(x, widths)


def conv_bn(kernel, inplanes, planes, stride=1, groups=1, act=None, same=False, **norm):
    before = [Same(kernel, stride)] if same else []
    conv = nn.Conv2d(inplanes, planes, kernel, stride, 0 if same else kernel // 2, groups=groups, bias=False)
    return [*before, conv, nn.BatchNorm2d(planes, **norm), *([act()] if act else [])]


class HardSigmoid(nn.Module):
    """PyTorch's own is exact to float32 only."""

    def forward(self, x):
        return torch.clamp(x + 3, 0, 6) / 6


class HardSwish(nn.Module):
    def forward(self, x):
        return x * torch.clamp(x + 3, 0, 6) / 6


class Gate(nn.Module):
    def __init__(self, planes, squeezed, act, gate):
        super().__init__()
        self.down, self.up, self.act, self.gate = nn.Conv2d(planes, squeezed, 1), nn.Conv2d(squeezed, planes, 1), act(), gate()

    def forward(self, x):
        return x * self.gate(self.up(self.act(self.down(x.mean((2, 3), keepdim=True)))))


class Residual(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


def inverted(kernel, inplanes, wide, planes, stride=1, act=nn.ReLU6, squeezed=0, se_act=None, gate=nn.Sigmoid, **keywords):
    """One block: ``wide`` planes inside, ``squeezed`` planes in its squeeze and excitation, if any."""
    layers = [] if wide == inplanes else conv_bn(1, inplanes, wide, act=act, **keywords)
    layers += conv_bn(kernel, wide, wide, stride, wide, act, **keywords)
    layers += [Gate(wide, squeezed, se_act or act, gate)] if squeezed else []
    layers += conv_bn(1, wide, planes, **keywords)
    return [Residual(*layers)] if stride == 1 and inplanes == planes else layers


def fused(inplanes, wide, planes, stride=1, **norm):
    layers = conv_bn(3, inplanes, planes if wide == inplanes else wide, stride, act=nn.SiLU, **norm)
    layers += [] if wide == inplanes else conv_bn(1, wide, planes, **norm)
    return [Residual(*layers)] if stride == 1 and inplanes == planes else layers


def scores(planes, nclasses, *hidden):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *hidden, nn.Linear(planes, nclasses)]


def mobilenet_v1(nclasses):
    layers, planes = conv_bn(3, 3, 32, 2, act=nn.ReLU6), 32
    for out, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *5 * [(512, 1)], (1024, 2), (1024, 1)]:
        layers += conv_bn(3, planes, planes, stride, planes, nn.ReLU6) + conv_bn(1, planes, out, act=nn.ReLU6)
        planes = out
    return nn.Sequential(*layers, *scores(1024, nclasses))


def mobilenet_v2(nclasses):
    layers, planes = conv_bn(3, 3, 32, 2, act=nn.ReLU6), 32
    for t, c, n, s in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                       (6, 320, 1, 1)]:  # fmt: skip
        for i in range(n):
            layers += inverted(3, planes, planes * t, c, 1 if i else s)
            planes = c
    return nn.Sequential(*layers, *conv_bn(1, 320, 1280, act=nn.ReLU6), *scores(1280, nclasses))


def mobilenet_v3_small(nclasses):
    norm = {"eps": 1e-3, "momentum": 0.01}
    layers, planes = conv_bn(3, 3, 16, 2, act=HardSwish, **norm), 16
    for kernel, wide, out, squeezed, act, stride in [
        (3, 16, 16, 8, nn.ReLU, 2), (3, 72, 24, 0, nn.ReLU, 2), (3, 88, 24, 0, nn.ReLU, 1), (5, 96, 40, 24, HardSwish, 2),
        (5, 240, 40, 64, HardSwish, 1), (5, 240, 40, 64, HardSwish, 1), (5, 120, 48, 32, HardSwish, 1),
        (5, 144, 48, 40, HardSwish, 1), (5, 288, 96, 72, HardSwish, 2), (5, 576, 96, 144, HardSwish, 1),
        (5, 576, 96, 144, HardSwish, 1),
    ]:  # fmt: skip
        layers += inverted(kernel, planes, wide, out, stride, act, squeezed, nn.ReLU, HardSigmoid, **norm)
        planes = out
    hidden = [nn.Linear(576, 1024), HardSwish()]
    return nn.Sequential(*layers, *conv_bn(1, 96, 576, act=HardSwish, **norm), *scores(1024, nclasses, *hidden))


def mnasnet_a1(nclasses):
    norm = {"momentum": 0.0003}
    layers, planes = conv_bn(3, 3, 32, 2, act=nn.ReLU, **norm), 32
    for kernel, t, c, n, s, gated in [(3, 1, 16, 1, 1, 0), (3, 6, 24, 2, 2, 0), (5, 3, 40, 3, 2, 1), (3, 6, 80, 4, 2, 0),
                                      (3, 6, 112, 2, 1, 1), (5, 6, 160, 3, 2, 1), (3, 6, 320, 1, 1, 0)]:  # fmt: skip
        for i in range(n):
            layers += inverted(kernel, planes, planes * t, c, 1 if i else s, nn.ReLU, gated * planes // 4, **norm)
            planes = c
    return nn.Sequential(*layers, *conv_bn(1, 320, 1280, act=nn.ReLU, **norm), *scores(1280, nclasses))


def efficientnet(nclasses, *, gated, act, **keywords):
    """b0, or lite0."""
    layers, planes = conv_bn(3, 3, 32, 2, act=act, **keywords), 32
    for kernel, t, c, n, s in [(3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (5, 6, 40, 2, 2), (3, 6, 80, 3, 2), (5, 6, 112, 3, 1),
                               (5, 6, 192, 4, 2), (3, 6, 320, 1, 1)]:  # fmt: skip
        for i in range(n):
            layers += inverted(kernel, planes, planes * t, c, 1 if i else s, act, gated * planes // 4, **keywords)
            planes = c
    return nn.Sequential(*layers, *conv_bn(1, 320, 1280, act=act, **keywords), *scores(1280, nclasses))


def efficientnet_b0(nclasses):
    return efficientnet(nclasses, gated=1, act=nn.SiLU)


def efficientnet_lite0(nclasses):
    return efficientnet(nclasses, gated=0, act=nn.ReLU6, same=True, eps=1e-3)


def efficientnet_v2_s(nclasses, rows=(
    (0, 1, 24, 2, 1), (0, 4, 48, 4, 2), (0, 4, 64, 4, 2), (1, 4, 128, 6, 2), (1, 6, 160, 9, 1), (1, 6, 256, 15, 2),
)):  # fmt: skip
    norm = {"eps": 1e-3}
    layers, planes = conv_bn(3, 3, 24, 2, act=nn.SiLU, **norm), 24
    for gated, t, c, n, s in rows:
        for i in range(n):
            stride = 1 if i else s
            if gated:
                layers += inverted(3, planes, planes * t, c, stride, nn.SiLU, planes // 4, **norm)
            else:
                layers += fused(planes, planes * t, c, stride, **norm)
            planes = c
    return nn.Sequential(*layers, *conv_bn(1, planes, 1280, act=nn.SiLU, **norm), *scores(1280, nclasses))


def largest_error(ours, theirs, x, train=False):
    """Ours with the weights of theirs, in float64: how far output, gradients (by the input and by all weights) and running
    statistics are apart, relative to the largest number of each array."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    theirs, ours = theirs.double(), flux.f64(ours)
    for layer in theirs.modules():  # norms that do something
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.normal_(layer.bias, 0, 0.2)
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.8, 1.2)
    arrays = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    names = dict(zip(ours.state_dict(), arrays, strict=True))
    ours.load_state_dict({k: arrays[name].numpy() for k, name in names.items()})
    theirs.train(train)
    flux.testmode(ours, not train)
    t = torch.from_numpy(x.astype(np.float64)).requires_grad_()
    wanted = theirs(t)
    dy = rng.standard_normal(tuple(wanted.shape))
    (wanted * torch.from_numpy(dy)).sum().backward()
    z = flux.tensor(x.astype(np.float64), requires_grad=True)
    with flux.record():
        y = ours(z)
        (y * dy).sum().backward()
    state, grads = theirs.state_dict(), {k: p.grad.numpy() for k, p in theirs.named_parameters()}
    floor = 1e-3 * max(np.abs(g).max() for g in grads.values()) if train else 0  # batch norms make some gradients zero
    errors = [relative(y.numpy(), wanted.detach().numpy()), relative(z.grad, t.grad.numpy())]
    errors += [relative(p.grad, grads[names[k]], floor) for k, p in ours.named_parameters()]
    return max(errors + [relative(b.numpy(), state[names[k]].numpy()) for k, b in ours.named_buffers()])


def relative(a, b, floor=0.0):
    assert a.shape == b.shape
    assert np.abs(b).max() > 0
    return np.abs(a - b).max() / max(np.abs(b).max(), floor)
