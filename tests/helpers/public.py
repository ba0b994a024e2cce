"""Public names: what the reference of the documentation lists."""

import importlib
import sys

from tests.generate.documents import DOCS


def reference_pages():
    """The module that writes the pages of the reference."""
    sys.path.append(str(DOCS))
    try:
        return importlib.import_module("reference_pages")
    finally:
        sys.path.remove(str(DOCS))


def public_names():
    """(dotted name, object), each object once."""
    pages, seen = reference_pages(), set()
    for name in pages.modules():
        module = importlib.import_module(name)
        for public in pages.names(module):
            thing = getattr(module, public)
            if id(thing) not in seen:
                seen.add(id(thing))
                yield f"{name}.{public}", thing
