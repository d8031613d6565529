"""The two wings stay apart, imports run one way, and importing the package is light."""

import ast
import subprocess
import sys
from pathlib import Path

import mnist_jax

PACKAGE = Path(mnist_jax.__file__).parent
# Floors from the ground up; a file may import from its own wing's earlier files and from the floors below.
GROUND = ["errors", "credentials", "nested"]
RECORD_WING = ["events", "differences", "blobs", "run_file", "journal", "record", "overlap", "arrays", "checkpoint", "field",
               "limits", "tracking", "receipts", "neptune_client", "neptune_tracker", "comet_contents", "comet_problems",
               "comet_client", "comet_tracker", "delivery", "contract", "background", "parquet", "images", "model_main",
               "model_file", "lineage", "registry", "drawn_digit", "show", "catalog"]
COMPUTE_WING = ["settings", "search", "idx", "sources", "data", "augmentation", "convolution", "models", "devices", "train",
                "pytree", "sweep"]
BRIDGE = ["provenance", "progress", "profile", "interruption", "tracked", "export_model", "predict", "loop",
          "evaluation", "trainer", "experiment", "reproduce", "members"]
DOOR = ["__init__", "registry_commands", "__main__"]
HEAVY = {"jax", "jaxlib", "flax", "optax", "tensorflow_datasets", "sklearn", "neptune", "comet_ml", "matplotlib", "tqdm"}


def imports(path: Path) -> tuple[set[str], set[str]]:
    """Return the top-level packages imported at module level, and the modules of this package imported anywhere."""
    tree = ast.parse(path.read_text())
    outside, inside = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.module == "mnist_jax":
                names = [f"mnist_jax.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("mnist_jax."):
                inside.add(name.split(".")[1])
            elif node in tree.body:
                outside.add(name.split(".")[0])
    return outside, inside


def test_every_file_has_a_floor():
    files = {path.stem for path in PACKAGE.glob("*.py")}
    assert files == {*GROUND, *RECORD_WING, *COMPUTE_WING, *BRIDGE, *DOOR}


def test_imports_run_one_way():
    for wing, below in ((RECORD_WING, GROUND), (COMPUTE_WING, GROUND), (BRIDGE, [*GROUND, *RECORD_WING, *COMPUTE_WING])):
        for position, name in enumerate(wing):
            _, inside = imports(PACKAGE / f"{name}.py")
            allowed = {*below, *wing[:position]}
            assert inside <= allowed, f"{name}.py imports {sorted(inside - allowed)}"


def test_the_record_wing_needs_numpy_and_the_standard_library_only():
    for name in [*GROUND, *RECORD_WING, *DOOR]:
        outside, _ = imports(PACKAGE / f"{name}.py")
        foreign = {package for package in outside if package not in sys.stdlib_module_names} - {"numpy", "mnist_jax"}
        assert not foreign, f"{name}.py imports {sorted(foreign)}"


def test_importing_other_programs_files_needs_the_record_and_nothing_above_it():
    for path in (PACKAGE / "importing").glob("*.py"):
        outside, inside = imports(path)
        assert outside <= {*sys.stdlib_module_names, "numpy", "mnist_jax"}
        assert inside <= {"errors", "events", "blobs", "field", "record", "importing"}, path


def test_a_report_needs_the_record_and_nothing_above_it():
    for path in (PACKAGE / "report").glob("*.py"):
        outside, inside = imports(path)
        assert outside <= {*sys.stdlib_module_names, "numpy", "mnist_jax"}, path
        assert inside <= {*GROUND, *RECORD_WING, "report"}, path


def test_a_comparison_needs_the_record_the_loopback_servers_and_nothing_above_them():
    for path in (PACKAGE / "compare").glob("*.py"):
        outside, inside = imports(path)
        assert outside <= {*sys.stdlib_module_names, "numpy", "mnist_jax"}, path
        assert inside <= {*GROUND, *RECORD_WING, "importing", "loopback", "report", "compare"}, path


def test_a_loopback_server_needs_nothing_but_the_standard_library():
    for path in (PACKAGE / "loopback").glob("*.py"):
        outside, inside = imports(path)
        assert outside <= {*sys.stdlib_module_names, "mnist_jax"} and inside <= {"loopback"}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_is_light():
    assert not HEAVY & loaded_by("import mnist_jax")


def test_the_command_line_of_a_record_needs_no_jax():
    assert not HEAVY & loaded_by("import mnist_jax.__main__")


def test_training_locally_imports_no_tracker_and_no_plots_before_they_are_used():
    assert not HEAVY - {"jax", "jaxlib", "flax", "optax"} & loaded_by("import mnist_jax.experiment") - {"jax"}
