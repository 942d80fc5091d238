"""Residual networks in plain PyTorch, written from the papers: the independent build that ours are compared with."""

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, planes):
        super().__init__()
        squeezed = max(8, (planes // 16 + 4) // 8 * 8)
        self.down, self.up = nn.Conv2d(planes, squeezed, 1), nn.Conv2d(squeezed, planes, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))


class ZeroPad(nn.Module):
    def __init__(self, more, stride):
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x):
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


class Split(nn.Module):
    """Res2Net's middle."""

    def __init__(self, width, scale, stride, groups, first):
        super().__init__()
        self.width, self.first = width, first
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in range(scale - 1)
        )
        self.pool = nn.AvgPool2d(3, stride, 1) if first else nn.Identity()

    def forward(self, x):
        *parts, last = x.split(self.width, 1)
        outputs = []
        for part, conv in zip(parts, self.convs, strict=True):
            outputs.append(conv(part if self.first or not outputs else part + outputs[-1]))
        return torch.cat([*outputs, self.pool(last)], 1)


def conv_bn(kernel, inplanes, planes, stride=1, groups=1, relu=True):
    layers = [nn.Conv2d(inplanes, planes, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(planes)]
    return [*layers, nn.ReLU()] if relu else layers


class Block(nn.Module):
    def __init__(self, kind, inplanes, planes, stride, *, down, groups, base_width, scale, gate, first, act_first):
        super().__init__()
        out = planes * (1 if kind == "basic" else 4)
        if kind == "basic":
            branch = [*conv_bn(3, inplanes, planes, stride), *conv_bn(3, planes, planes, relu=False)]
        else:
            width = planes * base_width // 64 * groups
            middle = conv_bn(3, width, width, stride, groups) if scale == 1 else [Split(width, scale, stride, groups, first)]
            branch = [*conv_bn(1, inplanes, width * scale), *middle, *conv_bn(1, width * scale, out, relu=False)]
        self.branch = nn.Sequential(*branch, *([Gate(out)] if gate else []))
        self.shortcut = self.around(down, inplanes, out, stride)
        self.act_first = act_first

    @staticmethod
    def around(down, inplanes, out, stride):
        if stride == 1 and inplanes == out and down != "C":
            return nn.Identity()
        if down == "A":
            return ZeroPad(out - inplanes, stride)
        if down == "D" and stride != 1:
            pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
            return nn.Sequential(pool, *conv_bn(1, inplanes, out, relu=False))
        return nn.Sequential(*conv_bn(1, inplanes, out, stride, relu=False))

    def forward(self, x):
        a, b = self.branch(x), self.shortcut(x)
        return torch.relu(a) + torch.relu(b) if self.act_first else torch.relu(a + b)


def stem(kind, inchannels, planes, replace_pool):
    if kind == "default":
        layers = conv_bn(7, inchannels, planes, 2)
    else:
        first = planes // 2 if kind == "deep" else 3 * (planes // 8)
        layers = [*conv_bn(3, inchannels, first, 2), *conv_bn(3, first, planes // 2), *conv_bn(3, planes // 2, planes)]
    return nn.Sequential(*layers, *(conv_bn(3, planes, planes, 2) if replace_pool else [nn.MaxPool2d(3, 2, 1)]))


def network(kind, repeats, *, inchannels=3, nclasses=5, inplanes=8, planes=8, stem_kind="default", replace_pool=False, down="B",
            groups=1, base_width=64, scale=1, gate=False, act_first=False):  # fmt: skip
    layers = [stem(stem_kind, inchannels, inplanes, replace_pool)]
    for i, n in enumerate(repeats):
        for j in range(n):
            layers.append(Block(kind, inplanes, planes * 2**i, 2 if i and not j else 1, down=down, groups=groups,
                                base_width=base_width, scale=scale, gate=gate, first=not j, act_first=act_first))
            inplanes = planes * 2**i * (1 if kind == "basic" else 4)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inplanes, nclasses))
