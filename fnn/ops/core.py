"""Control flow, scatters, casts, segments and transforms, by Keras's names."""

from __future__ import annotations

import jax
from jax import lax

from fnn.ops import control, groups, signal
from fnn.ops.dtypes import as_float
from fnn.ops.table import Table, functions, keeps_lists, rows

_CONTROL: Table = {
    "cond(pred, true_fn, false_fn)": control.cond,
    "switch(index, branches, *operands)": control.switch,
    "while_loop(cond, body, loop_vars, maximum_iterations=None)": control.while_loop,
    "fori_loop(lower, upper, body_fun, init_val)": control.fori_loop,
    "scan(f, init, xs=None, length=None, reverse=False, unroll=1)": (
        keeps_lists(control.scan)
    ),
    "associative_scan(f, elems, reverse=False, axis=0)": control.associative_scan,
    "map(f, xs)": lax.map,
    "vectorized_map(function, elements)": control.vectorized_map,
    "stop_gradient(variable)": control.stop_gradient,
    "cast(x, dtype)": control.cast,
    "saturate_cast(x, dtype)": control.saturate_cast,
    "convert_to_tensor(x, dtype=None, sparse=None, ragged=None)": (
        control.convert_to_tensor
    ),
    "slice(inputs, start_indices, shape)": control.slice_of,
    "slice_update(inputs, start_indices, updates)": control.slice_update,
    "scatter(indices, values, shape)": control.scatter,
    "scatter_update(inputs, indices, updates, reduction=None)": control.scatter_update,
    "unstack(x, num=None, axis=0)": control.unstack,
}

_MATH: Table = {
    **rows("(x)", "erf erfc erfinv", jax.scipy.special),
    "rsqrt(x)": as_float(lax.rsqrt),
    "logsumexp(x, axis=None, keepdims=False)": jax.scipy.special.logsumexp,
    **rows(
        "(data, segment_ids, num_segments=None, sorted=False)",
        "segment_max segment_min segment_prod segment_sum",
        groups,
    ),
    "top_k(x, k, sorted=True)": groups.top_k,
    "in_top_k(targets, predictions, k)": groups.in_top_k,
    "cdist(x, y)": groups.cdist,
    "logdet(x)": groups.logdet,
    **rows("(x)", "view_as_complex view_as_real", groups),
    "rearrange(tensor, pattern, **axes_lengths)": groups.rearrange,
    **rows("(x)", "fft fft2 ifft2", signal),
    **rows("(x, fft_length=None)", "irfft rfft", signal),
    "extract_sequences(x, sequence_length, sequence_stride)": signal.extract_sequences,
    "stft(x, sequence_length, sequence_stride, fft_length, window='hann', center=True)": (
        signal.stft
    ),
    "istft(x, sequence_length, sequence_stride, fft_length, length=None, window='hann', "
    "center=True)": signal.istft,
}

# These ask about an array or take a function: on nodes they make no layer.
_PLAIN: Table = {
    name: getattr(control, name)
    for name in ("convert_to_numpy", "custom_gradient", "dtype", "is_tensor", "shape")
}

_MODULE = functions(__name__, _CONTROL | _MATH) | _PLAIN
globals().update(_MODULE)
__all__ = list(_MODULE)
