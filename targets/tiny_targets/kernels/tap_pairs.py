"""One row of a depthwise window as products of int16 pairs.

The taps of a row meet a stream of words, each two neighbouring elements. Where a window starts at a
whole word, its taps pair up as (0, 1), (2, 3) ...; half a word later as (1, 2), (3, 4) .... Windows
of both kinds share one list of words that holds both alignments; a tap that is left over at an end
is a product of halves, read from either alignment.
"""

from dataclasses import dataclass

Pair = tuple[int | None, int | None]
"""The taps in the low and the high half of a weight word; None outside the window."""


@dataclass(frozen=True)
class Product:
    """`total[output] += x[word] * w[weight]`: all of both words, or one half of each."""

    output: int
    word: int
    weight: int
    halves: str | None
    """None for both halves, else `ll`, `lh`, `hl` or `hh`: of the element word, of the weight."""


@dataclass(frozen=True)
class RowProducts:
    """The weight words of a row and the products of a group of outputs with it, in order."""

    words: tuple[Pair, ...]
    products: tuple[Product, ...]

    @property
    def element_words(self) -> int:
        """How many words of elements the group reads."""
        return max(product.word for product in self.products) + 1


def _pairs(start: int, kernel: int) -> list[tuple[int, Pair]]:
    """(word, its taps) of a window from element `start` on."""
    first, last = start // 2, (start + kernel - 1) // 2

    def tap(element: int) -> int | None:
        return element - start if 0 <= element - start < kernel else None

    return [(word, (tap(2 * word), tap(2 * word + 1))) for word in range(first, last + 1)]


def weight_words(window: int, stride: int, kernel: int) -> tuple[Pair, ...]:
    """The weight words of a row for windows at elements `window + i * stride`."""
    if kernel == 1:
        return ((0, 0),)
    starts = {window % 2} if stride % 2 == 0 else {0, 1}
    found = {pair for start in starts for _, pair in _pairs(start, kernel)}
    whole = {pair for pair in found if None not in pair}
    alone = {pair for pair in found if None in pair}
    if len(starts) == 1:
        return tuple(sorted(whole | alone, key=_first_tap))
    # Both alignments: every tap of a half pair is in a whole one too.
    return tuple(sorted(whole or alone, key=_first_tap))


def _first_tap(pair: Pair) -> int:
    return min(tap for tap in pair if tap is not None)


def row_products(window: int, stride: int, kernel: int, outputs: int) -> RowProducts:
    """The products of `outputs` neighbouring windows, the first at element `window`."""
    words = weight_words(window, stride, kernel)
    keyed = []
    for output in range(outputs):
        for word, pair in _pairs(window + output * stride, kernel):
            weight, halves = _find(words, pair)
            keyed.append((_first_tap(pair) // 2, word, Product(output, word, weight, halves)))
    keyed.sort(key=lambda entry: entry[:2])
    return RowProducts(words, tuple(product for _, _, product in keyed))


def _find(words: tuple[Pair, ...], pair: Pair) -> tuple[int, str | None]:
    """(the weight word, the halves) that give the products of `pair`."""
    if pair in words:
        return words.index(pair), None
    side = "l" if pair[1] is None else "h"
    tap = pair[0] if side == "l" else pair[1]
    for index, word in enumerate(words):
        if tap in word:
            return index, side + ("l" if word[0] == tap else "h")
    raise AssertionError(f"tap {tap} is in no weight word")
