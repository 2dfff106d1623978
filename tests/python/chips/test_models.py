"""What the manuals forbid is noticed by the models: each is driven wrongly, register by register."""

import unittest

import nrf52840
import rp2040
import stm32f4


class Bench:
    """In a machine's place: some flash, and what is noted."""

    def __init__(self, base=0, size=1 << 20, sectors=(16 << 10,) * 4):
        self.FLASH, self.SECTORS = (base, size), sectors
        self.bytes = bytearray(b"\xff" * size)
        self.violations, self.writes = [], {}

    def flash_at(self, address, size):
        at = address - self.FLASH[0]
        return bytes(self.bytes[at : at + size])

    def put(self, address, data):
        at = address - self.FLASH[0]
        self.bytes[at : at + len(data)] = data

    def operation(self, address, before, after, kind):
        return after

    def violation(self, text):
        self.violations.append(text)


class Stm32f4(unittest.TestCase):
    def setUp(self):
        self.bench = Bench(base=0x0800_0000)
        self.flash = stm32f4.FlashController(self.bench)

    def unlock(self, control=0x200 | stm32f4.PG):
        for key in stm32f4.KEYS:
            self.flash.write(0x04, key)
        self.flash.write(0x10, control)

    def word(self, address, value, size=4):
        data = self.flash.program(address, size, value)
        self.bench.put(address, data)
        while self.flash.read(0x0C) & stm32f4.BSY:
            pass
        return int.from_bytes(data, "little")

    def noted(self, part):
        self.assertTrue(any(part in v for v in self.bench.violations), self.bench.violations)

    def test_the_sequence_of_the_manual_writes_and_erases(self):
        self.unlock()
        self.assertEqual(self.word(0x0800_4000, 0x1234_5678), 0x1234_5678)
        self.flash.write(0x10, 0x200 | stm32f4.SER | 1 << 3)
        self.flash.write(0x10, 0x200 | stm32f4.SER | 1 << 3 | stm32f4.STRT)
        self.assertEqual(self.bench.flash_at(0x0800_4000, 4), b"\xff" * 4)
        self.assertEqual(self.bench.violations, [])

    def test_a_write_while_locked_changes_nothing(self):
        self.assertEqual(self.word(0x0800_4000, 0), 0xFFFF_FFFF)
        self.assertTrue(self.flash.read(0x0C) & stm32f4.PGSERR)
        self.noted("without PG")

    def test_keys_out_of_sequence_lock_up(self):
        self.flash.write(0x04, stm32f4.KEYS[1])
        self.unlock()
        self.assertTrue(self.flash.read(0x10) & stm32f4.LOCK)
        self.noted("out of its sequence")

    def test_a_width_other_than_psize_is_an_error(self):
        self.unlock()
        self.assertEqual(self.word(0x0800_4000, 0, size=1), 0xFF)
        self.noted("PGPERR")

    def test_a_zero_stays_a_zero(self):
        self.unlock()
        self.word(0x0800_4000, 0xFFFF_0000)
        self.assertEqual(self.word(0x0800_4000, 0x0000_FFFF), 0)
        self.noted("without an erasure")

    def test_writing_while_busy_is_noted(self):
        self.unlock()
        for at in (0x0800_4000, 0x0800_4004):
            self.flash.program(at, 4, 0)
        self.noted("busy")

    def test_starting_without_a_sector_is_noted(self):
        self.unlock(0x200)
        self.flash.write(0x10, stm32f4.STRT)
        self.noted("STRT")

    def test_the_data_cache_is_stale_until_it_was_reset_while_off(self):
        self.flash.write(0x00, stm32f4.DATA_CACHE)
        self.unlock()
        self.word(0x0800_4000, 0)
        self.assertTrue(self.flash.stale)
        self.flash.write(0x00, stm32f4.DATA_CACHE | stm32f4.RESET_DATA_CACHE)
        self.noted("while it is on")
        self.assertTrue(self.flash.stale)
        self.flash.write(0x00, stm32f4.RESET_DATA_CACHE)
        self.assertFalse(self.flash.stale)


class Nrf52840(unittest.TestCase):
    def setUp(self):
        self.bench = Bench()
        self.flash = nrf52840.Nvmc(self.bench)

    def mode(self, mode):
        while not self.flash.read(0x400):
            pass
        self.flash.write(0x504, mode)

    def word(self, address, value, size=4):
        data = self.flash.program(address, size, value)
        self.bench.put(address, data)
        while not self.flash.read(0x400):
            pass
        return int.from_bytes(data, "little")

    def noted(self, part):
        self.assertTrue(any(part in v for v in self.bench.violations), self.bench.violations)

    def test_the_sequence_of_the_manual_writes_and_erases(self):
        self.mode(nrf52840.WRITE)
        self.assertEqual(self.word(0x1000, 7), 7)
        self.mode(nrf52840.ERASE)
        self.flash.write(0x508, 0x1000)
        self.mode(nrf52840.READ_ONLY)
        self.assertEqual(self.bench.flash_at(0x1000, 4), b"\xff" * 4)
        self.assertEqual(self.bench.violations, [])

    def test_a_word_is_written_twice_and_not_three_times(self):
        self.mode(nrf52840.WRITE)
        self.word(0x1000, 7)
        self.word(0x1000, 7)
        self.assertEqual(self.bench.violations, [])
        self.word(0x1000, 7)
        self.noted("more than 2 times")

    def test_the_wrong_mode_changes_nothing(self):
        self.assertEqual(self.word(0x1000, 7), 0xFFFF_FFFF)
        self.flash.write(0x508, 0x1000)
        self.noted("in mode 0")
        self.noted("cannot be erased in mode 0")

    def test_bytes_are_not_written(self):
        self.mode(nrf52840.WRITE)
        self.assertEqual(self.word(0x1000, 0, size=1), 0xFF)
        self.noted("whole words")


class Rp2040(unittest.TestCase):
    """The functions in ROM, without the machine around them."""

    def setUp(self):
        class Chip(rp2040.Rp2040):
            def __init__(self):
                self.bench = Bench(*self.FLASH)
                self.violations = self.bench.violations
                self.connected, self.xip, self.flushed = False, True, True
                self.flash_at, self.put = self.bench.flash_at, self.bench.put
                self.operation, self.violation = self.bench.operation, self.bench.violation

            def set_xip(self, on):
                self.xip = on

        self.chip = Chip()

    def noted(self, part):
        self.assertTrue(any(part in v for v in self.chip.violations), self.chip.violations)

    def test_the_sequence_of_the_manual_erases(self):
        self.chip.bench.bytes[0x8_0000] = 0
        self.chip.rom_if()
        self.chip.rom_ex()
        self.chip.rom_re(0x8_0000, 4096, 4096, 0x20)
        self.chip.rom_fc()
        self.chip.rom_cx()
        self.assertEqual(self.chip.bench.bytes[0x8_0000], 0xFF)
        self.assertEqual(self.chip.violations, [])

    def test_steps_that_are_left_out_are_noted(self):
        self.chip.rom_re(0x8_0000, 4096, 4096, 0x20)
        self.noted("while it is mapped")
        self.chip.rom_ex()
        self.noted("not connected")
        self.chip.rom_cx()
        self.noted("the cache holds")

    def test_half_sectors_and_data_in_flash_are_noted(self):
        self.chip.rom_if()
        self.chip.rom_ex()
        self.chip.rom_re(0x8_0800, 2048, 4096, 0x20)
        self.noted("cannot be erased")
        self.chip.rom_rp(0x8_0000, 0x1000_0000, 256, 0)
        self.noted("lies in flash")


if __name__ == "__main__":
    unittest.main()
