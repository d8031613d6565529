"""The differences between two environments or sources that may change the bits of a run."""

from __future__ import annotations

from collections.abc import Iterator

from mnist_jax import events

_DEVICES = ("backend", "device", "devices", "processes")  # unknown where the program had not used jax
_INDIFFERENT = ("host", "release", "variables/SLURM_JOB_ID", "variables/CUDA_VISIBLE_DEVICES")  # bits do not depend on them


def between(before: events.Event, now: events.Event) -> Iterator[str]:
    """Yield a line for each difference between two environments, or two sources."""
    match before, now:
        case events.Environment(was), events.Environment(facts):
            for name in sorted({*was, *facts} - set(_INDIFFERENT)):
                known = name not in _DEVICES or (name in was and name in facts)
                if known and was.get(name) != facts.get(name):
                    yield f"{name} changed from {was.get(name)} to {facts.get(name)}"
        case events.Source(), events.Source():
            for name, old, new in files(before, now):
                yield f"{name} {change(old, new)}"


def files(before: events.Source, now: events.Source) -> Iterator[tuple[str, events.Blob | None, events.Blob | None]]:
    """Yield name, content before and content now of every file in which one source differs from another."""
    was, here = ({blob.name: blob for blob in source.files} for source in (before, now))
    for name in sorted({*was, *here}):
        if was.get(name) != here.get(name):
            yield name, was.get(name), here.get(name)


def change(before: events.Blob | None, now: events.Blob | None) -> str:
    """Return the change of a file as a word."""
    return "changed" if before and now else "added" if now else "removed"
