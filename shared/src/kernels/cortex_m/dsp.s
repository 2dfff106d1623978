@ Inner loops for cores with the DSP extension (Cortex-M4, M7, M33). Called from `conv.rs`, which
@ documents `Block` and the order of its activations.

@ Offsets in `Block`.
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
.set B_ENTRY, 64
.set B_GO, 68

@ Four inputs of four positions with one channel's 8-bit weights: 13 instructions for 16 products.
@ r0-r3 accumulators, r4 activations, r5 weights.
.macro QMEND_DOT_8
    ldr.w   r8, [r5], #4
    ldmia.w r4!, {r9, r10, r11, r12}
    sxtb16  lr, r8
    smlad   r0, lr, r9, r0
    smlad   r1, lr, r10, r1
    smlad   r2, lr, r11, r2
    smlad   r3, lr, r12, r3
    ldmia.w r4!, {r9, r10, r11, r12}
    sxtb16  lr, r8, ror #8
    smlad   r0, lr, r9, r0
    smlad   r1, lr, r10, r1
    smlad   r2, lr, r11, r2
    smlad   r3, lr, r12, r3
.endm

@ Two inputs with the fields of r8 that lie `shift` bits up.
.macro QMEND_DOT_FIELDS shift
    ldmia.w r4!, {r9, r10, r11, r12}
    and.w   lr, r7, r8, lsr #\shift
    smlad   r0, lr, r9, r0
    smlad   r1, lr, r10, r1
    smlad   r2, lr, r11, r2
    smlad   r3, lr, r12, r3
.endm

.macro QMEND_DOT_FIELDS_0
    ldr.w   r8, [r5], #4
    ldmia.w r4!, {r9, r10, r11, r12}
    and.w   lr, r7, r8
    smlad   r0, lr, r9, r0
    smlad   r1, lr, r10, r1
    smlad   r2, lr, r11, r2
    smlad   r3, lr, r12, r3
.endm

@ Eight inputs with 4-bit weights: 25 instructions for 32 products. r7 = 0x000f000f.
.macro QMEND_DOT_4
    QMEND_DOT_FIELDS_0
    QMEND_DOT_FIELDS 4
    QMEND_DOT_FIELDS 8
    QMEND_DOT_FIELDS 12
.endm

@ Sixteen inputs with 2-bit weights. r7 = 0x00030003.
.macro QMEND_DOT_2
    QMEND_DOT_FIELDS_0
    QMEND_DOT_FIELDS 2
    QMEND_DOT_FIELDS 4
    QMEND_DOT_FIELDS 6
    QMEND_DOT_FIELDS 8
    QMEND_DOT_FIELDS 10
    QMEND_DOT_FIELDS 12
    QMEND_DOT_FIELDS 14
.endm

@ Scales one accumulator: doubling high multiply with rounding, then a shift that rounds half away
@ from zero. r10 mantissa, r11 2^(shift-1) and the zero point, r12 shift.
.macro QMEND_SCALE acc
    lsl.w   \acc, \acc, #1
    smmulr  \acc, \acc, r10
    add.w   \acc, \acc, \acc, asr #31
    add.w   \acc, \acc, r11
    asr.w   \acc, \acc, r12
    ssat    \acc, #8, \acc
.endm

@ What is behind an output channel's sum: r0-r3 sums, r7 the block.
.macro QMEND_FINISH next, leave
    ldr.w   r8, [r7, #B_RECORDS]
    ldmia.w r8!, {r9, r10, r11, r12}
    str.w   r5, [r7, #B_W]
    str.w   r8, [r7, #B_RECORDS]
    cmp     r12, #0
    blt     \leave
    QMEND_SCALE r0
    QMEND_SCALE r1
    QMEND_SCALE r2
    QMEND_SCALE r3
    ldrd    r8, r9, [r7, #B_OUT]
    strb.w  r1, [r8, r9]
    strb.w  r2, [r8, r9, lsl #1]
    add.w   r10, r9, r9, lsl #1
    strb.w  r3, [r8, r10]
    strb.w  r0, [r8], #1
    str.w   r8, [r7, #B_OUT]
    ldr.w   r8, [r7, #B_COUNT]
    subs.w  r8, r8, #1
    str.w   r8, [r7, #B_COUNT]
    bne     \next
.endm

@ Leaves, with the channel's sums in the block where Rust is to finish it (its record's shift is
@ negative).
.macro QMEND_RETURN
    pop     {r4, r5, r6, r7, r8, r9, r10, r11, pc}
.endm

.macro QMEND_ENTER copy_bytes, loop
    push    {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    mov     r7, r0
    ldr     r6, [r7, #B_X_END]
    ldr     r5, [r7, #B_W]
    @ The first round skips as many copies of the loop's body as do not divide.
    adr.w   r1, \loop
    ldr     r2, [r7, #B_SKIP]
    movs    r3, #\copy_bytes
    mul     r2, r2, r3
    add     r1, r1, r2
    adds    r1, #1
    str     r1, [r7, #B_ENTRY]
.endm

.section .text.qmend_conv_8, "ax", %progbits
.global qmend_conv_8
.p2align 2
.type qmend_conv_8, %function
.thumb_func
qmend_conv_8:
    QMEND_ENTER 52, 2f
1:
    ldr.w   r8, [r7, #B_RECORDS]
    ldr.w   r0, [r8]
    mov     r1, r0
    mov     r2, r0
    mov     r3, r0
    ldr     r4, [r7, #B_X]
    ldr.w   pc, [r7, #B_ENTRY]
    .p2align 2
2:
    QMEND_DOT_8
    QMEND_DOT_8
    QMEND_DOT_8
    QMEND_DOT_8
    cmp     r4, r6
    bne     2b
    QMEND_FINISH 1b, 3f
    QMEND_RETURN
3:
    add.w   r8, r7, #B_ACC
    stmia.w r8, {r0, r1, r2, r3}
    QMEND_RETURN

.macro QMEND_CONV_FIELDS name, mask, dot, copy_bytes
.section .text.\name, "ax", %progbits
.global \name
.p2align 2
.type \name, %function
.thumb_func
\name:
    QMEND_ENTER \copy_bytes, 2f
    sub     sp, #8
    str     r7, [sp]
1:
    ldr.w   r9, [r7, #B_RECORDS]
    add.w   r8, r7, #B_SUMS
    ldr.w   r9, [r9]
    ldmia.w r8, {r0, r1, r2, r3}
    add     r0, r9
    add     r1, r9
    add     r2, r9
    add     r3, r9
    ldr     r4, [r7, #B_X]
    ldr.w   r8, [r7, #B_ENTRY]
    mov.w   r7, #\mask
    bx      r8
    .p2align 2
2:
    \dot
    \dot
    \dot
    \dot
    cmp     r4, r6
    bne.w   2b
    ldr     r7, [sp]
    QMEND_FINISH 1b, 3f
    add     sp, #8
    QMEND_RETURN
3:
    add.w   r8, r7, #B_ACC
    stmia.w r8, {r0, r1, r2, r3}
    add     sp, #8
    QMEND_RETURN
.endm

QMEND_CONV_FIELDS qmend_conv_4, 0x000f000f, QMEND_DOT_4, 100
QMEND_CONV_FIELDS qmend_conv_2, 0x00030003, QMEND_DOT_2, 196

@ Spreads activations: r0 source, r1 groups of four (at least one), r2 destination, r3 minus the
@ zero point in both halfwords.
.section .text.qmend_spread, "ax", %progbits
.global qmend_spread
.p2align 2
.type qmend_spread, %function
.thumb_func
qmend_spread:
    push    {r4, lr}
    lsrs    r4, r1, #1
    bcc     1f
    ldr     r12, [r0], #4
    sxtab16 lr, r3, r12
    sxtab16 r12, r3, r12, ror #8
    str     lr, [r2], #16
    str     r12, [r2], #16
    cbz     r4, 2f
1:
    ldr     r12, [r0], #4
    sxtab16 lr, r3, r12
    sxtab16 r12, r3, r12, ror #8
    str     lr, [r2], #16
    str     r12, [r2], #16
    ldr     r12, [r0], #4
    sxtab16 lr, r3, r12
    sxtab16 r12, r3, r12, ror #8
    str     lr, [r2], #16
    str     r12, [r2], #16
    subs    r4, #1
    bne     1b
2:
    pop     {r4, pc}

@ Sums of the four columns: r0 activations, r1 their end, r2 four sums to write.
.section .text.qmend_column_sums, "ax", %progbits
.global qmend_column_sums
.p2align 2
.type qmend_column_sums, %function
.thumb_func
qmend_column_sums:
    push    {r4, r5, r6, r7, r8, r9, r10, lr}
    mov.w   lr, #0x00010001
    movs    r4, #0
    movs    r5, #0
    movs    r6, #0
    movs    r7, #0
1:
    ldmia.w r0!, {r3, r8, r9, r10}
    smlad   r4, lr, r3, r4
    smlad   r5, lr, r8, r5
    smlad   r6, lr, r9, r6
    smlad   r7, lr, r10, r7
    ldmia.w r0!, {r3, r8, r9, r10}
    smlad   r4, lr, r3, r4
    smlad   r5, lr, r8, r5
    smlad   r6, lr, r9, r6
    smlad   r7, lr, r10, r7
    cmp     r0, r1
    bne     1b
    stmia.w r2, {r4, r5, r6, r7}
    pop     {r4, r5, r6, r7, r8, r9, r10, pc}
