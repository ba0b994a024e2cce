"""ManyBatches: the data of a call of `fit_many`, in batches for all members."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from fnn.core.tree import Tree, array_spec, batch_size, resized
from fnn.models.feed import Data, Feed, checked_batch_size
from fnn.models.folding import Fold, folds_of
from fnn.models.members import Members
from fnn.training import checks, sources
from fnn.training.data import ArrayData, key_numbers
from fnn.training.hooks import CallbackList
from fnn.training.loop import Run
from fnn.training.many import ManyData, filled

Validate: TypeAlias = Callable[[int, CallbackList], dict[str, Tree]]


class ManyBatches:
    """The data of a call of `fit_many` for all members. Raises ValueError for streams."""

    def __init__(
        self,
        feed: Feed,
        x: Tree,
        y: Tree,
        weight: Tree,
        classes: Tree,
        folds: object,
    ) -> None:
        self.feed = feed
        x, y, weight = feed.readable(x, y, weight)
        if sources.is_stream(x):
            raise ValueError(
                f"fit_many needs arrays, since each member has its own order, got a "
                f"{type(x).__name__}; pass x and y as arrays, or train the members one by one"
            )
        self.arrays, self.objective = feed.goals(x, y, weight, classes, lazy=True)
        self.count = batch_size(self.arrays)
        self.folds: list[Fold] | None = None
        if folds is not None:
            self.folds = folds_of(folds, self.count, y)

    def train(
        self,
        members: Members,
        size: int | None,
        shuffle: bool | str,
        steps: int | None,
    ) -> ManyData:
        """The batches of training."""
        keys = [state.key for state in members.states()]
        every = [np.arange(self.count)] * len(keys)
        if self.folds is not None:
            every = [fold.train for fold in self.folds]
        if steps is not None:
            checks.as_integer("steps_per_epoch", steps, 1)
            if size is None:
                size = -(-self.count // steps)
        pairs = zip(every, keys, strict=True)
        orders = [
            self._order(one, size, shuffle, key_numbers(key)) for one, key in pairs
        ]
        first_pass = int(members.states()[0].epoch)
        return self._divided(members, orders, True, steps, first_pass)

    def validation(
        self,
        members: Members,
        run: Run,
        given: Tree,
        size: int | None,
        due: Callable[[int], bool],
    ) -> Validate | None:
        """The function that validates after an epoch; None without data for it."""
        feed, shared = self.feed, self.folds is None
        data: Data
        if self.folds is not None:
            orders = [self._order(fold.valid, size) for fold in self.folds]
            data, objective = self._divided(members, orders, False), self.objective
        elif given is None:
            return None
        else:
            x, y, weight = sources.unpack_batch(
                sources.readable(given), sources.NO_NAMES
            )
            data, objective = feed.data(x, y, weight, batch_size=size)
        step = feed.program.eval_step(objective)

        def validate(epoch: int, callbacks: CallbackList) -> dict[str, Tree]:
            if not due(epoch):
                return {}
            return members.run_evaluation(run.now.train, step, data, shared)

        return validate

    def _order(
        self,
        indices: np.ndarray,
        size: int | None,
        shuffle: bool | str = False,
        seed: list[int] | int = 0,
    ) -> ArrayData:
        """The batches of one member, as indices of its examples."""
        size = checked_batch_size(size)
        return ArrayData(
            indices, size, shuffle=shuffle, seed=seed, remainder="pad", keep=False
        )

    def _divided(
        self,
        members: Members,
        orders: list[ArrayData],
        train: bool,
        steps: int | None = None,
        first_pass: int = 0,
    ) -> ManyData:
        """Batches of all members. Raises ValueError if incomplete ones can be neither padded
        nor separate."""
        size = orders[0].batch_size
        arrays = resized(self.arrays, size)
        valid = array_spec((size,), np.bool_)
        mixes = self.feed._mixes(self.objective, (arrays, valid), train)
        counts = {order.count for order in orders}
        if mixes and len(counts) > 1 and any(count % size for count in counts):
            raise ValueError(
                f"the folds have {sorted(counts)} examples, and in this network an incomplete "
                f"batch cannot be padded; pass a batch_size that divides these numbers"
            )
        orders = filled(orders, members.mesh)
        return ManyData(self.arrays, orders, steps, first_pass, mixes)
