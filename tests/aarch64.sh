#!/usr/bin/env bash
# The host's engine on AArch64: builds it and the tests beside it (tests/engine-alone), and runs them under
# qemu-user: the Neon loops against the definition and against the portable loops, bit for bit.
#
#   tests/aarch64.sh             the engine's tests
#   tests/aarch64.sh --check     and `cargo check` of the whole host library for that processor (minutes)
#
# Says SKIPPED where the target or the emulator is absent:
#   rustup target add aarch64-unknown-linux-musl; apt-get install qemu-user
set -euo pipefail

cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-musl
emulator=${QMEND_QEMU_AARCH64:-qemu-aarch64}
case ${1:-} in
"" | --check) ;;
*) echo "aarch64.sh: no such option: $1" >&2; exit 2 ;;
esac
if ! ls "$(rustc --print target-libdir --target $target 2>/dev/null)"/libcore-*.rlib >/dev/null 2>&1; then
    echo "SKIPPED aarch64.sh: no compiler for $target (rustup target add $target)"
    exit 0
fi
if [ "${1:-}" = --check ]; then
    cargo check --locked --lib --target $target --target-dir target-aarch64 -p qmend
fi
if ! command -v "$emulator" >/dev/null; then
    echo "SKIPPED aarch64.sh: $emulator is not there (Debian: apt-get install qemu-user)"
    exit 0
fi
# Rust's own linker and start-up code: nothing else is needed for musl.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER=$emulator
cargo test --release --locked --target $target --target-dir target-aarch64 \
    --manifest-path tests/engine-alone/Cargo.toml -- engine::
echo "aarch64.sh: ok"
