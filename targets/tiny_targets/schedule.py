"""The planned module as a static schedule: which kernel runs when, where, and what flash holds.

Before:  a `planned` module (docs/design/ir.md): program order is execution order, every value has
         an offset
After:   for `@train_step` and `@infer` a list of commands; one blob of constants without
         duplicates; a table that says how the trained state is initialised from it

Addresses are (space, offset): the arena of activations and gradients, the state of trained
parameters, and the constants in flash. Nothing is allocated when it runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from tiny_dialect.attributes import to_array, to_list
from tiny_dialect.bindings import ir
from tiny_dialect.dialect import place_of
from tiny_dialect.errors import InvalidModel
from tiny_dialect.types import NUMPY_TYPES, element_name, quantization, shape_of, storage_bytes
from tiny_passes.streamed import is_streamed, ring_rows, steps_of
from tiny_targets.input_stream import Stream
from tiny_targets.kernels import build_call
from tiny_targets.kernels.kernel import Kernel, Scratch, Step, Table
from tiny_targets.model_hash import model_hash
from tiny_targets.target import Target

ARENA, STATE, CONSTANTS = range(3)
SPACES = ("arena", "state", "constants")
MAX_BINDINGS = 32
COPY, MASTER, FLOAT = range(3)
_ALIGNMENT = 16
_FUNCTIONS = ("infer", "train_step")


@dataclass(frozen=True)
class Buffer:
    """A tensor at a fixed place."""

    name: str
    space: int
    offset: int
    shape: tuple[int, ...]
    element: str
    """Storage element type, `i1 i8 i16 i32 f32`; masks (`i1`) are packed, see docs/design/ir.md."""

    @property
    def bytes(self) -> int:
        """Its size."""
        if self.element == "i1":
            return prod(self.shape[:-1]) * ((self.shape[-1] + 7) // 8)
        return prod(self.shape) * NUMPY_TYPES[self.element].itemsize


@dataclass(frozen=True)
class Command:
    """One dispatch: a kernel's ordinal and the (space, offset) of its arguments."""

    op: str
    layer: str
    kernel: int
    bindings: tuple[tuple[int, int], ...]
    results: tuple[Buffer, ...] = ()
    constant_bytes: tuple[int, ...] = ()
    """For each binding that is a constant, in order, its size."""

    @property
    def name(self) -> str:
        """`blocks.3.depthwise conv2d`, as reports and errors show it."""
        return f"{self.layer} {self.op}".strip()


@dataclass(frozen=True)
class Function:
    """`infer` or `train_step`: where its arguments and results lie and what it runs."""

    name: str
    arguments: tuple[Buffer, ...]
    results: tuple[Buffer, ...]
    commands: tuple[Command, ...]
    peak: str = ""
    """The step that needs the most memory, in words."""
    stream: Stream | None = None
    """Where the input does not exist whole."""


@dataclass(frozen=True)
class Initializer:
    """How one piece of state gets its first value: `COPY`, or int8 expanded (`MASTER`, `FLOAT`)."""

    kind: int
    state_offset: int
    constant_offset: int
    count: int


@dataclass(frozen=True)
class Schedule:
    """All that the firmware needs besides machine code; no IR in it."""

    model: str
    functions: dict[str, Function]
    arena_bytes: int
    arena_lower_bound_bytes: int
    state_bytes: int
    state: tuple[Buffer, ...]
    """The trained parameters, named by their symbols."""
    initializers: tuple[Initializer, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    """In ordinal order."""
    constants: bytes = b""
    model_hash: int = 0
    """Which network the trained state belongs to."""
    input_scale: float = 1.0
    input_zero_point: int = 0
    """An input value is `real / scale + zero point`, rounded and clamped."""

    def manifest(self) -> dict[str, Any]:
        """What a reader of the image needs, as JSON values: places and commands, no constants."""
        return {
            "model": self.model,
            "functions": [asdict(function) for function in self.functions.values()],
            "arena_bytes": self.arena_bytes,
            "arena_lower_bound_bytes": self.arena_lower_bound_bytes,
            "state_bytes": self.state_bytes,
            "state": [asdict(buffer) for buffer in self.state],
        }


@dataclass
class _Constants:
    """The flash blob under construction; equal contents share one place."""

    data: bytearray = field(default_factory=bytearray)
    places: dict[bytes, int] = field(default_factory=dict)

    def place(self, content: bytes) -> int:
        """The offset of `content`, a multiple of 16."""
        if content not in self.places:
            self.data += bytes(-len(self.data) % _ALIGNMENT)
            self.places[content] = len(self.data)
            self.data += content
        return self.places[content]


@dataclass
class _Builder:
    target: Target | None
    constants: _Constants = field(default_factory=_Constants)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    ordinals: dict[str, int] = field(default_factory=dict)
    state: dict[str, Buffer] = field(default_factory=dict)
    initializers: list[Initializer] = field(default_factory=list)

    def function(self, function: Any) -> Function:
        """The commands of one planned function."""
        name = function.name.value
        block = function.body.blocks[0]
        offsets = _integers(function.operation, "tiny.argument_offsets", len(block.arguments))
        argument_names = ("x", "label", "rate")
        arguments = tuple(
            _argument(argument_names[i] if i < 3 else f"argument{i}", offset, argument)
            for i, (argument, offset) in enumerate(zip(block.arguments, offsets, strict=True))
        )
        *body, end = block.operations
        commands = []
        for op in body:
            if op.operation.name == "tiny.parameter":
                self._parameter(op.operation)
            else:
                commands.append(self._command(op.operation, offsets))
        names = ("loss", "logits") if name == "train_step" else ("logits",)
        results = tuple(
            _buffer(
                names[i] if i < len(names) else f"result{i}", *self._place(value, offsets), value
            )
            for i, value in enumerate(end.operation.operands)
        )
        attributes = function.attributes
        peak = attributes["tiny.arena_peak"].value if "tiny.arena_peak" in attributes else ""
        stream = _stream(block.arguments, [op.operation for op in body])
        return Function(name, arguments, results, tuple(commands), peak, stream)

    def _parameter(self, op: Any) -> None:
        """Enter a trained parameter into the state; frozen ones reach flash when they are used."""
        if "trained" not in op.attributes:
            return
        symbol = op.attributes["symbol"].value
        place = _buffer(symbol, STATE, _integer(op, "tiny.state_offset"), op.results[0])
        if self.state.setdefault(symbol, place) != place:
            raise InvalidModel(f"parameter {symbol} has two places in the state", _where(op))
        if not any(entry.state_offset == place.offset for entry in self.initializers):
            self.initializers.append(
                self._initializer(to_array(op.attributes["value"]), place.offset)
            )

    def _initializer(self, value: np.ndarray, offset: int) -> Initializer:
        """The shortest form in flash: int8 where the value is an expanded int8 weight."""
        kind, stored = COPY, value
        if value.dtype == np.int16 and ((value & 0xFF) == 128).all():
            kind, stored = MASTER, (value >> 8).astype(np.int8)
        elif value.dtype == np.float32 and _is_int8(value):
            kind, stored = FLOAT, value.astype(np.int8)
        content = np.ascontiguousarray(stored).tobytes()
        count = len(content) if kind == COPY else value.size
        return Initializer(kind, offset, self.constants.place(content), count)

    def _command(self, op: Any, argument_offsets: Sequence[int]) -> Command:
        assert self.target is not None
        call = build_call(op, self.target)
        if len(call.arguments) > MAX_BINDINGS + (call.kernel.steps > 1):
            raise InvalidModel(
                f"{op.name} needs {len(call.arguments)} buffers, at most {MAX_BINDINGS}", _where(op)
            )
        ordinal = self.ordinals.setdefault(call.kernel.name, len(self.ordinals))
        self.kernels[call.kernel.name] = call.kernel
        bindings = []
        memory = [argument for argument in call.arguments if not isinstance(argument, Step)]
        for argument in memory:
            if isinstance(argument, Table):
                content = np.ascontiguousarray(argument.array).tobytes()
                bindings.append((CONSTANTS, self.constants.place(content)))
            elif isinstance(argument, Scratch):
                bindings.append((ARENA, _integer(op, "tiny.scratch_offset") + argument.offset))
            else:
                bindings.append(self._place(argument, argument_offsets))
        sizes = tuple(
            argument.array.nbytes if isinstance(argument, Table) else storage_bytes(argument)
            for argument, (space, _) in zip(memory, bindings, strict=True)
            if space == CONSTANTS
        )
        outline = self._outline(op, argument_offsets)
        return replace(outline, kernel=ordinal, bindings=tuple(bindings), constant_bytes=sizes)

    def _outline(self, op: Any, argument_offsets: Sequence[int]) -> Command:
        """A command without its kernel and what that is given."""
        results = tuple(
            _buffer(f"result{i}", *self._place(result, argument_offsets), result)
            for i, result in enumerate(op.results)
        )
        return Command(op.name.removeprefix("tiny."), _layer(op), 0, (), results)

    def _place(self, value: Any, argument_offsets: Sequence[int]) -> tuple[int, int]:
        """(space, offset) of a value of the function."""
        if isinstance(value, ir.BlockArgument):
            return ARENA, argument_offsets[value.arg_number]
        owner = value.owner.operation
        if owner.name != "tiny.parameter":
            offsets = _integers(owner, "tiny.offsets", len(owner.results))
            return ARENA, offsets[value.result_number]
        if "trained" in owner.attributes:
            return STATE, _integer(owner, "tiny.state_offset")
        content = np.ascontiguousarray(to_array(owner.attributes["value"])).tobytes()
        return CONSTANTS, self.constants.place(content)


class _OutlineBuilder(_Builder):
    """Builds commands without kernels."""

    def _command(self, op: Any, argument_offsets: Sequence[int]) -> Command:
        return self._outline(op, argument_offsets)


def _is_int8(value: np.ndarray) -> bool:
    return bool(((value == np.rint(value)) & (value >= -128) & (value <= 127)).all()) and not bool(
        np.signbit(value[value == 0]).any()
    )


def _buffer(name: str, space: int, offset: int, value: Any) -> Buffer:
    buffer = Buffer(name, space, offset, shape_of(value), element_name(value))
    assert buffer.bytes == storage_bytes(value)
    return buffer


def _argument(name: str, offset: int, value: Any) -> Buffer:
    """A whole argument, or the ring of a streamed one."""
    if not is_streamed(value):
        return _buffer(name, ARENA, offset, value)
    count, _, *row = shape_of(value)
    return Buffer(name, ARENA, offset, (count, ring_rows(value), *row), element_name(value))


def _stream(arguments: Sequence[Any], body: Sequence[Any]) -> Stream | None:
    """How the first argument arrives, where it is streamed."""
    if not arguments or not is_streamed(arguments[0]):
        return None
    x = arguments[0]
    commands = [op for op in body if op.name != "tiny.parameter"]
    command = next(i for i, op in enumerate(commands) if x in list(op.operands))
    return Stream(command, shape_of(x)[1], tuple(steps_of(x)))


def _layer(op: Any) -> str:
    return op.attributes["layer"].value if "layer" in op.attributes else ""


def _where(op: Any) -> str:
    return _layer(op) or place_of(op.location)


def _holds(op: Any, name: str, kind: type) -> bool:
    return name in op.attributes and isinstance(op.attributes[name], kind)


def _integers(op: Any, name: str, count: int) -> list[int]:
    values = to_list(op.attributes[name]) if _holds(op, name, ir.DenseI64ArrayAttr) else []
    if len(values) != count:
        raise InvalidModel(
            f"{op.name} needs {count} {name}, has {len(values)}; run tiny-plan-memory", _where(op)
        )
    return values


def _integer(op: Any, name: str) -> int:
    if not _holds(op, name, ir.IntegerAttr):
        raise InvalidModel(f"{op.name} has no {name}; run tiny-plan-memory", _where(op))
    return int(op.attributes[name].value)


def _functions(module: Any) -> Iterator[Any]:
    for op in module.body.operations:
        if op.operation.name != "func.func" or op.name.value not in _FUNCTIONS:
            continue
        if not op.is_external:
            yield op


def build_schedule(module: Any, target: Target) -> Schedule:
    """The schedule of a `planned` module for `target`.

    Raises `InvalidModel` where the module holds no `@infer` or `@train_step`, an op has no place in
    memory, or an op has no kernel.
    """
    return _build(module, _Builder(target))


def outline(module: Any) -> Schedule:
    """What of the schedule of a `planned` module follows from the module alone, at once.

    Commands have neither kernels nor bindings. Raises `InvalidModel` as `build_schedule` does.
    """
    return _build(module, _OutlineBuilder(None))


def _build(module: Any, builder: _Builder) -> Schedule:
    functions = {op.name.value: op for op in _functions(module)}
    if not functions:
        raise InvalidModel("the module has neither @infer nor @train_step")
    built = {name: builder.function(op) for name, op in functions.items()}
    operations = [op.operation for op in functions.values()]
    model = next(
        (op.attributes["tiny.model"].value for op in operations if "tiny.model" in op.attributes),
        "",
    )
    main = functions.get("infer") or functions["train_step"]
    scale, zero_point = quantization(main.body.blocks[0].arguments[0])
    return Schedule(
        model=model or "model",
        functions=built,
        arena_bytes=max(_integer(op, "tiny.arena_bytes") for op in operations),
        arena_lower_bound_bytes=max(
            _integer(op, "tiny.arena_lower_bound_bytes") for op in operations
        ),
        state_bytes=max(_integer(op, "tiny.state_bytes") for op in operations),
        state=tuple(builder.state.values()),
        initializers=tuple(builder.initializers),
        kernels=tuple(builder.kernels.values()),
        constants=bytes(builder.constants.data),
        model_hash=model_hash(main),
        input_scale=scale,
        input_zero_point=zero_point,
    )
