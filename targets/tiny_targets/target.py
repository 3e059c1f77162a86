"""The instruction sets the compiler emits: a record a core, with its name in every tool."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from tiny_dialect.errors import InvalidOption


@dataclass(frozen=True)
class Target:
    """A core: how IREE, C compiler, linker and emulator spell it, and what it can do."""

    name: str
    isa: str
    """`arm` (Thumb-2, ARMv7E-M) or `riscv` (RV32)."""
    description: str
    features: frozenset[str]
    """`dsp`: SMLAD and its family; `fpu`: single precision; `mulh`: a 32x32 high multiply;
    `dual_issue`: loads beside arithmetic, so the compiler does not move them ahead of it."""
    iree_flags: tuple[str, ...]
    zig_target: str
    zig_cpu: str
    emulated_cpu: str
    """The constant of the emulator's CPU model."""
    linker_emulation: str
    gnu_prefix: str
    """What the names of a GNU toolchain begin with."""
    gnu_flags: tuple[str, ...]
    """The core and its float ABI, as GCC spells them."""

    def has(self, feature: str) -> bool:
        """True where the core has `feature`."""
        return feature in self.features

    @property
    def hard_float(self) -> bool:
        """True where floating-point arguments travel in FPU registers."""
        return "fpu" in self.features


_GNU_FPU = {"vfp4d16sp": "fpv4-sp-d16", "fp_armv8d16sp": "fpv5-sp-d16"}


def _arm(name: str, cpu: str, fpu: str, description: str, *features: str) -> Target:
    return Target(
        name=name,
        isa="arm",
        description=description,
        features=frozenset({"dsp", "fpu", "mulh", *features}),
        iree_flags=(
            "--iree-llvmcpu-target-triple=thumbv7em-none-eabihf",
            f"--iree-llvmcpu-target-cpu={cpu}",
            "--iree-llvmcpu-target-float-abi=hard",
        ),
        zig_target="thumb-freestanding-eabihf",
        # Without the FPU spelled out, support code is soft float under a hard-float label.
        zig_cpu=f"{cpu.replace('-', '_')}+{fpu}",
        emulated_cpu=f"UC_CPU_ARM_{cpu.replace('-', '_').upper()}",
        linker_emulation="armelf",
        gnu_prefix="arm-none-eabi-",
        gnu_flags=(f"-mcpu={cpu}", "-mthumb", f"-mfpu={_GNU_FPU[fpu]}", "-mfloat-abi=hard"),
    )


def _riscv(name: str, letters: str, emulated_cpu: str, description: str) -> Target:
    is_float = "f" in letters
    absent = "".join(f"-{letter}" for letter in "acfm" if letter not in letters)
    return Target(
        name=name,
        isa="riscv",
        description=description,
        features=frozenset({"mulh", "fpu"} if is_float else {"mulh"}),
        iree_flags=(
            "--iree-llvmcpu-target-triple=riscv32-unknown-elf",
            "--iree-llvmcpu-target-cpu=generic-rv32",
            "--iree-llvmcpu-target-cpu-features=" + ",".join(f"+{letter}" for letter in letters),
            "--iree-llvmcpu-target-abi=" + ("ilp32f" if is_float else "ilp32"),
        ),
        zig_target="riscv32-freestanding-none",
        zig_cpu="generic_rv32" + "".join(f"+{letter}" for letter in letters) + absent,
        emulated_cpu=emulated_cpu,
        linker_emulation="elf32lriscv",
        gnu_prefix="riscv64-unknown-elf-",
        gnu_flags=(f"-march=rv32i{letters}_zicsr", "-mabi=" + ("ilp32f" if is_float else "ilp32")),
    )


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        _arm("cortex-m4", "cortex-m4", "vfp4d16sp", "Armv7E-M with DSP and FPv4 single precision"),
        _arm(
            "cortex-m7",
            "cortex-m7",
            "fp_armv8d16sp",
            "Armv7E-M with DSP and FPv5 single precision",
            "dual_issue",
        ),
        _riscv("rv32imc", "mc", "UC_CPU_RISCV32_SIFIVE_E31", "RV32, compressed, soft float"),
        _riscv(
            "rv32imafc", "mafc", "UC_CPU_RISCV32_SIFIVE_U34", "RV32, compressed, single precision"
        ),
    )
}


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InvalidOption:
    """The error for a `name` that is not among `known`: the closest one, and all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return InvalidOption(f"unknown {kind} '{name}'{hint} (known: {', '.join(names)})")


def find_target(name: str) -> Target:
    """The target called `name`; raises `InvalidOption` with the known names and the closest one."""
    if name not in TARGETS:
        raise unknown_name("target", name, TARGETS)
    return TARGETS[name]
