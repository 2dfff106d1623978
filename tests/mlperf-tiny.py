#!/usr/bin/env python3
"""Makes docs/mlperf-tiny.md: the networks of the MLPerf Tiny suite, from their float and int8 files.

    tests/mlperf-tiny.py [FOLDER...] [--budget SECONDS] [--qmend PROGRAM] [-o FILE.md]

Networks with data are those of ../shared/data (see DATA below): accuracy of the float file, of the
int8 file made elsewhere, and of what qmend makes of the float file at 8 and 4 bits, before and after a
repair. Every other int8 .tflite in the folders (a checkout of mlcommons/tiny, of tflite-micro, or
single files) gets image size, arena and instructions alone. Calibration, repair, holdout and test
samples are disjoint, and the test samples are read once, here.

Needs python3 alone, `cargo build --release`, and, for instructions, what tests/setup-device.sh and
firmware/build.sh install.
"""

import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / ".." / "shared" / "data"
FEATURES = ["--scale", "0.5847029", "--mean", "48.5303407"]
SUITE = [
    {
        "name": "Image classification: ResNet-8, CIFAR-10",
        "float": "models/resnet8_cifar10_float.tflite",
        "int8": [("models/resnet8_cifar10_int8.tflite", "int8 by the TFLite converter", True)],
        "calibration": "cifar10_train_2000.npz:0..500",
        "repair": "cifar10_test_even.npz:0..1500",
        "holdout": "cifar10_test_even.npz:1500..2000",
        "test": "cifar10_test_even.npz:2000..4989",
        "preprocess": [],
    },
    {
        "name": "Keyword spotting: DS-CNN, Speech Commands",
        "float": "models/kws_dscnn_folded.onnx",
        "int8": [
            ("models/kws_dscnn_v20210322_int8.tflite", "int8 by the TFLite converter, of these weights", True),
            ("models/kws_dscnn_official_int8.tflite", "int8 by the TFLite converter, of another training run", False),
        ],
        "calibration": "kws_mfcc_500.npz:0..100",
        "repair": "kws_mfcc_500.npz:100..250",
        "holdout": "kws_mfcc_500.npz:250..350",
        "test": "kws_mfcc_500.npz:350..500",
        "preprocess": FEATURES,
    },
]
# Stems of files, as their repositories and people call them, and what they are.
KNOWN = [
    (r"vww", "Visual wake words: MobileNetV1 0.25, 96 x 96 (mlcommons/tiny)"),
    (r"ad01", "Anomaly detection: autoencoder (mlcommons/tiny)"),
    (r"str_ww|strm_ww", "Streaming wakeword: 1-D DS-CNN (mlcommons/tiny)"),
    (r"kws_ref_model|kws_int8", "Keyword spotting: DS-CNN (mlcommons/tiny)"),
    (r"pretrainedResnet", "Image classification: ResNet-8 (mlcommons/tiny)"),
    (r"person_detect", "Person detection: MobileNetV1 0.25, grey (tflite-micro)"),
    (r"micro_speech", "Micro speech: one convolution (tflite-micro)"),
    (r"hello_world", "Hello world: sine (tflite-micro)"),
]


class Failed(Exception):
    """A command ended with an error; its message."""


class Runner:
    def __init__(self, qmend, folder):
        self.qmend, self.folder = str(qmend), folder
        self.device_missing = None

    def run(self, *args):
        """A command's JSON object."""
        done = subprocess.run([self.qmend, *map(str, args), "--json"], capture_output=True, text=True)
        found = json.loads(done.stdout) if done.stdout.strip() else {}
        if done.returncode == 2 or "error" in found:
            raise Failed(found.get("error", {}).get("message") or done.stderr.strip())
        return found

    def cost(self, model):
        """Image bytes, arena bytes, and instructions of an inference on the emulated M4."""
        shown = self.run("inspect", model)
        data = self.folder / "random.npy"
        shape = [4, *shown["input"]["shape"]]
        count = shape[0] * shape[1] * shape[2] * shape[3]
        header = f"{{'descr': '|i1', 'fortran_order': False, 'shape': {tuple(shape)}, }}".encode()
        header += b" " * (-(len(header) + 11) % 64) + b"\n"
        noise = random.Random(1).randbytes(count)
        data.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + noise)
        instructions, why = None, None
        if not self.device_missing:
            try:
                report = self.run("verify", model, "--data", data, "--labels", "none", "--device", "qemu")
                if not report["identical"]:
                    raise SystemExit(f"{model}: the emulated M4 gives other bits")
                instructions = report["device"]["instructions"]["median"]
            except Failed as error:
                why = str(error)
                if "emulator" in why or "qemu" in why.lower() or "firmware" in why:
                    self.device_missing = why
        return shown["image_bytes"], shown["arena_bytes"], instructions, why

    def accuracy(self, model, test, extra):
        found = self.run("eval", model, "--data", test, *extra)
        low, high = (100 * v for v in found["interval95"])
        return f"{100 * found['accuracy']:.2f} % ({low:.1f} to {high:.1f})", found["n"]


def number(n):
    return "not measured" if n is None else f"{n:,}"


def suite(runner, case, budget):
    """Rows of a network with data, and the sentence that says what was read."""
    def spec(key):
        return str(DATA / case[key])

    pre, rows = case["preprocess"], []
    test = spec("test")
    model = DATA / case["float"]
    accuracy, n = runner.accuracy(model, test, pre)
    rows.append(("float32", accuracy, None, None, None))
    for file, what, takes_features in case["int8"]:
        # The features are the very integers of the official file's input.
        accuracy, _ = runner.accuracy(DATA / file, test, pre if takes_features else [])
        rows.append((what, accuracy, *runner.cost(DATA / file)[:3]))
    better = ["--rounding", "coordinate", "--bias-correction"]
    for bits, rounding, what in (
        (8, [], "8-bit weights"),
        (4, [], "4-bit weights rounded to nearest"),
        (4, better, "4-bit weights rounded by coordinates, biases corrected"),
    ):
        out = runner.folder / f"{bits}{'-better' if rounding else ''}.qmend"
        runner.run("quantize", model, "--data", spec("calibration"), *pre, "--weights", bits, *rounding, "-o", out,
                   "--force")
        accuracy, _ = runner.accuracy(out, test, [])
        rows.append((f"qmend, {what}", accuracy, *runner.cost(out)[:3]))
    words = (f"Calibration `{case['calibration']}`, repair `{case['repair']}`, holdout `{case['holdout']}`, test "
             f"`{case['test']}` ({n} samples).")
    for start, what in (("4", "nearest"), ("4-better", "coordinates")):
        mended = runner.folder / f"{start}-mended.qmend"
        begin = time.monotonic()
        repair = runner.run("repair", model, runner.folder / f"{start}.qmend", "--data", spec("repair"), "--holdout",
                            spec("holdout"), "-o", mended, "--time-budget", budget, "--force")
        took = time.monotonic() - begin
        accuracy, _ = runner.accuracy(mended, test, [])
        rows.append((f"qmend, 4-bit weights, repaired from {what}", accuracy, *runner.cost(mended)[:3]))
        edits = repair["edits"]
        words += (f" The repair from {what} took {took:.0f} s and changed {edits['biases']} biases, "
                  f"{edits['multipliers']} multipliers and {edits['weights']:,} weights"
                  f"{' (it was withdrawn: its gain on the holdout set was within chance)' if repair.get('withdrawn') else ''}.")
    return rows, words


def others(runner, folders):
    """Rows of int8 files without data, and notes on those that could not be run."""
    rows, notes = [], []
    files = []
    for folder in folders:
        files += [folder] if folder.is_file() else sorted(folder.rglob("*.tflite"))
    for file in files:
        title = next((t for pattern, t in KNOWN if re.match(pattern, file.stem)), None)
        if title is None:
            continue
        try:
            if runner.run("inspect", file)["kind"] != "integer":
                continue
            image, arena, instructions, why = runner.cost(file)
        except Failed as error:
            notes.append(f"- `{file.name}` ({title}): {str(error).replace(str(file), file.name)}")
            continue
        rows.append((title, f"`{file.name}`", image, arena, instructions))
        if why and not runner.device_missing:
            notes.append(f"- `{file.name}`, on the emulated M4: {why}")
    return rows, notes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=pathlib.Path)
    parser.add_argument("--budget", type=int, default=40, help="seconds for one repair (40)")
    parser.add_argument("--qmend", default=ROOT / "target" / "release" / "qmend")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "docs" / "mlperf-tiny.md")
    args = parser.parse_args()
    begin = time.monotonic()
    lines = [
        "# The MLPerf Tiny suite",
        "",
        "Accuracy with 95 % intervals (Wilson) on samples that nothing else read; bytes of the image and of the arena",
        "(activations; the image holds weights and everything else); instructions of one inference on the emulated",
        "Cortex-M4, four random inputs, median, every output bit checked against the host. Instructions are not cycles.",
        "",
        "```sh",
        "tests/mlperf-tiny.py [FOLDER of other .tflite files...]    # makes this file",
        "```",
        "",
    ]
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(args.qmend, pathlib.Path(folder))
        for case in SUITE:
            files = [case["float"], *(file for file, _, _ in case["int8"])]
            files += [case[k].split(":")[0] for k in ("calibration", "repair", "holdout", "test")]
            missing = [f for f in files if not (DATA / f).exists()]
            lines += [f"## {case['name']}", ""]
            if missing:
                print(f"SKIPPED {case['name']}: {', '.join(missing)} not in {DATA}", file=sys.stderr)
                lines += [f"Not measured: {', '.join(f'`{m}`' for m in missing)} not at hand.", ""]
                continue
            rows, words = suite(runner, case, args.budget)
            lines += ["| network | accuracy | image bytes | arena bytes | instructions |", "|---|---|---|---|---|"]
            for what, accuracy, *cost in rows:
                cells = ["-" if what == "float32" else number(c) for c in cost]
                lines.append(f"| {what} | {accuracy} | {' | '.join(cells)} |")
            lines += ["", words, ""]
        rows, notes = others(runner, args.folders)
        if rows or notes:
            lines += [
                "## Networks without data",
                "",
                "int8 files as their makers publish them. Their accuracy could not be measured, because their data are not",
                "at hand.",
                "",
                "| network | file | image bytes | arena bytes | instructions |",
                "|---|---|---|---|---|",
            ]
            lines += [f"| {t} | {f} | {' | '.join(number(c) for c in cost)} |" for t, f, *cost in rows]
            lines += ["", *notes, ""] if notes else [""]
        if runner.device_missing:
            print(f"SKIPPED instructions: {runner.device_missing}", file=sys.stderr)
            lines += [f"Instructions were not measured: {runner.device_missing}", ""]
    args.output.write_text("\n".join(lines).rstrip() + "\n")
    print(f"wrote {args.output} in {time.monotonic() - begin:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"error: {error}")
