"""Symbolic nodes, their operators, and the graphs of layers that they make."""
