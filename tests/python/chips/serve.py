"""Runs an agent on a model of its chip, with its UART at a TCP socket.

    python serve.py CHIP agent.elf [--count]

With `--count`, reports have the instructions from the start to the first byte sent (slow). Prints `listening PORT`. Then takes lines from standard input and answers each with one of JSON:
`report` (what was counted, what was forbidden), `reset`, `cut N` (the power, inside the Nth
operation on flash from now: the connection ends, and the chip starts again), `cyccnt off` (a reset to a
chip without cycle counter). Ends where standard input ends.
"""

import json
import os
import select
import socket
import struct
import sys
from collections import deque

import nrf52840
import rp2040
import stm32f4
from machine import PowerOff

CHIPS = {
    "stm32f405": stm32f4.Stm32f405,
    "nucleo-f411re": stm32f4.Stm32f411,
    "nrf52840-dk": nrf52840.Nrf52840,
    "pico": rp2040.Rp2040,
}


def program_of(path):
    """(address, bytes) of an ELF's segments, where they are loaded (System V ABI, chapter 5)."""
    with open(path, "rb") as file:
        elf = file.read()
    if elf[:6] != b"\x7fELF\x01\x01":
        raise SystemExit(f"{path}: no 32-bit little-endian ELF file")
    offset, entry_size, count = *struct.unpack_from("<I", elf, 28), *struct.unpack_from("<HH", elf, 42)
    for i in range(count):
        kind, at, _, physical, size = struct.unpack_from("<5I", elf, offset + i * entry_size)
        if kind == 1 and size:
            yield physical, elf[at : at + size]


class Link:
    """The other end of the UART, and the person at the machine's buttons."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.peer = None
        self.received = deque()
        self.sending = bytearray()
        self.lines = b""
        print("listening", self.listener.getsockname()[1], flush=True)

    def send(self, byte):
        self.sending.append(byte)
        if len(self.sending) >= 512:
            self.flush()

    def flush(self):
        if self.peer is not None and self.sending:
            try:
                self.peer.sendall(bytes(self.sending))
            except OSError:
                self.hang_up()
        # What nobody listens to is lost, as on a wire.
        self.sending.clear()

    def hang_up(self):
        if self.peer is not None:
            self.peer.close()
        self.peer = None

    def forget(self):
        """The machine starts again: what was on the way to it is lost."""
        self.flush()
        self.received.clear()

    def poll(self, machine, wait):
        """Looks for bytes and commands; with `wait`, until there are some."""
        self.flush()
        watched = [self.listener, sys.stdin] + ([self.peer] if self.peer else [])
        ready, _, _ = select.select(watched, [], [], None if wait else 0)
        if self.listener in ready:
            self.hang_up()
            self.peer, _ = self.listener.accept()
            self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.peer in ready:
            try:
                data = self.peer.recv(65536)
            except OSError:
                data = b""
            if data:
                self.received.extend(data)
            else:
                self.hang_up()
        if sys.stdin in ready:
            data = os.read(sys.stdin.fileno(), 4096)
            if not data:
                raise EOFError
            self.lines += data
            while b"\n" in self.lines:
                line, self.lines = self.lines.split(b"\n", 1)
                self.command(machine, line.decode().split())

    def command(self, machine, words):
        answer = {"violations": machine.violations, **machine.notes}
        restart = words == ["reset"]
        if words[:1] == ["cut"] and len(words) == 2:
            machine.cut_in = int(words[1])
        elif words == ["cyccnt", "off"]:
            machine.has_cyccnt = False
            restart = True
        elif words not in (["reset"], ["report"]):
            answer = {"error": "commands are: report, reset, cut N, cyccnt off"}
        print(json.dumps(answer), flush=True)
        if restart:
            raise PowerOff


def main():
    arguments = [a for a in sys.argv[1:] if a != "--count"]
    if len(arguments) != 2 or arguments[0] not in CHIPS:
        raise SystemExit(f"{__doc__}\nChips: {', '.join(CHIPS)}")
    machine = CHIPS[arguments[0]](program_of(arguments[1]), Link())
    machine.counting = "--count" in sys.argv
    try:
        machine.run()
    except EOFError:
        pass


if __name__ == "__main__":
    main()
