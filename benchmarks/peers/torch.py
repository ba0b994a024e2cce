"""PyTorch: modules and the usual loop."""

import torch
from torch import nn

from benchmarks.workloads import GPT, LEARNING_RATE, LSTM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def trainer(model, loss, data, classes=True):
    torch.manual_seed(0)
    model = model.to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    x, y = torch.from_numpy(data.x.copy()).to(DEVICE), torch.from_numpy(data.y.copy()).to(DEVICE)
    y = y.long() if classes else y

    def epoch():
        for rows in torch.randperm(len(x), device=DEVICE).split(data.batch):
            optimizer.zero_grad()
            value = loss(model(x[rows]), y[rows])
            value.backward()
            optimizer.step()
        return value.item()

    return epoch


def mlp(data):
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))
    return trainer(model, nn.BCEWithLogitsLoss(), data, classes=False)


def cnn(data):
    model = nn.Sequential(
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
    channels_first = data._replace(x=data.x.transpose(0, 3, 1, 2))
    return trainer(model, nn.CrossEntropyLoss(), channels_first)


class LSTMClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(LSTM["features"], LSTM["units"], batch_first=True)
        self.head = nn.Linear(LSTM["units"], LSTM["classes"])

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def lstm(data):
    return trainer(LSTMClassifier(), nn.CrossEntropyLoss(), data)


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
        qkv = self.qkv(self.norm1(x)).view(n, t, 3, GPT["heads"], -1).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(*qkv, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(n, t, width))
        return x + self.feed(self.norm2(x))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        width = GPT["width"]
        self.tokens = nn.Embedding(GPT["vocabulary"], width)
        self.positions = nn.Embedding(GPT["context"], width)
        self.blocks = nn.Sequential(*(Block() for _ in range(GPT["blocks"])))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, GPT["vocabulary"]))

    def forward(self, x):
        positions = self.positions(torch.arange(x.shape[1], device=x.device))
        return self.head(self.blocks(self.tokens(x.long()) + positions)).transpose(1, 2)


def gpt(data):
    return trainer(Transformer(), nn.CrossEntropyLoss(), data)


RUNNERS = {"mlp": mlp, "cnn": cnn, "gpt": gpt, "lstm": lstm}
