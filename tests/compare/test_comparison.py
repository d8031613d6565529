"""The comparison says what the evidence shows, and nothing else: change the evidence and the statement changes."""

import json
import re
import shutil
from pathlib import Path

import pytest

from mnist_jax import errors
from mnist_jax.cli import main
from mnist_jax.compare import claims, comparison, criteria, page, sandbox, thesis


@pytest.fixture
def evidence(probed, tmp_path):
    """Return a copy of the evidence that a test may change."""
    return shutil.copytree(probed, tmp_path / "evidence")


def answer(folder, tracker: str, criterion: str, words: str, mode: str) -> str:
    (found,) = [answers for call, answers in comparison.fold(folder).cells[criterion][tracker].calls.items()
                if call.startswith(words)]
    return found[mode].status


def automatic(folder, tracker: str, criterion: str, mode: str) -> list[str]:
    return [line.text for line in comparison.fold(folder).cells[criterion][tracker].automatic[mode]]


def fact(folder, title: str, tracker: str) -> list[str]:
    return [line.text for line in comparison.fold(folder).facts[title][tracker]]


def test_every_probe_ended_as_it_should_and_left_something(probed):
    folders = sorted(path.parent for path in probed.glob("*/*/end.json"))
    assert len(folders) == 2 * sum(map(len, criteria.PROBES.values())) and comparison.fold(probed).problems == []
    for folder in folders:
        code = json.loads((folder / "end.json").read_text())["code"]
        assert code == (-9 if folder.name.startswith("killed") else 0), (folder / "output.txt").read_text()
        assert (folder / "calls.jsonl").read_text() or folder.name.startswith("bare")


def test_what_the_clients_are_known_to_do_is_found(probed):
    """Each line was seen in the clients' own files (neptune 1.14, comet_ml 3.58)."""
    assert {"source_code/entrypoint", "source_code/diff"} <= set(automatic(probed, "neptune", "source code", "offline"))
    assert "source_code/git" in automatic(probed, "neptune", "source code", "online")
    assert "source_code/git" not in automatic(probed, "neptune", "source code", "offline")
    assert "git_metadata" in automatic(probed, "comet", "source code", "offline")
    assert automatic(probed, "neptune", "hyperparameters", "online") == []
    assert "parameter learning_rate" in automatic(probed, "comet", "hyperparameters", "offline")
    for tracker in thesis.TRACKERS:
        assert automatic(probed, tracker, "metrics", "online") == []  # neither hooks into JAX
    assert answer(probed, "neptune", "datasets", "run['datasets/table'].upload", "offline") == criteria.PARTLY
    assert answer(probed, "neptune", "datasets", "run['datasets/table'].upload", "online") == criteria.KEPT
    assert answer(probed, "neptune", "hyperparameters", "run['hyperparameters/sizes']", "online") == criteria.LOST
    assert answer(probed, "neptune", "metrics", "run['metrics/odd']", "offline") == criteria.LOST
    assert answer(probed, "comet", "metrics", "log_metric('metrics/odd'", "offline") == criteria.KEPT
    assert answer(probed, "comet", "datasets", "log_artifact", "offline") == criteria.REFUSED
    assert answer(probed, "comet", "datasets", "log_artifact", "online") == criteria.KEPT
    assert any("model models-weights has a version" in line for line in fact(probed, "Registry and versions", "comet"))
    assert any("command line" in line for line in fact(probed, "Planted passwords", "comet"))


def test_a_probe_that_failed_is_reported_and_is_no_success(evidence, capsys):
    (evidence / "comet" / "called-online" / "end.json").write_text('{"code": 1}')
    shutil.rmtree(evidence / "neptune" / "bare-offline")
    found = comparison.fold(evidence)
    first, second = found.problems
    assert first == "neptune bare-offline did not end" and "comet called-online ended with exit code 1" in second
    assert "did not end" in page.of(found) and found.facts["Network"]["neptune"] == []
    assert main.main(["compare-trackers", "--evidence", str(evidence)]) == 1
    assert "output.txt says why" in capsys.readouterr().err


def test_a_folder_for_the_evidence_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(criteria, "PROBES", {"offline": ("killed",), "online": ()})
    sandbox.probe(Path("evidence"), ("neptune",))
    assert (tmp_path / "evidence" / "neptune" / "killed-offline" / "calls.jsonl").read_text()


CHANGES = [  # a place in the evidence, and what it decides
    ("neptune/bare-offline/files", lambda folder: automatic(folder, "neptune", "environment", "offline")),
    ("comet/bare-offline/files", lambda folder: automatic(folder, "comet", "hyperparameters", "offline")),
    ("neptune/bare-online/server.jsonl", lambda folder: automatic(folder, "neptune", "source code", "online")),
    ("comet/bare-online/server.jsonl", lambda folder: automatic(folder, "comet", "environment", "online")),
    ("neptune/called-offline/files", lambda folder: answer(folder, "neptune", "models", "run['models/weights']", "offline")),
    ("comet/called-online/server.jsonl", lambda folder: answer(folder, "comet", "models", "register_model", "online")),
    ("neptune/killed-offline/files", lambda folder: fact(folder, "After kill -9", "neptune")),
    ("comet/killed-offline/files", lambda folder: fact(folder, "After kill -9", "comet")),
    ("comet/points-online/calls.jsonl", lambda folder: fact(folder, "Costs", "comet")),
    ("neptune/points-offline/files", lambda folder: fact(folder, "Costs", "neptune")),
    ("comet/bare-offline/files", lambda folder: fact(folder, "Planted passwords", "comet")),
    ("neptune/again-online/calls.jsonl", lambda folder: comparison.fold(folder).cells["images"]["neptune"].reach),
]


@pytest.mark.parametrize(("place", "decided"), CHANGES, ids=[place for place, _ in CHANGES])
def test_deleting_evidence_changes_what_it_decides(evidence, place, decided):
    before = decided(evidence)
    removed = evidence / place
    shutil.rmtree(removed) if removed.is_dir() else removed.unlink()
    assert decided(evidence) != before


def test_every_claim_of_the_table_rests_on_evidence(evidence):
    before = comparison.fold(evidence).claims
    assert {claim.finding for claim in before} <= {claims.HOLDS, claims.IN_PART, claims.NO_LONGER}
    assert all(claim.why.quotes for claim in before)
    for tracker in thesis.TRACKERS:
        for mode in criteria.MODES:
            (evidence / tracker / f"called-{mode}" / "calls.jsonl").unlink()
            for name in ("bare", "called", "again"):
                (evidence / tracker / f"{name}-online" / "server.jsonl").unlink(missing_ok=True)
    assert {claim.finding for claim in comparison.fold(evidence).claims} == {claims.NOT_SHOWN}


def test_changed_evidence_changes_the_statement(evidence):
    calls = evidence / "comet" / "called-online" / "calls.jsonl"
    calls.write_text(calls.read_text().replace('"accepted": true', '"accepted": false'))
    assert answer(evidence, "comet", "images", "log_image", "online") == criteria.REFUSED
    server = evidence / "neptune" / "bare-online" / "server.jsonl"
    server.write_text(server.read_text() + '{"kind": "float", "name": "metrics/loss", "value": 1}\n')
    assert automatic(evidence, "neptune", "metrics", "online") == ["metrics/loss"]
    (claim,) = [claim for claim in comparison.fold(evidence).claims if claim.statement.name == "neptune automatic"]
    assert "metrics by itself" in claim.why.text
    for log in (evidence / "neptune" / "called-offline" / "files").rglob("data-*.log"):
        log.write_bytes(log.read_bytes().replace(b"hyperparameters", b"Hyperparameters"))
    assert answer(evidence, "neptune", "hyperparameters", "run['hyperparameters'] =", "offline") == criteria.LOST


def test_every_statement_of_the_page_leads_to_its_evidence_and_nothing_leaves_it(probed, finished_run, tmp_path):
    path = page.write_comparison(comparison.compare_trackers(probed, finished_run), tmp_path / "new" / "compare.html")
    text = path.read_text()
    linked, there = set(re.findall(r'href="#(e\d+)"', text)), set(re.findall(r'<li id="(e\d+)"', text))
    assert linked == there and len(there) > 100
    assert not re.search(r"<script|<link(?! rel=\"icon\")|@import|src=|[\s:]url\(", text)
    assert "planted-in-the-remote" in text  # the evidence is quoted
    for cell in re.findall(r"<code>([^<]+)</code><br>(.*?)</li>", text):
        assert 'class="note"' in cell[1], cell[0]
    assert "neptune-offline" in text and "converted" in text  # the run's receipts


def test_what_evidence_says_cannot_become_html(evidence):
    server = evidence / "neptune" / "bare-online" / "server.jsonl"
    server.write_text(server.read_text() + json.dumps({"kind": "x", "name": "monitoring/<script>x</script>", "value": 1}))
    text = page.of(comparison.fold(evidence))
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_a_client_that_is_not_installed_is_reported(evidence, capsys):
    client = evidence / "neptune" / "client.json"
    client.write_text(client.read_text().replace(json.loads(client.read_text())["version"], ""))
    found = comparison.fold(evidence)
    assert {claim.finding for claim in found.claims if claim.statement.tracker == "neptune"} == {claims.NOT_SHOWN}
    text = page.of(found)
    assert "Neptune is not installed here" in text and "Comet 3." in text
    assert main.main(["compare-trackers", "--evidence", str(evidence)]) == 0
    assert "Neptune is not installed" in capsys.readouterr().out
    shutil.copy(client, evidence / "comet" / "client.json")
    assert main.main(["compare-trackers", "--evidence", str(evidence)]) == 2
    assert "pip install" in capsys.readouterr().err


def test_the_command_prints_and_writes_it(probed, finished_run, tmp_path, capsys):
    page_file = tmp_path / "c.html"
    assert main.main(["compare-trackers", str(finished_run), "--evidence", str(probed), "--html", str(page_file)]) == 0
    told = capsys.readouterr().out
    assert "datasets" in told and "Table 1 of the thesis" in told and page_file.exists()
    assert main.main(["compare-trackers", "--evidence", str(probed), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["cells"]) == set(thesis.CRITERIA) and len(facts["claims"]) == len(thesis.TABLE)


def test_a_mistake_is_one_line(tmp_path, probed, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("")
    for arguments in ([str(tmp_path / "no-run")], ["--evidence", str(tmp_path / "file")],
                      ["--evidence", str(tmp_path / "full")],
                      ["--evidence", str(probed), "--html", str(tmp_path / "file" / "x.html")]):
        assert main.main(["compare-trackers", *arguments]) == 2
        assert len(capsys.readouterr().err.strip().split("\n")) == 1
    with pytest.raises(errors.UserError, match="found none on comet"):
        shutil.copytree(probed / "neptune", tmp_path / "half" / "neptune")
        comparison.compare_trackers(tmp_path / "half")
