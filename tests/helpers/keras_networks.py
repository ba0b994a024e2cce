"""Thirty small networks over all families of layers, written for Keras and for fnn alike.

`NETWORKS[name](library)` builds the model with `library`, `keras` or `fnn`; `inputs_of(model)`
are arrays for it.
"""

import jax
import numpy as np

from tests.helpers.oracle import keras_rules

NETWORKS = {}


def network(build):
    """Puts a network into the table, under the name of its function."""
    NETWORKS[build.__name__] = build
    return build


def inputs_of(model, batch=3, seed=0):
    """Random arrays for the inputs of a model of either library, in their structure.

    Integers are below 7; every free size is 5.
    """
    draw = np.random.default_rng(seed)

    def array(node):
        shape = tuple(5 if size is None else size for size in tuple(node.shape)[1:])
        if "int" in str(node.dtype):
            return draw.integers(0, 7, (batch, *shape)).astype(str(node.dtype))
        return draw.normal(size=(batch, *shape)).astype("float32")

    # A row of layers has no `input` in Keras before it is called.
    nodes = model.inputs[0] if type(model).__name__ == "Sequential" else model.input
    if isinstance(nodes, dict):
        return {name: array(node) for name, node in nodes.items()}
    if isinstance(nodes, (list, tuple)):
        return [array(node) for node in nodes]
    return array(nodes)


def randomize(model, seed=3):
    """Gives a model of either library random weights, so that nothing hides behind zeros."""
    draw = np.random.default_rng(seed)
    filled = []
    for variable, weight in zip(model.weights, model.get_weights(), strict=True):
        # A unit vector, and counts, stay as they are.
        if np.issubdtype(weight.dtype, np.floating) and variable.name != "vector_u":
            weight = (0.2 + 0.5 * abs(draw.normal(size=weight.shape))).astype(weight.dtype)
        filled.append(weight)
    model.set_weights(filled)
    return model


def assert_same_outputs(ours, theirs):
    """Equal structures and numbers, with the weights of the network of Keras."""
    with keras_rules():
        x = inputs_of(theirs)
        expected = theirs(x, training=False)
        ours.set_weights([np.array(weight) for weight in theirs.get_weights()])
    received = ours.predict(x, verbose=0)
    assert jax.tree.structure(received) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(received), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, np.asarray(b, a.dtype), rtol=1e-5, atol=1e-5)


# -- rows of layers ------------------------------------------------------------------------------


@network
def perceptron(k):
    nn = k.layers
    return k.Sequential(
        [
            nn.Input((4,)),
            nn.Dense(5, "relu", kernel_regularizer="l2", kernel_initializer="he_normal"),
            nn.Dropout(0.3),
            nn.Dense(4, k.activations.tanh, bias_constraint=k.constraints.MaxNorm(2.0)),
            nn.Dense(3, "softmax", name="head"),
        ],
        name="perceptron",
    )


@network
def image_classifier(k):
    nn = k.layers
    return k.Sequential(
        [
            nn.Input((8, 9, 2)),
            nn.Rescaling(1 / 4, offset=-0.5),
            nn.Conv2D(3, 3, padding="same", activation="relu"),
            nn.BatchNormalization(momentum=0.9),
            nn.MaxPooling2D(),
            nn.SeparableConv2D(4, 2, depth_multiplier=2),
            nn.GlobalAveragePooling2D(),
            nn.Dense(3),
            nn.Softmax(),
        ]
    )


@network
def convolutions_of_series(k):
    nn = k.layers
    return k.Sequential(
        [
            nn.Input((10, 3)),
            nn.ZeroPadding1D((0, 2)),
            nn.Conv1D(4, 3, padding="causal", dilation_rate=2),
            nn.DepthwiseConv1D(2, activation="elu"),
            nn.SeparableConv1D(3, 2),
            nn.Conv1DTranspose(2, 3, strides=2),
            nn.AveragePooling1D(2),
            nn.Cropping1D(1),
            nn.UpSampling1D(2),
            nn.GlobalMaxPooling1D(),
        ]
    )


@network
def volumes(k):
    nn = k.layers
    return k.Sequential(
        [
            nn.Input((4, 5, 6, 1)),
            nn.Conv3D(2, 2, kernel_constraint="non_neg"),
            nn.ZeroPadding3D(1),
            nn.MaxPooling3D((1, 2, 2)),
            nn.Conv3DTranspose(2, 2),
            nn.GroupNormalization(1),
            nn.GlobalMaxPooling3D(),
        ]
    )


@network
def recurrent_row(k):
    nn = k.layers
    return k.Sequential(
        [
            nn.Input((5,), dtype="int32"),
            nn.Embedding(7, 4, mask_zero=True),
            nn.LSTM(3, return_sequences=True, recurrent_initializer="orthogonal"),
            nn.GRU(3, reset_after=False),
            nn.Dense(2, use_bias=False),
        ]
    )


@network
def both_directions(k):
    nn = k.layers
    return k.Sequential(
        [
            nn.Input((5, 4)),
            nn.Masking(0.0),
            nn.Bidirectional(nn.LSTM(3, return_sequences=True), merge_mode="sum"),
            nn.Bidirectional(
                nn.GRU(2),
                backward_layer=nn.SimpleRNN(2, go_backwards=True),
            ),
        ]
    )


@network
def cells(k):
    nn = k.layers
    return k.Sequential(
        [
            nn.Input((5, 4)),
            nn.RNN(nn.LSTMCell(3), return_sequences=True),
            nn.RNN([nn.GRUCell(3), nn.SimpleRNNCell(2)], return_sequences=True),
            nn.TimeDistributed(nn.Dense(2, "tanh")),
            nn.Flatten(),
        ]
    )


@network
def film(k):
    nn = k.layers
    return k.Sequential(
        [
            nn.Input((3, 4, 5, 2)),
            nn.ConvLSTM2D(2, 2, return_sequences=True, padding="same"),
            nn.TimeDistributed(nn.MaxPooling2D()),
            nn.ConvLSTM2D(2, 2),
            nn.GlobalMaxPooling2D(),
        ]
    )


@network
def activations(k):
    nn = k.layers
    return k.Sequential(
        [
            nn.Input((6,)),
            nn.Dense(6, "gelu"),
            nn.LeakyReLU(0.2),
            nn.PReLU(),
            nn.ELU(0.5),
            nn.ReLU(max_value=4.0, negative_slope=0.1),
            nn.Activation("hard_sigmoid"),
            nn.Dense(4, nn.LeakyReLU(0.1)),
            nn.UnitNormalization(),
        ]
    )


@network
def augmented(k):
    nn = k.layers
    return k.Sequential(
        [
            nn.Input((6, 7, 3)),
            nn.RandomFlip("horizontal", seed=1),
            nn.RandomRotation(0.1),
            nn.RandomZoom((-0.1, 0.2)),
            nn.RandomContrast(0.2),
            nn.RandomBrightness(0.2, (-1.0, 1.0)),
            nn.Resizing(5, 4),
            nn.CenterCrop(4, 3),
            nn.GaussianNoise(0.1),
            nn.SpatialDropout2D(0.2),
            nn.Conv2D(2, 2),
        ]
    )


@network
def learned_numbers(k):
    nn = k.layers
    return k.Sequential(
        [
            nn.Input((3,)),
            nn.Normalization(mean=[0.5, 1.0, -1.0], variance=[1.0, 4.0, 0.5]),
            nn.Dense(2, kernel_initializer=k.initializers.Constant(0.3)),
            nn.Discretization([-0.5, 0.0, 1.0], output_mode="one_hot"),
        ]
    )


@network
def normalized(k):
    nn = k.layers
    return k.Sequential(
        [
            nn.Input((4, 6)),
            nn.LayerNormalization(epsilon=1e-4),
            nn.RMSNormalization(),
            nn.EinsumDense("abc,cd->abd", output_shape=(None, 3), bias_axes="d"),
            nn.Permute((2, 1)),
            nn.Reshape((-1,)),
            nn.RepeatVector(2),
        ]
    )


@network
def row_in_a_row(k):
    nn = k.layers
    inner = k.Sequential([nn.Dense(4, "relu"), nn.Dense(3)], name="inner")
    return k.Sequential([nn.Input((4,)), inner, nn.Dense(2)], name="outer")


# -- graphs --------------------------------------------------------------------------------------


@network
def residual(k):
    nn = k.layers
    x = k.Input((6, 6, 2), name="image")
    y = nn.Conv2D(2, 3, padding="same", use_bias=False)(x)
    y = nn.BatchNormalization()(y)
    y = nn.Add()([x, y])
    y = nn.DepthwiseConv2D(2, strides=2)(nn.ReLU()(y))
    return k.Model(x, nn.GlobalAveragePooling2D()(y), name="residual")


@network
def two_in_two_out(k):
    nn = k.layers
    a, b = k.Input((4,), name="a"), k.Input((3,), name="b")
    x = nn.Concatenate()([nn.Dense(3)(a), b])
    return k.Model([a, b], [nn.Dense(2, name="first")(x), nn.Dense(1, name="second")(x)])


@network
def dicts(k):
    nn = k.layers
    given = {"left": k.Input((4,), name="left"), "right": k.Input((4,), name="right")}
    x = nn.Multiply()([given["left"], given["right"]])
    return k.Model(given, {"sum": nn.Dense(2)(x), "product": x})


@network
def shared(k):
    nn = k.layers
    a, b = k.Input((4,)), k.Input((4,))
    layer = nn.Dense(3, "tanh", name="both")
    return k.Model([a, b], nn.Subtract()([layer(a), layer(b)]))


@network
def nested(k):
    nn = k.layers
    x = k.Input((4,), name="inside")
    inner = k.Model(x, [nn.Dense(3)(x), nn.Dense(2)(x)], name="inner")
    a, b = k.Input((4,)), k.Input((4,))
    first, second = inner(a)
    third, _ = inner(b)
    return k.Model([a, b], nn.Concatenate()([first, second, third]), name="outer")


@network
def row_in_a_graph(k):
    nn = k.layers
    row = k.Sequential([nn.Input((4,)), nn.Dense(3, "relu"), nn.Dense(4)], name="row")
    x = k.Input((4,))
    return k.Model(x, nn.Add()([row(row(x)), x]))


@network
def graph_in_a_row(k):
    nn = k.layers
    x = k.Input((4,))
    inner = k.Model(x, nn.Maximum()([nn.Dense(3)(x), nn.Dense(3)(x)]), name="inner")
    return k.Sequential([k.Input((4,)), inner, nn.Dense(1)])


@network
def operators(k):
    x, y = k.Input((4,)), k.Input((4,))
    z = (1 - x) * 2 + y / 3 - x**2
    return k.Model([x, y], [z[:, 1:3], z[..., None], k.layers.Dense(2)(z) @ np.eye(2, 3)])


@network
def functions(k):
    ops = k.ops
    x, y = k.Input((4, 3)), k.Input((4, 3))
    joined = ops.concatenate([ops.relu(x), ops.exp(-y)], axis=-1)
    first, second = ops.split(joined, 2, axis=-1)
    mean = ops.mean(first, axis=1, keepdims=True)
    chosen = ops.where(second > 0.5, mean, ops.zeros_like(second))
    return k.Model([x, y], [ops.sum(chosen, axis=-1), ops.transpose(first, (0, 2, 1))])


@network
def states(k):
    nn = k.layers
    x, y = k.Input((5, 3)), k.Input((4, 3))
    encoded, h, c = nn.LSTM(4, return_sequences=True, return_state=True)(x)
    decoded = nn.LSTM(4, return_sequences=True)(y, initial_state=[h, c])
    return k.Model([x, y], [nn.Attention()([decoded, encoded]), h])


@network
def both_states(k):
    nn = k.layers
    x, y = k.Input((5, 3)), k.Input((4, 3))
    encoder = nn.Bidirectional(nn.GRU(2, return_state=True, return_sequences=True))
    encoded, *found = encoder(x)
    decoded = nn.Bidirectional(nn.GRU(2))(y, initial_state=found)
    return k.Model([x, y], [encoded, decoded])


@network
def transformer(k):
    nn = k.layers
    x = k.Input((5,), dtype="int32")
    h = nn.Embedding(7, 4)(x)
    y = nn.MultiHeadAttention(2, 3, dropout=0.1)(h, h, use_causal_mask=True)
    h = nn.LayerNormalization()(nn.Add()([h, y]))
    y = nn.Dense(4)(nn.Dense(6, "gelu")(h))
    return k.Model(x, nn.LayerNormalization()(h + y))


@network
def cross_attention(k):
    nn = k.layers
    x, y, mask = k.Input((4, 3)), k.Input((5, 3)), k.Input((4, 5), dtype="bool")
    z = nn.MultiHeadAttention(2, 2)(x, y, key=y, attention_mask=mask)
    z = nn.GroupQueryAttention(2, 4, 2)(z, y)
    scored = nn.AdditiveAttention()([z, y])
    return k.Model([x, y, mask], scored)


@network
def masks(k):
    nn = k.layers
    x, mask = k.Input((5, 3)), k.Input((5,), dtype="bool")
    y = nn.LSTM(3, return_sequences=True)(x, mask=mask)
    return k.Model([x, mask], [nn.GRU(2)(y), nn.GlobalAveragePooling1D()(x, mask=mask)])


@network
def frozen(k):
    nn = k.layers
    x = k.Input((4,))
    still = nn.Dense(3, trainable=False, name="still")(x)
    inner = nn.BatchNormalization(name="norm")(still, training=False)
    return k.Model(x, nn.Dense(2, dtype="mixed_bfloat16")(inner))


@network
def products(k):
    nn = k.layers
    x, y = k.Input((3, 4)), k.Input((2, 4))
    z = nn.Dot(axes=-1, normalize=True)([x, y])
    average = nn.Average()([nn.Minimum()([z, z]), nn.Flatten()(z)[:, :2][:, None]])
    return k.Model([x, y], average)


@network
def recurrent_with_dropout(k):
    nn = k.layers
    x = k.Input((None, 3))
    y = nn.SimpleRNN(3, return_sequences=True, dropout=0.2)(x)
    y = nn.GRU(2, recurrent_dropout=0.1, go_backwards=True, seed=3)(y)
    return k.Model(x, nn.ActivityRegularization(0.1)(nn.GaussianDropout(0.2)(y)))


@network
def pyramid(k):
    nn = k.layers
    x = k.Input((8, 8, 2))
    small = nn.AveragePooling2D(2)(nn.Conv2D(3, 3, padding="same")(x))
    large = nn.UpSampling2D(2, interpolation="bilinear")(small)
    large = nn.Conv2DTranspose(3, 2, padding="same", activation="relu")(large)
    joined = nn.Concatenate()([nn.Cropping2D(1)(x), nn.Cropping2D(1)(large)])
    return k.Model(x, nn.ZeroPadding2D(1)(joined))
