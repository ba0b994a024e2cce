"""Compilations: which programs of a model were compiled, why, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"
_PREFIX = "fnn_"
_SHOWN = 3  # differences in a reason
_WIDTH = 120  # of what is shown of a value


class Compilation(NamedTuple):
    """One compilation of a program: "training", "evaluation" or "prediction".

    `reason` says which shape, dtype or value differs from the compilation before of this kind;
    `seconds` is the time from the beginning of the trace to the end of the compilation.
    """

    program: str
    reason: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.program}: {self.reason} ({self.seconds:.2f} s)"


class _Traced(NamedTuple):
    """A program that is traced, and not compiled yet."""

    log: CompilationLog
    program: str
    signature: dict[str, str]
    began: float


class CompilationLog:
    """The compilations of the programs of one model."""

    def __init__(self) -> None:
        self.entries: list[Compilation] = []
        self._last: dict[str, dict[str, str]] = {}  # the last signature, by program
        self._limit: int | None = None
        self._counted_from = 0

    def limit(self, most: object) -> None:
        """Raises an error for more compilations of a program than `most` from now on.

        None for any number. Raises ValueError unless it is an integer of at least 1.
        """
        is_count = isinstance(most, int) and not isinstance(most, bool) and most > 0
        if most is not None and not is_count:
            raise ValueError(
                "compile: expected max_compiles to be a positive integer or None, received "
                f"{most!r}"
            )
        self._limit = most  # type: ignore[assignment]
        self._counted_from = len(self.entries)

    def check(self, program: str, signature: dict[str, str]) -> None:
        """Raises RuntimeError if one more compilation of this program is too many."""
        counted = self.entries[self._counted_from :]
        done = sum(entry.program == program for entry in counted)
        if self._limit is not None and done >= self._limit:
            raise RuntimeError(
                f"the program of {program} was to be compiled at most {self._limit} times "
                f"(max_compiles), but has to be compiled again: {self.reason(program, signature)}; "
                "give all batches the same shapes and dtypes, or raise max_compiles in compile"
            )

    def reason(self, program: str, signature: dict[str, str]) -> str:
        """Why this program is compiled, given its last compilation."""
        before = self._last.get(program)
        if before is None:
            return "first use"
        changed = list(_differences(before, signature))
        if not changed:
            return (
                "the same program again: it was freed, or arrays lie on other devices"
            )
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        return "; ".join(changed[:_SHOWN]) + more

    def add(
        self,
        program: str,
        signature: dict[str, str] | None,
        took: float,
    ) -> None:
        """Adds a compilation; its signature is None if nothing was traced for it."""
        if signature is None:
            signature = self._last.get(program, {})
        reason = self.reason(program, signature)
        self.entries.append(Compilation(program, reason, took))
        self._last[program] = signature


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name, value in now.items():
        if name not in before:
            yield f"{name} is new: {value:.{_WIDTH}}"
        elif before[name] != value:
            old, new = _around_difference(before[name], value)
            yield f"{name} changed from {old} to {new}"
    for name in before.keys() - now.keys():
        yield f"{name} is gone"


def _around_difference(first: str, second: str) -> tuple[str, str]:
    """Two strings, long ones without what they have in common at the start."""
    if max(len(first), len(second)) <= _WIDTH:
        return first, second
    pairs = zip(first, second, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), 0)
    start = max(at - _WIDTH // 3, 0)
    return f"...{first[start : start + _WIDTH]}", f"...{second[start : start + _WIDTH]}"


# The log of the model whose method ran last, and the program that is traced, in this thread.
active: ContextVar[CompilationLog | None] = ContextVar("compilations", default=None)
_traced: ContextVar[_Traced | None] = ContextVar("traced program", default=None)


def name_of(program: str) -> str:
    """The name of the compiled function of a program, by which its compilations are known."""
    return _PREFIX + program


def note(
    program: str,
    parts: Any,
    values: Mapping[str, object],
    took: float = 0.0,
) -> None:
    """Notes that a program is traced, for the model whose method runs.

    Called by the traced function. `parts` are its arguments, `values` what else it depends on,
    `took` the seconds that have been spent on it. Raises RuntimeError if that is one too many.
    """
    log = active.get()
    if log is None:
        return
    signature = {name: str(value) for name, value in values.items()}
    for path, leaf in jax.tree_util.tree_leaves_with_path(parts):
        signature[_path_name(path)] = f"{leaf.dtype}{list(leaf.shape)}"
    log.check(program, signature)
    _traced.set(_Traced(log, program, signature, time.perf_counter() - took))


def _path_name(path: tuple[Any, ...]) -> str:
    """The path of an argument as a string: `state/params/dense/kernel`."""
    names = []
    for part in path:
        for attribute in ("key", "idx", "name"):
            if hasattr(part, attribute):
                names.append(str(getattr(part, attribute)))
                break
    return "/".join(names)


def _on_event(event: str, duration_secs: float, **details: str | int) -> None:
    """Called by JAX after each compilation of any function."""
    if event != _COMPILED:
        return
    name = str(details.get("fun_name")).removeprefix("jit(").removesuffix(")")
    if not name.startswith(_PREFIX):
        return
    program = name.removeprefix(_PREFIX)
    traced = _traced.get()
    if traced is not None and traced.program == program:
        _traced.set(None)
        took = time.perf_counter() - traced.began
        traced.log.add(program, traced.signature, took)
        return
    log = active.get()
    if log is not None:
        log.add(program, None, duration_secs)


jax.monitoring.register_event_duration_secs_listener(_on_event)
