"""Write the operators of each importer into docs/importers.md, from the importers' own tables.

    python docs/refresh_importers.py

`test/unit/test_docs_importers.py` fails where the page says something else.
"""

from pathlib import Path

from tiny_pipelines.frontends import supported_operators

PAGE = Path(__file__).resolve().parent / "importers.md"
START, END = "<!-- operators -->\n", "<!-- end of operators -->\n"


def refreshed(text: str) -> str:
    """The page with the list of now."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    rows = [f"| {name} | {' '.join(ops)} |" for name, ops in supported_operators().items()]
    table = "\n".join(["| format | operators |", "|---|---|", *rows])
    return f"{before}{START}{table}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text("utf-8")), "utf-8")
