"""CTC: the loss of sequences that are not aligned in time, and their decoding."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

PAD = -1  # where a decoded sequence has ended


def _after(lengths: Array, size: int) -> Array:
    """True for the steps behind the end of each sequence.   (batch,) -> (batch, size)"""
    return jnp.arange(size)[None, :] >= lengths[:, None]


def ctc_loss(
    target: Array,
    output: Array,
    target_length: Array,
    output_length: Array,
    mask_index: int = 0,
) -> Array:
    """-log of the probability of each label sequence, from logits (batch, time, classes)."""
    logits = output.astype(jnp.promote_types(output.dtype, "float32"))
    missing = _after(output_length.astype("int32"), logits.shape[1])
    padded = _after(target_length.astype("int32"), target.shape[1])
    loss = optax.ctc_loss(
        logits,
        missing.astype(logits.dtype),
        target.astype("int32"),
        padded.astype(logits.dtype),
        blank_id=mask_index,
    )
    result: Array = loss.astype(logits.dtype)
    return result


def ctc_decode(
    inputs: Array,
    sequence_lengths: Array,
    strategy: str = "greedy",
    beam_width: int = 100,
    top_paths: int = 1,
    merge_repeated: bool = True,
    mask_index: int | None = 0,
) -> tuple[Array, Array]:
    """The likeliest label sequences, (paths, batch, time) with -1 behind their end."""
    inputs = inputs.astype(jnp.promote_types(inputs.dtype, "float32"))
    blank = mask_index
    if blank is None:
        blank = inputs.shape[-1] - 1
    lengths = sequence_lengths.astype("int32")
    if strategy == "greedy":
        return _greedy(inputs, lengths, merge_repeated, blank)
    if strategy != "beam_search":
        raise ValueError(
            "ctc_decode: expected strategy to be 'greedy' or 'beam_search', received "
            f"{strategy!r}"
        )
    return _beam_search(inputs, lengths, beam_width, top_paths, blank)


def _greedy(
    inputs: Array,
    lengths: Array,
    merge_repeated: bool,
    blank: int,
) -> tuple[Array, Array]:
    ended = _after(lengths, inputs.shape[1])
    labels = jnp.argmax(inputs, axis=-1)  # (batch, time)
    labels = jnp.where(ended, blank, labels)
    scores = jnp.max(inputs, axis=-1)  # (batch, time)
    scores = jnp.where(ended, 0.0, scores)
    if merge_repeated:
        repeated = labels[:, 1:] == labels[:, :-1]  # (batch, time - 1)
        repeated = jnp.pad(repeated, ((0, 0), (1, 0)))
        labels = jnp.where(repeated, blank, labels)
    dropped = labels == blank
    labels = jnp.where(dropped, PAD, labels)
    # Blanks go behind the labels, which stay in order.
    order = jnp.argsort(dropped, axis=-1, stable=True)
    labels = jnp.take_along_axis(labels, order, axis=-1)
    total = jnp.sum(scores, axis=1)
    return labels[None], -total[:, None]


class Beam(NamedTuple):
    """Label sequences under way, each once as it ends in a label and once in a blank."""

    paths: Array  # (2 * width, time), -1 behind the labels
    scores: Array  # (2 * width,), logarithms of probabilities
    masked: Array  # (2 * width,), True where the last step was a blank


def _beam_search(
    inputs: Array,
    lengths: Array,
    width: int,
    top_paths: int,
    blank: int,
) -> tuple[Array, Array]:
    classes = inputs.shape[-1]
    # Of equal scores the sort keeps the last: reversed classes make it the first.
    scores = jnp.flip(jax.nn.log_softmax(inputs), axis=2)
    blank = classes - blank - 1
    ended = _after(lengths, inputs.shape[1])

    def decode(scores: Array, ended: Array) -> tuple[Array, Array]:
        def step(beam: Beam, now: tuple[Array, Array]) -> tuple[Beam, None]:
            row, is_over = now
            return lax.cond(
                is_over,
                lambda beam: beam,
                lambda beam: _pruned(_extended(beam, row, blank), classes, width),
                beam,
            ), None

        start = _started(scores[0], scores.shape[0], width, blank)
        rest = (scores[1:], ended[1:])
        beam, _ = lax.scan(step, start, rest)
        paths, places = _unique(beam.paths, 2 * classes * width)
        merged = _merged(places, beam.scores)
        best = jnp.argsort(merged)[-top_paths:][::-1]
        return paths[best], merged[best]

    paths, found = jax.vmap(decode)(scores, ended)  # (batch, paths, time)
    paths = jnp.where(paths == PAD, PAD, classes - paths - 1)
    return jnp.transpose(paths, (1, 0, 2)), found


def _started(
    row: Array,
    time: int,
    width: int,
    blank: int,
) -> Beam:
    """The likeliest first labels."""
    number = min(row.shape[0], width)
    best = jnp.argsort(row)[-number:]
    paths = jnp.full((2 * width, time), PAD, "int32")
    labels = jnp.where(best == blank, PAD, best)
    paths = paths.at[:number, 0].set(labels)
    scores = jnp.full(2 * width, -jnp.inf, row.dtype)
    scores = scores.at[:number].set(row[best])
    return Beam(paths, scores, paths[:, 0] == PAD)


def _extended(
    beam: Beam,
    row: Array,
    blank: int,
) -> Beam:
    """Each sequence with each class behind it."""
    classes, number = row.shape[0], beam.scores.shape[0]
    paths = jnp.repeat(beam.paths, classes, axis=0)  # (2 * width * classes, time)
    was_masked = jnp.repeat(beam.masked, classes)
    ends = jnp.argmax(paths == PAD, axis=1)
    places = jnp.arange(number * classes)
    last = jnp.where(ends == 0, PAD, paths[places, ends - 1])
    labels = jnp.arange(classes).at[blank].set(PAD)
    labels = jnp.tile(labels, number)  # (2 * width * classes,)
    # The same label again without a blank between goes on with the one that is there.
    repeated = ~was_masked & (last == labels)
    added = jnp.where(repeated, PAD, labels)
    paths = paths.at[places, ends].set(added)
    scores = jnp.repeat(beam.scores, classes) + jnp.tile(row, number)
    return Beam(paths, scores, labels == PAD)


def _unique(paths: Array, size: int) -> tuple[Array, Array]:
    """The different sequences, and for each given one its place among these."""
    found, places = jnp.unique(
        paths, return_inverse=True, size=size, axis=0, fill_value=PAD
    )
    return found, places.reshape(-1)


def _merged(places: Array, scores: Array) -> Array:
    """Adds the probabilities of equal sequences."""
    most = jnp.max(scores)
    sums = jnp.zeros_like(scores)
    sums = sums.at[places].add(jnp.exp(scores - most))
    return jnp.log(sums) + most


def _pruned(
    beam: Beam,
    classes: int,
    width: int,
) -> Beam:
    """The likeliest sequences."""
    paths, places = _unique(beam.paths, 2 * classes * width)
    in_label = jnp.where(beam.masked, -jnp.inf, beam.scores)
    in_label = _merged(places, in_label)
    in_blank = jnp.where(beam.masked, beam.scores, -jnp.inf)
    in_blank = _merged(places, in_blank)
    best = jnp.argsort(jnp.logaddexp(in_label, in_blank))[-width:]
    masked = jnp.arange(2 * width) >= width
    scores = jnp.concatenate([in_label[best], in_blank[best]])
    paths = jnp.tile(paths[best], (2, 1))
    return Beam(paths, scores, masked)
