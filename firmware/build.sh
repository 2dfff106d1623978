#!/bin/sh
# Builds the firmware of every board into target-firmware/, with the toolchain that is there: rustup's target, or Debian's packages with core built from source. Says which.
#
#   firmware/build.sh            build
#   firmware/build.sh --which    only say with what it would be built
#   QMEND_TOOLCHAIN=debian|rustup firmware/build.sh    insist on one
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
out=$root/target-firmware
# Without a floating-point unit in its name: any float would become a call to a library routine,
# which tests/tests/firmware_no_float.rs looks for in the result.
target=thumbv7em-none-eabi
choice=${QMEND_TOOLCHAIN:-auto}
log=$out/build.log
mkdir -p "$out"

say() { echo "firmware: $*" >&2; }
fail() { say "$*"; exit 1; }

have() { command -v "$1" >/dev/null 2>&1; }

limited() {
    if have timeout; then timeout 120 "$@"; else "$@"; fi
}

rustup_way() {
    have rustup && have cargo || return 1
    if ! rustup target list --installed 2>/dev/null | grep -qx "$target"; then
        say "rustup target add $target"
        limited rustup target add "$target" >"$log" 2>&1 || { say "rustup could not add the target (see $log)"; return 1; }
    fi
    has_core "$target"
}

# A target that is listed may still lack its library; the compiler knows.
has_core() {
    core=$(cd "$root" && rustc --print target-libdir --target "$1" 2>/dev/null) || return 1
    ls "$core"/libcore-*.rlib >/dev/null 2>&1
}

# Whether there is a core library for this target, or it can be had.
ready() {
    [ "$from_source" = true ] && return 0
    if ! rustup target list --installed 2>/dev/null | grep -qx "$1"; then
        say "rustup target add $1"
        limited rustup target add "$1" >"$log" 2>&1 || return 1
    fi
    has_core "$1"
}

# Debian's compiler stands beside rustup's, which comes first in PATH.
debian_bin=${QMEND_DEBIAN_BIN:-/usr/bin}
debian_way() {
    [ -x "$debian_bin/rustc" ] && [ -x "$debian_bin/cargo" ] || return 1
    sysroot=$("$debian_bin/rustc" --print sysroot) || return 1
    [ -d "$sysroot/lib/rustlib/src/rust/library/core" ] || return 1
    linker=
    for candidate in rust-lld ld.lld lld; do
        if have $candidate; then linker=$(command -v $candidate); break; fi
    done
    if [ -z "$linker" ] && have rustup; then
        host=$(rustc -vV | sed -n 's/^host: //p')
        linker=$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld
    fi
    [ -n "$linker" ] && [ -x "$linker" ]
}

cd "$root"
if [ "$choice" != debian ] && rustup_way; then
    from_source=false
    way="rustup's $(rustc --version | cut -d' ' -f1,2) with target $target"
    build() { cargo build "$@"; }
    target_dir=$out/rustup
elif [ "$choice" != rustup ] && debian_way; then
    from_source=true
    way="Debian's $("$debian_bin/rustc" --version | cut -d' ' -f1,2), core from source, linker $linker"
    build() {
        RUSTC="$debian_bin/rustc" RUSTC_BOOTSTRAP=1 CARGO_TARGET_THUMBV7EM_NONE_EABI_LINKER="$linker" \
            CARGO_TARGET_THUMBV6M_NONE_EABI_LINKER="$linker" \
            "$debian_bin/cargo" build -Zbuild-std=core "$@"
    }
    target_dir=$out/debian
else
    fail "no compiler for $target. Either 'rustup target add $target', or on Debian 'apt-get install rustc-web cargo-web rust-web-src lld'"
fi
if [ "${1:-}" = --which ]; then
    echo "$way"
    exit 0
fi
say "built with $way"

# program TARGET PROFILE PATH_BELOW_THE_PROFILE CARGO_ARGUMENTS...
program() {
    triple=$1 profile=$2 elf=$target_dir/$1/$2/$3 name=$(basename "$3").elf
    shift 3
    if ! ready "$triple"; then
        say "left out $name: no compiler for $triple (rustup target add $triple)"
        rm -f "$out/$name"
        return 0
    fi
    build --quiet --locked --profile "$profile" --target "$triple" --target-dir "$target_dir" \
        -p qmend-firmware "$@"
    cp "$elf" "$out/$name.new"
    mv "$out/$name.new" "$out/$name"
    echo "$out/$name"
    if have size; then size "$out/$name" | sed 's/^/    /' >&2; fi
}

program $target firmware agent-mps2-an386 --bin agent-mps2-an386
program $target firmware examples/minimal_mps2_an386 --example minimal_mps2_an386
program $target firmware agent-netduinoplus2 --bin agent-netduinoplus2
program $target firmware-small agent-stm32f405 --bin agent-stm32f405
program thumbv6m-none-eabi firmware-small agent-microbit --bin agent-microbit
