"""The pages of the examples show what their commands print, and name only what exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import refresh_readme  # noqa: E402
import snippets  # noqa: E402

PAGES = refresh_readme.EXAMPLES


def name_of(page: Path) -> str:
    return page.parent.name


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_shows_what_is_printed(page: Path, tmp_path: Path) -> None:
    text = page.read_text("utf-8")
    assert snippets.refreshed_page(text, tmp_path) == text, "run make readme"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_are_all_named_and_exist(page: Path) -> None:
    named = set(re.findall(r"^\| `([\w.]+)` \|", page.read_text("utf-8"), re.MULTILINE))
    there = {path.name for path in page.parent.iterdir() if path.is_file()}
    assert named == there - {"README.md"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("script", ["lifelong/lifelong.py", "sensor/motion.py"])
def test_options_exist(script: str) -> None:
    page = ROOT / "examples" / Path(script).parent / "README.md"
    text = page.read_text("utf-8")
    asked = [sys.executable, ROOT / "examples" / script, "--help"]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    line = re.compile(rf"{Path(script).name}`?;? ([^\n]*)")
    used = {word for rest in line.findall(text) for word in re.findall(r"--[a-z-]+", rest)}
    assert used
    assert used <= set(re.findall(r"--[a-z-]+", shown))
