"""Keras's files, without Keras."""
