"""Layers that prepare data: some learn from it (`adapt`), those of text run on the host."""
