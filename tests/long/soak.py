"""Writers and readers for a long time: with faults, after which nothing acknowledged is lost, or without, and the memory is watched.

    soak.py --stack STACK --minutes 10 [--seed N] [--keep FOLDER]      a SIGKILL and restart every 20 seconds, restarts of PostgreSQL, S3 faults
    soak.py --stack STACK --steady 30 [--seed N]                       no faults; the resident memory of the server each second

STACK is sqlite-folder, postgres-folder, sqlite-s3 or postgres-s3. What is stored follows from the seed. At the end each
acknowledged instance has to be found and to come back byte for byte, `isocenter verify` finds nothing, `isocenter sweep` removes
what is left over, and verify finds nothing again. ISOCENTER_TEST_BINARY names the server; S3 needs the example `s3_server`.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from workload import Archive, Client, Faithless, Instance, Postgres, Request, check_contents, interop

STACKS = ("sqlite-folder", "postgres-folder", "sqlite-s3", "postgres-s3")
WRITERS, READERS = 16, 4
KILL_EVERY, RESTART_EVERY = 20, 45
# what the client may hear when something behind the server is broken
TRANSIENT = {503}
# reasons of single instances that may be tried again (PS3.4 B.2.3): 0110H processing failure, A7xxH out of resources
RETRIED_REASONS = {0x0110} | set(range(0xA700, 0xA800))
BROKEN = (OSError, http.client.HTTPException)


class Soak:
    """Everything that runs."""

    def __init__(self, archive, seed, pause):
        self.archive, self.seed, self.pause = archive, seed, pause
        self.requests, self.acknowledged, self.readable = [], set(), []
        self.lock, self.stop, self.counts, self.errors = threading.Lock(), threading.Event(), Counter(), []

    def run(self, seconds, *others):
        work = [(self.write, number) for number in range(WRITERS)] + [(self.read, number) for number in range(READERS)]
        threads = [threading.Thread(target=self.guarded, args=each) for each in [*work, *others]]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.stop.wait(1):
            pass
        self.stop.set()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def guarded(self, work, *arguments):
        try:
            work(*arguments)
        except BaseException as error:
            self.errors.append(error)
            self.stop.set()

    def count(self, name, number=1):
        with self.lock:
            self.counts[name] += number

    # --- writers

    def write(self, number):
        chance, client = random.Random(f"{self.seed} writer {number}"), Client(self.archive.address)
        for turn in itertools.count():
            if self.stop.wait(chance.uniform(0, 2 * self.pause)):
                return
            request = self.make(chance, number, turn)
            with self.lock:
                self.requests.append(request)
            self.send(client, chance, request)
            with self.lock:
                fresh = [i for i in request.instances if i.uid in request.acknowledged and i.uid not in self.acknowledged]
                self.acknowledged |= request.acknowledged
                self.readable += fresh
                self.counts["stored"] += len(fresh)

    def make(self, chance, number, turn):
        """A new request, or now and then one that was sent before."""
        if chance.random() < 0.03:
            with self.lock:
                before = chance.choice(self.requests) if self.requests else None
            if before:
                return Request(f"{number}-{turn}", before.kind, before.instances, again=True)
        # studies that some writers share, series of one or many requests
        study = f"2.25.{self.seed}9{number % 8}{turn // 40}"
        series = f"{study}.{chance.choice([1, 2, 100 + turn])}"
        kind = chance.choice(["multipart", "multipart", "multipart", "gzip", "single"])
        size = 2_500_000 if chance.random() < 0.01 else chance.randrange(500, 60_000)
        many = 1 if kind == "single" or size > 100_000 else chance.choice([1, 1, 2, 10])
        # the writer is a part of the UID: studies and series are shared
        instances = [Instance(study, series, f"{study}.{number + 10}.{turn}.{part}", size) for part in range(many)]
        return Request(f"{number}-{turn}", kind, instances)

    def send(self, client, chance, request):
        """Until it is stored, given up, or the end has come."""
        while True:
            with contextlib.suppress(*BROKEN):
                status = client.store(request)
                if status in (200, 202) and not client.reasons:
                    return
                if status in (202, 409):
                    self.check_reasons(client, request)
                elif status not in TRANSIENT:
                    raise Faithless(f"the request {request.id} is answered by {status}")
                self.count(f"answered {status}")
            if chance.random() < 0.1 or self.stop.is_set():
                self.count("given up")
                return
            self.count("retried")
            time.sleep(chance.uniform(0.1, 1))

    def check_reasons(self, client, request):
        if strange := set(client.reasons) - RETRIED_REASONS:
            raise Faithless(f"the request {request.id} fails by {[f'{reason:04X}' for reason in strange]}")

    # --- readers

    def read(self, number):
        chance, client = random.Random(f"{self.seed} reader {number}"), Client(self.archive.address)
        while not self.stop.wait(self.pause / 4):
            with self.lock:
                instance = chance.choice(self.readable) if self.readable else None
            if instance is None:
                continue
            try:
                if chance.random() < 0.2:
                    self.find(client, instance)
                else:
                    status, _, body = client.get(instance)
                    if status == 200 and body != instance.file() or status not in {200} | TRANSIENT:
                        raise Faithless(f"{instance.uid} reads back with status {status}, {len(body)} bytes")
                    self.count("read" if status == 200 else "not read")
            except BROKEN:
                self.count("not read")
                time.sleep(0.1)

    def find(self, client, instance):
        status, _, body = client.ask("GET", f"/studies/{instance.study}/instances?SOPInstanceUID={instance.uid}")
        if status == 204 or status == 200 and not json.loads(body) or status not in {200, 204} | TRANSIENT:
            raise Faithless(f"{instance.uid} was acknowledged, and a search for it is answered by {status}")
        self.count("found" if status == 200 else "not read")


class Chaos:
    """What goes wrong."""

    def __init__(self, soak, database, work):
        self.soak, self.database, self.work = soak, database, work
        # nobody starts the server while its database is down: it would say so and end
        self.turn = threading.Lock()

    def kill(self):
        chance = random.Random(f"{self.soak.seed} kills")
        port = int(self.soak.archive.address.split(":")[1])
        while not self.soak.stop.wait(KILL_EVERY + chance.uniform(-2, 2)):
            with self.turn:
                self.soak.archive.kill()
                time.sleep(chance.uniform(0, 1))
                self.start(port)
            self.soak.count("kills")

    def start(self, port):
        """As whatever watches over services does: again when it did not work, for the bucket may fail while it starts."""
        for left in reversed(range(10)):
            try:
                return self.soak.archive.start(port)
            except Faithless:
                self.soak.archive.kill()
                if not left:
                    raise
                self.soak.count("starts repeated")
                time.sleep(0.5)

    def restart_database(self):
        chance = random.Random(f"{self.soak.seed} database")
        while not self.soak.stop.wait(RESTART_EVERY + chance.uniform(-5, 5)):
            with self.turn:
                self.database.kill()
                time.sleep(chance.uniform(0, 3))
                self.database.start(self.work / "postgres.log")
            self.soak.count("database restarts")


class Faults:
    """The S3 server with the faulty one before it."""

    def __init__(self, stack, environment, seed, rate):
        there = environment["AWS_ENDPOINT_URL"].removeprefix("http://")
        command = [sys.executable, str(Path(__file__).parent / "faulty_s3.py"), there, "--seed", str(seed), "--rate", str(rate)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(self.process.kill)
        self.environment = environment | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.process.stdout.readline().strip()}"}

    def set(self, on):
        self.process.stdin.write("on\n" if on else "off\n")
        self.process.stdin.flush()

    def end(self):
        out, _ = self.process.communicate()
        return json.loads(out)


def finish(soak, archive, database, whole):
    """Looks at everything; how many objects the sweep removed."""
    listed = check_contents(archive.address, soak.requests, soak.acknowledged, whole)
    verified = archive.verify()
    if verified != len(listed):
        raise Faithless(f"verify checked {verified} instances, and {len(listed)} are found")
    archive.stop()
    # the killed ones' leases would run out within the hour; not before what was stored under them
    run_out = f"update leases set expires_at = {time.time_ns() // 1_000_000}"
    if database:
        database.ask(run_out)
    else:
        with contextlib.closing(sqlite3.connect(archive.data / "index.sqlite3")) as index, index:
            index.execute(run_out)
    swept = archive.sweep() + archive.sweep("--full")
    if left := archive.sweep("--full", "--dry-run"):
        raise Faithless(f"{left} objects are left over after the sweep")
    archive.start()
    if archive.verify() != len(listed):
        raise Faithless("verify checks another number of instances after the sweep")
    if Client(archive.address).listed() != listed:
        raise Faithless("the sweep changed what is found")
    archive.stop()
    return len(listed), swept


def watch_memory(soak, samples):
    """Resident memory each second: all of it, and without pages of mapped files."""
    status = Path(f"/proc/{soak.archive.process.pid}/status")
    while not soak.stop.wait(1):
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        samples.append(tuple(int(fields[name].split()[0]) / 1000 for name in ("VmRSS", "RssAnon")))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", choices=STACKS, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--steady", type=float, help="minutes without faults, in place of those with them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=1, help="mean seconds between the requests of a writer")
    parser.add_argument("--fault-rate", type=float, default=0.02, help="part of the requests to S3 that fail")
    parser.add_argument("--keep", type=Path, help="where everything goes when it fails")
    options = parser.parse_args()
    database_kind, store_kind = options.stack.split("-")
    work = Path(tempfile.mkdtemp(prefix="isocenter-soak."))
    work.chmod(0o711)
    try:
        with contextlib.ExitStack() as stack:
            run(options, database_kind, store_kind, work, stack)
    except BaseException:
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", str(work), str(options.keep)], check=True)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run(options, database_kind, store_kind, work, stack):
    arguments, environment, database, faults = [], {"ISOCENTER_LOG": "warn"}, None, None
    if database_kind == "postgres":
        database = Postgres(work / "postgres" / "data", ["checkpoint_timeout=60s"])
        database.initialize()
        stack.callback(database.kill)
        database.start(work / "postgres.log")
        arguments += ["--database-url", database.url]
    if store_kind == "s3":
        faults = Faults(stack, stack.enter_context(interop.s3_server()), options.seed, options.fault_rate)
        environment |= faults.environment
        arguments += ["--storage-url", "s3://archive/soak"]
    archive = Archive(work / "data", arguments, environment)
    stack.callback(archive.kill)
    archive.start()
    soak = Soak(archive, options.seed, options.pause)
    begun = time.monotonic()
    if options.steady:
        samples = []
        soak.run(options.steady * 60, (watch_memory, soak, samples))
        memory(options, soak, samples)
    else:
        chaos = Chaos(soak, database, work)
        threads = [(chaos.kill,)] + ([(chaos.restart_database,)] if database else [])
        if faults:
            faults.set(True)
        soak.run(options.minutes * 60, *threads)
        if faults:
            faults.set(False)
    took = time.monotonic() - begun
    listed, swept = finish(soak, archive, database, whole=faults is None)
    counts = soak.counts
    said = ", ".join(f"{counts[name]} {name}" for name in sorted(counts, key=lambda name: -counts[name]) if name != "stored")
    broken = f"; S3 faults {faults.end()}" if faults else ""
    total = time.monotonic() - begun
    print(
        f"{options.stack}, seed {options.seed}: in {took:.0f} s {counts['stored']} stored, {listed} found, each right; {said}; "
        f"{swept} objects swept{broken}; checked after {total - took:.0f} s",
        flush=True,
    )


def memory(options, soak, samples):
    """The last third of the time takes at most a tenth more than the first."""
    third, tenth = len(samples) // 3, len(samples) // 10
    course = [f"{statistics.median(sample[0] for sample in samples[n * tenth : (n + 1) * tenth]):.0f}" for n in range(10)]
    print(f"{options.stack}: resident, median of each tenth of {options.steady:g} minutes: {' '.join(course)} MB", flush=True)
    ratios = []
    for number, name in enumerate(("resident", "of it anonymous")):
        first, last = (statistics.median(sample[number] for sample in part) for part in (samples[:third], samples[-third:]))
        ratios.append(last / first)
        print(f"{options.stack}: {name}: median {first:.1f} MB in the first third, {last:.1f} MB in the last, ratio {last / first:.3f}", flush=True)
    if ratios[0] > 1.1:
        raise Faithless(f"the memory grows: the last third is {ratios[0]:.3f} of the first, and 1.1 is allowed")


if __name__ == "__main__":
    main()
