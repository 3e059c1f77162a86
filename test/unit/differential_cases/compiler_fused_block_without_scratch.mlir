// tiny-difftest: {"scheme": {"name": "random", "biases": 0, "weights": {}}, "options": {"update": "int16", "gradients": "float32", "qas": true, "in_place": true, "alignment": 4, "fuse_blocks": "all", "fuse_updates": true}, "rate": 20.6, "steps": 1, "seed": 22}
module {
  func.func @infer(%arg0: tensor<1x1x1x3x!quant.uniform<i8:f32, 2.000000e-02>>) -> tensor<1x1x1x3x!quant.uniform<i8:f32, 0.050240885466337204>> attributes {tiny.model = "random22", tiny.stage = "model"} {
    %0 = "tiny.parameter"() {layer = "expand0", symbol = "expand0.weight", value = dense<[[[[-24, 30, -38]]], [[[-13, -22, -56]]], [[[7, -65, 38]]]]> : tensor<3x1x1x3xi8>} : () -> tensor<3x1x1x3xi8>
    %1 = "tiny.parameter"() {layer = "expand0", symbol = "expand0.bias", value = dense<[-1021, 552, 139]> : tensor<3xi32>} : () -> tensor<3xi32>
    %2 = "tiny.conv2d"(%arg0, %0, %1) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "expand0", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<[0.014677274707224928, 0.011665100331161063, 0.0057404150676149436]> : tensor<3xf64>} : (tensor<1x1x1x3x!quant.uniform<i8:f32, 2.000000e-02>>, tensor<3x1x1x3xi8>, tensor<3xi32>) -> tensor<1x1x1x3x!quant.uniform<i8:f32, 0.020260829478502274>>
    %3 = "tiny.add"(%2, %arg0) {clamp = array<i64: -128, 127>, layer = "add3", resultSegmentSizes = array<i32: 1, 0>} : (tensor<1x1x1x3x!quant.uniform<i8:f32, 0.020260829478502274>>, tensor<1x1x1x3x!quant.uniform<i8:f32, 2.000000e-02>>) -> tensor<1x1x1x3x!quant.uniform<i8:f32, 0.050240885466337204>>
    %4 = "tiny.global_average_pool"(%3) {layer = "pool"} : (tensor<1x1x1x3x!quant.uniform<i8:f32, 0.050240885466337204>>) -> tensor<1x1x1x3x!quant.uniform<i8:f32, 0.050240885466337204>>
    return %4 : tensor<1x1x1x3x!quant.uniform<i8:f32, 0.050240885466337204>>
  }
}
