"""The one error family: a failure a user can cause is a `TinyError` with a place."""

MOST_LETTERS = 1000
"""Of a message; of its place half as many."""
_CUT = " ... "


def one_line(text: str, most: int = MOST_LETTERS) -> str:
    """`text` for a terminal: at most `most` letters, white space as blanks, all else printable.

    Names in a file from elsewhere may hold line breaks and what a terminal obeys, and be of any
    length. A text that is too long loses its middle.
    """
    words = " ".join(text.split())
    if not words.isprintable():
        words = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    if len(words) <= most:
        return words
    half = (most - len(_CUT)) // 2
    return words[:half] + _CUT + words[-half:]


class TinyError(Exception):
    """An expected failure, shown to the user as one line; commands exit with status 1.

    `where` is a file position, a layer name or an op, and becomes the line's prefix.
    """

    def __init__(self, message: str, where: str = "") -> None:
        self.message = one_line(message)
        self.where = one_line(where, MOST_LETTERS // 2)
        super().__init__(f"{self.where}: {self.message}" if self.where else self.message)


class InvalidModel(TinyError):
    """A model file or a module that is malformed or holds what the compiler does not support."""


class InvalidOption(TinyError):
    """An option, a scheme, a target or a board that does not exist or does not fit the model."""


class DoesNotFit(TinyError):
    """The compiled step needs more memory than the board has."""
