// RUN: %tiny-opt %s --split-input-file -p cse | FileCheck %s --check-prefix SPLIT
// RUN: %tiny-opt %s --split-input-file | %tiny-opt - --split-input-file -p cse | FileCheck %s --check-prefix SPLIT
// RUN: not %tiny-opt %s --split-input-file -p cse --verify-diagnostics 2>&1 | FileCheck %s --check-prefix DIFFERENCES
// RUN: not %tiny-opt %s -o %t.whole 2>&1 | FileCheck %s --check-prefix WHOLE
// RUN: not ls %t.whole
// RUN: not %tiny-opt %s --split-input-file --emit-bytecode 2>&1 | FileCheck %s --check-prefix PIECES
// RUN: not %tiny-opt %t.missing 2>&1 | FileCheck %s --check-prefix MISSING
// RUN: not %tiny-opt %s -o %t.folder/out.mlir --split-input-file 2>&1 | FileCheck %s --check-prefix FOLDER
// RUN: %python -c "print('func.func @f(')" > %t.broken
// RUN: not %tiny-opt %t.broken 2>&1 | FileCheck %s --check-prefix BROKEN
// RUN: not %tiny-opt %s --colour 2>&1 | FileCheck %s --check-prefix USAGE

// Pieces are processed one by one and printed with the same separator.

// SPLIT:      func.func @two
// SPLIT-NEXT:   arith.addi
// SPLIT-NEXT:   arith.muli
// SPLIT:      // -----
// SPLIT:      func.func @three

func.func @two(%a: i32) -> i32 {
  %0 = arith.addi %a, %a : i32
  %1 = arith.addi %a, %a : i32
  %2 = arith.muli %0, %1 : i32
  return %2 : i32
}

// -----

// Lines are those of the whole file; an expectation that nothing meets is a difference.

// DIFFERENCES: tiny_opt.mlir:35: expected error was not produced: never said
func.func @three() {
  // expected-error@+1 {{never said}}
  return
}

// One line, exit status 1, nothing written.

// WHOLE:   tiny-opt: {{.*}}tiny_opt.mlir:{{.*}}: source must contain a single top-level operation
// PIECES:  tiny-opt: --emit-bytecode writes one module; the input has several pieces
// MISSING: tiny-opt: {{.*}}.missing: No such file or directory
// FOLDER:  tiny-opt: {{.*}}out.mlir: the folder {{.*}} does not exist
// BROKEN:  tiny-opt: {{.*}}.broken:1:14: expected non-function type
// USAGE:   tiny-opt: unrecognized arguments: --colour; see tiny-opt --help
