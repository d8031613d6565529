"""Config files: found by their path, or by their name among those that come with the package, and run as code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from mnist_jax import errors

_PACKAGE = Path(__file__).resolve().parent.parent
_PACKAGED = (_PACKAGE / "configs", _PACKAGE.parent / "configs")  # where it is installed, and in a clone


def load_config(path: str | Path) -> Any:
    """Return the ConfigDict of a config file, such as "configs/cnn.py" or "cnn.py:digits". The file is run as code.

    Args:
      path: a file, and after a colon what its get_config is called with. A file that exists wins over a packaged one.

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
    """Return the path of a config file that exists: "configs/cnn.py:digits" and "cnn.py:digits" find the packaged one, too.

    Raises:
      UserError: there is no such file.
    """
    name, colon, argument = path.partition(":")
    if name.endswith(".py"):
        packaged = [folder / Path(name).name for folder in _PACKAGED] if Path(name).parent in (Path("."), Path("configs")) else []
        for file in (Path(name), *packaged):
            if file.is_file():
                return f"{file}{colon}{argument}"
    known = sorted({file.name for folder in _PACKAGED for file in folder.glob("*.py")})
    raise errors.UserError(f"config: expected a Python file such as configs/cnn.py, or one of the packaged {', '.join(known)}; "
                           f"found no file {name!r}{errors.suggestion(Path(name).name, known)}")
