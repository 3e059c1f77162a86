"""The best selection within budgets, with a proof: CP-SAT over cuts that the planner supplies.

What a part is worth adds up, and so does the trained state; the arena does not, and only the
planner knows it. But a plan serves whatever trains less, and a plan with room for one more saved
tensor serves whatever saves that tensor too. So for a measured T, and every S with as many biases,

    sram(S) >= sram(T) + state(S) - state(T) - sum of the saved bytes of T that S does not save

CP-SAT solves the relaxation that has only such cuts. Its optimum is measured: within the budgets it
is the best there is, else it becomes a cut. Every optimum on the way is an upper bound. The proof
is as good as the planner: it holds where a plan is never worse than these two arguments make it.
"""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.search.contributions import Contributions
from tiny_pipelines.search.costs import MACS, SRAM, CostModel, Costs, PartSizes, fits
from tiny_pipelines.search.selection import Selection, selection_of

SCALE = 10**6
"""Worth is rounded to a millionth: CP-SAT counts in integers."""


@dataclass(frozen=True)
class Found:
    """The best selection found, its worth and costs; `bound` limits the worth of any other.

    `selection` is None where nothing fits. `bound` is infinite for a method that proves nothing.
    """

    selection: Selection | None
    worth: float
    costs: Costs
    bound: float
    measured: int
    seconds: float

    @property
    def optimal(self) -> bool:
        """True where no other selection can be worth more."""
        return self.selection is not None and self.bound - self.worth < 0.5 / SCALE


def solve_exactly(
    table: Contributions,
    costs: CostModel,
    sizes: PartSizes,
    budgets: Costs,
    *,
    seconds: float = 600.0,
    tell: Callable[[str], None] | None = None,
) -> Found:
    """The best selection within `budgets`, or after `seconds` the best so far with its bound."""
    begin, before = time.perf_counter(), costs.measured
    relaxation = _Relaxation(table, sizes, budgets)
    costs.of(Selection(0))
    for selection, measured in costs.measurements().items():
        if sizes.knows(selection):
            relaxation.cut(selection, measured)
    incumbent: tuple[float, Selection] | None = None
    bound = float("inf")
    while True:
        best = relaxation.solve(incumbent[0] if incumbent else None)
        if best is None:
            bound = incumbent[0] if incumbent else 0.0
            break
        worth = table.worth(best)
        bound = min(bound, worth)
        measured = costs.of(best)
        if tell is not None:
            tell(f"{best.key}: worth {worth:.4f}, {measured[SRAM]} B")
        if fits(measured, budgets):
            incumbent = worth, best
            break
        relaxation.cut(best, measured)
        if time.perf_counter() - begin > seconds:
            incumbent = _repaired(table, costs, budgets, best)
            break
    elapsed = time.perf_counter() - begin
    if incumbent is None:
        return Found(None, 0.0, {}, bound, costs.measured - before, elapsed)
    worth, best = incumbent
    return Found(best, worth, costs.of(best), bound, costs.measured - before, elapsed)


def _repaired(
    table: Contributions, costs: CostModel, budgets: Costs, selection: Selection
) -> tuple[float, Selection] | None:
    """A selection within the budgets: parts of least worth are dropped until it fits."""
    while not fits(costs.of(selection), budgets):
        if selection.weights:
            least = min(selection.weights, key=lambda pair: table.weights[pair])
            selection = selection.without(least[0])
        elif selection.biases:
            fewer = max(count for count in table.space.counts if count < selection.biases)
            selection = Selection(fewer)
        else:
            return None
    return table.worth(selection), selection


class _Relaxation:
    """The integer program: one choice of biases, at most one ratio a weight, and the cuts."""

    def __init__(self, table: Contributions, sizes: PartSizes, budgets: Costs) -> None:
        self._cp = _cp_model()
        self._table, self._sizes, self._budgets = table, sizes, budgets
        self._model: Any = self._cp.CpModel()
        space = table.space
        self._biases = {count: self._model.new_bool_var(f"b{count}") for count in space.counts}
        self._model.add_exactly_one(self._biases.values())
        self._weights = {
            pair: self._model.new_bool_var(f"w{pair[0]}_{pair[1]}") for pair in table.weights
        }
        for index in space.candidates:
            ratios = [self._weights[index, ratio] for ratio in space.ratios]
            self._model.add_at_most_one(ratios)
            # A weight is trained only where the biases of its layer and all later ones are.
            allowed = [var for n, var in self._biases.items() if index >= space.first_trainable(n)]
            for variable in ratios:
                self._model.add_bool_or([*allowed, variable.negated()])
        self._state = sum(
            sizes.state(Selection(count)) * var for count, var in self._biases.items()
        ) + sum(sizes.weights[pair] * var for pair, var in self._weights.items())
        self._worth = sum(
            round(table.biases[count] * SCALE) * var for count, var in self._biases.items()
        ) + sum(round(table.weights[pair] * SCALE) * var for pair, var in self._weights.items())
        self._model.maximize(self._worth)

    def cut(self, trained: Selection, measured: Costs) -> None:
        """What the costs of one selection say of all with at least as many biases."""
        fewer = [var.negated() for n, var in self._biases.items() if n < trained.biases]
        for name, budget in self._budgets.items():
            if name == SRAM:
                own, parts = measured[SRAM] - self._sizes.state(trained), self._sizes.saved
                needed = self._state + own
            elif name == MACS:
                needed, parts = measured[MACS], self._sizes.macs
            elif measured[name] > budget:
                self._exclude_larger(trained, fewer)
                continue
            else:
                continue
            freed = sum(self._freed(index, ratio, parts) for index, ratio in trained.weights)
            self._model.add(needed - freed <= budget).only_enforce_if(fewer)

    def _freed(self, index: int, ratio: float, parts: dict[tuple[int, float], int]) -> Any:
        """The most that a selection can free by training less of one weight than `ratio`."""
        most = parts[index, ratio]
        kept = [
            min(parts[index, r], most) * self._weights[index, r] for r in self._table.space.ratios
        ]
        return most - sum(kept)

    def _exclude_larger(self, trained: Selection, fewer: list[Any]) -> None:
        """Nothing that trains all of `trained` is possible."""
        less = [self._at_least(index, ratio).negated() for index, ratio in trained.weights]
        self._model.add_bool_or([*(literal.negated() for literal in fewer), *less])

    def _at_least(self, index: int, ratio: float) -> Any:
        """A literal that is true where so much of a weight is trained."""
        enough = [self._weights[index, r] for r in self._table.space.ratios if r >= ratio]
        literal = self._model.new_bool_var("")
        self._model.add(sum(enough) == literal)
        return literal

    def solve(self, above: float | None) -> Selection | None:
        """The optimum of the relaxation, None where nothing is possible (or worth more)."""
        solver = self._cp.CpSolver()
        # One worker: the same cuts give the same optimum on every machine.
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = 0
        if above is not None:
            self._model.add(self._worth > round(above * SCALE))
        status = solver.solve(self._model)
        if status != self._cp.OPTIMAL:
            return None
        count = next(n for n, var in self._biases.items() if solver.value(var))
        chosen = {i: ratio for (i, ratio), var in self._weights.items() if solver.value(var)}
        return selection_of(chosen, count)


def _cp_model() -> Any:
    try:
        return importlib.import_module("ortools.sat.python.cp_model")
    except ImportError as error:
        raise InvalidOption(
            "the exact search needs the extra 'search': pip install '.[search]'"
        ) from error
