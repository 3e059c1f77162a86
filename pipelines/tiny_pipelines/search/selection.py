"""Selections of updates, ordered by what they train, and the space that they are chosen from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiny_dialect.errors import InvalidOption
from tiny_passes.graph import INFER, find_function
from tiny_passes.layers import layers_of
from tiny_passes.update_scheme import UpdateScheme

RATIOS = (0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Selection:
    """The biases of the last `biases` convolutions, and a share of the weights of some."""

    biases: int
    weights: tuple[tuple[int, float], ...] = ()
    """(index of the convolution, share of its channels), by index."""

    def within(self, other: "Selection") -> bool:
        """True where `other` trains all that this does."""
        more = dict(other.weights)
        return self.biases <= other.biases and all(
            ratio <= more.get(index, 0.0) for index, ratio in self.weights
        )

    def without(self, index: int) -> "Selection":
        """The same, but for the weight of one convolution."""
        return Selection(self.biases, tuple(pair for pair in self.weights if pair[0] != index))

    def scheme(self, name: str, model: str | None = None) -> dict[str, Any]:
        """The content of a scheme file."""
        weights = {str(index): ratio for index, ratio in self.weights}
        origin = {"model": model} if model else {}
        return {"name": name, **origin, "biases": self.biases, "weights": weights}

    @property
    def key(self) -> str:
        """A short text that names the selection."""
        parts = [f"{index}:{ratio:g}" for index, ratio in self.weights]
        return " ".join([f"biases {self.biases}", *parts])


def selection_of(weights: Mapping[int, float], biases: int) -> Selection:
    """A selection from a mapping."""
    return Selection(biases, tuple(sorted(weights.items())))


@dataclass(frozen=True)
class Space:
    """What may be chosen in a network of `names` convolutions: biases and weights of the last."""

    names: tuple[str, ...]
    last: int
    ratios: tuple[float, ...] = RATIOS
    bias_counts: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        if not 1 <= self.last <= len(self.names):
            raise InvalidOption(
                f"--last {self.last}: the model has {len(self.names)} convolutions besides the "
                "classifier"
            )
        if not self.ratios or not all(0 < ratio <= 1 for ratio in self.ratios):
            raise InvalidOption("expected ratios in (0, 1]")

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of biases to choose from, 0 first."""
        return self.bias_counts or tuple(range(self.last + 1))

    @property
    def candidates(self) -> tuple[int, ...]:
        """The convolutions whose weights may be trained."""
        return tuple(range(len(self.names) - self.last, len(self.names)))

    def first_trainable(self, biases: int) -> int:
        """The first convolution whose weight may be trained beside so many biases."""
        return len(self.names) - biases

    @property
    def reference(self) -> Selection:
        """The biases beside which a weight's worth is measured."""
        return Selection(max(self.counts))

    def selections(self) -> list[Selection]:
        """Every trial of the contribution analysis: biases alone, then one weight beside all."""
        alone = [Selection(count) for count in self.counts]
        beside = [
            Selection(self.reference.biases, ((index, ratio),))
            for index in self.candidates
            for ratio in self.ratios
        ]
        return alone + beside

    @property
    def everything(self) -> Selection:
        """All biases and whole weights of the space."""
        return Selection(self.last, tuple((index, 1.0) for index in self.candidates))


def space_of(
    module: Any,
    last: int | None,
    ratios: tuple[float, ...] = RATIOS,
    bias_step: int = 1,
) -> Space:
    """The space of a model-stage module; `last` None stands for half of the convolutions."""
    names = layers_of(find_function(module, INFER)).names
    chosen = max(1, len(names) // 2) if last is None else last
    if bias_step < 1:
        raise InvalidOption(f"expected a step of biases of at least 1, got {bias_step}")
    counts = sorted({*range(0, chosen + 1, bias_step), chosen})
    return Space(names, chosen, tuple(sorted(ratios)), tuple(counts))


def selection_from_key(key: str) -> Selection:
    """The selection whose `key` this is; raises `ValueError` for another text."""
    _, count, *parts = key.split(" ")
    pairs = (part.split(":") for part in parts)
    return selection_of({int(index): float(ratio) for index, ratio in pairs}, int(count))


def selection_of_scheme(scheme: UpdateScheme, names: Sequence[str]) -> Selection:
    """What a scheme trains in a network whose convolutions have these names."""
    chosen = scheme.resolve(names)
    return selection_of(chosen.weights, len(chosen.biases))
