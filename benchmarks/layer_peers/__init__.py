"""The same layers in each library, with its own defaults for what the table does not say.

A module here has a table `RUNNERS`: the name of a layer -> a function of its inputs (of the shape
that `benchmarks.layers` gives) that returns `step`, a function that runs the layer for training
and differentiates the sum of its squared outputs by weights and inputs. When it returns that sum,
all of this is done. JAX compiles the whole step once.
"""
