"""Which runs a population has: a grid over hyperparameters and seeds, or random points of it."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Mapping
from typing import Any

from mnist_jax import settings

SEARCHES = ("grid", "random")
HYPER = ("learning_rate", "momentum", "weight_decay")  # what members may differ in, beside the seed


@dataclasses.dataclass(frozen=True)
class Population:
    """Which runs a population has: every combination of the values given, or random ones; each with every seed."""

    search: str  # grid | random
    samples: int  # of a random search, each value drawn between the smallest and the largest given; its logarithm is uniform
    seeds: int  # from `seed` on
    learning_rate: tuple[float, ...]  # none keeps the optimizer's own
    momentum: tuple[float, ...]
    weight_decay: tuple[float, ...]


def members(config: Mapping[str, Any]) -> list[settings.Settings]:
    """Return the checked settings of every member of a population's config.

    Raises:
      UserError: as from_config, and for what `population` holds.
    """
    values = {key: config[key] for key in config if key != "population"}
    base = settings.from_config(values)
    asked: Population = settings.build(Population, config["population"], "population.", Population)
    settings.one_of("population.search", asked.search, SEARCHES)
    settings.require("population.seeds", asked.seeds, 1 <= asked.seeds <= 10**5, "an integer from 1 to 100,000")
    own = {name: getattr(asked, name) or (getattr(base.optimizer, name),) for name in HYPER}
    if asked.search == "grid":
        settings.require("population.samples", asked.samples, asked.samples == 0, "0 in a grid")
        points = list(itertools.product(*own.values()))
    else:
        settings.require("population.samples", asked.samples, asked.samples >= 1, "1 or more")
        for name, given in own.items():
            settings.require(f"population.{name}", given, min(given) > 0 or len(set(given)) == 1,
                             "values above 0, or one value")
        generator = random.Random(base.seed)
        points = [tuple(min(given) * (max(given) / min(given)) ** generator.random() if len(set(given)) > 1 else given[0]
                        for given in own.values()) for _ in range(asked.samples)]
    return [settings.check(dataclasses.replace(base, seed=base.seed + seed, optimizer=dataclasses.replace(
        base.optimizer, **dict(zip(HYPER, point, strict=True))))) for point in points for seed in range(asked.seeds)]
