"""A training script as a user of Neptune's client writes it, run in a sandbox to see what the client keeps.

https://docs-legacy.neptune.ai has the calls.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from mnist_jax.compare import probing


def main() -> None:
    """Do what the environment says."""
    probe, options = probing.Probe(), probing.arguments()
    probing.files()
    with probe.cost("import"):
        import neptune
    settings: dict[str, Any] = {"project": "team/mnist", "mode": "async" if probe.online else "offline"}
    if probe.name == "again":
        again(probe, neptune, settings)
        return
    if probe.name == "called":
        settings |= {"dependencies": "infer", "source_files": ["train.py", "helpers.py"]}
    with probe.cost("start"):
        run = neptune.init_run(**settings)
    if probe.name in ("points", "killed"):
        with probe.cost("point", probing.POINTS):
            for step in range(probing.POINTS):
                run["metrics/loss"].append(1 / (step + 1), step=step)
        if probe.name == "killed":
            probe.kill()
    elif probe.name == "called":
        call(probe, neptune, run, settings, options.learning_rate)
    else:
        for _ in probing.train(options.learning_rate):
            pass
    with probe.cost("close"):
        run.stop()


def call(probe: probing.Probe, neptune: Any, run: Any, settings: dict[str, Any], learning_rate: float) -> None:
    """Make a call for each thing that a user would want kept."""
    from neptune.types import File

    probe.call("environment", "init_run(dependencies='infer')", "source_code/requirements", lambda: None)
    probe.call("environment", "run['environment/jax'] = '0.10'", "environment/jax",
               lambda: _set(run, "environment/jax", "0.10"))
    probe.call("source code", "init_run(source_files=['train.py', 'helpers.py'])", "source_code/files", lambda: None)
    probe.call("datasets", "run['datasets/table'].upload('data.csv')", "datasets/table",
               lambda: run["datasets/table"].upload("data.csv"))
    probe.call("datasets", "run['datasets/tracked'].track_files('data.csv')", "datasets/tracked",
               lambda: run["datasets/tracked"].track_files("data.csv"))
    probe.call("models", "run['models/weights'].upload('model.bin')", "models/weights",
               lambda: run["models/weights"].upload("model.bin"))
    if not probe.online:  # no server that is left has a registry, and ours claims none
        probe.call("models", "init_model(key='DIGITS')", "",
                   lambda: neptune.init_model(key="DIGITS", project=settings["project"], mode="offline"))
        probe.call("models", "init_model_version(model='MNIST-DIGITS')", "",
                   lambda: neptune.init_model_version(model="MNIST-DIGITS", project=settings["project"], mode="offline"))
    probe.call("images", "run['images/picture'].upload('picture.png')", "images/picture",
               lambda: run["images/picture"].upload("picture.png"))
    probe.call("images", "run['images/series'].append(File('picture.png'), step=1)", "images/series",
               lambda: run["images/series"].append(File("picture.png"), step=1))
    probe.call("artifacts", "run['artifacts/notes'].upload('folder/notes.txt')", "artifacts/notes",
               lambda: run["artifacts/notes"].upload("folder/notes.txt"))
    probe.call("artifacts", "run['artifacts/folder'].upload_files('folder')", "artifacts/folder",
               lambda: run["artifacts/folder"].upload_files("folder"))
    probe.call("artifacts", "run['artifacts/tracked'].track_files('folder')", "artifacts/tracked",
               lambda: run["artifacts/tracked"].track_files("folder"))
    probe.call("user interface", "run['sys/name'] = 'first'", "sys/name", lambda: _set(run, "sys/name", "first"))
    probe.call("user interface", "run['sys/tags'].add(['probe'])", "sys/tags", lambda: run["sys/tags"].add(["probe"]))
    probe.call("user interface", "run['any/path/you/like'] = 1", "any/path/you/like", lambda: _set(run, "any/path/you/like", 1))
    probe.call("user interface", "run.get_url()", "", run.get_url)
    probe.call("hyperparameters", "run['hyperparameters'] = {'rate': 0.1, 'layers': {'width': 32}}",
               "hyperparameters/layers/width",
               lambda: _set(run, "hyperparameters", {"rate": learning_rate, "layers": {"width": 32}}))
    probe.call("hyperparameters", "run['hyperparameters/sizes'] = [32, 64]", "hyperparameters/sizes",
               lambda: _set(run, "hyperparameters/sizes", [32, 64]))
    for step, loss in probing.train(learning_rate):
        run["metrics/train/loss"].append(loss, step=step)
    probe.call("metrics", "run['metrics/train/loss'].append(loss, step=step)", "metrics/train/loss", lambda: None)
    probe.call("metrics", "run['metrics/odd'].append(float('nan'), step=1)", "metrics/odd",
               lambda: run["metrics/odd"].append(float("nan"), step=1))
    if probe.online:
        run.wait()  # else what is fetched below may not have arrived
    probe.call("user interface", "run.print_structure()", "", run.print_structure)
    probe.call("datasets", "run['datasets/table'].download()", "", lambda: run["datasets/table"].download("fetched.csv"), "run")
    probe.call("metrics", "run['metrics/train/loss'].fetch_values()", "", lambda: run["metrics/train/loss"].fetch_values())


def again(probe: probing.Probe, neptune: Any, settings: dict[str, Any]) -> None:
    """In another run, get at what the first one logged."""
    first = os.environ["PROBE_FIRST"]
    with neptune.init_run(with_id=first, project=settings["project"], mode="read-only") as earlier:
        for criterion, path in (("datasets", "datasets/table"), ("models", "models/weights"), ("images", "images/picture"),
                                ("artifacts", "artifacts/notes")):
            probe.call(criterion, f"init_run(with_id=FIRST, mode='read-only')['{path}'].download()", "",
                       functools.partial(earlier[path].download, "fetched"), "run")
        probe.call("artifacts", "init_run(with_id=FIRST, mode='read-only')['artifacts/tracked'].fetch_hash()", "",
                   lambda: earlier["artifacts/tracked"].fetch_hash(), "run")


def _set(run: Any, path: str, value: Any) -> None:
    run[path] = value


if __name__ == "__main__":
    main()
