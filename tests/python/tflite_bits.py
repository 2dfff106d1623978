"""Runs every int8 .tflite of a folder in LiteRT's reference kernels and in TFLM.

    tflite_bits.py FOLDER

NAME.in holds samples of NAME.tflite's input as raw bytes, one after the other. NAME.ref is written
in the same form with what LiteRT (its reference kernels) gives, and NAME.tflm with what the
tflite-micro wheel gives; NAME.ref.error and NAME.tflm.error in their place where one refuses the file.
Exit status 3: LiteRT or numpy is not installed; 4: tflite-micro is not (the rest is written).
"""

import pathlib
import sys


def litert(model, samples):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(model),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    x = interpreter.get_input_details()[0]
    y = interpreter.get_output_details()[0]
    for sample in samples.view(x["dtype"]).reshape(-1, *x["shape"]):
        interpreter.set_tensor(x["index"], sample)
        interpreter.invoke()
        yield interpreter.get_tensor(y["index"])


def tflm(model, samples):
    from tflite_micro.python.tflite_micro import runtime

    arena = max(8 << 20, 20 * model.stat().st_size)
    interpreter = runtime.Interpreter.from_file(str(model), arena_size=arena)
    x = interpreter.get_input_details(0)
    for sample in samples.view(x["dtype"]).reshape(-1, *x["shape"]):
        interpreter.set_input(sample, 0)
        interpreter.invoke()
        yield interpreter.get_output(0)


def main(folder):
    try:
        import ai_edge_litert  # noqa: F401
        import numpy as np
    except ImportError as e:
        print(f"{e}: pip install ai-edge-litert numpy", file=sys.stderr)
        return 3
    runtimes = {"ref": litert}
    try:
        import tflite_micro  # noqa: F401

        runtimes["tflm"] = tflm
    except ImportError:
        pass
    for model in sorted(pathlib.Path(folder).glob("*.tflite")):
        samples = np.fromfile(model.with_suffix(".in"), dtype=np.uint8)
        for name, run in runtimes.items():
            try:
                out = b"".join(y.tobytes() for y in run(model, samples))
                model.with_suffix(f".{name}").write_bytes(out)
            except (RuntimeError, ValueError) as e:
                model.with_suffix(f".{name}.error").write_text(str(e))
    return 0 if "tflm" in runtimes else 4


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
