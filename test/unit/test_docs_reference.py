"""The references are those of the sources: every pass, every option, every op."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import docstrings  # noqa: E402
import refresh_ops  # noqa: E402
import refresh_passes  # noqa: E402

import tiny_dialect.ops  # noqa: E402


def test_passes_are_up_to_date() -> None:
    text = refresh_passes.PAGE.read_text("utf-8")
    assert text == refresh_passes.page(), "run python docs/refresh_passes.py"


def test_ops_are_up_to_date() -> None:
    text = refresh_ops.PAGE.read_text("utf-8")
    assert text == refresh_ops.page(), "run python docs/refresh_ops.py"


def test_the_command_lists_no_other_passes() -> None:
    script = Path(sys.executable).parent / "tiny-opt"
    shown = subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    listed = {line.split()[0] for line in shown.splitlines() if line.startswith("  tiny-")}
    documented = {entry.name for _, entry in refresh_passes.entries()}
    assert listed <= documented
    assert {entry.name for _, entry in refresh_passes.entries() if entry.anchor != "pipeline"} <= (
        listed
    )


def test_every_op_is_listed_and_described() -> None:
    files = [refresh_ops.OPS / f"{stem}.py" for stem in refresh_ops.GROUPS]
    records = [record for file in files for record in refresh_ops.records(file)]
    assert len({record.name for record in records}) == len(tiny_dialect.ops.__all__)
    assert all(record.docstring for record in records)


def test_literal_paragraphs_are_fenced() -> None:
    text = "A sentence.\n\nBefore:  a\nAfter:   b\n\n           c\n\n- a point\n  of two lines"
    assert docstrings.to_markdown(text) == (
        "A sentence.\n\n```text\nBefore:  a\nAfter:   b\n\n           c\n```\n\n"
        "- a point\n  of two lines"
    )
