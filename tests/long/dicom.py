"""DICOM files of any size as streams: nothing of their pixel data is ever held."""

import hashlib
import random
import struct

BLOCK = 1 << 20
EXPLICIT, IMPLICIT, JPEG_2000 = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.90"
_LONG = {"OB", "OV", "OW"}
_noise = random.Random(7).randbytes(BLOCK)


def pixels(offset, length):
    """Bytes of an endless pattern that says nowhere the same twice, in pieces."""
    end = offset + length
    while offset < end:
        number, start = divmod(offset, BLOCK)
        piece = min(BLOCK - start, end - offset)
        block = number.to_bytes(8, "little") + _noise[8:]
        yield block if piece == BLOCK else block[start : start + piece]
        offset += piece


def digest(pieces):
    """SHA-256 of a stream, and its length."""
    state, length = hashlib.sha256(), 0
    for piece in pieces:
        state.update(piece)
        length += len(piece)
    return state.hexdigest(), length


def element(tag, vr, value, explicit=True, length=None):
    """A data element; `length` stands for that of a value that follows."""
    value += b"" if len(value) % 2 == 0 else (b"\0" if vr in ("UI", "OB") else b" ")
    length = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if not explicit:
        return head + struct.pack("<I", length) + value
    if vr in _LONG:
        return head + vr.encode() + struct.pack("<HI", 0, length) + value
    return head + vr.encode() + struct.pack("<H", length) + value


class Image:
    """An image of large frames. A subclass says how its pixel data is written."""

    syntax, explicit = EXPLICIT, True

    def __init__(self, uid, rows, columns, frames):
        self.study, self.series, self.uid = f"{uid}.1", f"{uid}.1.1", f"{uid}.1.1.1"
        self.rows, self.columns, self.frames = rows, columns, frames

    @property
    def path(self):
        return f"/studies/{self.study}/series/{self.series}/instances/{self.uid}"

    def file(self):
        """The file in pieces."""
        yield bytes(128) + b"DICM" + self.meta()
        yield from self.dataset(self.explicit)

    def meta(self):
        secondary_capture = b"1.2.840.10008.5.1.4.1.1.7.3"
        elements = (
            element(0x00020001, "OB", b"\0\1")
            + element(0x00020002, "UI", secondary_capture)
            + element(0x00020003, "UI", self.uid.encode())
            + element(0x00020010, "UI", self.syntax.encode())
            + element(0x00020012, "UI", b"2.25.1")
        )
        return element(0x00020000, "UL", struct.pack("<I", len(elements))) + elements

    def header(self, explicit):
        """All before the pixel data."""
        short = lambda number: struct.pack("<H", number)
        rows = [
            (0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.7.3"),
            (0x00080018, "UI", self.uid.encode()),
            (0x00080020, "DA", b"20240229"),
            (0x00080060, "CS", b"OT"),
            (0x00100010, "PN", b"Phantom^Large"),
            (0x00100020, "LO", b"P-LARGE"),
            (0x0020000D, "UI", self.study.encode()),
            (0x0020000E, "UI", self.series.encode()),
            (0x00200013, "IS", b"1"),
            (0x00280002, "US", short(1)),
            (0x00280004, "CS", b"MONOCHROME2"),
            (0x00280008, "IS", str(self.frames).encode()),
            (0x00280010, "US", short(self.rows)),
            (0x00280011, "US", short(self.columns)),
            (0x00280100, "US", short(16)),
            (0x00280101, "US", short(16)),
            (0x00280102, "US", short(15)),
            (0x00280103, "US", short(0)),
        ]
        return b"".join(element(tag, vr, value, explicit) for tag, vr, value in rows)


class Native(Image):
    """Pixel data of a declared length below 4 GiB."""

    def __init__(self, uid, rows, columns, frames, syntax=EXPLICIT):
        super().__init__(uid, rows, columns, frames)
        self.syntax, self.explicit = syntax, syntax == EXPLICIT
        self.length = rows * columns * frames * 2

    def dataset(self, explicit):
        yield self.header(explicit) + element(0x7FE00010, "OW", b"", explicit, self.length)
        yield from pixels(0, self.length)

    def size(self):
        return 132 + len(self.meta()) + len(self.header(self.explicit)) + (12 if self.explicit else 8) + self.length

    def frame(self, number):
        length = self.length // self.frames
        return pixels((number - 1) * length, length)


class Encapsulated(Image):
    """One fragment a frame, an empty Basic and a filled Extended Offset Table (PS3.5 A.4)."""

    syntax = JPEG_2000

    def __init__(self, uid, lengths):
        super().__init__(uid, 4096, 4096, len(lengths))
        self.lengths, self.offsets, offset = lengths, [], 0
        for length in lengths:
            self.offsets.append(offset)
            offset += 8 + length
        self.total = offset

    def front(self):
        table = lambda numbers: struct.pack(f"<{len(numbers)}Q", *numbers)
        return (
            self.header(True)
            + element(0x7FE00001, "OV", table(self.offsets))
            + element(0x7FE00002, "OV", table(self.lengths))
            + element(0x7FE00010, "OB", b"", length=0xFFFFFFFF)
            + struct.pack("<HHI", 0xFFFE, 0xE000, 0)
        )

    def dataset(self, explicit):
        assert explicit
        yield self.front()
        for number, length in enumerate(self.lengths, start=1):
            yield struct.pack("<HHI", 0xFFFE, 0xE000, length)
            yield from self.frame(number)
        yield struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)

    def size(self):
        return 132 + len(self.meta()) + len(self.front()) + self.total + 8

    def frame(self, number):
        return pixels(self.offsets[number - 1], self.lengths[number - 1])
