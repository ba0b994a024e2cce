"""Keras's functions of arrays; on symbolic nodes each makes a layer."""

from fnn.ops import numpy

for _module in (numpy,):
    globals().update({name: getattr(_module, name) for name in _module.__all__})
