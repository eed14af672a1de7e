"""Runs the load program against Isocenter on PostgreSQL, with a folder and with S3, once for each phase and number of connections.

    cargo build --release --bin isocenter --bench load --example s3_server
    python3 benches/stacks.py [--stacks postgres-folder,postgres-s3] [--phases store-1,...] [--connections 1,16] [--series 6]

Of each it prints the rate, and the CPU of Isocenter, of PostgreSQL and of the S3 server for each instance, as Markdown.
The S3 server is that of the tests, in a folder; it is slow itself, and what it takes is said beside.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/long"))

from workload import Postgres, free_port  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
IMAGES = 50  # in a series
PHASES = "store-1,store-10,store-100,tiny-1,tiny-10,large"


def cpu(pid):
    """Seconds of user and system time of a process, of the children that it has and of those that it had."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat.parent.name) == pid:
            total += sum(int(field) for field in fields[11:15])
        elif int(fields[1]) == pid:
            total += int(fields[11]) + int(fields[12])
    return total / TICK


def ready(url):
    for _ in range(300):
        try:
            return urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"no answer from {url}")


def start_s3(target, work):
    """The server and the variables that lead to it."""
    log = open(work / "s3.log", "wb")
    server = subprocess.Popen([target / "release/examples/s3_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    variables = {}
    while "AWS_ALLOW_HTTP" not in variables:
        name, value = server.stdout.readline().strip().split("=", 1)
        variables[name] = value
    return server, variables


def run(options, target, load, stack, phase, connections):
    with tempfile.TemporaryDirectory(prefix="isocenter-bench.", ignore_cleanup_errors=True) as folder:
        work = Path(folder)
        work.chmod(0o755)
        postgres, s3, variables = Postgres(work / "postgres/data"), None, {}
        postgres.initialize()
        postgres.start(work / "postgres.log")
        storage = []
        if stack == "postgres-s3":
            s3, variables = start_s3(target, work)
            storage = ["--storage-url", f"s3://{options.bucket}/bench"]
        port = free_port()
        command = [target / "release/isocenter", "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", work / "data"]
        with open(work / "server.log", "wb") as log:
            server = subprocess.Popen([*command, "--database-url", postgres.url, *storage], env={**os.environ, **variables}, stdout=log, stderr=log)
        try:
            ready(f"http://127.0.0.1:{port}/health/ready")
            pids = {"isocenter": server.pid, "postgres": postgres.process.pid, **({"s3": s3.pid} if s3 else {})}
            report = work / "report.json"
            before = {name: cpu(pid) for name, pid in pids.items()}
            arguments = ["--url", f"http://127.0.0.1:{port}/dicom-web", "--server-pid", str(server.pid), "--phases", phase]
            arguments += ["--connections", str(connections), "--series", str(options.series), "--json", report]
            subprocess.run([load, *arguments], check=True, stdout=subprocess.DEVNULL)
            after = {name: cpu(pid) for name, pid in pids.items()}
            [figures] = json.loads(report.read_text())["phases"]
            return figures, {name: after[name] - before[name] for name in pids}
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
            postgres.kill()
            if s3:
                s3.stdin.close()
                s3.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stacks", default="postgres-folder,postgres-s3")
    parser.add_argument("--phases", default=PHASES)
    parser.add_argument("--connections", default="1,16")
    parser.add_argument("--series", type=int, default=6)
    parser.add_argument("--bucket", default="archive")
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    loads = [path for path in (target / "release/deps").glob("load-*") if not path.suffix]
    load = max(loads, key=lambda path: path.stat().st_mtime)
    print("| stack | what | connections | per second | CPU ms each: Isocenter | PostgreSQL | S3 server |\n|---|---|---|---|---|---|---|")
    for stack in options.stacks.split(","):
        for phase in options.phases.split(","):
            for connections in options.connections.split(",") if phase != "large" else ["1"]:
                figures, spent = run(options, target, load, stack, phase, connections)
                # warm-up included: the CPU of all three is counted over the same time
                operations = 2 if phase == "large" else options.series * IMAGES
                each = [f"{spent[name] * 1000 / operations:.2f}" if name in spent else "" for name in ("isocenter", "postgres", "s3")]
                print(f"| {stack} | {phase} | {connections} | {figures['per_second']:,.1f} | {' | '.join(each)} |", flush=True)


if __name__ == "__main__":
    main()
