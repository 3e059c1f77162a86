// RUN: %tiny-opt %s -p tiny-lower-to-linalg --split-input-file --verify-diagnostics

func.func @infer(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @+1 {{no linalg form for 'arith.addf'}}
  %y = arith.addf %x, %x : tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

module {
  func.func @infer() -> tensor<2xi32> {
    %b = "tiny.parameter"() {symbol = "b", trained, value = dense<5> : tensor<2xi32>} : () -> tensor<2xi32>
    return %b : tensor<2xi32>
  }
  func.func @train_step() -> tensor<2xi32> {
    // expected-error @+1 {{parameter b starts with another value elsewhere}}
    %b = "tiny.parameter"() {symbol = "b", trained, value = dense<6> : tensor<2xi32>} : () -> tensor<2xi32>
    return %b : tensor<2xi32>
  }
}
