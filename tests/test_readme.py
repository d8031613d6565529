"""What the README shows runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_examples_run_as_they_stand(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "configs").symlink_to(Path(__file__).parent.parent / "configs")
    outputs = []
    for block in blocks:
        done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0].startswith("finished 0.9") and outputs[1] == "finished ['complete', 'complete']\n"


def test_every_training_command_of_the_readme_parses():
    """The flags of each run.py line are known; what they do is tested where it is done."""
    commands = re.findall(r"python run\.py (.*)", README)
    assert len(commands) >= 5
    for command in commands:
        for flag in command.split():
            assert re.match(r"--(config(\.[a-z_.]+)?|tracker|tracker_mode|workdir|parent|coordinator|processes|process_index|"
                            r"profile)=", flag), flag


def test_ci_calls_the_test_command_of_the_readme():
    (command,) = re.findall(r"^(pip install .*pytest.*)$", README, re.MULTILINE)
    assert command == "pip install '.[test]' && python -m pytest"
    assert "README.md" in (Path(__file__).parent.parent / ".ci" / "run").read_text()
