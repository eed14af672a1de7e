#!/usr/bin/env python3
"""Compares the DICOM JSON of every corpus file with what pydicom makes of it, element by element.

    tests/interop/json_vs_pydicom.py [--printer PATH] [--corpus DIR] [--generated COUNT] [--verbose]

Needs pydicom and numpy. The printer is the example `metadata_json`, built and found by cargo unless given. The corpus is
found by ISOCENTER_TEST_CORPUS, else beside the repository; generated files with wild mixtures are compared too. Exits
non-zero when an element differs for a reason that is not one of PERMITTED, when a file is readable by one side only and
not listed in ONE_SIDED, or when nothing was compared. Prints tags, VRs and counts, and values only when asked to.
"""

import argparse
import base64
import collections
import json
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy
import pydicom
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from generate_headers import generate

ROOT = Path(__file__).resolve().parents[2]
PIXEL_DATA = {"7FE00008", "7FE00009", "7FE00010"}
TEXT = {"SH", "LO", "ST", "LT", "UC", "UT", "PN"}

# Each permitted difference with the reason; numbers are those of the model's rules that the project follows.
PERMITTED = {
    "group length left out": "58: group lengths are no part of the model (PS3.18 F.2.2); pydicom emits them",
    "transfer syntax added": "58: Available Transfer Syntax UID (0008,3002) is added where it is absent",
    "empty value is null": "59, 60: empty values are null, and there is no Value when all are; pydicom has empty strings and lists",
    "empty name group left out": "61: only the non-empty component groups of a name are named (PS3.18 F.2.2)",
    "number as text": "63: a decimal of more digits than a double holds stays text",
    "integer of a decimal": "63: IS with a fraction is the number it is; pydicom cuts it off",
    "invalid number as text": "63: what is no decimal goes out as text; pydicom refuses the element",
    "long as text": "64: SV and UV beyond 2^53-1 are text",
    "not finite": "65: NaN and infinities are bulk data; pydicom writes what is no JSON",
    "single precision": "63: FL is the shortest decimal of that single-precision number; pydicom prints the double next to it",
    "words turned": "66: InlineBinary is little endian; pydicom leaves words of big endian files as they are",
    "UN stays UN": "67: the VR is what the data say; pydicom puts that of its dictionary",
    "private VR unknown": "67: what names no VR and is in no public dictionary is UN; pydicom has a private dictionary",
    "invalid VR is UN": "67: bytes of a VR that does not exist are UN; pydicom refuses the element",
    "pixel data by reference": "69: pixel data are always bulk data",
    "character set is UTF-8": "71: the text is UTF-8, and (0008,0005) says so",
    "undeclared UTF-8": "71: where no character set is declared, valid UTF-8 is taken as such; pydicom takes Latin-1",
    "escape sequence understood": "71: ISO 2022 escape sequences are understood; pydicom leaves them in the text",
    "padding removed": "72: padding around values is removed; pydicom keeps some of it",
}

# Files that only one side reads, with the reason; `ours` reads what pydicom does not, `pydicom` the reverse.
ONE_SIDED = {
    "broken/MR_truncated.dcm": ("pydicom", "ends within pixel data: refused"),
    "broken/rtplan_truncated.dcm": ("pydicom", "ends within a value: refused"),
    "broken/syn_truncated_element_header.dcm": ("pydicom", "ends within the header of an element: refused"),
    "broken/syn_truncated_value.dcm": ("pydicom", "ends within a value: refused"),
    "broken/fuzz/001_gdcm_sig6_dcd1231a.dcm": ("pydicom", "no fragment where one should be: refused"),
    "broken/no_meta.dcm": ("pydicom", "begins with a stray byte; pydicom makes noise of it"),
    "broken/syn_png.dcm": ("pydicom", "not DICOM; pydicom makes noise of it"),
    "broken/syn_text.dcm": ("pydicom", "not DICOM; pydicom makes noise of it"),
}


class TooSlow(Exception):
    """pydicom did not come to an end."""


def on_alarm(_signal, _frame):
    raise TooSlow()


class Comparison:
    """Counts what was compared and what differed."""

    def __init__(self, verbose):
        self.verbose = verbose
        self.elements = 0
        self.permitted = collections.Counter()
        self.failures = []

    def permit(self, name):
        assert name in PERMITTED, name
        self.permitted[name] += 1

    def fail(self, path, what):
        self.failures.append((path, what))

    def dataset(self, path, ours, theirs, where, charset, big_endian, root):
        """Compares a JSON object with a pydicom data set."""
        tags = {f"{int(tag):08X}" for tag in theirs.keys()}
        charset = theirs.get("SpecificCharacterSet", charset) if "00080005" in tags else charset
        if list(ours) != sorted(ours):
            self.fail(path, f"{where}: keys do not ascend")
        for key in sorted(tags | set(ours)):
            at = f"{where}{key}"
            if key not in ours:
                if key.endswith("0000"):
                    self.permit("group length left out")
                else:
                    self.fail(path, f"{at}: missing in ours ({theirs.get_item(Tag(int(key, 16))).VR})")
            elif key not in tags:
                if root and key == "00083002":
                    self.transfer_syntax(path, ours[key], theirs)
                else:
                    self.fail(path, f"{at}: only in ours ({ours[key].get('vr')})")
            else:
                self.elements += 1
                self.element(path, ours[key], theirs, Tag(int(key, 16)), at, charset, big_endian)

    def transfer_syntax(self, path, ours, theirs):
        meta = getattr(theirs, "file_meta", None)
        named = meta.get("TransferSyntaxUID") if meta else None
        if named and ours.get("Value") != [str(named)]:
            self.fail(path, "00083002: not the transfer syntax of the file")
        else:
            self.permit("transfer syntax added")

    def element(self, path, ours, dataset, tag, at, charset, big_endian):
        raw = dataset.get_item(tag)
        raw_value = (raw.value or b"") if isinstance(raw, RawDataElement) else None
        form = set(ours) - {"vr"}
        if len(form) > 1 or not form <= {"Value", "BulkDataURI", "InlineBinary"} or "vr" not in ours:
            self.fail(path, f"{at}: not a form of the model: {sorted(ours)}")
            return
        try:
            elem = dataset[tag]
            vr = elem.VR
        except TooSlow:
            raise
        except Exception as error:  # pydicom cannot make a value of it
            self.unreadable(path, at, ours, raw, raw_value, error)
            return
        if ours["vr"] == "UN" and vr != "UN" and raw_value is not None:
            named = "UN stays UN" if raw.VR == "UN" else "private VR unknown" if raw.VR is None and tag.is_private else None
            if named and base64.b64decode(ours.get("InlineBinary", ""), validate=True) == raw_value:
                self.permit(named)
                return
        if ours == {"vr": "UN"} and elem.is_empty:
            # pydicom does not say any more what the VR of an empty element was
            self.permit("UN stays UN")
            return
        if ours["vr"] != vr:
            self.fail(path, f"{at}: vr {ours['vr']}, pydicom has {vr}")
            return
        if vr == "SQ":
            items = list(elem.value)
            mine = ours.get("Value", [])
            if len(items) != len(mine) or ("Value" in ours and not mine):
                self.fail(path, f"{at}: {len(mine)} items, pydicom has {len(items)}")
                return
            for number, (item, object_) in enumerate(zip(items, mine), 1):
                self.dataset(path, object_, item, f"{at}/{number}/", charset, big_endian, False)
            return
        try:
            expected = elem.to_json_dict(None, 0)
        except TooSlow:
            raise
        except Exception as error:
            if vr == "PN" and self.names(ours, elem):
                return
            self.unreadable(path, at, ours, raw, raw_value, error)
            return
        name = self.explain(ours, expected, elem, raw_value, charset, big_endian, at)
        if name is not True:
            if name:
                self.permit(name)
            else:
                detail = f"\n      ours {ours!r:.300}\n      pydicom {expected!r:.300}" if self.verbose else ""
                self.fail(path, f"{at}: {vr} differs{detail}")

    def names(self, ours, elem):
        """pydicom has no JSON for an empty name among others."""
        values = list(elem.value) if elem.VM > 1 else [elem.value]
        groups = [dict(zip(("Alphabetic", "Ideographic", "Phonetic"), name.components)) for name in values]
        expected = [{group: text for group, text in name.items() if text} or None for name in groups]
        if ours.get("Value") == expected and None in expected:
            self.permit("empty value is null")
            return True
        return False

    def unreadable(self, path, at, ours, raw, raw_value, error):
        """pydicom raises: only values and VRs that are invalid are expected here."""
        if raw_value is not None and ours["vr"] == "UN" and base64.b64decode(ours.get("InlineBinary", "")) == raw_value:
            self.permit("invalid VR is UN")
            return
        vr = raw.VR or ours["vr"]
        values = [value.strip(" \0") for value in (raw_value or b"").decode("latin-1").split("\\")]
        mine = ours.get("Value", [None] * len(values))
        if vr in ("IS", "DS") and ours["vr"] == vr and len(values) == len(mine):
            if all(one == (text or None) if not isinstance(one, (int, float)) else float(text) == one for one, text in zip(mine, values)):
                text = any(isinstance(one, str) for one in mine)
                self.permit("empty value is null" if None in mine else "invalid number as text" if text else "integer of a decimal")
                return
        self.fail(path, f"{at}: pydicom raises {type(error).__name__} for {vr}")

    def explain(self, ours, expected, elem, raw_value, charset, big_endian, at):
        """True for equal, the name of a permitted difference, or None."""
        vr, key = elem.VR, at.rsplit("/", 1)[-1]
        if key == "00080005":
            return "character set is UTF-8" if ours == {"vr": "CS", "Value": ["ISO_IR 192"]} else None
        if key in PIXEL_DATA and not elem.is_empty:
            return "pixel data by reference" if ours.get("BulkDataURI") == f"bulkdata/{at}" else None
        if "BulkDataURI" in ours:
            values = expected.get("Value", [])
            finite = all(math.isfinite(value) for value in values) if vr in ("FL", "FD") else True
            return "not finite" if not finite and ours["BulkDataURI"] == f"bulkdata/{at}" else None
        if "InlineBinary" in ours or "InlineBinary" in expected:
            return self.explain_binary(ours, expected, vr, big_endian)
        return self.explain_values(ours.get("Value"), expected.get("Value"), vr, raw_value, charset)

    @staticmethod
    def explain_binary(ours, expected, vr, big_endian):
        mine = base64.b64decode(ours.get("InlineBinary", ""), validate=True)
        others = base64.b64decode(expected.get("InlineBinary", ""))
        if mine == others:
            return True
        width = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}.get(vr, 1)
        if big_endian and len(mine) == len(others) and len(mine) % width == 0:
            turned = numpy.frombuffer(mine, dtype=f"u{width}").byteswap().tobytes()
            return "words turned" if turned == others else None
        return None

    def explain_values(self, ours, expected, vr, raw_value, charset):
        if ours == expected:
            return True
        if ours is None:
            empty = all(value in ("", None) or (isinstance(value, dict) and not any(value.values())) for value in expected)
            padding = all(isinstance(value, str) and not value.strip(" \0") for value in expected)
            return "empty value is null" if empty else "padding removed" if padding else None
        if expected is None or len(ours) != len(expected):
            return None
        names = [self.explain_value(mine, other, vr, raw_value, charset) for mine, other in zip(ours, expected)]
        if None in names:
            return None
        names = [name for name in names if name is not True]
        for name in names[1:]:
            self.permit(name)
        return names[0] if names else True

    @staticmethod
    def explain_value(mine, other, vr, raw_value, charset):
        if mine is None:
            empty = other in ("", None) or (isinstance(other, dict) and not any(other.values()))
            return "empty value is null" if empty else None
        if vr == "FL":
            return True if mine == other else "single precision" if numpy.float32(mine) == numpy.float32(other) else None
        if vr in ("SV", "UV") and isinstance(mine, str):
            return "long as text" if int(mine) == other and abs(other) >= 2**53 else None
        if vr in ("IS", "DS"):
            if mine == other:
                return True
            if vr == "IS" and isinstance(mine, float) and int(mine) == other:
                return "integer of a decimal"
            if isinstance(mine, str) and isinstance(other, float):
                return "number as text" if len(mine.strip("+-0").replace(".", "")) > 15 and float(mine) == other else None
            return None
        if mine == other:
            return True
        if vr == "PN":
            left = {group: text for group, text in other.items() if text}
            if mine == left:
                return "empty name group left out"
            trimmed = {group: text.rstrip(" \0") for group, text in left.items() if text.rstrip(" \0")}
            if mine == trimmed:
                return "padding removed"
        texts = [(mine[group], other.get(group, "")) for group in mine] if vr == "PN" else [(mine, other)]
        return explain_text(texts, vr, charset)


def explain_text(texts, vr, charset):
    """The name of the difference between texts, each ours and pydicom's."""
    if not all(isinstance(one, str) and isinstance(other, str) for one, other in texts):
        return None
    if all(one == other.strip(" \0") for one, other in texts):
        return "padding removed"
    if all(one == other or utf8(other) == one for one, other in texts) and not (charset and vr in TEXT):
        return "undeclared UTF-8"
    if vr in TEXT and any("\x1b" in other for _, other in texts) and not any("\x1b" in one for one, _ in texts):
        return "escape sequence understood"
    return None


def utf8(text):
    """What was read as Latin-1, read as UTF-8."""
    try:
        return text.encode("latin-1").decode("utf-8").rstrip(" \0")
    except UnicodeError:
        return None


def printed(printer, paths):
    """Our JSON of each file; None for those that we do not read."""
    result = {}
    for start in range(0, len(paths), 100):
        chunk = [str(path) for path in paths[start : start + 100]]
        run = subprocess.run([*printer, *chunk], stdout=subprocess.PIPE, check=True)
        for line in run.stdout.decode("utf-8").splitlines():
            path, _, text = line.partition("\t")
            result[path] = json.loads(text, parse_constant=no_constant) if text else None
    return result


def no_constant(name):
    """NaN and Infinity, which Python would read, are no JSON."""
    raise ValueError(f"{name} is no JSON")


def read(path):
    """pydicom's data set, or None. A file without anything but noise is None too."""
    try:
        dataset = pydicom.dcmread(path, force=True)
    except TooSlow:
        return None
    except Exception:
        return None
    return dataset if isinstance(dataset, Dataset) and len(dataset) else None


def compare(comparison, printer, folder, paths):
    """Compares files below a folder, and says how many both sides could read."""
    mine = printed(printer, paths)
    files = 0
    for path in paths:
        name = str(path.relative_to(folder))
        signal.alarm(30)
        try:
            theirs = read(path)
            ours = mine.get(str(path))
            if ours is not None and not set(ours) - {"00083002"}:
                # a file meta information and no data set
                ours = None
            if (ours is None) != (theirs is None):
                side = "pydicom" if ours is None else "ours"
                if ONE_SIDED.get(name, ("",))[0] != side:
                    comparison.fail(name, f"is read by {side} only")
                continue
            if ours is None:
                continue
            files += 1
            big_endian = theirs.original_encoding[1] is False
            comparison.dataset(name, ours, theirs, "", None, big_endian, True)
        except TooSlow:
            comparison.fail(name, "pydicom is too slow")
        finally:
            signal.alarm(0)
    return files


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--printer", nargs="+")
    parser.add_argument("--corpus", default=os.environ.get("ISOCENTER_TEST_CORPUS", ROOT.parent / "shared" / "dicom"))
    parser.add_argument("--generated", type=int, default=500, help="compare so many generated files too")
    parser.add_argument("--verbose", action="store_true", help="show values of what differs")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    config.settings.reading_validation_mode = config.IGNORE
    signal.signal(signal.SIGALRM, on_alarm)
    printer = options.printer or ["cargo", "run", "--quiet", "--example", "metadata_json", "--"]
    corpus, none = Path(options.corpus), str(options.corpus) == "none"
    found = sorted(path for path in corpus.rglob("*") if path.is_file() and path.suffix not in (".tsv", ".md"))
    comparison = Comparison(options.verbose)
    files = compare(comparison, printer, corpus, found)
    with tempfile.TemporaryDirectory() as folder:
        generated = compare(comparison, printer, folder, generate(folder, options.generated))
    for name, count in sorted(comparison.permitted.items()):
        print(f"{count:8} {name}: {PERMITTED[name]}")
    for path, what in comparison.failures:
        print(f"DIFFERS {path}: {what}")
    print(
        f"{files} of {len(found)} corpus files, {generated} generated files and {comparison.elements} elements compared, "
        f"{len(comparison.failures)} differences"
    )
    return 1 if comparison.failures or (files == 0 and not none) or generated < options.generated else 0


if __name__ == "__main__":
    sys.exit(main())
