"""FarmHash64, SipHash and the hash of crossed features, compared with those of TensorFlow."""

import numpy as np
import pytest

from fnn.preprocessing.hashes import cross_hash, farm_hash, sip_hash

LARGE = 2**63 - 1


def strings():
    """Random bytes of every length up to 200, and some longer."""
    draw = np.random.default_rng(0).integers
    lengths = [*range(201), 255, 256, 257, 511, 640, 1000]
    return [draw(0, 256, n).astype(np.uint8).tobytes() for n in lengths]


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.mark.parametrize("bins", [7, 1000003, LARGE])
def test_farm_hash_is_that_of_tensorflow(tf, bins):
    expected = tf.strings.to_hash_bucket_fast(strings(), bins).numpy()
    found = farm_hash(strings()) % np.uint64(bins)
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("key", [(0, 0), (133, 137), (2**40, 5)])
def test_sip_hash_is_that_of_tensorflow(tf, key):
    expected = tf.strings.to_hash_bucket_strong(strings(), LARGE, key=list(key)).numpy()
    found = sip_hash(strings(), key) % np.uint64(LARGE)
    assert found.tolist() == expected.tolist()


def test_the_hash_of_crossed_features_is_that_of_tensorflow(tf):
    words = np.array(["a", "b", "", "a"])[:, None]
    numbers = np.array([101, -7, 2**40, 0])[:, None]
    crossed = tf.sparse.cross_hashed([tf.constant(words), tf.constant(numbers)], LARGE)
    expected = tf.sparse.to_dense(crossed).numpy().reshape(-1)
    hashed = farm_hash([word.encode() for word in words[:, 0]])
    found = cross_hash([hashed, numbers[:, 0].view(np.uint64)]) % np.uint64(LARGE)
    assert found.tolist() == expected.tolist()


def test_no_strings_have_no_hashes():
    assert farm_hash([]).shape == sip_hash([], (1, 2)).shape == (0,)
