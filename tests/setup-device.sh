#!/usr/bin/env bash
# Installs what the emulated device needs, where it is missing: QEMU for Arm (and for RISC-V, for one
# check), and a compiler for the Cortex-M4 (rustup's target, else Debian's packages; firmware/build.sh adds
# the targets of other cores). Prints what it did, or what a person has
# to install. Exit status 0: all is there.
set -u

say() { echo "setup-device: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# apt-get with the rights that it needs, or failure.
install() {
    have apt-get || return 1
    local sudo=()
    if [ "$(id -u)" != 0 ]; then
        have sudo && sudo -n true 2>/dev/null || return 1
        sudo=(sudo -n)
    fi
    say "apt-get install $*"
    local log
    log=$(mktemp)
    if "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 ||
        { "${sudo[@]}" apt-get update >"$log" 2>&1 &&
            "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1; }; then
        rm -f "$log"
        return 0
    fi
    say "apt-get failed:"
    tail -5 "$log" >&2
    rm -f "$log"
    return 1
}

missing=0
if have qemu-system-arm || [ -n "${QMEND_QEMU:-}" ]; then
    say "emulator: $("${QMEND_QEMU:-qemu-system-arm}" --version | head -1)"
elif install qemu-system-arm; then
    say "emulator: installed"
else
    say "MISSING qemu-system-arm: install it (Debian: apt-get install qemu-system-arm, macOS: brew install qemu)"
    missing=1
fi

# For the kernels' check on RISC-V.
if have qemu-system-riscv32 || [ -n "${QMEND_QEMU_RISCV32:-}" ]; then
    say "emulator for RISC-V: $("${QMEND_QEMU_RISCV32:-qemu-system-riscv32}" --version | head -1)"
elif install qemu-system-misc; then
    say "emulator for RISC-V: installed"
else
    say "without qemu-system-riscv32 (Debian: apt-get install qemu-system-misc, macOS: brew install qemu) the check on RISC-V is skipped"
fi

root=$(cd "$(dirname "$0")/.." && pwd)
if toolchain=$("$root/firmware/build.sh" --which 2>/dev/null); then
    say "compiler: $toolchain"
elif install rustc-web cargo-web rust-web-src lld && toolchain=$("$root/firmware/build.sh" --which 2>/dev/null); then
    say "compiler: $toolchain"
else
    say "MISSING a compiler for the Cortex-M4: rustup target add thumbv7em-none-eabi, or on Debian apt-get install rustc-web cargo-web rust-web-src lld"
    missing=1
fi
exit $missing
