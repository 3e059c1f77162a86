"""Kernels to machine code: results on every target, both forms of the library, errors."""

import io

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from tiny_dialect.errors import InvalidOption, TinyError
from tiny_targets.codegen import CodegenError, compile_kernels
from tiny_targets.embedded import resolve
from tiny_targets.kernel_bench import run_kernels
from tiny_targets.kernels.kernel import Kernel
from tiny_targets.machine import EmulationError
from tiny_targets.target import TARGETS, find_target
from tiny_targets.toolchain import ToolchainError, compile_object, require_float_abi

WIDEN = Kernel(
    "widen",
    """func.func @widen(%x: memref<7xi8>, %factor: memref<f32>, %y: memref<7xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c7 = arith.constant 7 : index
  %f = memref.load %factor[] : memref<f32>
  scf.for %i = %c0 to %c7 step %c1 {
    %a = memref.load %x[%i] : memref<7xi8>
    %b = arith.sitofp %a : i8 to f32
    %c = arith.mulf %b, %f : f32
    memref.store %c, %y[%i] : memref<7xf32>
  }
  return
}""",
    ("read", "read", "write"),
)
ADD = Kernel(
    "add",
    """func.func @add(%x: memref<3x5xi32>, %y: memref<3x5xi32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %c5 = arith.constant 5 : index
  scf.for %i = %c0 to %c3 step %c1 {
    scf.for %j = %c0 to %c5 step %c1 {
      %a = memref.load %x[%i, %j] : memref<3x5xi32>
      %b = memref.load %y[%i, %j] : memref<3x5xi32>
      %c = arith.addi %a, %b : i32
      memref.store %c, %y[%i, %j] : memref<3x5xi32>
    }
  }
  return
}""",
    ("read", "read_write"),
)
X = np.arange(-3, 4, dtype=np.int8)
M = np.arange(15, dtype=np.int32).reshape(3, 5)

every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)


def calls():
    """Both kernels on fresh arrays."""
    return [
        (WIDEN, [X, np.array(0.5, np.float32), np.zeros(7, np.float32)]),
        (ADD, [M, M * 100]),
        (WIDEN, [X + 1, np.array(2.0, np.float32), np.zeros(7, np.float32)]),
    ]


@every_target
def test_kernels_compute(target):
    first, second, third = run_kernels(calls(), target)
    np.testing.assert_array_equal(first.arrays[2], X * 0.5)
    np.testing.assert_array_equal(second.arrays[1], M * 101)
    np.testing.assert_array_equal(third.arrays[2], (X + 1) * 2.0)
    assert 15 < second.instructions < 400
    assert 0 < second.stack_bytes < 200


@every_target
def test_embedded_library_computes_the_same(target):
    if not target.hard_float:
        with pytest.raises(CodegenError, match=r"widen: needs __\w+sf"):
            run_kernels(calls(), target, embedded=True)
        return
    static, embedded = run_kernels(calls(), target), run_kernels(calls(), target, embedded=True)
    for one, other in zip(static, embedded, strict=True):
        for got, want in zip(other.arrays, one.arrays, strict=True):
            np.testing.assert_array_equal(got, want)


def test_equal_kernels_are_compiled_once():
    compiled = compile_kernels([WIDEN, ADD, WIDEN], find_target("cortex-m4"))
    assert compiled.ordinals == {"widen": 0, "add": 1}


def test_object_has_a_section_a_kernel_and_one_global():
    file = ELFFile(io.BytesIO(compile_kernels([WIDEN, ADD], find_target("cortex-m7")).object_file))
    assert file.get_section_by_name(".text.widen") and file.get_section_by_name(".text.add")
    table = file.get_section_by_name(".symtab")
    exported = [
        symbol for symbol in table.iter_symbols() if symbol["st_info"]["bind"] == "STB_GLOBAL"
    ]
    defined = [symbol.name for symbol in exported if symbol["st_shndx"] != "SHN_UNDEF"]
    assert defined == ["kernels_library_query"]


@pytest.mark.parametrize("name", ["cortex-m7", "rv32imafc"])
def test_object_is_the_same_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_CACHE", "off")
    built = []
    for folder in ("a", "somewhere/else"):
        (tmp_path / folder).mkdir(parents=True)
        monkeypatch.chdir(tmp_path / folder)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / folder))
        compiled = compile_kernels([WIDEN, ADD], find_target(name), embedded=True)
        built.append((compiled.object_file, compiled.embedded_elf))
    assert built[0] == built[1]


def test_resolved_library_is_small_and_moves_with_its_address():
    elf = compile_kernels([ADD], find_target("rv32imafc"), embedded=True).embedded_elf
    assert elf is not None
    low, high = resolve(elf, 0x20000000), resolve(elf, 0x20010000)
    assert len(low.data) < 2048
    assert high.query - low.query == 0x10000
    assert low.data != high.data
    with pytest.raises(InvalidOption, match="multiple of 16"):
        resolve(elf, 0x20000004)


def kernel_of(text, accesses=("read", "write")):
    return Kernel("broken", text, accesses)


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (
            kernel_of("func.func @broken(%x: memref<4xi8>) {\n  %a = arith.foo\n  return\n}"),
            r"broken:2:\d+: .*arith.foo",
        ),
        (
            kernel_of("func.func @other(%x: memref<4xi8>, %y: memref<4xi8>) { return }"),
            "broken: expects exactly one function",
        ),
        (
            kernel_of("func.func @broken(%x: memref<4xi8>) { return }"),
            "broken: expects one block and 2 arguments",
        ),
        (
            kernel_of(
                """func.func @broken(%x: memref<4xi8>, %y: memref<4xi8>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %big = memref.alloca() : memref<8192xi8>
  scf.for %i = %c0 to %c4 step %c1 {
    %a = memref.load %x[%i] : memref<4xi8>
    memref.store %a, %big[%i] : memref<8192xi8>
    %b = memref.load %big[%i] : memref<8192xi8>
    memref.store %b, %y[%i] : memref<4xi8>
  }
  return
}"""
            ),
            "broken: .*stack allocation limit of 2048 bytes",
        ),
    ],
)
def test_broken_kernel_is_named(kernel, reason):
    with pytest.raises(CodegenError, match=reason):
        compile_kernels([ADD, kernel], find_target("rv32imafc"))


@every_target
def test_stray_accesses_are_caught(target):
    beyond = ADD.text.replace("constant 3 :", "constant 4 :")
    with pytest.raises(EmulationError, match=r"add: (read|write) (of|to) unmapped address 0x"):
        run_kernels([(Kernel("add", beyond, ADD.accesses), [M, M])], target)
    with pytest.raises(EmulationError, match="add: write to read-only address"):
        run_kernels([(Kernel("add", ADD.text, ("read", "read")), [M, M])], target)


def test_objects_of_another_float_abi_are_refused():
    soft = compile_object(find_target("rv32imc"), "int f(void) { return 1; }")
    with pytest.raises(ToolchainError, match=r"f.o uses the soft-float ABI, rv32imafc the hard"):
        require_float_abi(find_target("rv32imafc"), "f.o", soft)


def test_compile_error_is_one_line():
    with pytest.raises(TinyError, match=r"^cc failed: .*error: .*undeclared") as caught:
        compile_object(find_target("cortex-m4"), "int f(void) { return nothing; }")
    assert "\n" not in str(caught.value)


def test_misaligned_accesses_are_caught_where_cores_trap():
    text = """func.func @odd(%x: memref<8xi8>) {
  %address = memref.extract_aligned_pointer_as_index %x : memref<8xi8> -> index
  %integer = arith.index_cast %address : index to i32
  %base = llvm.inttoptr %integer : i32 to !llvm.ptr
  %odd = llvm.getelementptr %base[1] : (!llvm.ptr) -> !llvm.ptr, i8
  %value = llvm.load %odd : !llvm.ptr -> i32
  llvm.store %value, %base : i32, !llvm.ptr
  return
}"""
    arrays = [np.arange(8, dtype=np.int8)]
    odd = Kernel("odd", text, ("read_write",))
    run_kernels([(odd, arrays)], find_target("cortex-m4"))
    with pytest.raises(EmulationError, match="odd: 1 misaligned accesses, the first at 0x"):
        run_kernels([(odd, arrays)], find_target("rv32imafc"))
