"""STM32F405 and STM32F411, as far as their agents go.

Flash: RM0090 3.5 to 3.9 (F405), RM0383 3.5 to 3.8 (F411). RCC: RM0090 7.3. GPIO: 8.4. USART: 30.6.
"""

from machine import Line, Machine, Plain

KEYS = (0x4567_0123, 0xCDEF_89AB)
PG, SER, MER, STRT, LOCK = 1, 1 << 1, 1 << 2, 1 << 16, 1 << 31
PGAERR, PGPERR, PGSERR, BSY = 1 << 5, 1 << 6, 1 << 7, 1 << 16
ERRORS = 0xF2
DATA_CACHE, RESET_DATA_CACHE = 1 << 10, 1 << 12
# Reads of the status for which an operation takes.
PATIENCE = 3


class FlashController:
    ACR, KEYR, SR, CR = 0x00, 0x04, 0x0C, 0x10

    def __init__(self, machine):
        self.machine = machine
        self.acr, self.cr, self.errors = 0, LOCK, 0
        self.busy = 0
        self.keys = []
        self.locked_up = False
        # Whether the data cache may hold what flash held before.
        self.stale = False

    def read(self, offset):
        if offset == self.SR:
            if self.busy:
                self.busy -= 1
                return self.errors | BSY
            # The hardware takes the bit back at the end of the erasure.
            self.cr &= ~STRT
            return self.errors
        return {self.ACR: self.acr, self.CR: self.cr}.get(offset, 0)

    def write(self, offset, value):
        note = self.machine.violation
        if offset == self.ACR:
            if value & RESET_DATA_CACHE:
                if value & DATA_CACHE:
                    note("the data cache is reset while it is on (RM0090 3.9.1)")
                else:
                    self.stale = False
            self.acr = value
        elif offset == self.KEYR:
            self.keys.append(value)
            if not self.cr & LOCK or self.locked_up or tuple(self.keys) != KEYS[: len(self.keys)]:
                note(f"key {value:#x} out of its sequence: the controller stays locked (3.6.1)")
                self.locked_up, self.cr = True, self.cr | LOCK
            elif len(self.keys) == 2:
                self.cr &= ~LOCK
                self.keys = []
        elif offset == self.SR:
            self.errors &= ~value
        elif offset == self.CR:
            self.control(value)
        else:
            note(f"flash register {offset:#x} is written")

    def control(self, value):
        note = self.machine.violation
        if self.busy:
            note("CR is written while the controller is busy (3.6.2)")
        if self.cr & LOCK:
            if value & ~self.cr:
                note("CR is written while it is locked (3.6.1)")
            return
        if value & PG and value & (SER | MER):
            note("PG together with SER or MER")
        self.cr = value & ~STRT
        if value & STRT:
            if value & MER or not value & SER:
                note(f"STRT without a sector to erase: CR {value:#x} (3.6.3)")
                return
            self.erase(value >> 3 & 0xF)

    def erase(self, number):
        sectors = self.machine.SECTORS
        if number >= len(sectors):
            self.machine.violation(f"there is no sector {number}")
            return
        start = self.machine.FLASH[0] + sum(sectors[:number])
        before = self.machine.flash_at(start, sectors[number])
        after = self.machine.operation(start, before, b"\xff" * len(before), "erased")
        self.machine.put(start, after)
        self.cr |= STRT
        self.busy = PATIENCE
        self.stale = bool(self.acr & DATA_CACHE)

    def program(self, address, size, value):
        note = self.machine.violation
        before = self.machine.flash_at(address, size)
        if self.busy:
            # The bus would stall until the operation before has ended.
            note(f"{address:#x} is written while the controller is busy (3.6.2)")
        if self.cr & LOCK or not self.cr & PG:
            self.errors |= PGSERR
            note(f"{address:#x} is written without PG (3.6.4, PGSERR)")
            return before
        if size != 1 << (self.cr >> 8 & 3):
            self.errors |= PGPERR
            note(f"{size} bytes are written with PSIZE {self.cr >> 8 & 3} (3.6.2, PGPERR)")
            return before
        if address % size:
            self.errors |= PGAERR
            note(f"{address:#x} is not aligned to {size} bytes (PGAERR)")
            return before
        data = value.to_bytes(size, "little")
        after = bytes(b & d for b, d in zip(before, data))
        if after != data:
            note(f"{address:#x}: a 0 is to become a 1 without an erasure (3.6.4)")
        self.busy = PATIENCE
        self.stale = bool(self.acr & DATA_CACHE)
        return self.machine.operation(address, before, after, "programmed")


class Rcc(Plain):
    """Clocks are ready when they are asked for."""

    CR, CFGR = 0x00, 0x08

    def __init__(self):
        super().__init__({self.CR: 0x83})

    def read(self, offset):
        value = super().read(offset)
        if offset == self.CR:
            return value | value << 1 & 1 << 1 | (value & 1 << 16) << 1 | (value & 1 << 24) << 1
        if offset == self.CFGR:
            return value & ~0xC | (value & 3) << 2
        return value


class Usart(Line):
    # Half words may be written too (30.6.8).
    ALSO = 2
    SR, DR, BRR, CR1 = 0x00, 0x04, 0x08, 0x0C
    RXNE, TC, TXE = 1 << 5, 1 << 6, 1 << 7

    def __init__(self, machine):
        super().__init__(machine)
        self.values = {}
        self.checked = False

    def clocked(self):
        machine = self.machine
        register, bit = machine.USART_CLOCK
        if not machine.rcc.read(register) >> bit & 1:
            machine.violation("the USART is used without its clock")

    def check(self):
        """At the first byte: baud rate, pins, format."""
        self.checked = True
        machine = self.machine
        divider = self.values.get(self.BRR, 0)
        if not divider or abs(machine.HZ / divider / 115_200 - 1) > 0.02:
            machine.violation(f"a BRR of {divider} is not 115,200 baud")
        for pin in machine.PINS:
            mode = machine.gpio.read(0x00) >> 2 * pin & 3
            function = machine.gpio.read(0x24 if pin > 7 else 0x20) >> 4 * (pin % 8) & 15
            if (mode, function) != (2, 7):
                machine.violation(f"pin {pin} is not the USART's: mode {mode}, function {function}")
        if not machine.rcc.read(0x30) & 1:
            machine.violation("port A is used without its clock")

    def read(self, offset):
        self.clocked()
        if offset == self.SR:
            return self.TXE | self.TC | (self.RXNE if self.ready() else 0)
        if offset == self.DR:
            return self.take()
        return self.values.get(offset, 0)

    def write(self, offset, value):
        self.clocked()
        if offset != self.DR:
            self.values[offset] = value
            return
        if not self.checked:
            self.check()
        if self.values.get(self.CR1, 0) & 0x200C != 0x200C:
            self.machine.violation("the USART sends while it is off")
        if self.machine.controller.stale:
            self.machine.violation("the data cache was not reset after flash was changed (3.5.2)")
        self.send(value & 0xFF)


class Stm32(Machine):
    SECTORS = []
    USART = USART_CLOCK = PINS = None
    RAM = [(0x2000_0000, 128 << 10)]
    VECTORS = 0x0800_0000

    def peripherals(self):
        self.controller = FlashController(self)
        self.rcc = Rcc()
        # Pins 13 to 15 are the debug port's from the start (8.4.1).
        self.gpio = Plain({0x00: 0xA800_0000})
        # The size of flash in KiB (RM0383 24.2), which the abstraction layer asks for.
        size = Plain({0xA20: self.FLASH[1] >> 10 << 16})
        return [
            (0x4002_3C00, 0x400, self.controller),
            (0x4002_3800, 0x400, self.rcc),
            (0x4002_0000, 0x400, self.gpio),
            (self.USART, 0x400, Usart(self)),
            (0x1FFF_7000, 0x1000, size),
        ]

    def program(self, address, size, value):
        return self.controller.program(address, size, value)


class Stm32f405(Stm32):
    NAME = "stm32f405"
    FLASH = (0x0800_0000, 1 << 20)
    SECTORS = [16 << 10] * 4 + [64 << 10] + [128 << 10] * 7
    USART, USART_CLOCK, PINS = 0x4001_1000, (0x44, 4), (9, 10)


class Stm32f411(Stm32):
    NAME = "nucleo-f411re"
    FLASH = (0x0800_0000, 512 << 10)
    SECTORS = [16 << 10] * 4 + [64 << 10] + [128 << 10] * 3
    USART, USART_CLOCK, PINS = 0x4000_4400, (0x40, 17), (2, 3)
