"""Write docs/passes.md from the sources of the passes and pipelines.

    python docs/refresh_passes.py

`test/unit/test_docs_reference.py` fails where the page says something else.
"""

from collections.abc import Iterator
from pathlib import Path

from docstrings import module_docstring, to_markdown

from tiny_passes.catalogue import Entry, entries_in
from tiny_pipelines import inference
from tiny_pipelines.scheme import SCHEMES
from tiny_pipelines.training import STAGES, TrainingOptions, pipeline_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "passes.md"
FOLDERS = ("passes/tiny_passes", "targets/tiny_targets", "pipelines/tiny_pipelines")

_HEAD = """# Passes and pipelines

Made from the sources by `docs/refresh_passes.py`. What holds between the passes is in
[design/ir.md](design/ir.md), the ops are in [ops.md](ops.md); how to add a pass of your own is in
[howto/script-passes.md](howto/script-passes.md).

Run any of them with `tiny-opt FILE -p 'a{option=value},b'`. MLIR's own passes (`cse`,
`canonicalize`, ...) mix in. An option in bold has no default.
"""


def entries() -> list[tuple[Path, Entry]]:
    """(file, entry) of every shipped pass and pipeline, by name, pipelines first."""
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).glob("*.py"))]
    found = [(file, entry) for file in files for entry in entries_in(file)]
    return sorted(found, key=lambda pair: (pair[1].anchor != "pipeline", pair[1].name))


def _road() -> Iterator[str]:
    """Stage by stage, what the default training pipeline runs."""
    yield "## From model to plan\n"
    yield "What `tiny-compile --compile-to STAGE` runs, with int16 gradients and no target:\n"
    yield "| stage | passes |\n|---|---|"
    options = TrainingOptions("full")
    done = ""
    for stage in STAGES:
        text = pipeline_text(options, stage).replace(f"{SCHEMES}/full.json", "FILE")
        new = text.removeprefix(done).strip(",")
        yield f"| `{stage}` | {f'`{new}`' if new else 'what the importer writes'} |"
        done = text
    text = inference.pipeline_text()
    yield f"\nWith `--inference`: `{text}`.\n"


def _options(entry: Entry) -> Iterator[str]:
    if not entry.options:
        return
    yield "| option | values | default |\n|---|---|---|"
    for option in entry.options:
        name = f"`{option.name}`" if option.default is not None else f"**`{option.name}`**"
        values = option.annotation.replace("|", "\\|")
        default = "" if option.default is None else f"`{option.default}`"
        yield f"| {name} | `{values}` | {default} |"
    yield ""


def _section(file: Path, entry: Entry) -> Iterator[str]:
    yield f"### {entry.name}\n"
    where = "a pipeline" if entry.anchor == "pipeline" else f"on `{entry.anchor}`"
    summary = f"{entry.summary[0].upper()}{entry.summary[1:].rstrip('.')}"
    yield f"{summary}. ({where}; `{file.relative_to(ROOT).as_posix()}`)\n"
    yield from _options(entry)
    if entry.anchor != "pipeline":
        yield to_markdown(module_docstring(file)) + "\n"


def page() -> str:
    """The whole page."""
    parts = [_HEAD, *_road(), "## Reference\n"]
    for file, entry in entries():
        parts += _section(file, entry)
    return "\n".join(parts).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
