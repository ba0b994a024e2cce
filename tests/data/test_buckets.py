"""Buckets: every sequence once, padded and masked, with one trace a length in both loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.data import bucket

RNG = np.random.default_rng(0)
WORDS = [RNG.integers(1, 20, n).tolist() for n in RNG.integers(1, 13, 23)]
STARS = np.arange(23) % 2
TAGS = [[word % 3 for word in sequence] for sequence in WORDS]


def words_of(row, mask):
    return row[mask].tolist()


@pytest.mark.parametrize("padding", ["post", "pre"])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("lengths", [1, 3, [4, 9, 20]])
def test_every_sequence_comes_once_with_its_target(padding, shuffle, lengths):
    batches = bucket(
        WORDS,
        STARS,
        lengths=lengths,
        batch_size=4,
        value=-1,
        padding=padding,
        with_mask=True,
        shuffle=shuffle,
        seed=0,
    )
    found = list(batches)
    assert len(found) == len(batches) == 6
    assert [len(y) for _, y, _ in found] == [4] * 5 + [3], "only the last is smaller"
    seen = []
    for (x, mask), y, weight in found:
        assert x.shape[1] in batches.lengths
        assert weight.tolist() == [1.0] * len(y)
        assert (x[~mask] == -1).all()
        steps = np.arange(x.shape[1])
        for row, valid, star in zip(x, mask, y, strict=True):
            count = valid.sum()
            own = steps >= x.shape[1] - count if padding == "pre" else steps < count
            np.testing.assert_array_equal(valid, own)
            seen.append((row[valid].tolist(), int(star)))
    assert sorted(seen) == sorted(zip(WORDS, STARS.tolist(), strict=True))


def test_sequences_lie_in_the_shortest_bucket_that_holds_them():
    batches = bucket(WORDS, lengths=[4, 8, 12], batch_size=1, shuffle=False)
    expected = [min(n for n in (4, 8, 12) if n >= len(sequence)) for sequence in WORDS]
    assert [x.shape[1] for x, _, _ in batches] == sorted(expected)


def test_lengths_by_number_hold_about_equally_many():
    sequences = [[0] * n for n in range(1, 101)]
    assert bucket(sequences, lengths=4).lengths.tolist() == [26, 51, 76, 100]
    assert bucket([[1], [2]], lengths=4).lengths.tolist() == [1]


def test_each_pass_has_an_order_of_its_own_by_the_seed():
    def passes(seed):
        batches = bucket(WORDS, lengths=3, batch_size=4, seed=seed)
        return [[x.tolist() for x, _, _ in batches] for _ in range(2)]

    first, second = passes(0)
    assert first != second
    assert passes(0) == [first, second]
    assert passes(1)[0] != first


def test_targets_for_each_step_have_the_mask_as_weights():
    weights = np.arange(1, 24) / 10
    batches = bucket(WORDS, TAGS, weights, lengths=2, batch_size=5, shuffle=False)
    for x, y, weight in batches:
        assert x.shape == y.shape == weight.shape
        np.testing.assert_array_equal(y, x % 3)
        for row, own in zip(x, weight, strict=True):
            number = WORDS.index(row[row > 0].tolist())
            expected = np.where(row > 0, np.float32(weights[number]), 0)
            np.testing.assert_array_equal(own, expected)


def test_steps_may_be_vectors():
    sequences = [RNG.normal(size=(n, 2)).astype("float32") for n in (2, 3, 0)]
    ((x, y, mask),) = bucket(sequences, lengths=1, shuffle=False)
    assert x.shape == (3, 3, 2)
    assert y is None
    assert mask.sum(axis=1).tolist() == [2, 3, 0]
    np.testing.assert_array_equal(x[1], sequences[1])


def reader(traces):
    """A network that notes the lengths with which it is traced."""

    def noted(x):
        traces.append(x.shape[1])
        return x

    layers = fnn.layers
    return fnn.Sequential(
        [
            fnn.Input((None,), dtype="int32"),
            layers.Lambda(noted),
            layers.Embedding(20, 4, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1, "sigmoid"),
        ],
        seed=0,
    )


@pytest.mark.slow
def test_fit_traces_once_a_length():
    traces = []
    model = reader(traces)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    batches = bucket(WORDS, STARS, lengths=[4, 8, 12], batch_size=4, shuffle=False)
    traces.clear()
    model.fit(batches, epochs=2, verbose=0)
    # Once in the step and once for its shapes; the first length also to see what padding does.
    assert traces.count(8) == traces.count(12) == 2
    assert set(traces) == {4, 8, 12}
    traces.clear()
    model.fit(batches, epochs=3, verbose=0)
    assert traces == []
    assert int(model.optimizer.iterations) == 5 * len(batches)


@pytest.mark.slow
def test_the_loss_is_that_of_all_sequences_padded_to_one_length():
    model = reader([])
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    whole = fnn.utils.pad_sequences(WORDS, padding="post")
    expected = model.evaluate(whole, STARS, verbose=0)
    for lengths, size in ((3, 4), ([12], 5), ([2, 12], 23)):
        batches = bucket(WORDS, STARS, lengths=lengths, batch_size=size)
        found = model.evaluate(batches, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_targets_for_each_step_in_fit_leave_padding_out():
    layers = fnn.layers
    network = [fnn.Input((None,)), layers.Embedding(20, 4), layers.Dense(3, "softmax")]
    model = fnn.Sequential(network, seed=0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    batches = bucket(WORDS, TAGS, lengths=3, batch_size=23)
    losses, steps = 0.0, 0
    for words, tags in zip(WORDS, TAGS, strict=True):
        outputs = np.asarray(model(np.array([words])))[0]
        losses -= np.log(outputs[np.arange(len(tags)), tags]).sum()
        steps += len(tags)
    total = sum(weight.size for _, _, weight in batches)
    found = model.evaluate(batches, verbose=0)
    # As in Keras, a weighted mean divides by the number of steps, not by the sum of the weights.
    np.testing.assert_allclose(found, losses / total, rtol=1e-5)
    assert steps < total


@pytest.mark.slow
def test_the_loop_of_pure_steps_traces_once_a_length():
    traces = []

    def step(w, batch, key):
        (x, mask), _, weight = batch
        traces.append(x.shape[1])

        def loss(w):
            return jnp.where(mask, (x - w) ** 2, 0).sum() / mask.sum()

        value, gradient = jax.value_and_grad(loss)(w)
        return w - 0.1 * gradient, {"loss": value, "steps": weight.sum()}

    batches = bucket(WORDS, lengths=[4, 8, 12], batch_size=4, with_mask=True, seed=0)
    w, _ = fnn.training.fit(step, jnp.zeros(()), batches, epochs=4, verbose=0)
    assert sorted(set(traces)) == [4, 8, 12]
    before = len(traces)
    fnn.training.fit(step, w, batches, epochs=1, verbose=0)
    assert len(traces) == before
    expected = np.zeros(())
    again = bucket(WORDS, lengths=[4, 8, 12], batch_size=4, with_mask=True, seed=0)
    for _ in range(4):
        for (x, mask), _, _ in again:
            if len(x) == 4:  # the last batch, which is smaller, is left out there
                expected = expected + 0.2 * ((x - expected) * mask).sum() / mask.sum()
    np.testing.assert_allclose(w, expected, rtol=1e-4)


def test_strings_are_padded_with_empty_ones():
    ((x, _, _),) = bucket([["a"], ["bc", "d"]], lengths=[3], shuffle=False)
    assert x.tolist() == [["a", "", ""], ["bc", "d", ""]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bucket([[1, 2, 3]], lengths=[2]), r"at most 2 steps, .* received 3 in x\[0\]"),
        (lambda: bucket([[1], [[1, 2]]]), r"steps of one shape in x, received \[\(\), \(2,\)\]"),
        (lambda: bucket([[[1], [1, 2]]]), r"x\[0\] with steps of one shape"),
        (lambda: bucket([1, 2]), "x as a list of sequences, received 1 as number 0"),
        (lambda: bucket([]), "a list of sequences, received none"),
        (lambda: bucket([[1], [2, 3]], [1]), "targets for 2 sequences, received 1"),
        (
            lambda: bucket([[1], [2, 3]], [[1], [1, 2, 3]]),
            r"for each step or for each sequence, received 3 for the 2 steps of x\[1\]",
        ),
        (lambda: bucket([[1]], sample_weight=[1, 2]), "one sample_weight for each of 1 sequences"),
        (lambda: bucket([[1]], lengths=0), "a positive number of lengths, received 0"),
        (lambda: bucket([[1]], lengths=[0, 2]), "lengths as positive integers"),
        (lambda: bucket([[1]], padding="both"), 'padding to be "pre" or "post"'),
        (lambda: bucket([[1]], batch_size=0), "batch_size as a positive integer, received 0"),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
