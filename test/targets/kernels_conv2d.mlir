!x = tensor<1x4x5x6x!quant.uniform<i8:f32, 2.000000e-02:-3>>
!y = tensor<1x4x5x4x!quant.uniform<i8:f32, 5.000000e-02:7>>
func.func @f(%x: !x) -> !y {
  %w = "tiny.parameter"() {symbol = "w", value = dense<1> : tensor<4x1x1x6xi8>} : () -> tensor<4x1x1x6xi8>
  %b = "tiny.parameter"() {symbol = "b", value = dense<1> : tensor<4xi32>} : () -> tensor<4xi32>
  %y = "tiny.conv2d"(%x, %w, %b) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "pointwise", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.001> : tensor<4xf64>} : (!x, tensor<4x1x1x6xi8>, tensor<4xi32>) -> !y
  return %y : !y
}
