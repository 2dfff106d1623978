#!/usr/bin/env bash
# The host's integer engine side by side with LiteRT, onnxruntime and tract on the same int8
# networks, in one run, the tools in turn and each at its best of three rounds; one and two threads.
#
#   tests/bench-host.sh DATA [OUT.md]     DATA holds resnet8_cifar10_* and kws_dscnn_* models
#   QMEND=PROGRAM tests/bench-host.sh ...  with a program that is there
#
# Ours takes many samples a call, as repair does; the others one, as an application does.
set -euo pipefail

models=$(cd "${1:?usage: tests/bench-host.sh DATA [OUT.md]}" && pwd)
out=${2:-/dev/stdout}
cd "$(dirname "$0")/.."
[ -d "$models/models" ] && models=$models/models

tests/python/setup.sh
python=tests/python/.venv/bin/python
"$python" -c 'import onnxruntime, onnx, tract' 2>/dev/null || "$python" -m pip install --quiet onnxruntime onnx tract
[ -n "${QMEND:-}" ] || cargo build --release --locked --quiet -p qmend
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

{
    echo "| network | threads | qmend | LiteRT (XNNPACK) | LiteRT (no delegate) | onnxruntime (QDQ) | tract (QDQ) | qmend to the fastest peer |"
    echo "|---|---|---|---|---|---|---|---|"
    for row in resnet8_cifar10_int8:resnet8_cifar10_folded kws_dscnn_official_int8:kws_dscnn_folded; do
        IFS=: read -r name float <<<"$row"
        "$python" tests/python/qdq.py "$models/$float.onnx" "$work/qdq.onnx" >/dev/null 2>&1
        for threads in 1 2; do
            : >"$work/rates"
            for _ in 1 2 3; do
                ours=$("${QMEND:-target/release/qmend}" bench engine "$models/$name.tflite" --samples 256 --threads "$threads" --json --quiet | tr -d "\n")
                peers=$("$python" tests/python/peers.py "$models/$name.tflite" "$work/qdq.onnx" --threads "$threads" --seconds 2 2>/dev/null)
                echo "[$ours, $peers]" >>"$work/rates"
            done
            "$python" - "$work/rates" "$name" "$threads" <<'PY'
import json, sys
rounds = [json.loads(line) for line in open(sys.argv[1])]
ours = max(o["best_samples_a_second"] for o, _ in rounds)
names = ["litert-xnnpack", "litert-builtin", "onnxruntime", "tract"]
peers = [max((p[n] for _, p in rounds if n in p), default=None) for n in names]
fastest = max(p for p in peers if p is not None)
cells = [sys.argv[2], sys.argv[3], f"{ours:.0f}"]
cells += ["-" if p is None else f"{p:.0f}" for p in peers] + [f"{ours / fastest:.2f}"]
print("| " + " | ".join(cells) + " |")
PY
        done
    done
    echo
    echo "The same on one thread with each kind of vector instructions that this machine has, the kinds in turn:"
    echo
    echo "| network | AVX-512 VNNI | AVX2 | portable |"
    echo "|---|---|---|---|"
    for name in resnet8_cifar10_int8 kws_dscnn_official_int8; do
        : >"$work/rates"
        for _ in 1 2 3; do
            for isa in avx512-vnni avx2 portable; do
                "${QMEND:-target/release/qmend}" bench engine "$models/$name.tflite" --samples 32 --threads 1 --isa "$isa" --json --quiet 2>/dev/null |
                    tr -d "\n" >>"$work/rates" || true
                echo >>"$work/rates"
            done
        done
        "$python" - "$work/rates" "$name" <<'PY'
import json, sys
best = {}
for line in open(sys.argv[1]):
    # Nothing where the machine lacks the instructions.
    if line.strip():
        o = json.loads(line)
        best[o["isa"]] = max(best.get(o["isa"], 0), o["best_samples_a_second"])
cells = [best.get(isa) for isa in ("Avx512Vnni", "Avx2", "Portable")]
print("| " + " | ".join([sys.argv[2]] + ["-" if c is None else f"{c:.0f}" for c in cells]) + " |")
PY
    done
} >"$out"
