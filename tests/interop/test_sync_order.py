"""The order of system calls behind each acknowledged upload: objects are durable, then rows are, then the client is told.

strace follows the real server (and PostgreSQL's processes), so that what is compared is what the system was asked to do.
"""

import ast
import contextlib
import functools
import gzip
import http.client
import itertools
import json
import os
import pwd
import re
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

from server import Server, s3_server

CALLS = "openat,write,writev,pwrite64,pwritev,fdatasync,fsync,rename,renameat,renameat2,mkdir,mkdirat,sendto,sendmsg,recvfrom,recvmsg,read"
WRITES = {"write", "writev", "pwrite64", "pwritev"}
SENDS = {"sendto", "sendmsg", "write", "writev"}
RECEIVES = {"recvfrom", "recvmsg", "read"}
SYNCS = {"fsync", "fdatasync"}
# more than a page of the database, so that the rows in it are seen
SHOWN = 4200
# of one length, so that none is a part of another
UID = re.compile(rb"2\.25\.7[0-9]{11}")


class Call:
    """A system call: when it began and ended (in places of the trace), by whom, on which file, with which text."""

    def __init__(self, process, name, text, begun, ended):
        self.process, self.name, self.text, self.begun, self.ended = process, name, text, begun, ended
        on = re.match(r"\d+<(.*?)>(?=[,)])", text)
        self.on = on[1] if on else None
        self.failed = re.search(r"\) += -1 ", text[-300:]) is not None

    def paths(self):
        """The quoted paths among its arguments."""
        return re.findall(r'"([^"]*)"', self.text)

    @functools.cached_property
    def data(self):
        """The bytes of its first buffer, as far as they are shown."""
        shown = re.search(r'"((?:[^"\\]|\\.)*)"', self.text)
        return ast.literal_eval(f'b"{shown[1]}"') if shown else b""

    @functools.cached_property
    def uids(self):
        """The UIDs of our instances in it."""
        return {uid.decode() for uid in UID.findall(self.data)}

    def __repr__(self):
        return f"{self.process} {self.name}({self.text[:150]} [{self.begun}-{self.ended}]"


def parse(trace):
    """The calls of a trace, in the order in which they ended."""
    calls, unfinished = [], {}
    for place, line in enumerate(trace.splitlines()):
        process, _, rest = line.partition(" ")
        rest = rest.lstrip()
        if resumed := re.match(r"<\.\.\. (\w+) resumed>(.*)", rest):
            name, text, begun = unfinished.pop(process)
            assert name == resumed[1], line[:200]
            calls.append(Call(process, name, text + resumed[2], begun, place))
        elif cut := re.match(r"(\w+)\((.*?) <unfinished \.\.\.>$", rest):
            unfinished[process] = (cut[1], cut[2], place)
        elif called := re.match(r"(\w+)\((.*)", rest):
            calls.append(Call(process, called[1], called[2], place, place))
    return calls


def one(calls, what):
    assert len(calls) == 1, f"{what}: {len(calls)} calls: {calls}"
    return calls[0]


def first_after(calls, place):
    """The first call that began after a place in the trace."""
    return min((call for call in calls if call.begun > place), key=lambda call: call.begun, default=None)


def image(study, series, uid, size):
    """A file with so many bytes of pixel data."""

    def element(group, number, vr, value):
        value += b"" if len(value) % 2 == 0 else (b"\0" if vr == b"UI" else b" ")
        length = struct.pack("<HI", 0, len(value)) if vr in (b"OB", b"OW") else struct.pack("<H", len(value))
        return struct.pack("<HH", group, number) + vr + length + value

    sop_class = b"1.2.840.10008.5.1.4.1.1.7"
    meta = element(2, 2, b"UI", sop_class) + element(2, 3, b"UI", uid.encode()) + element(2, 16, b"UI", b"1.2.840.10008.1.2.1")
    dataset = [
        element(0x0008, 0x0016, b"UI", sop_class),
        element(0x0008, 0x0018, b"UI", uid.encode()),
        element(0x0008, 0x0060, b"CS", b"OT"),
        element(0x0010, 0x0020, b"LO", b"P-SYNC"),
        element(0x0020, 0x000D, b"UI", study.encode()),
        element(0x0020, 0x000E, b"UI", series.encode()),
        element(0x7FE0, 0x0010, b"OW", bytes(size)),
    ]
    return bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta + b"".join(dataset)


SMALL, LARGE = 2_000, 3_000_000


def multipart(instances):
    """A part for each file."""
    body = b"".join(b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + image(*instance) + b"\r\n" for instance in instances)
    return {"Content-Type": 'multipart/related; type="application/dicom"; boundary=edge'}, body + b"--edge--\r\n"


def single(instances):
    """One file alone."""
    (instance,) = instances
    return {"Content-Type": "application/dicom"}, image(*instance)


def gzipped(payload):
    """A payload, compressed."""

    def encode(instances):
        headers, body = payload(instances)
        return headers | {"Content-Encoding": "gzip"}, gzip.compress(body, 1)

    return encode


def parts(form, metadata, bulk_type, bulk):
    """Metadata in JSON or XML with a part of bulk data."""
    body = b""
    for content_type, where, content in [(form, "", metadata), (bulk_type, "Content-Location: bulk/1\r\n", bulk)]:
        body += f"--edge\r\nContent-Type: {content_type}\r\n{where}\r\n".encode() + content + b"\r\n"
    return {"Content-Type": f'multipart/related; type="{form}"; boundary=edge'}, body + b"--edge--\r\n"


def described(instance, tag, vr, rest=()):
    """What a client knows of an instance, in the DICOM JSON model."""
    study, series, uid, _ = instance
    values = {
        "00080018": ("UI", uid),
        "00080020": ("DA", "20240229"),
        "00080030": ("TM", "101112"),
        "00100020": ("LO", "P-SYNC"),
        "0020000D": ("UI", study),
        "0020000E": ("UI", series),
    } | dict(rest)
    return {key: {"vr": kind, "Value": [value]} for key, (kind, value) in values.items()} | {tag: {"vr": vr, "BulkDataURI": "bulk/1"}}


def pixels(instance):
    """An image of so many bytes, rounded to rows: what is known of it, and its pixel data."""
    rows = instance[3] // 1000
    image_pixel = {
        "00080016": ("UI", "1.2.840.10008.5.1.4.1.1.7"),
        "00080060": ("CS", "OT"),
        "00280002": ("US", 1),
        "00280004": ("CS", "MONOCHROME2"),
        "00280010": ("US", rows),
        "00280011": ("US", 1000),
        "00280100": ("US", 8),
        "00280101": ("US", 8),
        "00280102": ("US", 7),
        "00280103": ("US", 0),
    }
    return described(instance, "7FE00010", "OW", image_pixel.items()), bytes(rows * 1000)


def in_json(instances):
    """Native pixel data as bulk data of DICOM JSON."""
    (instance,) = instances
    dataset, bulk = pixels(instance)
    return parts("application/dicom+json", json.dumps([dataset]).encode(), "application/octet-stream", bulk)


def in_xml(instances):
    """The same in the Native DICOM Model."""
    (instance,) = instances
    dataset, bulk = pixels(instance)
    root = xml.Element("NativeDicomModel", xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM")
    for tag, attribute in dataset.items():
        element = xml.SubElement(root, "DicomAttribute", tag=tag, vr=attribute["vr"])
        for value in attribute.get("Value", ()):
            xml.SubElement(element, "Value", number="1").text = str(value)
        if "BulkDataURI" in attribute:
            xml.SubElement(element, "BulkData", uri=attribute["BulkDataURI"])
    return parts("application/dicom+xml", xml.tostring(root), "application/octet-stream", bulk)


def photograph(instances):
    """A JPEG image, filled up with a comment to the size (marker COM, ISO/IEC 10918-1 B.2.4.5)."""
    (instance,) = instances
    photo = (Path(__file__).parent.parent / "data/media/photo.jpg").read_bytes()
    comments, left = b"", instance[3]
    while left > 0:
        comments += b"\xff\xfe" + struct.pack(">H", min(left, 65000) + 2) + bytes(min(left, 65000))
        left -= 65000
    metadata = json.dumps([described(instance, "7FE00010", "OB")]).encode()
    return parts("application/dicom+json", metadata, "image/jpeg", photo[:2] + comments + photo[2:])


def report(instances):
    """A PDF document, filled up with a comment to the size."""
    (instance,) = instances
    document = (Path(__file__).parent.parent / "data/media/report.pdf").read_bytes()
    metadata = json.dumps([described(instance, "00420011", "OB")]).encode()
    return parts("application/dicom+json", metadata, "application/pdf", document + b"%" + b" " * instance[3] + b"\n%%EOF\n")


# Every kind of payload: what makes headers and body of some (study, series, uid, size), and how many instances it may hold at
# most. Each is stored small and large, in a new and in a known series, and judged as all others are.
PAYLOADS = {
    "multipart": (multipart, None),
    "single": (single, 1),
    "gzip-multipart": (gzipped(multipart), None),
    "gzip-single": (gzipped(single), 1),
    "json": (in_json, 1),
    "xml": (in_xml, 1),
    "gzip-json": (gzipped(in_json), 1),
    "jpeg": (photograph, 1),
    "pdf": (report, 1),
}


class Requests:
    """Uploads of many kinds: their UIDs by the id of their request."""

    def __init__(self, server):
        self.server, self.sent, self.numbers = server, {}, itertools.count()

    def store(self, name, instances, payload=multipart):
        """Stores instances given as (study, series, size) by one request."""
        made = []
        for study, series, size in instances:
            uid = f"2.25.7{next(self.numbers):011}"
            made.append((f"2.25.1{study:03}", f"2.25.1{study:03}.{series}", uid, size))
        uids = [instance[:3] for instance in made]
        headers, body = payload(made)
        connection = http.client.HTTPConnection(self.server.root.removeprefix("http://"), timeout=120)
        connection.request("POST", "/dicom-web/studies", body, headers | {"X-Request-Id": name})
        answer = connection.getresponse()
        assert answer.status == 200, (name, answer.read())
        assert answer.headers["X-Request-Id"] == name
        answer.read()
        connection.close()
        self.sent[name] = uids

    def store_all_kinds(self):
        self.store("one-small-in-a-new-study", [(1, 1, SMALL)])
        self.store("one-small-in-a-known-series", [(1, 1, SMALL)])
        self.store("one-large-in-a-new-series", [(1, 2, LARGE)])
        self.store("five-small-in-a-known-series", [(1, 1, SMALL)] * 5)
        self.store("mixed-in-new-series-of-two-studies", [(2, 1, SMALL), (2, 2, LARGE), (3, 1, SMALL), (3, 2, LARGE), (3, 1, LARGE), (3, 3, SMALL)])
        self.store("two-batches-in-a-new-study", [(4, 1, SMALL)] * 70)
        self.store("two-batches-in-a-known-series", [(4, 1, SMALL)] * 70)
        for study, (name, (payload, most)) in enumerate(PAYLOADS.items(), start=500):
            self.store(f"{name}-small-in-a-new-study", [(study, 1, SMALL)], payload)
            self.store(f"{name}-small-in-a-known-series", [(study, 1, SMALL)], payload)
            self.store(f"{name}-large-in-a-new-series", [(study, 2, LARGE)], payload)
            if most is None:
                self.store(f"{name}-mixed-in-new-series", [(study, 3, SMALL), (study, 4, LARGE), (study, 3, SMALL)], payload)

    def store_at_once(self):
        """Requests beside each other, which are committed together; some share a new study."""
        errors = []

        def client(number):
            try:
                for turn in range(4):
                    sizes = [SMALL, LARGE] if turn % 2 else [SMALL]
                    self.store(f"client-{number}-turn-{turn}", [(10 + number // 2, number * 10 + turn, size) for size in sizes])
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=client, args=[number]) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors


@contextlib.contextmanager
def traced(arguments=(), environment=None, beside=()):
    """A server under strace, and `trace()`, which ends it and gives the calls. `beside` are processes to follow too."""
    with tempfile.TemporaryDirectory(prefix="isocenter-trace.") as folder:
        output = Path(folder) / "trace"
        # the server stays our own child: strace is one of its (-D)
        strace = ["strace", "-D", "-f", "-y", "-qq", "-s", str(SHOWN), "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(output)]
        for process in beside:
            strace += ["-p", str(process)]
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(Server(arguments, environment, strace))

            def trace():
                stack.close()
                return parse(output.read_text(encoding="latin-1"))

            yield server, trace


class SyncOrder(unittest.TestCase):
    def answer(self, calls, request):
        """The call that begins to tell the client."""
        head = f"x-request-id: {request}\\r\\n"
        said = [call for call in calls if call.name in SENDS and '"HTTP/1.1 200 ' in call.text[:200] and head in call.text]
        return one(said, f"answers to {request}")

    def test_each_answer_follows_the_syncs_of_its_objects_folders_and_rows(self):
        with traced() as (server, trace):
            requests = Requests(server)
            requests.store_all_kinds()
            requests.store_at_once()
            root = server.data / "objects"
            calls = [call for call in trace() if not call.failed]
        self.on, self.made = {}, {}
        for call in calls:
            if call.name in WRITES | SYNCS and call.on:
                self.on.setdefault((call.name in SYNCS, call.on), []).append(call)
            if call.name.startswith("mkdir"):
                self.made[call.paths()[-1]] = call
        named = {}
        for call in calls:
            renamed, created = call.name.startswith("rename"), call.name == "openat" and "O_EXCL" in call.text
            if (renamed or created) and (uid := UID.match(Path(call.paths()[-1]).name.encode())):
                named.setdefault(uid[0].decode(), []).append((call, call.paths()))
        log = sorted(self.calls(False, f"{server.data}/index.sqlite3-wal"), key=lambda call: call.begun)
        for request, uids in requests.sent.items():
            answer = self.answer(calls, request)
            for study, series, uid in uids:
                with self.subTest(request=request, uid=uid):
                    call, paths = one(named[uid], f"calls that gave {uid} its name")
                    folder = Path(paths[-1]).parent
                    self.assertEqual(folder, root / "studies" / study / series)
                    durable = max(self.file_is_synced(paths), self.folders_are_synced(folder, root, call))
                    self.rows_are_synced(log, server, uid, durable, answer)

    def calls(self, syncs, path):
        return self.on.get((syncs, str(path)), [])

    def file_is_synced(self, paths):
        """After its last write, under whichever name it then had; when it was."""
        written = max(call.ended for path in paths for call in self.calls(False, path))
        sync = first_after([call for path in paths for call in self.calls(True, path)], written)
        self.assertIsNotNone(sync, f"{paths[-1]} is never synced after its last write")
        return sync.ended

    def folders_are_synced(self, folder, root, naming):
        """The folder after it got the name, and each that was made after that; when the last was."""
        last = 0
        after = naming.ended
        while True:
            sync = first_after(self.calls(True, folder), after)
            self.assertIsNotNone(sync, f"{folder} is not synced after it got a name")
            last = max(last, sync.ended)
            made = self.made.get(str(folder))
            if folder == root or made is None:
                return last
            folder, after = folder.parent, made.ended

    def rows_are_synced(self, log, server, uid, durable, answer):
        """The log of the database holds the row only after the object is durable, and is synced as a whole before the answer."""
        pages = [call for call in log if uid in call.uids]
        self.assertTrue(pages, f"no row of {uid}")
        self.assertLess(durable, pages[0].begun, f"the row of {uid} was written before its object was durable")
        sync = first_after(self.calls(True, f"{server.data}/index.sqlite3-wal"), pages[0].ended)
        self.assertIsNotNone(sync, f"the row of {uid} is not synced")
        self.assertLess(sync.ended, answer.begun, f"the client was told of {uid} before its row was synced")
        heads = [call for call in log if call.ended < sync.begun and len(call.data) == 24]
        # the size of the database stands in the last frame of a transaction only (SQLite file format, 4.1)
        self.assertNotEqual(heads[-1].data[4:8], bytes(4), f"the log was synced before the transaction of {uid} was complete")

    def test_with_postgresql_and_s3_each_answer_follows_both(self):
        with postgresql() as (url, postmaster), s3_server() as environment:
            arguments = ["--database-url", url, "--storage-url", "s3://archive/trace"]
            with traced(arguments, environment, [postmaster]) as (server, trace):
                requests = Requests(server)
                requests.store_all_kinds()
                requests.store_at_once()
                calls = [call for call in trace() if not call.failed]
        by_process = {}
        for call in calls:
            by_process.setdefault(call.process, []).append(call)
        log_syncs = [call for call in calls if call.name in SYNCS and call.on and "/pg_wal/" in call.on]
        sent, got = {}, {}
        for call in calls:
            if call.on and call.on.startswith("socket:"):
                if call.name in SENDS:
                    sent.setdefault(call.on, []).append(call)
                elif call.name in RECEIVES:
                    got.setdefault(call.on, []).append(call)
        puts = [call for each in sent.values() for call in each if re.search(r'"(PUT|POST) /archive/trace/', call.text[:300])]
        backends = {process: each for process, each in by_process.items() if any(c.on and "/pg_wal/" in c.on for c in each)}
        for request, uids in requests.sent.items():
            answer = self.answer(calls, request)
            stored = max(self.object_is_stored(puts, got, uid) for _, _, uid in uids)
            commits = []
            for _, _, uid in uids:
                with self.subTest(request=request, uid=uid):
                    commits.append(self.commit_is_synced(backends, log_syncs, uid, answer))
            self.assertTrue(all(told < answer.begun for _, told in commits))
            self.assertLess(stored, max(asked for asked, _ in commits), f"{request} was committed before its objects were stored")

    def object_is_stored(self, puts, got, uid):
        """When the object store said the last time that it has something of the object."""
        ends = []
        for put in puts:
            if uid in put.text[:600]:
                said = first_after(got[put.on], put.ended)
                self.assertIn('"HTTP/1.1 200 ', said.text[:200], uid)
                ends.append(said.ended)
        self.assertTrue(ends, f"no object of {uid} was sent")
        return max(ends)

    def commit_is_synced(self, backends, log_syncs, uid, answer):
        """Between the order to commit and the word that it is done, the log is synced by whichever process does it for all."""
        for calls in backends.values():
            named = next((call for call in calls if call.name in RECEIVES and uid in call.uids), None)
            if named is None:
                continue
            asked = next(call for call in calls if call.name in RECEIVES and call.begun >= named.begun and b"COMMIT" in call.data)
            told = next(call for call in calls if call.name in SENDS and call.begun > asked.ended and b"COMMIT\0" in call.data)
            synced = [call for call in log_syncs if asked.ended < call.begun and call.ended < told.begun]
            self.assertTrue(synced, f"the commit of {uid} is not synced")
            self.assertLess(told.begun, answer.begun)
            return asked.begun, told.ended
        self.fail(f"no process of the database was sent {uid}")


@contextlib.contextmanager
def postgresql():
    """A server of its own that waits for the disk: the URL and the first process."""
    folders = [folder for folder in Path("/usr/lib/postgresql").glob("*/bin") if (folder / "postgres").is_file()]
    if not folders:
        raise unittest.SkipTest("there are no programs of a PostgreSQL server in /usr/lib/postgresql")
    binaries = max(folders, key=lambda folder: float(folder.parent.name))
    user = {}
    with tempfile.TemporaryDirectory(prefix="isocenter-postgres.") as folder, contextlib.ExitStack() as stack:
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
            user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        run = {"cwd": folder, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | user
        initdb = [binaries / "initdb", "-D", f"{folder}/data", "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust", "-N"]
        subprocess.run(initdb, check=True, **run)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", "autovacuum=off"]
        command = [binaries / "postgres", "-D", f"{folder}/data", *(word for setting in settings for word in ("-c", setting))]
        process = subprocess.Popen(command, **run)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        url = f"postgres://postgres@127.0.0.1:{port}/postgres"
        ask = [binaries / "psql", url, "--no-psqlrc", "--tuples-only", "--no-align", "--command", "show fsync"]
        end = time.monotonic() + 60
        while (said := subprocess.run(ask, capture_output=True, text=True)).returncode:
            assert time.monotonic() < end and process.poll() is None, said.stderr
            time.sleep(0.05)
        assert said.stdout.strip() == "on"
        yield url, process.pid


if __name__ == "__main__":
    unittest.main()
