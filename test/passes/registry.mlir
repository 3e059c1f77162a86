// RUN: %tiny-opt --load %S/Inputs/count_ops.py --help | FileCheck %s --check-prefix HELP
// RUN: %tiny-opt %s --load %S/Inputs/count_ops.py -p 'tiny-count-ops{factor=10}' | FileCheck %s --check-prefix ONE
// RUN: %tiny-opt %s --load %S/Inputs/count_ops.py -p 'tiny-twice' | FileCheck %s --check-prefix TWICE
// RUN: %tiny-opt %s --load %S/Inputs/count_ops.py -p 'builtin.module(func.func(tiny-count-ops,cse),canonicalize)' --mlir-print-ir-after-all 2>&1 | FileCheck %s --check-prefix EACH
// RUN: not %tiny-opt %s --load %S/Inputs/count_ops.py -p 'tiny-count-ops{refuse=arith.addi}' 2>&1 | FileCheck %s --check-prefix REFUSED
// RUN: not %tiny-opt %s --load %S/Inputs/count_ops.py -p 'tiny-break' 2>&1 | FileCheck %s --check-prefix INVALID
// RUN: not %tiny-opt %s --load %S/Inputs/count_ops.py -p 'cse,tiny-count-ops{factor=x}' 2>&1 | FileCheck %s --check-prefix OPTION
// RUN: not %tiny-opt %s -p 'tiny-no-such-pass' -o %t 2>&1 | FileCheck %s --check-prefix UNKNOWN
// RUN: not ls %t
// RUN: not %tiny-opt %s --load %S/no_such_file.py 2>&1 | FileCheck %s --check-prefix NOFILE

// A user's file of passes: listed with options and summary, run on every function that has a body,
// alone, in a named pipeline, and nested beside MLIR's own passes.

// HELP:      tiny-differentiate (builtin.module)
// HELP:      tiny-count-ops (func.func)
// HELP-NEXT:   Write the number of ops times `factor` on each function.
// HELP-NEXT:   {factor: int = 1}
// HELP-NEXT:   {refuse: tuple[str, ...] = ()}
// HELP-NEXT:   {unit: Literal['op'] = 'op'}
// HELP:      tiny-twice (pipeline)
// HELP-NEXT:   counts double

module {
  // ONE:   func.func private @declared(i32)
  // TWICE: func.func private @declared(i32)
  func.func private @declared(i32)
  // ONE:   func.func @redundant{{.*}} attributes {count = 40 : i64}
  // TWICE: func.func @redundant{{.*}} attributes {count = 6 : i64}
  func.func @redundant(%a: i32) -> i32 {
    %0 = arith.addi %a, %a {layer = "sum"} : i32
    %1 = arith.addi %a, %a {layer = "sum"} : i32
    // REFUSED: registry.mlir:{{[0-9]+}}:{{[0-9]+}} (sum): tiny-count-ops: refuses arith.addi
    %2 = arith.muli %0, %1 : i32
    return %2 : i32
  }
  // ONE:   func.func @broken{{.*}} attributes {count = 10 : i64}
  // TWICE: func.func @broken{{.*}} attributes {count = 2 : i64}
  // INVALID: registry.mlir:{{[0-9]+}}:{{[0-9]+}}: tiny-break: left invalid IR:
  func.func @broken() {
    return
  }
}

// EACH:      IR Dump After tiny-count-ops
// EACH:      count = 4
// EACH:      arith.addi
// EACH-NEXT: arith.addi
// EACH:      IR Dump After func.func(cse)
// EACH:      arith.addi
// EACH-NEXT: arith.muli
// EACH:      IR Dump After canonicalize

// OPTION:  tiny-opt: pass tiny-count-ops: option 'factor' is of type int, got 'x'
// UNKNOWN: tiny-opt: unknown pass tiny-no-such-pass; tiny-opt --help lists the passes
// NOFILE:  no_such_file.py: not a readable Python file
