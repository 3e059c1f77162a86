"""Studies: which runs stand behind a page of results, as a JSON file.

    {"title": "Results", "text": "...", "data": "images.npz", "classes": 10, "seeds": [0, 1, 2],
     "defaults": {"model": "mcunet.pkl", "gradients": "float32"},
     "sections": [{"title": "Accuracy", "text": "...", "rows": [
         {"name": "99kb", "scheme": "mcunet-5fps-99kb", "epochs": 3, "rates": [0.1, 0.2]},
         {"name": "int8", "like": "99kb", "update": "int8", "rate_of": "99kb"}]}]}

A row has every option of a run. Its rate (for 256 images) is `rate`, or the best of `rates` on a
validation split of the training images, or that of the row `rate_of`. `like` takes what is not
said from another row, `defaults` from the study. `arithmetic` `float` is fine-tuning of the same
network in full precision (PyTorch). `least` is the mean accuracy in percent that the row must
reach, `within` the points it may lie below the row `rate_of`. Models and data are relative to a
folder that the caller names, schemes to that or to the study.

Under a table may stand a `grid`, which shows means again, side by side:

    "grid": {"columns": ["float", "int8"], "lines": {"99kb": ["99kb, float", "99kb"]}}

and what `tiny-search` found, from its `search.json`: `"search": "schemes/search.json"`.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from tiny_dialect.errors import InvalidOption
from tiny_targets.cache import digest

Arithmetic = Literal["int8", "float"]

_DEMANDS = ("rate", "rates", "rate_of", "least", "most", "within")
_INTEGER_ONLY = ("update", "gradients", "rescaling")


@dataclass(frozen=True)
class Row:
    """One line of a table: a model, what is trained in it, how, and what it must reach."""

    name: str
    model: str
    scheme: str
    update: str = "int16"
    gradients: str = "float32"
    rescaling: str = "qas"
    epochs: int = 1
    batch: int = 1
    warmup: float = 0.0
    arithmetic: str = "int8"
    rate: float | None = None
    rates: tuple[float, ...] = ()
    rate_of: str | None = None
    least: float | None = None
    most: float | None = None
    within: float | None = None

    def settings(self) -> dict[str, Any]:
        """What decides the result of a run, apart from rate and seed."""
        idle = ("arithmetic",) if self.arithmetic == "int8" else _INTEGER_ONLY
        skipped = ("name", *_DEMANDS, *idle)
        return {key: value for key, value in asdict(self).items() if key not in skipped}


@dataclass(frozen=True)
class Grid:
    """Means of rows, side by side: columns under titles, lines of names of rows (or "")."""

    columns: tuple[str, ...]
    lines: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Section:
    """A table under a title, with a text above, a grid and the record of a search below."""

    title: str
    rows: tuple[Row, ...]
    text: str = ""
    grid: Grid | None = None
    search: str | None = None


@dataclass(frozen=True)
class Study:
    """Everything a page shows; `limits` are the first samples used of each split, None for all."""

    title: str
    data: str
    seeds: tuple[int, ...]
    sections: tuple[Section, ...]
    text: str = ""
    classes: int | None = None
    limits: tuple[int | None, int | None] = (None, None)
    source: str = field(default="", compare=False)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row, in order."""
        return tuple(row for section in self.sections for row in section.rows)

    def beside(self, name: str) -> Path:
        """A file beside the study."""
        return Path(self.source).parent / name

    def row(self, name: str) -> Row:
        """The row of that name; raises `InvalidOption`."""
        for row in self.rows:
            if row.name == name:
                return row
        raise InvalidOption(f"no row {name!r}", self.source)

    def rated(self, row: Row) -> Row:
        """The row that decides the rate of `row`: itself, or the one that `rate_of` leads to."""
        seen = {row.name}
        while row.rate_of is not None:
            row = self.row(row.rate_of)
            if row.name in seen:
                raise InvalidOption(f"row {row.name!r} takes its rate from itself", self.source)
            seen.add(row.name)
        return row

    def identity(self, row: Row, **run: Any) -> str:
        """A key of one run: equal keys mean equal results."""
        common = {"data": self.data, "classes": self.classes, "limits": self.limits}
        # What a scheme file beside the study says counts, not only its name.
        if (scheme := self.beside(row.scheme)).is_file():
            run["scheme_text"] = scheme.read_text("utf-8")
        return digest(json.dumps({**row.settings(), **common, **run}, sort_keys=True))[:16]


def read_study(path: Path) -> Study:
    """The study in a JSON file; raises `InvalidOption` that names the file and the entry."""
    try:
        record = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidOption(error.strerror or str(error), str(path)) from error
    except ValueError as error:
        raise InvalidOption(f"is not JSON: {error}", str(path)) from error
    try:
        return _study(record, str(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidOption(f"is not a study: {error!r}", str(path)) from error


def _study(record: dict[str, Any], source: str) -> Study:
    record = dict(record)
    defaults = record.pop("defaults", {})
    known: dict[str, dict[str, Any]] = {}
    sections: list[Section] = []
    for section in record.pop("sections"):
        rows = tuple(_row(row, defaults, known, source) for row in section["rows"])
        text, grid = _joined(section.get("text", "")), _grid(section.get("grid"))
        sections.append(Section(section["title"], rows, text, grid, section.get("search")))
    record |= {"text": _joined(record.get("text", "")), "seeds": tuple(record["seeds"])}
    record["limits"] = tuple(record.get("limits", (None, None)))
    study = Study(**record, sections=tuple(sections), source=source)
    if not study.seeds:
        raise InvalidOption("expected at least one seed", source)
    _require_consistent(study, source)
    return study


def _require_consistent(study: Study, source: str) -> None:
    """Every row has one way to its rate, every grid names rows; raises `InvalidOption`."""
    for row in study.rows:
        rated = study.rated(row)
        if (rated.rate is None) == (not rated.rates):
            raise InvalidOption(f"row {rated.name!r}: expected one of rate and rates", source)
        if row.within is not None and row.rate_of is None:
            raise InvalidOption(f"row {row.name!r}: within needs rate_of", source)
    for grid in (section.grid for section in study.sections if section.grid is not None):
        for line, names in grid.lines.items():
            if len(names) != len(grid.columns):
                raise InvalidOption(f"line {line!r} of a grid has {len(names)} rows", source)
            for name in filter(None, names):
                study.row(name)


def _grid(record: dict[str, Any] | None) -> Grid | None:
    if record is None:
        return None
    lines = {title: tuple(names) for title, names in record["lines"].items()}
    return Grid(tuple(record["columns"]), lines)


def _row(
    record: dict[str, Any], defaults: dict[str, Any], known: dict[str, dict[str, Any]], source: str
) -> Row:
    record = dict(record)
    name = record["name"]
    if name in known:
        raise InvalidOption(f"two rows are called {name!r}", source)
    like = record.pop("like", None)
    if like is not None and like not in known:
        raise InvalidOption(f"row {name!r} is like {like!r}, which is no row above", source)
    base = {k: v for k, v in known.get(like or "", defaults).items() if k not in _DEMANDS}
    merged = {**base, **record}
    odd = sorted(set(merged) - {one.name for one in fields(Row)})
    if odd:
        raise InvalidOption(f"row {name!r} has an unknown entry {odd[0]!r}", source)
    known[name] = merged
    if merged.get("arithmetic", "int8") not in get_args(Arithmetic):
        raise InvalidOption(f"row {name!r}: arithmetic is int8 or float", source)
    entries: dict[str, Any] = {**merged, "rates": tuple(merged.get("rates", ()))}
    return Row(**entries)


def _joined(text: str | list[str]) -> str:
    """A text, or its lines."""
    return text if isinstance(text, str) else "\n".join(text)
