"""Prints medians, ranges and ratios of the figures that `compare.sh` collected, as Markdown."""

import json
import statistics
import sys
from collections import defaultdict

WHAT = [
    ("store-1", "store, one instance a request"),
    ("store-10", "store, ten instances a request"),
    ("store-100", "store, a hundred instances a request"),
    ("tiny-1", "store, one small instance a request"),
    ("tiny-10", "store, ten small instances a request"),
    ("large", "store an instance of 2 GB"),
    ("instances", "retrieve an instance"),
    ("frames", "retrieve a frame"),
    ("metadata", "metadata of a series"),
    ("queries", "search for studies"),
]


def middle(values, digits):
    """Median and range."""
    if not values or None in values:
        return "–"
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def ratio(ours, theirs):
    if not ours or not theirs or None in ours or None in theirs or statistics.median(ours) == 0:
        return "–"
    return f"{statistics.median(theirs) / statistics.median(ours):.1f}"


def main():
    figures = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    memory = defaultdict(list)
    failed = defaultdict(int)
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            run = json.load(file)
        memory[run["label"]].append((run["peak_memory_bytes"] or 0) / 1e6)
        for phase in run["phases"]:
            failed[run["label"]] += phase["failed"]
            for key, value in phase.items():
                figures[phase["phase"]][key][run["label"]].append(value)
    servers = sorted(memory)
    pair = len(servers) == 2
    columns = [f"{name}: {unit}" for unit in ("CPU ms each", "per second", "p50 ms", "p99 ms") for name in servers]
    if pair:
        columns.insert(2, f"CPU ratio, {servers[1]} / {servers[0]}")
    print("| what | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for phase, title in WHAT:
        if phase not in figures:
            continue
        cells = []
        for key, digits in (("cpu_ms_each", 2), ("per_second", 0), ("p50_ms", 1), ("p99_ms", 1)):
            values = [figures[phase][key][name] for name in servers]
            if key == "per_second" and max(map(max, values), default=0) < 10:
                digits = 2
            cells += [middle(of_server, digits) for of_server in values]
            if pair and key == "cpu_ms_each":
                cells.append(ratio(*values))
        print(f"| {title} | " + " | ".join(cells) + " |")
    print()
    for name in servers:
        print(f"{name}: peak memory {middle(memory[name], 0)} MB, {failed[name]} failed, {len(memory[name])} runs")


if __name__ == "__main__":
    main()
