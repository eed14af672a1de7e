"""The STOW clients that the registries offer store the corpus: each file has the outcome that is expected of it.

Clients that send files as they are (the two of npm) get exactly the outcome that corpus_expected.tsv names. Those that read and write
the files themselves are judged by what they made of them. What comes back is then read by DCMTK and dicom3tools.
"""

import contextlib
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pydicom
from dicomweb_client.api import DICOMwebClient

from corpus_expected import judge
from server import Server, binary, corpus, expectations

REFERENCED, FAILED, OTHER, REASON, INSTANCE = "00081199", "00081198", "0008119A", "00081197", "00081155"


def files(folder):
    """(path, expectation) of every file to store: the corpus, or samples made here, in the order of corpus_expected.tsv."""
    there = corpus()
    if there is not None:
        return [(there / row["path"], row) for row in expectations()]
    subprocess.run([binary(), "sample", folder], check=True, stdout=subprocess.DEVNULL)
    made = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return [(path, {"path": path.name, "outcome": "stored", "reason": ""}) for path in made]


def outcome(answer):
    """(whether it is stored, the reason why not) of the one instance that a request had, by the response's data set."""
    if stored := answer.get(REFERENCED):
        (item,) = stored["Value"]
        return True, item[INSTANCE]["Value"][0]
    (item,) = (answer.get(FAILED) or answer[OTHER])["Value"]
    return False, f"{item[REASON]['Value'][0]:04X}H"


def ask(url, data=None, headers=None):
    """(status, body)"""
    request = urllib.request.Request(url, data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def found(server):
    """Everything that is stored: (study, series) by the instance's UID."""
    places, offset = {}, 0
    while True:
        status, body = ask(f"{server.url}/instances?limit=1000&offset={offset}", headers={"Accept": "application/dicom+json"})
        page = json.loads(body) if status == 200 else []
        for match in page:
            places[match["00080018"]["Value"][0]] = match["0020000D"]["Value"][0], match["0020000E"]["Value"][0]
        if not page:
            return places
        offset += len(page)


class Node:
    """A client of npm in a process of its own."""

    def __init__(self, package, url):
        folder = os.environ.get("ISOCENTER_TEST_NODE")
        if not folder or not Path(folder, "node_modules", package).is_dir():
            raise unittest.SkipTest(f"{package} is not installed: ISOCENTER_TEST_NODE names no folder with it (tests/run makes one if there is npm)")
        script = Path(__file__).parent / "npm/client.cjs"
        self.process = subprocess.Popen(["node", script, folder, package, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class TheCorpus(unittest.TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix="isocenter-clients."))

    def told(self, name, counts):
        of = "files of the corpus" if corpus() else "samples"
        print(f"{name}: {sum(counts.values())} {of}: " + ", ".join(f"{count} {what}" for what, count in counts.most_common()))

    def test_dicomweb_client_of_npm(self):
        self.files_sent_as_they_are("dicomweb-client", others_read=True)

    def test_dicomweb_client_typed_of_npm(self):
        self.files_sent_as_they_are("dicomweb-client-typed", others_read=False)

    def files_sent_as_they_are(self, package, others_read):
        with Server() as server, contextlib.closing(Node(package, server.url)) as client:
            counts, stored = Counter(), {}
            for path, expected in files(self.folder):
                with self.subTest(expected["path"]):
                    answer = client.ask(store=str(path))
                    self.assertNotIn("error", answer)
                    is_stored, what = outcome(json.loads(answer["body"]))
                    wanted = "refused" if expected["outcome"] == "refused" else "stored"
                    self.assertEqual(("stored" if is_stored else "refused", answer["status"]), (wanted, 200 if wanted == "stored" else 409))
                    if is_stored:
                        stored.setdefault(what, (path, expected))
                    else:
                        self.assertEqual(what, expected["reason"])
                    counts[f"{wanted} {expected['reason']}".strip()] += 1
            self.told(package, counts)
            places = found(server)
            self.assertEqual(set(places), set(stored))
            for uid, (path, expected) in stored.items():
                with self.subTest(expected["path"]):
                    self.comes_back(server, client, (*places[uid], uid), path, self.is_sent_as_it_is(path, expected))
                    if others_read:
                        read_by_others(self, Path(self.folder) / "back.dcm", path)

    def comes_back(self, server, client, place, path, unchanged):
        """As it was, and in the form in which the client asks for it."""
        names = dict(zip(("study", "series", "instance"), place))
        url = "{url}/studies/{study}/series/{series}/instances/{instance}".format(url=server.url, **names)
        status, back = ask(url, headers={"Accept": "application/dicom; transfer-syntax=*"})
        self.assertEqual(status, 200)
        if unchanged:
            self.assertTrue(back == path.read_bytes(), "it comes back with other bytes")
        answer = client.ask(retrieve=names, to=str(Path(self.folder) / "back.dcm"))
        self.assertNotIn("error", answer)

    def is_sent_as_it_is(self, path, expected):
        """Implicit and big endian files leave re-encoded, and those that are not what their file meta says."""
        if "differs from the transfer syntax" in expected.get("note", ""):
            return False
        data = path.read_bytes()
        syntax = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, force=True).file_meta.get("TransferSyntaxUID", "")
        return data[128:132] == b"DICM" and syntax not in ("", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2")

    def test_dicomweb_client_of_python(self):
        """It sends what pydicom makes of a file: that is judged as a file of the corpus is."""
        with Server() as server:
            client, counts, contents = DICOMwebClient(server.url), Counter(), {}
            for path, expected in files(self.folder):
                with self.subTest(expected["path"]), contextlib.redirect_stderr(io.StringIO()):
                    try:
                        dataset = pydicom.dcmread(path, force=True)
                        buffer = io.BytesIO()
                        pydicom.dcmwrite(buffer, dataset)
                        dataset = pydicom.dcmread(path, force=True)
                    except Exception:  # whatever stops the client before it sends anything
                        counts["not sent"] += 1
                        continue
                    identity, reason = judge("", buffer.getvalue())
                    wanted = self.wanted(identity, buffer.getvalue(), contents)
                    try:
                        answer = client.store_instances([dataset]).to_json_dict()
                    except Exception as error:
                        status = getattr(getattr(error, "response", None), "status_code", None)
                        self.assertEqual((status, wanted[0]), (409, "refused"), f"{error!r}; {reason}")
                        answer = json.loads(error.response.content)
                    is_stored, what = outcome(answer)
                    self.assertEqual("stored" if is_stored else f"refused {what}", " ".join(wanted), reason)
                    counts[" ".join(wanted)] += 1
            self.told("dicomweb-client of Python", counts)
            self.assertEqual(set(found(server)), set(contents))

    def wanted(self, identity, data, contents):
        if identity is None:
            return "refused", "C000H"
        digest = hashlib.sha256(data).digest()
        if contents.setdefault(identity["instance"], digest) != digest:
            return "refused", "0111H"
        return ("stored",)

    def test_dicom_web_of_rust(self):
        """Its program reads and writes each file, and ends with a status of its own."""
        program = os.environ.get("ISOCENTER_TEST_DICOM_WEB")
        if not program:
            self.skipTest("ISOCENTER_TEST_DICOM_WEB names no program `dicom-web` (tests/run --long builds it)")

        def store(server, path):
            done = subprocess.run([program, "--url", server.url, "stow", "--instances", path], capture_output=True, text=True, errors="replace")
            # 251: it cannot show the answer; 254: it cannot read the file
            return {0: "stored", 251: "stored", 254: "not sent"}.get(done.returncode, "refused"), done.stdout[-300:] + done.stderr[-300:]

        self.files_rewritten("dicom-web of Rust", store)

    def test_orthanc(self):
        """Its DICOMweb plug-in sends what Orthanc has been given: all that is to be stored at once, others alone."""
        client = Orthanc(self.folder)
        self.addCleanup(client.stop)
        counts = Counter()
        with Server() as server:
            every = list(files(self.folder))
            good = [(path, client.take(server, path)) for path, expected in every if expected["outcome"] == "stored"]
            resources = {resource for _, resource in good if resource}
            done, said = client.send(resources)
            self.assertTrue(done, said)
            places = found(server)
            # its own names of instances follow from patient, study, series and instance
            self.assertEqual(len(places), len(resources))
            counts["stored"], counts["not taken by Orthanc"] = len(resources), len(good) - len(resources)
            for path, expected in [row for row in every if row[1]["reason"] == "0111H"][:8]:
                with self.subTest(expected["path"]):
                    resource = client.take(server, path)
                    self.assertIsNotNone(resource)
                    done, said = client.send([resource])
                    self.assertFalse(done, "other bytes under a known UID")
                    counts["refused 0111H"] += 1
            self.assertEqual(found(server), places)
        self.told("Orthanc", counts)

    def files_rewritten(self, name, store):
        """What is to be stored is, if the client sends it at all. The others come last: what the client makes of a broken file may
        be whole, and take the place of the one that it was made from."""
        with Server() as server:
            counts = Counter()
            for path, expected in sorted(files(self.folder), key=lambda row: row[1]["outcome"] == "refused"):
                with self.subTest(expected["path"]):
                    got, said = store(server, path)
                    if got != "not sent" and expected["outcome"] != "refused":
                        self.assertEqual(got, "stored", said)
                    counts[got] += 1
            self.told(name, counts)
            self.assertGreaterEqual(len(found(server)), 1)
            self.assertLessEqual(len(found(server)), counts["stored"])


class Orthanc:
    """An Orthanc with its DICOMweb plug-in; started when it is needed, for some files end it."""

    def __init__(self, folder):
        places = ("/usr/share/orthanc/plugins/libOrthancDicomWeb.so", "/usr/lib/orthanc/libOrthancDicomWeb.so")
        self.plugin = next((place for place in places if os.path.exists(place)), None)
        self.program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
        if self.plugin is None or not os.path.exists(self.program):
            raise unittest.SkipTest("Orthanc or its DICOMweb plug-in is not installed (Debian: orthanc, orthanc-dicomweb)")
        self.folder, self.process = Path(folder), None

    def start(self, server):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        storage = tempfile.mkdtemp(prefix="orthanc.", dir=self.folder)
        settings = {
            "StorageDirectory": storage, "IndexDirectory": storage, "Plugins": [self.plugin], "OverwriteInstances": True,
            "HttpPort": port, "RemoteAccessAllowed": False, "DicomServerEnabled": False,
            "DicomWeb": {"Enable": True, "Servers": {"isocenter": {"Url": server.url}}},
        }
        config = self.folder / "orthanc.json"
        config.write_text(json.dumps(settings))
        with open(self.folder / "orthanc.log", "ab") as log:
            self.process = subprocess.Popen([self.program, config], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                if ask(f"{self.url}/system")[0] == 200:
                    return
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError("Orthanc does not start")
            time.sleep(0.1)

    def take(self, server, path):
        """Gives it a file; its name for it, or None when it does not want it or does not survive it."""
        if self.process is None or self.process.poll() is not None:
            self.start(server)
        try:
            status, body = ask(f"{self.url}/instances", path.read_bytes())
        except (OSError, http.client.HTTPException):
            self.stop()
            return None
        return json.loads(body)["ID"] if status == 200 else None

    def send(self, resources):
        """Whether it says that it could store these with our server, and what it says."""
        order = {"Resources": sorted(resources), "Synchronous": True}
        status, body = ask(f"{self.url}/dicom-web/servers/isocenter/stow", json.dumps(order).encode())
        return status == 200, body.decode(errors="replace")

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


def read_by_others(test, back, sent):
    """DCMTK and dicom3tools read what comes back, if they can read what was sent."""
    for name, reads in READERS.items():
        if shutil.which(name) is None:
            continue
        if not reads(back) and reads(sent):
            test.fail(f"{name} reads what was sent, and not what comes back")


def quietly(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, errors="replace", timeout=120)


def dciodvfy(path):
    """It always has something to say of the attributes; here it only has to come to the end of the data set."""
    done = quietly("dciodvfy", path)
    return done.returncode >= 0 and not re.search("read failed", done.stderr + done.stdout)


READERS = {
    "dcmftest": lambda path: quietly("dcmftest", path).returncode == 0,
    "dcmdump": lambda path: quietly("dcmdump", "-q", path).returncode == 0,
    "dciodvfy": dciodvfy,
}


class TheReaders(unittest.TestCase):
    def test_dcmtk_and_dicom3tools_are_there(self):
        missing = [name for name in READERS if shutil.which(name) is None]
        if missing:
            self.skipTest(f"{', '.join(missing)} not installed (Debian: dcmtk, dicom3tools), so nobody else reads what comes back")


if __name__ == "__main__":
    unittest.main()
