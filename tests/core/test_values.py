"""Values and layers that users write: what their constructors take, and what makes them equal."""

import dataclasses
import gc
import pickle
import weakref
from dataclasses import field

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import INFERENCE, Layer
from fnn.core.config import to_config
from fnn.core.fields import fraction, one_of, positive
from fnn.layers import Dense, Sequential

X = jnp.ones((4, 3))


def ones(cls, **options):
    return cls(2, kernel_initializer="ones", **options)


def predicted(layer):
    x = fnn.Input((3,))
    return fnn.Model(x, layer(x)).predict(np.ones((4, 3), "float32"), verbose=0)[0].tolist()


class Doubled:
    """A mixin that is no layer."""

    def apply(self, params, state, x, ctx=INFERENCE):
        y, state = super().apply(params, state, x, ctx)
        return y * 2, state


class DoubledDense(Doubled, Dense):
    pass


class DoubledRow(Sequential):
    def apply(self, params, state, x, ctx=INFERENCE):
        y, state = super().apply(params, state, x, ctx)
        return y * 2, state


@pytest.mark.slow
def test_an_apply_above_another_is_run_alone_and_inside():
    assert predicted(ones(DoubledDense)) == [6.0, 6.0]
    assert predicted(DoubledRow([ones(Dense)])) == [6.0, 6.0]
    for dtype in (None, "float32", "bfloat16"):
        row = DoubledRow([ones(Dense)], dtype=dtype)
        params, state = row.init(jax.random.key(0), X)
        assert row.apply(params, state, X)[0][0].tolist() == [6.0, 6.0]
        assert predicted(Sequential([row], dtype=dtype)) == [6.0, 6.0]


def test_an_apply_that_was_put_over_a_class_later_counts_inside_too():
    class Mine(Dense):
        def apply(self, params, state, x, ctx=INFERENCE):
            return super().apply(params, state, x, ctx)

    before = Mine.apply

    def tenfold(self, params, state, x, ctx=INFERENCE):
        y, state = before(self, params, state, x, ctx)
        return y * 10, state

    Mine.apply = tenfold
    assert predicted(ones(Mine)) == [30.0, 30.0]


def test_private_attributes_of_a_class_of_the_user_stay_its_own():
    class Kept(Layer):
        n: int = 2

        def validate(self):
            object.__setattr__(self, "_children", (self.n,))

        def apply(self, params, state, x, ctx=INFERENCE):
            return x * self._children[0], state

    assert predicted(Kept(3)) == [3.0] * 3
    with pytest.raises(TypeError, match="_scale begins with '_'; rename it"):

        class Hidden(Layer):
            _scale: float = 1.0


class Factor(Layer):
    def __init__(self, factor):
        super().__init__()
        self._factor = factor

    def apply(self, params, state, x, ctx=INFERENCE):
        return x * self._factor, state


def test_open_classes_are_compared_by_all_that_they_hold():
    assert Factor(2.0) != Factor(3.0)
    assert Factor(2.0) == Factor(2.0)
    assert predicted(Factor(2.0)) != predicted(Factor(3.0))
    model = fnn.Model(Factor(3.0))
    model.build((None, 3))
    np.testing.assert_array_equal(model.predict(np.ones((1, 3)), verbose=0), [[3.0, 3.0, 3.0]])
    assert Factor(3.0).replace(trainable=False).trainable is False
    assert pickle.loads(pickle.dumps(Factor(3.0)))._factor == 3.0


def test_bounds_hold_where_a_field_is_declared_again():
    class Base(Layer):
        rate: float = fraction(default=0.5)
        kind_of: str | None = one_of(("a", None), default=None, kw_only=True)

    class Later(Base):
        rate: float = 0.25
        kind_of: str | None = field(default="a", kw_only=True)

    assert (Later().rate, Later().kind_of) == (0.25, "a")
    with pytest.raises(ValueError, match="rate to be a number between 0 and 1"):
        Later(1.5)
    with pytest.raises(ValueError, match="kind_of to be one of 'a', None"):
        Later(kind_of="b")

    class Other(Base):
        rate: str = "x"

    assert Other("y").rate == "y"


def redeclared():
    """(class, field) of everything of fnn's that declares a bounded field of a base again."""
    for module in ("layers", "optimizers", "losses", "metrics", "regularizers", "constraints"):
        for cls in vars(getattr(fnn, module)).values():
            known = getattr(cls, "__dataclass_fields__", {}) if isinstance(cls, type) else {}
            for base in cls.__mro__[1:] if known else ():
                for name, declared in getattr(base, "__dataclass_fields__", {}).items():
                    if "bound" in declared.metadata and name in known:
                        yield cls, name, known[name]


def test_no_class_of_ours_loses_a_bound():
    assert not [(cls.__name__, n) for cls, n, f in redeclared() if "bound" not in f.metadata]
    for make in (
        lambda: fnn.optimizers.AdamW(weight_decay=-1.0),
        lambda: fnn.optimizers.Muon(weight_decay=-1.0),
        lambda: fnn.optimizers.Muon(adam_weight_decay=-1.0),
        lambda: fnn.losses.Dice(reduction="bogus"),
        lambda: fnn.losses.SparseCategoricalCrossentropy(reduction="bogus"),
    ):
        with pytest.raises(ValueError, match="expected"):
            make()


def test_a_bound_says_words_of_what_is_no_number():
    class Local:
        pass

    class Unresolved(Layer):
        size: int = positive(default=1)
        other: "Local" = None  # whose annotation cannot be found from outside

    with pytest.raises(ValueError, match="expected size"):
        Unresolved("x")


def test_factories_make_a_default_for_each_value():
    class Made(Layer):
        first: int = 0
        sizes: tuple = field(default_factory=lambda: [1, 2])
        inner: Layer = field(default_factory=lambda: Dense(1), kw_only=True)

    class Given(Made):
        sizes: tuple = (5,)

    assert (Made().sizes, Made(3, (4,)).sizes, Given().sizes) == ((1, 2), (4,), (5,))
    assert Made().inner is not Made().inner
    assert Made() == Made()


def test_a_field_that_is_no_argument():
    class Derived(Layer):
        units: int
        double: int = field(init=False)

        def validate(self):
            object.__setattr__(self, "double", 2 * self.units)

    assert Derived(3).double == 6
    with pytest.raises(TypeError, match="received double=3"):
        Derived(3, double=3)


def test_a_value_is_made_once():
    layer = Dense(2)
    with pytest.raises(dataclasses.FrozenInstanceError, match="__init__ cannot be called again"):
        layer.__init__(3)
    assert layer == Dense(2)


def test_a_bounded_field_of_a_base_still_goes_by_keyword():
    class Narrow(Layer):
        units: int = 3
        dtype: str | None = one_of((None, "float32", "bfloat16"), default="float32")

    assert Narrow(4).units == 4
    assert Narrow(dtype="bfloat16").dtype == "bfloat16"
    with pytest.raises(ValueError, match="dtype to be one of"):
        Narrow(dtype="float16")


def test_equal_initializers_make_equal_layers():
    makes = ("he_normal", "HeNormal", fnn.initializers.HeNormal, fnn.initializers.HeNormal())
    layers = [Dense(3, kernel_initializer=make) for make in makes]
    assert len({*layers}) == 1
    assert Dense(3, kernel_initializer=fnn.initializers.HeNormal(seed=1)) != layers[0]
    assert Dense(3, "relu") == Dense(3, fnn.activations.relu)


def test_what_is_registered_again_counts():
    outputs = []
    for factor in (1.0, 2.0):

        @fnn.register
        def scaled_in_this_test(x, factor=factor):
            return x * factor

        outputs.append(predicted(Dense(1, scaled_in_this_test, kernel_initializer="ones")))
    assert outputs == [[3.0], [6.0]]


def test_a_cached_property_is_no_part_of_a_value():
    import functools

    class Table(Layer):
        size: int = 3

        @functools.cached_property
        def table(self):
            return jnp.arange(self.size)

    one = Table()
    assert one.table.shape == (3,)
    assert one == Table()
    assert hash(one) == hash(Table())
    assert to_config(fnn.register(Table)()) == {**to_config(one)}


def test_weights_of_models_inside_models_are_freed():
    inner = fnn.Sequential([Dense(50, input_shape=(3,)), Dense(2)])
    outer = fnn.Sequential([inner, Dense(1)])
    outer.predict(np.ones((2, 3)), verbose=0)
    kernel = weakref.ref(inner.params["dense"]["kernel"])
    del inner, outer
    gc.collect()
    assert kernel() is None


def test_an_argument_that_belongs_into_a_context_is_named():
    row = Sequential([Dense(2)])
    params, state = row.init(jax.random.key(0), X)
    with pytest.raises(TypeError, match="Sequential: apply takes train in a Context"):
        row.apply(params, state, X, train=True)
    with pytest.raises(TypeError, match="unexpected argument 'shape'"):
        row.apply(params, state, X, shape=3)


def test_a_layer_is_made_quickly():
    """A constructor that checks what it is given; 107 us once."""
    import timeit

    times = timeit.repeat(lambda: Dense(7, "relu"), number=200, repeat=7)
    assert min(times) / 200 < 60e-6  # 8 us on an idle machine
