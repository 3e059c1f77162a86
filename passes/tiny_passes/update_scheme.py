"""Update schemes: which biases and which share of which weights a training step changes.

A scheme is a small JSON object; convolutions count from the input, from 0, without the classifier:

    {"name": "mcunet-5fps-49kb", "model": "mcunet-5fps", "biases": 20,
     "weights": {"24": 0.25, "blocks.9.pointwise1": 0.5}}

`biases` is the number of last convolutions whose bias is trained, or "all". A key of `weights` is a
convolution's index or its layer name, or "all" for every convolution not named; the value is the
share of its channels. The classifier is always trained. Source: docs/design/arithmetic.md.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_dialect.errors import InvalidOption

ALL = "all"
MAX_FILE_BYTES = 1 << 20
_LONGEST_TEXT = 200
_REQUIRED, _OPTIONAL = ("name", "biases", "weights"), ("model",)


@dataclass(frozen=True)
class Selection:
    """A scheme applied to one network: convolution indices, and for weights a ratio."""

    biases: frozenset[int]
    weights: Mapping[int, float]


@dataclass(frozen=True)
class UpdateScheme:
    """What one scheme file says; `source` is the file and only serves messages."""

    name: str
    biases: int | None
    weights: Mapping[str, float] = field(default_factory=dict)
    model: str | None = None
    source: str = ""

    def resolve(self, layers: Sequence[str]) -> Selection:
        """The selection for a network whose convolutions have these names, in order.

        Raises `InvalidOption` for an index or a layer that the network does not have, for two keys
        that mean the same convolution, and for more biases than there are convolutions.
        """
        count = len(layers)
        if self.biases is not None and self.biases > count:
            raise self._error("biases", f"{self.biases} biases asked for, {self._has(count)}")
        biases = count if self.biases is None else self.biases
        weights: dict[int, float] = {}
        for key, ratio in self.weights.items():
            if key == ALL:
                continue
            index = self._index(key, layers)
            if index in weights:
                raise self._error(_weight(key), f"convolution {index} is named twice")
            weights[index] = ratio
        if ALL in self.weights:
            weights = {i: weights.get(i, self.weights[ALL]) for i in range(count)}
        return Selection(frozenset(range(count - biases, count)), dict(sorted(weights.items())))

    def _index(self, key: str, layers: Sequence[str]) -> int:
        if _is_index(key):
            if int(key) >= len(layers):
                raise self._error(_weight(key), f"no convolution {key}; {self._has(len(layers))}")
            return int(key)
        named = Counter(layers)[key]
        if named > 1:
            raise self._error(
                _weight(key), f"{named} convolutions have this name; use their indices"
            )
        if named == 0:
            place = _weight(key)
            raise self._error(place, f"no such layer; {self._has(len(layers), layers)}")
        return layers.index(key)

    def _has(self, count: int, layers: Sequence[str] = ()) -> str:
        """How many convolutions there are, how they are called, and whose scheme this is."""
        last = f"0 to {count - 1}" if count else "none"
        names = f", from {layers[0]} to {layers[-1]}" if layers else ""
        origin = f"; the scheme is for {self.model}" if self.model else ""
        return f"the model has {count} convolutions ({last}{names}), classifier excluded{origin}"

    def _error(self, place: str, message: str) -> InvalidOption:
        return InvalidOption(message, f"{self.source or self.name}: {place}")


def read_scheme(path: Path) -> UpdateScheme:
    """The scheme in the file `path`; raises `InvalidOption` that names the file and the key."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidOption(error.strerror or str(error), str(path)) from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidOption(f"more than {MAX_FILE_BYTES} bytes are no update scheme", str(path))
    return parse_scheme(data, str(path))


def parse_scheme(data: bytes, source: str) -> UpdateScheme:
    """The scheme in UTF-8 JSON `data`; raises `InvalidOption` that names `source` and the key."""
    try:
        scheme = json.loads(data.decode("utf-8"), object_pairs_hook=_unique_keys)
    except InvalidOption as error:
        raise InvalidOption(error.message, f"{source}: {error.where}") from error
    except RecursionError as error:
        raise InvalidOption("nested too deeply for an update scheme", source) from error
    except json.JSONDecodeError as error:
        place = f"{source}:{error.lineno}:{error.colno}"
        raise InvalidOption(f"malformed JSON: {error.msg}", place) from error
    except ValueError as error:
        raise InvalidOption(f"malformed JSON: {error}", source) from error
    if not isinstance(scheme, dict):
        raise InvalidOption(f"expects an object with {', '.join(_REQUIRED)}", source)
    _check_keys(scheme, source)
    return UpdateScheme(
        name=_text(scheme["name"], f"{source}: name"),
        biases=_biases(scheme["biases"], f"{source}: biases"),
        weights=_weights(scheme["weights"], f"{source}: weights"),
        model=_text(scheme["model"], f"{source}: model") if "model" in scheme else None,
        source=source,
    )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of `pairs`; JSON readers silently keep the last of two equal keys."""
    for key, times in Counter(key for key, _ in pairs).items():
        if times > 1:
            raise InvalidOption("the key occurs twice", _key(key))
    return dict(pairs)


def _check_keys(scheme: dict[str, Any], source: str) -> None:
    known = (*_REQUIRED, *_OPTIONAL)
    for key in scheme:
        if key not in known:
            message = f"unknown key; a scheme has {', '.join(known)}"
            raise InvalidOption(message, f"{source}: {_key(key)}")
    for key in _REQUIRED:
        if key not in scheme:
            raise InvalidOption("the key is missing", f"{source}: {_key(key)}")


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidOption(f"expects a non-empty string, got {_shown(value)}", place)
    if len(value) > _LONGEST_TEXT or not value.isprintable():
        raise InvalidOption(f"expects {_LONGEST_TEXT} printable characters at most", place)
    return value


def _biases(value: Any, place: str) -> int | None:
    """A count of last convolutions; None stands for all."""
    if value == ALL:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidOption(f'expects a count of at least 0 or "all", got {_shown(value)}', place)
    return value


def _weights(value: Any, place: str) -> dict[str, float]:
    if not isinstance(value, dict):
        raise InvalidOption(f"expects an object of layer: ratio, got {_shown(value)}", place)
    seen: set[str] = set()
    for key, ratio in value.items():
        here = f"{place}[{_key(key)}]"
        canonical = str(int(key)) if _is_index(key) else key
        if canonical in seen:
            raise InvalidOption(f"convolution {canonical[:_LONGEST_TEXT]} is named twice", here)
        seen.add(canonical)
        if isinstance(ratio, bool) or not isinstance(ratio, int | float):
            raise InvalidOption(f"expects a ratio in (0, 1], got {_shown(ratio)}", here)
        if not 0 < ratio <= 1:
            raise InvalidOption(f"ratio {_shown(ratio)} is outside (0, 1]", here)
    return {key: float(ratio) for key, ratio in value.items()}


def _is_index(key: str) -> bool:
    """A key of at most nine digits counts convolutions; anything else names a layer."""
    return key.isascii() and key.isdigit() and len(key) <= 9


def _weight(key: str) -> str:
    return f"weights[{_key(key)}]"


def _key(key: str) -> str:
    """A key as JSON, cut where no layer is called like that."""
    return json.dumps(key if len(key) <= _LONGEST_TEXT else key[:_LONGEST_TEXT] + "...")


def _shown(value: Any) -> str:
    """A value as JSON, short enough for one line."""
    try:
        text = json.dumps(value)
    except ValueError:  # an integer of thousands of digits has no text
        return "a huge number"
    return text if len(text) <= 40 else text[:37] + "..."


def chosen_count(channels: int, ratio: float) -> int:
    """How many of `channels` a ratio chooses: rounded down, at least one.

    The tolerance keeps ratios such as 0.29 of 100 from losing a channel to binary fractions.
    """
    return min(channels, max(1, math.floor(channels * ratio + 1e-9)))
