"""The commands of the model registry."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mnist_jax import cli
from mnist_jax.registry import lineage, store
from mnist_jax.view import text

_Argument = tuple[str, dict[str, Any]]  # a name, and its options for argparse


def add(commands: Any, run_help: str) -> None:
    """Add `registry` and its actions to the command line; `run_help` describes an argument that names a run."""
    parser = commands.add_parser("registry", help="names, versions and aliases of models, and their lineage")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    model: _Argument = ("model", {"metavar": "NAME@WHICH", "help": "NAME@VERSION, NAME@ALIAS, or NAME for the latest"})

    def action(example: str, call: Any, help: str, *arguments: _Argument, as_json: bool = False) -> None:
        action_parser = actions.add_parser(example.split()[0], help=help, epilog=f"example: mnist-jax registry {example}")
        for name, options in arguments:
            action_parser.add_argument(name, **options)
        action_parser.add_argument("--registry", type=Path, default=store.DEFAULT, help="its folder, by default ./registry")
        if as_json:
            action_parser.add_argument("--json", action="store_true", help="print JSON")
        action_parser.set_defaults(call=call)

    name: _Argument = ("name", {})
    alias: _Argument = ("alias", {})
    action("list digits --json", _list, "the registered models", ("name", {"nargs": "?", "help": "only this name"}),
           as_json=True)
    action("register digits runs/20260101-120000-cnn-digits", _register, "make the model of a run the next version of a name",
           name, ("run", {"help": run_help}), ("--note", {"default": "", "help": "why"}))
    action("promote digits@2 production", _promote, "move an alias, such as production, to a version", model, alias)
    action("rollback digits production", _rollback, "move an alias back to where it pointed before", name, alias)
    action("note digits@2 'seen by Ada'", _note, "add a note to a version", model, ("text", {}))
    action("show digits@production --json", _show, "the chain of a version: from its digest to its environment", model,
           as_json=True)
    action("verify digits@production", _verify, "compute every digest of the chain again; list those that differ", model)


def _list(parsed: argparse.Namespace) -> int:
    names = [parsed.name] if parsed.name else store.names(parsed.registry)
    versions = [version for name in names for version in store.versions(parsed.registry, name)]
    cli.say(text.json_text([text.version_facts(each) for each in versions]) if parsed.json
            else text.versions_table(versions))
    return 0


def _register(parsed: argparse.Namespace) -> int:
    return _print_version(store.register(parsed.registry, parsed.name, parsed.run, parsed.note))


def _promote(parsed: argparse.Namespace) -> int:
    return _print_version(store.promote(parsed.registry, parsed.model, parsed.alias))


def _rollback(parsed: argparse.Namespace) -> int:
    return _print_version(store.roll_back(parsed.registry, parsed.name, parsed.alias))


def _note(parsed: argparse.Namespace) -> int:
    return _print_version(store.note(parsed.registry, parsed.model, parsed.text))


def _show(parsed: argparse.Namespace) -> int:
    version = store.find(parsed.registry, parsed.model)
    cli.say(text.json_text(text.version_facts(version)) if parsed.json else text.chain_page(version))
    return 0


def _verify(parsed: argparse.Namespace) -> int:
    version = store.find(parsed.registry, parsed.model)
    problems = store.problems(parsed.registry, parsed.model)
    if not problems:
        problems = lineage.data_problems(version.chain["run"]["directory"])
    cli.say("\n".join(problems or [f"{version.name} version {version.version}: every digest of its chain matches"]))
    return 1 if problems else 0


def _print_version(version: store.Version) -> int:
    cli.say(text.versions_table([version]))
    return 0
