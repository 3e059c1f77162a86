"""Random schemes and options for a network: what is trained, and how it is compiled."""

import random
from collections.abc import Sequence
from typing import Any, get_args

from tiny_pipelines.differential.case import Options
from tiny_pipelines.training import Rescaling, Update, integer_objection

FLOAT_GRADIENTS = "float32"
_RATIOS = (0.125, 0.25, 0.5, 0.75, 1.0)


def random_scheme(choose: random.Random, layers: list[str]) -> dict[str, Any]:
    """Everything, biases alone, the classifier alone, or any mix of weights and ratios."""
    count = len(layers)
    kind = choose.choice(("full", "mix", "mix", "mix", "mix", "biases", "classifier"))
    if kind == "full":
        return {"name": "random", "biases": "all", "weights": {"all": 1.0}}
    if kind == "classifier":
        return {"name": "random", "biases": 0, "weights": {}}
    biases: Any = choose.choice(("all", choose.randint(0, count)))
    if kind == "biases":
        return {"name": "random", "biases": biases, "weights": {}}
    chosen = [index for index in range(count) if choose.random() < 0.7]
    weights = {
        layers[index] if choose.random() < 0.3 else str(index): choose.choice(_RATIOS)
        for index in chosen
    }
    return {"name": "random", "biases": biases, "weights": weights}


def without_weights(scheme: dict[str, Any], layers: list[str], frozen: str) -> dict[str, Any]:
    """The scheme with the weights of layer `frozen` left as they are."""
    weights = scheme["weights"]
    if "all" in weights:
        weights = {str(index): weights["all"] for index in range(len(layers))}
    keys = (frozen, str(layers.index(frozen)))
    return {**scheme, "weights": {key: r for key, r in weights.items() if key not in keys}}


def random_options(choose: random.Random, gradients: Sequence[str]) -> Options:
    """The defaults more often than the rest."""
    updates = get_args(Update)
    gradient = choose.choice(gradients)
    update = choose.choice((updates[0], *updates))
    if gradient != FLOAT_GRADIENTS and integer_objection(update):
        update = choose.choice((updates[0], "int8-stochastic"))
    qas, reorder = choose.random() < 0.75, choose.random() < 0.9
    return Options(
        update=update,
        gradients=gradient,
        qas=qas,
        rescaling=choose.choice((*get_args(Rescaling), *["qas"] * 8)) if qas else "qas",
        in_place=choose.random() < 0.8,
        alignment=choose.choice((4, 4, 4, 8, 16)),
        fuse_blocks=choose.choice(("off", "off", "peak", "all")),
        row_overlap=choose.choice(("off", "off", "peak", "all")),
        fuse_updates=choose.random() < 0.85 or gradient != FLOAT_GRADIENTS,
        reorder=reorder,
        search="cp-sat" if reorder and choose.random() < 0.06 else "greedy",
        seed=choose.randrange(2**32) if choose.random() < 0.3 else 0,
        for_target=choose.random() < 0.6,
        accumulate=choose.random() < 0.08,
    )
