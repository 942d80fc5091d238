"""AlexNet, VGG, SqueezeNet and DenseNet in plain PyTorch, written from the papers: what ours are compared with.

Without Dropout, which has its own tests.
"""

import pytest

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional


def alexnet(inchannels, nclasses, fcsize):
    return nn.Sequential(
        nn.Conv2d(inchannels, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d((6, 6)), nn.Flatten(), nn.Linear(9216, fcsize), nn.ReLU(),
        nn.Linear(fcsize, fcsize), nn.ReLU(), nn.Linear(fcsize, nclasses),
    )  # fmt: skip


def vgg(letters, inchannels, nclasses, fcsize, features, batchnorm):
    """``letters``: planes of a convolution, or "M" for a pool, as the paper's table 1 has them from above."""
    layers, planes = [], inchannels
    for letter in letters:
        if letter == "M":
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers += [nn.Conv2d(planes, letter, 3, padding=1), *([nn.BatchNorm2d(letter)] if batchnorm else []), nn.ReLU()]
        planes = letter
    head = [nn.Linear(features, fcsize), nn.ReLU(), nn.Linear(fcsize, fcsize), nn.ReLU(), nn.Linear(fcsize, nclasses)]
    return nn.Sequential(*layers, nn.Flatten(), *head)


class Fire(nn.Module):
    def __init__(self, inplanes, squeezed, expanded):
        super().__init__()
        self.squeeze = nn.Conv2d(inplanes, squeezed, 1)
        self.one, self.three = nn.Conv2d(squeezed, expanded, 1), nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


def squeezenet(inchannels, nclasses):
    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        nn.Conv2d(inchannels, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool(), Fire(128, 32, 128),
        Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
        nn.Conv2d(512, nclasses, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


class DenseLayer(nn.Module):
    def __init__(self, inplanes, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inplanes), nn.Conv2d(inplanes, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], 1)


def densenet(blocks, growth, inchannels, nclasses):
    planes = 2 * growth
    layers = [nn.Conv2d(inchannels, planes, 7, 2, 3, bias=False), nn.BatchNorm2d(planes), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for i, n in enumerate(blocks):
        if i:
            half = planes // 2
            layers += [nn.BatchNorm2d(planes), nn.ReLU(), nn.Conv2d(planes, half, 1, bias=False), nn.AvgPool2d(2, 2)]
            planes = half
        for _ in range(n):
            layers.append(DenseLayer(planes, growth))
            planes += growth
    layers += [nn.BatchNorm2d(planes), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(planes, nclasses)]
    return nn.Sequential(*layers)
