#!/usr/bin/env bash
# Counts instructions of the kernels on emulated Cortex-M0+, M3, M4 and M55 and compares them with
# CMSIS-NN's; of the portable ones on RISC-V too. Output: the Markdown of docs/kernels.md, on stdout.
#
#   tests/bench-device.sh             build, measure, print
#   tests/bench-device.sh --check     and fail where a count is more than 2 % above the recorded one
#                                     (same compiler), or above the bar (another compiler)
#   tests/bench-device.sh --record    and write the counts to tests/instructions.txt
#
# Every layer's output is compared with the portable kernels' byte for byte; a difference fails too.
# Whole models: firmware/examples/data/fashion.qmend, the same network at 8 bits, and those of ../shared/data where that is there.
set -euo pipefail

cd "$(dirname "$0")/.."
mode=${1:-}
case $mode in
"" | --check | --record) ;;
*) echo "bench-device.sh: no such option: $mode" >&2; exit 2 ;;
esac
qemu=${QMEND_QEMU:-qemu-system-arm}
command -v "$qemu" >/dev/null || { echo "bench-device.sh: $qemu is not there (Debian: apt-get install qemu-system-arm)" >&2; exit 2; }
firmware/build.sh --kernels >/dev/null
compiler=$(firmware/build.sh --which | grep -o 'rustc [0-9.]*')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
record=tests/instructions.txt

# Instructions per multiply-accumulate of CMSIS-NN at commit 99f736a6, arm-none-eabi-gcc 12.2 -Ofast, measured
# on the same machines in the same way: layer, M0+, M3, M4, M55. And the most that ours may take of it.
cat >"$work/cmsis" <<'TABLE'
conv3x3_3-16@32x32 11.712 5.446 4.824 1.355
conv3x3_16-16@32x32 7.558 3.334 2.326 0.388
conv3x3_16-32_s2@32x32 7.134 3.061 2.136 0.329
conv3x3_32-32@16x16 6.704 2.870 1.925 0.253
conv3x3_64-64@8x8 6.333 2.671 1.761 0.206
conv1x1_16-32_s2@32x32 12.517 5.107 4.294 1.079
conv1x1_64-64@25x5 7.559 3.109 2.088 0.396
depthwise3x3_64@25x5 35.666 9.365 8.327 2.317
depthwise3x3_8@48x48 39.996 10.827 9.953 5.207
fc640-128 6.184 3.434 1.953 0.489
fc64-10 8.062 4.312 2.750 1.025
s4_conv3x3_16-16@32x32 8.875 3.513 4.092 0.560
s4_conv3x3_64-64@8x8 7.798 2.906 3.514 0.335
s4_conv1x1_64-64@25x5 10.410 3.902 3.749 0.640
TABLE

# Core, machine, program, folder.
emulate() {
    local program=$qemu arguments=()
    if [ "$1" = rv32imac ]; then program=$qemu_riscv arguments=(-bios none); fi
    (cd "$4" && timeout 300 "$program" -M "$2" "${arguments[@]}" -nodefaults -display none -monitor none -serial none \
        -semihosting-config enable=on,target=native -icount shift=0 -kernel "$3" </dev/null 2>&1) | sed 's/\r$//' | grep -v 'nic lan9118'
}
cores="cortex-m0plus:mps2-an385 cortex-m3:mps2-an385 cortex-m4:mps2-an386"
# Cores whose compiler or emulator may be absent.
qemu_riscv=${QMEND_QEMU_RISCV32:-qemu-system-riscv32}
for entry in cortex-m55:mps3-an547 rv32imac:virt; do
    core=${entry%%:*}
    if [ ! -f "target-firmware/bench-$core.elf" ]; then
        echo "SKIPPED $core: no compiler, see firmware/build.sh --kernels" >&2
    elif [ "$core" = rv32imac ] && ! command -v "$qemu_riscv" >/dev/null; then
        echo "SKIPPED $core: $qemu_riscv is not there (Debian: apt-get install qemu-system-misc)" >&2
    else
        cores="$cores $entry"
    fi
done

# Images of whole models.
mkdir -p "$work/models"
cp firmware/examples/data/fashion.qmend "$work/models/demo_4bit.qmend"
cli=target/release/qmend
[ -x "$cli" ] || cargo build --release --quiet --locked -p qmend
assets=host/assets
"$cli" quantize $assets/fmnist_cnn.onnx --data $assets/t10k-images-idx3-ubyte.gz:0..256 --scale 1/255 --weights 8 \
    -o "$work/models/demo_8bit.qmend" >/dev/null 2>&1
for model in resnet8_cifar10_int8 kws_dscnn_official_int8; do
    file=../shared/data/models/$model.tflite
    if [ ! -f "$file" ]; then
        echo "SKIPPED $model: $file is not there" >&2
    else
        "$cli" export "$file" -o "$work/models/$model.qmend" 2>/dev/null
    fi
done

for entry in $cores; do
    core=${entry%%:*} machine=${entry##*:}
    elf=$PWD/target-firmware/bench-$core.elf
    mkdir -p "$work/$core"
    echo "measuring $core" >&2
    emulate "$core" "$machine" "$elf" "$work/$core" >"$work/$core.out" || { cat "$work/$core.out" >&2; exit 1; }
    for image in "$work"/models/*.qmend; do
        cp "$image" "$work/$core/bench.qmend"
        emulate "$core" "$machine" "$elf" "$work/$core" >"$work/$core.model" || { cat "$work/$core.model" >&2; exit 1; }
        grep '^model ' "$work/$core.model" | sed "s|^model|$(basename "$image" .qmend) $core|" >>"$work/models.out"
    done
    awk -v core="$core" '$1 == "layer" { print core, $2, $4, $6, $8, $10 }' "$work/$core.out" >>"$work/layers"
done
if grep -q DIFFER "$work/layers" "$work/models.out"; then
    grep DIFFER "$work/layers" "$work/models.out" >&2
    echo "bench-device.sh: outputs differ from the portable kernels'" >&2
    exit 1
fi

# Model, digest of its output: the same on every core.
awk '($1 in digest) && digest[$1] != $14 { print $1 ": " $2 " gives other bits than the cores before it"; bad = 1 } { digest[$1] = $14 }
    END { exit bad }' "$work/models.out" >&2 || { echo "bench-device.sh: cores differ" >&2; exit 1; }

echo "Measured with $compiler, \`$("$qemu" --version | head -1)\`; command: \`tests/bench-device.sh\`."
echo
awk -v cmsis="$work/cmsis" '
    BEGIN {
        cores = split("cortex-m0plus cortex-m3 cortex-m4 cortex-m55 rv32imac", core, " ")
        compared = 4
        while ((getline line < cmsis) > 0) {
            split(line, f, " ")
            for (c = 1; c <= compared; c++) bar[core[c], f[1]] = f[c + 1]
        }
        print "| layer | MACs | M0+ | of CMSIS-NN | M3 | of CMSIS-NN | M4 | of CMSIS-NN | M55 | of CMSIS-NN | rv32imac, portable |"
        print "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    }
    !($2 in seen) { seen[$2] = 1; order[++n] = $2; macs[$2] = $3 }
    { count[$1, $2] = $4 }
    END {
        for (i = 1; i <= n; i++) {
            l = order[i]
            row = "| " l " | " macs[l]
            for (c = 1; c <= cores; c++) {
                if (!((core[c], l) in count)) {
                    row = row (c <= compared ? " | - | -" : " | -")
                    continue
                }
                per = count[core[c], l] / macs[l]
                if (c > compared) {
                    row = row sprintf(" | %.2f", per)
                    continue
                }
                ratio = "-"
                if ((core[c], l) in bar) {
                    r = per / bar[core[c], l]
                    ratio = sprintf("%.2f", r)
                    group = l ~ /^s4_/ ? "s4" : "int8"
                    sum[group, c] += log(r); number[group, c]++
                }
                row = row sprintf(" | %.3f | %s", per, ratio)
            }
            print row " |"
        }
        split("int8 s4", groups, " ")
        for (g = 1; g <= 2; g++) {
            row = "| **" groups[g] ", geometric mean** |"
            for (c = 1; c <= compared; c++) row = row (number[groups[g], c] ? sprintf(" | | **%.2f**", exp(sum[groups[g], c] / number[groups[g], c])) : " | | -")
            print row " | |"
        }
    }' "$work/layers"
echo
echo "| model | core | instructions | with the portable kernels | arena, bytes | image, bytes | stack, bytes |"
echo "|---|---|---:|---:|---:|---:|---:|"
awk '{ print "| " $1 " | " $2 " | " $4 " | " $6 " | " $8 " | " $10 " | " ($12 ? $12 : "-") " |" }' "$work/models.out"

{
    echo "# Instructions of each layer, for tests/bench-device.sh --check. Written by --record."
    echo "compiler $compiler"
    awk '{ print $1, $2, $4 }' "$work/layers"
} >"$work/instructions"
case $mode in
--record) cp "$work/instructions" "$record"; echo "wrote $record" >&2 ;;
--check)
    if [ "$(grep '^compiler ' "$record")" = "compiler $compiler" ]; then
        echo "comparing with $record" >&2
        awk 'NR == FNR { if (NF == 3 && $1 ~ /^(cortex|rv32)/) was[$1, $2] = $3; next }
            $1 ~ /^(cortex|rv32)/ {
                if (!(($1, $2) in was)) { print $1, $2 " has no recorded count: tests/bench-device.sh --record"; bad = 1 }
                else if ($3 > was[$1, $2] * 1.02) { print $1, $2 ": " $3 " instructions, " was[$1, $2] " recorded"; bad = 1 }
            }
            END { exit bad }' "$record" "$work/instructions" >&2 || { echo "bench-device.sh: slower than recorded" >&2; exit 1; }
    else
        # Other compilers count otherwise in what is not assembly; the bars hold for all of them.
        echo "the counts were recorded with another compiler than $compiler: comparing with the bars" >&2
        awk 'NR == FNR { cmsis["cortex-m0plus", $1] = $2; cmsis["cortex-m3", $1] = $3; cmsis["cortex-m4", $1] = $4; cmsis["cortex-m55", $1] = $5; next }
            ($1, $2) in cmsis {
                bar = $2 ~ /^s4_/ ? 0.60 : 0.90
                per = $4 / $3
                if (per > cmsis[$1, $2] * bar) { print $1, $2 ": " per " instructions per MAC, CMSIS-NN " cmsis[$1, $2]; bad = 1 }
            }
            END { exit bad }' "$work/cmsis" "$work/layers" >&2 || { echo "bench-device.sh: above the bar" >&2; exit 1; }
    fi
    echo "instruction counts: ok" >&2
    ;;
esac
