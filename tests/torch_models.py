"""The seven networks as torch writes them, with torchvision's names (and a common U-Net's), for random checkpoints."""

import torch
from torch import nn


def conv_bn(c: int, o: int, k: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(c, o, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]


def lenet5() -> nn.Module:
    model = nn.Sequential()
    for name, layer in {
        "conv1": nn.Conv2d(1, 6, 5, padding=2), "relu1": nn.ReLU(), "pool1": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(6, 16, 5), "relu2": nn.ReLU(), "pool2": nn.MaxPool2d(2), "flatten": nn.Flatten(),
        "fc1": nn.Linear(400, 120), "relu3": nn.ReLU(), "fc2": nn.Linear(120, 84), "relu4": nn.ReLU(),
        "fc3": nn.Linear(84, 10),
    }.items():  # fmt: skip
        model.add_module(name, layer)
    return model


class VGG(nn.Module):
    def __init__(self, hidden: int = 4096) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        c = 3
        for o in (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"):
            layers += [nn.MaxPool2d(2)] if o == "M" else [nn.Conv2d(c, o, 3, padding=1), nn.ReLU()]
            c = c if o == "M" else o
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Linear(25088, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, 1000),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(self.flatten(self.avgpool(self.features(x))))


class Block(nn.Module):
    """Of a ResNet: two 3x3, or 1x1, 3x3, 1x1."""

    def __init__(self, c: int, width: int, stride: int, deep: bool) -> None:
        super().__init__()
        self.deep, o = deep, width * (4 if deep else 1)
        sizes = [(c, width, 1, 1), (width, width, 3, stride), (width, o, 1, 1)]
        for i, (a, b, k, s) in enumerate(sizes if deep else [(c, width, 3, stride), (width, width, 3, 1)], 1):
            conv, bn = conv_bn(a, b, k, s)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", bn)
        self.downsample = nn.Sequential(*conv_bn(c, o, 1, stride)) if stride > 1 or c != o else None

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = self.bn3(self.conv3(torch.relu(y))) if self.deep else y
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, counts: tuple[int, ...], deep: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.pool, c = nn.MaxPool2d(3, 2, 1), 64
        for i, count in enumerate(counts):
            blocks = []
            for j in range(count):
                blocks.append(Block(c, 64 << i, 2 if i and not j else 1, deep))
                c = (64 << i) * (4 if deep else 1)
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(c, 1000)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class DenseLayer(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(c), nn.Conv2d(c, 128, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(128), nn.Conv2d(128, 32, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(y)))], 1)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, c = nn.Sequential(), 64
        for name, layer in (("conv0", nn.Conv2d(3, 64, 7, 2, 3, bias=False)), ("norm0", nn.BatchNorm2d(64)),
                            ("relu0", nn.ReLU()), ("pool0", nn.MaxPool2d(3, 2, 1))):  # fmt: skip
            self.features.add_module(name, layer)
        for i, count in enumerate((6, 12, 24, 16), 1):
            block = nn.Sequential()
            for j in range(count):
                block.add_module(f"denselayer{j + 1}", DenseLayer(c + 32 * j))
            self.features.add_module(f"denseblock{i}", block)
            c += 32 * count
            if i < 4:
                between = nn.Sequential()
                for name, layer in (("norm", nn.BatchNorm2d(c)), ("relu", nn.ReLU()),
                                    ("conv", nn.Conv2d(c, c // 2, 1, bias=False)), ("pool", nn.AvgPool2d(2))):  # fmt: skip
                    between.add_module(name, layer)
                self.features.add_module(f"transition{i}", between)
                c //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(c))
        self.classifier = nn.Linear(c, 1000)

    def forward(self, x):
        return self.classifier(torch.relu(self.features(x)).mean((2, 3)))


class BasicConv(nn.Module):
    def __init__(self, c: int, o: int, k: int, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(c, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o, eps=1e-3)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, c: int, one: int, red3: int, three: int, red5: int, five: int, pooled: int) -> None:
        super().__init__()
        self.branch1 = BasicConv(c, one, 1)
        self.branch2 = nn.Sequential(BasicConv(c, red3, 1), BasicConv(red3, three, 3))
        self.branch3 = nn.Sequential(BasicConv(c, red5, 1), BasicConv(red5, five, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv(c, pooled, 1))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


SIZES = {
    "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128), "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}  # fmt: skip


class GoogLeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = BasicConv(3, 64, 7, 2), BasicConv(64, 64, 1), BasicConv(64, 192, 3)
        for name, sizes in SIZES.items():
            self.add_module(f"inception{name}", Inception(*sizes))
        self.aux1, self.fc = BasicConv(512, 8, 1), nn.Linear(1024, 1000)  # a helper of training, in checkpoints too

    def forward(self, x):
        pool, last = nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(2, 2, ceil_mode=True)
        x = pool(self.conv3(self.conv2(pool(self.conv1(x)))))
        for name in SIZES:
            x = getattr(self, f"inception{name}")(x)
            x = pool(x) if name == "3b" else last(x) if name == "4e" else x
        return self.fc(x.mean((2, 3)))


class Inverted(nn.Module):
    def __init__(self, c: int, wider: int, o: int, stride: int) -> None:
        super().__init__()
        w = c * wider
        steps = [nn.Sequential(*conv_bn(c, w, 1), nn.ReLU6())] if wider > 1 else []
        steps.append(nn.Sequential(*conv_bn(w, w, 3, stride, w), nn.ReLU6()))
        self.conv, self.around = nn.Sequential(*steps, *conv_bn(w, o, 1)), stride == 1 and c == o

    def forward(self, x):
        return x + self.conv(x) if self.around else self.conv(x)


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [nn.Sequential(*conv_bn(3, 32, 3, 2), nn.ReLU6())]
        c = 32
        for t, o, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                           (6, 320, 1, 1)):  # fmt: skip
            for i in range(n):
                features.append(Inverted(c, t, o, s if i == 0 else 1))
                c = o
        features.append(nn.Sequential(*conv_bn(c, 1280, 1), nn.ReLU6()))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class Named(nn.Module):
    """Layers one after the other, by name."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


def double_conv(c: int, o: int) -> nn.Module:
    return Named(double_conv=nn.Sequential(*conv_bn(c, o, 3), nn.ReLU(), *conv_bn(o, o, 3), nn.ReLU()))


class Up(nn.Module):
    def __init__(self, c: int, o: int) -> None:
        super().__init__()
        self.up, self.conv = nn.ConvTranspose2d(c, o, 2, 2), double_conv(c, o)

    def forward(self, x, across):
        return self.conv(torch.cat([across, self.up(x)], 1))


class UNet(nn.Module):
    def __init__(self, width: int = 8, depth: int = 4) -> None:
        super().__init__()
        self.depth, self.inc = depth, double_conv(3, width)
        for i in range(depth):
            down = nn.Sequential(nn.MaxPool2d(2), double_conv(width << i, width << (i + 1)))
            self.add_module(f"down{i + 1}", Named(maxpool_conv=down))
        for i in range(depth):
            self.add_module(f"up{i + 1}", Up(width << (depth - i), width << (depth - i - 1)))
        self.outc = Named(conv=nn.Conv2d(width, 2, 1))

    def forward(self, x):
        xs = [self.inc(x)]
        for i in range(self.depth):
            xs.append(getattr(self, f"down{i + 1}")(xs[-1]))
        x = xs.pop()
        for i in range(self.depth):
            x = getattr(self, f"up{i + 1}")(x, xs.pop())
        return self.outc(x)


def checkpoint(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model for inference, with random weights and running statistics that a training could have left."""
    generator = torch.Generator().manual_seed(seed)
    for name, a in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            a.fill_(100)
        elif name.endswith("running_var"):
            a.uniform_(0.5, 2, generator=generator)
        elif a.ndim == 1:
            offset = 1.0 if name.endswith("weight") else 0.0
            a.copy_(offset + 0.1 * torch.randn(a.shape, generator=generator))
        else:
            fan = a[0].numel()
            a.copy_(torch.randn(a.shape, generator=generator) * (2 / fan) ** 0.5)
    return model.eval()
