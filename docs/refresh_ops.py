"""Write docs/ops.md from the op classes of the dialect and their docstrings.

    python docs/refresh_ops.py

`test/unit/test_docs_reference.py` fails where the page says something else.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docstrings import module_docstring, to_markdown

ROOT = Path(__file__).resolve().parents[1]
OPS = ROOT / "tiny_dialect" / "ops"
PAGE = ROOT / "docs" / "ops.md"
GROUPS = {
    "forward": "Forward", "pooling": "Pooling", "layout": "Between layers", "fused": "Fused blocks",
    "backward": "Backward, float32", "update": "Updates, float32",
    "integer_backward": "Backward, integer", "integer_head": "Head, integer",
    "integer_update": "Updates, integer",
}  # fmt: skip

_HEAD = """# Ops

Made from `tiny_dialect/ops` by `docs/refresh_ops.py`. The exact meaning of each op is a NumPy
function of its name in `tiny_dialect/semantics`; rounding and clamping are defined in
[design/arithmetic.md](design/arithmetic.md), what holds between ops in
[design/ir.md](design/ir.md). Names in brackets are optional.
"""


@dataclass(frozen=True)
class OpRecord:
    """What the class of an op says: its name in the dialect, its parts, its docstring."""

    name: str
    operands: tuple[str, ...]
    results: tuple[str, ...]
    attributes: tuple[str, ...]
    docstring: str


def records(path: Path) -> list[OpRecord]:
    """The ops that a file defines, in its order."""
    classes = [n for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.ClassDef)]
    return [_record(node) for node in classes if any(map(_is_operation, node.bases))]


def _is_operation(base: ast.expr) -> bool:
    return ast.unparse(base) == "Tiny.Operation"


def _record(node: ast.ClassDef) -> OpRecord:
    (name,) = (ast.literal_eval(word.value) for word in node.keywords if word.arg == "name")
    kinds: dict[str, list[str]] = {"Operand": [], "Result": [], "": []}
    for field in (n for n in node.body if isinstance(n, ast.AnnAssign)):
        written, label = ast.unparse(field.annotation), ast.unparse(field.target)
        kind = next((k for k in ("Operand", "Result") if written.startswith(k)), "")
        kinds[kind].append(f"[`{label}`]" if "None" in written else f"`{label}`")
    parts = (tuple(kinds[kind]) for kind in ("Operand", "Result", ""))
    return OpRecord(f"tiny.{name}", *parts, ast.get_docstring(node) or "")


def _section(record: OpRecord) -> Iterator[str]:
    yield f"### {record.name}\n"
    yield to_markdown(record.docstring) + "\n"
    listed = {
        "operands": record.operands, "results": record.results, "attributes": record.attributes
    }  # fmt: skip
    shown = [f"{what} {', '.join(names)}" for what, names in listed.items() if names]
    if shown:
        yield f"- {'; '.join(shown)}\n"


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for stem, title in GROUPS.items():
        path = OPS / f"{stem}.py"
        parts += [f"## {title}\n", to_markdown(module_docstring(path)) + "\n"]
        for record in records(path):
            parts += _section(record)
    return "\n".join(parts).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
