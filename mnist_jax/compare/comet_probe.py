"""A training script as a user of Comet's client writes it, run in a sandbox to see what the client keeps.

https://www.comet.com/docs/v2/api-and-sdk/python-sdk/reference/Experiment/ has the calls.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from mnist_jax.compare import probing


def main() -> None:
    """Do what the environment says."""
    probe = probing.Probe()
    with probe.cost("import"):
        import comet_ml
    options = probing.arguments()
    probing.files()
    with probe.cost("start"):
        experiment = comet_ml.start(project_name="mnist", online=probe.online)
    if probe.name in ("points", "killed"):
        with probe.cost("point", probing.POINTS):
            for step in range(probing.POINTS):
                experiment.log_metric("metrics/loss", 1 / (step + 1), step=step)
        if probe.name == "killed":
            probe.kill()
    elif probe.name == "called":
        call(probe, comet_ml, experiment, options.learning_rate)
    elif probe.name == "again":
        again(probe, comet_ml, experiment)
    else:
        for _ in probing.train(options.learning_rate):
            pass
    with probe.cost("close"):
        experiment.end()


def call(probe: probing.Probe, comet_ml: Any, experiment: Any, learning_rate: float) -> None:
    """Make a call for each thing that a user would want kept."""
    probe.call("environment", "log_system_info('environment/jax', '0.10')", "environment/jax",
               lambda: experiment.log_system_info("environment/jax", "0.10"))
    probe.call("source code", "log_code('helpers.py')", "helpers.py", lambda: experiment.log_code("helpers.py"))
    probe.call("datasets", "log_dataset_info('digits', '1', 'data.csv')", "dataset_info",
               lambda: experiment.log_dataset_info("digits", "1", "data.csv"))
    probe.call("datasets", "log_asset('data.csv', 'datasets/table.csv')", "datasets/table.csv",
               lambda: experiment.log_asset("data.csv", "datasets/table.csv"))
    probe.call("datasets", "log_artifact(Artifact('datasets-table', 'dataset'))", "datasets-table",
               lambda: _log_artifact(comet_ml, experiment, "datasets-table", "data.csv"))
    probe.call("models", "log_model('models-weights', 'model.bin')", "models-weights",
               lambda: experiment.log_model("models-weights", "model.bin"))
    probe.call("models", "register_model('models-weights')", "registered models-weights",
               lambda: experiment.register_model("models-weights"))
    probe.call("images", "log_image('picture.png', 'images/picture', step=1)", "images/picture",
               lambda: experiment.log_image("picture.png", "images/picture", step=1))
    probe.call("artifacts", "log_asset('folder/notes.txt', 'artifacts/notes.txt')", "artifacts/notes.txt",
               lambda: experiment.log_asset("folder/notes.txt", "artifacts/notes.txt"))
    probe.call("artifacts", "log_asset_folder('folder')", "folder/notes.txt",
               lambda: experiment.log_asset_folder("folder", log_file_name=True, recursive=True))
    probe.call("artifacts", "log_artifact(Artifact('artifacts-folder', 'folder'))", "artifacts-folder",
               lambda: _log_artifact(comet_ml, experiment, "artifacts-folder", "folder/notes.txt"))
    probe.call("user interface", "set_name('first')", "Name", lambda: experiment.set_name("first"))
    probe.call("user interface", "add_tags(['probe'])", "tag probe", lambda: experiment.add_tags(["probe"]))
    probe.call("user interface", "log_html('<p>notes')", "html", lambda: experiment.log_html("<p>notes"))
    probe.call("user interface", "log_other('any/path/you/like', 1)", "any/path/you/like",
               lambda: experiment.log_other("any/path/you/like", 1))
    probe.call("user interface", "experiment.url", "", lambda: experiment.url)
    probe.call("hyperparameters", "log_parameters({'rate': 0.1, 'layers': {'width': 32}}, 'hyperparameters')",
               "hyperparameters_layers|width",
               lambda: experiment.log_parameters({"rate": learning_rate, "layers": {"width": 32}}, "hyperparameters"))
    probe.call("hyperparameters", "log_parameter('hyperparameters/sizes', [32, 64])", "hyperparameters/sizes",
               lambda: experiment.log_parameter("hyperparameters/sizes", [32, 64]))
    for step, loss in probing.train(learning_rate):
        experiment.log_metric("metrics/train/loss", loss, step=step)
    probe.call("metrics", "log_metric('metrics/train/loss', loss, step=step)", "metrics/train/loss", lambda: None)
    probe.call("metrics", "log_metric('metrics/odd', float('nan'), step=1)", "metrics/odd",
               lambda: experiment.log_metric("metrics/odd", float("nan"), step=1))
    probe.call("metrics", "log_confusion_matrix([0, 1], [1, 1])", "confusion-matrix.json",
               lambda: experiment.log_confusion_matrix([0, 1], [1, 1]))
    probe.call("datasets", "get_artifact('datasets-table').download()", "",
               lambda: experiment.get_artifact("datasets-table").download("fetched"), "project")


def again(probe: probing.Probe, comet_ml: Any, experiment: Any) -> None:
    """In another experiment, get at what the first one logged."""
    api = comet_ml.API()
    earlier = api.get_experiment_by_key(os.environ["PROBE_FIRST"])
    for criterion, name in (("datasets", "datasets-table"), ("artifacts", "artifacts-folder")):
        probe.call(criterion, f"get_artifact('{name}').download()", "",
                   functools.partial(_fetch, experiment, name), "project")
    probe.call("models", "API().get_model('models-weights').download('1.0.0')", "",
               lambda: api.get_model(earlier.workspace, "models-weights").download("1.0.0", "fetched-model"), "project")
    probe.call("images", "API().get_experiment_by_key(FIRST).get_asset_list('image')", "",
               lambda: [asset["fileName"] for asset in earlier.get_asset_list("image")], "run")


def _fetch(experiment: Any, name: str) -> Any:
    return experiment.get_artifact(name).download(f"fetched-{name}")


def _log_artifact(comet_ml: Any, experiment: Any, name: str, path: str) -> Any:
    artifact = comet_ml.Artifact(name, "dataset")
    artifact.add(path)
    return experiment.log_artifact(artifact)


if __name__ == "__main__":
    main()
