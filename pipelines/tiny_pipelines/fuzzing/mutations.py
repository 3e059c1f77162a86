"""Seeded damage: to bytes, to lines and numbers of a text, to the values of JSON, inside zips."""

import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]
"""(source of chance, a file, files to splice from) → a damaged file."""

_ROUNDS = (1, 1, 1, 1, 1, 2, 3, 8)
_MOST_BYTES = 1 << 18
_EXTREMES = (0, 1, 2, -1, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1,
             2**32, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
_NUMBERS = (
    *(str(value) for value in _EXTREMES),
    *("-0", "1e400", "-1e308", "1e-400", "nan", "inf", "0x7FFFFFFF", "9" * 400, "-129", "3.5"),
)
_NUMBER = re.compile(rb"-?\d[\d.]*(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_%@#!][\w.]*|[^\w\s]")
_NESTS = ((b"[", b"]"), (b"{", b"}"), (b"(", b")"), (b"<", b">"), (b'{"a":', b"}"))
_DEPTHS = (2, 50, 3000, 60_000)
_DATE = (2022, 1, 1, 0, 0, 0)


def damage_bytes(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Flipped bits, extreme integers, pieces removed, repeated, cut off or taken from elsewhere."""
    for _ in range(rng.choice(_ROUNDS)):
        data = rng.choice(_BYTE_EDITS)(rng, data or b"\0", others)[:_MOST_BYTES]
    return data


def damage_text(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Lines, words and numbers removed, repeated, exchanged or made extreme; deep nesting."""
    for _ in range(rng.choice(_ROUNDS)):
        data = rng.choice(_TEXT_EDITS)(rng, data or b" ", others)[:_MOST_BYTES]
    return data


def damage_json(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Values and keys of JSON removed, renamed, repeated or replaced; now and then its text."""
    if rng.random() < 0.3:
        return damage_text(rng, data, others)
    value = json.loads(data)
    for _ in range(rng.choice(_ROUNDS)):
        value = _edited(rng, value)
    return json.dumps(value).encode()


def damage_zip(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Damage to one member of a zip, whose checksum stays right; now and then to the zip itself."""
    if rng.random() < 0.3:
        return damage_bytes(rng, data, others)
    members = unzipped(data)
    chosen = rng.choice(sorted(members))
    members[chosen] = damage_bytes(rng, members[chosen], list(members.values()))
    if rng.random() < 0.1:
        members[f"x{chosen}"] = members.pop(chosen)
    return zipped(members)


def unzipped(data: bytes) -> dict[str, bytes]:
    """The members of a zip."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these members, the same bytes every time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content, method)
    return buffer.getvalue()


def _span(rng: Random, data: bytes) -> tuple[int, int]:
    """A piece of `data`, mostly short."""
    start = rng.randrange(len(data))
    length = rng.choice((1, 2, 4, 8, rng.randrange(1, 65), rng.randrange(1, len(data) + 1)))
    return start, min(len(data), start + length)


def _flip(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def _random_byte(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]


def _extreme(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    width = rng.choice((1, 2, 4, 4, 8))
    value = rng.choice((*_EXTREMES, len(data), rng.getrandbits(32))) % (1 << 8 * width)
    place = rng.randrange(len(data))
    order = "little" if rng.random() < 0.8 else "big"
    return data[:place] + value.to_bytes(width, order) + data[place + width :]


def _cut_out(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 50)) + data[end:]


def _truncate(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data))]


def _splice(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others) or b"\0"
    start, end = _span(rng, other)
    place, rest = _span(rng, data)
    return data[:place] + other[start:end] + data[rng.choice((place, rest)) :]


_BYTE_EDITS = (
    *(_flip,) * 4,
    *(_random_byte,) * 2,
    *(_extreme,) * 3,
    _cut_out,
    _repeat,
    _truncate,
    _splice,
)


def _replaced(rng: Random, data: bytes, pattern: re.Pattern[bytes], new: Any) -> bytes:
    """One match of `pattern` replaced by `new(match)`."""
    found = list(pattern.finditer(data))
    if not found:
        return data
    match = rng.choice(found)
    return data[: match.start()] + new(match) + data[match.end() :]


def _number(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    values = _NUMBERS if rng.random() < 0.6 else tuple(str(n) for n in range(-3, 17))
    return _replaced(rng, data, _NUMBER, lambda _: rng.choice(values).encode())


def _word(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    words = _WORD.findall(data) or [b""]
    change = rng.choice((b"", rng.choice(words), None))
    return _replaced(rng, data, _WORD, lambda m: m[0] * 2 if change is None else change)


def _lines(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[first]
    elif kind == 1:
        lines.insert(second, lines[first])
    elif kind == 2:
        lines[first], lines[second] = lines[second], lines[first]
    else:
        lines.insert(first, rng.choice(rng.choice(others).split(b"\n")))
    return b"\n".join(lines)


def _nest(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    opening, closing = rng.choice(_NESTS)
    depth = rng.choice(_DEPTHS)
    return data[:start] + opening * depth + data[start:end] + closing * depth + data[end:]


_TEXT_EDITS = (*(_number,) * 4, *(_word,) * 4, *(_lines,) * 3, _nest, _flip, _truncate, _splice)


def _edited(rng: Random, value: Any) -> Any:
    """A copy with one change, at any depth."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        return _edited_object(rng, value)
    if isinstance(value, list) and value and rng.random() < 0.9:
        copy = list(value)
        place = rng.randrange(len(copy))
        kind = rng.randrange(6)
        if kind == 0:
            del copy[place]
        elif kind == 1:
            copy.append(copy[place])
        else:
            copy[place] = _edited(rng, copy[place])
        return copy
    return _odd_value(rng)


def _edited_object(rng: Random, value: dict[str, Any]) -> dict[str, Any]:
    copy = dict(value)
    key = rng.choice(list(copy))
    kind = rng.randrange(8)
    if kind == 0:
        del copy[key]
    elif kind == 1:
        copy[rng.choice(("", "a" * 5000, "1", "-1", "all", f"{key}x"))] = copy.pop(key)
    elif kind == 2:
        copy[key] = copy[rng.choice(list(copy))]
    else:
        copy[key] = _edited(rng, copy[key])
    return copy


def _odd_value(rng: Random) -> Any:
    depth = rng.choice((5, 900))
    nested: Any = 0
    for _ in range(depth):
        nested = [nested]
    return rng.choice(
        (None, True, False, "", "x" * 5000, "é\0\n", [], {}, nested, float("nan"), float("inf"),
         -1.5, 1e308, 10**400, "0x0", "-0x1000", "all", rng.choice(_EXTREMES))
    )  # fmt: skip
