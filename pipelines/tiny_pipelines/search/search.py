"""A whole search: contributions, the best selection for each budget, files and plots.

A search is resumed from its folder: finished trials (`trials.json`) and measured costs
(`costs.json`) are not made again. Everything else there is written from those.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.search.contributions import (
    Contributions,
    Measure,
    TrialLog,
    contributions,
    trials_csv,
)
from tiny_pipelines.search.costs import SRAM, CostModel, Costs, PartSizes, fits
from tiny_pipelines.search.evolution import Evolution, solve_by_evolution
from tiny_pipelines.search.exact import Found, solve_exactly
from tiny_pipelines.search.plots import contribution_plot, front_plot
from tiny_pipelines.search.selection import Selection, Space

Tell = Callable[[str], None]

METHODS = ("exact", "evolution")


@dataclass(frozen=True)
class Goal:
    """A budget, under a name that names files; `like` is a given scheme that it is taken from."""

    name: str
    budgets: Costs
    like: Selection | None = None


@dataclass(frozen=True)
class Settings:
    """How to search: methods, the measure of worth, limits of time, points of the front."""

    methods: tuple[str, ...] = METHODS
    measure: Measure = "loss"
    seconds: float = 600.0
    front: int = 8
    evolution: Evolution = field(default_factory=Evolution)

    def __post_init__(self) -> None:
        odd = [method for method in self.methods if method not in METHODS]
        if odd or not self.methods:
            raise InvalidOption(f"--method {odd}: choose of {', '.join(METHODS)}")


class Search:
    """A table of contributions and measured costs, in a folder."""

    def __init__(
        self,
        model: str,
        space: Space,
        log: TrialLog,
        costs: CostModel,
        sizes: PartSizes,
        folder: Path,
        settings: Settings,
    ) -> None:
        self.model, self.space, self.folder, self.settings = model, space, folder, settings
        self.log, self.costs, self.sizes = log, costs, sizes
        self.table: Contributions = contributions(space, log.trials, settings.measure)

    def solve(self, goal: Goal, tell: Tell | None = None) -> dict[str, Any]:
        """Every method's best for one goal; the scheme of the first method becomes a file."""
        # Evolution first: the exact search starts above the best that was measured.
        order = sorted(self.settings.methods, key=METHODS.index, reverse=True)
        results = {method: self._solved(method, goal.budgets, tell) for method in order}
        found = results[self.settings.methods[0]]
        if found.selection is None:
            raise InvalidOption(
                f"nothing fits: the classifier alone needs more than {goal.budgets}"
            )
        path = self.folder / f"{goal.name}.json"
        self._write(
            path, json.dumps(found.selection.scheme(goal.name, self.model or None), indent=2)
        )
        record: dict[str, Any] = {
            "name": goal.name,
            "budgets": dict(goal.budgets),
            "scheme": str(path),
        }
        record |= {method: self._record(result) for method, result in results.items()}
        if goal.like is not None:
            record["like"] = {
                "costs": dict(self.costs.of(goal.like)),
                "worth": self._worth(goal.like),
            }
        return record

    def _solved(self, method: str, budgets: Costs, tell: Tell | None) -> Found:
        arguments = (self.table, self.costs, self.sizes, budgets)
        if method == "exact":
            return solve_exactly(*arguments, seconds=self.settings.seconds, tell=tell)
        return solve_by_evolution(*arguments, self.settings.evolution, tell=tell)

    @staticmethod
    def _record(found: Found) -> dict[str, Any]:
        record = asdict(found)
        record["selection"] = found.selection.key if found.selection else None
        record["optimal"] = found.optimal
        record["bound"] = None if found.bound == float("inf") else found.bound
        return record

    def _worth(self, selection: Selection) -> float | None:
        """The worth of a given scheme by the table, None where it has parts that are not in it."""
        try:
            return self.table.worth(selection)
        except KeyError:
            return None

    def front(self, tell: Tell | None = None) -> list[tuple[float, float]]:
        """(bytes, worth) of the best selections between nothing and everything."""
        if self.settings.front < 2:
            return []
        low, high = (self.costs.of(s)[SRAM] for s in (Selection(0), self.space.everything))
        points: list[tuple[float, float]] = []
        for number in range(self.settings.front):
            budget = low + (high - low) * number // (self.settings.front - 1)
            found = self._solved(self.settings.methods[0], {SRAM: budget}, tell)
            if found.selection is not None and fits(found.costs, {SRAM: budget}):
                points.append((found.costs[SRAM], found.worth))
        return points

    def write(
        self, goals: Sequence[Goal], records: list[dict[str, Any]], tell: Tell | None
    ) -> None:
        """`trials.csv`, both plots and `search.json`."""
        self._write(self.folder / "trials.csv", trials_csv(self.space, self.log.trials))
        title = f"{self.model}: worth as {self.settings.measure} on held-out samples"
        self._write(self.folder / "contributions.svg", contribution_plot(self.table, title))
        method = self.settings.methods[0]
        best = {(one[method]["costs"][SRAM], one[method]["worth"]) for one in records}
        front = sorted(best | set(points)) if (points := self.front(tell)) else []
        given: dict[tuple[float, float], str] = {}
        for goal in goals:
            worth = None if goal.like is None else self._worth(goal.like)
            if goal.like is not None and worth is not None:
                size = float(self.costs.of(goal.like)[SRAM])
                given.setdefault((size, worth), goal.name.removeprefix("like-"))
        if front:
            named = [(name, *point) for point, name in given.items()]
            self._write(self.folder / "front.svg", front_plot(front, named, title))
        solved = [{**record, "scheme": Path(record["scheme"]).name} for record in records]
        trials = self.log.trials.values()
        spent = {"count": len(trials), "seconds": round(sum(one.seconds for one in trials), 1)}
        record = {"model": self.model, "trials": spent, "goals": solved, "front": front}
        self._write(self.folder / "search.json", json.dumps(record, indent=1) + "\n")

    def _write(self, path: Path, text: str) -> None:
        part = path.with_name(path.name + ".part")
        part.write_text(text, "utf-8")
        os.replace(part, path)
