"""Run what the README and the pages of the guide show, and put the output of now there.

    make readme                                     # all of them: minutes
    python docs/refresh_readme.py docs/faq.md       # these pages

`test/unit/test_docs_readme.py` and `test_docs_snippets.py` fail where a page shows something else
than this would.
"""

import sys
import tempfile
from pathlib import Path

import page_inputs
import snippets
from snippets import ROOT, comparable, output_of

__all__ = ["EXAMPLES", "GUIDE", "README", "comparable", "output_of", "refreshed", "sessions"]

README = ROOT / "README.md"
GUIDE = tuple(
    ROOT / "docs" / name
    for name in (
        "quickstart.md", "concepts.md", "faq.md", "howto/targets-and-boards.md", "howto/tflite.md",
        "howto/onnx.md", "howto/weights-in-and-out.md", "howto/memory.md", "howto/train-on-host.md",
        "howto/package.md", "howto/script-passes.md", "howto/iree-compile.md",
    )
)  # fmt: skip
"""The pages all of whose blocks are run; the README's console blocks are, besides."""
EXAMPLES = tuple(ROOT / "examples" / name / "README.md" for name in ("lifelong", "sensor"))
"""The pages of examples; `test_docs_examples.py` runs all of their blocks."""


def sessions(text: str) -> list[tuple[str, str]]:
    """(command, its output) of every command in the console blocks of `text`."""
    blocks = [block.text for block in snippets.snippets(text) if block.kind == "console"]
    return [session for block in blocks for session in snippets.sessions(block)]


def refreshed(text: str) -> str:
    """`text` with every console block as the commands print it now; unchanged parts stay."""
    parts, end = [], 0
    for block in snippets.snippets(text):
        if block.kind == "console":
            parts += [text[end : block.start], snippets.console_now(block.text, ROOT)]
            end = block.start + len(block.text)
    return "".join([*parts, text[end:]])


def refresh_page(page: Path) -> None:
    """Run all blocks of a page in an empty folder, and write what they print into it."""
    text = page.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for name in snippets.wanted_inputs(text):
            page_inputs.make(name, Path(folder))
        page.write_text(snippets.refreshed_page(text, Path(folder)), "utf-8")


def main(names: list[str]) -> None:
    """Refresh the pages of that name, or all of them."""
    pages = [Path(name).resolve() for name in names] or [README, *GUIDE, *EXAMPLES]
    for page in pages:
        if page == README:
            page.write_text(refreshed(page.read_text("utf-8")), "utf-8")
        else:
            refresh_page(page)


if __name__ == "__main__":
    main(sys.argv[1:])
