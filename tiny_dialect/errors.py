"""The one error family: a failure a user can cause is a `TinyError` with a place."""


class TinyError(Exception):
    """An expected failure, shown to the user as one line; commands exit with status 1.

    `where` is a file position, a layer name or an op, and becomes the line's prefix.
    """

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.where = where


class InvalidModel(TinyError):
    """A model file or a module that is malformed or holds what the compiler does not support."""


class InvalidOption(TinyError):
    """An option, a scheme, a target or a board that does not exist or does not fit the model."""


class DoesNotFit(TinyError):
    """The compiled step needs more memory than the board has."""
