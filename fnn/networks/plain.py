"""Plain networks: a stack of dense layers, and a recurrent classifier."""

from __future__ import annotations

from collections.abc import Sequence

from fnn.core.layer import Activation, Layer
from fnn.layers import LSTM, Dense, Dropout, Flatten, Sequential
from fnn.networks.dtypes import takes_dtype


@takes_dtype
def mlp(
    widths: Sequence[int],
    activation: Activation = "relu",
    output_activation: Activation = None,
    dropout: float = 0.0,
    *,
    dtype: str | None = None,
) -> Layer:
    """Dense layers of the given widths.   (batch, ...) -> (batch, widths[-1])

    The last width is that of the outputs. Dropout, if any, follows each hidden layer. Raises
    ValueError without a width.

    >>> network, x = mlp([64, 64, 10], output_activation="softmax"), jnp.ones((2, 28, 28))
    >>> jax.jit(network.apply)(*network.init(jax.random.key(0), x), x)[0].shape
    (2, 10)
    """
    *hidden, outputs = widths or [0]
    layers: list[Layer] = [Flatten()]
    for width in hidden:
        layers.append(Dense(width, activation))
        if dropout:
            layers.append(Dropout(dropout))
    return Sequential([*layers, Dense(outputs, output_activation)])


@takes_dtype
def lstm_classifier(
    units: int,
    classes: int,
    depth: int = 1,
    dropout: float = 0.0,
    *,
    dtype: str | None = None,
) -> Layer:
    """Class probabilities of a sequence.   (batch, time, features) -> (batch, classes)

    `depth` layers of `LSTM`; the last step of the last one is classified. Steps may be masked.

    >>> network, x = lstm_classifier(8, classes=3, depth=2), jnp.ones((2, 5, 4))
    >>> network.apply(*network.init(jax.random.key(0), x), x)[0].shape
    (2, 3)
    """
    lower = [
        LSTM(units, dropout=dropout, return_sequences=True) for _ in range(depth - 1)
    ]
    last = LSTM(units, dropout=dropout)
    return Sequential([*lower, last, Dense(classes, "softmax")])
