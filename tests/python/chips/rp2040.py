"""RP2040, as far as its agent goes: "RP2040 Datasheet", 2.1.2 (atomic access), 2.3.1 (SIO), 2.6.3 (XIP),
2.8.3 (functions in ROM), 2.14 (resets), 2.15 to 2.18 (clocks), 2.19 (GPIO), 4.2 (UART).

The ROM holds a table of functions, which Python answers for. The second stage of the boot loader is not
run: the program starts as after it, from the vectors behind it.
"""

import struct

import unicorn
from unicorn import arm_const as arm

from machine import Line, Machine, Plain

SECTOR, PAGE = 4096, 256
# Functions in ROM by their codes; each is one instruction, `bx lr`, at its place.
FUNCTIONS = ["IF", "EX", "RE", "RP", "FC", "CX", "MS", "S4", "MC", "C4", "P3", "R3", "L3", "T3"]
# Those that change flash.
CHANGING = FUNCTIONS[:6]
LOOKUP, FIRST, TABLE = 0x100, 0x110, 0x80
IO_BANK0, PADS_BANK0, PLL_SYS, UART0 = 5, 8, 12, 22


class Registers:
    """All peripherals of the APB, with the aliases that set, clear and flip bits."""

    def __init__(self, machine):
        self.machine = machine
        self.values = {0xC000: 0x1FF_FFFF}
        self.uart = Uart(self, machine)

    def unreset(self, number, what):
        if self.values[0xC000] >> number & 1:
            self.machine.violation(f"{what} is used in reset (2.14)")

    def get(self, offset):
        return self.values.get(offset, 0)

    def read(self, offset):
        at = offset & ~0x3000
        if at == 0xC008:
            return ~self.values[0xC000] & 0x1FF_FFFF
        if at == 0x2_4004:
            return 1 << 31 if self.get(0x2_4000) >> 12 & 0xFFF == 0xFAB else 0
        if at in (0x2_8000, 0x2_C000):
            on = not self.get(at + 4) & 0x21
            return self.get(at) | (1 << 31 if on else 0)
        if at == 0x8038:
            return 1 << (self.get(0x8030) & 3)
        if at == 0x8044:
            return 1 << (self.get(0x803C) & 1)
        if 0x8000 <= at < 0x8078 and (at - 0x8008) % 12 == 0:
            return 1
        if 0x3_4000 <= at < 0x3_5000:
            return self.uart.read(at - 0x3_4000)
        return self.get(at)

    def write(self, offset, value):
        at, alias = offset & ~0x3000, offset >> 12 & 3
        if at in (0x2_8004, 0x2_C004) and at not in self.values:
            self.values[at] = 0x2D
        old = self.get(at)
        value = [value, old ^ value, old | value, old & ~value][alias]
        if 0x1_4000 <= at < 0x1_5000:
            self.unreset(IO_BANK0, "IO_BANK0")
        if 0x1_C000 <= at < 0x1_D000:
            self.unreset(PADS_BANK0, "PADS_BANK0")
        self.values[at] = value
        if 0x3_4000 <= at < 0x3_5000:
            self.uart.write(at - 0x3_4000, value)


class Uart(Line):
    DR, FR, IBRD, FBRD, LCR, CR = 0x00, 0x18, 0x24, 0x28, 0x2C, 0x30
    RXFE, TXFE = 1 << 4, 1 << 7

    def __init__(self, registers, machine):
        super().__init__(machine)
        self.registers = registers
        self.checked = False

    def get(self, offset):
        return self.registers.get(0x3_4000 + offset)

    def check(self):
        self.checked = True
        divider = self.get(self.IBRD) + self.get(self.FBRD) / 64
        if not divider or abs(self.machine.HZ / 16 / divider / 115_200 - 1) > 0.02:
            self.machine.violation(f"a divider of {divider} is not 115,200 baud")
        if self.get(self.LCR) & 0x7E != 0x70 or self.get(self.CR) & 0x301 != 0x301:
            self.machine.violation("the UART is off, or has another format, or no queues")
        for pin in (0, 1):
            if self.registers.get(0x1_4004 + 8 * pin) & 0x1F != 2:
                self.machine.violation(f"GPIO {pin} is not the UART's (2.19.2)")
        if self.registers.read(0x8044) != 2 or not self.registers.get(0x8048) >> 11 & 1:
            self.machine.violation("the clocks are not those of the phase-locked loop (2.15)")

    def read(self, offset):
        self.registers.unreset(UART0, "UART0")
        if offset == self.FR:
            return self.TXFE | (0 if self.ready() else self.RXFE)
        return self.take() if offset == self.DR else self.get(offset)

    def write(self, offset, value):
        self.registers.unreset(UART0, "UART0")
        if offset == self.DR:
            if not self.checked:
                self.check()
            self.send(value & 0xFF)


class Sio(Plain):
    """Single-cycle registers: spinlocks and the divider (2.3.1)."""

    def read(self, offset):
        get = self.values.get
        if 0x100 <= offset < 0x180:
            return 1 << (offset - 0x100) // 4
        if offset in (0x70, 0x74):
            n, d, signed = get("n", 0), get("d", 0), get("signed", False)
            if signed:
                n, d = (v - (1 << 32) if v >> 31 else v for v in (n, d))
            if d:
                quotient = abs(n) // abs(d) * (1 if (n < 0) == (d < 0) else -1)
                remainder = n - quotient * d
            else:
                quotient, remainder = (1 if n < 0 and signed else -1), n
            return (quotient if offset == 0x70 else remainder) & 0xFFFF_FFFF
        return 0b10 if offset == 0x78 else super().read(offset)

    def write(self, offset, value):
        if offset in (0x60, 0x64, 0x68, 0x6C):
            self.values["d" if offset & 4 else "n"] = value
            self.values["signed"] = offset >= 0x68
        super().write(offset, value)


class Rp2040(Machine):
    NAME = "pico"
    CPU = arm.UC_CPU_ARM_CORTEX_M0
    HAS_DWT = False
    HZ = 125_000_000
    FLASH = (0x1000_0000, 2 << 20)
    RAM = [(0x2000_0000, 264 << 10)]
    VECTORS = 0x1000_0100

    def peripherals(self):
        self.connected, self.xip = True, True
        self.flushed = True
        return [
            (0x4000_0000, 0x7_0000, Registers(self)),
            (0xD000_0000, 0x1000, Sio()),
            (0x1400_0000, 0x1000, Plain()),
            (0x1800_0000, 0x1000, Plain()),
        ]

    def start(self):
        entry = super().start()
        rom = bytearray(0x4000)
        struct.pack_into("<4sHHH", rom, 0x10, b"Mu\x01\x02", TABLE, TABLE, LOOKUP | 1)
        for i, code in enumerate(FUNCTIONS):
            struct.pack_into("<2sH", rom, TABLE + 4 * i, code.encode(), (FIRST + 4 * i) | 1)
        for at in range(LOOKUP, FIRST + 4 * len(FUNCTIONS), 2):
            struct.pack_into("<H", rom, at, 0x4770)
        self.uc.mem_map(0, len(rom))
        self.uc.mem_write(0, bytes(rom))
        in_rom = self._guarded(self.in_rom, lambda *_: None)
        self.uc.hook_add(unicorn.UC_HOOK_CODE, in_rom, begin=0, end=len(rom) - 1)
        return entry

    def program(self, address, size, value):
        self.violation(f"{address:#x} is written as if flash were memory")
        return self.flash_at(address, size)

    def set_xip(self, on):
        """Flash can be read, or not: then any access to it ends the run with an error."""
        self.xip = on
        base, size = self.FLASH
        self.uc.mem_protect(base, size, unicorn.UC_PROT_ALL if on else unicorn.UC_PROT_NONE)

    def in_rom(self, uc, address, size, _):
        arguments = [uc.reg_read(r) for r in (arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3)]
        if address == LOOKUP:
            found = [i for i, code in enumerate(FUNCTIONS) if arguments[1] == int.from_bytes(code.encode(), "little")]
            if not found:
                raise RuntimeError(f"{self.NAME}: no function {arguments[1]:#x} is modelled in ROM")
            uc.reg_write(arm.UC_ARM_REG_R0, (FIRST + 4 * found[0]) | 1)
            return
        index, rest = divmod(address - FIRST, 4)
        if rest or not 0 <= index < len(FUNCTIONS):
            raise RuntimeError(f"{self.NAME}: ROM is executed at {address:#x}")
        name = FUNCTIONS[index]
        if name in CHANGING and not uc.reg_read(arm.UC_ARM_REG_PRIMASK) & 1:
            self.violation("flash is changed while interrupts, whose handlers lie in it, are on (2.8.3.1.3)")
        result = getattr(self, "rom_" + name.lower())(*arguments)
        if result is not None:
            uc.reg_write(arm.UC_ARM_REG_R0, result)

    def rom_ms(self, to, byte, count, _):
        self.uc.mem_write(to, bytes([byte & 0xFF]) * count)

    def rom_mc(self, to, source, count, _):
        self.uc.mem_write(to, bytes(self.uc.mem_read(source, count)))

    rom_s4, rom_c4 = rom_ms, rom_mc

    def rom_p3(self, value, *_):
        return value.bit_count()

    def rom_r3(self, value, *_):
        return int(f"{value:032b}"[::-1], 2)

    def rom_l3(self, value, *_):
        return 32 - value.bit_length()

    def rom_t3(self, value, *_):
        return (value & -value).bit_length() - 1 if value else 32

    def rom_if(self, *_):
        self.connected = True

    def rom_ex(self, *_):
        if not self.connected:
            self.violation("flash is not connected")
        self.set_xip(False)

    def rom_fc(self, *_):
        self.flushed = True

    def rom_cx(self, *_):
        if not self.flushed:
            self.violation("XIP is entered again, and the cache holds what was there before (2.8.3.1.3)")
        self.set_xip(True)

    def changed(self, offset, after, kind):
        address = self.FLASH[0] + offset
        self.flushed = False
        before = self.flash_at(address, len(after))
        if kind == "programmed":
            wanted, after = after, bytes(b & a for b, a in zip(before, after))
            # What is 1 in the data may be anything in flash: those bits are left alone.
            if any(b != 0xFF and w not in (0xFF, a) for b, w, a in zip(before, wanted, after)):
                self.violation(f"{address:#x}: a 0 is to become a 1 without an erasure")
        self.put(address, self.operation(address, before, after, kind))

    def rom_re(self, offset, count, block, command):
        if self.xip:
            self.violation("flash is erased while it is mapped (2.8.3.1.3)")
        if offset % SECTOR or count % SECTOR or not count or offset + count > self.FLASH[1]:
            self.violation(f"{count} bytes cannot be erased at {offset:#x}")
            return
        # A larger block is taken where it fits: the command has to be of that size.
        if (block, command & 0xFF) != (SECTOR, 0x20) and block <= count:
            self.violation(f"command {command:#x} does not erase {block} bytes")
        for at in range(offset, offset + count, SECTOR):
            self.changed(at, b"\xff" * SECTOR, "erased")

    def rom_rp(self, offset, data, count, _):
        if self.xip:
            self.violation("flash is programmed while it is mapped (2.8.3.1.3)")
        if offset % PAGE or count % PAGE or offset + count > self.FLASH[1]:
            self.violation(f"{count} bytes cannot be programmed at {offset:#x}")
            return
        if data >> 24 == 0x10:
            self.violation("the data to be programmed lies in flash, which cannot be read")
            return
        for at in range(0, count, PAGE):
            self.changed(offset + at, bytes(self.uc.mem_read(data + at, PAGE)), "programmed")
