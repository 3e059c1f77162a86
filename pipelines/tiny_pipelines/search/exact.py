"""The best selection within budgets, with a proof: CP-SAT over cuts that the planner supplies.

What a part is worth adds up, and so does the trained state; the arena does not, and only the
planner knows it. But a plan serves whatever trains less. So for a measured T

    sram(S) >= sram(T) + state(S) - state(T)        for every S that trains all of T

CP-SAT solves the relaxation that has only such cuts, above the best that was ever measured within
the budgets. Its optimum is measured: within the budgets it is the best there is, else parts of it
are dropped for as long as what is left still explains why it does not fit, and that core becomes a
cut. Every optimum on the way is an upper bound. The proof is as good as the planner: it holds where
a plan for less is never larger than one for more.
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
    incumbent = _best_measured(table, costs, sizes, budgets)
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
        core = _core(best, costs, sizes, budgets)
        relaxation.cut(core, costs.of(core))
        if time.perf_counter() - begin > seconds:
            repaired = _repaired(table, costs, budgets, best)
            incumbent = max((one for one in (incumbent, repaired) if one), default=None, key=_worth)
            break
    elapsed = time.perf_counter() - begin
    if incumbent is None:
        return Found(None, 0.0, {}, bound, costs.measured - before, elapsed)
    worth, best = incumbent
    return Found(best, worth, costs.of(best), bound, costs.measured - before, elapsed)


def _worth(found: tuple[float, Selection]) -> float:
    return found[0]


def _best_measured(
    table: Contributions, costs: CostModel, sizes: PartSizes, budgets: Costs
) -> tuple[float, Selection] | None:
    """Of all that was ever measured within the budgets the one that is worth most."""
    known = costs.measurements().items()
    fitting = [one for one, c in known if fits(c, budgets) and _in(table, one) and sizes.knows(one)]
    return max(((table.worth(one), one) for one in fitting), default=None, key=_worth)


def _in(table: Contributions, selection: Selection) -> bool:
    """True for a selection of the table's parts."""
    first = table.space.first_trainable(selection.biases)
    known = all(pair in table.weights and pair[0] >= first for pair in selection.weights)
    return known and selection.biases in table.biases


def _core(selection: Selection, costs: CostModel, sizes: PartSizes, budgets: Costs) -> Selection:
    """A part of a selection whose arena alone leaves too little for the state of the whole."""

    def explains(part: Selection) -> bool:
        state = sizes.state(selection) - sizes.state(part)
        return costs.of(part)[SRAM] + state > budgets[SRAM]

    if SRAM not in budgets or not explains(selection):
        return selection
    core = selection
    for index, _ in selection.weights:
        if explains(less := core.without(index)):
            core = less
    return core


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
        """What the costs of one selection say of others with at least as many biases."""
        fewer = [var.negated() for n, var in self._biases.items() if n < trained.biases]
        for name, budget in self._budgets.items():
            if name == SRAM:
                own = measured[SRAM] - self._sizes.state(trained)
                all_of_it = [self._at_least(index, ratio) for index, ratio in trained.weights]
                self._model.add(self._state + own <= budget).only_enforce_if([*fewer, *all_of_it])
            elif name == MACS:
                freed = sum(self._freed(index, ratio) for index, ratio in trained.weights)
                self._model.add(measured[MACS] - freed <= budget).only_enforce_if(fewer)
            elif measured[name] > budget:
                self._exclude_larger(trained, fewer)

    def _freed(self, index: int, ratio: float) -> Any:
        """The most that a selection can free by training less of one weight than `ratio`."""
        parts = self._sizes.macs
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
