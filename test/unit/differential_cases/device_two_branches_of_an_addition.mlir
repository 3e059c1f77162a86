// tiny-difftest: {"scheme": {"name": "random", "biases": 0, "weights": {}}, "options": {"update": "int16", "gradients": "float32", "qas": true, "in_place": true, "alignment": 4, "fuse_blocks": "all", "row_overlap": "off", "fuse_updates": true, "reorder": true, "stream_input": false, "rescaling": "qas", "seed": 0, "accumulate": false, "search": "greedy", "for_target": false}, "rate": 0.00459, "steps": 1, "seed": 4000246}
module {
  func.func @infer(%arg0: tensor<1x1x1x1x!quant.uniform<i8:f32, 2.000000e-02>>) -> tensor<1x2xf32> attributes {tiny.model = "random4000246", tiny.stage = "model"} {
    %0 = "tiny.parameter"() {layer = "conv1", symbol = "conv1.weight", value = dense<[[[[-65], [-18]]]]> : tensor<1x1x2x1xi8>} : () -> tensor<1x1x2x1xi8>
    %1 = "tiny.parameter"() {layer = "conv1", symbol = "conv1.bias", value = dense<-20> : tensor<1xi32>} : () -> tensor<1xi32>
    %2 = "tiny.conv2d"(%arg0, %0, %1) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "conv1", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.0055976014488657707> : tensor<1xf64>} : (tensor<1x1x1x1x!quant.uniform<i8:f32, 2.000000e-02>>, tensor<1x1x2x1xi8>, tensor<1xi32>) -> tensor<1x1x2x1x!quant.uniform<i8:f32, 0.0019731544889509678>>
    %3 = "tiny.parameter"() {layer = "conv2", symbol = "conv2.weight", value = dense<[[[[-9], [-35], [37], [95]]]]> : tensor<1x1x4x1xi8>} : () -> tensor<1x1x4x1xi8>
    %4 = "tiny.parameter"() {layer = "conv2", symbol = "conv2.bias", value = dense<-1071> : tensor<1xi32>} : () -> tensor<1xi32>
    %5 = "tiny.conv2d"(%arg0, %3, %4) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "conv2", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 2, 0, 2>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.01193628874433587> : tensor<1xf64>} : (tensor<1x1x1x1x!quant.uniform<i8:f32, 2.000000e-02>>, tensor<1x1x4x1xi8>, tensor<1xi32>) -> tensor<1x1x2x1x!quant.uniform<i8:f32, 0.006445595994591713>>
    %6 = "tiny.add"(%5, %2) {clamp = array<i64: -128, 127>, layer = "add3", resultSegmentSizes = array<i32: 1, 0>} : (tensor<1x1x2x1x!quant.uniform<i8:f32, 0.006445595994591713>>, tensor<1x1x2x1x!quant.uniform<i8:f32, 0.0019731544889509678>>) -> tensor<1x1x2x1x!quant.uniform<i8:f32, 0.0084187500178813934>>
    %7 = "tiny.dequantize"(%6) {layer = "head"} : (tensor<1x1x2x1x!quant.uniform<i8:f32, 0.0084187500178813934>>) -> tensor<1x1x2x1xf32>
    %8 = "tiny.parameter"() {layer = "head", symbol = "head.weight", value = dense<[[-0.358740598, -0.504830778], [-0.158675358, -2.68045974]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
    %9 = "tiny.parameter"() {layer = "head", symbol = "head.bias", value = dense<[-0.262618244, -0.618400335]> : tensor<2xf32>} : () -> tensor<2xf32>
    %10 = "tiny.linear"(%7, %8, %9) {layer = "head"} : (tensor<1x1x2x1xf32>, tensor<2x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
    return %10 : tensor<1x2xf32>
  }
}
