@ Inner loops for Cortex-M3 (Thumb-2 without the DSP extension). Called from `conv.rs`,
@ `depthwise.rs` and `fully_connected.rs`, which document the arguments. Activations are 32-bit
@ numbers for 8-bit weights, pairs of 16-bit numbers for fields.

@ One input of four positions with one channel's 8-bit weight: 6 instructions for 4 products.
.macro QMEND_DOT_1
    ldrsb   lr, [r5], #1
    ldmia.w r4!, {r9, r10, r11, r12}
    mla     r0, lr, r9, r0
    mla     r1, lr, r10, r1
    mla     r2, lr, r11, r2
    mla     r3, lr, r12, r3
.endm

.macro QMEND_DOT_8
    QMEND_DOT_1
    QMEND_DOT_1
    QMEND_DOT_1
    QMEND_DOT_1
.endm

.macro QMEND_SCALE acc, t0, t1
    smull   \t0, \t1, \acc, r10
    adds.w  \t0, \t0, #0x80000000
    adc     \acc, \t1, #0
    add.w   \acc, \acc, \acc, asr #31
    add.w   \acc, \acc, r11
    asr.w   \acc, \acc, r12
    ssat    \acc, #8, \acc
.endm

.section .text.qmend_conv_8, "ax", %progbits
.global qmend_conv_8
.p2align 2
.type qmend_conv_8, %function
.thumb_func
qmend_conv_8:
    QMEND_ENTER 96, 2f
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
    bne.w   2b
    QMEND_FINISH 1b, 3f
    QMEND_RETURN
3:
    QMEND_LEAVE 1b, 0

@ Fields. A column holds, of each four activations a b c d plus 128, the words c + a * 2^16 and
@ d + b * 2^16. The product with a pair of fields (a in the lower half, c in the upper one) has
@ a * a + c * c in its upper half (below 2^13), and a * c in its lower half (below 2^12): eight of
@ them can be summed before the upper half is added to the sum, which is on the stack.
.macro QMEND_PAIR word, shift
    and.w   lr, r7, \word, lsr #\shift
    ldmia.w r4!, {r9, r10, r11, r12}
    mla     r0, lr, r9, r0
    mla     r1, lr, r10, r1
    mla     r2, lr, r11, r2
    mla     r3, lr, r12, r3
.endm

@ The first pair of a word.
.macro QMEND_PAIR_0 word
    and.w   lr, r7, \word
    ldmia.w r4!, {r9, r10, r11, r12}
    mla     r0, lr, r9, r0
    mla     r1, lr, r10, r1
    mla     r2, lr, r11, r2
    mla     r3, lr, r12, r3
.endm

@ The first pair after a flush.
.macro QMEND_PAIR_FRESH word
    and.w   lr, r7, \word
    ldmia.w r4!, {r9, r10, r11, r12}
    mul     r0, lr, r9
    mul     r1, lr, r10
    mul     r2, lr, r11
    mul     r3, lr, r12
.endm

@ Adds the upper halves to the sums.
.macro QMEND_FLUSH
    ldmia.w sp, {r9, r10, r11, r12}
    add.w   r9, r9, r0, lsr #16
    add.w   r10, r10, r1, lsr #16
    add.w   r11, r11, r2, lsr #16
    add.w   r12, r12, r3, lsr #16
    stmia.w sp, {r9, r10, r11, r12}
.endm

@ Sixteen inputs with 4-bit weights: 56 instructions for 64 products.
.macro QMEND_BODY_4
    ldr.w   r8, [r5], #4
    QMEND_PAIR_FRESH r8
    QMEND_PAIR r8, 4
    QMEND_PAIR r8, 8
    QMEND_PAIR r8, 12
    ldr.w   r8, [r5], #4
    QMEND_PAIR_0 r8
    QMEND_PAIR r8, 4
    QMEND_PAIR r8, 8
    QMEND_PAIR r8, 12
    QMEND_FLUSH
.endm

@ Eight inputs.
.macro QMEND_HALF_4
    ldr.w   r8, [r5], #4
    QMEND_PAIR_FRESH r8
    QMEND_PAIR r8, 4
    QMEND_PAIR r8, 8
    QMEND_PAIR r8, 12
    QMEND_FLUSH
.endm

@ Sixteen inputs with 2-bit weights.
.macro QMEND_BODY_2
    ldr.w   r8, [r5], #4
    QMEND_PAIR_FRESH r8
    QMEND_PAIR r8, 2
    QMEND_PAIR r8, 4
    QMEND_PAIR r8, 6
    QMEND_PAIR r8, 8
    QMEND_PAIR r8, 10
    QMEND_PAIR r8, 12
    QMEND_PAIR r8, 14
    QMEND_FLUSH
.endm

.macro QMEND_FIELDS_ENTER
    push    {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    sub     sp, #20
    str     r0, [sp, #16]
    mov     r7, r0
    ldr     r6, [r7, #B_X_END]
    ldr     r5, [r7, #B_W]
.endm

.macro QMEND_FIELDS_CHANNEL mask
    add.w   r12, r7, #B_SUMS
    ldmia.w r12, {r0, r1, r2, r3}
    stmia.w sp, {r0, r1, r2, r3}
    ldr     r4, [r7, #B_X]
    mov.w   r7, #\mask
.endm

.macro QMEND_FIELDS_FINISH next
    ldr     r7, [sp, #16]
    ldmia.w sp, {r0, r1, r2, r3}
    QMEND_FINISH \next, 9f
    add     sp, #20
    QMEND_RETURN
9:
    QMEND_LEAVE \next, 20
.endm

.section .text.qmend_conv_4, "ax", %progbits
.global qmend_conv_4
.p2align 2
.type qmend_conv_4, %function
.thumb_func
qmend_conv_4:
    QMEND_FIELDS_ENTER
1:
    QMEND_FIELDS_CHANNEL 0x000f000f
    sub.w   r8, r6, r4
    tst.w   r8, #64
    beq     2f
    QMEND_HALF_4
    cmp     r4, r6
    beq     3f
2:
    QMEND_BODY_4
    cmp     r4, r6
    bne     2b
3:
    QMEND_FIELDS_FINISH 1b

.section .text.qmend_conv_2, "ax", %progbits
.global qmend_conv_2
.p2align 2
.type qmend_conv_2, %function
.thumb_func
qmend_conv_2:
    QMEND_FIELDS_ENTER
1:
    QMEND_FIELDS_CHANNEL 0x00030003
2:
    QMEND_BODY_2
    cmp     r4, r6
    bne     2b
    QMEND_FIELDS_FINISH 1b

@ Spreads activations: r0 source, r1 groups of four (at least one), r2 destination, r3 zero point.
.macro QMEND_SPREAD name, step
.section .text.\name, "ax", %progbits
.global \name
.p2align 2
.type \name, %function
.thumb_func
\name:
1:
    ldrsb   r12, [r0], #1
    sub.w   r12, r12, r3
    str     r12, [r2], #\step
    ldrsb   r12, [r0], #1
    sub.w   r12, r12, r3
    str     r12, [r2], #\step
    ldrsb   r12, [r0], #1
    sub.w   r12, r12, r3
    str     r12, [r2], #\step
    ldrsb   r12, [r0], #1
    sub.w   r12, r12, r3
    str     r12, [r2], #\step
    subs    r1, #1
    bne     1b
    bx      lr
.endm

QMEND_SPREAD qmend_spread, 16
QMEND_SPREAD qmend_spread_row, 4

@ The same in pairs, with 128 added: of the bytes a b c d, c + a * 2^16 and d + b * 2^16. Returns the
@ sum of the words, whose halves hold the sums of up to 256 words.
.macro QMEND_SPREAD_PAIRS name, step
.section .text.\name, "ax", %progbits
.global \name
.p2align 2
.type \name, %function
.thumb_func
\name:
    push    {r4, lr}
    mov.w   r3, #0x00ff00ff
    movs    r4, #0
1:
    ldr     r12, [r0], #4
    eor     r12, r12, #0x80808080
    ror.w   r12, r12, #16
    and.w   lr, r12, r3
    and.w   r12, r3, r12, lsr #8
    str     lr, [r2], #\step
    str     r12, [r2], #\step
    add     r4, lr
    add     r4, r12
    subs    r1, #1
    bne     1b
    mov     r0, r4
    pop     {r4, pc}
.endm

QMEND_SPREAD_PAIRS qmend_spread_pairs, 16
QMEND_SPREAD_PAIRS qmend_spread_row_pairs, 4

@ Depthwise, any window. Weights are 32-bit numbers.
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
    ldmia.w r12, {r0, r1, r2, r3}
    ldr.w   r12, [r7, #D_ROWS]
2:
    ldr.w   r11, [r7, #D_TAPS]
3:
    ldrd    r9, r10, [r5], #8
    ldrsb.w lr, [r4]
    sub.w   lr, lr, r8
    mla     r0, lr, r9, r0
    ldrsb.w lr, [r4, #1]
    sub.w   lr, lr, r8
    mla     r1, lr, r10, r1
    ldrd    r9, r10, [r5], #8
    ldrsb.w lr, [r4, #2]
    sub.w   lr, lr, r8
    mla     r2, lr, r9, r2
    ldrsb.w lr, [r4, #3]
    sub.w   lr, lr, r8
    mla     r3, lr, r10, r3
    add     r4, r6
    subs.w  r11, r11, #1
    bne     3b
    ldr.w   r9, [r7, #D_ROW_STEP]
    ldr.w   r10, [r7, #D_W_SKIP]
    add     r4, r9
    add     r5, r10
    subs.w  r12, r12, #1
    bne     2b
    QMEND_DEPTHWISE_FINISH 1b

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
2:  @ Eight inputs: 18 instructions and two for the loop.
    ldmia.w r4!, {r8, r9, r10, r11}
    ldrsb   r1, [r5], #1
    ldrsb   r2, [r5], #1
    ldrsb   r3, [r5], #1
    ldrsb   r12, [r5], #1
    mla     r0, r1, r8, r0
    mla     r0, r2, r9, r0
    mla     r0, r3, r10, r0
    mla     r0, r12, r11, r0
    ldmia.w r4!, {r8, r9, r10, r11}
    ldrsb   r1, [r5], #1
    ldrsb   r2, [r5], #1
    ldrsb   r3, [r5], #1
    ldrsb   r12, [r5], #1
    mla     r0, r1, r8, r0
    mla     r0, r2, r9, r0
    mla     r0, r3, r10, r0
    mla     r0, r12, r11, r0
    subs    r6, #1
    bne     2b
3:
    ldr     r6, [r7, #F_REST]
    cbz     r6, 5f
4:
    ldmia.w r4!, {r8, r9, r10, r11}
    ldrsb   r1, [r5], #1
    ldrsb   r2, [r5], #1
    ldrsb   r3, [r5], #1
    ldrsb   r12, [r5], #1
    mla     r0, r1, r8, r0
    mla     r0, r2, r9, r0
    mla     r0, r3, r10, r0
    mla     r0, r12, r11, r0
    subs    r6, #1
    bne     4b
5:
    QMEND_FC_FINISH 1b, 6f
    QMEND_FC_LEAVE
6:
    QMEND_FC_BY_HAND

@ Two pairs with two fields of a word each: r2 sum of pairs.
.macro QMEND_FC_PAIRS word, x0, x1, shift
    and.w   r12, lr, \word, lsr #\shift
    mla     r2, r12, \x0, r2
    and.w   r12, lr, \word, lsr #(\shift + FIELD)
    mla     r2, r12, \x1, r2
.endm

.macro QMEND_FC_PAIRS_0 word, x0, x1
    and.w   r12, lr, \word
    mla     r2, r12, \x0, r2
    and.w   r12, lr, \word, lsr #FIELD
    mla     r2, r12, \x1, r2
.endm

.macro QMEND_FC_PAIRS_FRESH word, x0, x1
    and.w   r12, lr, \word
    mul     r2, r12, \x0
    and.w   r12, lr, \word, lsr #FIELD
    mla     r2, r12, \x1, r2
.endm

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
2:  @ Sixteen inputs: 21 instructions and two for the loop.
    ldmia.w r4!, {r8, r9, r10, r11}
    ldmia   r5!, {r1, r3}
    QMEND_FC_PAIRS_FRESH r1, r8, r9
    QMEND_FC_PAIRS r1, r10, r11, 8
    ldmia.w r4!, {r8, r9, r10, r11}
    QMEND_FC_PAIRS_0 r3, r8, r9
    QMEND_FC_PAIRS r3, r10, r11, 8
    add.w   r0, r0, r2, lsr #16
    subs    r6, #1
    bne     2b
3:
    ldr     r6, [r7, #F_REST]
    cbz     r6, 5f
4:
    ldr     r1, [r5], #4
    ldmia.w r4!, {r8, r9, r10, r11}
    QMEND_FC_PAIRS_FRESH r1, r8, r9
    QMEND_FC_PAIRS r1, r10, r11, 8
    add.w   r0, r0, r2, lsr #16
    subs    r6, #1
    bne     4b
5:
    QMEND_FC_FINISH 1b, 6f
    QMEND_FC_LEAVE
6:
    QMEND_FC_BY_HAND

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
    ldr     r1, [r5], #4
    ldmia.w r4!, {r8, r9, r10, r11}
    QMEND_FC_PAIRS_FRESH r1, r8, r9
    QMEND_FC_PAIRS r1, r10, r11, 4
    ldmia.w r4!, {r8, r9, r10, r11}
    QMEND_FC_PAIRS r1, r8, r9, 8
    QMEND_FC_PAIRS r1, r10, r11, 12
    add.w   r0, r0, r2, lsr #16
    subs    r6, #1
    bne     2b
3:
    QMEND_FC_FINISH 1b, 6f
    QMEND_FC_LEAVE
6:
    QMEND_FC_BY_HAND
