"""Docstrings, read from source text, as Markdown."""

import ast
import re
from pathlib import Path

_LABELLED = re.compile(r"[A-Z]\w*:  ")


def module_docstring(path: Path) -> str:
    """The docstring of a Python file; empty without one."""
    return ast.get_docstring(ast.parse(path.read_text("utf-8"), str(path))) or ""


def to_markdown(docstring: str) -> str:
    """The paragraphs of a docstring; literal IR and tables in it become fenced text."""
    blocks: list[tuple[bool, str]] = []
    for paragraph in re.split(r"\n\s*\n", docstring):
        literal = _is_literal(paragraph)
        if literal and blocks and blocks[-1][0]:
            blocks[-1] = (True, f"{blocks[-1][1]}\n\n{paragraph}")
        else:
            blocks.append((literal, paragraph))
    return "\n\n".join(f"```text\n{text}\n```" if literal else text for literal, text in blocks)


def _is_literal(paragraph: str) -> bool:
    """True for `Before:  ...`, and for paragraphs that are indented as a whole."""
    lines = paragraph.splitlines()
    return bool(_LABELLED.match(lines[0])) or all(line.startswith("  ") for line in lines)
