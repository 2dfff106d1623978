#!/usr/bin/env bash
# Makes tests/python/.venv with LiteRT and TFLM, which some tests compare with, where they are missing.
# Exit status 0: it is there.
set -u
cd "$(dirname "$0")"
python=.venv/bin/python
if [ -x "$python" ] && "$python" -c 'import ai_edge_litert, tflite_micro' 2>/dev/null; then
    exit 0
fi
command -v python3 >/dev/null || {
    echo "setup: python3 is missing" >&2
    exit 1
}
python3 -m venv .venv && "$python" -m pip install --quiet ai-edge-litert tflite-micro numpy
