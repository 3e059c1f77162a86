"""Read a pickle of dicts, lists, numbers, text and NumPy arrays without executing anything in it.

The opcodes are decoded by `pickletools` and interpreted here; the `pickle` machinery, which
imports and calls what a file names, is not used. A file may name four globals (those that NumPy
writes for an array), and each is only a label for a checked stand-in: no object of that name is
ever looked up. Work and memory are bounded by the size of the file and by fixed limits.
"""

import math
import pickletools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tiny_dialect.errors import InvalidModel

MAX_BYTES = 64 * 2**20
MAX_OPCODES = 500_000
_MAX_RANK = 8

_RECONSTRUCT = "numpy.core.multiarray _reconstruct"
_NDARRAY = "numpy ndarray"
_DTYPE = "numpy dtype"
_ENCODE = "_codecs encode"
ALLOWED_NAMES = (_RECONSTRUCT, _NDARRAY, _DTYPE, _ENCODE)
# NumPy 2 writes the same function under the new name of its module.
_ALIASES = {"numpy._core.multiarray _reconstruct": _RECONSTRUCT}

_ELEMENT_CODES = frozenset({"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
_BYTE_ORDERS = frozenset("<>|=")

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"}
)
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_FRAMING = frozenset({"PROTO", "FRAME"})


def _operations(data: bytes) -> Iterator[tuple[Any, Any, int | None]]:
    """The opcodes of `data`, without the warnings that damaged text opcodes raise."""
    operations = pickletools.genops(data)
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            operation = next(operations, None)
        if operation is None:
            return
        yield operation


@dataclass(eq=False)
class PickledArray:
    """A NumPy array of the file; `array` is None until its contents have been read."""

    array: np.ndarray | None = None


@dataclass(frozen=True)
class _Name:
    """One of `ALLOWED_NAMES`, as a label."""

    text: str


@dataclass(eq=False)
class _ElementType:
    """Stand-in for a `numpy.dtype` of one fixed-size number."""

    code: str
    byte_order: str = "|"

    def dtype(self) -> np.dtype:
        return np.dtype(self.byte_order + self.code)


def describe(value: Any) -> str:
    """A short text for any value of a file, safe for values of any size or depth."""
    if value is None or isinstance(value, bool | int | float | str):
        text = repr(value[:40] if isinstance(value, str) else value)
        return text if len(text) <= 48 else f"{text[:40]}..."
    if isinstance(value, PickledArray) and value.array is not None:
        return f"an array of {value.array.dtype} {list(value.array.shape)}"
    return {"PickledArray": "an array", "_Name": "a function", "_ElementType": "a dtype"}.get(
        type(value).__name__, f"a {type(value).__name__}"
    )


def load_pickle(data: bytes, source: str) -> Any:
    """The value in `data`: None, numbers, text, bytes, lists, tuples, dicts, `PickledArray`.

    The keys of a dict are text. Raises `InvalidModel` at `SOURCE: byte N` for anything else, a
    truncated file, or one over the limits.
    """
    if len(data) > MAX_BYTES:
        raise InvalidModel(f"pickle of {len(data)} bytes; at most {MAX_BYTES} are read", source)
    return _Machine(source).run(data)


class _Machine:
    """The stack machine of the pickle format, restricted to data."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.bytes_left = 2 * MAX_BYTES

    def fail(self, message: str) -> NoReturn:
        raise InvalidModel(message, f"{self.source}: byte {self.position}")

    def run(self, data: bytes) -> Any:
        opcodes = 0
        try:
            for opcode, argument, position in _operations(data):
                self.position = int(position or 0)
                opcodes += 1
                if opcodes > MAX_OPCODES:
                    self.fail(f"pickle of more than {MAX_OPCODES} opcodes")
                self.step(opcode.name, argument)
        except ValueError as error:
            self.fail(f"truncated or corrupt pickle: {' '.join(str(error).split())[:120]}")
        if self.position + 1 != len(data):
            self.fail(f"{len(data) - self.position - 1} bytes follow the end of the pickle")
        result = self.pop()
        if self.stack or self.marks:
            self.fail("corrupt pickle: values are left over at its end")
        return result

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _SHORT_TUPLES:
            items = [self.pop() for _ in range(_SHORT_TUPLES[name])]
            self.stack.append(tuple(reversed(items)))
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in _FRAMING and name != "STOP":
            self.fail(
                f"opcode {name} is refused: a model file holds only plain data and NumPy arrays"
            )

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            self.fail("corrupt pickle: stack underflow")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            self.fail("corrupt pickle: no mark on the stack")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def push_dict(self, _: Any) -> None:
        self.stack.append({})

    def push_list(self, _: Any) -> None:
        self.stack.append([])

    def push_empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def push_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def put(self, index: int) -> None:
        self.memo[int(index)] = self.top()

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.top()

    def get(self, index: int) -> None:
        if int(index) not in self.memo:
            self.fail(f"corrupt pickle: value {index} is used before it is defined")
        self.stack.append(self.memo[int(index)])

    def append(self, _: Any) -> None:
        self.extend([self.pop()])

    def appends(self, _: Any) -> None:
        self.extend(self.pop_to_mark())

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            self.fail(f"corrupt pickle: appends to {describe(target)}")
        target.extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self.update([key, value])

    def set_items(self, _: Any) -> None:
        self.update(self.pop_to_mark())

    def update(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is not dict or len(items) % 2:
            self.fail(f"corrupt pickle: sets items of {describe(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str:
                self.fail(f"expected a text as the key of a dict, got {describe(key)}")
            target[key] = value

    def push_global(self, name: str) -> None:
        name = _ALIASES.get(name, name)
        if name not in ALLOWED_NAMES:
            self.fail(
                f"names {describe(name.replace(' ', '.', 1))}; "
                "only NumPy arrays are read, nothing is called"
            )
        self.stack.append(_Name(name))

    def push_stack_global(self, _: Any) -> None:
        attribute, module = self.pop(), self.pop()
        if type(attribute) is not str or type(module) is not str:
            self.fail("corrupt pickle: a global without a name")
        self.push_global(f"{module} {attribute}")

    def reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        rule = _REDUCTIONS.get(function.text) if isinstance(function, _Name) else None
        if rule is None or type(arguments) is not tuple:
            self.fail(f"a call of {describe(function)} is refused; only NumPy arrays are read")
        self.stack.append(rule(self, arguments))

    def new_bytes(self, arguments: tuple[Any, ...]) -> bytes:
        """`_codecs.encode(text, "latin1")`: how protocol 2 spells a byte string."""
        if (
            len(arguments) != 2
            or type(arguments[0]) is not str
            or arguments[1] not in ("latin1", "latin-1")
        ):
            self.fail("expected text in latin1 as the bytes of an array")
        self.spend(len(arguments[0]))
        return arguments[0].encode("latin-1")

    def new_array(self, arguments: tuple[Any, ...]) -> PickledArray:
        """`_reconstruct(ndarray, (0,), b"b")`: an array whose contents follow."""
        kind = arguments[0] if len(arguments) == 3 else None
        if not (isinstance(kind, _Name) and kind.text == _NDARRAY):
            self.fail("corrupt pickle: malformed array")
        return PickledArray()

    def new_element_type(self, arguments: tuple[Any, ...]) -> _ElementType:
        """`dtype(code, align, copy)`."""
        code = arguments[0] if arguments else None
        if type(code) is not str or code not in _ELEMENT_CODES:
            self.fail(f"arrays of elements {describe(code)} are refused; expected plain numbers")
        return _ElementType(code)

    def spend(self, size: int) -> None:
        """Count `size` bytes of array contents: a small file may repeat one value many times."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            self.fail(f"the arrays take more than {2 * MAX_BYTES} bytes")

    def build(self, _: Any) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, _ElementType):
            self.set_byte_order(target, state)
        elif isinstance(target, PickledArray):
            target.array = self.contents(state)
        else:
            self.fail(f"setting the state of {describe(target)} is refused")

    def set_byte_order(self, target: _ElementType, state: Any) -> None:
        if (
            type(state) is not tuple
            or len(state) != 8
            or type(state[1]) is not str
            or state[1] not in _BYTE_ORDERS
        ):
            self.fail("corrupt pickle: malformed dtype")
        if any(part is not None for part in state[2:5]):
            self.fail("arrays with fields or sub-arrays are refused; expected plain numbers")
        target.byte_order = state[1]

    def contents(self, state: Any) -> np.ndarray:
        if type(state) is not tuple or len(state) != 5:
            self.fail("corrupt pickle: malformed array contents")
        _, shape, element, fortran, raw = state
        if (
            type(shape) is not tuple
            or len(shape) > _MAX_RANK
            or not all(_is_size(size) for size in shape)
        ):
            self.fail("corrupt pickle: malformed array shape")
        if not isinstance(element, _ElementType) or type(raw) is not bytes:
            self.fail("corrupt pickle: malformed array contents")
        dtype = element.dtype()
        if math.prod(shape) * dtype.itemsize != len(raw):
            self.fail(f"array of {dtype.name} {list(shape)} does not have {len(raw)} bytes")
        self.spend(len(raw))
        array = np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="))
        return array.reshape(shape, order="F" if fortran is True else "C")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "EMPTY_DICT": _Machine.push_dict,
    "EMPTY_LIST": _Machine.push_list,
    "EMPTY_TUPLE": _Machine.push_empty_tuple,
    "TUPLE": _Machine.push_tuple,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "GLOBAL": _Machine.push_global,
    "STACK_GLOBAL": _Machine.push_stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}

_REDUCTIONS: dict[str, Callable[[_Machine, tuple[Any, ...]], Any]] = {
    _ENCODE: _Machine.new_bytes,
    _RECONSTRUCT: _Machine.new_array,
    _DTYPE: _Machine.new_element_type,
}
