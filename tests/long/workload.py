"""What the tests of lost power and of faults store, and how they look at it afterwards."""

import contextlib
import gzip
import hashlib
import http.client
import json
import os
import pwd
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dicom import EXPLICIT, element

sys.path.append(str(Path(__file__).parent.parent / "interop"))
import server as interop  # noqa: E402

ANY = "application/dicom; transfer-syntax=*"
SECONDARY_CAPTURE = b"1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True)
class Instance:
    """An instance whose bytes follow from its UID."""

    study: str
    series: str
    uid: str
    size: int

    @property
    def path(self):
        return f"/studies/{self.study}/series/{self.series}/instances/{self.uid}"

    def file(self):
        short = lambda number: struct.pack("<H", number)
        columns = 64
        rows = max(1, self.size // columns)
        meta = (
            element(0x00020001, "OB", b"\0\1")
            + element(0x00020002, "UI", SECONDARY_CAPTURE)
            + element(0x00020003, "UI", self.uid.encode())
            + element(0x00020010, "UI", EXPLICIT.encode())
            + element(0x00020012, "UI", b"2.25.1")
        )
        values = [
            (0x00080016, "UI", SECONDARY_CAPTURE),
            (0x00080018, "UI", self.uid.encode()),
            (0x00080020, "DA", b"20240229"),
            (0x00080060, "CS", b"OT"),
            (0x00100010, "PN", b"Phantom^Lasting"),
            (0x00100020, "LO", f"P-{self.study[-8:]}".encode()),
            (0x0020000D, "UI", self.study.encode()),
            (0x0020000E, "UI", self.series.encode()),
            (0x00200013, "IS", b"1"),
            (0x00280002, "US", short(1)),
            (0x00280004, "CS", b"MONOCHROME2"),
            (0x00280010, "US", short(min(rows, 65535))),
            (0x00280011, "US", short(columns)),
            (0x00280100, "US", short(8)),
            (0x00280101, "US", short(8)),
            (0x00280102, "US", short(7)),
            (0x00280103, "US", short(0)),
            (0x7FE00010, "OW", random.Random(self.uid).randbytes(rows * columns)),
        ]
        dataset = b"".join(element(tag, vr, value) for tag, vr, value in values)
        return bytes(128) + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta + dataset

    def digest(self):
        return hashlib.sha256(self.file()).digest()


@dataclass
class Request:
    """One storing request and what became of it."""

    id: str
    kind: str
    instances: list
    again: bool = False  # of instances that were sent before
    status: int | None = None
    acknowledged: set = field(default_factory=set)  # UIDs that the answer calls stored


# What the body of a request may be: headers and bytes of some files. Each is a row of the tests that use it.
def _multipart(files):
    edge = "an-edge-of-the-tests"
    parts = b"".join(b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (edge.encode(), file) for file in files)
    return {"Content-Type": f'multipart/related; type="application/dicom"; boundary={edge}'}, parts + b"--%s--\r\n" % edge.encode()


def _single(files):
    (file,) = files
    return {"Content-Type": "application/dicom"}, file


def _gzipped(files):
    headers, body = _multipart(files)
    return headers | {"Content-Encoding": "gzip"}, gzip.compress(body, 1)


def _single_gzipped(files):
    headers, body = _single(files)
    return headers | {"Content-Encoding": "gzip"}, gzip.compress(body, 1)


BODIES = {"multipart": _multipart, "single": _single, "gzip": _gzipped, "single gzip": _single_gzipped}


class Client:
    """A connection to a server; one thread's."""

    def __init__(self, address, timeout=120):
        self.address, self.timeout, self.connection = address, timeout, None
        # of the last storing request: why instances failed
        self.reasons = []

    def ask(self, method, path, headers=None, body=None):
        """(status, headers, body); an error of the connection is raised and the connection made anew the next time."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.address, timeout=self.timeout)
        try:
            self.connection.request(method, f"/dicom-web{path}", body, headers or {})
            answer = self.connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def store(self, request):
        """Sends a request and notes which of its instances the answer calls stored."""
        headers, body = BODIES[request.kind]([instance.file() for instance in request.instances])
        status, _, answer = self.ask("POST", "/studies", headers | {"X-Request-Id": request.id}, body)
        request.status = status
        self.reasons = []
        if status in (200, 202, 409):
            answer = json.loads(answer)
            stored, failed = (answer.get(tag, {}).get("Value", []) for tag in ("00081199", "00081198"))
            request.acknowledged |= {item["00081155"]["Value"][0] for item in stored}
            self.reasons = [item["00081197"]["Value"][0] for item in failed]
        if status == 200:
            missing = {instance.uid for instance in request.instances} - request.acknowledged
            assert not missing, f"the answer 200 to {request.id} does not name {missing}"
        return status

    def get(self, instance):
        return self.ask("GET", instance.path, {"Accept": ANY})

    def listed(self):
        """Every instance that a search finds: (study, series) by its UID."""
        found, offset = {}, 0
        while True:
            page = self.search(f"/instances?limit=1000&offset={offset}")
            for match in page:
                study, series, uid = (match[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
                if uid in found:
                    raise Faithless(f"a search lists {uid} twice")
                found[uid] = study, series
            offset += len(page)
            if not page:
                return found

    def search(self, path):
        status, _, body = self.ask("GET", path, {"Accept": "application/dicom+json"})
        if status == 204:
            return []
        if status != 200:
            raise Faithless(f"the search {path} is answered by {status}: {body[:300]}")
        return json.loads(body)


def in_threads(work, items, threads=4):
    """Does the same with all items, with a connection's worth of threads; the first error is raised."""
    items, lock, errors = iter(items), threading.Lock(), []

    def run():
        while not errors:
            with lock:
                item = next(items, None)
            if item is None:
                return
            try:
                work(item)
            except BaseException as error:
                errors.append(error)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]


class Faithless(AssertionError):
    """An archive that does not hold what it promised."""


def check_contents(address, requests, acknowledged, whole=True):
    """Nothing acknowledged is lost, nothing that is listed is wrong or half there; what is listed.

    `acknowledged` are the UIDs that clients were told are stored; `whole` says that no instance alone may have failed.
    """
    sent = {instance.uid: instance for request in requests for instance in request.instances}
    client = Client(address)
    listed = client.listed()
    if lost := acknowledged - set(listed):
        raise Faithless(f"{len(lost)} acknowledged instances are not found, among them {sorted(lost)[:3]}")
    if strange := set(listed) - set(sent):
        raise Faithless(f"{sorted(strange)[:3]} were never sent")
    for uid, (study, series) in listed.items():
        if (study, series) != (sent[uid].study, sent[uid].series):
            raise Faithless(f"{uid} is found in {study} {series}")
    local = threading.local()

    def read(uid):
        if not hasattr(local, "client"):
            local.client = Client(address)
        status, _, body = local.client.get(sent[uid])
        if status != 200 or body != sent[uid].file():
            said = "acknowledged" if uid in acknowledged else "not acknowledged"
            raise Faithless(f"{uid} ({said}) is found and reads back with status {status}, {len(body)} bytes")

    # which the server would find idle for too long
    client.close()
    in_threads(read, sorted(listed))
    for request in requests:
        there = {instance.uid in listed for instance in request.instances}
        if whole and len(there) == 2 and not request.again and len(request.instances) <= 64 and request.status in (None, 200):
            raise Faithless(f"the request {request.id} is half visible")
    real = Counter(study for study, _ in listed.values())
    counted = {}
    while page := client.search(f"/studies?limit=1000&offset={len(counted)}"):
        counted |= {match["0020000D"]["Value"][0]: match["00201208"]["Value"][0] for match in page}
    if counted != real:
        raise Faithless(f"studies whose counters are wrong: {sorted(study for study in real | counted if real[study] != counted.get(study))[:3]}")
    client.close()
    return listed


class Archive:
    """A server process on some folder, and the program's other commands on the same."""

    def __init__(self, data, arguments=(), environment=None, log=None):
        self.data, self.arguments = Path(data), list(arguments)
        self.environment = os.environ | (environment or {})
        self.log = Path(log) if log else self.data.parent / f"{self.data.name}.log"
        self.process, self.address = None, None

    def start(self, port=None, patience=60):
        port = port or free_port()
        self.address = f"127.0.0.1:{port}"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command("serve", "--listen", self.address), env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.wait_until_ready(patience)

    def command(self, name, *rest):
        return [interop.binary(), name, "--data-dir", str(self.data), *self.arguments, *rest]

    def wait_until_ready(self, patience=60):
        end = time.monotonic() + patience
        while True:
            if self.process is not None and self.process.poll() is not None:
                raise Faithless(f"the server does not start:\n{self.tail()}")
            try:
                connection = http.client.HTTPConnection(self.address, timeout=5)
                connection.request("GET", "/health/ready")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            finally:
                connection.close()
            if time.monotonic() > end:
                raise Faithless(f"the server is not ready after {patience} s:\n{self.tail()}")
            time.sleep(0.02)

    def tail(self):
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            try:
                assert self.process.wait(60) == 0, f"the server ended badly:\n{self.tail()}"
            finally:
                self.kill()

    def run(self, name, *rest):
        return subprocess.run(self.command(name, *rest), env=self.environment, capture_output=True, text=True)

    def verify(self):
        """What `isocenter verify` counts; it has to find nothing wrong."""
        done = self.run("verify", "--json")
        if done.returncode:
            raise Faithless(f"`isocenter verify` ends with {done.returncode}: {done.stdout[-1500:]} {done.stderr[-500:]}")
        return json.loads(done.stdout)["instances"]

    def reindex(self):
        """Objects may be left without a row (exit status 1), but it has to come to its end."""
        done = self.run("reindex", "--json")
        if done.returncode not in {0, 1} or not json.loads(done.stdout)["complete"]:
            raise Faithless(f"`isocenter reindex` ends with {done.returncode}: {done.stdout[-1500:]} {done.stderr[-500:]}")

    def sweep(self, *rest):
        """What `isocenter sweep` says it removed."""
        done = self.run("sweep", "--json", *rest)
        if done.returncode:
            raise Faithless(f"`isocenter sweep` ends with {done.returncode}: {done.stdout[-1500:]} {done.stderr[-500:]}")
        return json.loads(done.stdout)["removed"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """A PostgreSQL cluster that waits for the disk, run as another user when we are root."""

    def __init__(self, folder, settings=()):
        folders = [bin for bin in Path("/usr/lib/postgresql").glob("*/bin") if (bin / "postgres").is_file()]
        found = max(folders, key=lambda bin: float(bin.parent.name), default=None)
        if found is None:
            program = shutil.which("postgres")
            if program is None:
                raise RuntimeError("there are no programs of a PostgreSQL server; tests/run installs them")
            found = Path(program).parent
        self.bin, self.folder, self.settings = found, Path(folder), list(settings)
        self.port, self.process, self.owner, self.prefix = free_port(), None, None, []
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            self.owner = account.pw_uid, account.pw_gid
            self.prefix = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]

    @property
    def url(self):
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def initialize(self):
        self.folder.parent.mkdir(exist_ok=True)
        if self.owner:
            os.chown(self.folder.parent, *self.owner)
        command = [*self.prefix, self.bin / "initdb", "-D", self.folder, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust"]
        subprocess.run([*command, "-N", "--wal-segsize=1"], check=True, stdout=subprocess.DEVNULL, cwd="/")

    def command(self):
        settings = ["listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=", "max_connections=60", *self.settings]
        return [*self.prefix, str(self.bin / "postgres"), "-D", str(self.folder), *(w for s in settings for w in ("-c", s))]

    def start(self, log):
        with open(log, "ab") as output:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/")
        self.wait_until_ready(log)

    def wait_until_ready(self, log, patience=60):
        end = time.monotonic() + patience
        while not self.answers():
            if (self.process is not None and self.process.poll() is not None) or time.monotonic() > end:
                raise Faithless(f"PostgreSQL does not start:\n{Path(log).read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def answers(self):
        """Whether it lets a client in (the first messages of its protocol)."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
            words = b"user\0postgres\0database\0postgres\0\0"
            client.sendall(struct.pack(">II", 8 + len(words), 196608) + words)
            return client.recv(1) == b"R"
        return False

    def ask(self, statement):
        """The rows as text."""
        command = [self.bin / "psql", self.url, "--no-psqlrc", "--tuples-only", "--no-align", "--command", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def kill(self):
        """An immediate shutdown: what is in memory is lost, as after a crash."""
        if self.process is not None:
            self.process.send_signal(3)  # SIGQUIT
            self.process.wait()
            self.process = None
