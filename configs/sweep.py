"""Many runs in one compiled program: a grid, or a random search, over hyperparameters and seeds.

    python run.py --config=configs/sweep.py --tracker=comet              16 CNNs on MNIST: 4 learning rates, 4 seeds
    python run.py --config=configs/sweep.py:mlp-digits                   the same of the MLP, embedded data

Every member is a run of its own under WORKDIR/members. On a GPU or TPU they train side by side, on a CPU in turn.
"""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict


def get_config(which: str = "cnn-mnist") -> ConfigDict:
    """Return the config of a sweep: MODEL-DATASET, such as cnn-mnist or mlp-digits."""
    model, _, dataset = which.partition("-")
    spec = importlib.util.spec_from_file_location("single", Path(__file__).with_name(f"{model}.py"))
    single = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(single)
    config = single.get_config(dataset or "mnist")
    config.name = f"sweep-{which}"

    config.sweep = ConfigDict()
    config.sweep.search = "grid"  # grid: every combination | random: `samples` of them
    config.sweep.samples = 0
    config.sweep.seeds = 4  # each combination with the seeds seed, seed + 1, ...
    config.sweep.learning_rate = (5e-4, 1e-3, 2e-3, 4e-3)
    config.sweep.momentum = ()  # none: the optimizer's own
    config.sweep.weight_decay = ()
    return config
