@ Inner loops for cores with the DSP extension (Cortex-M4, M7, M33). Called from `conv.rs`,
@ `depthwise.rs` and `fully_connected.rs`, which document the arguments.

.macro QMEND_SCALE acc, t0, t1
    smmulr  \acc, \acc, r10
    add.w   \acc, \acc, \acc, asr #31
    add.w   \acc, \acc, r11
    asr.w   \acc, \acc, r12
    ssat    \acc, #8, \acc
.endm


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

.section .text.qmend_conv_8, "ax", %progbits
.global qmend_conv_8
.p2align 2
.type qmend_conv_8, %function
.thumb_func
qmend_conv_8:
    QMEND_ENTER 52, 2f
1:
    movs    r0, #0
    movs    r1, #0
    movs    r2, #0
    movs    r3, #0
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
    QMEND_LEAVE 1b, 0

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
    add.w   r8, r7, #B_SUMS
    ldmia.w r8, {r0, r1, r2, r3}
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
    QMEND_LEAVE 1b, 8
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

@ Spreads activations as one column without gaps; arguments as above.
.section .text.qmend_spread_row, "ax", %progbits
.global qmend_spread_row
.p2align 2
.type qmend_spread_row, %function
.thumb_func
qmend_spread_row:
    push    {r4, lr}
1:
    ldr     r12, [r0], #4
    sxtab16 r4, r3, r12
    sxtab16 r12, r3, r12, ror #8
    strd    r4, r12, [r2], #8
    subs    r1, #1
    bne     1b
    pop     {r4, pc}

@ As qmend_spread; returns the sum of what was spread.
.section .text.qmend_spread_sum, "ax", %progbits
.global qmend_spread_sum
.p2align 2
.type qmend_spread_sum, %function
.thumb_func
qmend_spread_sum:
    push    {r4, r5, r6, lr}
    mov.w   r6, #0x00010001
    movs    r5, #0
    lsrs    r4, r1, #1
    bcc     1f
    ldr     r12, [r0], #4
    sxtab16 lr, r3, r12
    sxtab16 r12, r3, r12, ror #8
    str     lr, [r2], #16
    str     r12, [r2], #16
    smlad   r5, lr, r6, r5
    smlad   r5, r12, r6, r5
    cbz     r4, 2f
1:
    ldr     r12, [r0], #4
    sxtab16 lr, r3, r12
    sxtab16 r12, r3, r12, ror #8
    str     lr, [r2], #16
    str     r12, [r2], #16
    smlad   r5, lr, r6, r5
    smlad   r5, r12, r6, r5
    ldr     r12, [r0], #4
    sxtab16 lr, r3, r12
    sxtab16 r12, r3, r12, ror #8
    str     lr, [r2], #16
    str     r12, [r2], #16
    smlad   r5, lr, r6, r5
    smlad   r5, r12, r6, r5
    subs    r4, #1
    bne     1b
2:
    mov     r0, r5
    pop     {r4, r5, r6, pc}

@ Products of one tap: r9 four activations, r8 minus the zero point twice, r5 weights.
.macro QMEND_TAP
    ldrd    r11, r12, [r5], #8
    sxtab16 r10, r8, r9
    sxtab16 r9, r8, r9, ror #8
    smlabb  r0, r10, r11, r0
    smlabb  r1, r9, r12, r1
    smlatt  r2, r10, r11, r2
    smlatt  r3, r9, r12, r3
.endm

@ Any window.
.section .text.qmend_depthwise, "ax", %progbits
.global qmend_depthwise
.p2align 2
.type qmend_depthwise, %function
.thumb_func
qmend_depthwise:
    push    {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    mov     r7, r0
    ldr     r6, [r7, #D_TAP_STEP]
    ldr.w   r8, [r7, #D_ZERO]
1:
    ldr.w   r12, [r7, #D_CONSTANTS]
    ldrd    r4, r5, [r7, #D_X]
    ldr     r2, [r7, #D_ROWS]
    push    {r2, r3}
    ldmia.w r12, {r0, r1, r2, r3}
2:
    ldr.w   lr, [r7, #D_TAPS]
3:
    ldr.w   r9, [r4]
    add     r4, r6
    QMEND_TAP
    subs.w  lr, lr, #1
    bne     3b
    ldr.w   r9, [r7, #D_ROW_STEP]
    ldr.w   r10, [r7, #D_W_SKIP]
    add     r4, r9
    add     r5, r10
    ldr.w   r9, [sp]
    subs.w  r9, r9, #1
    str.w   r9, [sp]
    bne     2b
    add     sp, #8
    QMEND_DEPTHWISE_FINISH 1b

@ Rows of exactly three taps.
.section .text.qmend_depthwise_3, "ax", %progbits
.global qmend_depthwise_3
.p2align 2
.type qmend_depthwise_3, %function
.thumb_func
qmend_depthwise_3:
    push    {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    mov     r7, r0
    ldr     r6, [r7, #D_TAP_STEP]
    ldr.w   r8, [r7, #D_ZERO]
1:
    ldr.w   r12, [r7, #D_CONSTANTS]
    ldrd    r4, r5, [r7, #D_X]
    ldr.w   lr, [r7, #D_ROWS]
    ldmia.w r12, {r0, r1, r2, r3}
2:
    ldr.w   r9, [r4]
    QMEND_TAP
    ldr.w   r9, [r4, r6]
    QMEND_TAP
    ldr.w   r9, [r4, r6, lsl #1]
    QMEND_TAP
    ldr.w   r9, [r7, #D_ROW_STEP]
    subs.w  lr, lr, #1
    add     r4, r9
    bne     2b
    QMEND_DEPTHWISE_FINISH 1b

@ Two fields each of a word.
.macro QMEND_FC_FIELDS word, x0, x1, shift
    and.w   r12, lr, \word, lsr #\shift
    smlad   r0, r12, \x0, r0
    and.w   r12, lr, \word, lsr #(\shift + FIELD)
    smlad   r0, r12, \x1, r0
.endm

.macro QMEND_FC_FIELDS_0 word, x0, x1
    and.w   r12, lr, \word
    smlad   r0, r12, \x0, r0
    and.w   r12, lr, \word, lsr #FIELD
    smlad   r0, r12, \x1, r0
.endm

.macro QMEND_FC_WORD_8 word, x0, x1
    sxtb16  r12, \word
    smlad   r0, r12, \x0, r0
    sxtb16  r12, \word, ror #8
    smlad   r0, r12, \x1, r0
.endm

.section .text.qmend_fc_8, "ax", %progbits
.global qmend_fc_8
.p2align 2
.type qmend_fc_8, %function
.thumb_func
qmend_fc_8:
    QMEND_FC_ENTER
1:
    QMEND_FC_ROW
    cbz     r6, 3f
2:  @ Sixteen inputs: 19 instructions and two for the loop.
    ldmia   r5!, {r1, r2, r3, lr}
    ldmia.w r4!, {r8, r9, r10, r11}
    QMEND_FC_WORD_8 r1, r8, r9
    QMEND_FC_WORD_8 r2, r10, r11
    ldmia.w r4!, {r8, r9, r10, r11}
    QMEND_FC_WORD_8 r3, r8, r9
    QMEND_FC_WORD_8 lr, r10, r11
    subs    r6, #1
    bne     2b
3:
    ldr     r6, [r7, #F_REST]
    cbz     r6, 5f
4:
    ldr     r1, [r5], #4
    ldrd    r8, r9, [r4], #8
    QMEND_FC_WORD_8 r1, r8, r9
    subs    r6, #1
    bne     4b
5:
    QMEND_FC_FINISH 1b, 6f
    QMEND_FC_LEAVE
6:
    QMEND_FC_BY_HAND

.set FIELD, 4
.section .text.qmend_fc_4, "ax", %progbits
.global qmend_fc_4
.p2align 2
.type qmend_fc_4, %function
.thumb_func
qmend_fc_4:
    QMEND_FC_ENTER
    mov.w   lr, #0x000f000f
1:
    QMEND_FC_ROW
    cmp     r6, #0
    beq     3f
2:  @ 32 inputs: 37 instructions and two for the loop.
    ldmia   r5!, {r1, r2, r3}
    ldmia.w r4!, {r8, r9, r10, r11}
    QMEND_FC_FIELDS_0 r1, r8, r9
    QMEND_FC_FIELDS r1, r10, r11, 8
    ldmia.w r4!, {r8, r9, r10, r11}
    ldr     r1, [r5], #4
    QMEND_FC_FIELDS_0 r2, r8, r9
    QMEND_FC_FIELDS r2, r10, r11, 8
    ldmia.w r4!, {r8, r9, r10, r11}
    QMEND_FC_FIELDS_0 r3, r8, r9
    QMEND_FC_FIELDS r3, r10, r11, 8
    ldmia.w r4!, {r8, r9, r10, r11}
    QMEND_FC_FIELDS_0 r1, r8, r9
    QMEND_FC_FIELDS r1, r10, r11, 8
    subs    r6, #1
    bne     2b
3:
    ldr     r6, [r7, #F_REST]
    cbz     r6, 5f
4:
    ldr     r1, [r5], #4
    ldmia.w r4!, {r8, r9, r10, r11}
    QMEND_FC_FIELDS_0 r1, r8, r9
    QMEND_FC_FIELDS r1, r10, r11, 8
    subs    r6, #1
    bne     4b
5:
    QMEND_FC_FINISH 1b, 6f
    QMEND_FC_LEAVE
6:
    QMEND_FC_BY_HAND

.macro QMEND_FC_WORD_2 word
    ldmia.w r4!, {r8, r9, r10, r11}
    QMEND_FC_FIELDS_0 \word, r8, r9
    QMEND_FC_FIELDS \word, r10, r11, 4
    ldmia.w r4!, {r8, r9, r10, r11}
    QMEND_FC_FIELDS \word, r8, r9, 8
    QMEND_FC_FIELDS \word, r10, r11, 12
.endm

.set FIELD, 2
.section .text.qmend_fc_2, "ax", %progbits
.global qmend_fc_2
.p2align 2
.type qmend_fc_2, %function
.thumb_func
qmend_fc_2:
    QMEND_FC_ENTER
    mov.w   lr, #0x00030003
1:
    QMEND_FC_ROW
    cmp     r6, #0
    beq     3f
2:
    ldmia   r5!, {r1, r2}
    QMEND_FC_WORD_2 r1
    QMEND_FC_WORD_2 r2
    subs    r6, #1
    bne     2b
3:
    ldr     r6, [r7, #F_REST]
    cbz     r6, 5f
4:
    ldr     r1, [r5], #4
    QMEND_FC_WORD_2 r1
    subs    r6, #1
    bne     4b
5:
    QMEND_FC_FINISH 1b, 6f
    QMEND_FC_LEAVE
6:
    QMEND_FC_BY_HAND
