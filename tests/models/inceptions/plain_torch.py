"""The Inception networks in plain PyTorch, written from the papers and the authors' implementations.

``w`` gives the planes of a thinner network.
"""

import pytest

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional


class Conv(nn.Module):
    """A convolution with norm and relu; ``norm=False``: with bias and relu."""

    def __init__(self, inplanes, planes, kernel, stride=1, padding=0, norm=True):
        super().__init__()
        self.conv = nn.Conv2d(inplanes, planes, kernel, stride, padding, bias=not norm)
        self.norm = nn.BatchNorm2d(planes, eps=1e-3) if norm else nn.Identity()

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))


class Side(nn.Module):
    """Branches side by side."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(b if isinstance(b, nn.Module) else nn.Sequential(*b) for b in branches)

    def forward(self, x):
        return torch.cat([b(x) for b in self.branches], 1)


def head(planes, nclasses):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(planes, nclasses)]


def googlenet(w, nclasses, norm):
    def conv(i, o, k, stride=1):
        return Conv(i, w(o), k, stride, k // 2, norm)

    def block(i, a, b1, b2, c1, c2, d):
        return Side(conv(i, a, 1), [conv(i, b1, 1), conv(w(b1), b2, 3)], [conv(i, c1, 1), conv(w(c1), c2, 5)],
                    [nn.MaxPool2d(3, 1, 1), conv(i, d, 1)])  # fmt: skip

    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    def total(a, b, c, d):
        return w(a) + w(b) + w(c) + w(d)

    after3a, after3b, after4a = total(64, 128, 32, 32), total(128, 192, 96, 64), total(192, 208, 48, 64)
    after4b, after4c, after4d = total(160, 224, 64, 64), total(128, 256, 64, 64), total(112, 288, 64, 64)
    after4e, after5b = total(256, 320, 128, 128), total(384, 384, 128, 128)
    return nn.Sequential(
        conv(3, 64, 7, 2), pool(), conv(w(64), 64, 1), conv(w(64), 192, 3), pool(),
        block(w(192), 64, 96, 128, 16, 32, 32), block(after3a, 128, 128, 192, 32, 96, 64), pool(),
        block(after3b, 192, 96, 208, 16, 48, 64), block(after4a, 160, 112, 224, 24, 64, 64),
        block(after4b, 128, 128, 256, 24, 64, 64), block(after4c, 112, 144, 288, 32, 64, 64),
        block(after4d, 256, 160, 320, 32, 128, 128), pool(),
        block(after4e, 256, 160, 320, 32, 128, 128), block(after4e, 384, 192, 384, 48, 128, 128), *head(after5b, nclasses),
    )  # fmt: skip


def inception_v3(w, nclasses):
    def mean():
        return nn.AvgPool2d(3, 1, 1)

    def a(i, pool):
        return Side(Conv(i, w(64), 1), [Conv(i, w(48), 1), Conv(w(48), w(64), 5, 1, 2)],
                    [Conv(i, w(64), 1), Conv(w(64), w(96), 3, 1, 1), Conv(w(96), w(96), 3, 1, 1)],
                    [mean(), Conv(i, w(pool), 1)])  # fmt: skip

    def b(i):
        return Side(Conv(i, w(384), 3, 2), [Conv(i, w(64), 1), Conv(w(64), w(96), 3, 1, 1), Conv(w(96), w(96), 3, 2)],
                    nn.MaxPool2d(3, 2))  # fmt: skip

    def c(i, n):
        n = w(n)
        return Side(Conv(i, w(192), 1),
                    [Conv(i, n, 1), Conv(n, n, (1, 7), 1, (0, 3)), Conv(n, w(192), (7, 1), 1, (3, 0))],
                    [Conv(i, n, 1), Conv(n, n, (7, 1), 1, (3, 0)), Conv(n, n, (1, 7), 1, (0, 3)),
                     Conv(n, n, (7, 1), 1, (3, 0)), Conv(n, w(192), (1, 7), 1, (0, 3))],
                    [mean(), Conv(i, w(192), 1)])  # fmt: skip

    def d(i):
        n = w(192)
        return Side([Conv(i, n, 1), Conv(n, w(320), 3, 2)],
                    [Conv(i, n, 1), Conv(n, n, (1, 7), 1, (0, 3)), Conv(n, n, (7, 1), 1, (3, 0)), Conv(n, n, 3, 2)],
                    nn.MaxPool2d(3, 2))  # fmt: skip

    def e(i):
        n = w(384)

        def ends():
            return Side(Conv(n, n, (1, 3), 1, (0, 1)), Conv(n, n, (3, 1), 1, (1, 0)))

        return Side(Conv(i, w(320), 1), [Conv(i, n, 1), ends()], [Conv(i, w(448), 1), Conv(w(448), n, 3, 1, 1), ends()],
                    [mean(), Conv(i, w(192), 1)])  # fmt: skip

    after = [w(192), 2 * w(64) + w(96) + w(32), 3 * w(64) + w(96)]
    reduced, c_out = w(384) + w(96) + after[2], 4 * w(192)
    last, wide = w(320) + w(192) + c_out, w(320) + 4 * w(384) + w(192)
    return nn.Sequential(
        Conv(3, w(32), 3, 2), Conv(w(32), w(32), 3), Conv(w(32), w(64), 3, 1, 1), nn.MaxPool2d(3, 2),
        Conv(w(64), w(80), 1), Conv(w(80), w(192), 3), nn.MaxPool2d(3, 2), a(after[0], 32), a(after[1], 64), a(after[2], 64),
        b(after[2]), c(reduced, 128), c(c_out, 160), c(c_out, 160), c(c_out, 192), d(c_out), e(last), e(wide),
        *head(wide, nclasses),
    )  # fmt: skip


def mean_without_padding():
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)


def inception_v4(w, nclasses):
    def a(i):
        return Side(Conv(i, w(96), 1), [Conv(i, w(64), 1), Conv(w(64), w(96), 3, 1, 1)],
                    [Conv(i, w(64), 1), Conv(w(64), w(96), 3, 1, 1), Conv(w(96), w(96), 3, 1, 1)],
                    [mean_without_padding(), Conv(i, w(96), 1)])  # fmt: skip

    def reduction_a(i):
        return Side(Conv(i, w(384), 3, 2), [Conv(i, w(192), 1), Conv(w(192), w(224), 3, 1, 1), Conv(w(224), w(256), 3, 2)],
                    nn.MaxPool2d(3, 2))  # fmt: skip

    def b(i):
        return Side(Conv(i, w(384), 1),
                    [Conv(i, w(192), 1), Conv(w(192), w(224), (1, 7), 1, (0, 3)), Conv(w(224), w(256), (7, 1), 1, (3, 0))],
                    [Conv(i, w(192), 1), Conv(w(192), w(192), (7, 1), 1, (3, 0)), Conv(w(192), w(224), (1, 7), 1, (0, 3)),
                     Conv(w(224), w(224), (7, 1), 1, (3, 0)), Conv(w(224), w(256), (1, 7), 1, (0, 3))],
                    [mean_without_padding(), Conv(i, w(128), 1)])  # fmt: skip

    def reduction_b(i):
        return Side([Conv(i, w(192), 1), Conv(w(192), w(192), 3, 2)],
                    [Conv(i, w(256), 1), Conv(w(256), w(256), (1, 7), 1, (0, 3)), Conv(w(256), w(320), (7, 1), 1, (3, 0)),
                     Conv(w(320), w(320), 3, 2)], nn.MaxPool2d(3, 2))  # fmt: skip

    def c(i):
        def ends(n):
            return Side(Conv(n, w(256), (1, 3), 1, (0, 1)), Conv(n, w(256), (3, 1), 1, (1, 0)))

        return Side(Conv(i, w(256), 1), [Conv(i, w(384), 1), ends(w(384))],
                    [Conv(i, w(384), 1), Conv(w(384), w(448), (3, 1), 1, (1, 0)), Conv(w(448), w(512), (1, 3), 1, (0, 1)),
                     ends(w(512))], [mean_without_padding(), Conv(i, w(256), 1)])  # fmt: skip

    after3a = w(64) + w(96)
    after5a = 2 * w(96) + w(192)
    after_a, after_b = 4 * w(96), w(384) + 2 * w(256) + w(128)
    reduced_a = w(384) + w(256) + after_a
    reduced_b, after_c = w(192) + w(320) + after_b, 6 * w(256)
    return nn.Sequential(
        Conv(3, w(32), 3, 2), Conv(w(32), w(32), 3), Conv(w(32), w(64), 3, 1, 1),
        Side(nn.MaxPool2d(3, 2), Conv(w(64), w(96), 3, 2)),
        Side([Conv(after3a, w(64), 1), Conv(w(64), w(96), 3)],
             [Conv(after3a, w(64), 1), Conv(w(64), w(64), (1, 7), 1, (0, 3)), Conv(w(64), w(64), (7, 1), 1, (3, 0)),
              Conv(w(64), w(96), 3)]),
        Side(Conv(2 * w(96), w(192), 3, 2), nn.MaxPool2d(3, 2)),
        a(after5a), a(after_a), a(after_a), a(after_a), reduction_a(after_a),
        b(reduced_a), *(b(after_b) for _ in range(6)), reduction_b(after_b), c(reduced_b), c(after_c), c(after_c),
        *head(after_c, nclasses),
    )  # fmt: skip


class Block(nn.Module):
    """A residual block of Inception-ResNet."""

    def __init__(self, side, inner, planes, scale, last=False):
        super().__init__()
        self.side, self.up, self.scale, self.last = side, nn.Conv2d(inner, planes, 1), scale, last

    def forward(self, x):
        y = x + self.scale * self.up(self.side(x))
        return y if self.last else F.relu(y)


def inception_resnet_v2(w, nclasses):
    def block35(i):
        side = Side(Conv(i, w(32), 1), [Conv(i, w(32), 1), Conv(w(32), w(32), 3, 1, 1)],
                    [Conv(i, w(32), 1), Conv(w(32), w(48), 3, 1, 1), Conv(w(48), w(64), 3, 1, 1)])  # fmt: skip
        return Block(side, 2 * w(32) + w(64), i, 0.17)

    def block17(i):
        side = Side(Conv(i, w(192), 1), [Conv(i, w(128), 1), Conv(w(128), w(160), (1, 7), 1, (0, 3)),
                                         Conv(w(160), w(192), (7, 1), 1, (3, 0))])  # fmt: skip
        return Block(side, 2 * w(192), i, 0.1)

    def block8(i, scale=0.2, last=False):
        side = Side(Conv(i, w(192), 1), [Conv(i, w(192), 1), Conv(w(192), w(224), (1, 3), 1, (0, 1)),
                                         Conv(w(224), w(256), (3, 1), 1, (1, 0))])  # fmt: skip
        return Block(side, w(192) + w(256), i, scale, last)

    i, mixed = w(192), w(96) + w(64) + w(96) + w(64)
    reduced = 2 * w(384) + mixed
    last = w(384) + w(288) + w(320) + reduced
    return nn.Sequential(
        Conv(3, w(32), 3, 2), Conv(w(32), w(32), 3), Conv(w(32), w(64), 3, 1, 1), nn.MaxPool2d(3, 2),
        Conv(w(64), w(80), 1), Conv(w(80), i, 3), nn.MaxPool2d(3, 2),
        Side(Conv(i, w(96), 1), [Conv(i, w(48), 1), Conv(w(48), w(64), 5, 1, 2)],
             [Conv(i, w(64), 1), Conv(w(64), w(96), 3, 1, 1), Conv(w(96), w(96), 3, 1, 1)],
             [mean_without_padding(), Conv(i, w(64), 1)]),
        *(block35(mixed) for _ in range(10)),
        Side(Conv(mixed, w(384), 3, 2),
             [Conv(mixed, w(256), 1), Conv(w(256), w(256), 3, 1, 1), Conv(w(256), w(384), 3, 2)], nn.MaxPool2d(3, 2)),
        *(block17(reduced) for _ in range(20)),
        Side([Conv(reduced, w(256), 1), Conv(w(256), w(384), 3, 2)], [Conv(reduced, w(256), 1), Conv(w(256), w(288), 3, 2)],
             [Conv(reduced, w(256), 1), Conv(w(256), w(288), 3, 1, 1), Conv(w(288), w(320), 3, 2)], nn.MaxPool2d(3, 2)),
        *(block8(last) for _ in range(9)), block8(last, 1.0, last=True), Conv(last, w(1536), 1), *head(w(1536), nclasses),
    )  # fmt: skip


class Separable(nn.Module):
    def __init__(self, inplanes, planes):
        super().__init__()
        self.depthwise = nn.Conv2d(inplanes, inplanes, 3, padding=1, groups=inplanes, bias=False)
        self.pointwise = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.norm = nn.BatchNorm2d(planes)

    def forward(self, x):
        return self.norm(self.pointwise(self.depthwise(x)))


class XceptionBlock(nn.Module):
    def __init__(self, inplanes, planes, stride, start_with_relu=True):
        super().__init__()
        out, self.first, self.stride = planes[-1], start_with_relu, stride
        self.skip = nn.Identity()
        if stride != 1 or inplanes != out:
            self.skip = nn.Sequential(nn.Conv2d(inplanes, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.parts = nn.ModuleList(Separable(i, o) for i, o in zip([inplanes, *planes], planes, strict=False))

    def forward(self, x):
        y = x
        for i, part in enumerate(self.parts):
            y = part(F.relu(y) if i or self.first else y)
        return self.skip(x) + (F.max_pool2d(y, 3, self.stride, 1) if self.stride != 1 else y)


def xception(w, nclasses):
    a, b, c, d, e = w(128), w(256), w(728), w(1024), w(1536)
    return nn.Sequential(
        nn.Conv2d(3, w(32), 3, 2, bias=False), nn.BatchNorm2d(w(32)), nn.ReLU(),
        nn.Conv2d(w(32), w(64), 3, bias=False), nn.BatchNorm2d(w(64)), nn.ReLU(),
        XceptionBlock(w(64), [a, a], 2, start_with_relu=False), XceptionBlock(a, [b, b], 2), XceptionBlock(b, [c, c], 2),
        *(XceptionBlock(c, [c, c, c], 1) for _ in range(8)), XceptionBlock(c, [c, d], 2),
        Separable(d, e), nn.ReLU(), Separable(e, w(2048)), nn.ReLU(), *head(w(2048), nclasses),
    )  # fmt: skip
