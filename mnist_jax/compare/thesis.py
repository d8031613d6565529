"""What the thesis compared, as published: its nine criteria, the statements of its Table 1 and its verdict."""

from __future__ import annotations

from typing import NamedTuple

CRITERIA = ("environment", "source code", "datasets", "models", "images", "artifacts", "user interface", "hyperparameters",
            "metrics")
TRACKERS = ("neptune", "comet")
TITLES = {"neptune": "Neptune", "comet": "Comet"}
PACKAGES = {"neptune": "'neptune<2' 'setuptools<82'", "comet": "comet-ml"}
ABOUT = ("A thesis trained a CNN and an MLP on MNIST under Neptune.ai and under Comet.ml and compared the two on nine "
         "criteria; its Table 1 is held against what their clients do today.")
LEGEND = ("Kept whole, 2/3: three calls that should leave something were tried, and two left all of it; online and offline "
          "differ in what can be tried. The password is a planted one.")
VERDICT = "Comet for its automatic capture, Neptune for freedom in folders and paths."


class Statement(NamedTuple):
    """One statement of Table 1; `name` is what it is called in `claims`."""

    name: str
    tracker: str
    text: str


TABLE = (
    Statement("neptune reach", "neptune", "Data sets, models and images can be logged as artifacts but are available only "
                                          "within one experiment."),
    Statement("neptune automatic", "neptune", "Metrics, parameters, source code only manually."),
    Statement("neptune datasets", "neptune", "Data sets can be uploaded."),
    Statement("neptune registry", "neptune", "No model registry or versioning yet; models can be captured."),
    Statement("neptune folders", "neptune", "Folders and paths are mostly made by the user."),
    Statement("comet reach", "comet", "Data sets, models and images can be logged as artifacts and as assets; artifacts are "
                                      "also available outside an experiment."),
    Statement("comet automatic", "comet", "Metrics, parameters, source code and more automatically."),
    Statement("comet datasets", "comet", "Information on data sets is logged, the data sets themselves as artifacts or "
                                         "assets."),
    Statement("comet registry", "comet", "Model capture, registry and versioning."),
    Statement("comet folders", "comet", "Most folders and paths are made automatically."),
)

# What no probe on this machine can show; each with its source.
SINCE = (
    ("neptune", "The hosted service ended on 2026-03-05; what is left is the client's offline mode and self-hosted or "
                "compatible servers.", "https://docs.zenml.io/stacks/stack-components/experiment-trackers/neptune"),
    ("neptune", "A model registry was added after the thesis and switched off on 2025-04-01: the loopback server claims none.",
     "https://docs.neptune.ai/model_registry/"),
    ("comet", "The service documents 15,000 values a metric and 12,000 a minute for an experiment; above, it keeps a sample.",
     "https://www.comet.com/docs/v2/guides/experiment-management/limits-and-performance"),
)
