@ Inner loops for cores with Thumb-1 alone (Cortex-M0, M0+, M23). Called from `conv.rs`,
@ `depthwise.rs` and `fully_connected.rs`, which document the arguments. Activations are 32-bit
@ numbers for 8-bit weights, pairs of 16-bit numbers for fields. Only r0-r7 multiply; sums are in
@ r8-r11, which an addition reaches.

.syntax unified

.set B_X, 0
.set B_X_END, 4
.set B_W, 8
.set B_RECORDS, 12
.set B_COUNT, 16
.set B_OUT, 20
.set B_STRIDE, 24
.set B_SKIP, 28
.set B_ACC, 32
.set B_SUMS, 48

.macro QMEND_PUSH
    push    {r4, r5, r6, r7, lr}
    mov     r4, r8
    mov     r5, r9
    mov     r6, r10
    mov     r7, r11
    push    {r4, r5, r6, r7}
.endm

.macro QMEND_POP
    pop     {r4, r5, r6, r7}
    mov     r8, r4
    mov     r9, r5
    mov     r10, r6
    mov     r11, r7
    pop     {r4, r5, r6, r7, pc}
.endm

@ Four products with the weight in r7.
.macro QMEND_MAC
    muls    r1, r7, r1
    add     r8, r1
    muls    r2, r7, r2
    add     r9, r2
    muls    r3, r7, r3
    add     r10, r3
    muls    r4, r7, r4
    add     r11, r4
.endm

@ Four inputs of four positions with one channel's 8-bit weights: 43 instructions for 16 products.
.macro QMEND_DOT_8
    ldm     r5!, {r6}
    ldm     r0!, {r1, r2, r3, r4}
    sxtb    r7, r6
    QMEND_MAC
    ldm     r0!, {r1, r2, r3, r4}
    lsls    r7, r6, #16
    asrs    r7, r7, #24
    QMEND_MAC
    ldm     r0!, {r1, r2, r3, r4}
    lsls    r7, r6, #8
    asrs    r7, r7, #24
    QMEND_MAC
    ldm     r0!, {r1, r2, r3, r4}
    asrs    r7, r6, #24
    QMEND_MAC
.endm

@ Scales the sum in r0: r4, r5 lower 16 and upper 15 bits of the mantissa, r6 2^(shift-1) and the zero
@ point, r7 shift. With the sum a * 2^16 + b, b signed, the upper word of twice the product is
@ 2 * a * r5 + (a * r4 + b * r5 + (b * r4 >> 16)) / 2^15, of which the fraction's first bit, left in the
@ carry by the shift, rounds. Sums are below 2^29, so that nothing leaves 32 bits.
.macro QMEND_SCALE
    sxth    r1, r0
    subs    r0, r0, r1
    asrs    r0, r0, #16
    movs    r2, r1
    muls    r2, r4, r2
    asrs    r2, r2, #16
    movs    r3, r0
    muls    r3, r4, r3
    adds    r2, r2, r3
    muls    r1, r5, r1
    adds    r2, r2, r1
    muls    r0, r5, r0
    lsls    r0, r0, #1
    asrs    r2, r2, #15
    adcs    r0, r2
    asrs    r1, r0, #31
    adds    r0, r0, r1
    adds    r0, r0, r6
    asrs    r0, r7
    sxtb    r1, r0
    cmp     r1, r0
    beq     77f
    asrs    r0, r0, #31
    movs    r1, #127
    eors    r0, r1
77:
.endm

@ Splits the mantissa in r5.
.macro QMEND_SPLIT
    uxth    r4, r5
    lsrs    r5, r5, #16
.endm

@ Scales one column's sum and writes it: r12 the output, advanced by the stride at the stack's top.
.macro QMEND_STORE acc
    mov     r0, \acc
    QMEND_SCALE
    mov     r1, r12
    strb    r0, [r1]
    ldr     r2, [sp]
    add     r12, r2
.endm

@ What is behind an output channel's sums: r8-r11 sums without bias, r3 the block.
.macro QMEND_FINISH next, leave
    ldr     r0, [r3, #B_RECORDS]
    str     r5, [r3, #B_W]
    ldm     r0!, {r4, r5, r6, r7}
    str     r0, [r3, #B_RECORDS]
    cmp     r7, #0
    bge     71f
    b       \leave
71:
    add     r8, r4
    add     r9, r4
    add     r10, r4
    add     r11, r4
    QMEND_SPLIT
    ldr     r0, [r3, #B_OUT]
    mov     r12, r0
    adds    r0, r0, #1
    str     r0, [r3, #B_OUT]
    ldr     r0, [r3, #B_STRIDE]
    push    {r0, r3}
    QMEND_STORE r8
    QMEND_STORE r9
    QMEND_STORE r10
    QMEND_STORE r11
    pop     {r0, r3}
    ldr     r0, [r3, #B_COUNT]
    subs    r0, r0, #1
    str     r0, [r3, #B_COUNT]
    beq     72f
    ldr     r5, [r3, #B_W]
    b       \next
72:
.endm

@ Leaves the sums to Rust.
.macro QMEND_BY_HAND
    adds    r3, r3, #B_ACC
    mov     r4, r8
    mov     r5, r9
    mov     r6, r10
    mov     r7, r11
    stm     r3!, {r4, r5, r6, r7}
.endm

.section .text.qmend_conv_8, "ax", %progbits
.global qmend_conv_8
.p2align 2
.type qmend_conv_8, %function
.thumb_func
qmend_conv_8:
    QMEND_PUSH
    mov     lr, r0
    mov     r3, r0
    ldr     r5, [r3, #B_W]
1:
    movs    r0, #0
    mov     r8, r0
    mov     r9, r0
    mov     r10, r0
    mov     r11, r0
    ldr     r0, [r3, #B_X_END]
    mov     r12, r0
    ldr     r1, [r3, #B_SKIP]
    ldr     r0, [r3, #B_X]
    lsrs    r1, r1, #1
    bcc     2f
    b       3f
2:
    QMEND_DOT_8
3:
    QMEND_DOT_8
    cmp     r0, r12
    bne     2b
    mov     r3, lr
    QMEND_FINISH 1b, 4f
    b       5f
4:
    QMEND_BY_HAND
5:
    QMEND_POP

@ The fields of r6 that are lowest, as two halfwords in r7; r12 mask. A column holds, of each four
@ activations a b c d plus 128, the words c + a * 2^16 and d + b * 2^16. The product with a pair of
@ fields (a in the lower half, c in the upper one) has a * a + c * c in its upper half (below 2^13)
@ and a * c in its lower half (below 2^12): eight of them can be summed before the upper half is
@ added to the sum, which is on the stack.
.macro QMEND_FIELD
    ldm     r0!, {r1, r2, r3, r4}
    mov     r7, r12
    ands    r7, r6
.endm

.macro QMEND_PAIR shift
    lsrs    r6, r6, #\shift
    QMEND_FIELD
    QMEND_MAC
.endm

.macro QMEND_PAIR_0
    ldm     r5!, {r6}
    QMEND_FIELD
    QMEND_MAC
.endm

.macro QMEND_PAIR_FRESH
    ldm     r5!, {r6}
    QMEND_FIELD
    muls    r1, r7, r1
    mov     r8, r1
    muls    r2, r7, r2
    mov     r9, r2
    muls    r3, r7, r3
    mov     r10, r3
    muls    r4, r7, r4
    mov     r11, r4
.endm

.macro QMEND_FLUSH_ONE acc, at
    mov     r1, \acc
    lsrs    r1, r1, #16
    ldr     r2, [sp, #\at]
    adds    r2, r2, r1
    str     r2, [sp, #\at]
.endm

.macro QMEND_FLUSH
    QMEND_FLUSH_ONE r8, 0
    QMEND_FLUSH_ONE r9, 4
    QMEND_FLUSH_ONE r10, 8
    QMEND_FLUSH_ONE r11, 12
.endm

@ r3 the block: sums to the stack, registers for a channel.
.macro QMEND_FIELDS_CHANNEL
    movs    r0, #B_SUMS
    adds    r0, r0, r3
    ldm     r0!, {r1, r2, r4, r6}
    str     r1, [sp, #0]
    str     r2, [sp, #4]
    str     r4, [sp, #8]
    str     r6, [sp, #12]
    ldr     r0, [sp, #20]
    mov     r12, r0
    ldr     r0, [r3, #B_X_END]
    mov     lr, r0
    ldr     r0, [r3, #B_X]
.endm

.macro QMEND_FIELDS_FINISH next, leave
    ldr     r0, [sp, #0]
    ldr     r1, [sp, #4]
    ldr     r2, [sp, #8]
    ldr     r3, [sp, #12]
    mov     r8, r0
    mov     r9, r1
    mov     r10, r2
    mov     r11, r3
    ldr     r3, [sp, #16]
    QMEND_FINISH \next, \leave
.endm

.section .text.qmend_conv_4, "ax", %progbits
.global qmend_conv_4
.p2align 2
.type qmend_conv_4, %function
.thumb_func
qmend_conv_4:
    QMEND_PUSH
    sub     sp, #24
    str     r0, [sp, #16]
    ldr     r1, 9f
    str     r1, [sp, #20]
    mov     r3, r0
    ldr     r5, [r3, #B_W]
1:
    QMEND_FIELDS_CHANNEL
    mov     r1, lr
    subs    r1, r1, r0
    lsrs    r1, r1, #7
    bcs     8f
    b       2f
8:  @ Eight inputs, where sixteen do not divide.
    QMEND_PAIR_FRESH
    QMEND_PAIR 4
    QMEND_PAIR 4
    QMEND_PAIR 4
    QMEND_FLUSH
    cmp     r0, lr
    beq     3f
    b       2f
    .p2align 2
9:
    .word   0x000f000f
2:  @ Sixteen inputs.
    QMEND_PAIR_FRESH
    QMEND_PAIR 4
    QMEND_PAIR 4
    QMEND_PAIR 4
    QMEND_PAIR_0
    QMEND_PAIR 4
    QMEND_PAIR 4
    QMEND_PAIR 4
    QMEND_FLUSH
    cmp     r0, lr
    beq     3f
    b       2b
3:
    QMEND_FIELDS_FINISH 1b, 4f
    b       5f
4:
    QMEND_BY_HAND
5:
    add     sp, #24
    QMEND_POP

.section .text.qmend_conv_2, "ax", %progbits
.global qmend_conv_2
.p2align 2
.type qmend_conv_2, %function
.thumb_func
qmend_conv_2:
    QMEND_PUSH
    sub     sp, #24
    str     r0, [sp, #16]
    ldr     r1, 9f
    str     r1, [sp, #20]
    mov     r3, r0
    ldr     r5, [r3, #B_W]
    b       1f
    .p2align 2
9:
    .word   0x00030003
1:
    QMEND_FIELDS_CHANNEL
2:  @ Sixteen inputs.
    QMEND_PAIR_FRESH
    QMEND_PAIR 2
    QMEND_PAIR 2
    QMEND_PAIR 2
    QMEND_PAIR 2
    QMEND_PAIR 2
    QMEND_PAIR 2
    QMEND_PAIR 2
    QMEND_FLUSH
    cmp     r0, lr
    beq     3f
    b       2b
3:
    QMEND_FIELDS_FINISH 1b, 4f
    b       5f
4:
    QMEND_BY_HAND
5:
    add     sp, #24
    QMEND_POP

@ Spreads activations: r0 source, r1 groups of four (at least one), r2 destination, r3 zero point.
.macro QMEND_SPREAD name, step
.section .text.\name, "ax", %progbits
.global \name
.p2align 2
.type \name, %function
.thumb_func
\name:
    push    {r4, r5, lr}
1:
    ldrb    r4, [r0, #0]
    ldrb    r5, [r0, #1]
    sxtb    r4, r4
    sxtb    r5, r5
    subs    r4, r4, r3
    subs    r5, r5, r3
    str     r4, [r2, #0]
    str     r5, [r2, #\step]
    ldrb    r4, [r0, #2]
    ldrb    r5, [r0, #3]
    sxtb    r4, r4
    sxtb    r5, r5
    subs    r4, r4, r3
    subs    r5, r5, r3
    str     r4, [r2, #2 * \step]
    str     r5, [r2, #3 * \step]
    adds    r0, #4
    adds    r2, #4 * \step
    subs    r1, #1
    bne     1b
    pop     {r4, r5, pc}
.endm

QMEND_SPREAD qmend_spread, 16
QMEND_SPREAD qmend_spread_row, 4

@ The same in pairs, with 128 added: of the bytes a b c d, c + a * 2^16 and d + b * 2^16. Returns the
@ sum of the words, whose halves hold the sums of up to 256 words. r3: 0x00ff00ff; the source is
@ aligned.
.macro QMEND_SPREAD_PAIRS name, step
.section .text.\name, "ax", %progbits
.global \name
.p2align 2
.type \name, %function
.thumb_func
\name:
    push    {r4, r5, r6, r7, lr}
    movs    r7, #0
    mov     r12, r7
    movs    r6, #16
    ldr     r7, 9f
1:
    ldm     r0!, {r4}
    eors    r4, r7
    rors    r4, r6
    lsrs    r5, r4, #8
    ands    r4, r3
    ands    r5, r3
    str     r4, [r2, #0]
    str     r5, [r2, #\step]
    add     r12, r4
    add     r12, r5
    adds    r2, #2 * \step
    subs    r1, #1
    bne     1b
    mov     r0, r12
    pop     {r4, r5, r6, r7, pc}
    .p2align 2
9:
    .word   0x80808080
.endm

QMEND_SPREAD_PAIRS qmend_spread_pairs, 16
QMEND_SPREAD_PAIRS qmend_spread_row_pairs, 4
