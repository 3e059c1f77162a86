// What cannot be compiled for a target is refused in one line, and no folder is left behind.

// RUN: not %tiny-compile %s -o %t.a --scheme full --board stm32f747 2>&1 | FileCheck %s --check-prefix=BOARD
// RUN: not %tiny-compile %s -o %t.b --scheme full --target cortex-m9 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not %tiny-compile %s -o %t.c --scheme full --target rv32imc --board nrf52840 2>&1 | FileCheck %s --check-prefix=CORE
// RUN: not %tiny-compile %s -o %t.d --scheme full --board %S/Inputs/small_board.json 2>&1 | FileCheck %s --check-prefix=SRAM
// RUN: not test -e %t.d

// BOARD: unknown board 'stm32f747'; did you mean stm32f746? (known: {{.*}}esp32-c3{{.*}})
// TARGET: unknown target 'cortex-m9'; did you mean cortex-m7? (known: cortex-m4, cortex-m7, rv32imafc, rv32imc)
// CORE: board nrf52840 has a cortex-m4, not a rv32imc
// SRAM: needs {{[0-9.]+}} KiB of SRAM, {{[0-9]+}} bytes more than the 4.0 KiB of small: arena {{[0-9.]+}} KiB, which peaks at {{.*}}classifier{{.*}}, trainable

func.func @infer(%x: tensor<1x1x1x512x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x4xf32> attributes {tiny.model = "wide", tiny.stage = "model"} {
  %y = "tiny.dequantize"(%x) {layer = "classifier"} : (tensor<1x1x1x512x!quant.uniform<i8:f32, 0.5>>) -> tensor<1x1x1x512xf32>
  %w = "tiny.parameter"() {layer = "classifier", symbol = "classifier.weight", value = dense<0.5> : tensor<4x512xf32>} : () -> tensor<4x512xf32>
  %b = "tiny.parameter"() {layer = "classifier", symbol = "classifier.bias", value = dense<0.0> : tensor<4xf32>} : () -> tensor<4xf32>
  %logits = "tiny.linear"(%y, %w, %b) {layer = "classifier"} : (tensor<1x1x1x512xf32>, tensor<4x512xf32>, tensor<4xf32>) -> tensor<1x4xf32>
  return %logits : tensor<1x4xf32>
}
