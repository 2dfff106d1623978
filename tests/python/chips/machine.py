"""A microcontroller in Unicorn: the agent's own machine code, with models of the chip's registers.

A chip (`stm32f4.py`, `nrf52840.py`, `rp2040.py`) is a subclass of `Machine`. What the chip's manual forbids
is noted in `violations`, whether or not the program notices: a test wants none.

Not modelled: time (what is busy stays so for some reads of its status; SysTick and CYCCNT count the
host's time), interrupts, caches, and what is read from flash between a write and the next access to
a register.
"""

import random
import struct
import time

import unicorn
from unicorn import arm_const as arm

# How often in a row a status is read unchanged before the machine sleeps until a byte comes.
IDLE = 4
# What RAM holds when power comes back.
GARBAGE = 0xA5


class PowerOff(Exception):
    """The machine stops here and starts again: a reset, or a cut of the power."""


class Plain:
    """Registers that keep what is written."""

    def __init__(self, values=None):
        self.values = dict(values or {})

    def read(self, offset):
        return self.values.get(offset, 0)

    def write(self, offset, value):
        self.values[offset] = value


class BitBand:
    """The words that stand for bits of peripherals (Armv7-M ARM, B3.1; Cortex-M3 and M4)."""

    BASE, SIZE = 0x4200_0000, 0x200_0000

    def __init__(self, devices):
        self.devices = devices

    def _device(self, offset):
        address, bit = 0x4000_0000 + offset // 128 * 4, offset // 4 % 32
        for base, size, device in self.devices:
            if base <= address < base + size:
                return device, address - base, bit
        raise RuntimeError(f"bit {bit} of {address:#x}: no such register here")

    def read(self, offset):
        device, at, bit = self._device(offset)
        return device.read(at) >> bit & 1

    def write(self, offset, value):
        device, at, bit = self._device(offset)
        device.write(at, device.read(at) & ~(1 << bit) | (value & 1) << bit)


class Core:
    """The processor's own registers: SysTick, DWT, the system control block (Armv7-M ARM, B3 and C1)."""

    CTRL, RELOAD, CURRENT = 0xE010, 0xE014, 0xE018
    ICSR, VTOR, AIRCR, DEMCR = 0xED04, 0xED08, 0xED0C, 0xEDFC
    DWT_CTRL, CYCCNT = 0x1000, 0x1004
    NOCYCCNT, TRCENA, PENDSTCLR, PENDSTSET = 1 << 25, 1 << 24, 1 << 25, 1 << 26

    def __init__(self, machine, has_dwt):
        self.machine = machine
        self.has_dwt = has_dwt
        self.values = {}
        self.systick_from = self.dwt_from = None
        self.cyccnt = 0

    def _ticks(self, since):
        return int((time.perf_counter() - since) * self.machine.HZ)

    def _dwt_on(self):
        return self.has_dwt and self.values.get(self.DEMCR, 0) & self.TRCENA

    def read(self, offset):
        if offset == self.CURRENT and self.systick_from is not None:
            period = self.values.get(self.RELOAD, 0) + 1
            return (period - self._ticks(self.systick_from) % period) % period
        if offset == self.ICSR and self.systick_from is not None:
            period = self.values.get(self.RELOAD, 0) + 1
            return self.PENDSTSET if self._ticks(self.systick_from) >= period else 0
        if offset == self.DWT_CTRL:
            if not self._dwt_on():
                return 0
            none = 0 if self.machine.has_cyccnt else self.NOCYCCNT
            return self.values.get(offset, 0) & 1 | 0x4000_0000 | none
        if offset == self.CYCCNT:
            if not self._dwt_on():
                return 0
            count = self.cyccnt
            if self.dwt_from is not None:
                count += self._ticks(self.dwt_from)
            return count & 0xFFFF_FFFF
        return self.values.get(offset, 0)

    def write(self, offset, value):
        if offset == self.CTRL:
            if self.systick_from is not None and not value & 1:
                # What it had counted stays there.
                self.values[self.CURRENT] = self.read(self.CURRENT)
                self.values[self.ICSR] = self.read(self.ICSR)
            self.systick_from = time.perf_counter() if value & 1 else None
        if offset == self.CURRENT:
            value = 0
        if offset == self.ICSR:
            value = 0 if value & self.PENDSTCLR else value & self.PENDSTSET
        if offset == self.AIRCR and value & 0xFFFF_0004 == 0x05FA_0004:
            raise PowerOff
        if offset in (self.DWT_CTRL, self.CYCCNT):
            if not self._dwt_on():
                return
            if offset == self.CYCCNT:
                self.cyccnt, value = value, self.values.get(self.DWT_CTRL, 0)
            elif self.dwt_from is not None and not value & 1:
                self.cyccnt += self._ticks(self.dwt_from)
            counts = value & 1 and self.machine.has_cyccnt
            self.dwt_from = time.perf_counter() if counts else None
            self.values[self.DWT_CTRL] = value
            return
        self.values[offset] = value


class Machine:
    """A chip with its flash; `link` is what its UART is connected to (`serve.Link`)."""

    NAME = None
    CPU = arm.UC_CPU_ARM_CORTEX_M4
    HAS_DWT = True
    HZ = 16_000_000
    # Address and size.
    FLASH = None
    RAM = []
    # Where the vectors are, and what is part of the slots for `violations`' texts.
    VECTORS = None
    # Base address and size of what `peripherals` answers for.
    REGISTERS = []

    def __init__(self, program, link):
        """`program`: (address, bytes) of what an ELF file puts into flash."""
        self.link = link
        self.has_cyccnt = self.HAS_DWT
        self.flash = bytearray(b"\xff" * self.FLASH[1])
        for address, data in program:
            at = address - self.FLASH[0]
            self.flash[at : at + len(data)] = data
        self.violations = []
        self.notes = {"starts": 0, "erased": 0, "programmed": 0}
        # Instructions since the start, where they are counted; noted at the first byte that is sent.
        self.counting = False
        self.count = 0
        # Flash operations until the power is cut, where it is to be.
        self.cut_in = None
        self.random = random.Random(1)

    # ---- for the chips

    def peripherals(self):
        """[(base, size, device)], made anew at each start."""
        raise NotImplementedError

    def program(self, address, size, value):
        """The controller is given a write to flash. Returns the bytes that flash then holds."""
        raise NotImplementedError

    def violation(self, text):
        pc = self.uc.reg_read(arm.UC_ARM_REG_PC)
        text = f"{self.NAME}: {text} (near {pc:#x})"
        if len(self.violations) < 20:
            self.violations.append(text)

    def flash_at(self, address, size):
        return bytes(self.uc.mem_read(address, size))

    def operation(self, address, before, after, kind):
        """Counts an operation on flash and gives what it leaves: `after`, or where the power is cut in
        it, something between `before` and `after`."""
        self.notes[kind] += 1
        if self.cut_in is None:
            return after
        self.cut_in -= 1
        if self.cut_in > 0:
            return after
        pick = self.random.getrandbits
        if kind == "erased":
            # Bytes here and there are erased.
            torn = bytes(a if pick(1) else b for b, a in zip(before, after))
        else:
            # Bits here and there are programmed.
            torn = bytes(b & (a | pick(8)) for b, a in zip(before, after))
        self.put(address, torn)
        self.cut_in = None
        self.link.hang_up()
        raise PowerOff

    def put(self, address, data):
        """Sets bytes of flash, after the write in progress if there is one."""
        self.uc.mem_write(address, bytes(data))
        self.pending.append((address, bytes(data)))

    # ---- the machine

    def settle(self):
        """What the processor wrote into memory is replaced by what the controller makes of it."""
        for address, data in self.pending:
            self.uc.mem_write(address, data)
        self.pending.clear()

    def _guarded(self, callback, otherwise):
        """Calls from the emulator, which nothing is raised through: what is, is kept until it has
        stopped. Until then the program may go on for some instructions, of which nothing counts."""

        def call(*arguments):
            if self.ended is None:
                try:
                    return callback(*arguments)
                except BaseException as e:
                    self.ended = e
                    self.uc.emu_stop()
            return otherwise(*arguments)

        return call

    def _on_flash_write(self, uc, access, address, size, value, _):
        self.settle()
        data = self.program(address, size, value & (1 << 8 * size) - 1)
        self.pending.append((address, bytes(data)))

    def _undo_flash_write(self, uc, access, address, size, value, _):
        # Behind what the operation that was interrupted has left there.
        self.pending.insert(0, (address, self.flash_at(address, size)))

    def _map_device(self, base, size, device):
        def read(uc, offset, width, _):
            self.settle()
            shift = 8 * (offset & 3)
            return device.read(offset & ~3) >> shift & (1 << 8 * width) - 1

        def write(uc, offset, width, value, _):
            self.settle()
            if width not in (4, getattr(device, "ALSO", 4)):
                self.violation(f"a write of {width} bytes to register {base + offset:#x}")
            device.write(offset & ~3, value)

        read = self._guarded(read, lambda *_: 0)
        write = self._guarded(write, lambda *_: None)
        self.uc.mmio_map(base, size, read, None, write, None)

    def start(self):
        """Power comes, or a reset ends."""
        self.notes["starts"] += 1
        self.notes.pop("instructions", None)
        self.count = 0
        self.pending = []
        self.ended = None
        uc = self.uc = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        )
        uc.ctl_set_cpu_model(self.CPU)
        base, size = self.FLASH
        uc.mem_map(base, size)
        uc.mem_write(base, bytes(self.flash))
        for start, length in self.RAM:
            uc.mem_map(start, length)
            uc.mem_write(start, bytes([GARBAGE]) * length)
        self.core = Core(self, self.HAS_DWT)
        self._map_device(0xE000_0000, 0x10_0000, self.core)
        devices = self.peripherals()
        if self.CPU == arm.UC_CPU_ARM_CORTEX_M4:
            devices.append((BitBand.BASE, BitBand.SIZE, BitBand(list(devices))))
        for start, length, device in devices:
            self._map_device(start, length, device)
        uc.hook_add(
            unicorn.UC_HOOK_MEM_WRITE,
            self._guarded(self._on_flash_write, self._undo_flash_write),
            begin=base,
            end=base + size - 1,
        )
        if self.counting:
            uc.hook_add(unicorn.UC_HOOK_CODE, self._on_instruction)
        uc.hook_add(unicorn.UC_HOOK_INTR, self._guarded(self._on_exception, lambda *_: None))
        no_memory = self._guarded(self._on_no_memory, lambda *_: False)
        uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, no_memory)
        stack, entry = struct.unpack("<II", self.flash_at(self.VECTORS, 8))
        uc.reg_write(arm.UC_ARM_REG_MSP, stack)
        uc.reg_write(arm.UC_ARM_REG_SP, stack)
        return entry

    def _on_instruction(self, uc, address, size, _):
        self.count += 1

    def _on_exception(self, uc, number, _):
        pc = uc.reg_read(arm.UC_ARM_REG_PC)
        raise RuntimeError(f"{self.NAME}: exception {number} at {pc:#x}")

    def _on_no_memory(self, uc, access, address, size, value, _):
        pc = uc.reg_read(arm.UC_ARM_REG_PC)
        raise RuntimeError(f"{self.NAME}: {address:#x} cannot be accessed so, at {pc:#x}")

    def run(self):
        """Runs until the link ends (`EOFError`), starting again after each cut and reset."""
        while True:
            entry = self.start()
            try:
                self.uc.emu_start(entry | 1, 0xFFFF_FFFE)
            except unicorn.UcError as e:
                pc = self.uc.reg_read(arm.UC_ARM_REG_PC)
                self.ended = self.ended or RuntimeError(f"{self.NAME}: {e} at {pc:#x}")
            self.settle()
            self.flash[:] = self.uc.mem_read(*self.FLASH)
            if not isinstance(self.ended, PowerOff):
                raise self.ended or RuntimeError(f"{self.NAME}: the program has ended")
            self.link.forget()


class Line:
    """Bytes between a UART's registers and the link; waits where the program only polls."""

    def __init__(self, machine):
        self.machine = machine
        self.polls = 0

    def ready(self):
        """Whether a byte is there to be read, asked by the program's polling."""
        link = self.machine.link
        if link.received:
            return True
        self.polls += 1
        link.poll(self.machine, wait=self.polls > IDLE)
        return bool(link.received)

    def take(self):
        self.polls = 0
        received = self.machine.link.received
        return received.popleft() if received else 0

    def send(self, byte):
        self.polls = 0
        if self.machine.counting:
            self.machine.notes.setdefault("instructions", self.machine.count)
        self.machine.link.send(byte)
