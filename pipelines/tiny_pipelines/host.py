"""The compiled step on the host: `infer`, `train_step` and the trained state, through IREE.

The state lives inside the loaded module and is written in place by `train_step`; two `HostModel`s
of the same bytes share nothing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_dialect.errors import InvalidOption

Array = NDArray[Any]


class HostModel:
    """A compiled module, loaded.

    `vmfb` comes from `tiny_pipelines.iree.compile_host`. With `threads=1` kernels run on the
    calling thread; more threads run parts of a kernel side by side, with the same results.
    `initial` is what training starts from, by default what the module was compiled with.
    """

    def __init__(
        self, vmfb: bytes, *, threads: int = 1, initial: Mapping[str, Array] | None = None
    ) -> None:
        from iree import runtime

        if threads < 1:
            raise InvalidOption(f"expected at least one thread, got {threads}")
        self._runtime = runtime
        self._device = _device(runtime, threads)
        instance = runtime.VmInstance()
        module = runtime.VmModule.copy_buffer(instance, vmfb)
        hal = runtime.create_hal_module(instance, self._device)
        self._context = runtime.VmContext(instance, [hal, module])
        self._functions = {
            name: runtime.FunctionInvoker(self._context, self._device, function)
            for name in module.function_names
            if not name.startswith("__") and (function := module.lookup_function(name)) is not None
        }
        self._initial = initial
        if initial is not None:
            self.load_state(initial)

    def call(self, name: str, *arguments: Any) -> list[Array]:
        """The results of any exported function, as arrays of this process."""
        if name not in self._functions:
            raise InvalidOption(f"the compiled module has no function @{name}")
        result = self._functions[name](*arguments)
        if result is None:
            return []
        results = result if isinstance(result, tuple | list) else (result,)
        return [np.array(one.to_host()) for one in results]

    def infer(self, x: Array | tuple[Array, ...]) -> Array:
        """Logits [1, K] (or pooled features, as the model has it) of an int8 NHWC input.

        Where the module has a prefix, `x` is what `prefix` returned.
        """
        return self.call("infer", *_several(x))[0]

    def train_step(
        self, x: Array | tuple[Array, ...], label: int, rate: float
    ) -> tuple[float, Array]:
        """One step in place: (loss, logits [1, K]) before the update.

        In a module that sums gradients, `rate` is the weight of the sample.
        """
        loss, logits = self.call("train_step", *_several(x), np.int32(label), np.float32(rate))
        return float(loss), logits

    def prefix(self, x: Array) -> tuple[Array, ...]:
        """What the layers before the first trained one make of an int8 NHWC input."""
        return tuple(self.call("prefix", x))

    @property
    def has_prefix(self) -> bool:
        """True where what no training changes is a function of its own."""
        return "prefix" in self._functions

    @property
    def accumulates(self) -> bool:
        """True where `train_step` sums gradients and `apply_updates` applies them."""
        return "apply_updates" in self._functions

    def apply_updates(self, rate: float) -> None:
        """Apply the gradients summed since the last time, and clear them."""
        self.call("apply_updates", np.float32(rate))

    @property
    def symbols(self) -> list[str]:
        """The names of the trained parameters."""
        return [name[4:] for name in self._functions if name.startswith("get.")]

    def state(self) -> dict[str, Array]:
        """A copy of every trained parameter, by symbol."""
        return {symbol: self.call(f"get.{symbol}")[0] for symbol in self.symbols}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Replace every trained parameter.

        Raises `InvalidOption`, and changes nothing, unless all names, shapes and types fit.
        """
        current = self.state()
        if set(state) != set(current):
            odd = sorted(set(state) ^ set(current))
            raise InvalidOption(f"the state does not fit this model: {', '.join(odd[:4])}")
        for symbol, old in current.items():
            new = np.asarray(state[symbol])
            if new.shape != old.shape or new.dtype != old.dtype:
                raise InvalidOption(
                    f"expected {old.dtype} {list(old.shape)}, got {new.dtype} {list(new.shape)}",
                    symbol,
                )
        for symbol in current:
            self.call(f"set.{symbol}", np.ascontiguousarray(state[symbol]))

    def reset(self) -> None:
        """Put every trained parameter back to its initial value."""
        if self._initial is None:
            self.call("reset")
        else:
            self.load_state(self._initial)


def _several(x: Array | tuple[Array, ...]) -> tuple[Array, ...]:
    return x if isinstance(x, tuple) else (x,)


def _device(runtime: Any, threads: int) -> Any:
    """A CPU device that runs kernels on `threads` threads."""
    if threads == 1:
        return runtime.get_device("local-sync", cache=False)
    runtime.flags.parse_flags(f"--task_topology_max_group_count={threads}")
    return runtime.get_device("local-task", cache=False)
