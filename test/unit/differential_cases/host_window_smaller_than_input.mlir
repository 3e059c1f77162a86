// tiny-difftest: {"scheme": {"name": "random", "biases": 0, "weights": {}}, "options": {"update": "int16", "gradients": "float32", "qas": true, "in_place": true, "alignment": 4, "fuse_blocks": "off", "fuse_updates": true}, "rate": 0.0202, "steps": 1, "seed": 102}
module {
  func.func @infer(%arg0: tensor<1x3x1x1x!quant.uniform<i8:f32, 2.000000e-02>>) -> tensor<1x1xf32> attributes {tiny.model = "random102", tiny.stage = "model"} {
    %0 = "tiny.parameter"() {layer = "conv1", symbol = "conv1.weight", value = dense<[[[[45], [33], [-15], [11]], [[19], [-34], [25], [-27]], [[-8], [72], [-4], [-46]], [[-59], [-10], [-30], [-41]]]]> : tensor<1x4x4x1xi8>} : () -> tensor<1x4x4x1xi8>
    %1 = "tiny.parameter"() {layer = "conv1", symbol = "conv1.bias", value = dense<-4> : tensor<1xi32>} : () -> tensor<1xi32>
    %2 = "tiny.conv2d"(%arg0, %0, %1) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "conv1", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 3, 1, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.016002909006451606> : tensor<1xf64>} : (tensor<1x3x1x1x!quant.uniform<i8:f32, 2.000000e-02>>, tensor<1x4x4x1xi8>, tensor<1xi32>) -> tensor<1x2x2x1x!quant.uniform<i8:f32, 0.021352987736463547>>
    %3 = "tiny.parameter"() {layer = "conv3", symbol = "conv3.weight", value = dense<[[[[-57], [71]], [[98], [-56]]]]> : tensor<1x2x2x1xi8>} : () -> tensor<1x2x2x1xi8>
    %4 = "tiny.parameter"() {layer = "conv3", symbol = "conv3.bias", value = dense<-4446> : tensor<1xi32>} : () -> tensor<1xi32>
    %5 = "tiny.conv2d"(%2, %3, %4) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "conv3", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 1, 1, 0, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 2, 1>, weight_scales = dense<0.010513535485510818> : tensor<1xf64>} : (tensor<1x2x2x1x!quant.uniform<i8:f32, 0.021352987736463547>>, tensor<1x2x2x1xi8>, tensor<1xi32>) -> tensor<1x1x3x1x!quant.uniform<i8:f32, 0.030899295583367348>>
    %6 = "tiny.dequantize"(%5) {layer = "head"} : (tensor<1x1x3x1x!quant.uniform<i8:f32, 0.030899295583367348>>) -> tensor<1x1x3x1xf32>
    %7 = "tiny.parameter"() {layer = "head", symbol = "head.weight", value = dense<[[-0.520556509, -0.373142272, 0.0277351029]]> : tensor<1x3xf32>} : () -> tensor<1x3xf32>
    %8 = "tiny.parameter"() {layer = "head", symbol = "head.bias", value = dense<-0.307400614> : tensor<1xf32>} : () -> tensor<1xf32>
    %9 = "tiny.linear"(%6, %7, %8) {layer = "head"} : (tensor<1x1x3x1xf32>, tensor<1x3xf32>, tensor<1xf32>) -> tensor<1x1xf32>
    return %9 : tensor<1x1xf32>
  }
}
