"""The best selection within budgets by evolution, as the paper searches; it proves nothing.

A population of selections that fit; children mutate one or cross two parents; the best survive.
Fitness is the worth on the same table that the exact search uses, and a child must fit by the same
measurement. It is planned only where what was measured before leaves that open.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tiny_pipelines.search.contributions import Contributions
from tiny_pipelines.search.costs import CostBounds, CostModel, Costs, PartSizes, fits
from tiny_pipelines.search.exact import Found
from tiny_pipelines.search.selection import Selection, selection_of


@dataclass(frozen=True)
class Evolution:
    """How long and how widely to search; `measurements` ends it, whatever the generation."""

    population: int = 32
    generations: int = 60
    measurements: int = 120
    seed: int = 0


def solve_by_evolution(
    table: Contributions,
    costs: CostModel,
    sizes: PartSizes,
    budgets: Costs,
    settings: Evolution | None = None,
    *,
    tell: Callable[[str], None] | None = None,
) -> Found:
    """The best selection that evolution finds within `budgets`."""
    search = _Search(table, costs, sizes, budgets, settings or Evolution())
    begin = time.perf_counter()
    if not fits(costs.of(Selection(0)), budgets):
        return Found(None, 0.0, {}, math.inf, 1, time.perf_counter() - begin)
    population = [Selection(0)]
    for generation in range(search.settings.generations):
        population = search.next_generation(population)
        best = population[0]
        if tell is not None:
            tell(f"generation {generation}: {best.key}, worth {table.worth(best):.4f}")
        if search.spent:
            break
    best = next(one for one in population if fits(costs.of(one), budgets))
    elapsed = time.perf_counter() - begin
    return Found(best, table.worth(best), costs.of(best), math.inf, len(search.seen), elapsed)


class _Search:
    def __init__(
        self,
        table: Contributions,
        costs: CostModel,
        sizes: PartSizes,
        budgets: Costs,
        settings: Evolution,
    ) -> None:
        self.table, self.costs = table, costs
        self.budgets, self.settings = budgets, settings
        self.random = np.random.default_rng(settings.seed)
        self.seen: set[Selection] = set()
        self.bounds = CostBounds(sizes, costs.measurements())

    @property
    def spent(self) -> bool:
        """True where no more plans may be made."""
        return len(self.seen) >= self.settings.measurements

    def next_generation(self, parents: list[Selection]) -> list[Selection]:
        """The best of parents and their children, by worth."""
        children = {*parents}
        for _ in range(20 * self.settings.population):
            if len(children) >= 2 * self.settings.population or self.spent:
                break
            child = self._child(parents)
            if child not in children and self._fits(child, parents):
                children.add(child)
        ranked = sorted(children, key=lambda one: (-self.table.worth(one), one.key))
        return ranked[: self.settings.population]

    def _fits(self, child: Selection, parents: list[Selection]) -> bool:
        # A child that would not survive need not be planned.
        full = len(parents) == self.settings.population
        if full and self.table.worth(child) <= self.table.worth(parents[-1]):
            return False
        verdict = self.bounds.verdict(child, self.budgets)
        if verdict is None:
            self.seen.add(child)
            measured = self.costs.of(child)
            self.bounds.note(child, measured)
            verdict = fits(measured, self.budgets)
        return verdict

    def _child(self, parents: list[Selection]) -> Selection:
        pick = self.random.integers
        parent = parents[pick(len(parents))]
        weights, biases = dict(parent.weights), parent.biases
        if self.random.random() < 0.3:
            other = parents[pick(len(parents))]
            both = {**weights, **dict(other.weights)}
            weights = {i: r for i, r in both.items() if self.random.random() < 0.7}
            biases = (biases, other.biases)[pick(2)]
        space = self.table.space
        for _ in range(1 + pick(3)):
            if self.random.random() < 0.3:
                biases = space.counts[pick(len(space.counts))]
                continue
            index = space.candidates[pick(len(space.candidates))]
            ratio = [0.0, *space.ratios][pick(len(space.ratios) + 1)]
            weights[index] = ratio
        first = space.first_trainable(biases)
        return selection_of({i: r for i, r in weights.items() if r and i >= first}, biases)
