"""Generated settings and flags: each trains, or gets one line and exit code 2."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.attacks import world
from benchmarks.attacks.world import Attack, World
from mnist_jax import errors
from mnist_jax.data import splits
from mnist_jax.train import config as configs
from mnist_jax.train import config_file, models, step

_PROGRAM = "mnist-jax train:"  # how its messages begin
_NUMBERS = (0, 1, -1, 2, 7, 128, 0.0, 0.1, 0.5, 1.0, 1e-300, 1e300, float("inf"), float("nan"), 2**32, 10**30, -0.0)
_WORDS = ("", " ", "cnn", "mlp", "CNN", "adamw", "sgd", "cosine", "constant", "one_cycle", "float32", "bfloat16", "highest",
          "digits", "mnist", "../x", "x" * 300, "\x1b[2J", "a\nb", "名", "None", "1", "true")
_FLAGS = ("--config.epochs", "--config.seed", "--config.batch_size", "--config.optimizer.learning_rate",
          "--config.model.hidden", "--config.precision", "--config.optimizer.name", "--config.dataset.validation_examples",
          "--config.name", "--config.checkpoint.keep", "--config.label_smoothing", "--config.augmentation.shift",
          "--config.nothing.such", "--config.model", "--tracker", "--tracker_mode", "--workdir", "--parent", "--process_index",
          "--nothing", "positional")


def values(around: World, chance: random.Random, folder: Path) -> str:
    """A config of which some values are others: it is refused in a line, or its step is traced by the compiler."""
    config = config_file.load_config(str(world.ROOT / "configs" / f"{chance.choice(('mlp', 'cnn'))}.py:digits")).to_dict()
    paths = [path for path, _ in _leaves(config)]
    for _ in range(chance.randint(1, 4)):
        *groups, last = chance.choice(paths).split(".")
        group = config
        for name in groups:
            group = group[name] if isinstance(group, dict) and isinstance(group.get(name), dict) else config
        group[chance.choice((last, last, last, last + "s"))] = _value(chance)
    try:
        chosen = configs.from_config(config)
        loaded = splits.load_data("digits") if chosen.dataset.name == "digits" and not chosen.dataset.data_dir else None
        if loaded is None:
            return ""  # the data of another name is looked for elsewhere, and its absence said: tested by itself
        configs.check_examples(chosen, len(loaded.train))
    except errors.UserError as error:
        return "" if str(error) and "\n" not in str(error) else f"a message of several lines: {str(error)[:200]!r}"
    return _traced(chosen, len(loaded.train))


def flags(around: World, chance: random.Random, folder: Path) -> str:
    """Flags with values of every kind: one line and exit code 2, or the run."""
    chosen = [f"{chance.choice(_FLAGS)}={chance.choice((str(_value(chance)), *map(str, _WORDS[:12])))}"
              for _ in range(chance.randint(1, 3))]
    usual = [f"--config={world.ROOT}/configs/mlp.py:digits", "--config.epochs=1", f"--workdir={folder / 'run'}"]
    told = world.shell(world.ROOT / "run.py", *usual, *(flag.replace("\x00", "") for flag in chosen), place=folder)
    if problem := told.fault((0, 2)):
        return f"{chosen}: {problem}"
    last = told.err.strip().splitlines()[-1:] if told.code else [_PROGRAM]
    return "" if last and last[0].startswith(_PROGRAM) else f"{chosen}: {told.err[-200:]}"


def _traced(chosen: configs.ExperimentConfig, examples: int) -> str:
    if sum(getattr(chosen.model, "features", ()) + _hidden(chosen.model)) > 10**5:
        return ""  # allowed, and too large for this machine to try
    try:
        program = step.program(chosen, examples, "cpu")
        hyper = step.hyper(chosen.optimizer)
        seed = jnp.uint32(chosen.seed)
        shapes = jax.eval_shape(lambda seed: step.init(program, hyper, seed), seed)
        images = jax.ShapeDtypeStruct((chosen.batch_size, *models.IMAGE_SHAPE), np.uint8)
        labels = jax.ShapeDtypeStruct((chosen.batch_size,), np.int32)
        jax.eval_shape(lambda state, *batch: step.train_step(program, hyper, state, seed, step.Data(*batch)), shapes, images,
                       labels)
    except errors.UserError as error:
        return "" if "\n" not in str(error) else "a message of several lines"
    except Exception as error:  # whatever it is, a user would see its traceback
        return f"{chosen}: {type(error).__name__}: {str(error)[:200]}"
    return ""


def _hidden(model: Any) -> tuple[int, ...]:
    hidden = getattr(model, "hidden", ())
    return hidden if isinstance(hidden, tuple) else (hidden,)


def _value(chance: random.Random) -> Any:
    return chance.choice((chance.choice(_NUMBERS), chance.choice(_WORDS), None, True, [], (), (1, 2), [chance.choice(_NUMBERS)],
                          {"a": 1}, chance.randint(-10, 300), chance.uniform(-1, 2)))


def _leaves(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    leaves = []
    for name, held in tree.items():
        leaves += _leaves(held, f"{prefix}{name}.") if isinstance(held, dict) else [(f"{prefix}{name}", held)]
        leaves += [(f"{prefix}{name}", held)] if isinstance(held, dict) else []
    return leaves


ATTACKS = [
    Attack("configs", "generated settings run or are refused in one line", 10_000, 150, values),
    Attack("configs", "generated flags run or are refused in one line with exit code 2", 120, 1, flags),
]
