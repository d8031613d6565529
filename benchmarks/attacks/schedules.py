"""Random schedules of faults at both trackers' servers: once they heal, they hold what an undisturbed sync leaves."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

from benchmarks.attacks.world import Attack, World
from mnist_jax.compare.servers.server import Faults
from tests.helpers import tracker_servers

_BOUNDS = {"OPEN_S": 6.0, "WRITE_S": 4.0, "FLUSH_S": 3.0, "CLOSE_S": 6.0}  # seconds of the calls of an attempt


def schedule(tracker: str, around: World, chance: random.Random, folder: Path) -> str:
    """Some attempts at a sync, each beside another fault, then one beside a healthy server."""
    directory = around.copy(folder)
    with tracker_servers.serve(tracker) as served:
        for _ in range(chance.randint(1, 4)):
            served.server.faults = _fault(chance)
            way = served.bad_key if chance.random() < 0.1 else served.environment
            served.sync(directory, {**way, **tracker_servers.QUICK}, _BOUNDS)
        served.server.start()
        for _ in range(3):
            replica = served.sync(directory)
            if replica.state == "complete":
                break
        if replica.state != "complete" or replica.counts.get("failed"):
            return f"{tracker} is {replica.state}, {replica.counts}: {replica.error}"
        return "" if served.contents(_id(directory)) == _undisturbed(around, tracker) else f"{tracker} holds something else"


def _fault(chance: random.Random) -> Faults:
    return chance.choice((Faults(refuse=True), Faults(stall=True), Faults(status=chance.choice((429, 500, 503))),
                          Faults(garbage=True), Faults(lose_answer=True), Faults(die_after=chance.randint(0, 60)),
                          Faults(die_after=chance.randint(0, 60), lose_last=True), Faults()))


def _id(directory: Path) -> str:
    from mnist_jax.record import reader

    return reader.read(directory).run.id


@functools.cache
def _undisturbed(around: World, tracker: str) -> dict[str, Any]:
    directory = around.copy(around.folder / f"undisturbed-{tracker}")
    with tracker_servers.serve(tracker) as served:
        assert served.sync(directory).state == "complete"
        return served.contents(_id(directory))


ATTACKS = [Attack("trackers", f"{name} after a random schedule of faults holds what an undisturbed sync leaves", 30, 0,
                  functools.partial(schedule, tracker)) for tracker, name in (("neptune", "Neptune"), ("comet", "Comet"))]
