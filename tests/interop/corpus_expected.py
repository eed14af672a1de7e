"""Derives what an archive must answer for every file of the corpus: writes `tests/corpus_expected.tsv`.

The files are looked at in the order of their paths (as bytes), as if each were stored into one empty server:

* `stored`: accepted, and the first content under its SOP Instance UID; with `B007H`, the warning that its Patient ID is not that of
  the first instance of its study;
* `duplicate-of`: the bytes of a file stored before; the answer is success and nothing changes;
* `refused`, `0111H`: another content is stored under this SOP Instance UID already;
* `refused`, `C000H`: not DICOM, cut short or malformed, or a UID of the identity missing or invalid.

`group` numbers the servers that are needed for every readable content to be stored once: within one group no SOP Instance UID
has two contents. A test that stores each group into an empty server of its own gets `stored` (or `duplicate-of`) for every
file that is not `C000H`.

Whether a file is whole is judged by a walk over its elements written here; the UIDs are read by pydicom and by the walk, and
the script fails where the two disagree on a file that is whole. Usage: corpus_expected.py CORPUS [OUTPUT]
"""

import hashlib
import io
import re
import struct
import sys
import zlib
from pathlib import Path

import pydicom

UID = re.compile(r"^(?=.{1,64}$)[0-9]+(\.[0-9]+)*$")
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
SHORT = {
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM",
    b"UI", b"UL", b"US",
}
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
IDENTITY = {"class": (8, 0x16), "instance": (8, 0x18), "study": (0x20, 0xD), "series": (0x20, 0xE)}
DEPTH = 64

# Files that a person judged, with the judgement; it goes into the note of the row.
JUDGED = {
    "broken/dwv-test_no-number-rows.dcm": "the file meta does not name one either",
    "broken/fuzz/017_dcdump_hang_00ad9029.dcm": "an element of the unknown VR `TE` is longer than the file",
    "broken/no_meta.dcm": "a stray byte before the first element: not a data set at its first byte",
    "broken/syn_enc_fragment_overrun.dcm": "the last fragment is longer than the file",
    "broken/syn_enc_no_delimiter.dcm": "without its delimiter encapsulated pixel data may be cut short at any fragment",
    "broken/syn_invalid_vr.dcm": "the unknown VR is read with a length of 16 bits, after which everything fits; with 32 bits nothing does",
    "broken/syn_nested_open_200.dcm": "too deep, and none of the sequences is closed",
    "broken/syn_no_sop_instance.dcm": "the file meta names one, but which instance it is only the data set says",
    "broken/syn_trailing_garbage.dcm": "bytes FF after the data set are no element; only zeros are taken as padding",
}


class Broken(Exception):
    """The stream cannot be read to its end."""


class Walk:
    """One pass over a data set; keeps the identity, checks every length."""

    def __init__(self, data, start, explicit, big):
        self.data, self.at, self.explicit = data, start, explicit
        self.order = ">" if big else "<"
        self.found = {}
        self.notes = set()

    def need(self, count):
        if len(self.data) - self.at < count:
            raise Broken("truncated")

    def take(self, form):
        size = struct.calcsize(self.order + form)
        self.need(size)
        value = struct.unpack_from(self.order + form, self.data, self.at)
        self.at += size
        return value

    def header(self):
        tag = self.take("HH")
        if tag[0] == 0xFFFE or not self.explicit:
            return tag, None, self.take("I")[0]
        self.need(4)
        vr = bytes(self.data[self.at : self.at + 2])
        if vr in LONG:
            self.at += 4
            return tag, vr, self.take("I")[0]
        if vr not in SHORT:
            if not vr.isalpha() or not vr.isupper():
                raise Broken(f"malformed: no VR at byte {self.at}")
            self.notes.add(f"unknown VR {vr.decode()}")
        self.at += 2
        return tag, vr, self.take("H")[0]

    def skip(self, length):
        self.need(length)
        self.at += length

    def dataset(self, end, depth, item):
        """Elements up to `end`, or up to the delimiter of an item when `end` is None."""
        if depth > DEPTH:
            raise Broken("nested too deeply")
        previous = (0, 0)
        while end is None or self.at < end:
            if not item and self.at == len(self.data):
                return
            if depth == 0 and not any(self.data[self.at :]):
                self.notes.add("zeros after the data set")
                self.at = len(self.data)
                return
            tag, vr, length = self.header()
            if tag == ITEM_END and item and end is None:
                return
            if tag[0] == 0xFFFE:
                raise Broken(f"malformed: delimiter at byte {self.at - 8}")
            if tag < previous:
                self.notes.add("tags out of order")
            previous = tag
            self.element(tag, vr, length, depth)
        if end is not None and self.at != end:
            raise Broken("malformed: an element runs over the end of its item")

    def element(self, tag, vr, length, depth):
        if length == UNDEFINED and tag == (0x7FE0, 0x10) and vr != b"SQ":
            self.fragments()
        elif length == UNDEFINED:
            was = self.explicit
            if vr == b"UN":
                self.explicit = False  # PS3.5 6.2.2: UN of undefined length is implicit little endian within
            self.sequence(None, depth)
            self.explicit = was
        elif vr == b"SQ" or (vr is None and is_sequence(tag)):
            self.need(length)
            self.sequence(self.at + length, depth)
        else:
            start = self.at
            self.skip(length)
            for name, wanted in IDENTITY.items():
                if depth == 0 and tag == wanted:
                    self.found[name] = bytes(self.data[start : self.at])

    def sequence(self, end, depth):
        while end is None or self.at < end:
            tag, _, length = self.header()
            if tag == SEQUENCE_END and end is None:
                return
            if tag != ITEM:
                raise Broken(f"malformed: no item at byte {self.at - 8}")
            if length != UNDEFINED:
                self.need(length)
            self.dataset(None if length == UNDEFINED else self.at + length, depth + 1, item=True)
        if end is not None and self.at != end:
            raise Broken("malformed: an item runs over the end of its sequence")

    def fragments(self):
        while True:
            tag, _, length = self.header()
            if tag == SEQUENCE_END:
                return
            if tag != ITEM or length == UNDEFINED:
                raise Broken(f"malformed: no fragment at byte {self.at - 8}")
            self.skip(length)


def is_sequence(tag):
    try:
        return pydicom.datadict.dictionary_VR(pydicom.tag.Tag(*tag)) == "SQ"
    except KeyError:
        return False


def text(value):
    return value.decode("latin-1").rstrip("\0 ").lstrip(" ")


def file_meta(data, at):
    """The elements of group 2, whatever their group length says: (transfer syntax, SOP class, position after them)."""
    walk, found = Walk(data, at, explicit=True, big=False), {}
    while len(data) - walk.at >= 4 and struct.unpack_from("<H", data, walk.at)[0] == 2:
        tag, _, length = walk.header()
        start = walk.at
        walk.skip(length)
        found[tag[1]] = text(bytes(data[start : walk.at]))
    return found.get(0x10), found.get(0x02), walk.at


def looks_explicit(data, at, big):
    """Whether a known VR stands where explicit VR has it, and the group is a plausible first one in this byte order."""
    group = data[at : at + 2] if big else data[at : at + 2][::-1]
    return bytes(data[at + 4 : at + 6]) in LONG | SHORT and (group[:1] == b"\0" or data[at] != 0 and data[at + 1] != 0)


def read(data):
    """(walk, media storage SOP class, notes) or Broken."""
    notes, syntax, media_class, at = [], None, None, 0
    if data[128:132] == b"DICM":
        at = 132
        syntax, media_class, at = file_meta(data, at)
        if at == len(data):
            raise Broken("truncated: no data set")
    elif data[:2] == b"\x02\0" and looks_explicit(data, 0, big=False):
        notes.append("no preamble")
        syntax, media_class, at = file_meta(data, 0)
    else:
        notes.append("no preamble and no file meta")
        if len(data) < 8:
            raise Broken("not DICOM")
        if data[:2] not in (b"\x08\0", b"\0\x08"):
            raise Broken("not DICOM")
    if syntax == "1.2.840.10008.1.2.1.99":
        data, at = inflate(data[at:]), 0
    if syntax is None:
        if data[128:132] == b"DICM":
            notes.append("no transfer syntax named")
        big = looks_explicit(data, at, True) and not looks_explicit(data, at, False)
        explicit = looks_explicit(data, at, big)
    else:
        big = syntax == "1.2.840.10008.1.2.2"
        explicit = syntax != "1.2.840.10008.1.2"
        if explicit and not looks_explicit(data, at, big) and looks_explicit(data, at, not big):
            big = not big
            notes.append("byte order differs from the transfer syntax")
        elif explicit != looks_explicit(data, at, big):
            explicit = not explicit
            notes.append("explicit or implicit VR differs from the transfer syntax")
    walk = Walk(data, at, explicit, big)
    walk.dataset(None, 0, item=False)
    return walk, media_class, notes + sorted(walk.notes)


def inflate(data):
    try:
        stream = zlib.decompressobj(-15)
        whole = stream.decompress(data, 1 << 30)
    except zlib.error as error:
        raise Broken(f"malformed: {error}") from error
    if not stream.eof:
        raise Broken("truncated: the deflated stream")
    return whole


def by_pydicom(data):
    """The identity as pydicom reads it."""
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    names = {"class": "SOPClassUID", "instance": "SOPInstanceUID", "study": "StudyInstanceUID", "series": "SeriesInstanceUID"}
    return {name: str(dataset.get(keyword) or "") for name, keyword in names.items()}


def patient_id(data):
    """The Patient ID as it is compared, empty where there is none."""
    return str(pydicom.dcmread(io.BytesIO(data), force=True).get("PatientID") or "").strip(" \0")


def judge(path, data):
    """(identity or None, reason text)."""
    if not data:
        return None, "empty file"
    try:
        walk, media_class, notes = read(data)
    except Broken as error:
        return None, str(error)
    identity = {name: text(walk.found.get(name, b"")) for name in IDENTITY}
    try:
        other = by_pydicom(data)
        if other != identity:
            notes.append("REVIEW: pydicom reads " + ", ".join(f"{k}={other[k]!r} not {identity[k]!r}" for k in other if other[k] != identity[k]))
    except Exception as error:  # any failure of the other reader is worth a look
        notes.append(f"REVIEW: pydicom fails with {type(error).__name__}")
    if not identity["class"] and media_class:
        identity["class"] = media_class
        notes.append("SOP class from the file meta")
    names = {"study": "Study Instance UID", "series": "Series Instance UID", "instance": "SOP Instance UID", "class": "SOP Class UID"}
    for name, title in names.items():
        if not identity[name]:
            return None, f"{title} missing"
        if not UID.match(identity[name]):
            return None, f"{title} invalid"
    return identity, "; ".join(notes)


def main():
    corpus = Path(sys.argv[1])
    rows = (corpus / "MANIFEST.tsv").read_text(encoding="utf-8").splitlines()[1:]
    paths = sorted((row.split("\t")[0] for row in rows), key=lambda path: path.encode())
    first, contents, patients, lines = {}, {}, {}, []
    for path in paths:
        data = (corpus / path).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        identity, note = judge(path, data)
        if path in JUDGED:
            note = f"{note}: {JUDGED[path]}"
        if identity is None:
            lines.append((path, digest, "refused", "C000H", "1", note))
            continue
        known = contents.setdefault(identity["instance"], [])
        if digest not in known:
            known.append(digest)
        group = str(known.index(digest) + 1)
        if digest in first and known[0] == digest:
            lines.append((path, digest, f"duplicate-of {first[digest]}", "", group, note))
        elif known[0] != digest:
            lines.append((path, digest, "refused", "0111H", group, note))
        else:
            first[digest] = path
            patient = patients.setdefault(identity["study"], patient_id(data))
            warning = "" if patient == patient_id(data) else "B007H"
            lines.append((path, digest, "stored", warning, group, note))
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent.parent / "corpus_expected.tsv"
    with output.open("w", encoding="utf-8", newline="\n") as file:
        file.write("path\tsha256\toutcome\treason\tgroup\tnote\n")
        file.writelines("\t".join(line) + "\n" for line in lines)
    review = [line for line in lines if "REVIEW" in line[5]]
    for line in review:
        print(line[0], line[2], line[3], line[5], sep="\t")
    return 1 if review else 0


if __name__ == "__main__":
    sys.exit(main())
