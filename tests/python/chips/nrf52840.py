"""nRF52840, as far as its agent goes: "nRF52840 Product Specification" 1.7, 4.3 (NVMC), 5.4 (CLOCK), 6.33 (UART)."""

from machine import Line, Machine, Plain

PAGE = 4096
READ_ONLY, WRITE, ERASE = 0, 1, 2
# How often a word may be written between two erasures of its page (4.3.1, nWRITE).
WRITES = 2
# Reads of READY for which an operation takes.
PATIENCE = 3


class Nvmc:
    READY, READY_NEXT, CONFIG, ERASE_PAGE = 0x400, 0x408, 0x504, 0x508

    def __init__(self, machine):
        self.machine = machine
        self.mode = READ_ONLY
        self.busy = 0

    def read(self, offset):
        if offset in (self.READY, self.READY_NEXT):
            if self.busy:
                self.busy -= 1
                return 0
            return 1
        return self.mode if offset == self.CONFIG else 0

    def write(self, offset, value):
        note = self.machine.violation
        if self.busy:
            note("NVMC is written while it is busy (4.3.1)")
        if offset == self.CONFIG:
            if value not in (READ_ONLY, WRITE, ERASE):
                note(f"there is no mode {value}")
            self.mode = value
        elif offset == self.ERASE_PAGE:
            if self.mode != ERASE or value % PAGE or value >= self.machine.FLASH[1]:
                note(f"page {value:#x} cannot be erased in mode {self.mode}")
                return
            before = self.machine.flash_at(value, PAGE)
            self.machine.put(value, self.machine.operation(value, before, b"\xff" * PAGE, "erased"))
            for address in range(value, value + PAGE, 4):
                self.machine.writes.pop(address, None)
            self.busy = PATIENCE
        else:
            note(f"NVMC register {offset:#x} is written")

    def program(self, address, size, value):
        note = self.machine.violation
        before = self.machine.flash_at(address, size)
        if self.busy:
            note(f"{address:#x} is written while NVMC is busy (4.3.1)")
        if self.mode != WRITE:
            note(f"{address:#x} is written in mode {self.mode}")
            return before
        if size != 4 or address % 4:
            note(f"{address:#x}: only whole words can be written, not {size} bytes")
            return before
        self.machine.writes[address] = self.machine.writes.get(address, 0) + 1
        if self.machine.writes[address] > WRITES:
            note(f"{address:#x} is written more than {WRITES} times (4.3.1)")
        data = value.to_bytes(4, "little")
        after = bytes(b & d for b, d in zip(before, data))
        if after != data:
            note(f"{address:#x}: a 0 is to become a 1 without an erasure (4.3.1)")
        self.busy = PATIENCE
        return self.machine.operation(address, before, after, "programmed")


class Clock(Plain):
    """The crystal is there at once: page 5.4."""

    def write(self, offset, value):
        if offset == 0x000 and value & 1:
            self.values[0x100] = 1
            self.values[0x40C] = 0x1_0001
        else:
            super().write(offset, value)


class Uart(Line):
    START_RX, START_TX, RX_READY, TX_READY = 0x000, 0x008, 0x108, 0x11C
    ENABLE, PIN_TX, PIN_RX, RXD, TXD, BAUD = 0x500, 0x50C, 0x514, 0x518, 0x51C, 0x524

    def __init__(self, machine):
        super().__init__(machine)
        self.values = {}
        self.announced = False
        self.receives = self.sends = False

    def read(self, offset):
        if offset == self.RX_READY:
            # The event comes once a byte; taking the byte lets the next one come.
            if self.receives and not self.announced and self.ready():
                self.announced = True
                self.values[offset] = 1
            return self.values.get(offset, 0)
        if offset == self.RXD:
            self.announced = False
            return self.take()
        return self.values.get(offset, 0)

    def write(self, offset, value):
        if offset == self.START_RX:
            self.receives = self.on()
        elif offset == self.START_TX:
            self.sends = self.on()
        elif offset == self.TXD:
            if not self.sends:
                self.machine.violation("the UART sends and was not started")
            self.send(value & 0xFF)
            self.values[self.TX_READY] = 1
        else:
            self.values[offset] = value

    def on(self):
        machine, get = self.machine, self.values.get
        if get(self.ENABLE) != 4:
            machine.violation("the UART is started and not enabled")
        if (get(self.PIN_TX), get(self.PIN_RX)) != (6, 8):
            machine.violation("the UART's pins are not those of the debugger")
        if get(self.BAUD) != 0x01D7_E000:
            machine.violation(f"a BAUDRATE of {get(self.BAUD, 0):#x} is not 115,200 baud (6.33.9.13)")
        if not machine.clock.read(0x40C) & 0x1_0000:
            machine.violation("the UART is started without the crystal")
        return True


class Nrf52840(Machine):
    NAME = "nrf52840-dk"
    HZ = 64_000_000
    FLASH = (0, 1 << 20)
    RAM = [(0x2000_0000, 256 << 10)]
    VECTORS = 0

    def __init__(self, program, link):
        super().__init__(program, link)
        # Of words, since the erasure of their pages; power cuts do not make it forget.
        self.writes = {}

    def peripherals(self):
        self.controller = Nvmc(self)
        self.clock = Clock()
        return [
            (0x4001_E000, 0x1000, self.controller),
            (0x4000_0000, 0x1000, self.clock),
            (0x4000_2000, 0x1000, Uart(self)),
            (0x5000_0000, 0x1000, Plain()),
        ]

    def program(self, address, size, value):
        return self.controller.program(address, size, value)
