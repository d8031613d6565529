"""The notebook runs from a clean kernel, from data to comparison, on the embedded digits."""

import shutil
from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "compare_trackers.ipynb"


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def kinds(notebook: nbformat.NotebookNode) -> list[list[str]]:
    return [[output.output_type for output in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]


def test_it_runs_and_shows_what_is_kept_with_it(tmp_path, probed):
    for name in ("configs", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(probed, tmp_path / "runs" / "notebook" / "evidence")  # the minute that probing takes is spent once
    notebook = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    client = nbclient.NotebookClient(notebook, timeout=180, kernel_name="python3", coalesce_streams=True,
                                     resources={"metadata": {"path": str(tmp_path / "notebooks")}})
    client.execute()
    assert kinds(notebook) == kinds(nbformat.read(NOTEBOOK, nbformat.NO_CONVERT))
    text = "".join(output.get("text", "") for output in outputs(notebook))
    assert text.count("100%|") == 2 and "\r" not in text  # a bar a training, at its end
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    results = [output.data for output in outputs(notebook) if "data" in output]
    assert sum("image/png" in data for data in results) == 4
    (table,) = [data["text/html"] for data in results if "text/html" in data]
    assert table.count("<tr>") == 10 and "Neptune by itself" in table and "Comet elsewhere" in table
    for name in ("compare.html", "report.html", "moved/sync/comet-offline.jsonl"):
        assert (tmp_path / "runs" / "notebook" / name).is_file()


def test_what_is_kept_with_it_names_no_place_of_a_machine():
    text = NOTEBOOK.read_text()
    assert not [place for place in ("/home/", "/tmp", "/root", "/Users/", "site-packages") if place in text]
