@ Depthwise convolution and fully connected layers for Thumb-1; the macros are in `thumb1.s`.

@ Depthwise, any window. Offsets in `Run`. Weights are 32-bit numbers.
.set D_X, 0
.set D_W, 4
.set D_CONSTANTS, 8
.set D_OUT, 12
.set D_COUNT, 16
.set D_X_STEP, 20
.set D_OUT_STEP, 24
.set D_TAP_STEP, 28
.set D_ROW_STEP, 32
.set D_ROWS, 36
.set D_TAPS, 40
.set D_W_SKIP, 44
.set D_ZERO, 48
.set D_SCALE, 52
.set D_ACC, 56

.macro QMEND_LANE weight, acc, at
    ldrb    r6, [r4, #\at]
    sxtb    r6, r6
    subs    r6, r6, r7
    muls    r6, \weight, r6
    add     \acc, r6
.endm

.macro QMEND_STORE_LANE acc, at
    mov     r0, r12
    ldm     r0!, {r5, r6, r7}
    mov     r12, r0
    QMEND_SPLIT
    mov     r0, \acc
    QMEND_SCALE
    ldr     r1, [sp]
    strb    r0, [r1, #\at]
.endm

.section .text.qmend_depthwise, "ax", %progbits
.global qmend_depthwise
.p2align 2
.type qmend_depthwise, %function
.thumb_func
qmend_depthwise:
    QMEND_PUSH
    sub     sp, #8
    mov     lr, r0
    mov     r3, r0
1:
    ldr     r0, [r3, #D_CONSTANTS]
    ldm     r0!, {r4, r5, r6, r7}
    mov     r8, r4
    mov     r9, r5
    mov     r10, r6
    mov     r11, r7
    ldr     r0, [r3, #D_TAP_STEP]
    mov     r12, r0
    ldr     r4, [r3, #D_X]
    ldr     r5, [r3, #D_W]
    ldr     r7, [r3, #D_ZERO]
    ldr     r0, [r3, #D_ROWS]
    str     r0, [sp, #4]
2:
    mov     r3, lr
    ldr     r0, [r3, #D_TAPS]
    str     r0, [sp, #0]
3:
    ldm     r5!, {r0, r1, r2, r3}
    QMEND_LANE r0, r8, 0
    QMEND_LANE r1, r9, 1
    QMEND_LANE r2, r10, 2
    QMEND_LANE r3, r11, 3
    add     r4, r12
    ldr     r6, [sp, #0]
    subs    r6, r6, #1
    str     r6, [sp, #0]
    bne     3b
    mov     r3, lr
    ldr     r0, [r3, #D_ROW_STEP]
    adds    r4, r4, r0
    ldr     r0, [r3, #D_W_SKIP]
    adds    r5, r5, r0
    ldr     r6, [sp, #4]
    subs    r6, r6, #1
    str     r6, [sp, #4]
    bne     2b
    ldr     r0, [r3, #D_SCALE]
    cmp     r0, #0
    bne     4f
    b       8f
4:
    ldr     r0, [r3, #D_CONSTANTS]
    adds    r0, #16
    mov     r12, r0
    ldr     r0, [r3, #D_OUT]
    str     r0, [sp, #0]
    QMEND_STORE_LANE r8, 0
    QMEND_STORE_LANE r9, 1
    QMEND_STORE_LANE r10, 2
    QMEND_STORE_LANE r11, 3
    mov     r3, lr
    ldr     r0, [r3, #D_OUT]
    ldr     r1, [r3, #D_OUT_STEP]
    adds    r0, r0, r1
    str     r0, [r3, #D_OUT]
    ldr     r0, [r3, #D_X]
    ldr     r1, [r3, #D_X_STEP]
    adds    r0, r0, r1
    str     r0, [r3, #D_X]
    ldr     r0, [r3, #D_COUNT]
    subs    r0, r0, #1
    str     r0, [r3, #D_COUNT]
    beq     9f
    b       1b
8:
    adds    r3, #D_ACC
    mov     r4, r8
    mov     r5, r9
    mov     r6, r10
    mov     r7, r11
    stm     r3!, {r4, r5, r6, r7}
9:
    add     sp, #8
    QMEND_POP

@ Fully connected. Offsets in `Product`.
.set F_OFFSET, 0
.set F_X, 4
.set F_BODIES, 8
.set F_REST, 12
.set F_NEXT, 16
.set F_BIAS, 20
.set F_MANTISSAS, 24
.set F_EXPONENTS, 28
.set F_SHIFTS, 32
.set F_ZERO, 36
.set F_OUT, 40
.set F_COUNT, 44
.set F_W, 48
.set F_ACC, 52

@ lr the product, r8 sum, r5 next weights.
.macro QMEND_FC_FINISH next, leave
    mov     r3, lr
    str     r5, [r3, #F_W]
    ldr     r0, [r3, #F_NEXT]
    lsls    r1, r0, #2
    ldr     r2, [r3, #F_BIAS]
    ldr     r2, [r2, r1]
    add     r8, r2
    ldr     r2, [r3, #F_MANTISSAS]
    ldr     r5, [r2, r1]
    ldr     r2, [r3, #F_EXPONENTS]
    ldrsb   r7, [r2, r0]
    rsbs    r7, r7, #0
    subs    r6, r7, #1
    ldr     r1, [r3, #F_SHIFTS]
    cmp     r6, r1
    bhs     75f
    @ Sums of 2^29 and more are left to Rust.
    mov     r1, r8
    asrs    r2, r1, #29
    asrs    r1, r1, #31
    cmp     r1, r2
    bne     75f
    movs    r1, #1
    lsls    r1, r6
    ldr     r6, [r3, #F_ZERO]
    lsls    r6, r7
    adds    r6, r6, r1
    QMEND_SPLIT
    mov     r0, r8
    QMEND_SCALE
    mov     r3, lr
    ldr     r1, [r3, #F_OUT]
    ldr     r2, [r3, #F_NEXT]
    strb    r0, [r1, r2]
    adds    r2, r2, #1
    str     r2, [r3, #F_NEXT]
    ldr     r5, [r3, #F_W]
    ldr     r1, [r3, #F_COUNT]
    cmp     r1, r2
    beq     76f
    b       \next
75:
    b       \leave
76:
.endm

.macro QMEND_FC_BY_HAND
    mov     r0, r8
    str     r0, [r3, #F_ACC]
.endm

.macro QMEND_FC_ROW
    mov     r3, lr
    ldr     r0, [r3, #F_OFFSET]
    mov     r8, r0
    ldr     r1, [r3, #F_BODIES]
    mov     r9, r1
    ldr     r0, [r3, #F_X]
    cmp     r1, #0
.endm

@ Four inputs with 8-bit weights: 16 instructions.
.macro QMEND_FC_8
    ldm     r5!, {r6}
    ldm     r0!, {r1, r2, r3, r4}
    sxtb    r7, r6
    muls    r1, r7, r1
    lsls    r7, r6, #16
    asrs    r7, r7, #24
    muls    r2, r7, r2
    lsls    r7, r6, #8
    asrs    r7, r7, #24
    muls    r3, r7, r3
    asrs    r7, r6, #24
    muls    r4, r7, r4
    adds    r1, r1, r2
    adds    r3, r3, r4
    add     r8, r1
    add     r8, r3
.endm

.section .text.qmend_fc_8, "ax", %progbits
.global qmend_fc_8
.p2align 2
.type qmend_fc_8, %function
.thumb_func
qmend_fc_8:
    QMEND_PUSH
    mov     lr, r0
    ldr     r5, [r0, #F_W]
1:
    QMEND_FC_ROW
    beq     3f
2:
    QMEND_FC_8
    QMEND_FC_8
    QMEND_FC_8
    QMEND_FC_8
    mov     r1, r9
    subs    r1, r1, #1
    mov     r9, r1
    bne     2b
3:
    mov     r3, lr
    ldr     r1, [r3, #F_REST]
    cmp     r1, #0
    beq     5f
    mov     r9, r1
4:
    QMEND_FC_8
    mov     r1, r9
    subs    r1, r1, #1
    mov     r9, r1
    bne     4b
5:
    QMEND_FC_FINISH 1b, 6f
    b       7f
6:
    QMEND_FC_BY_HAND
7:
    QMEND_POP

@ Pairs of a word's fields with r1-r4: r12 mask, r10 sum of pairs.
.macro QMEND_FC_PAIR x, shift
    lsrs    r6, r6, #\shift
    mov     r7, r12
    ands    r7, r6
    muls    \x, r7, \x
    add     r10, \x
.endm

.macro QMEND_FC_PAIR_0
    ldm     r5!, {r6}
    ldm     r0!, {r1, r2, r3, r4}
    mov     r7, r12
    ands    r7, r6
    muls    r1, r7, r1
.endm

.macro QMEND_FC_FLUSH
    mov     r1, r10
    lsrs    r1, r1, #16
    add     r8, r1
.endm

.section .text.qmend_fc_4, "ax", %progbits
.global qmend_fc_4
.p2align 2
.type qmend_fc_4, %function
.thumb_func
qmend_fc_4:
    QMEND_PUSH
    mov     lr, r0
    ldr     r5, [r0, #F_W]
    ldr     r1, 9f
    mov     r12, r1
    b       1f
    .p2align 2
9:
    .word   0x000f000f
1:
    QMEND_FC_ROW
    beq     3f
2:  @ Sixteen inputs.
    QMEND_FC_PAIR_0
    mov     r10, r1
    QMEND_FC_PAIR r2, 4
    QMEND_FC_PAIR r3, 4
    QMEND_FC_PAIR r4, 4
    QMEND_FC_PAIR_0
    add     r10, r1
    QMEND_FC_PAIR r2, 4
    QMEND_FC_PAIR r3, 4
    QMEND_FC_PAIR r4, 4
    QMEND_FC_FLUSH
    mov     r1, r9
    subs    r1, r1, #1
    mov     r9, r1
    bne     2b
3:
    mov     r3, lr
    ldr     r1, [r3, #F_REST]
    cmp     r1, #0
    beq     5f
    QMEND_FC_PAIR_0
    mov     r10, r1
    QMEND_FC_PAIR r2, 4
    QMEND_FC_PAIR r3, 4
    QMEND_FC_PAIR r4, 4
    QMEND_FC_FLUSH
5:
    QMEND_FC_FINISH 1b, 6f
    b       7f
6:
    QMEND_FC_BY_HAND
7:
    QMEND_POP

.section .text.qmend_fc_2, "ax", %progbits
.global qmend_fc_2
.p2align 2
.type qmend_fc_2, %function
.thumb_func
qmend_fc_2:
    QMEND_PUSH
    mov     lr, r0
    ldr     r5, [r0, #F_W]
    ldr     r1, 9f
    mov     r12, r1
    b       1f
    .p2align 2
9:
    .word   0x00030003
1:
    QMEND_FC_ROW
2:  @ Sixteen inputs.
    QMEND_FC_PAIR_0
    mov     r10, r1
    QMEND_FC_PAIR r2, 2
    QMEND_FC_PAIR r3, 2
    QMEND_FC_PAIR r4, 2
    ldm     r0!, {r1, r2, r3, r4}
    QMEND_FC_PAIR r1, 2
    QMEND_FC_PAIR r2, 2
    QMEND_FC_PAIR r3, 2
    QMEND_FC_PAIR r4, 2
    QMEND_FC_FLUSH
    mov     r1, r9
    subs    r1, r1, #1
    mov     r9, r1
    bne     2b
    QMEND_FC_FINISH 1b, 6f
    b       7f
6:
    QMEND_FC_BY_HAND
7:
    QMEND_POP

@ Unpacks 3-bit numbers to 4-bit fields, thirty-two at a time. r0: from, a multiple of four, r1: how
@ often, r2: to.
.macro QMEND_UNPACK_EIGHT packed
    mov     r6, r8
    eors    r6, r6, \packed
    @ Pairs of numbers to bytes.
    lsls    r7, r6, #26
    lsrs    r7, r7, #26
    mov     r12, r7
    lsls    r7, r6, #20
    lsrs    r7, r7, #26
    lsls    r7, r7, #16
    add     r12, r12, r7
    lsls    r7, r6, #14
    lsrs    r7, r7, #26
    lsls    r7, r7, #8
    add     r12, r12, r7
    lsls    r6, r6, #8
    lsrs    r6, r6, #26
    lsls    r6, r6, #24
    add     r6, r6, r12
    @ A number to a field.
    mov     r7, r9
    ands    r7, r7, r6
    @ Twice all of them, less what is to stay.
    adds    r6, r6, r6
    subs    r6, r6, r7
    add     r6, r6, r10
    stm     r2!, {r6}
.endm

.section .text.qmend_unpack_3, "ax", %progbits
.global qmend_unpack_3
.p2align 2
.type qmend_unpack_3, %function
.thumb_func
qmend_unpack_3:
    QMEND_PUSH
    mov     r11, r1
    ldr     r3, 9f
    mov     r8, r3
    ldr     r3, 8f
    mov     r9, r3
    ldr     r3, 7f
    mov     r10, r3
    b       1f
    .p2align 2
9:
    .word   0x00924924
8:
    .word   0x07070707
7:
    .word   0x44444444
1:
    ldm     r0!, {r3, r4, r5}
    QMEND_UNPACK_EIGHT r3
    lsrs    r3, r3, #24
    lsls    r1, r4, #8
    orrs    r3, r3, r1
    QMEND_UNPACK_EIGHT r3
    lsrs    r4, r4, #16
    lsls    r1, r5, #16
    orrs    r4, r4, r1
    QMEND_UNPACK_EIGHT r4
    lsrs    r5, r5, #8
    QMEND_UNPACK_EIGHT r5
    mov     r1, r11
    subs    r1, r1, #1
    mov     r11, r1
    beq     2f
    b       1b
2:
    QMEND_POP
