#!/usr/bin/env bash
# Makes tests/python/.venv with LiteRT and TFLM, which some tests compare with, and Unicorn, which runs agents
# on models of chips (tests/python/chips), where one is missing. Exit status 0: all are there.
set -u
cd "$(dirname "$0")"
python=.venv/bin/python
there() {
    [ -x "$python" ] && "$python" -c 'import ai_edge_litert, tflite_micro, numpy, unicorn' 2>/dev/null
}
there && exit 0
command -v python3 >/dev/null || {
    echo "setup: python3 is missing" >&2
    exit 1
}
python3 -m venv .venv || exit 1
"$python" -m pip install --quiet ai-edge-litert tflite-micro numpy unicorn
there
