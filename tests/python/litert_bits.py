"""Runs an int8 .tflite file in LiteRT with its reference kernels.

    litert_bits.py MODEL.tflite INPUTS OUTPUTS

INPUTS holds samples of the network's input as raw bytes, one after the other; OUTPUTS is written in
the same form. Exit status 3: LiteRT is not installed.
"""

import sys


def main(model, inputs, outputs):
    try:
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as e:
        print(f"{e}: pip install ai-edge-litert numpy", file=sys.stderr)
        return 3
    interpreter = Interpreter(
        model_path=model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    x = interpreter.get_input_details()[0]
    y = interpreter.get_output_details()[0]
    samples = np.fromfile(inputs, dtype=x["dtype"]).reshape(-1, *x["shape"])
    with open(outputs, "wb") as f:
        for sample in samples:
            interpreter.set_tensor(x["index"], sample)
            interpreter.invoke()
            f.write(interpreter.get_tensor(y["index"]).tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
