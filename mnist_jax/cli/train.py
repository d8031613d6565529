"""Train, evaluate and record an experiment, or every one of a sweep.

    mnist-jax train --config=configs/cnn.py:digits --tracker=neptune
    mnist-jax train --config=mlp.py --config.optimizer.learning_rate=0.001 --tracker=neptune,comet

`python run.py` is the same program. A config is a file, or the name of one in the package.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from mnist_jax import cli, errors
from mnist_jax.data import sources
from mnist_jax.tracking import protocol
from mnist_jax.train import config_file
from mnist_jax.view import text

_CONFIG = config_flags.DEFINE_config_file("config",
                                           help_string="The config file, such as configs/cnn.py or configs/cnn.py:digits.")
_TRACKER = flags.DEFINE_string("tracker", "local", "Comma-separated trackers: neptune, comet; or local, the record alone.")
_MODE = flags.DEFINE_enum("tracker_mode", "auto", protocol.MODES, "auto is online where credentials are set.")
_PARENT = flags.DEFINE_string("parent", None, "The directory of a run to start from, as a new run: with more epochs, say.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, if several processes train one run.")
_PROCESSES = flags.DEFINE_integer("processes", None, "The number of processes. TPU pods and SLURM need none of these flags.")
_PROCESS_INDEX = flags.DEFINE_integer("process_index", None, "The index of this process, from 0.")
_PROFILE = flags.DEFINE_string("profile", None, "A folder for jax's trace of the training and a table of the startup.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory, by default runs/<time>-<name>. Resumes an existing run.")


def run_as_program(arguments: list[str] | None = None) -> None:
    """Train by the flags, and exit: 0 finished, 1 not finished, 2 a mistake in the flags.

    Args:
      arguments: the program's name and its flags, by default sys.argv.
    """
    sys.exit(cli.exit_code("mnist-jax train", lambda: app.run(_main, argv=arguments or sys.argv, flags_parser=_parse)))


def _parse(arguments: list[str]) -> list[str]:
    """Parse the flags; every mistake in them is a UserError."""
    if {"--help", "-h", "-help"} & set(arguments):
        cli.say(f"{__doc__}\n{flags.FLAGS.module_help(__name__)}")
        sys.exit(0)
    config = next((argument.partition("=")[2] for argument in arguments if argument.startswith("--config=")), None)
    try:
        groups: list[str] = []
        if config is not None:
            config = config_file.resolve(config)
            arguments = [f"--config={config}" if argument.startswith("--config=") else argument for argument in arguments]
            groups = list(config_file.load_config(config))  # config_flags would fail only at the first use
        rest = flags.FLAGS(arguments)
    except KeyError as error:  # of a group; a setting raises AttributeError
        name = re.sub(r"\W.*", "", str(error.args[0]).lstrip("'"), flags=re.DOTALL)
        raise errors.UserError(f"--config: expected settings of {config}, found {name!r}, which it does not have"
                               f"{errors.suggestion(name, groups)}") from error
    except (flags.Error, AttributeError, TypeError, ValueError) as error:
        raise errors.UserError(re.sub(r"\s+", " ", str(error)).strip()) from error
    if config is None:
        raise errors.UserError("--config: expected a config file, found none; try --config=configs/cnn.py:digits")
    if len(rest) > 1:
        raise errors.UserError(f"expected only --flags, found {rest[1]!r}{errors.suggestion('--' + rest[1], ['--config'])}")
    return rest


def _main(arguments: list[str]) -> int:
    from mnist_jax.train import devices, experiment, sweep  # after the flags, since the import of jax takes seconds

    logging.set_verbosity(logging.ERROR)  # jax logs every missing backend, TFDS every missing decoder

    devices.connect(_COORDINATOR.value, _PROCESSES.value, _PROCESS_INDEX.value)
    experiment.keep_compiled(sources.cache_folder() / "compiled")
    config_path = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
    script = [config_path] + [path for path in arguments[:1] if Path(path).suffix == ".py"]
    if "sweep" in _CONFIG.value:
        if _PARENT.value:
            raise errors.UserError("--parent: expected a single run's config, found a sweep's")
        sweep_result = sweep.sweep(_CONFIG.value, tracker=_TRACKER.value, tracker_mode=_MODE.value, workdir=_WORKDIR.value,
                                   script=script, command=sys.argv, started=cli.STARTED)
        cli.say(text.sweep_table(sweep_result.directory, sweep_result.seconds))
        return 0 if sweep_result.status == "finished" else 1
    result = experiment.run(_CONFIG.value, tracker=_TRACKER.value, tracker_mode=_MODE.value, workdir=_WORKDIR.value,
                            parent=_PARENT.value, profile_to=_PROFILE.value, script=script, command=sys.argv,
                            started=cli.STARTED)
    if devices.is_primary():
        cli.say(text.result_table(result.directory, result.status, result.metrics, result.seconds, result.events, result.sync))
    return 0 if result.status == "finished" else 1
