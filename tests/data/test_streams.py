"""The methods of tf.data on streams, against tf.data itself."""

import numpy as np
import pytest

import fnn
from fnn import layers as L
from fnn.data import windows

SERIES = np.arange(9)


def stream():
    return windows(SERIES, SERIES * 10, length=2, horizon=0, batch_size=3)


CHAINS = {
    "map": lambda s: s.map(lambda x, y: (x / 2, y), num_parallel_calls=2),
    "map to inputs": lambda s: s.map(lambda x, y: x).map(lambda x: x + 1),
    "take": lambda s: s.take(2),
    "take all": lambda s: s.take(-1),
    "take more": lambda s: s.take(9),
    "skip": lambda s: s.skip(1),
    "skip all": lambda s: s.skip(5),
    "cache": lambda s: s.cache().prefetch(2),
    "no shuffle": lambda s: s.shuffle(1),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_chains_are_those_of_tensorflow(chain):
    tf = pytest.importorskip("tensorflow")
    source = tf.data.Dataset.from_tensor_slices((SERIES[:-1], SERIES[1:], SERIES[1:] * 10))
    source = source.map(lambda a, b, y: (tf.stack([a, b]), y)).batch(3)
    ours, theirs = chain(stream()), chain(source)
    assert len(ours) == len(theirs)
    for _ in range(2):
        found, expected = list(ours), list(theirs)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert isinstance(a, tuple) == isinstance(b, tuple)
            for part, other in zip(fnn.tree.flatten(a), fnn.tree.flatten(b), strict=True):
                np.testing.assert_array_equal(part, other)


def test_shuffle_gives_each_pass_an_order_of_its_own():
    shuffled = windows(SERIES, length=1, batch_size=1).shuffle(4, seed=0)
    passes = [[int(x[0, 0]) for x in shuffled] for _ in range(2)]
    assert passes[0] != passes[1]
    assert sorted(passes[0]) == sorted(passes[1]) == SERIES.tolist()
    # The batch that comes out at a place was within the buffer then.
    assert all(value < place + 4 for place, value in enumerate(passes[0]))


def test_cache_reads_its_source_once():
    reads = []
    cached = stream().map(lambda x, y: reads.append(1) or x).cache()
    assert [len(list(cached)) for _ in range(3)] == [3, 3, 3]
    assert len(reads) == 3


@pytest.mark.slow
def test_mapped_streams_train_a_model_and_adapt_a_layer():
    normalize = L.Normalization()
    normalize.adapt(stream().map(lambda x, y: x))
    np.testing.assert_allclose(normalize.mean, [[3.5, 4.5]])
    model = fnn.Sequential([L.Dense(1)])
    model.compile("sgd", "mse")
    prepared = stream().map(lambda x, y: (normalize(x), y)).cache().shuffle(2).prefetch(1)
    history = model.fit(prepared, validation_data=stream().take(1), epochs=2, verbose=0)
    assert list(history.history) == ["loss", "val_loss"]
    assert model.predict(prepared.map(lambda x, y: x), verbose=0).shape == (8, 1)
