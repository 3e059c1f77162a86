"""An emulated device that keeps what it has learned in flash, and can lose power at any step.

Runs an image of `store_firmware`. A restart is one: SRAM comes up with other garbage each time, the
start-up code runs, the store is opened, the state restored.
"""

import numpy as np

from tiny_targets.emulate import EmulationError, Emulator
from tiny_targets.firmware import Image
from tiny_targets.flash_model import FlashMisuse, FlashModel, PowerCut
from tiny_targets.machine import Machine
from tiny_targets.state_layout import encode_state
from tiny_targets.store_firmware import CONTROLLER, ERASE, PROGRAM, programming_of, region_base

_COMMAND, _OFFSET, _DATA, _BYTES, _STATUS = range(0, 20, 4)


class StoreEmulator(Emulator):
    """A device with modelled flash at the end of its own."""

    def __init__(self, image: Image, page_count: int) -> None:
        """Load `image` and run its start-up code; the store is not opened yet."""
        self.flash = FlashModel(programming_of(image.board), page_count)
        self._region = region_base(image.board, page_count)
        self._registers = {place: 0 for place in (_COMMAND, _OFFSET, _DATA, _BYTES, _STATUS)}
        self._misuse: FlashMisuse | None = None
        self._garbage = np.random.default_rng(0)
        super().__init__(image)

    def restart(self) -> int:
        """Switch the power off and on; the status of opening the store and restoring the state."""
        self.flash.restore_power()
        for region in self.image.board.sram_regions:
            self.machine.write(region.base, self._garbage.bytes(region.size))
        self._show_flash()
        self._reset()
        return self._status_of("device_store_open")

    def commit(self) -> int:
        """The status of committing the state; raises `PowerCut` where power was lost in it."""
        try:
            status = self._status_of("device_store_commit")
        except EmulationError:
            if self._misuse is not None:
                raise self._misuse from None
            if self.flash.is_off:
                raise PowerCut from None
            raise
        return status

    def memory(self) -> list[bytes]:
        """All of SRAM, for `resume`."""
        regions = self.image.board.sram_regions
        return [self.machine.read(region.base, region.size) for region in regions]

    def resume(self, memory: list[bytes]) -> None:
        """Be in the state in which `memory` was taken, between two calls; flash as it is now."""
        for region, content in zip(self.image.board.sram_regions, memory, strict=True):
            self.machine.write(region.base, content)
        self._show_flash()

    def blob(self) -> bytes:
        """What the device has learned, as a saved state."""
        schedule = self.image.schedule
        return encode_state(
            schedule, {buffer.name: self.read_buffer(buffer) for buffer in schedule.state}
        )

    def _load(self) -> Machine:
        machine = super()._load()
        machine.map_registers(CONTROLLER, self._read_register, self._write_register)
        self.machine = machine
        self._show_flash()
        return machine

    def _status_of(self, symbol: str) -> int:
        stop = self.address_of("device_idle") & ~1
        return self.machine.call(self.address_of(symbol) & ~1, (), None, stop)

    def _show_flash(self) -> None:
        self.machine.write(self._region, self.flash.cells.tobytes())

    def _read_register(self, offset: int) -> int:
        return self._registers.get(offset, 0)

    def _write_register(self, offset: int, value: int) -> None:
        self._registers[offset] = value
        if offset != _COMMAND:
            return
        start, size = self._registers[_OFFSET], self._registers[_BYTES]
        try:
            if value == ERASE:
                size = self.flash.programming.page_bytes
                self.flash.erase(start)
            elif value == PROGRAM:
                self.flash.program(start, self.machine.read(self._registers[_DATA], size))
            self._registers[_STATUS] = 0
        except PowerCut:
            self.machine.stop()
            return
        except FlashMisuse as error:
            self._misuse = error
            self.machine.stop()
            return
        self.machine.write(self._region + start, self.flash.cells[start : start + size].tobytes())
