"""PyTorch on one thread, which costs it the least CPU time."""

import torch
from torch import nn

torch.set_num_threads(1)


def runner(make_module, channels_first=False):
    def make(x):
        module, x = make_module(), torch.from_numpy(x)
        if channels_first:
            x = x.permute(0, 3, 1, 2).contiguous()
        x = x.requires_grad_() if x.is_floating_point() else x.long()
        wanted = [a for a in (*module.parameters(), x) if a.requires_grad]

        def step():
            y = module(x)
            value = (y**2).sum()
            torch.autograd.grad(value, wanted)
            return value.detach()

        return step

    return make


class Sequences(nn.Module):
    """What a recurrent layer or attention gives beside its outputs is left out."""

    def __init__(self, module, inputs=1):
        super().__init__()
        self.module, self.inputs = module, inputs

    def forward(self, x):
        return self.module(*(x,) * self.inputs)[0]


class Attention(nn.Module):
    """As fast as PyTorch has it: one projection and its fused attention."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(128, 384), nn.Linear(128, 128)

    def forward(self, x):
        n, t, width = x.shape
        qkv = self.qkv(x).view(n, t, 3, 4, 32).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(*qkv)
        return self.out(y.transpose(1, 2).reshape(n, t, width))


RUNNERS = {
    "Dense": runner(lambda: nn.Sequential(nn.Linear(256, 256), nn.ReLU())),
    "Conv2D": runner(lambda: nn.Conv2d(16, 32, 3, padding="same"), True),
    "DepthwiseConv2D": runner(
        lambda: nn.Conv2d(32, 32, 3, padding="same", groups=32), True
    ),
    "MaxPooling2D": runner(lambda: nn.MaxPool2d(2), True),
    "UpSampling2D": runner(lambda: nn.Upsample(scale_factor=2), True),
    "BatchNormalization": runner(lambda: nn.BatchNorm2d(64), True),
    "LayerNormalization": runner(lambda: nn.LayerNorm(128)),
    "Dropout": runner(lambda: nn.Dropout(0.5)),
    "Embedding": runner(lambda: nn.Embedding(1000, 64)),
    "LSTM": runner(lambda: Sequences(nn.LSTM(32, 64, batch_first=True))),
    "GRU": runner(lambda: Sequences(nn.GRU(32, 64, batch_first=True))),
    "MultiHeadAttention": runner(Attention),
}
