"""Examples that hypothesis draws, for tests that compute what all of them need in one program."""

from hypothesis import HealthCheck, given, settings


def examples(strategy, count):
    """At most `count` examples of a strategy, the same in every run.

    Operations of an example alone are a program to compile for each; as a list they can be one.
    """
    found = []
    every = list(HealthCheck)

    @settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=every)
    @given(strategy)
    def draw(example):
        found.append(example)

    draw()
    return found
