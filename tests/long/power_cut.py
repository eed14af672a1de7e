"""The power is cut at many random points while the server stores: nothing acknowledged is lost.

    power_cut.py [--stack sqlite|postgres]… [--cuts N] [--seed N] [--instances N] [--keep FOLDER]
    power_cut.py --self-test            the same must fail when syncs are ignored

Every change that the server and PostgreSQL's processes make to their folders is recorded (recording.py) while clients store in
many ways. Then the disk is built as it may be after a loss of power at some point (power.py), PostgreSQL and the server are
started on it, and everything that a client may have been told by then has to be there: a request counts as acknowledged
from the moment when the server begins to send its answer. ISOCENTER_TEST_BINARY names the server.

After each cut: PostgreSQL recovers, the server starts, each acknowledged instance is found and comes back byte for byte, nothing
is half visible, `isocenter verify` finds nothing, `isocenter sweep` removes what nobody was told of and leaves one object for each
row, and what was under way can be stored again. On a failure the recording and the disk are kept for a look.
"""

import argparse
import itertools
import os
import pickle
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from power import ADVERSARIAL, ORDERED, Cut, Disk, with_late_syncs, without_syncs
from recording import Recording, copy, remove, strace
from workload import Archive, Client, Faithless, Instance, Postgres, Request, check_contents, free_port, in_threads

STACKS = ("sqlite", "postgres")
SMALL, LARGE = 3_000, 2_500_000
KEPT = (0, 0, 0.1, 0.5, 0.9, 1)
ANSWER = re.compile(rb"^HTTP/1\.1 200 .*?\r\nx-request-id: ([^\r]+)\r\n", re.I | re.S)
# frequent checkpoints, so that there are cuts within them
DATABASE = ["max_wal_size=6MB", "min_wal_size=2MB", "checkpoint_timeout=30s", "fsync=on", "full_page_writes=on"]


def answered(data):
    """The request that this data begins to answer."""
    said = ANSWER.match(data)
    return said[1].decode() if said else None


class Workload:
    """The storing requests of a recording, in rounds between which the server is started anew."""

    def __init__(self, instances, seed):
        self.random, self.numbers, self.goal = random.Random(seed), itertools.count(), instances
        self.requests, self.lock = [], threading.Lock()

    def make(self, kind, places, sizes):
        """A request for new instances in some (study, series)."""
        with self.lock:
            number = len(self.requests)
            instances = []
            for (study, series), size in zip(itertools.cycle(places), sizes):
                instances.append(Instance(f"2.25.8{study}", f"2.25.8{study}.{series}", f"2.25.8{study}.{series}.{next(self.numbers)}", size))
            self.requests.append(Request(f"request-{number}", kind, instances))
            return self.requests[-1]

    def again(self, request):
        """The same instances in another request."""
        with self.lock:
            self.requests.append(Request(f"request-{len(self.requests)}", request.kind, request.instances, again=True))
            return self.requests[-1]

    def sent(self):
        return sum(len(request.instances) for request in self.requests if not request.again)

    def one_after_another(self, address):
        """Each kind of request, on a known and in a new series and study."""
        client, base = Client(address), self.random.randrange(10**6) * 100
        first = self.make("multipart", [(base, 1)], [SMALL])
        requests = [
            first,
            self.make("single", [(base, 1)], [SMALL]),
            self.make("gzip", [(base, 1)], [SMALL, SMALL]),
            self.make("single gzip", [(base, 2)], [SMALL]),
            self.make("multipart", [(base, 2)], [LARGE]),
            self.again(first),
            self.make("multipart", [(base, 3)], [SMALL] * 10),
            self.make("multipart", [(base, 3), (base, 4), (base + 1, 1)], [SMALL] * 10),
            self.make("single", [(base + 2, 1)], [LARGE]),
            self.make("multipart", [(base + 2, 2), (base + 2, 3)], [LARGE, SMALL, SMALL, LARGE]),
        ]
        for request in requests:
            assert client.store(request) == 200, request
        client.close()

    def at_once(self, address, goal):
        """Several connections until so many instances are sent; some share studies and series."""
        base = self.random.randrange(10**6) * 100
        stop = self.sent() + goal

        def work(seed):
            chance, client, last = random.Random(seed), Client(address), None
            for turn in itertools.count():
                with self.lock:
                    if self.sent() >= stop:
                        break
                place = base + chance.randrange(4), chance.choice([1, 2, 100 * seed % 10**6 + turn])
                what = chance.random()
                if what < 0.35:
                    request = self.make(chance.choice(["multipart", "single", "gzip"]), [place], [chance.randrange(500, 20_000)])
                elif what < 0.8:
                    request = self.make("multipart", [place], [chance.randrange(500, 20_000) for _ in range(10)])
                elif what < 0.9:
                    request = self.make("multipart", [place, (base + 50 + seed % 7, turn)], [LARGE // 2, SMALL, SMALL])
                elif last is not None:
                    request = self.again(last)
                else:
                    continue
                assert client.store(request) == 200, request
                last = request
            client.close()

        in_threads(work, [self.random.randrange(10**6) for _ in range(6)], threads=6)

    def all(self, address, restart):
        """Rounds; `restart` ends the server in good order and starts it again."""
        self.one_after_another(address)
        self.at_once(address, self.goal // 2)
        restart()
        self.one_after_another(address)
        self.at_once(address, max(0, self.goal - self.sent()))


class Recorded:
    """A recording of a stack with the requests that were sent meanwhile."""

    def __init__(self, stack, recording, requests):
        self.stack, self.recording, self.requests = stack, recording, requests
        self.seconds = 0

    def acknowledged(self, place):
        """The UIDs that a client may have been told are stored."""
        answers = self.recording.answers
        return {i.uid for request in self.requests if answers[request.id] <= place for i in request.instances}


def record(stack, work, instances, seed):
    """Runs a workload under the recorder."""
    begun = time.monotonic()
    data, log = work / "data", work / "strace"
    data.mkdir()
    database, arguments, folders, copies = None, [], [data], [None]
    if stack == "postgres":
        os.chmod(work, 0o711)
        database = Postgres(work / "postgres" / "data", DATABASE)
        database.initialize()
        copy(database.folder, work / "postgres-before")
        arguments, folders, copies = ["--database-url", database.url], [data, database.folder], [None, work / "postgres-before"]
    archive = Archive(data, arguments, log=work / "server.log")
    archive.address = f"127.0.0.1:{free_port()}"
    # a shell under strace starts what it is told to, so that one log has everything in its order
    shell = subprocess.Popen([*strace(log), "sh", "-s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", env=archive.environment)

    def tell(line):
        shell.stdin.write(line + "\n")
        shell.stdin.flush()

    def start(command, output):
        tell(f"{' '.join(map(str, command))} >>{output} 2>&1 </dev/null & echo $!")
        return int(shell.stdout.readline())

    def stop(pid):
        tell(f"kill -TERM {pid}; wait {pid}; echo $?")
        assert (status := shell.stdout.readline().strip()) == "0", f"the server ended with {status}: {archive.tail()}"

    serve = archive.command("serve", "--listen", archive.address)
    workload = Workload(instances, seed)
    try:
        if database:
            postmaster = start(database.command(), work / "postgres.log")
            database.wait_until_ready(work / "postgres.log")
        server = start(serve, archive.log)
        archive.wait_until_ready()

        def restart():
            nonlocal server
            stop(server)
            server = start(serve, archive.log)
            archive.wait_until_ready()

        workload.all(archive.address, restart)
        stop(server)
        if database:
            # SIGINT: the fast shutdown, with a checkpoint
            tell(f"kill -INT {postmaster}; wait {postmaster}; echo $?")
            shell.stdout.readline()
    finally:
        shell.stdin.close()
        shell.wait()
        shell.stdout.close()
    recording = Recording(folders, copies)
    recording.read(log, answered)
    log.unlink()
    recording.check()
    missing = {request.id for request in workload.requests} - set(recording.answers)
    assert not missing, f"no answer to {missing} was seen"
    recorded = Recorded(stack, recording, workload.requests)
    recorded.seconds = time.monotonic() - begun
    return recorded


class Rebuilt:
    """A disk after a cut, and the processes on it."""

    def __init__(self, recorded, cut, chance, folder):
        self.recorded, self.cut, self.folder = recorded, cut, folder
        trusting = [1] if recorded.stack == "postgres" else []
        self.disk = Disk(recorded.recording, cut, chance, trusting)
        self.data, self.database, arguments = folder / "data", None, []
        folders, owners = [self.data], [None]
        if recorded.stack == "postgres":
            self.database = Postgres(folder / "postgres" / "data", DATABASE)
            self.database.folder.parent.mkdir(parents=True)
            os.chmod(folder, 0o711)
            folders, owners = [self.data, self.database.folder], [None, self.database.owner]
            arguments = ["--database-url", self.database.url]
        self.disk.write(map(str, folders), owners)
        self.archive = Archive(self.data, arguments, {"ISOCENTER_LOG": "warn"}, folder / "server.log")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.archive.kill()
        if self.database:
            self.database.kill()

    def check(self):
        acknowledged = self.recorded.acknowledged(self.cut.place)
        if self.database:
            # whose process is gone; whatever starts services removes it
            (self.database.folder / "postmaster.pid").unlink(missing_ok=True)
            self.database.start(self.folder / "postgres.log")
        self.archive.start()
        address = self.archive.address
        requests = self.recorded.requests
        listed = check_contents(address, requests, acknowledged)
        self._same(self.archive.verify(), len(listed), "instances that verify checked")
        # which a client sends again when it has heard nothing
        answers = self.recorded.recording.answers
        for request in [request for request in requests if answers[request.id] > self.cut.place][:3]:
            again = Request(request.id, request.kind, request.instances, again=True)
            if Client(address).store(again) != 200:
                raise Faithless(f"storing {request.id} once more is answered by {again.status}")
            acknowledged = acknowledged | again.acknowledged
        listed = check_contents(address, requests, acknowledged)
        self._sweep(len(listed))
        if listed:
            self._same(self.archive.verify(), len(listed), "instances that verify checked after the sweep")
        return len(acknowledged)

    def _sweep(self, rows):
        """Once the leases of the dead have run out, what no row names goes."""
        run_out = f"update leases set expires_at = {time.time_ns() // 1_000_000}"
        if self.database:
            self.database.ask(run_out)
        else:
            with sqlite3.connect(self.data / "index.sqlite3") as index:
                index.execute(run_out)
            index.close()
        self.archive.sweep()
        if rows:
            # an object whose lease is not known any more either
            # a removal that was not durable: its lease was given back, and a full sweep takes only what `reindex` has read
            self.archive.reindex()
            self.archive.sweep("--full")
        objects = sum(1 for _ in (self.data / "objects").rglob("*.dcm"))
        self._same(objects, rows, "objects after the sweep")

    def _same(self, got, wanted, what):
        if got != wanted:
            raise Faithless(f"{what}: {got}, and {wanted} are listed")


def choose(recorded, chance, number):
    """A cut: half of them anywhere, half right after an answer, where most is promised."""
    answers = recorded.recording.answers
    if number % 2:
        place = min(chance.choice(list(answers.values())) + chance.choice([0, 0, 1, 10]), recorded.recording.places)
    else:
        place = chance.randrange(recorded.recording.places)
    return Cut(place, (ORDERED, ADVERSARIAL)[number // 2 % 2], chance.choice(KEPT))


def quick_folder():
    """Where disks are built: in memory, for the cuts alone are looked at."""
    return next((folder for folder in ("/dev/shm",) if os.access(folder, os.W_OK)), None)


def cut_often(recorded, cuts, seed, keep):
    """Cuts so often; the figures."""
    begun, pending, dropped, promised = time.monotonic(), 0, 0, 0
    for number in range(cuts):
        chance = random.Random(f"{seed} {number}")
        cut = choose(recorded, chance, number)
        folder = Path(tempfile.mkdtemp(prefix="isocenter-cut.", dir=quick_folder()))
        try:
            with Rebuilt(recorded, cut, chance, folder) as rebuilt:
                promised += rebuilt.check()
                pending += rebuilt.disk.pending
                dropped += rebuilt.disk.dropped
        except Exception as error:  # whatever it is, the disk is worth a look
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                with open(keep / f"{recorded.stack}.recording", "wb") as file:
                    pickle.dump(recorded, file)
                copy(folder, keep / f"{recorded.stack}-cut-{number}")
            raise Faithless(f"cut {number} of seed {seed} ({cut}): {error!r}") from error
        finally:
            remove(folder)
    return time.monotonic() - begun, pending / cuts, dropped / cuts, promised / cuts


def self_test(recorded, seed):
    """Without the syncs of some files or folders there has to be a loss, and it has to be noticed."""
    ignored = {
        "objects": lambda path, is_folder: "/objects/" in path and not is_folder,
        "folders of objects": lambda path, is_folder: "/objects/" in path and is_folder,
    }
    if recorded.stack == "sqlite":
        ignored["the index"] = lambda path, is_folder: "/index.sqlite3" in path
    else:
        ignored["the log of PostgreSQL"] = lambda path, is_folder: "/pg_wal/" in path
    whole = recorded.recording
    broken = {f"the syncs of {name} ignored": without_syncs(whole, of) for name, of in ignored.items()}
    broken["the syncs of objects late"] = with_late_syncs(whole, ignored["objects"])
    for name, recording in broken.items():
        try:
            cut_often(Recorded(recorded.stack, recording, recorded.requests), 32, seed, None)
        except Faithless as error:
            print(f"{recorded.stack}: with {name}: {str(error)[:300]}", flush=True)
        else:
            sys.exit(f"{recorded.stack}: with {name} nothing is lost: this test sees nothing")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", choices=STACKS, action="append")
    parser.add_argument("--cuts", type=int, default=250, help="of each stack")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--instances", type=int, default=300)
    parser.add_argument("--keep", type=Path, help="where the recording and the disk of a failure go")
    parser.add_argument("--replay", type=Path, help="a recording that was kept, in place of a new one")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    for stack in options.stack or STACKS:
        with tempfile.TemporaryDirectory(prefix="isocenter-power.") as folder:
            if options.replay:
                with open(options.replay, "rb") as file:
                    recorded = pickle.load(file)
            else:
                recorded = record(stack, Path(folder), options.instances, options.seed)
            recording = recorded.recording
            sent = sum(len(request.instances) for request in recorded.requests if not request.again)
            print(
                f"{stack}: {sent} instances in {len(recorded.requests)} requests, {len(recording.operations)} operations recorded "
                f"and read in {recorded.seconds:.0f} s",
                flush=True,
            )
            if options.self_test:
                self_test(recorded, options.seed)
                continue
            seconds, pending, dropped, promised = cut_often(recorded, options.cuts, options.seed, options.keep)
            print(
                f"{stack}: {options.cuts} cuts in {seconds:.0f} s: on average {promised:.0f} instances acknowledged, {pending:.1f} operations "
                f"not synced, {dropped:.1f} of them dropped or torn; nothing lost",
                flush=True,
            )


if __name__ == "__main__":
    main()
