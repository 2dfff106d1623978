"""Quantizes a float .onnx with onnxruntime's static quantization (QDQ, int8 per channel), for speed
comparisons: it is calibrated on random inputs, so its accuracy means nothing.

    qdq.py FLOAT.onnx OUT.onnx
"""

import sys

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static


class Random(CalibrationDataReader):
    """Sixteen inputs of the right shape."""

    def __init__(self, path):
        given = onnx.load(path).graph.input[0]
        shape = [d.dim_value or 1 for d in given.type.tensor_type.shape.dim]
        draw = np.random.default_rng(0)
        self.rest = [{given.name: draw.random(shape, np.float32)} for _ in range(16)]

    def get_next(self):
        return self.rest.pop() if self.rest else None


quantize_static(
    sys.argv[1],
    sys.argv[2],
    Random(sys.argv[1]),
    quant_format=QuantFormat.QDQ,
    per_channel=True,
    activation_type=QuantType.QInt8,
    weight_type=QuantType.QInt8,
)
