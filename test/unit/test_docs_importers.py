"""The importers' page lists what the importers read, and the command prints the same."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import refresh_importers  # noqa: E402

from tiny_pipelines.frontends import supported_operators  # noqa: E402


def test_page_is_up_to_date() -> None:
    text = refresh_importers.PAGE.read_text("utf-8")
    assert refresh_importers.refreshed(text) == text, "run python docs/refresh_importers.py"


def test_command_lists_the_same() -> None:
    script = Path(sys.executable).parent / "tiny-import"
    done = subprocess.run([script, "--list-ops"], capture_output=True, text=True, check=True)
    for name, operators in supported_operators().items():
        assert f"{name}: {', '.join(operators)}" in done.stdout.splitlines()
        assert len(operators) > 15
