"""Contribution analysis: what training each bias and each share of a weight is worth.

    worth(biases of the last k)   = measure(those alone) - measure(the classifier alone)
    worth(share r of weight i)    = measure(it beside all biases) - measure(all biases)

The measure is minus the loss on held-out samples (default; it is the less noisy one) or the
accuracy there. The worth of a selection is taken as the sum of its parts.
"""

import csv
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tiny_dialect.errors import InvalidOption
from tiny_pipelines.search.executors import TrialExecutor, run_trials
from tiny_pipelines.search.selection import Selection, Space
from tiny_pipelines.search.trial import Trial, read_trial

Measure = Literal["loss", "accuracy"]


class TrialLog:
    """The finished trials of one problem in a JSON file; a kill leaves the old or the new file."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.trials: dict[Selection, Trial] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        try:
            record = json.loads(self.path.read_text("utf-8"))
            found, trials = record["problem"], [read_trial(one) for one in record["trials"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidOption(f"is no log of trials: {error!r}", str(self.path)) from error
        if found != self.key:
            raise InvalidOption(
                "holds trials of another model, data set or plan; choose another folder",
                str(self.path),
            )
        self.trials = {trial.selection: trial for trial in trials}

    def add(self, trial: Trial) -> None:
        """Keep one more trial."""
        self.trials[trial.selection] = trial
        record = {"problem": self.key, "trials": [t.record() for t in self.trials.values()]}
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        os.replace(part, self.path)

    def run(
        self,
        executor: TrialExecutor,
        selections: list[Selection],
        tell: Callable[[Trial], None] | None = None,
    ) -> None:
        """Run those of `selections` that are missing."""

        def keep(trial: Trial) -> None:
            self.add(trial)
            if tell is not None:
                tell(trial)

        run_trials(executor, [one for one in selections if one not in self.trials], keep)


@dataclass(frozen=True)
class Contributions:
    """What each part is worth: biases by count (0 is worth 0), weights by (index, ratio)."""

    space: Space
    biases: dict[int, float]
    weights: dict[tuple[int, float], float]

    def worth(self, selection: Selection) -> float:
        """The sum of the parts; raises `KeyError` for a part that was not measured."""
        return self.biases[selection.biases] + sum(self.weights[pair] for pair in selection.weights)


def contributions(space: Space, trials: dict[Selection, Trial], measure: Measure) -> Contributions:
    """The table of a complete set of trials; raises `InvalidOption` where one is missing."""
    missing = [one for one in space.selections() if one not in trials]
    if missing:
        raise InvalidOption(f"{len(missing)} trials are missing, the first {missing[0].key}")

    def value(selection: Selection) -> float:
        trial = trials[selection]
        return trial.accuracy if measure == "accuracy" else -trial.loss

    nothing, everything = value(Selection(0)), value(space.reference)
    weights = {
        (index, ratio): value(Selection(space.reference.biases, ((index, ratio),))) - everything
        for index in space.candidates
        for ratio in space.ratios
    }
    biases = {count: value(Selection(count)) - nothing for count in space.counts}
    return Contributions(space, biases, weights)


def trials_csv(space: Space, trials: dict[Selection, Trial]) -> str:
    """A line a trial: what was trained, by layer name too, and what it reached."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["biases", "weight", "layer", "ratio", "accuracy", "loss", "seconds"])
    for selection, trial in sorted(trials.items(), key=lambda pair: pair[0].key):
        index, ratio = selection.weights[0] if selection.weights else ("", "")
        layer = space.names[index] if isinstance(index, int) else ""
        figures = [f"{trial.accuracy:.4f}", f"{trial.loss:.6f}", f"{trial.seconds:.2f}"]
        lines.writerow([selection.biases, index, layer, ratio, *figures])
    return text.getvalue()
