"""Writes DICOM files with every VR, character set and encoding in random mixtures, for comparison of readers.

The bytes are made by hand, so that values can be as wrong as those of real devices. The same seed gives the same files.
"""

import random
import struct
from pathlib import Path

from pydicom import charset as pydicom_charset
from pydicom.datadict import DicomDictionary
from pydicom.valuerep import PersonName

LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
TEXT = ["SH", "LO", "ST", "LT", "UC", "UT"]
NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q"}
WIDTH = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8, "OB": 2, "UN": 2}
DECIMALS = ["1.000000", "+1", " 12 ", "-0.5", ".5", "5.", "1e5", "1.5E-07", "0.39062500000000", "-164.30000305175781", "007", "", "0",
            "9007199254740993", "123456789012345678901", "3.14159265358979", "1,5", "N/A"]
SYNTAXES = {"1.2.840.10008.1.2": (False, "<"), "1.2.840.10008.1.2.1": (True, "<"), "1.2.840.10008.1.2.2": (True, ">")}


def upper_half(codec):
    """What the bytes A1 to FF are in a codec."""
    letters = []
    for byte in range(0xA1, 0x100):
        try:
            letters.append(bytes([byte]).decode(codec))
        except UnicodeError:
            pass
    return "".join(letters)


def double(codec, rows):
    """Letters of two bytes each: rows of a 94 by 94 table."""
    return "".join(bytes([row, cell]).decode(codec, "ignore") for row in rows for cell in range(0xA1, 0xFF, 5))


KANJI = double("euc_jp", range(0xB0, 0xCF)) + double("euc_jp", range(0xA4, 0xA6))
HANGUL = double("euc_kr", range(0xB0, 0xC8))
HANZI = double("gb2312", range(0xB0, 0xD7))
CHARACTER_SETS = [
    (None, ""),
    ("ISO_IR 100", upper_half("latin_1")),
    ("ISO_IR 101", upper_half("iso8859_2")),
    ("ISO_IR 109", upper_half("iso8859_3")),
    ("ISO_IR 110", upper_half("iso8859_4")),
    ("ISO_IR 126", upper_half("iso8859_7")),
    ("ISO_IR 127", upper_half("iso8859_6")),
    ("ISO_IR 138", upper_half("iso8859_8")),
    ("ISO_IR 144", upper_half("iso8859_5")),
    ("ISO_IR 148", upper_half("iso8859_9")),
    ("ISO_IR 166", upper_half("tis_620")),
    ("ISO_IR 13", "".join(chr(code) for code in range(0xFF61, 0xFFA0))),
    ("ISO_IR 192", "äß€語한\U0001F600"),
    ("GB18030", HANZI + "€\U0001F600ğ"),
    ("GBK", HANZI),
    ("\\ISO 2022 IR 87", KANJI),
    ("ISO 2022 IR 13\\ISO 2022 IR 87", KANJI),
    ("\\ISO 2022 IR 149", HANGUL),
    ("ISO 2022 IR 100\\ISO 2022 IR 144", upper_half("iso8859_5")),
]


def tags_by_vr():
    """Public attributes of each VR that have no other meaning for a reader."""
    tags = {}
    for tag, (vr, _, _, retired, _) in sorted(DicomDictionary.items()):
        group, element = tag >> 16, tag & 0xFFFF
        if retired or group in (0, 2, 4, 6, 0x7FE0, 0xFFFE) or element == 0 or tag in (0x00080005, 0x00280103, 0x00283002):
            continue
        tags.setdefault(vr, []).append(tag)
    return tags


TAGS = tags_by_vr()


class Writer:
    """Makes one file."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.syntax = self.random.choice(sorted(SYNTAXES))
        self.explicit, self.order = SYNTAXES[self.syntax]

    def file(self):
        meta = self.element(0x00020010, "UI", self.syntax.encode(), True, "<")
        meta = self.element(0x00020000, "UL", struct.pack("<I", len(meta)), True, "<") + meta
        return b"\0" * 128 + b"DICM" + meta + self.dataset(None, 0)

    def element(self, tag, vr, value, explicit=None, order=None):
        explicit = self.explicit if explicit is None else explicit
        order = order or self.order
        if len(value) % 2:
            value += b"\0" if vr in ("UI", "OB", "UN") else b" "
        head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
        if not explicit:
            return head + struct.pack(order + "I", len(value)) + value
        if vr in LONG:
            return head + vr.encode() + b"\0\0" + struct.pack(order + "I", len(value)) + value
        return head + vr.encode() + struct.pack(order + "H", len(value)) + value

    def dataset(self, inherited, depth):
        own = self.random.random() < 0.5 or depth == 0
        chosen = self.random.choice(CHARACTER_SETS) if own else inherited
        parts = {}
        if own and chosen[0] is not None:
            parts[0x00080005] = self.element(0x00080005, "CS", chosen[0].encode())
        elif own:
            chosen = inherited or chosen
        for _ in range(self.random.randint(3, 25)):
            vr = self.random.choice(sorted(set(TAGS) - {"SQ", "NONE", "OB or OW", "US or SS", "US or SS or OW", "US or OW"}))
            tag = self.random.choice(TAGS[vr])
            parts[tag] = self.element(tag, vr, self.value(vr, chosen))
        for _ in range(self.random.randint(0, 2) if depth < 3 else 0):
            tag = self.random.choice(TAGS["SQ"])
            parts[tag] = self.element(tag, "SQ", self.sequence(chosen, depth))
        return b"".join(parts[tag] for tag in sorted(parts))

    def sequence(self, charset, depth):
        items = [self.dataset(charset, depth + 1) for _ in range(self.random.randint(0, 2))]
        return b"".join(struct.pack(self.order + "HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)

    def value(self, vr, charset):
        one = self.random.random()
        if one < 0.08:
            return b""
        count = self.random.randint(1, 4)
        if vr in NUMBERS:
            size = struct.calcsize(NUMBERS[vr])
            return b"".join(self.random.choice([self.random.randbytes(size), b"\0" * size, b"\xff" * size]) for _ in range(count))
        if vr in ("FL", "FD"):
            special = [float("nan"), float("inf")] if one < 0.15 else []
            numbers = [self.random.choice([0.0, -1.5, 1e-30, 0.1, 1e20, self.random.gauss(0, 1e5), *special]) for _ in range(count)]
            return b"".join(struct.pack(self.order + ("f" if vr == "FL" else "d"), number) for number in numbers)
        if vr == "AT":
            return b"".join(struct.pack(self.order + "HH", self.random.randrange(1 << 16), 0xE0) for _ in range(count))
        if vr in WIDTH:
            return self.random.randbytes(8 * self.random.randint(0, 4))
        if vr in TEXT or vr == "PN":
            return self.text(vr, charset, count)
        return b"\\".join(self.plain(vr).encode() for _ in range(count if vr != "UR" else 1))

    def plain(self, vr):
        choose = self.random.choice
        return {
            "DS": lambda: choose(DECIMALS),
            "IS": lambda: choose(["1", "+7", " 12", "-3 ", "", "0", "2147483647", "1.5", "1.0"]),
            "DA": lambda: choose(["20240229", "2024.02.29", "", "20240101 "]),
            "TM": lambda: choose(["10", "103000.123", "10:30:00", "", "235959 "]),
            "DT": lambda: choose(["20240229103000.5+0100", "2024", ""]),
            "UI": lambda: choose(["1.2.3", "1.2.840.10008.1.2", "2.25.0"]),
            "AS": lambda: choose(["012Y", "003M"]),
            "UR": lambda: choose(["http://example.org/a?b=\\c", "x  "]),
        }.get(vr, lambda: choose(["A", "AB C", "", "CODE_1 ", "X\0"]))()

    def text(self, vr, charset, count):
        terms, alphabet = charset or (None, "")
        encodings = pydicom_charset.convert_encodings(terms.split("\\") if terms else None)
        letters = lambda: "".join(self.random.choice(alphabet or "abc") for _ in range(self.random.randint(1, 6)))
        ascii_ = lambda: "".join(self.random.choice("abc XYZ019'\"~") for _ in range(self.random.randint(0, 8)))
        if terms is None and self.random.random() < 0.3:
            return self.random.choice(["Zoë^Ł".encode(), b"Zo\xeb", "語=한".encode()])
        if vr == "PN":
            names = ["^".join([ascii_().strip(), ascii_().strip()]) + self.random.choice(["", "=" + letters() + "^" + letters()])
                     for _ in range(count)]
            return b"\\".join(PersonName(name).encode(encodings) for name in names)
        between = b"\r\n" if vr in ("ST", "LT", "UT") else b"\\"
        values = [self.random.choice(["", " "]) + self.random.choice([ascii_, letters])() for _ in range(count)]
        return between.join(pydicom_charset.encode_string(value, encodings) for value in values)


def generate(folder, count):
    """Writes so many files and tells their paths."""
    paths = []
    for seed in range(count):
        path = Path(folder) / f"generated_{seed:04}.dcm"
        path.write_bytes(Writer(seed).file())
        paths.append(path)
    return paths
