@ What the loops for all Thumb-2 cores share. `QMEND_SCALE acc, t0, t1` is the instruction set's: of
@ twice an accumulator it takes the rounded upper word of the product with the mantissa r10, shifts
@ that by r12 to the right, rounding half away from zero, and saturates to 8 bits; r11 is
@ 2^(shift-1) and the zero point.

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
.set B_TO, 72
.set B_W_STEP, 76

@ What is behind an output channel's sum: r0-r3 sums, r7 the block.
.macro QMEND_FINISH next, leave
    ldr.w   r8, [r7, #B_RECORDS]
    ldmia.w r8!, {r9, r10, r11, r12}
    str.w   r5, [r7, #B_W]
    str.w   r8, [r7, #B_RECORDS]
    cmp     r12, #0
    blt.w   \leave
    @ Twice the sums; the record holds twice the bias.
    add.w   r0, r9, r0, lsl #1
    add.w   r1, r9, r1, lsl #1
    add.w   r2, r9, r2, lsl #1
    add.w   r3, r9, r3, lsl #1
    QMEND_SCALE r0, r8, r9
    QMEND_SCALE r1, r8, r9
    QMEND_SCALE r2, r8, r9
    QMEND_SCALE r3, r8, r9
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

.macro QMEND_RETURN
    pop     {r4, r5, r6, r7, r8, r9, r10, r11, pc}
.endm

@ A channel that is not to be scaled: its sums are added to those that B_TO points to, and the next one follows;
@ where it points nowhere they are left in the block. `frame`: bytes on the stack to give back.
.macro QMEND_LEAVE next, frame
    ldr.w   r8, [r7, #B_TO]
    cmp.w   r8, #0
    beq     5f
    ldmia.w r8, {r9, r10, r11, r12}
    add     r0, r9
    add     r1, r10
    add     r2, r11
    add     r3, r12
    stmia.w r8!, {r0, r1, r2, r3}
    str.w   r8, [r7, #B_TO]
    ldr.w   r8, [r7, #B_W_STEP]
    add     r5, r8
    ldr.w   r8, [r7, #B_COUNT]
    subs.w  r8, r8, #1
    str.w   r8, [r7, #B_COUNT]
    bne.w   \next
    b       6f
5:
    add.w   r8, r7, #B_ACC
    stmia.w r8, {r0, r1, r2, r3}
6:
    .if \frame
    add     sp, #\frame
    .endif
    QMEND_RETURN
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

@ Depthwise: four channels of a run of positions. Offsets in `Run`.
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

@ After the taps: r0-r3 sums, r7 the run.
.macro QMEND_DEPTHWISE_FINISH next
    ldr     r4, [r7, #D_CONSTANTS]
    ldr     r5, [r7, #D_SCALE]
    adds    r4, #16
    cmp     r5, #0
    beq.w   8f
    ldmia.w r4!, {r10, r11, r12}
    lsls    r0, r0, #1
    QMEND_SCALE r0, r8, r9
    ldmia.w r4!, {r10, r11, r12}
    lsls    r1, r1, #1
    QMEND_SCALE r1, r8, r9
    ldmia.w r4!, {r10, r11, r12}
    lsls    r2, r2, #1
    QMEND_SCALE r2, r8, r9
    ldmia.w r4!, {r10, r11, r12}
    lsls    r3, r3, #1
    QMEND_SCALE r3, r8, r9
    ldrd    r4, r5, [r7, #D_OUT]
    strb    r0, [r4]
    strb    r1, [r4, #1]
    strb    r2, [r4, #2]
    strb    r3, [r4, #3]
    subs    r5, #1
    ldrd    r0, r1, [r7, #D_X_STEP]
    ldr     r2, [r7, #D_X]
    add     r4, r1
    add     r2, r0
    strd    r4, r5, [r7, #D_OUT]
    str     r2, [r7, #D_X]
    @ What scaling has overwritten.
    ldr.w   r8, [r7, #D_ZERO]
    bne     \next
    QMEND_RETURN
8:
    add.w   r4, r7, #D_ACC
    stmia   r4!, {r0, r1, r2, r3}
    QMEND_RETURN
.endm

@ Fully connected: the input is spread as one column, without gaps. r0 points to `Product`.
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

.macro QMEND_FC_ENTER
    push    {r4, r5, r6, r7, r8, r9, r10, r11, lr}
    mov     r7, r0
    ldr     r5, [r7, #F_W]
.endm

@ r0 sum, r4 activations, r6 bodies.
.macro QMEND_FC_ROW
    @ Offset, activations, bodies.
    ldmia.w r7, {r0, r4, r6}
.endm

@ Scales the sum of a channel: r0 sum. Sums of 2^30 and more, and shifts that are not in
@ 1 ..= F_SHIFTS, are left to Rust.
.macro QMEND_FC_FINISH next, leave
    ldrd    r6, r4, [r7, #F_NEXT]
    ldrd    r8, r9, [r7, #F_MANTISSAS]
    ldr.w   r1, [r4, r6, lsl #2]
    ldr.w   r10, [r8, r6, lsl #2]
    ldrsb.w r12, [r9, r6]
    add     r0, r1
    ldrd    r1, r2, [r7, #F_SHIFTS]
    rsb.w   r12, r12, #0
    sub.w   r3, r12, #1
    cmp     r3, r1
    bhs.w   \leave
    adds.w  r1, r0, #0x40000000
    bmi.w   \leave
    movs    r1, #1
    lsls    r1, r3
    lsl.w   r2, r2, r12
    add.w   r11, r1, r2
    lsls    r0, r0, #1
    QMEND_SCALE r0, r8, r9
    ldrd    r2, r1, [r7, #F_OUT]
    strb    r0, [r2, r6]
    adds    r6, #1
    str     r6, [r7, #F_NEXT]
    cmp     r6, r1
    bne.w   \next
.endm

.macro QMEND_FC_LEAVE
    pop     {r4, r5, r6, r7, r8, r9, r10, r11, pc}
.endm

.macro QMEND_FC_BY_HAND
    str     r0, [r7, #F_ACC]
    str     r5, [r7, #F_W]
    QMEND_FC_LEAVE
.endm


@ Unpacks 3-bit numbers to 4-bit fields, thirty-two at a time. r0: from, r1: how often, r2: to.
.macro QMEND_UNPACK_EIGHT packed
    eor     r6, \packed, r12
    @ Pairs of numbers to bytes.
    and     r7, r6, #0x3f
    and     r8, r6, #0xfc0
    orr     r7, r7, r8, lsl #10
    ubfx    r8, r6, #12, #6
    orr     r7, r7, r8, lsl #8
    ubfx    r8, r6, #18, #6
    orr     r7, r7, r8, lsl #24
    @ A number to a field.
    and     r8, r7, #0x07070707
    and     r7, r7, #0x38383838
    add     r7, r8, r7, lsl #1
    add     r7, r7, #0x44444444
    str     r7, [r2], #4
.endm

.section .text.qmend_unpack_3, "ax", %progbits
.global qmend_unpack_3
.p2align 2
.type qmend_unpack_3, %function
.thumb_func
qmend_unpack_3:
    push    {r4, r5, r6, r7, r8, lr}
    movw    r12, #0x4924
    movt    r12, #0x0092
1:  ldr     r3, [r0], #4
    ldr     r4, [r0], #4
    ldr     r5, [r0], #4
    QMEND_UNPACK_EIGHT r3
    lsr     r3, r3, #24
    orr     r3, r3, r4, lsl #8
    QMEND_UNPACK_EIGHT r3
    lsr     r4, r4, #16
    orr     r4, r4, r5, lsl #16
    QMEND_UNPACK_EIGHT r4
    lsr     r5, r5, #8
    QMEND_UNPACK_EIGHT r5
    subs    r1, r1, #1
    bne     1b
    pop     {r4, r5, r6, r7, r8, pc}
