"""Metrics: counters of a server, as Prometheus reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
EXAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Histogram:
    """Counts observations up to each bound, and their sum.

    >>> times = Histogram("seconds", "Time.", (0.1, 1.0))
    >>> times.observe(0.5)
    >>> print("\\n".join(times.lines()))
    # HELP seconds Time.
    # TYPE seconds histogram
    seconds_bucket{le="0.1"} 0
    seconds_bucket{le="1.0"} 1
    seconds_bucket{le="+Inf"} 1
    seconds_sum 0.5
    seconds_count 1
    """

    def __init__(self, name: str, help: str, bounds: Sequence[float]) -> None:
        self.name = name
        self.help = help
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        place = sum(value > bound for bound in self.bounds)
        self.counts[place] += 1
        self.sum += value

    def lines(self) -> Iterator[str]:
        """The lines of the text format."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} histogram"
        total = 0
        bounds = (*self.bounds, "+Inf")
        for bound, count in zip(bounds, self.counts, strict=True):
            total += count
            yield f'{self.name}_bucket{{le="{bound}"}} {total}'
        yield f"{self.name}_sum {self.sum}"
        yield f"{self.name}_count {total}"


class Metrics:
    """What a server counts: answers by status, their times, examples in each batch.

    >>> metrics = Metrics()
    >>> metrics.answered(200, 0.01)
    >>> 'fnn_requests_total{code="200"} 1' in metrics.text()
    True
    """

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.open = 0
        self.waiting = 0
        self.seconds = Histogram(
            "fnn_request_seconds", "Time from request to answer.", SECONDS
        )
        self.batches = Histogram(
            "fnn_batch_examples", "Examples computed at once.", EXAMPLES
        )

    def answered(self, status: int, seconds: float) -> None:
        """Counts an answer."""
        self.answers[status] += 1
        self.seconds.observe(seconds)

    def text(self) -> str:
        """All of them in Prometheus's text format."""
        lines = [
            "# HELP fnn_requests_total Answers by status.",
            "# TYPE fnn_requests_total counter",
        ]
        for status, count in sorted(self.answers.items()):
            lines.append(f'fnn_requests_total{{code="{status}"}} {count}')
        for name, value, help in (
            (
                "fnn_requests_in_progress",
                self.open,
                "Requests that wait for an answer.",
            ),
            ("fnn_queue_examples", self.waiting, "Examples that wait for a batch."),
        ):
            lines += [
                f"# HELP {name} {help}",
                f"# TYPE {name} gauge",
                f"{name} {value}",
            ]
        lines += [*self.seconds.lines(), *self.batches.lines()]
        return "\n".join(lines) + "\n"
