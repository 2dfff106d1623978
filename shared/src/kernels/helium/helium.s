@ Loops for Armv8.1-M with the M-profile vector extension (Helium), integers only.
@
@ VMLADAVA multiplies sixteen pairs of bytes and adds them to a register of an even number. DLSTP and
@ LETP run a loop with the last iteration's lanes beyond the count masked: loads read nothing there
@ and give zeros. Pointers advance by whole vectors all the same.

    .syntax unified
    .thumb
    .cpu cortex-m55

.macro FUNCTION name
    .section .text.\name, "ax", %progbits
    .p2align 2
    .global \name
    .type \name, %function
    .thumb_func
\name:
.endm

@ ---- Three columns times rows, two rows at a time. r0: Block.
@ In the loops r0 r2, r4 r6, r8 r10 are the sums of both rows with columns 0, 1, 2; r1, r3, r5 the
@ columns; r7, r9 the rows; r12 where sums go; r11 the block.

.macro ROWS_BEGIN name
FUNCTION \name
    push {r4-r11, lr}
    vpush {d8-d15}
    mov r11, r0
    ldr r7, [r11, #48]
    ldr r9, [r11, #52]
    ldr r12, [r11, #56]
.endm

.macro ROWS_LOOP
1:  ldm r11, {r0-r6, r8, r10}
    ldr lr, [r11, #36]
    dlstp.8 lr, lr
2:
.endm

.macro ROWS_END
    letp lr, 2b
    stm r12!, {r0, r2, r4, r6, r8, r10}
    ldrd r0, r2, [r11, #40]
    add r7, r7, r0
    add r9, r9, r0
    cmp r12, r2
    bne 1b
    vpop {d8-d15}
    pop {r4-r11, pc}
.endm

.macro SIX kind, first, second
    vmladava.\kind r0, q0, \first
    vmladava.\kind r4, q1, \first
    vmladava.\kind r8, q2, \first
    vmladava.\kind r2, q0, \second
    vmladava.\kind r6, q1, \second
    vmladava.\kind r10, q2, \second
.endm

.macro LOAD_COLUMNS
    vldrb.u8 q0, [r1], #16
    vldrb.u8 q1, [r3], #16
    vldrb.u8 q2, [r5], #16
.endm

    ROWS_BEGIN qmend_rows_8
    ROWS_LOOP
    LOAD_COLUMNS
    vldrb.u8 q3, [r7], #16
    vldrb.u8 q4, [r9], #16
    SIX s8, q3, q4
    ROWS_END

    ROWS_BEGIN qmend_rows_4
    vmov.i8 q7, #0x0f
    ROWS_LOOP
    vldrb.u8 q3, [r7], #16
    vldrb.u8 q5, [r9], #16
    LOAD_COLUMNS
    vand q4, q3, q7
    vand q6, q5, q7
    SIX u8, q4, q6
    LOAD_COLUMNS
    vshr.u8 q3, q3, #4
    vshr.u8 q5, q5, #4
    SIX u8, q3, q5
    ROWS_END

    ROWS_BEGIN qmend_rows_2
    vmov.i8 q7, #0x03
    ROWS_LOOP
    vldrb.u8 q3, [r7], #16
    vldrb.u8 q5, [r9], #16
    LOAD_COLUMNS
    vand q4, q3, q7
    vand q6, q5, q7
    SIX u8, q4, q6
    .rept 2
    vshr.u8 q3, q3, #2
    vshr.u8 q5, q5, #2
    LOAD_COLUMNS
    vand q4, q3, q7
    vand q6, q5, q7
    SIX u8, q4, q6
    .endr
    vshr.u8 q3, q3, #2
    vshr.u8 q5, q5, #2
    LOAD_COLUMNS
    SIX u8, q3, q5
    ROWS_END

@ ---- One column times rows of bytes, three at a time, and the rows' own sums. r0: Product.
@ r0, r2, r4 the sums; r6, r8, r10 of the weights alone; r1 the column; r3, r5, r7 the rows; r9 the
@ zero point.

FUNCTION qmend_product_8
    push {r4-r11, lr}
    mov r11, r0
    ldr r3, [r11, #40]
    ldr r5, [r11, #44]
    ldr r7, [r11, #48]
    ldr r12, [r11, #56]
    ldr r9, [r11, #60]
1:  ldm r11, {r0, r1, r2, r4, r6, r8, r10}
    ldr lr, [r11, #28]
    dlstp.8 lr, lr
2:  vldrb.u8 q0, [r1], #16
    vldrb.u8 q1, [r3], #16
    vmladava.s8 r0, q0, q1
    vaddva.s8 r6, q1
    vldrb.u8 q2, [r5], #16
    vmladava.s8 r2, q0, q2
    vaddva.s8 r8, q2
    vldrb.u8 q3, [r7], #16
    vmladava.s8 r4, q0, q3
    vaddva.s8 r10, q3
    letp lr, 2b
    mls r0, r6, r9, r0
    mls r2, r8, r9, r2
    mls r4, r10, r9, r4
    stm r12!, {r0, r2, r4}
    ldrd r0, r2, [r11, #32]
    add r3, r3, r0
    add r5, r5, r0
    add r7, r7, r0
    cmp r12, r2
    bne 1b
    pop {r4-r11, pc}

@ ---- One column times rows of fields, four at a time. r0: Product. r0, r2, r4, r6 the sums; r1 the
@ column; r3, r5, r7, r9 the rows.

.macro PRODUCT_BEGIN name, mask
FUNCTION \name
    push {r4-r11, lr}
    vpush {d8-d15}
    mov r11, r0
    ldr r3, [r11, #40]
    ldr r5, [r11, #44]
    ldr r7, [r11, #48]
    ldr r9, [r11, #52]
    ldr r12, [r11, #56]
    vmov.i8 q7, #\mask
1:  ldm r11, {r0-r2, r4, r6}
    ldr lr, [r11, #28]
    dlstp.8 lr, lr
2:  vldrb.u8 q0, [r3], #16
    vldrb.u8 q1, [r5], #16
    vldrb.u8 q2, [r7], #16
    vldrb.u8 q3, [r9], #16
.endm

.macro PRODUCT_FIELD
    vldrb.u8 q4, [r1], #16
    vand q5, q0, q7
    vmladava.u8 r0, q4, q5
    vand q6, q1, q7
    vmladava.u8 r2, q4, q6
    vand q5, q2, q7
    vmladava.u8 r4, q4, q5
    vand q6, q3, q7
    vmladava.u8 r6, q4, q6
.endm

.macro PRODUCT_NEXT bits
    vshr.u8 q0, q0, #\bits
    vshr.u8 q1, q1, #\bits
    vshr.u8 q2, q2, #\bits
    vshr.u8 q3, q3, #\bits
.endm

.macro PRODUCT_END
    vldrb.u8 q4, [r1], #16
    vmladava.u8 r0, q4, q0
    vmladava.u8 r2, q4, q1
    vmladava.u8 r4, q4, q2
    vmladava.u8 r6, q4, q3
    letp lr, 2b
    stm r12!, {r0, r2, r4, r6}
    ldrd r0, r2, [r11, #32]
    add r3, r3, r0
    add r5, r5, r0
    add r7, r7, r0
    add r9, r9, r0
    cmp r12, r2
    bne 1b
    vpop {d8-d15}
    pop {r4-r11, pc}
.endm

    PRODUCT_BEGIN qmend_product_4, 0x0f
    PRODUCT_FIELD
    PRODUCT_NEXT 4
    PRODUCT_END

    PRODUCT_BEGIN qmend_product_2, 0x03
    PRODUCT_FIELD
    .rept 2
    PRODUCT_NEXT 2
    PRODUCT_FIELD
    .endr
    PRODUCT_NEXT 2
    PRODUCT_END

@ ---- Sums of rows of bytes. r0: first row, r1: bytes from row to row, r2: bytes of a row, r3: rows,
@ stack: where the sums go.

FUNCTION qmend_row_sums
    push {r4-r6, lr}
    ldr r6, [sp, #16]
1:  mov r5, r0
    movs r4, #0
    dlstp.8 lr, r2
2:  vldrb.u8 q0, [r5], #16
    vaddva.s8 r4, q0
    letp lr, 2b
    str r4, [r6], #4
    add r0, r0, r1
    subs r3, r3, #1
    bne 1b
    pop {r4-r6, pc}

@ ---- Copies runs of bytes. r0: to, back to back, r1: from, r2: bytes of a run, r3: runs, stack: bytes
@ from one run's start to the next one's.

FUNCTION qmend_copy
    push {r4-r6, lr}
    ldr r4, [sp, #16]
1:  mov r5, r1
    mov r6, r0
    dlstp.8 lr, r2
2:  vldrb.u8 q0, [r5], #16
    vstrb.8 q0, [r6], #16
    letp lr, 2b
    add r0, r0, r2
    add r1, r1, r4
    subs r3, r3, #1
    bne 1b
    pop {r4-r6, pc}

@ ---- Fills bytes. r0: to, r1: the byte, r2: how many.

FUNCTION qmend_fill
    push {r4, lr}
    vdup.8 q0, r1
    dlstp.8 lr, r2
2:  vstrb.8 q0, [r0], #16
    letp lr, 2b
    pop {r4, pc}

@ ---- Puts activations, raised by 128, in the order of fields. r0: from, r1: vectors of weights, r2: to.
@ Returns their sum.

.macro SPREAD_PART base
    vldrb.u8 q0, [\base, q3]
    veor q0, q0, q2
    vstrb.8 q0, [r2], #16
    vaddva.u8 r12, q0
.endm

FUNCTION qmend_spread_4
    push {r4, lr}
    adr r3, 9f
    vldrb.u8 q3, [r3]
    vmov.i8 q2, #0x80
    mov r12, #0
    dls lr, r1
2:  add r3, r0, #1
    SPREAD_PART r0
    SPREAD_PART r3
    add r0, r0, #32
    le lr, 2b
    mov r0, r12
    pop {r4, pc}
    .p2align 2
9:  .byte 0, 4, 2, 6, 8, 12, 10, 14, 16, 20, 18, 22, 24, 28, 26, 30

FUNCTION qmend_spread_2
    push {r4, lr}
    adr r3, 9f
    vldrb.u8 q3, [r3]
    vmov.i8 q2, #0x80
    mov r12, #0
    dls lr, r1
2:  add r3, r0, #1
    SPREAD_PART r0
    SPREAD_PART r3
    add r3, r0, #4
    SPREAD_PART r3
    add r3, r0, #5
    SPREAD_PART r3
    add r0, r0, #64
    le lr, 2b
    mov r0, r12
    pop {r4, pc}
    .p2align 2
9:  .byte 0, 8, 2, 10, 16, 24, 18, 26, 32, 40, 34, 42, 48, 56, 50, 58

@ ---- Unpacks 3-bit numbers, sixteen at a time. r0: from, r1: sixteens, r2: to.
@ Each lane takes the byte that its number starts in and the next one, shifts the number to the upper
@ end of a byte, and back down for its sign.

FUNCTION qmend_unpack_3
    push {r4, lr}
    vpush {d8-d11}
    adr r3, 9f
    vldrb.u8 q2, [r3], #16
    vldrb.u8 q3, [r3], #16
    vldrb.u8 q4, [r3], #16
    vldrb.u8 q5, [r3]
    dls lr, r1
2:  vldrb.u8 q0, [r0, q2]
    vldrb.u8 q1, [r0, q3]
    vshl.u8 q0, q0, q4
    vshl.u8 q1, q1, q5
    vorr q0, q0, q1
    vshr.s8 q0, q0, #5
    vstrb.8 q0, [r2], #16
    adds r0, #6
    le lr, 2b
    vpop {d8-d11}
    pop {r4, pc}
    .p2align 2
9:  .byte 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5
    .byte 1, 1, 1, 2, 2, 2, 2, 2, 4, 4, 4, 5, 5, 5, 5, 5
    .byte 5, 2, -1, 4, 1, -2, 3, 0, 5, 2, -1, 4, 1, -2, 3, 0
    .byte 13, 10, 7, 12, 9, 6, 11, 8, 13, 10, 7, 12, 9, 6, 11, 8

@ ---- Scales sums, four channels at a time. r0: Scale.
@ VQRDMULH is the first of the two roundings (a non-negative mantissa never saturates it). VRSHL rounds ties
@ up; negative numbers that are shifted get -1 first, which takes their ties away from zero.

.macro SCALE_BEGIN name, table, step
FUNCTION \name
    push {r4-r9, lr}
    vpush {d8-d15}
    adr r1, \table
    vldrw.u32 q7, [r1]
    ldrd r1, r2, [r0]
    ldrd r3, r4, [r0, #8]
    vadd.i32 q7, q7, r4
    ldrd r4, r5, [r0, #16]
    ldrd r6, r7, [r0, #24]
    ldrd r8, r9, [r0, #32]
    vdup.32 q5, r8
    vdup.32 q6, r9
    ldr r8, [r0, #40]
    movs r0, #\step
    dlstp.32 lr, r7
2:  vldrb.u8 q0, [r1], #16
    vldrb.u8 q1, [r2], #16
    vldrb.s32 q2, [r3], #4
.endm

.macro SCALE_COLUMN at, out
    vldrw.u32 q3, [q7, #\at]
    vadd.i32 q3, q3, q0
    vqrdmulh.s32 q3, q3, q1
    vand q4, q3, q2
    vshr.s32 q4, q4, #31
    vadd.i32 q3, q3, q4
    vrshl.s32 q3, q3, q2
    vqadd.s32 q3, q3, r8
    vmax.s32 q3, q3, q5
    vmin.s32 q3, q3, q6
    vstrb.32 q3, [\out], #4
.endm

.macro SCALE_END
    vadd.i32 q7, q7, r0
    letp lr, 2b
    vpop {d8-d15}
    pop {r4-r9, pc}
.endm

    SCALE_BEGIN qmend_scale_3, 9f, 48
    SCALE_COLUMN 0, r4
    SCALE_COLUMN 8, r5
    SCALE_COLUMN 16, r6
    SCALE_END
    .p2align 2
9:  .word 0, 4, 24, 28

    SCALE_BEGIN qmend_scale_1, 9f, 16
    SCALE_COLUMN 0, r4
    SCALE_END
    .p2align 2
9:  .word 0, 4, 8, 12

@ ---- The largest of some bytes. r0: where, r1: how many.

FUNCTION qmend_largest
    push {r4, lr}
    mvn r2, #127
    dlstp.8 lr, r1
2:  vldrb.u8 q0, [r0], #16
    vmaxv.s8 r2, q0
    letp lr, 2b
    mov r0, r2
    pop {r4, pc}

@ ---- Depthwise: eight channels of a run of positions. r0: Run.
@ q0 and q1 sum the even and the odd channels; r12 the run, r3 the tap, r4 its weights, r2 the row.

.macro LOAD_TAP masked
    .if \masked
    vpst
    vldrbt.s16 q2, [r3]
    .else
    vldrb.s16 q2, [r3]
    .endif
.endm

.macro TAP masked, step, zero
    LOAD_TAP \masked
    vldrb.s16 q3, [r4], #8
    add r3, r3, \step
    .if \zero
    vadd.i16 q2, q2, r5
    .endif
    vmullb.s16 q4, q2, q3
    vmullt.s16 q5, q2, q3
    vadd.i32 q0, q0, q4
    vadd.i32 q1, q1, q5
.endm

.macro SCALE_HALF sums, mantissas, exponents
    vldrw.u32 q2, [r9, #\mantissas]
    vqrdmulh.s32 \sums, \sums, q2
    vldrw.u32 q2, [r9, #\exponents]
    vand q3, \sums, q2
    vshr.s32 q3, q3, #31
    vadd.i32 \sums, \sums, q3
    vrshl.s32 \sums, \sums, q2
    vqadd.s32 \sums, \sums, r11
.endm

.macro DEPTHWISE_BEGIN name, masked
FUNCTION \name
    push {r4-r11, lr}
    vpush {d8-d15}
    mov r12, r0
    ldrd r6, r9, [r12, #8]
    ldrd r5, r11, [r12, #16]
    ldrd r1, r8, [r12, #24]
    ldrd r2, r3, [r12, #32]
    vdup.16 q6, r2
    vdup.16 q7, r3
    .if \masked
    ldr r2, [r12, #40]
    vctp.16 r2
    .endif
    ldr r0, [r12]
    ldr r10, [r12, #44]
.endm

.macro DEPTHWISE_END masked
    SCALE_HALF q0, 32, 64
    SCALE_HALF q1, 48, 80
    vqmovnb.s32 q2, q0
    vqmovnt.s32 q2, q1
    vmax.s16 q2, q2, q6
    vmin.s16 q2, q2, q7
    .if \masked
    vpst
    vstrbt.16 q2, [r6]
    .else
    vstrb.16 q2, [r6]
    .endif
    ldrd r2, r3, [r12, #56]
    add r0, r0, r2
    add r6, r6, r3
    subs r10, r10, #1
    bne 1b
    vpop {d8-d15}
    pop {r4-r11, pc}
.endm

.macro DEPTHWISE_ANY name, masked
    DEPTHWISE_BEGIN \name, \masked
1:  vldrw.u32 q0, [r9]
    vldrw.u32 q1, [r9, #16]
    ldr r4, [r12, #4]
    mov r2, r0
    ldr r7, [r12, #48]
2:  mov r3, r2
    ldr lr, [r12, #52]
    dls lr, lr
3:  TAP \masked, r1, 1
    le lr, 3b
    ldr r3, [r12, #64]
    add r4, r4, r3
    add r2, r2, r8
    subs r7, r7, #1
    bne 2b
    DEPTHWISE_END \masked
.endm

    DEPTHWISE_ANY qmend_depthwise, 0
    DEPTHWISE_ANY qmend_depthwise_masked, 1

@ Rows of three taps, none of them outside the input; r8 steps from the last to the next row's first.
.macro DEPTHWISE_FEW name, taps, zero
    DEPTHWISE_BEGIN \name, 0
    ldr r7, [r12, #48]
1:  vldrw.u32 q0, [r9]
    vldrw.u32 q1, [r9, #16]
    ldr r4, [r12, #4]
    mov r3, r0
    dls lr, r7
3:  TAP 0, r1, \zero
    .if \taps == 3
    TAP 0, r1, \zero
    .endif
    TAP 0, r8, \zero
    .if \taps == 2
    @ The weights of the one outside.
    adds r4, #8
    .endif
    le lr, 3b
    DEPTHWISE_END 0
.endm

    DEPTHWISE_FEW qmend_depthwise_3, 3, 1
@ The same where the zero point's part is in the bias.
    DEPTHWISE_FEW qmend_depthwise_3_inside, 3, 0
@ Of three taps in a row one is outside.
    DEPTHWISE_FEW qmend_depthwise_2, 2, 1
