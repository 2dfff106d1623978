#!/bin/sh
# Builds the firmware for emulated boards into target-firmware/, with the toolchain that is there:
# rustup's target, or Debian's packages with core built from source. Says which.
#
#   firmware/build.sh            the agents that QEMU runs, that of the STM32F405, and the example
#   firmware/build.sh --boards   the agents of the boards that no emulator models
#   firmware/build.sh --operators conv2d,softmax,... [BOARD]
#                                an agent with these operators alone (names: firmware/Cargo.toml), as
#                                agent-BOARD-custom.elf; BOARD is microbit (the default) or stm32f405
#   firmware/build.sh --rtt      agent-BOARD-rtt.elf: the link is RTT, through the debug port
#   firmware/build.sh --self-test
#                                agent-stm32f405-self-test.elf, which runs a model's self-tests before it serves, as every
#                                agent does that is built with QMEND_SELF_TEST_AT_BOOT=1
#   firmware/build.sh --sizes    how large agents are, as the table in docs/device.md
#   firmware/build.sh --kernels  the kernels' benchmark and check, for Cortex-M0+, M3, M4, M55 and for
#                                RISC-V, and the check for M33
#   firmware/build.sh --which    only say with what it would be built
#   QMEND_PUBLIC_KEY=key.pub firmware/build.sh         agent-BOARD-signed.elf: take only images signed with this key (qmend keygen)
#   QMEND_ALLOW_OLDER=1      with a key: older versions are taken again
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
    # A target that is listed may still lack its library; the compiler knows.
    core=$(cd "$root" && rustc --print target-libdir --target "$target" 2>/dev/null) || return 1
    ls "$core"/libcore-*.rlib >/dev/null 2>&1
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

# Finds a toolchain for $target: sets way, target_dir and build.
find_toolchain() {
    if [ "$choice" != debian ] && rustup_way; then
        way="rustup's $(rustc --version | cut -d' ' -f1,2) with target $target"
        build() { cargo build "$@"; }
        target_dir=$out/rustup
    elif [ "$choice" != rustup ] && debian_way; then
        way="Debian's $("$debian_bin/rustc" --version | cut -d' ' -f1,2), core from source, linker $linker"
        build() {
            env RUSTC="$debian_bin/rustc" RUSTC_BOOTSTRAP=1 \
                "CARGO_TARGET_$(echo "$target" | tr a-z.- A-Z__)_LINKER=$linker" \
                "$debian_bin/cargo" build -Zbuild-std=core "$@"
        }
        target_dir=$out/debian
    else
        fail "no compiler for $target. Either 'rustup target add $target', or on Debian 'apt-get install rustc-web cargo-web rust-web-src lld'"
    fi
}

# A core that its target's name does not tell: `cpu` is set for the programs of one. Each has a folder
# of its own, so that building for one does not throw away what was built for another.
cpu=

# program TARGET PROFILE PATH_BELOW_THE_PROFILE NAME CARGO_ARGUMENTS...
# Builds a program and puts it where people and tests look for it.
program() {
    target=$1 profile=$2 path=$3 name=$4.elf
    shift 4
    if [ -n "${QMEND_PUBLIC_KEY:-}" ]; then
        case $name in
            agent-*) name=${name%.elf}-signed.elf; set -- "$@" --features signed ;;
            *) return 0 ;;
        esac
    fi
    find_toolchain
    [ "$way" = "$said" ] || say "built with $way"
    said=$way
    if [ -n "$cpu" ]; then
        target_dir=$target_dir-$cpu
        export "CARGO_TARGET_$(echo "$target" | tr a-z.- A-Z__)_RUSTFLAGS=-C target-cpu=$cpu"
    fi
    build --quiet --locked --profile "$profile" --target "$target" --target-dir "$target_dir" \
        -p qmend-firmware "$@"
    cp "$target_dir/$target/$profile/$path" "$out/$name.new"
    mv "$out/$name.new" "$out/$name"
    echo "$out/$name"
    if have size; then size "$out/$name" | sed 's/^/    /' >&2; fi
}

# The same for a core without which the rest is of use: left out where there is no compiler for it.
optional_program() {
    if (target=$1 && find_toolchain) 2>/dev/null; then
        program "$@"
    else
        say "left out $4: no compiler for $1 (rustup target add $1)"
        rm -f "$out/$4.elf"
    fi
}

# Cargo runs the build script in the package's folder.
if [ -n "${QMEND_PUBLIC_KEY:-}" ]; then
    [ -f "$QMEND_PUBLIC_KEY" ] || fail "QMEND_PUBLIC_KEY=$QMEND_PUBLIC_KEY: there is no such file"
    QMEND_PUBLIC_KEY=$(cd "$(dirname "$QMEND_PUBLIC_KEY")" && pwd)/$(basename "$QMEND_PUBLIC_KEY")
    export QMEND_PUBLIC_KEY
    say "agents take only images signed with the key of $QMEND_PUBLIC_KEY"
fi
# Small agents: portable kernels that are small rather than fast, and the operators named.
small() { echo "--no-default-features --features ${1:-all-operators}"; }

# The target of a board whose agents may have some operators only.
target_of() {
    case $1 in
        microbit) echo thumbv6m-none-eabi ;;
        stm32f405) echo thumbv7em-none-eabi ;;
        *) fail "'$1' is no board of --operators: microbit or stm32f405" ;;
    esac
}

# custom BOARD OPERATORS NAME
custom() {
    custom_target=$(target_of "$1") || exit 1
    # Words of their own.
    # shellcheck disable=SC2046
    program "$custom_target" firmware-small "agent-$1" "$3" --bin "agent-$1" $(small "$2")
}

# Bytes of flash of a program: sections that lie there, with initial values.
flash_of() {
    have size || fail "--sizes needs the program 'size' (binutils)"
    size "$out/$1.elf" | awk 'NR == 2 { print $1 + $2 }'
}

# sizes NAME OPERATORS: a row of the table.
sizes() {
    row="| $1 |"
    for board in microbit stm32f405; do
        custom "$board" "$2" "agent-$board-size" >/dev/null 2>&1
        row="$row $(flash_of "agent-$board-size") |"
        rm -f "$out/agent-$board-size.elf"
    done
    echo "$row"
}

cd "$root"
said=
case ${1:-} in
    --which)
        find_toolchain
        echo "$way"
        ;;
    --kernels)
        for entry in cortex-m0plus:thumbv6m cortex-m3:thumbv7m cortex-m4:thumbv7em; do
            for bin in bench kernels; do
                program "${entry#*:}-none-eabi" firmware $bin-mps2 "$bin-${entry%:*}" --bin $bin-mps2
            done
        done
        for bin in bench kernels; do
            optional_program riscv32imac-unknown-none-elf firmware $bin-mps2 $bin-rv32imac --bin $bin-mps2
        done
        cpu=cortex-m55
        optional_program thumbv8m.main-none-eabihf firmware bench-mps2 bench-cortex-m55 --bin bench-mps2
        optional_program thumbv8m.main-none-eabihf firmware kernels-mps2 kernels-cortex-m55 --bin kernels-mps2
        cpu=cortex-m33
        optional_program thumbv8m.main-none-eabi firmware kernels-mps2 kernels-cortex-m33 --bin kernels-mps2
        ;;
    "")
        program thumbv7em-none-eabi firmware agent-mps2 agent-mps2-an386 --bin agent-mps2
        program thumbv7em-none-eabi firmware examples/minimal_mps2_an386 minimal_mps2_an386 --example minimal_mps2_an386
        program thumbv7em-none-eabi firmware agent-netduinoplus2 agent-netduinoplus2 --bin agent-netduinoplus2
        program thumbv7em-none-eabi firmware-small agent-stm32f405 agent-stm32f405 --bin agent-stm32f405
        # Words of their own.
        # shellcheck disable=SC2046
        optional_program thumbv6m-none-eabi firmware-small agent-microbit agent-microbit --bin agent-microbit $(small)
        optional_program thumbv7m-none-eabi firmware agent-mps2 agent-mps2-an385 --bin agent-mps2
        optional_program thumbv8m.main-none-eabi firmware agent-mps2 agent-mps2-an505 --bin agent-mps2
        # The vector kernels need the core's name.
        cpu=cortex-m55
        optional_program thumbv8m.main-none-eabihf firmware agent-mps2 agent-mps3-an547 --bin agent-mps2
        cpu=
        # The board is read where the firmware's build script runs.
        QMEND_MPS2=an500
        export QMEND_MPS2
        program thumbv7em-none-eabi firmware agent-mps2 agent-mps2-an500 --bin agent-mps2
        ;;
    --boards)
        for entry in nrf52840-dk:thumbv7em nucleo-f411re:thumbv7em pico:thumbv6m; do
            board=${entry%:*}
            optional_program "${entry#*:}-none-eabi" firmware-small "agent-$board" "agent-$board" \
                --bin "agent-$board" --no-default-features --features "all-operators,fast,$board"
        done
        ;;
    --rtt)
        program thumbv7em-none-eabi firmware agent-netduinoplus2 agent-netduinoplus2-rtt --bin agent-netduinoplus2 --features rtt
        program thumbv7em-none-eabi firmware-small agent-stm32f405 agent-stm32f405-rtt --bin agent-stm32f405 --features rtt
        ;;
    --self-test)
        QMEND_SELF_TEST_AT_BOOT=1
        export QMEND_SELF_TEST_AT_BOOT
        program thumbv7em-none-eabi firmware-small agent-stm32f405 agent-stm32f405-self-test --bin agent-stm32f405
        ;;
    --operators)
        [ -n "${2:-}" ] || fail "--operators takes a list: conv2d,softmax,..."
        custom "${3:-microbit}" "$2" "agent-${3:-microbit}-custom"
        ;;
    --sizes)
        echo "| operators | micro:bit | STM32F405 |"
        echo "|---|---:|---:|"
        sizes "all 18" all-operators
        sizes "the demo model's" conv2d,mean,fully-connected
        sizes "ResNet-8's" conv2d,add,average-pool,reshape,fully-connected,softmax
        sizes "DS-CNN's" conv2d,depthwise-conv2d,average-pool,reshape,fully-connected,softmax
        ;;
    *)
        fail "'$1' is not an argument of this script; see its head"
        ;;
esac
