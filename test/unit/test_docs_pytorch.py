"""Every snippet of docs/howto/pytorch.md runs, in the order of the page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_dialect.dialect import new_context, parse_module
from tiny_pipelines.frontends import import_model

pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "pytorch.md"
SCRIPTS = Path(sys.executable).parent
SNIPPET = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_snippet_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    snippets = SNIPPET.findall(PAGE.read_text("utf-8"))
    assert [kind for kind, _ in snippets] == ["python", "sh", "python", "python", "python", "sh"]
    for kind, text in snippets:
        if kind == "python":
            exec(compile(text, str(PAGE), "exec"), names)
            continue
        for line in text.splitlines():
            command, *arguments = line.split()
            done = subprocess.run(
                [SCRIPTS / command, *arguments], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert "passed" in done.stdout
    # The module imported alive is the one of the file, but for where it says it comes from.
    with new_context():
        alive = parse_module(names["data"], "alive")
        assert str(alive) == str(import_model(tmp_path / "gestures.mlirbc"))
