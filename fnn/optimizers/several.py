"""Optimizers around optimizers: one for each pattern of paths, and loss scaling."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from fnn.core.arguments import wrong
from fnn.core.fields import positive
from fnn.core.tree import check_matches, check_patterns, matches, path_name
from fnn.core.value import Fields
from fnn.optimizers.optimizer import (
    Optimizer,
    State,
    get,
    run_update,
    start,
    with_rate_of,
    without_rate,
)


class ByPath(Optimizer):
    """An optimizer for each pattern of paths: a weight is for the first pattern that it fits.

    `rules` is a dict of pattern -> optimizer (fnn's, optax's, a name); `*` stands for any part of
    one name, `**` for any number of names, "biases_and_norms" for what that says. Clipping by a
    global norm, accumulation and averages are those of each optimizer, over its own weights; an
    optimizer that evaluates the loss itself (optax.lbfgs) does so with the others' weights fixed.
    The learning rate is a dict by pattern, `model.learning_rate = {"encoder/**": 1e-5}` changes
    one. Raises ValueError for weights that fit no pattern and patterns that fit no weight.

    >>> from fnn.optimizers import SGD
    >>> optimizer = ByPath({"**/bias": SGD(1.0), "**": SGD(0.5)})
    >>> weights = {"dense": {"bias": jnp.ones(1), "kernel": jnp.ones(1)}}
    >>> optimizer.update(weights, optimizer.init(weights), weights)[0]["dense"]["kernel"].tolist()
    [-0.5]
    """

    learning_rate: ClassVar[None] = None  # type: ignore[misc]  # each rule has its own
    rules: Any  # type: ignore[misc]

    def validate(self) -> None:
        rules = self.rules.as_dict() if isinstance(self.rules, Fields) else {}
        if not rules:
            raise wrong(
                self, "rules", "to be a dict of optimizers by pattern", self.rules,
                'e.g. ByPath({"**/bias": "sgd", "**": "adam"})',
            )  # fmt: skip
        check_patterns(self, "rules", tuple(rules))
        found = {name: get(rule) for name, rule in rules.items()}
        scaled = [
            rule for rule in found.values() if isinstance(rule, LossScaleOptimizer)
        ]
        if scaled:
            raise ValueError(
                "ByPath: expected optimizers without loss scaling, since there is one loss, "
                f"received {scaled[0]!r}; use LossScaleOptimizer(ByPath(...))"
            )
        object.__setattr__(self, "rules", Fields(tuple(found.items())))

    @property
    def optimizers(self) -> dict[str, Any]:
        """The optimizers by their patterns."""
        return self.rules.as_dict()

    @property
    def inner(self) -> tuple[Any, ...]:
        return tuple(self.optimizers.values())

    def init(self, params: Any) -> State:
        parts = self._parts(params, check=True)
        rules = {
            name: start(rule, parts[name]) for name, rule in self.optimizers.items()
        }
        return {"step": jnp.zeros((), jnp.int32), "rules": rules}

    def update(
        self,
        grads: Any,
        state: State,
        params: Any = None,
        weight: Any = 1.0,
        **extra: Any,
    ) -> tuple[Any, State]:
        own = self._parts(params) if params is not None else {}

        def step(name: str, rule: Any, slots: Any, part: Any) -> tuple[Any, Any]:
            more = self._extra(name, extra, params)
            return run_update(rule, part, slots, own.get(name), weight=weight, **more)

        updates, state = self._each(step, state, grads)
        return updates, {**state, "step": optax.safe_increment(state["step"])}

    def _extra(self, name: str, extra: dict[str, Any], params: Any) -> dict[str, Any]:
        """The extra arguments for one rule: the gradients cut, the loss one of its own weights."""
        more = dict(extra)
        if "grad" in extra:
            more["grad"] = self._parts(extra["grad"])[name]
        if "value_fn" in extra:
            leaves = _by_path(params)
            more["value_fn"] = lambda part: extra["value_fn"](
                _whole({**leaves, **part}, params)
            )
        return more

    def flush(self, state: State, params: Any) -> tuple[Any, State]:
        def step(name: str, rule: Any, slots: Any, part: Any) -> tuple[Any, Any]:
            if not isinstance(rule, Optimizer):
                return jax.tree.map(jnp.zeros_like, part), slots
            return rule.flush(slots, part)

        return self._each(step, state, params)

    def average(self, state: State, params: Any) -> Any:
        def step(name: str, rule: Any, slots: Any, part: Any) -> tuple[Any, Any]:
            return rule.average(slots, part) if isinstance(
                rule, Optimizer
            ) else part, slots

        return self._each(step, state, params)[0]

    def without_rate(self) -> Any:
        rules = ((name, without_rate(rule)) for name, rule in self.rules.items)
        return self._changed(rules=Fields(tuple(rules)))

    def with_rate_of(self, state: State) -> Any:
        rules = tuple(
            (n, with_rate_of(rule, state["rules"][n])) for n, rule in self.rules.items
        )
        return self if rules == self.rules.items else self._changed(rules=Fields(rules))

    def _each(self, step: Any, state: State, whole: Any) -> tuple[Any, State]:
        """`step` of every rule on its part of a tree: the joined results, the new state."""
        parts, joined, rules = self._parts(whole), {}, {}
        for name, rule in self.optimizers.items():
            part, rules[name] = step(name, rule, state["rules"][name], parts[name])
            joined.update(part)
        return _whole(joined, whole), {**state, "rules": rules}

    def _parts(self, whole: Any, check: bool = False) -> dict[str, dict[str, Any]]:
        """For each pattern the leaves of a tree that are its own, by path."""
        parts: dict[str, dict[str, Any]] = {name: {} for name in self.optimizers}
        leaves = _by_path(whole)
        for path, leaf in leaves.items():
            own = next((name for name in parts if matches(name, path)), None)
            if own is None:
                raise ValueError(
                    f"ByPath: expected an optimizer for every weight, received patterns "
                    f'{list(parts)}, of which {path} fits none; add "**" as the last one'
                )
            parts[own][path] = leaf
        if check:
            check_matches(self, "rules", tuple(parts), list(leaves))
        return parts


def _by_path(whole: Any) -> dict[str, Any]:
    return {
        path_name(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(whole)
    }


def _whole(leaves: dict[str, Any], like: Any) -> Any:
    """The tree of which `leaves` are those by path."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: leaves[path_name(path)], like
    )


class LossScaleOptimizer(Optimizer):
    """The inner optimizer behind a scale of the loss, so that gradients in float16 do not vanish.

    Training multiplies the loss by `state["loss_scale"]` before it takes gradients; `update` takes
    such gradients and divides them. If one of them is not finite, the step is left out and the
    scale halved (to 1 at the least: without a scale it is an error, as it is elsewhere); after
    `dynamic_growth_steps` good steps in a row it is doubled. bfloat16 needs none of this.
    Source: Micikevicius et al. 2018, Mixed Precision Training, section 3.2.

    >>> optimizer, w = LossScaleOptimizer(fnn.optimizers.SGD(1.0), initial_scale=8.0), jnp.zeros(1)
    >>> updates, state = optimizer.update(jnp.array([16.0]), optimizer.init(w), w)
    >>> left_out, state = optimizer.update(jnp.array([jnp.inf]), state, w)
    >>> updates.item(), left_out.item(), state["loss_scale"].item()
    (-2.0, 0.0, 4.0)
    """

    learning_rate: ClassVar[None] = None  # type: ignore[misc]  # that of the inner one
    inner_optimizer: Any  # type: ignore[misc]
    initial_scale: float = 32768.0
    dynamic_growth_steps: int = positive(default=2000)

    def validate(self) -> None:
        object.__setattr__(self, "inner_optimizer", get(self.inner_optimizer))
        scale = self.initial_scale
        if (
            isinstance(scale, bool)
            or not isinstance(scale, (int, float))
            or not scale >= 1
        ):
            raise wrong(self, "initial_scale", "to be a number of at least 1", scale)

    @property
    def inner(self) -> tuple[Any, ...]:
        return (self.inner_optimizer,)

    def init(self, params: Any) -> State:
        return {
            "step": jnp.zeros((), jnp.int32),
            "loss_scale": jnp.asarray(self.initial_scale, jnp.float32),
            "good_steps": jnp.zeros((), jnp.int32),
            "inner": start(self.inner_optimizer, params),
        }

    def update(
        self,
        grads: Any,
        state: State,
        params: Any = None,
        weight: Any = 1.0,
        **extra: Any,
    ) -> tuple[Any, State]:
        scale, good = state["loss_scale"], state["good_steps"] + 1
        finite = jnp.array(
            [jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]
        ).all()

        def step() -> tuple[Any, State]:
            unscaled = jax.tree.map(
                lambda g: (g.astype("float32") / scale).astype(g.dtype), grads
            )
            more = {**extra, "grad": unscaled, "weight": weight}
            updates, inner = run_update(
                self.inner_optimizer, unscaled, state["inner"], params, **more
            )
            grown = good >= self.dynamic_growth_steps
            return updates, {
                "loss_scale": jnp.where(grown, 2 * scale, scale),
                "good_steps": jnp.where(grown, 0, good),
                "inner": inner,
            }

        def skip() -> tuple[Any, State]:
            return jax.tree.map(jnp.zeros_like, grads), {
                "loss_scale": jnp.maximum(scale / 2, 1),
                "good_steps": jnp.zeros_like(good),
                "inner": state["inner"],
            }

        updates, new = jax.lax.cond(finite, step, skip)
        return updates, {**new, "step": optax.safe_increment(state["step"])}

    def flush(self, state: State, params: Any) -> tuple[Any, State]:
        updates, inner = self.inner_optimizer.flush(state["inner"], params)
        return updates, {**state, "inner": inner}

    def average(self, state: State, params: Any) -> Any:
        inner = self.inner_optimizer
        return (
            inner.average(state["inner"], params)
            if isinstance(inner, Optimizer)
            else params
        )

    def without_rate(self) -> Any:
        return self._changed(inner_optimizer=without_rate(self.inner_optimizer))

    def with_rate_of(self, state: State) -> Any:
        inner = with_rate_of(self.inner_optimizer, state["inner"])
        return (
            self
            if inner == self.inner_optimizer
            else self._changed(inner_optimizer=inner)
        )
