"""Starts the real binary on a free port and a folder of its own, and stops it."""

import contextlib
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path


class Server:
    """A server process; a context manager.

    `arguments` follow its command line, `prefix` goes before it (a program that becomes the server).
    """

    def __init__(self, arguments=(), environment=None, prefix=()):
        self.arguments, self.environment, self.prefix = arguments, environment or {}, prefix

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="isocenter-interop.")
        self.log = open(Path(self.folder.name) / "log", "w+", encoding="utf-8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/dicom-web"
        self.data = Path(self.folder.name) / "data"
        command = [*self.prefix, binary(), "serve", "--listen", f"127.0.0.1:{port}", "--data-dir", str(self.data), *self.arguments]
        self.process = subprocess.Popen(
            command, env=os.environ | self.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_until_ready(self):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self.log.seek(0)
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log.read()[-2000:]}")
            try:
                urllib.request.urlopen(f"{self.root}/health/ready", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise RuntimeError("the server is not ready after a minute")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.folder.cleanup()


@contextlib.contextmanager
def s3_server():
    """An S3 server with the bucket `archive` as a process of its own; the environment that leads to it."""
    program = Path(binary()).parent.parent / "debug/examples/s3_server"
    with tempfile.TemporaryDirectory(prefix="isocenter-s3.") as folder:
        process = subprocess.Popen(
            [program], env=os.environ | {"TMPDIR": folder}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield dict(process.stdout.readline().strip().split("=", 1) for _ in range(5))
        finally:
            # it ends with its input
            process.stdin.close()
            process.stdout.close()
            process.wait()


def binary():
    """The server to test: built by `tests/run`, or the one of the last debug build."""
    default = Path(__file__).parent.parent.parent / "target/debug/isocenter"
    return os.environ.get("ISOCENTER_TEST_BINARY", str(default))


def corpus():
    """The folder of the corpus, or None."""
    named = os.environ.get("ISOCENTER_TEST_CORPUS")
    if named == "none":
        return None
    folder = Path(named) if named else Path(__file__).parent.parent.parent / "../shared/dicom"
    return folder if (folder / "MANIFEST.tsv").is_file() else None


def expectations():
    """The rows of corpus_expected.tsv as dictionaries."""
    lines = (Path(__file__).parent.parent / "corpus_expected.tsv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split("\t")
    return [dict(zip(names, line.split("\t"))) for line in lines[1:]]
