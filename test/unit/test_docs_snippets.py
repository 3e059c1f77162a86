"""Every fenced block of the guide is run, in order, and the pages show what is printed now."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import page_inputs  # noqa: E402
import refresh_readme  # noqa: E402
import snippets  # noqa: E402

PAGES = refresh_readme.GUIDE
ORACLES = ("onnx", "onnxruntime", "ai_edge_litert", "tflite", "flatbuffers")
REFERENCES = [ROOT / "docs" / name for name in ("README.md", "passes.md", "ops.md")]
LINKED = [*PAGES, ROOT / "README.md", *REFERENCES]
COMMAND = re.compile(r"(?<![\w'./-])(tiny-[a-z0-9]+(?:-[a-z0-9]+)*)((?: [^\s`]+)*)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT / "docs").as_posix()


def has_slow_blocks(page: Path) -> bool:
    return any(block.slow for block in snippets.snippets(page.read_text("utf-8")))


def run_page(page: Path, folder: Path, *, slow: bool) -> None:
    text = page.read_text("utf-8")
    try:
        for name in snippets.wanted_inputs(text):
            page_inputs.make(name, folder)
        now = snippets.refreshed_page(text, folder, slow=slow)
    except ModuleNotFoundError as error:
        if error.name not in ORACLES:
            raise
        pytest.skip(f"needs {error.name}: make oracles")
    assert now == text, f"run python docs/refresh_readme.py {page.relative_to(ROOT)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_shows_what_is_printed(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", [*filter(has_slow_blocks, PAGES)], ids=name_of)
def test_page_with_slow_blocks(page: Path, tmp_path: Path) -> None:
    if "$ tiny-search" in page.read_text("utf-8"):
        pytest.importorskip("ortools", reason="tiny-search needs it: pip install -e '.[search]'")
    run_page(page, tmp_path, slow=True)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_nothing_but_blocks_that_run(page: Path) -> None:
    text = page.read_text("utf-8")
    blocks = snippets.snippets(text)
    assert text.count("```") == 2 * len(blocks), "an open fence"
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"\n\n {4}\S", prose), "an indented block, which nothing runs"
    assert all(len(block.reason) > 10 for block in blocks if "not run" in block.info)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text)
    for link in (one or other for one, other in links):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", sorted((ROOT / "docs/pictures").glob("*.svg")), ids=str)
def test_pictures_are_shown_whole_and_in_both_modes(path: Path) -> None:
    picture = ElementTree.parse(path).getroot()
    text = path.read_text("utf-8")
    assert text.replace("http://www.w3.org/2000/svg", "").count("http") == 0
    assert "prefers-color-scheme: dark" in text
    assert picture.get("viewBox") == f"0 0 {picture.get('width')} {picture.get('height')}"
    pages = (ROOT / "docs").rglob("*.md")
    assert any(f"pictures/{path.name}" in page.read_text("utf-8") for page in pages)


def test_commands_and_options_exist() -> None:
    used: dict[str, set[str]] = {}
    for page in (*PAGES, ROOT / "docs" / "README.md"):
        for command, rest in COMMAND.findall(page.read_text("utf-8").replace("\\\n", " ")):
            words = {word.split("=")[0] for word in rest.split() if word.startswith("--")}
            used.setdefault(command, set()).update(words)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    shipped = set(re.findall(r"^(tiny-[\w-]+) = ", project, re.MULTILINE))
    commands = set(used) & shipped
    assert len(commands) > 6
    passes = (ROOT / "docs" / "passes.md").read_text("utf-8")
    for name in set(used) - shipped:
        assert f"### {name}" in passes, f"{name} is no command and no pass"
    for command in sorted(commands):
        options = ("--help", "--tiny-help") if command == "tiny-iree-compile" else ("--help",)
        lines = [[snippets.SCRIPTS / command, option] for option in options]
        shown = "".join(
            subprocess.run(line, capture_output=True, text=True, check=True).stdout
            for line in lines
        )
        assert not [option for option in used[command] if option not in shown], command


def test_python_blocks_share_a_namespace(tmp_path: Path) -> None:
    text = "```python\na = 20\n```\n```python\nprint(a + 1)\n```\n```text\n22\n```\n"
    assert snippets.refreshed_page(text, tmp_path) == text.replace("22", "21")


def test_files_reach_the_commands_behind_them(tmp_path: Path) -> None:
    text = "```c file=a.c\nint a;\n```\n```sh\ngrep -q 'int a' a.c\n```\n"
    assert snippets.refreshed_page(text, tmp_path) == text
    with pytest.raises(snippets.SnippetFailed, match="status 1"):
        snippets.refreshed_page(text.replace("'int a'", "'int b'"), tmp_path)


def test_a_failing_command_must_be_said_to_fail(tmp_path: Path) -> None:
    text = "```console\n$ python -c 'exit(\"no\")'\nno\n```\n"
    with pytest.raises(snippets.SnippetFailed):
        snippets.refreshed_page(text, tmp_path)
    failing = text.replace("console", "console fails")
    assert snippets.refreshed_page(failing, tmp_path) == failing
    with pytest.raises(snippets.SnippetFailed):
        snippets.refreshed_page(failing.replace("exit", "print"), tmp_path)


def test_unknown_blocks_are_refused_and_reasons_respected(tmp_path: Path) -> None:
    with pytest.raises(snippets.SnippetFailed, match="nothing runs"):
        snippets.refreshed_page("```cmake\nproject(a)\n```\n", tmp_path)
    shown = "```sh not run: needs a board\nfalse\n```\n"
    assert snippets.refreshed_page(shown, tmp_path) == shown


def test_slow_blocks_wait_for_the_slow_tests(tmp_path: Path) -> None:
    text = "```sh slow\nfalse\n```\n"
    assert snippets.refreshed_page(text, tmp_path, slow=False) == text
    with pytest.raises(snippets.SnippetFailed):
        snippets.refreshed_page(text, tmp_path)
