"""Compares int8 .tflite files in qmend with TensorFlow Lite for Microcontrollers and with LiteRT.

    tflm_bits.py [--qmend PROGRAM] [--samples N] MODEL.tflite...

Each network runs on N inputs (noise, smooth and sparse ones, both ends of int8) in TFLM's reference
kernels (the package tflite-micro), in LiteRT's reference kernels (ai-edge-litert), and in qmend under
the rule of each; every output element is compared. uint8 and float ends are fed and read as the int8
numbers that they stand for. Exit status 0: nothing differs, 1: something does, 2: an error, 3: the
packages are not installed.

    tflm_bits.py --run tflm|litert MODEL.tflite INPUTS OUTPUTS IN_SCALE IN_ZERO OUT_SCALE OUT_ZERO

runs one file alone: INPUTS and OUTPUTS are int8 samples as raw bytes, one after the other. Exit status
4: the runtime refuses the file.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    from tflite_micro.python.tflite_micro import runtime
except ImportError as error:
    print(f"{error}: pip install tflite-micro ai-edge-litert numpy", file=sys.stderr)
    sys.exit(3)

RULES = {"tflm": "tflm", "litert": "litert-reference"}


class Refused(Exception):
    """The runtime does not take the network."""


class Tflm:
    def __init__(self, model):
        # Its default, ten times the size of the model, is too small for some.
        arena = max(8 << 20, 20 * pathlib.Path(model).stat().st_size)
        try:
            self.interpreter = runtime.Interpreter.from_file(model, arena_size=arena)
            self.input, self.output = (d["dtype"] for d in (self.interpreter.get_input_details(0),
                                                            self.interpreter.get_output_details(0)))
            self.shape = self.interpreter.get_input_details(0)["shape"]
        except (RuntimeError, ValueError) as error:
            raise Refused(str(error)) from error

    def run(self, sample):
        try:
            self.interpreter.set_input(sample, 0)
            self.interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise Refused(str(error)) from error
        return self.interpreter.get_output(0)


class Litert:
    def __init__(self, model):
        try:
            self.interpreter = Interpreter(model_path=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
            self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise Refused(str(error)) from error
        x, y = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()[0]
        self.input, self.output, self.shape = x["dtype"], y["dtype"], x["shape"]
        self.at = x["index"], y["index"]

    def run(self, sample):
        self.interpreter.set_tensor(self.at[0], sample)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.at[1])


RUNTIMES = {"tflm": Tflm, "litert": Litert}


def outputs(which, model, inputs, x, y):
    """Outputs for int8 inputs, one row each; `x` and `y` are scale and zero point of both ends."""
    net = RUNTIMES[which](str(model))
    rows = []
    for q in inputs:
        sample = q.reshape(net.shape)
        if net.input == np.uint8:
            sample = (sample.astype(np.int16) + 128).astype(np.uint8)
        elif net.input == np.float32:
            sample = (sample.astype(np.float32) - np.float32(x[1])) * np.float32(x[0])
        out = np.array(net.run(sample))
        if net.output == np.uint8:
            out = out.astype(np.int16) - 128
        elif net.output == np.float32:
            out = np.rint(out / np.float32(y[0])) + y[1]
        rows.append(out.astype(np.int8).ravel())
    return np.stack(rows)


def samples(shape, zero_point, count, seed=7):
    """int8 inputs: both ends, the zero point, stripes, then noise, smooth and sparse ones in turn."""
    rng = np.random.default_rng(seed)
    stripes = np.resize(np.array([-128, 127], np.int8), shape)
    all_ = [np.full(shape, v, np.int8) for v in (-128, 127, zero_point)] + [stripes]
    grid = np.meshgrid(*(np.linspace(0, 1, d) for d in shape[:2]), indexing="ij")
    while len(all_) < count:
        kind = len(all_) % 3
        if kind == 0:
            all_.append(rng.integers(-128, 128, shape, np.int8))
        elif kind == 1:
            # As photographs and spectra look: slow waves, a little noise.
            wave = sum(rng.normal() * np.sin(rng.uniform(0, 9) * grid[0] + rng.uniform(0, 9) * grid[1] + rng.uniform(0, 6))
                       for _ in range(4))
            level = wave[..., None] * rng.uniform(10, 70, shape[2]) + rng.normal(0, 5, shape)
            all_.append(np.clip(np.rint(level), -128, 127).astype(np.int8))
        else:
            noise = rng.normal(zero_point, rng.uniform(5, 60), shape)
            noise[rng.random(shape) < 0.5] = zero_point
            all_.append(np.clip(np.rint(noise), -128, 127).astype(np.int8))
    return np.stack(all_[:count])


def ask(qmend, *arguments):
    run = subprocess.run([qmend, *map(str, arguments)], capture_output=True, text=True)
    if run.returncode != 0:
        raise Refused(run.stderr.strip())
    return run.stdout


def compare(qmend, model, count):
    """Prints a line a runtime; whether nothing differs."""
    seen = json.loads(ask(qmend, "inspect", model, "--json"))
    if seen["kind"] != "integer":
        raise Refused("a float network: there is nothing to compare")
    ends = [(seen[end]["scale"], seen[end]["zero_point"]) for end in ("input", "output")]
    inputs = samples(seen["input"]["shape"], ends[0][1], count)
    same = True
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "inputs.npy"
        np.save(data, inputs)
        for which, rule in RULES.items():
            try:
                theirs = outputs(which, model, inputs, *ends)
            except Refused as error:
                print(f"{model}: {which} refuses it ({str(error).splitlines()[-1][:120]})")
                continue
            out = pathlib.Path(folder) / f"{which}.npy"
            ask(qmend, "eval", model, "--data", data, "--layout", "nhwc", "--rounding", rule, "--outputs", out)
            ours = np.load(out)
            differing = int((ours != theirs).sum())
            print(f"{model}: {differing} of {ours.size} outputs differ from {which} ({count} inputs, "
                  f"{len(np.unique(theirs))} values)")
            same &= differing == 0
    return same


def main():
    if sys.argv[1:2] == ["--run"]:
        which, model, inputs, out = sys.argv[2:6]
        ends = [(float(sys.argv[i]), int(sys.argv[i + 1])) for i in (6, 8)]
        try:
            size = int(np.prod(RUNTIMES[which](model).shape))
            rows = outputs(which, model, np.fromfile(inputs, np.int8).reshape(-1, size), *ends)
        except Refused as error:
            print(error, file=sys.stderr)
            return 4
        rows.tofile(out)
        return 0
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--qmend", default="qmend", help="the program (by default that on the PATH)")
    arguments.add_argument("--samples", type=int, default=100)
    arguments.add_argument("models", nargs="+", metavar="MODEL.tflite")
    arguments = arguments.parse_args()
    same, refused = True, False
    for model in arguments.models:
        try:
            same &= compare(arguments.qmend, model, max(arguments.samples, 1))
        except Refused as error:
            print(f"{model}: {error}", file=sys.stderr)
            refused = True
    return 2 if refused else int(not same)


if __name__ == "__main__":
    sys.exit(main())
