"""How many samples a second other runtimes compute, one sample a call, on random inputs.

    peers.py MODEL.tflite [QDQ.onnx] --threads N --seconds S

Prints one JSON object: {"litert-xnnpack": rate, "litert-builtin": rate, "onnxruntime": rate,
"tract": rate}; a runtime that is not installed is left out, and said on stderr. tract's Python package
runs on one thread, so it is left out where more are asked for.
"""

import argparse
import json
import os
import sys
import tempfile
import time

import numpy as np


# Seconds of a round: short, so that some are not interrupted on a machine that does other things.
ROUND = 0.02


def rate(run, seconds):
    """Best of short rounds of as many calls as fit."""
    run()
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin, calls = time.perf_counter(), 0
        while time.perf_counter() - begin < ROUND:
            run()
            calls += 1
        best = max(best, calls / (time.perf_counter() - begin))
    return best


def litert(path, threads, seconds, resolver):
    from ai_edge_litert.interpreter import Interpreter

    it = Interpreter(path, num_threads=threads, experimental_op_resolver_type=resolver)
    it.allocate_tensors()
    given, taken = it.get_input_details()[0], it.get_output_details()[0]
    x = np.random.default_rng(0).integers(-128, 128, given["shape"]).astype(given["dtype"])

    def run():
        it.set_tensor(given["index"], x)
        it.invoke()
        it.get_tensor(taken["index"])

    return rate(run, seconds)


def onnxruntime(path, threads, seconds):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    shape = [d if isinstance(d, int) else 1 for d in given.shape]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return rate(lambda: session.run(None, {given.name: x}), seconds)


def tract(path, seconds):
    import onnx
    import tract as runtime

    # It wants a batch of one throughout, and infers the rest.
    network = onnx.load(path)
    for value in [*network.graph.input, *network.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del network.graph.value_info[:]
    shape = [d.dim_value for d in network.graph.input[0].type.tensor_type.shape.dim]
    with tempfile.TemporaryDirectory() as folder:
        fixed = os.path.join(folder, "fixed.onnx")
        onnx.save(network, fixed)
        model = runtime.onnx().load(fixed)
    model.analyse()
    runnable = model.into_model().into_runnable()
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return rate(lambda: runnable.run([x])[0].to_numpy(), seconds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tflite")
    parser.add_argument("qdq", nargs="?")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3)
    args = parser.parse_args()
    rates = {}
    try:
        from ai_edge_litert.interpreter import OpResolverType as Resolver

        rates["litert-xnnpack"] = litert(args.tflite, args.threads, args.seconds, Resolver.BUILTIN)
        rates["litert-builtin"] = litert(
            args.tflite, args.threads, args.seconds, Resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
    except ImportError as e:
        print(f"peers: no LiteRT: {e}", file=sys.stderr)
    if args.qdq:
        try:
            rates["onnxruntime"] = onnxruntime(args.qdq, args.threads, args.seconds)
        except ImportError as e:
            print(f"peers: no onnxruntime: {e}", file=sys.stderr)
        if args.threads == 1:
            try:
                rates["tract"] = tract(args.qdq, args.seconds)
            except ImportError as e:
                print(f"peers: no tract: {e}", file=sys.stderr)
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
