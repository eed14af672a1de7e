"""Peak memory of the server while instances of gigabytes go in and out, and while many clients use it at once.

    memory.py CASE               cases: native, encapsulated, shared, clients, clients-shared

ISOCENTER_TEST_BINARY names the server. `shared` and `clients-shared` need ISOCENTER_TEST_POSTGRES (a superuser's URL), PSQL
(the program) and the example `s3_server`. Prints a line of figures for each step; fails when bytes differ or the memory is
over its limit.
"""

import contextlib
import hashlib
import http.client
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

from dicom import BLOCK, EXPLICIT, IMPLICIT, Encapsulated, Native, digest

sys.path.append(str(Path(__file__).parent.parent / "interop"))
import server  # noqa: E402

MB = 1_000_000
BOUNDARY = "an-edge-of-the-tests"
ANY = "application/dicom; transfer-syntax=*"


class Server(server.Server):
    """The binary over back ends of its own, and what a client does with it."""

    def __init__(self, *back_ends):
        # nobody who stands still on purpose is to be cut before the end
        patience = {
            "ISOCENTER_SERVER_IDLE_TIMEOUT": "10m",
            "ISOCENTER_SERVER_KEEP_ALIVE": "10m",
            "ISOCENTER_SERVER_LEAST_RATE": "0",
        }
        arguments, environment = back_ends or ((), {})
        super().__init__(arguments, environment | patience)

    def __enter__(self):
        super().__enter__()
        self.address = self.root.removeprefix("http://")
        self.start_peak = self.peak()
        return self

    def memory(self, field):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

    def peak(self):
        return self.memory("VmHWM:")

    def connect(self):
        return http.client.HTTPConnection(self.address, timeout=900)

    def store(self, image):
        """Stores a file of any size; its digest."""
        front = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        back = f"\r\n--{BOUNDARY}--\r\n".encode()
        state = []

        def body():
            yield front
            yield from tapped(image.file(), state)
            yield back

        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
            "Content-Length": str(len(front) + image.size() + len(back)),
        }
        connection = self.connect()
        connection.request("POST", "/dicom-web/studies", body(), headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text)
        connection.close()
        return state[0]

    def get(self, path, accept):
        """The answer in pieces."""
        connection = self.connect()
        connection.request("GET", f"/dicom-web{path}", headers={"Accept": accept})
        answer = connection.getresponse()
        assert answer.status == 200, (path, answer.status, answer.read(1000))
        while piece := answer.read(BLOCK):
            yield piece
        connection.close()


def tapped(pieces, state):
    """Passes pieces through and leaves their digest behind."""
    hasher = hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
        yield piece
    state.append(hasher.hexdigest())


@contextlib.contextmanager
def database():
    """The URL of an empty database."""
    superuser = os.environ["ISOCENTER_TEST_POSTGRES"]
    name = f"isocenter_long_{uuid.uuid4().hex}"
    psql = [os.environ.get("PSQL", "psql"), "--quiet", "--no-psqlrc", superuser, "--command"]
    subprocess.run([*psql, f"create database {name} encoding 'UTF8' template template0"], check=True)
    try:
        yield re.sub(r"^(\w+://[^/?]*)(/[^?]*)?", rf"\1/{name}", superuser)
    finally:
        subprocess.run([*psql, f"drop database {name} with (force)"], check=True)


@contextlib.contextmanager
def back_ends(shared):
    """The arguments and the environment of a server on SQLite and a folder, or on PostgreSQL and S3."""
    if not shared:
        yield ()
        return
    with database() as url, server.s3_server() as environment:
        yield ["--database-url", url, "--storage-url", "s3://archive/long"], environment


def whole(running, image):
    """Stores an image and reads it back as it was; megabytes a second of both."""
    start = time.monotonic()
    sent = running.store(image)
    stored = time.monotonic()
    back = digest(running.get(image.path, ANY))
    read = time.monotonic()
    assert back == (sent, image.size()), f"{image.uid} reads back as {back}, not as it was sent"
    return f"in at {image.size() / MB / (stored - start):.0f} MB/s, out at {image.size() / MB / (read - stored):.0f} MB/s"


def frames(running, image, numbers):
    for number in numbers:
        back = digest(running.get(f"{image.path}/frames/{number}", "application/octet-stream; transfer-syntax=*"))
        assert back == digest(image.frame(number)), f"frame {number} of {image.uid} reads back otherwise"


def reencoded(running, image):
    """An implicit file leaves as explicit: the same elements, after file meta information of the server's own."""
    pieces = running.get(image.path, "application/dicom")
    first = next(pieces)
    while len(first) < 1000:
        first += next(pieces)
    assert first[128:132] == b"DICM" and EXPLICIT.encode() in first[:400]
    after = 144 + int.from_bytes(first[140:144], "little")

    def dataset():
        yield first[after:]
        yield from pieces

    assert digest(dataset()) == digest(image.dataset(explicit=True)), f"{image.uid} was re-encoded wrongly"


def native(running):
    image = Native("2.25.41", 1000, 2000, 1000)
    assert image.length == 4_000_000_000
    speed = whole(running, image)
    frames(running, image, [1, 500, 1000])
    return f"4,000,000,000 bytes of native pixel data, {speed}"


def implicit(running):
    image = Native("2.25.42", 1000, 2000, 1000, IMPLICIT)
    running.store(image)
    start = time.monotonic()
    reencoded(running, image)
    frames(running, image, [1, 777, 1000])
    return f"the same as Implicit VR, re-encoded on the way out at {image.size() / MB / (time.monotonic() - start):.0f} MB/s"


def encapsulated(running):
    image = Encapsulated("2.25.43", [3 << 30] + [2 << 20] * 1024)
    assert sum(image.lengths) == 5 << 30
    speed = whole(running, image)
    frames(running, image, [1, 2, 600, 1025])
    return f"5 GiB encapsulated in 1,025 frames, one of them 3 GiB, {speed}"


def gibibyte(running):
    image = Native("2.25.44", 1024, 1024, 512)
    assert image.length == 1 << 30
    speed = whole(running, image)
    frames(running, image, [1, 256, 512])
    image = Native("2.25.45", 1024, 1024, 512, IMPLICIT)
    running.store(image)
    reencoded(running, image)
    return f"1 GiB native, {speed}; the same as Implicit VR, re-encoded"


IDLE, UPLOADS, UPLOAD, TURNS = 200, 32, 50 * MB, 2


def clients(running):
    """Half of the idle clients keep a connection; the others stand still in the middle of an upload."""
    first = Native("2.25.49", 1000, 1000, UPLOAD // 2_000_000)
    running.store(first)
    waiting = [idle(running, first) for _ in range(IDLE // 2)]
    waiting += [stalled(running, number) for number in range(IDLE // 2)]
    errors = []

    def upload(image):
        try:
            whole(running, image)
        except BaseException as error:
            errors.append(error)

    start = time.monotonic()
    for turn in range(TURNS):
        images = [Native(f"2.25.5{turn}.{number}", 1000, 1000, UPLOAD // 2_000_000) for number in range(UPLOADS)]
        threads = [threading.Thread(target=upload, args=[image]) for image in images]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors
    took = time.monotonic() - start
    cut = select.select(waiting, [], [], 0)[0]
    assert not cut, f"{len(cut)} idle clients were cut before the end"
    for connection in waiting:
        connection.close()
    return f"200 idle clients, 100 of them within an upload, while 32 store 50 MB each and read it back, twice, in {took:.0f} s"


def idle(running, image):
    """A connection that has read a frame and waits for its next request."""
    connection = running.connect()
    accept = {"Accept": "application/octet-stream; transfer-syntax=*"}
    connection.request("GET", f"/dicom-web{image.path}/frames/1", headers=accept)
    assert len(connection.getresponse().read()) == 2_000_000
    return connection.sock


def stalled(running, number):
    """An upload that stands still after some bytes, from the first header to beyond what stays in memory."""
    host, port = running.address.split(":")
    sent = [200, 100_000, 1_000_000, 4_000_000][number % 4]
    image = Native(f"2.25.60.{number}", 1000, 1000, UPLOAD // 2_000_000)
    head = (
        f"POST /dicom-web/studies HTTP/1.1\r\nHost: {running.address}\r\nContent-Length: {image.size() + 1000}\r\n"
        f'Content-Type: multipart/related; type="application/dicom"; boundary={BOUNDARY}\r\n\r\n'
        f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n"
    )
    connection = socket.create_connection((host, int(port)))
    connection.sendall(head.encode())
    for piece in image.file():
        connection.sendall(piece[:sent])
        sent -= len(piece[:sent])
        if not sent:
            return connection
    raise AssertionError("the whole file was sent")


CASES = {
    # what to do, whether on PostgreSQL and S3, the limit of the memory
    "native": ([native, implicit], False, 200 * MB),
    "encapsulated": ([encapsulated], False, 200 * MB),
    "shared": ([gibibyte], True, 200 * MB),
    "clients": ([clients], False, 300 * MB),
    "clients-shared": ([clients], True, 300 * MB),
}


def main(case):
    steps, shared, limit = CASES[case]
    over = False
    for step in steps:
        with back_ends(shared) as where, Server(*where) as running:
            said = step(running)
            peak = running.peak()
            name = "PostgreSQL and S3" if shared else "SQLite and a folder"
            start = running.start_peak / MB
            print(f"{name}: {said}: peak {peak / MB:.0f} MB (at the start {start:.0f} MB), limit {limit // MB} MB", flush=True)
            over |= peak > limit
    sys.exit("the memory is over its limit" if over else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
