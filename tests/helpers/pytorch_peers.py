"""PyTorch's side of comparisons: random weights, gradients by the same rules, small networks."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from fnn.core import tree
from fnn.core.calling import call
from fnn.core.context import INFERENCE, strip_masks
from fnn.saving.pytorch.loading import filled
from fnn.saving.pytorch.rules import plan


def randomized(module, seed=0, scale=0.3):
    """The module in inference, with no weight that is 0 or 1 by its initialization."""
    draw = np.random.default_rng(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.copy_(torch.tensor(draw.normal(size=tensor.shape, scale=scale)))
            tensor.requires_grad_(True)
        for name, tensor in module.named_buffers():
            if "running" in name:
                values = np.abs(draw.normal(size=tensor.shape)) + 0.5
                tensor.copy_(torch.tensor(values))
    return module.eval()


def mapped(tensors, like, rules):
    """Gradients of PyTorch's as those of fnn's: a sum passes its gradient to each summand."""
    wanted = {"/".join(path): leaf for path, leaf in tree.flatten(like)}
    made = plan(rules, wanted, tensors)
    assert not made.report.missing, str(made.report)
    for path, pieces in made.pieces.items():
        copied = [piece for piece in pieces if piece.target.how == "copy"]
        yield path, filled(wanted[path], copied, {n: Rows(t) for n, t in tensors.items()})


class Rows:
    """A tensor that is read by rows."""

    def __init__(self, tensor):
        self.tensor, self.shape, self.dtype = tensor, tensor.shape, tensor.dtype

    def read(self, rows):
        return self.tensor[rows]


def compare_gradients(model, x, module, outputs, rules, places=slice(None), tolerance=1e-4):
    """The gradients of a random sum of outputs, by JAX and by PyTorch, relative to the largest.

    `outputs` are PyTorch's, channels last as here; `places` are those that count. Returns JAX's
    outputs there.
    """
    weights = np.random.default_rng(1).normal(size=outputs[places].shape).astype("float32")
    module.zero_grad()
    (outputs[places] * torch.tensor(weights)).sum().backward()
    theirs = {
        name: np.zeros(p.shape, "float32") if p.grad is None else p.grad.numpy()
        for name, p in module.named_parameters()
    }

    @jax.jit
    def ours(params, state):
        def scalar(params):
            y = strip_masks(call(model.layer, params, state, x, INFERENCE)[0])
            return jnp.sum(y[places] * weights), y[places]

        return jax.grad(scalar, has_aux=True)(params)

    params, received_outputs = ours(model.params, model.state)
    received = {"/".join(path): leaf for path, leaf in tree.flatten(params)}
    expected = dict(mapped(theirs, params, rules))
    assert received.keys() == expected.keys()
    most = max(np.abs(np.asarray(leaf)).max() for leaf in expected.values())
    for path, leaf in received.items():
        pair = np.asarray(leaf) / most, np.asarray(expected[path]) / most
        np.testing.assert_allclose(*pair, atol=tolerance, err_msg=path)
    return received_outputs


class Block(nn.Module):
    """A block of torchvision's ResNet: two convolutions, or a bottleneck of three."""

    def __init__(self, inputs, filters, strides, bottleneck):
        super().__init__()
        outputs = 4 * filters if bottleneck else filters
        shapes = [(inputs, filters, 3, strides), (filters, filters, 3, 1)]
        if bottleneck:
            shapes = [
                (inputs, filters, 1, 1),
                (filters, filters, 3, strides),
                (filters, outputs, 1, 1),
            ]
        self.count = len(shapes)
        for number, (a, b, size, step) in enumerate(shapes, 1):
            conv = nn.Conv2d(a, b, size, step, padding=size // 2, bias=False)
            setattr(self, f"conv{number}", conv)
            setattr(self, f"bn{number}", nn.BatchNorm2d(b))
        self.downsample = None
        if strides > 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, strides, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = y.relu() if number < self.count else y
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    """torchvision's ResNet, with its names."""

    def __init__(self, blocks, bottleneck, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        width, self.stages = 64, len(blocks)
        for stage, number in enumerate(blocks):
            filters, made = 64 * 2**stage, []
            for index in range(number):
                strides = 2 if stage and not index else 1
                made.append(Block(width, filters, strides, bottleneck))
                width = 4 * filters if bottleneck else filters
            setattr(self, f"layer{stage + 1}", nn.Sequential(*made))
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))
