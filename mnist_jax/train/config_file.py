"""Loads config files, by their path or by the name of one in the package. A config file is run as code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from mnist_jax import errors

_PACKAGE = Path(__file__).resolve().parent.parent
_PACKAGED = (_PACKAGE / "configs", _PACKAGE.parent / "configs")  # of an installation, and of a clone


def load_config(path: str | Path) -> Any:
    """Return the ConfigDict of a config file, such as "configs/cnn.py" or "cnn.py:digits". The file is run as code.

    Args:
      path: a file, and after a colon the argument of its get_config. An existing file has priority over a packaged one.

    Raises:
      UserError: there is no such file, or it has no get_config.
    """
    name, _, argument = resolve(str(path)).partition(":")
    spec = importlib.util.spec_from_file_location("config", name)
    if spec is None or spec.loader is None:
        raise errors.UserError(f"config: expected a Python file such as configs/cnn.py, found {name!r}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise errors.UserError(f"config: expected a function get_config(arg) in {name}, found none")
    return module.get_config(argument) if argument else module.get_config()


def resolve(path: str) -> str:
    """Return the path of an existing config file; "configs/cnn.py:digits" and "cnn.py:digits" also find the packaged one.

    Raises:
      UserError: there is no such file.
    """
    name, colon, argument = path.partition(":")
    if name.endswith(".py"):
        is_short = Path(name).parent in (Path("."), Path("configs"))
        packaged = [folder / Path(name).name for folder in _PACKAGED] if is_short else []
        for file in (Path(name), *packaged):
            if file.is_file():
                return f"{file}{colon}{argument}"
    names = sorted({file.name for folder in _PACKAGED for file in folder.glob("*.py")})
    raise errors.UserError(f"config: expected a Python file such as configs/cnn.py, or one of the packaged {', '.join(names)}; "
                           f"found no file {name!r}{errors.suggestion(Path(name).name, names)}")
