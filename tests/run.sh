#!/usr/bin/env bash
# Runs everything: installs what the emulated device needs, builds the firmware, checks format and
# lints, and runs all tests (with burn-ndarray, which is compared with burn-flex). What is skipped is listed at the end. With CI=true, a missing emulator
# or firmware is a failure, and so is a skipped test whose data is there.
#
#   tests/run.sh            all of it
#   tests/run.sh --quick    no lints
set -uo pipefail

cd "$(dirname "$0")/.."
ci=${CI:-false}
[ "$ci" = 1 ] && ci=true
quick=false
[ "${1:-}" = --quick ] && quick=true

failed=()
skipped=()
step() {
    local name=$1 begin=$SECONDS
    shift
    echo "== $name" >&2
    if "$@"; then
        echo "== $name: ok, $((SECONDS - begin)) s" >&2
    else
        echo "== $name: FAILED, $((SECONDS - begin)) s" >&2
        failed+=("$name")
        return 1
    fi
}

device=true
step "device tools" tests/setup-device.sh || device=false
if $device; then
    # An old firmware would test an old engine.
    rm -f target-firmware/*.elf
    step "firmware" firmware/build.sh || device=false
    # Boards that no emulator models are built all the same.
    $device && { step "firmware of further boards" firmware/build.sh --boards || device=false; }
    $device && { step "firmware for the debug port" firmware/build.sh --rtt || device=false; }
    $device && { step "firmware with self-tests at the start" firmware/build.sh --self-test || device=false; }
    # The test key of RFC 8410: its private half is public.
    $device && { step "firmware with a key" env QMEND_PUBLIC_KEY="$PWD/tests/keys/rfc8410.pub" firmware/build.sh || device=false; }
    $device && { step "kernels' check and benchmark" firmware/build.sh --kernels || device=false; }
fi
if ! $device && [ "$ci" != true ]; then
    # Said above what is missing; the tests that need it say so again.
    failed=()
    skipped+=("everything on the emulated device")
fi

if ! tests/python/setup.sh; then
    if [ "$ci" = true ]; then failed+=("Python's packages"); else skipped+=("LiteRT, TFLM, Unicorn: python3 with the packages of tests/python/setup.sh"); fi
fi

if ! $quick; then
    if cargo fmt --version >/dev/null 2>&1; then
        step "format" cargo fmt --all -- --check -l
    else
        skipped+=("format: rustup component add rustfmt")
    fi
    if cargo clippy --version >/dev/null 2>&1; then
        step "lints" cargo clippy --release --workspace --all-targets --features qmend/ndarray --locked --quiet -- -D warnings
        # Debian's way has no clippy for the target; the lints of the portable part are above.
        case $(firmware/build.sh --which 2>/dev/null) in
        rustup*)
            step "firmware lints" cargo clippy --release --locked --quiet -p qmend-firmware --lib --bins --examples \
                --target thumbv7em-none-eabi --target-dir target-firmware/rustup -- -D warnings
            # Kernels and ports of other cores, where their targets are there.
            for entry in thumbv6m-none-eabi: riscv32imac-unknown-none-elf: thumbv8m.main-none-eabihf:cortex-m55; do
                target=${entry%%:*} cpu=${entry#*:}
                rustup target list --installed | grep -qx "$target" || continue
                step "firmware lints, $target" env "CARGO_TARGET_THUMBV8M_MAIN_NONE_EABIHF_RUSTFLAGS=-C target-cpu=cortex-m55" \
                    cargo clippy --release --locked --quiet -p qmend-firmware --lib --bin bench-mps2 --bin kernels-mps2 \
                    --target "$target" --target-dir "target-firmware/rustup${cpu:+-$cpu}" -- -D warnings
            done
            small="--no-default-features --features all-operators"
            step "firmware lints, small" cargo clippy --release --locked --quiet -p qmend-firmware --bin agent-microbit $small \
                --target thumbv6m-none-eabi --target-dir target-firmware/rustup -- -D warnings
            step "firmware lints, further boards" cargo clippy --release --locked --quiet -p qmend-firmware --lib --bins $small,nrf52840-dk,nucleo-f411re \
                --target thumbv7em-none-eabi --target-dir target-firmware/rustup -- -D warnings
            step "firmware lints, Pico" cargo clippy --release --locked --quiet -p qmend-firmware --lib --bin agent-pico $small,pico \
                --target thumbv6m-none-eabi --target-dir target-firmware/rustup -- -D warnings
            ;;
        esac
    else
        skipped+=("lints: rustup component add clippy")
    fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
run_tests() {
    # The output of tests that pass is shown too: it holds what they measured and what they skipped.
    cargo test --release --workspace --features qmend/ndarray --locked --no-fail-fast -- --show-output 2>&1 | tee "$log"
}
step "tests" run_tests
step "tests, small portable kernels" cargo test --release --locked --quiet -p qmend-shared --no-default-features --features all-operators
if $device; then step "instruction counts" tests/bench-device.sh --check >/dev/null; fi
while IFS= read -r line; do skipped+=("$line"); done < <(grep SKIPPED "$log" | sort -u)

if [ ${#skipped[@]} -gt 0 ]; then
    echo "skipped:" >&2
    printf '  %s\n' "${skipped[@]}" >&2
    if [ "$ci" = true ] && [ -d ../shared/data ]; then
        failed+=("nothing may be skipped here")
    fi
fi
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[*]}"
    exit 1
fi
echo "all passed in $SECONDS s, ${#skipped[@]} skipped"
