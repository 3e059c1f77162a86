// tiny-difftest: {"scheme": {"name": "random", "biases": "all", "weights": {"all": 1.0}}, "options": {"update": "int16", "gradients": "float32", "qas": true, "in_place": true, "alignment": 4, "fuse_blocks": "off", "row_overlap": "off", "fuse_updates": true}, "rate": 0.0928, "steps": 1, "seed": 4004}
module {
  func.func @infer(%arg0: tensor<1x2x1x1x!quant.uniform<i8:f32, 2.000000e-02>>) -> tensor<1x2xf32> attributes {tiny.model = "random4004", tiny.stage = "model"} {
    %0 = "tiny.parameter"() {layer = "conv0", symbol = "conv0.weight", value = dense<-45> : tensor<1x1x1x1xi8>} : () -> tensor<1x1x1x1xi8>
    %1 = "tiny.parameter"() {layer = "conv0", symbol = "conv0.bias", value = dense<-381> : tensor<1xi32>} : () -> tensor<1xi32>
    %2 = "tiny.conv2d"(%arg0, %0, %1) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "conv0", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 0>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.018077054729088073> : tensor<1xf64>} : (tensor<1x2x1x1x!quant.uniform<i8:f32, 2.000000e-02>>, tensor<1x1x1x1xi8>, tensor<1xi32>) -> tensor<1x2x1x1x!quant.uniform<i8:f32, 0.010371710173785686>>
    %3 = "tiny.parameter"() {layer = "conv1", symbol = "conv1.weight", value = dense<-4> : tensor<1x1x1x1xi8>} : () -> tensor<1x1x1x1xi8>
    %4 = "tiny.parameter"() {layer = "conv1", symbol = "conv1.bias", value = dense<-57> : tensor<1xi32>} : () -> tensor<1xi32>
    %5 = "tiny.conv2d"(%2, %3, %4) {clamp = array<i64: -128, 127>, groups = 1 : i64, layer = "conv1", operandSegmentSizes = array<i32: 1, 1, 1, 0>, pads = array<i64: 0, 0, 0, 1>, resultSegmentSizes = array<i32: 1, 0>, strides = array<i64: 1, 1>, weight_scales = dense<0.010526265564796468> : tensor<1xf64>} : (tensor<1x2x1x1x!quant.uniform<i8:f32, 0.010371710173785686>>, tensor<1x1x1x1xi8>, tensor<1xi32>) -> tensor<1x2x2x1x!quant.uniform<i8:f32, 3.224372339900583E-4>>
    %6 = "tiny.dequantize"(%5) {layer = "head"} : (tensor<1x2x2x1x!quant.uniform<i8:f32, 3.224372339900583E-4>>) -> tensor<1x2x2x1xf32>
    %7 = "tiny.parameter"() {layer = "head", symbol = "head.weight", value = dense<[[-12.9805822, 34.8583031, 32.2258911, -44.2238541], [81.680252, -27.2562428, -29.5019894, -58.2082558]]> : tensor<2x4xf32>} : () -> tensor<2x4xf32>
    %8 = "tiny.parameter"() {layer = "head", symbol = "head.bias", value = dense<[-0.83343333, -0.218913376]> : tensor<2xf32>} : () -> tensor<2xf32>
    %9 = "tiny.linear"(%6, %7, %8) {layer = "head"} : (tensor<1x2x2x1xf32>, tensor<2x4xf32>, tensor<2xf32>) -> tensor<1x2xf32>
    return %9 : tensor<1x2xf32>
  }
}
