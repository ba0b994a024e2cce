"""The faults: what a person gets wrong, where it would stand, and the tests that must find it."""

from typing import NamedTuple


class Fault(NamedTuple):
    """In `file`, `old` (which occurs once) becomes `new`; `tests` are arguments of pytest."""

    file: str
    what: str  # the change in a few words, and why someone makes it
    old: str
    new: str
    tests: str


def _property(name: str, rows: str) -> str:
    return f"tests/layers/test_catalogue.py::test_property -k '{name} and {rows}'"


PROPERTIES = [
    Fault(
        "fnn/layers/batch_normalization.py",
        "the moving averages are written into the given state: a dict invites update()",
        "state = self._moved(state, *batch)",
        "state.update(self._moved(state, *batch))",
        _property("calls_are_pure", "BatchNormalization"),
    ),
    Fault(
        "fnn/layers/masks.py",
        "a function of NumPy for one of JAX, np for jnp: it cannot be compiled",
        "        y = jnp.where(valid[..., None], x, jnp.zeros_like(x))\n",
        "        import numpy as np\n\n"
        "        y = np.where(valid[..., None], x, jnp.zeros_like(x))\n",
        _property("jit_equals_eager", "Masking"),
    ),
    Fault(
        "fnn/layers/experts.py",
        "the new state holds what changed and lacks the state of the experts",
        'return attach_mask(y, ctx.mask), {"aux_loss": loss, "experts": states}',
        'return attach_mask(y, ctx.mask), {"aux_loss": loss}',
        _property("state_keeps_its_structure", "MixtureOfExperts"),
    ),
    Fault(
        "fnn/layers/normalization.py",
        "computed in float32 and not cast back to the dtype of the inputs",
        'params, axes, "scale")\n        return y.astype(float_dtype(x)), state',
        'params, axes, "scale")\n        return y, state',
        _property("bfloat16", "RMSNormalization"),
    ),
    Fault(
        "fnn/layers/shared/attending.py",
        "a mask that is added, as -inf: jnp.where hides the NaN after it, not its gradient",
        "jnp.where(allowed, scores, lowest)",
        "scores + jnp.where(allowed, 0, -jnp.inf)",
        _property("gradients_are_finite", "Attention"),
    ),
    Fault(
        "fnn/runtime/initial_values.py",
        "the QR decomposition by NumPy in a callback, which compiles sooner and has no vmap",
        "        return jnp.linalg.qr(matrix)\n",
        "        spec = jax.eval_shape(lambda m: tuple(jnp.linalg.qr(m)), matrix)\n"
        "        return jax.pure_callback(lambda m: tuple(np.linalg.qr(m)), spec, matrix)\n",
        _property("vmap_over_weights", "GRU"),
    ),
    Fault(
        "fnn/layers/normalization.py",
        "statistics over all axes but the channels, the batch among them",
        "axes = tuple(i for i in range(1, values.ndim) if i != axis)",
        "axes = tuple(i for i in range(values.ndim) if i != axis)",
        _property("an_example_alone_is_as_in_the_batch", "GroupNormalization"),
    ),
    Fault(
        "fnn/layers/shared/recurrence.py",
        "the sequence reversed along axis 0, as if time were in front already",
        "sequences = jnp.flip(sequences, 1)",
        "sequences = jnp.flip(sequences, 0)",
        _property("batch_order_changes_nothing", "go_backwards"),
    ),
    Fault(
        "fnn/layers/shared/statistics.py",
        "means leave out masked steps, and the padded examples of a last batch count",
        "for mask in (ctx.rows, ctx.mask):",
        "for mask in (ctx.mask,):",
        _property("padded_rows_change_nothing", "BatchNormalization"),
    ),
    Fault(
        "fnn/layers/global_pooling.py",
        "the mean counts valid steps, and its sum has the masked ones too",
        "keepdims=keepdims, where=mask)\n    mean =",
        "keepdims=keepdims)\n    mean =",
        _property("masked_steps_change_nothing", "GlobalAveragePooling1D"),
    ),
    Fault(
        "fnn/layers/shared/attending.py",
        "off by one: a query looks at the step after it",
        "not_later = row >= column",
        "not_later = row >= column - 1",
        _property("a_later_step_changes_nothing_earlier", "GroupedQueryAttention"),
    ),
    Fault(
        "fnn/core/config.py",
        "a config leaves out what is false or empty, which is not always the default",
        'n: to_config(v) for n, v in value._attributes() if n[0] != "_"',
        'n: to_config(v) for n, v in value._attributes() if n[0] != "_" and v',
        _property("config_round_trip", "Dense"),
    ),
    Fault(
        "fnn/core/value.py",
        "names do not count in comparisons: they are taken for labels",
        "                with fields.noted(self, name):\n                    key +=",
        '                if name != "name":\n                    key +=',
        _property("equality_and_hash", "Dense"),
    ),
    Fault(
        "fnn/runtime/program_cache.py",
        "what is remembered about a value outlives the change of a layer in it",
        "self.now += 1",
        "self.now += 0",
        "tests/models/test_changes_in_place.py",
    ),
]

ARGUMENTS = [
    Fault(
        "fnn/layers/batch_normalization.py",
        "the range of a number is not checked: a field has no bound",
        "    momentum: float = fraction(default=0.99)\n",
        "    momentum: float = 0.99\n",
        "tests/layers/test_layer_messages.py::test_no_field_holds_a_number_out_of_its_range"
        " -k BatchNormalization",
    ),
    Fault(
        "fnn/layers/batch_normalization.py",
        "a field that takes anything: it is annotated Any",
        "    synchronized: bool = False",
        "    synchronized: Any = False",
        "tests/layers/test_layer_messages.py::test_no_field_holds_what_it_is_not_for"
        " -k BatchNormalization",
    ),
    Fault(
        "fnn/core/fields.py",
        "a bound holds for the first number of a tuple alone",
        "self.holds(item) for item in flat(held))",
        "self.holds(item) for item in flat(held)[:1])",
        "tests/layers/test_layer_messages.py"
        "::test_no_field_holds_a_number_out_of_its_range -k Conv2D",
    ),
    Fault(
        "fnn/core/layer.py",
        "a field that every layer inherits takes anything",
        "    trainable: bool = field(default=True, kw_only=True)",
        "    trainable: Any = field(default=True, kw_only=True)",
        "tests/layers/test_layer_messages.py::test_no_field_holds_what_it_is_not_for -k Dense",
    ),
    Fault(
        "fnn/core/arguments.py",
        "an error says what was expected, and not what came",
        '{argument} {expected}, received {argument}={shown(received)}"',
        '{argument} {expected}"',
        "tests/layers/test_layer_messages.py::test_wrong_argument",
    ),
    Fault(
        "fnn/core/checks.py",
        "an error names the expected width twice, and not the width of the inputs",
        "received {got} in shape",
        "received {features} in shape",
        "tests/layers/test_layer_messages.py::test_apply_alone_checks_its_inputs",
    ),
]

_MANY_LINES = "".join(f"        # step {number}\n" for number in range(60))

HOUSE = [
    Fault(
        "fnn/training/resume.py",
        "an import that goes up, inside a function, where it hides the cycle",
        "    rates = jax.tree.leaves(",
        "    from fnn.models import Model  # noqa: F401\n\n    rates = jax.tree.leaves(",
        "tests/project/test_house.py -k 'imports or training'",
    ),
    Fault(
        "fnn/layers/dense.py",
        "a function that has grown to 60 lines",
        '        y = matmul(x, params["kernel"])  # (..., units)\n',
        '        y = matmul(x, params["kernel"])  # (..., units)\n' + _MANY_LINES,
        "tests/project/test_house.py -k small",
    ),
    Fault(
        "fnn/layers/dense.py",
        "a module that begins without a sentence that says what it holds",
        '"""Dense: a fully connected layer."""\n\n',
        "",
        "tests/project/test_house.py -k 'one_line or readme'",
    ),
]

LAYERS = [
    Fault(
        "fnn/layers/shared/recurrence.py",
        "the first carry of a scan as it is: on a mesh its sharding is not that of the next",
        "carry = settled(body, (first, start, memory), by_time)",
        "carry = first, start, memory",
        "tests/distribution/test_explicit_axes.py"
        "::test_every_layer_takes_divided_weights -k SimpleRNN",
    ),
    Fault(
        "fnn/layers/normalization.py",
        "the default epsilon of PyTorch and not that of Keras",
        "    axis: int | Axes = -1\n    epsilon: float = not_negative(default=1e-3)",
        "    axis: int | Axes = -1\n    epsilon: float = not_negative(default=1e-5)",
        "tests/layers/test_keras_layers.py"
        "::test_arguments_are_those_of_keras -k LayerNormalization",
    ),
    Fault(
        "fnn/layers/pooling.py",
        "uneven padding has its odd position in front, not at the end",
        "pads.append((total // 2, total - total // 2))",
        "pads.append((total - total // 2, total // 2))",
        "tests/layers/test_keras_layers.py::test_layer_equals_keras -k Pooling",
    ),
    Fault(
        "fnn/layers/shared/recurrence.py",
        "a masked step repeats the output, but its state moves on",
        "y, new = where_examples(valid, (y, new), (before, old))",
        "y = where_examples(valid, y, before)",
        "tests/layers/test_keras_layers.py::test_layer_equals_keras -k 'LSTM and masked'",
    ),
]

TRAINING = [
    Fault(
        "fnn/training/independence/rules.py",
        "any known filling passes for one that changes no sum",
        "if fill is None or fill != no_change:",
        "if fill is None:",
        "tests/training/test_independence.py::test_programs_that_mix_examples",
    ),
    Fault(
        "fnn/losses/crossentropy.py",
        "wrong axis: targets are smoothed by the number of examples",
        "t = smooth(t, label_smoothing, t.shape[axis])",
        "t = smooth(t, label_smoothing, t.shape[0])",
        "tests/losses/test_losses.py"
        "::test_value_and_gradient_equal_keras -k CategoricalCrossentropy",
    ),
    Fault(
        "fnn/losses/loss.py",
        "the masked values are left out of the sum and counted in the mean",
        "count = counted.sum().astype(values.dtype)",
        "count = jnp.full((), values.size, values.dtype)",
        "tests/losses/test_losses.py -k 'not_valid or mask'",
    ),
    Fault(
        "fnn/metrics/confusion.py",
        "counts in the order of the sorted thresholds, not in that of the given ones",
        "return counts[1:][np.argsort(order)], counts[0]",
        "return counts[1:], counts[0]",
        "tests/metrics/test_metrics.py::test_batches_equal_keras -k 'Precision or Negatives'",
    ),
    Fault(
        "fnn/optimizers/own.py",
        "off by one in the bias correction: steps counted from 0",
        "deviation = jnp.sqrt(v / (1 - self.beta_2**step))",
        "deviation = jnp.sqrt(v / (1 - self.beta_2 ** (step + 1)))",
        "tests/optimizers/test_optimizers.py::test_ten_steps_equal_keras -k Nadam",
    ),
    Fault(
        "fnn/training/data.py",
        "the last batch counts as a full one: what fills it up is not marked",
        "array[done : done + several].reshape(-1)[: len(found)] = values",
        "array[done : done + several].reshape(-1)[: len(found)] = values\n"
        "            valid[done : done + several] = True",
        "tests/training/test_exactness.py -k reference",
    ),
    Fault(
        "fnn/training/data.py",
        "every epoch has the order of the first: its number is not in the seed",
        "np.random.default_rng([*seed, number])",
        "np.random.default_rng(seed)",
        "tests/training/test_exactness.py -k shuffling",
    ),
    Fault(
        "fnn/training/class_weights.py",
        "a class without a weight weighs 0, not 1",
        "table.get(int(one), 1.0)",
        "table.get(int(one), 0.0)",
        "tests/training/test_class_weights.py"
        "::test_each_target_weighs_what_its_class_does -k labels",
    ),
    Fault(
        "fnn/training/resume.py",
        "off by one: the epoch that has ended is recorded, and trained again",
        '"epoch": np.int64(epoch + 1)',
        '"epoch": np.int64(epoch)',
        "tests/training/test_resume.py::test_a_state_that_a_callback_restores_says_with_which_epoch_to_go_on",
    ),
    Fault(
        "fnn/callbacks/monitoring.py",
        "patience of one epoch more: above in place of at least",
        "elif self.wait >= self.patience and epoch > 0:",
        "elif self.wait > self.patience and epoch > 0:",
        "tests/callbacks/test_callbacks.py::test_decisions_are_those_of_keras -k EarlyStopping",
    ),
    Fault(
        "fnn/saving/tensors.py",
        "the checksum covers names, dtypes and shapes, and no values",
        "        total.update(_bytes_of(array).data)\n",
        "",
        "tests/saving/test_hostile_files.py -k 'flipped_bit or checksum'",
    ),
    Fault(
        "fnn/core/value.py",
        "an error advises a method that the value does not have",
        'return f"{self.kind}.replace({name}={value!r}) makes a changed copy"',
        'return f"{self.kind}.renew({name}={value!r}) makes a changed copy"',
        "tests/project/test_advice.py -k 'frozen or names_in_a_message'",
    ),
]

FAULTS = [*PROPERTIES, *ARGUMENTS, *HOUSE, *LAYERS, *TRAINING]
