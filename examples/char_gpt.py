"""A small GPT that writes Python: characters of the standard library's own sources.

It trains on some modules and is tested on others; nothing is downloaded. `fnn.networks.generate`
then continues a line of code with a key-value cache, and the program compares the time with that
of computing all previous characters again for each new one.

In full (Python 3.11, about two minutes of one core): 2.26 bits per character of the other modules;
counting which character follows each pair of characters gives 2.74.
"""

import sysconfig
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from examples import common
from fnn.networks import generate, gpt

TRAIN = """
    argparse ast calendar cgi code configparser copy csv dataclasses difflib enum fractions
    functools gettext heapq inspect ipaddress optparse pathlib pickle random shutil socket
    statistics tarfile
"""
TEST = "textwrap threading tokenize zipfile"
CONTEXT = 64  # characters that the network looks at
PROMPT = "    def __init__(self, "


def read(modules):
    """The sources of modules as bytes, one after the other; those that Python lacks left out."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = [folder / f"{name}.py" for name in modules.split()]
    text = "\n".join(file.read_text("utf-8") for file in files if file.exists())
    return np.frombuffer(text.encode("ascii", "ignore"), np.uint8).astype("int32")


def sequences(ids, limit):
    """At most `limit` inputs (n, CONTEXT), and targets, which are one character ahead."""
    count = (len(ids) - 1) // CONTEXT * CONTEXT
    x, y = (ids[first : first + count].reshape(-1, CONTEXT) for first in (0, 1))
    return x[:limit], y[:limit]


def bits_by_counts(train, test):
    """Bits per character of the baseline: each character given the two before it, by counting."""
    counts = np.full((128, 128, 128), 0.05)
    np.add.at(counts, (train[:-2], train[1:-1], train[2:]), 1)
    probabilities = counts / counts.sum(axis=-1, keepdims=True)
    return float(-np.log2(probabilities[test[:-2], test[1:-1], test[2:]]).mean())


def recompute(layer, params, state, prompt, steps):
    """The most probable continuation without a cache: all characters again for each new one."""

    def append(position, ids):
        probabilities, _ = layer.apply(params, state, ids)
        return ids.at[:, position].set(probabilities[:, position - 1].argmax(axis=-1))

    ids = jnp.pad(prompt, ((0, 0), (0, steps)))
    return jax.lax.fori_loop(prompt.shape[1], ids.shape[1], append, ids)


def seconds(function, *arguments):
    """The result of a call, and the time of a second call, which compiles nothing."""
    result = jax.block_until_ready(function(*arguments))
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return np.asarray(result), time.perf_counter() - start


def write(model):
    """What the trained model makes of PROMPT, eight times; compares cache and no cache."""
    prompt = np.frombuffer(PROMPT.encode(), np.uint8).astype("int32")[None]
    steps = CONTEXT - prompt.shape[1]
    cached, fast = seconds(generate, model, prompt, steps)
    plain = jax.jit(recompute, static_argnums=(0, 4))
    again, slow = seconds(plain, model.layer, model.params, model.state, prompt, steps)
    equal = (cached == again).mean()
    print(f"{fast * 1e3:.0f} ms with a key-value cache, {slow * 1e3:.0f} ms without,")
    print(f"{equal:.0%} equal")
    many = np.repeat(prompt, 8, axis=0)
    sampled = generate(model, many, steps, temperature=0.6, key=jax.random.key(0))
    return "\n\n".join(bytes(row.astype("uint8")).decode() for row in np.array(sampled))


def main(epochs=2, out="char_gpt.png", limit=None, verbose="auto"):
    """Trains on `limit` sequences at most. Returns bits per character: network, then baseline."""
    train, test = read(TRAIN), read(TEST)
    x, y = sequences(train, limit)
    network = gpt(vocabulary=128, width=96, depth=2, heads=4, context=CONTEXT)
    model = fnn.Model(network, seed=0)
    rate = fnn.schedules.CosineDecay(3e-3, epochs * -(-len(x) // 32))
    optimizer = fnn.optimizers.AdamW(rate, weight_decay=0.01)
    model.compile(optimizer, loss="sparse_categorical_crossentropy")
    held_out = sequences(test, limit)
    options = {"validation_data": held_out, "epochs": epochs, "verbose": verbose}
    history = model.fit(x, y, batch_size=32, **options).history
    bits = {name: np.divide(losses, np.log(2)) for name, losses in history.items()}
    ours, baseline = float(bits["val_loss"][-1]), bits_by_counts(train, test)
    print(f"bits per character: network {ours:.2f}, triples {baseline:.2f}")
    written = write(model)
    print(written)
    figure = common.new_figure(12, 5)
    left, right = figure.subfigures(1, 2)
    curves = bits["loss"], bits["val_loss"]
    common.draw_epochs(left, "bits per character", *curves, counts_of_triples=baseline)
    font = {"family": "monospace", "fontsize": 8, "parse_math": False}
    right.text(0, 0.95, written, va="top", **font)
    common.write(figure, out)
    return ours, baseline


if __name__ == "__main__":
    common.run(main)
