#!/usr/bin/env python3
"""Searches the corpus for values that it holds, and compares the matches with what pydicom's values say.

    tests/interop/search_vs_pydicom.py [--searcher PATH] [--corpus DIR] [--verbose]

Needs pydicom. The searcher is the example `search_files`, built and found by cargo unless given. The corpus is found by
ISOCENTER_TEST_CORPUS, else beside the repository. Exits non-zero when a search differs, or when nothing was searched.
Prints keywords and counts, and values only when asked to.
"""

import argparse
import collections
import datetime
import logging
import os
import re
import subprocess
import sys
import unicodedata
import warnings
from pathlib import Path
from urllib.parse import quote

import pydicom
from pydicom.dataset import Dataset

ROOT = Path(__file__).resolve().parents[2]
LEVELS = ["study", "series", "instance"]
# keyword: (level, kind)
KEYS = {
    "PatientID": (0, "text"), "PatientName": (0, "name"), "PatientBirthDate": (0, "date"), "PatientSex": (0, "text"),
    "StudyInstanceUID": (0, "uid"), "StudyDate": (0, "date"), "StudyTime": (0, "time"), "AccessionNumber": (0, "text"),
    "StudyID": (0, "text"), "StudyDescription": (0, "text"), "ReferringPhysicianName": (0, "name"),
    "ModalitiesInStudy": (0, "modalities"), "SeriesInstanceUID": (1, "uid"), "Modality": (1, "text"),
    "SeriesNumber": (1, "integer"), "SeriesDescription": (1, "text"), "BodyPartExamined": (1, "text"),
    "SeriesDate": (1, "date"), "SeriesTime": (1, "time"), "PerformedProcedureStepStartDate": (1, "date"),
    "PerformedProcedureStepStartTime": (1, "time"), "SOPInstanceUID": (2, "uid"), "SOPClassUID": (2, "uid"),
    "InstanceNumber": (2, "integer"),
}
MOST_VALUES = 60
UNITS = {2: 3_600_000_000, 4: 60_000_000, 6: 1_000_000}


def first_text(dataset, keyword):
    """The first value as text, or nothing."""
    try:
        value = dataset.get(keyword)
        if keyword == "SOPClassUID" and value is None:
            # the archive takes it from the file meta information where the data set has none
            value = getattr(dataset, "file_meta", Dataset()).get("MediaStorageSOPClassUID")
    except ValueError:
        # no value of the VR for pydicom: the text itself
        value = dataset.get_item(keyword).value.decode("latin-1").split("\\")[0]
    if isinstance(value, (pydicom.multival.MultiValue, list)):
        value = value[0] if len(value) else None
    if value is None:
        return None
    # numbers and dates have the text that they were made of, names their bytes
    original = getattr(value, "original_string", None)
    return original if isinstance(original, str) and original else str(value)


def clean(text):
    # pydicom leaves ISO 2022 escape sequences of undeclared character sets in the text
    text = re.sub(r"\x1b\$?[()]?[A-Z]", "", text or "").strip(" \0").replace("\0", "")
    return text or None


def fold(text):
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not 0x300 <= ord(c) <= 0x36F)
    plain = re.sub(r"\s+", " ", unicodedata.normalize("NFC", plain.lower())).replace(" ^", "^").replace("^ ", "^")
    return plain.strip(" ").rstrip("^ ")


def date(text):
    text = (clean(text) or "")
    if re.fullmatch(r"\d{4}\.\d\d\.\d\d", text):
        text = text.replace(".", "")
    try:
        return text if re.fullmatch(r"[0-9]{8}", text) and datetime.date(int(text[:4]), int(text[4:6]), int(text[6:])) else None
    except ValueError:
        return None


def time_span(text):
    """First and last microsecond that the text may mean."""
    match = re.fullmatch(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(\.\d{1,6})?)?)?", clean(text) or "")
    if not match:
        return None
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    if hour > 23 or minute > 59 or second > 60:
        return None
    fraction = match.group(4)
    micros = int(fraction[1:].ljust(6, "0")) if fraction else 0
    start = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros
    unit = 10 ** (6 - len(fraction) + 1) if fraction else UNITS[2 * sum(part is not None for part in match.groups()[:3])]
    return start, start + unit - 1


def integer(text):
    match = re.fullmatch(r"([+-]?\d+)(\.0*)?", clean(text) or "")
    return int(match.group(1)) if match else None


def value(dataset, keyword, kind):
    text = first_text(dataset, keyword)
    if kind == "name":
        groups = [fold(group) for group in (clean(text) or "").split("=")[:3]]
        return groups if any(groups) else None
    return {"date": date, "time": time_span, "integer": integer}.get(kind, clean)(text)


def matches_text(pattern, text):
    parts = ["." if c == "?" else ".*" if c == "*" else re.escape(c) for c in pattern]
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def matches(kind, key, found):
    if found is None:
        return False
    if kind == "name":
        keys = [fold(group) for group in key.split("=")]
        if len(keys) == 1:
            return any(group and matches_text(keys[0], group) for group in found)
        found = found + [""] * 3
        return all(not set(k) - {"*"} or (g and matches_text(k, g)) for k, g in zip(keys, found))
    if kind == "date":
        low, _, high = key.partition("-")
        high = high if "-" in key else low
        return (not low or low <= found) and (not high or found <= high)
    if kind == "time":
        low, _, high = key.partition("-")
        high = high if "-" in key else low
        return (not low or time_span(low)[0] <= found[0]) and (not high or found[0] <= time_span(high)[1])
    if kind == "integer":
        return found == int(key)
    if kind == "uid":
        return found in key.split(",")
    if kind == "modalities":
        return any(wanted in found for wanted in key.split(",")) or any(matches_text(key, one) for one in found)
    return matches_text(key, found)


def keys_for(kind, found):
    """Keys that hit, and that nearly do."""
    if kind == "name":
        texts = [group for group in found if group] + ["=".join(found)]
    elif kind == "modalities":
        texts = [one for one in found if not re.search(r"[,\\]", one)]
    elif kind == "time":
        seconds, micros = divmod(found[0], 1_000_000)
        text = f"{seconds // 3600:02}{seconds // 60 % 60:02}{seconds % 60:02}"
        return [text, text[:4], f"{text[:2]}-", f"-{text}", f"{text[:4]}-{text[:2]}5959", f"{text}.{micros:06}"]
    elif kind == "date":
        return [found, f"{found}-", f"-{found}", f"{found[:6]}01-{found}"]
    elif kind == "integer":
        return [str(found), str(found + 1)]
    elif kind == "uid":
        return [found, found + ",1.2.3", "1.2.3," + found, found[:40].rstrip(".")]
    else:
        texts = [found]
    keys = []
    for text in texts:
        half = len(text) // 2
        keys += [text, text.swapcase(), text[:half] + "*", "*" + text[half:], "?" + text[1:], f"*{text[1:-1]}*", text + "?"]
    if kind == "modalities":
        keys += [texts[0] + ",XX"] if texts else []
    return [key for key in keys if set(key.strip()) - set("*=^ ")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searcher")
    parser.add_argument("--corpus", default=os.environ.get("ISOCENTER_TEST_CORPUS") or ROOT.parent / "shared" / "dicom")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    searcher = options.searcher
    if not searcher:
        subprocess.run(["cargo", "build", "--quiet", "--example", "search_files"], cwd=ROOT, check=True)
        searcher = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "examples" / "search_files"
    paths = sorted(str(path) for path in Path(options.corpus).rglob("*") if path.is_file())

    def run(queries):
        lines = "".join(f"{LEVELS[level]}\t{text}\n" for level, text in queries)
        done = subprocess.run([searcher, *paths], input=lines, capture_output=True, text=True, check=True)
        lines = done.stdout.split("\n")[:-1]
        files = [line.split("\t")[1:] for line in lines if line.startswith("file\t")]
        return files, [line for line in lines if not line.startswith("file\t")]

    files, _ = run([])
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    studies, series, instances = {}, {}, {}
    for path, study, one, instance in files:
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        values = {k: value(dataset, k, kind) for k, (_, kind) in KEYS.items() if kind != "modalities"}
        studies.setdefault(study, {"ModalitiesInStudy": set(), **{k: v for k, v in values.items() if KEYS[k][0] == 0}})
        if (study, one) not in series:
            series[study, one] = {k: v for k, v in values.items() if KEYS[k][0] == 1}
            if values["Modality"]:
                studies[study]["ModalitiesInStudy"].add(values["Modality"])
        instances[study, one, instance] = {k: v for k, v in values.items() if KEYS[k][0] == 2}
    rows = {
        0: {(s,): v for s, v in studies.items()},
        1: {k: {**studies[k[0]], **v} for k, v in series.items()},
        2: {k: {**studies[k[0]], **series[k[:2]], **v} for k, v in instances.items()},
    }

    queries, expected = [], []
    for keyword, (lowest, kind) in KEYS.items():
        held = {repr(v[keyword]): v[keyword] for v in rows[lowest].values() if v[keyword]}
        wanted = {key for found in list(held.values())[:MOST_VALUES] for key in keys_for(kind, found)}
        for key in sorted(wanted):
            for level in range(lowest, 3):
                hits = sorted("/".join(uids) for uids, v in rows[level].items() if matches(kind, key.strip(" "), v[keyword]))
                queries.append((level, f"{keyword}={quote(key, safe='')}"))
                expected.append((keyword, key, " ".join(hits)))
    _, found = run(queries)
    same, wrong = collections.Counter(), collections.Counter()
    for (level, _), (keyword, key, hits), answer in zip(queries, expected, found, strict=True):
        if hits == answer:
            same[keyword] += 1
            continue
        wrong[keyword] += 1
        if options.verbose:
            print(f"{keyword}={key!r} at {LEVELS[level]}\n  expected {hits}\n  found    {answer}")
    print(f"{len(files)} corpus files, {len(queries)} searches, {sum(bool(hits) for *_, hits in expected)} with matches")
    for keyword, count in wrong.items():
        print(f"{keyword}: {count} of {count + same[keyword]} searches differ")
    if wrong or not queries:
        sys.exit(1)


if __name__ == "__main__":
    main()
