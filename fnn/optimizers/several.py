"""Optimizers of optimizers: one for each pattern of paths, and loss scaling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array

from fnn.core.arguments import wrong
from fnn.core.fields import positive
from fnn.core.tree import Tree, path_name
from fnn.core.value import Fields
from fnn.core.weights import check_matches, check_patterns
from fnn.optimizers.optimizer import (
    AnyOptimizer,
    Optimizer,
    State,
    Weight,
    get,
    init_state,
    run_update,
    with_rate_of,
    without_rate,
)
from fnn.runtime.patterns import matches

Part: TypeAlias = dict[str, Array]  # some leaves of a tree, by path
# A function of (pattern, optimizer, its state, its leaves) -> (leaves, its new state).
PartStep: TypeAlias = Callable[[str, AnyOptimizer, State, Part], tuple[Part, State]]


class Several(Optimizer, loadable=False):
    """Optimizers by name, each with the weights whose paths `_rule_for` gives to its name."""

    learning_rate: ClassVar[None] = None  # type: ignore[misc]  # each rule has its own
    rules: Any  # type: ignore[misc]

    @property
    def optimizers(self) -> dict[str, AnyOptimizer]:
        """The optimizers by their patterns."""
        rules: dict[str, AnyOptimizer] = self.rules.as_dict()
        return rules

    @property
    def inner(self) -> tuple[AnyOptimizer, ...]:
        return tuple(self.optimizers.values())

    def init(self, params: Tree) -> State:
        parts = self._parts(params)
        self._check_rules(list(_by_path(params)))
        rules = {}
        for name, rule in self.optimizers.items():
            rules[name] = init_state(rule, parts[name])
        return {"step": jnp.zeros((), jnp.int32), "rules": rules}

    def update(
        self,
        grads: Tree,
        state: State,
        params: Tree = None,
        weight: Weight = 1.0,
        **extra: Any,
    ) -> tuple[Tree, State]:
        own: dict[str, Part] = {}
        if params is not None:
            own = self._parts(params)

        def step(
            name: str,
            rule: AnyOptimizer,
            rule_state: State,
            part: Part,
        ) -> tuple[Part, State]:
            more = self._extra(name, extra, params)
            return run_update(
                rule, part, rule_state, own.get(name), weight=weight, **more
            )

        updates, state = self._each(step, state, grads)
        return updates, {**state, "step": optax.safe_increment(state["step"])}

    def _extra(
        self,
        name: str,
        extra: dict[str, Any],
        params: Tree,
    ) -> dict[str, Any]:
        """The extra arguments for one rule: gradients and loss as functions of its weights."""
        more = dict(extra)
        if "grad" in extra:
            more["grad"] = self._parts(extra["grad"])[name]
        if "value_fn" in extra:
            leaves = _by_path(params)

            def value_fn(part: Part) -> Array:
                whole = _whole({**leaves, **part}, params)
                value: Array = extra["value_fn"](whole)
                return value

            more["value_fn"] = value_fn
        return more

    def flush(self, state: State, params: Tree) -> tuple[Tree, State]:
        def step(
            name: str,
            rule: AnyOptimizer,
            rule_state: State,
            part: Part,
        ) -> tuple[Part, State]:
            if not isinstance(rule, Optimizer):
                return jax.tree.map(jnp.zeros_like, part), rule_state
            return rule.flush(rule_state, part)

        return self._each(step, state, params)

    def average(self, state: State, params: Tree) -> Tree:
        def step(
            name: str,
            rule: AnyOptimizer,
            rule_state: State,
            part: Part,
        ) -> tuple[Part, State]:
            if not isinstance(rule, Optimizer):
                return part, rule_state
            return rule.average(rule_state, part), rule_state

        averaged, _ = self._each(step, state, params)
        return averaged

    def without_rate(self) -> Several:
        if not self.optimizers:
            return self
        rules = tuple((name, without_rate(rule)) for name, rule in self.rules.items)
        return self._changed(rules=Fields(rules))

    def with_rate_of(self, state: State) -> Several:
        if not self.optimizers:
            return self
        rules = tuple(
            (name, with_rate_of(rule, state["rules"][name]))
            for name, rule in self.rules.items
        )
        if rules == self.rules.items:
            return self
        return self._changed(rules=Fields(rules))

    def _each(
        self,
        step: PartStep,
        state: State,
        whole: Tree,
    ) -> tuple[Tree, State]:
        """`step` of every rule on its part of a tree: the joined results, the new state."""
        parts = self._parts(whole)
        joined: Part = {}
        rules: dict[str, State] = {}
        for name, rule in self.optimizers.items():
            rule_state = state["rules"][name]
            part, rules[name] = step(name, rule, rule_state, parts[name])
            joined.update(part)
        return _whole(joined, whole), {**state, "rules": rules}

    def _parts(self, whole: Tree) -> dict[str, Part]:
        """The leaves of a tree, by path, for each pattern."""
        parts: dict[str, Part] = {name: {} for name in self.optimizers}
        for path, leaf in _by_path(whole).items():
            parts[self._rule_for(path)][path] = leaf
        return parts

    def _rule_for(self, path: str) -> str:
        """The name of the rule of a weight."""
        raise NotImplementedError

    def _check_rules(self, paths: list[str]) -> None:
        """Raises ValueError for a rule without a weight, if each needs one."""


class ByPath(Several):
    """One optimizer per pattern of paths: the first pattern that a weight matches decides.

    `rules` is a dict of pattern -> optimizer (fnn's, optax's, a name). In a pattern `*`
    stands for any part of one name, `**` for any number of names, and
    "biases_and_norms" for biases and the weights of normalization layers. Clipping by
    global norm, accumulation and averages work per optimizer, over its own weights. An
    optimizer that evaluates the loss itself (optax.lbfgs) does so with the weights of the
    others fixed. The learning rate is a dict by pattern;
    `model.learning_rate = {"encoder/**": 1e-5}` changes one entry. Raises ValueError for
    weights that match no pattern and for patterns that match no weight.

    >>> from fnn.optimizers import SGD
    >>> optimizer = ByPath({"**/bias": SGD(1.0), "**": SGD(0.5)})
    >>> weights = {"dense": {"bias": jnp.ones(1), "kernel": jnp.ones(1)}}
    >>> optimizer.update(weights, optimizer.init(weights), weights)[0]["dense"]["kernel"].tolist()
    [-0.5]
    """

    learning_rate: ClassVar[None] = None  # type: ignore[misc]  # each rule has its own
    rules: Any  # type: ignore[misc]

    def validate(self) -> None:
        rules: dict[str, AnyOptimizer] = {}
        if isinstance(self.rules, Fields):
            rules = self.rules.as_dict()
        if not rules:
            raise wrong(
                self, "rules", "to be a dict of optimizers by pattern", self.rules,
                'e.g. ByPath({"**/bias": "sgd", "**": "adam"})',
            )  # fmt: skip
        check_patterns(self, "rules", tuple(rules))
        found = {name: get(rule) for name, rule in rules.items()}
        for rule in found.values():
            if isinstance(rule, LossScaleOptimizer):
                raise ValueError(
                    "ByPath: expected optimizers without loss scaling, since there is one "
                    f"loss, received {rule!r}; use LossScaleOptimizer(ByPath(...))"
                )
        object.__setattr__(self, "rules", Fields(tuple(found.items())))

    def _rule_for(self, path: str) -> str:
        for pattern in self.optimizers:
            if matches(pattern, path):
                return pattern
        raise ValueError(
            "ByPath: expected an optimizer for every weight, but none of the "
            f'patterns {list(self.optimizers)} matches {path}; add "**" as the last one'
        )

    def _check_rules(self, paths: list[str]) -> None:
        check_matches(self, "rules", tuple(self.optimizers), paths)


def _by_path(whole: Tree) -> Part:
    leaves = jax.tree_util.tree_leaves_with_path(whole)
    return {path_name(path): leaf for path, leaf in leaves}


def _whole(leaves: Part, like: Tree) -> Tree:
    """A tree like `like` from its leaves by path."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: leaves[path_name(path)], like
    )


class LossScaleOptimizer(Optimizer):
    """Scales the loss for the inner optimizer, so that float16 gradients do not vanish.

    Training multiplies the loss by `state["loss_scale"]` before it takes gradients;
    `update` expects such gradients and divides them. If a gradient is not finite, the
    step is skipped and the scale is halved (to 1 at least: at a scale of 1, training
    stops with an error as it does without scaling). After `dynamic_growth_steps` good
    steps in a row the scale is doubled. bfloat16 needs no scaling.
    Source: Micikevicius et al. 2018, Mixed Precision Training, section 3.2.

    >>> optimizer, w = LossScaleOptimizer(fnn.optimizers.SGD(1.0), initial_scale=8.0), jnp.zeros(1)
    >>> updates, state = optimizer.update(jnp.array([16.0]), optimizer.init(w), w)
    >>> left_out, state = optimizer.update(jnp.array([jnp.inf]), state, w)
    >>> updates.item(), left_out.item(), state["loss_scale"].item()
    (-2.0, 0.0, 4.0)
    """

    learning_rate: ClassVar[None] = None  # type: ignore[misc]  # the inner one's counts
    inner_optimizer: Any  # type: ignore[misc]
    initial_scale: float = 32768.0
    dynamic_growth_steps: int = positive(default=2000)

    def validate(self) -> None:
        object.__setattr__(self, "inner_optimizer", get(self.inner_optimizer))
        scale = self.initial_scale
        is_number = isinstance(scale, (int, float)) and not isinstance(scale, bool)
        # NaN is not >= 1 either.
        if not is_number or not scale >= 1:
            raise wrong(self, "initial_scale", "to be a number of at least 1", scale)

    @property
    def inner(self) -> tuple[AnyOptimizer, ...]:
        return (self.inner_optimizer,)

    def init(self, params: Tree) -> State:
        return {
            "step": jnp.zeros((), jnp.int32),
            "loss_scale": jnp.asarray(self.initial_scale, jnp.float32),
            "good_steps": jnp.zeros((), jnp.int32),
            "inner": init_state(self.inner_optimizer, params),
        }

    def update(
        self,
        grads: Tree,
        state: State,
        params: Tree = None,
        weight: Weight = 1.0,
        **extra: Any,
    ) -> tuple[Tree, State]:
        scale: Array = state["loss_scale"]
        good_steps = state["good_steps"] + 1
        finite = [jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]
        all_finite = jnp.array(finite).all()

        def unscale(g: Array) -> Array:
            return (g.astype("float32") / scale).astype(g.dtype)

        def step() -> tuple[Tree, State]:
            unscaled = jax.tree.map(unscale, grads)
            more = {**extra, "grad": unscaled, "weight": weight}
            updates, inner = run_update(
                self.inner_optimizer, unscaled, state["inner"], params, **more
            )
            grow = good_steps >= self.dynamic_growth_steps
            return updates, {
                "loss_scale": jnp.where(grow, 2 * scale, scale),
                "good_steps": jnp.where(grow, 0, good_steps),
                "inner": inner,
            }

        def skip() -> tuple[Tree, State]:
            return jax.tree.map(jnp.zeros_like, grads), {
                "loss_scale": jnp.maximum(scale / 2, 1),
                "good_steps": jnp.zeros_like(good_steps),
                "inner": state["inner"],
            }

        updates, new = jax.lax.cond(all_finite, step, skip)
        return updates, {**new, "step": optax.safe_increment(state["step"])}

    def flush(self, state: State, params: Tree) -> tuple[Tree, State]:
        updates, inner = self.inner_optimizer.flush(state["inner"], params)
        return updates, {**state, "inner": inner}

    def average(self, state: State, params: Tree) -> Tree:
        inner = self.inner_optimizer
        if not isinstance(inner, Optimizer):
            return params
        return inner.average(state["inner"], params)

    def without_rate(self) -> LossScaleOptimizer:
        return self._changed(inner_optimizer=without_rate(self.inner_optimizer))

    def with_rate_of(self, state: State) -> LossScaleOptimizer:
        inner = with_rate_of(self.inner_optimizer, state["inner"])
        if inner == self.inner_optimizer:
            return self
        return self._changed(inner_optimizer=inner)
