"""PyTorch: modules and the usual loop."""

from functools import partial

import torch
from torch import nn

from benchmarks.workloads import BLOCKS, GPT, LEARNING_RATE, LSTM, RESNET

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def trainer(workload, data):
    model, loss = network(workload), LOSSES[workload]
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    x = torch.from_numpy(channels_first(data.x)).to(DEVICE)
    y = targets(data.y).to(DEVICE)

    def epoch():
        for rows in torch.randperm(len(x), device=DEVICE).split(data.batch):
            optimizer.zero_grad()
            value = loss(model(x[rows]), y[rows])
            value.backward()
            optimizer.step()
        return value.item()

    return epoch


def channels_first(x):
    """Images as PyTorch's users keep them; other data as it is."""
    return x.transpose(0, 3, 1, 2).copy() if x.ndim == 4 else x.copy()


def targets(y):
    """Classes as int64, as PyTorch's losses take them; other targets as they are."""
    y = torch.from_numpy(y.copy())
    return y if y.is_floating_point() else y.long()


def mlp():
    return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 5 * 5, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


class LSTMClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(LSTM["features"], LSTM["units"], batch_first=True)
        self.head = nn.Linear(LSTM["units"], LSTM["classes"])

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        width = GPT["width"]
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        n, t, width = x.shape
        qkv = (
            self.qkv(self.norm1(x))
            .view(n, t, 3, GPT["heads"], -1)
            .permute(2, 0, 3, 1, 4)
        )
        attended = nn.functional.scaled_dot_product_attention(*qkv, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(n, t, width))
        return x + self.feed(self.norm2(x))


class Transformer(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        width = GPT["width"]
        self.tokens = nn.Embedding(GPT["vocabulary"], width)
        self.positions = nn.Embedding(GPT["context"], width)
        self.blocks = nn.Sequential(*(Block() for _ in range(blocks)))
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, GPT["vocabulary"])
        )

    def forward(self, x):
        positions = self.positions(torch.arange(x.shape[1], device=x.device))
        return self.head(self.blocks(self.tokens(x.long()) + positions)).transpose(1, 2)


def normalized(inputs, outputs, size, strides=1):
    """A convolution and batch normalization; PyTorch's momentum is that of the new value."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, strides, padding=size // 2),
        nn.BatchNorm2d(outputs, eps=1.001e-5, momentum=0.01),
    )


class Bottleneck(nn.Module):
    def __init__(self, inputs, filters, strides, first):
        super().__init__()
        outputs = 4 * filters
        self.shortcut = (
            normalized(inputs, outputs, 1, strides) if first else nn.Identity()
        )
        self.residual = nn.Sequential(
            normalized(inputs, filters, 1, strides),
            nn.ReLU(),
            normalized(filters, filters, 3),
            nn.ReLU(),
            normalized(filters, outputs, 1),
        )

    def forward(self, x):
        return torch.relu(self.shortcut(x) + self.residual(x))


def resnet():
    blocks, inputs = [], 64
    for stage, (filters, number) in enumerate(RESNET["stages"]):
        for block in range(number):
            blocks.append(
                Bottleneck(inputs, filters, 2 if stage and not block else 1, not block)
            )
            inputs = 4 * filters
    return nn.Sequential(
        normalized(3, 64, 7, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(inputs, RESNET["classes"]),
    )


MODULES = {
    "mlp": mlp,
    "cnn": cnn,
    "gpt": partial(Transformer, BLOCKS["gpt"]),
    "gpt12": partial(Transformer, BLOCKS["gpt12"]),
    "lstm": LSTMClassifier,
    "resnet": resnet,
}
LOSSES = {
    **dict.fromkeys(MODULES, nn.CrossEntropyLoss()),
    "mlp": nn.BCEWithLogitsLoss(),
}


def network(workload):
    torch.manual_seed(0)
    return MODULES[workload]().to(DEVICE)


def runner(workload):
    return lambda data: trainer(workload, data)


RUNNERS = {workload: runner(workload) for workload in MODULES}
