"""Random keys whose draws compile soon: a few multiplications where threefry has 20 rounds."""

import math

import jax
import numpy as np
from jax import lax
from jax.extend.random import define_prng_impl

# What is made of a key differs by these: its draws, their upper halves, its parts, what is folded.
DRAW, UPPER, SPLIT, FOLD = map(np.uint32, (0x27D4EB2F, 0xC2B2AE35, 0x9E3779B9, 0x85EBCA6B))


def _mixed(numbers):
    """Each number another one whose every bit hangs on every bit: lowbias32 by Chris Wellons."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        shift, factor = lax.full_like(numbers, shift), lax.full_like(numbers, factor)
        numbers = lax.mul(lax.bitwise_xor(numbers, lax.shift_right_logical(numbers, shift)), factor)
    return numbers


def _made(key, purpose, count):
    """`count` random numbers that are another function of the key for each purpose."""
    start = _mixed(lax.bitwise_xor(key, purpose))  # (1,)
    return _mixed(lax.add(lax.broadcast_in_dim(start, (count,), (0,)), lax.iota("uint32", count)))


def _seed(seed):
    return _mixed(lax.reshape(lax.convert_element_type(seed, "uint32"), (1,)))


def _split(key, shape):
    return lax.reshape(_made(key, SPLIT, math.prod(shape)), (*shape, 1))


def _fold_in(key, number):
    return _mixed(lax.add(_mixed(lax.bitwise_xor(key, FOLD)), _seed(number)))


def _bits(key, width, shape):
    numbers = _made(key, DRAW, math.prod(shape))
    if width == 64:
        upper = lax.convert_element_type(_made(key, UPPER, math.prod(shape)), "uint64")
        upper = lax.shift_left(upper, lax.full_like(upper, 32))
        numbers = lax.bitwise_or(upper, lax.convert_element_type(numbers, "uint64"))
    return lax.reshape(lax.convert_element_type(numbers, f"uint{width}"), shape)


_QUICK = define_prng_impl(
    key_shape=(1,), seed=_seed, split=_split, random_bits=_bits, fold_in=_fold_in, name="quick"
)


def quick_key(seed):
    return jax.random.key(seed, impl=_QUICK)
