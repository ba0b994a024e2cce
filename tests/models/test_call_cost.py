"""What a call of a model on arrays costs, beside the computation itself."""

import time

import numpy as np
import pytest

import fnn
from fnn import layers


@pytest.mark.slow
def test_a_call_on_an_array_costs_what_that_of_a_sequential_costs():
    class Net(fnn.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [layers.Dense(4) for _ in range(20)]

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    x = np.ones((2, 4), "float32")
    row = fnn.Sequential([fnn.Input((4,)), *(layers.Dense(4) for _ in range(20))])
    models = {"call": Net(), "row": row}
    times = dict.fromkeys(models, float("inf"))
    for _ in range(60):
        for name, model in models.items():
            start = time.perf_counter()
            for _ in range(5):
                model(x)
            times[name] = min(times[name], time.perf_counter() - start)
    # About 1.5; the remainder is left for the noise of a busy machine.
    assert times["call"] < 2.5 * times["row"], times
