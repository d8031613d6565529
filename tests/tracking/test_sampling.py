"""A sample is a function of the record, whatever the chunks; the rate limiter delays and never drops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_jax import events
from mnist_jax.tracking import sampling


def series(first: int, count: int, *names: str) -> events.Metrics:
    steps = np.arange(first, first + count)
    return events.Metrics(steps, {name: steps * 1.0 for name in names}, steps * 1.0)


def sampled_steps(chunks: list[int], most: int | None) -> list[int]:
    sampler, first, steps = sampling.Sampler(most), 0, []
    for count in chunks:
        parts, left, total = sampler(series(first, count, "a"))
        first += count
        sampled = [step for part in parts for step in part.steps.tolist()]
        steps += sampled
        assert total == count and left == len(sampled)
    return steps


@given(st.lists(st.integers(0, 400), max_size=20), st.integers(2, 500))
def test_the_chunks_of_a_series_do_not_matter_and_the_limit_holds(chunks, most):
    steps = sampled_steps(chunks, most)
    assert steps == sampled_steps([sum(chunks)], most) and len(steps) <= most
    half = most // 2
    assert steps[:half] == list(range(min(sum(chunks), half)))


def test_the_limit_holds_for_ever_and_later_values_still_arrive():
    steps = sampled_steps([1_000_000], 10_000)
    assert 9_900 < len(steps) <= 10_000 and steps[-1] > 900_000
    assert sampled_steps([1_000_000], None) == list(range(1_000_000))


def test_each_series_is_counted_for_itself():
    sampler = sampling.Sampler(10)
    sampler(series(0, 100, "often"))
    parts, left, total = sampler(series(100, 3, "often", "seldom"))
    assert total == 6 and 3 <= left < 6
    assert {name: len(part.steps) for part in parts for name in part.values}["seldom"] == 3
    assert sampler(events.Status(1, "running")) == ([events.Status(1, "running")], 1, 1)


def test_the_pace_gives_everything_in_parts_and_waits_for_the_minute(monkeypatch):
    clock = [0.0]
    waits: list[float] = []
    monkeypatch.setattr(sampling.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sampling.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    pace = sampling.RateLimiter(100, waits.append)
    event = series(0, 170, "a", "b")
    sent: list[tuple[float, list[int]]] = []  # seconds, steps
    for part in pace.pieces(event):
        sent.append((clock[0], part.steps.tolist()))
    assert [step for _, steps in sent for step in steps] == list(range(170))
    for moment, _ in sent:
        assert sum(len(steps) * 2 for at, steps in sent if moment - 60 < at <= moment) <= 100
    assert clock[0] == pytest.approx(180, abs=5) and all(0 < seconds <= 2 for seconds in waits)
    assert list(sampling.RateLimiter(None).pieces(event)) == [event]
