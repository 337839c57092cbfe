"""Reads the headers of programs for 64-bit Linux, which are ELF files."""

import struct

MACHINES = {0x3E: "x86_64", 0xB7: "arm64"}

# The kind of a program header that names the dynamic linker.
INTERPRETER = 3


def architecture(program):
    """The architecture that a program runs on, as Lambda calls it."""
    with program.open("rb") as file:
        header = file.read(20)
    # The field e_machine.
    return MACHINES.get(int.from_bytes(header[18:20], "little"), "something else")


def is_static(program):
    """Whether a program needs no dynamic linker, and so no libraries."""
    with program.open("rb") as file:
        header = file.read(64)
        (offset,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(offset)
        entries = file.read(size * count)
    return all(struct.unpack_from("<I", entries, at)[0] != INTERPRETER for at in range(0, size * count, size))
