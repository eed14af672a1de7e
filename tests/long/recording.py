"""Every change that processes make to some folders, in order: strace's log of them, read into operations on inodes.

The log has each call where it began and where it ended, whole data included, so that one can say for any place in the log what
had been done by then, what was under way, and what had been synced. What the reader does not know (another call that changes
files, a shared writable mapping) is an error and not passed over; `Recording.check` compares what the operations make of the
folders with what is really there.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

FOREVER = float("inf")
CHANGES = "open openat openat2 creat write pwrite64 writev pwritev pwritev2 truncate ftruncate fallocate copy_file_range sendfile splice"
NAMES = "rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat rmdir mkdir mkdirat chdir fchdir"
SYNCS = "fsync fdatasync sync syncfs sync_file_range msync"
REST = "lseek close dup dup2 dup3 fcntl clone clone3 fork vfork mmap sendto sendmsg"
CALLS = ",".join(f"{CHANGES} {NAMES} {SYNCS} {REST}".split())
# a write of more bytes would be cut in the log, which is noticed
LONGEST = 32 << 20


def strace(output):
    """What goes before a command to record it and all that it starts."""
    return [
        *("strace", "-f", "-y", "-xx", "-qq", "--seccomp-bpf", "-s", str(LONGEST)),
        *("-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(output)),
    ]


@dataclass(slots=True)
class Operation:
    """A change or a sync: from where to where in the log, and of what."""

    kind: str  # write, resize, sync, link, unlink, rename
    begun: int
    ended: float
    inode: int  # whose data, or the folder of the (new) name
    name: str = ""
    target: int = 0  # what the name leads to
    offset: int = 0  # where to write; the new size
    data: bytes = b""
    source: tuple = ()  # of a rename: folder and name
    durable: bool = False  # synced by itself (O_SYNC)


@dataclass(slots=True)
class Inode:
    folder: bool
    root: int  # number of the recorded folder: each is a file system of its own
    # content at the start of the recording
    path: Path | None = None
    entries: dict = field(default_factory=dict)
    size: int = 0


class Recording:
    """`folders` are watched; each as it was at the start, in `copies` (None if it was empty)."""

    def __init__(self, folders, copies):
        self.folders = [Path(folder) for folder in folders]
        self.inodes, self.operations, self.answers, self.places = [], [], {}, 0
        self.roots = [self._snapshot(copy and Path(copy), number) for number, copy in enumerate(copies)]

    def _snapshot(self, path, root):
        number = len(self.inodes)
        if path is None or path.is_dir():
            inode = Inode(True, root)
            self.inodes.append(inode)
            for entry in sorted(path.iterdir()) if path else ():
                if entry.is_symlink():
                    raise ValueError(f"a symbolic link: {entry}")
                inode.entries[entry.name] = self._snapshot(entry, root)
        else:
            self.inodes.append(Inode(False, root, path, size=path.stat().st_size))
        return number

    def read(self, log, answer):
        """Reads strace's log. `answer(data)` names the request that this data, as it is sent, begins to answer."""
        Reader(self, answer).read(log)

    def check(self):
        """The operations, all done, make what is in the folders now."""
        tree = self.replay()
        for root, folder in zip(self.roots, self.folders):
            self._compare(tree, root, folder)

    def _compare(self, tree, number, path):
        entries, contents = tree
        names = {entry.name for entry in path.iterdir()}
        if names != set(entries[number]):
            raise AssertionError(f"{path}: recorded and real names differ: {names ^ set(entries[number])}")
        for name, target in entries[number].items():
            if self.inodes[target].folder:
                self._compare(tree, target, path / name)
            elif not is_mapped(name) and (path / name).read_bytes() != contents(target):
                raise AssertionError(f"{path / name}: recorded and real content differ")

    def replay(self):
        """Names and contents when every operation is done."""
        entries = {number: dict(inode.entries) for number, inode in enumerate(self.inodes) if inode.folder}
        changes = {}
        for operation in self.operations:
            if operation.ended == FOREVER:
                continue
            if operation.kind in ("write", "resize"):
                changes.setdefault(operation.inode, []).append(operation)
            else:
                apply_name(entries, operation)

        def contents(number):
            data = self.content(number)
            for change in changes.get(number, ()):
                apply_data(data, change)
            return data

        return entries, contents

    def content(self, number):
        """What a file held at the start."""
        path = self.inodes[number].path
        return bytearray(path.read_bytes()) if path else bytearray()


def is_mapped(name):
    """Whether a file is changed through memory, and built again whenever it is opened: SQLite's index of its log."""
    return name.endswith("-shm")


def apply_data(data, operation):
    if operation.kind == "resize":
        size = operation.offset
        if size < len(data):
            del data[size:]
        else:
            data.extend(bytes(size - len(data)))
    else:
        if len(data) < operation.offset:
            data.extend(bytes(operation.offset - len(data)))
        data[operation.offset : operation.offset + len(operation.data)] = operation.data


def apply_name(entries, operation):
    if operation.kind == "link":
        entries[operation.inode][operation.name] = operation.target
    elif operation.kind == "unlink":
        entries[operation.inode].pop(operation.name, None)
    elif operation.kind == "rename":
        entries[operation.inode][operation.name] = operation.target
        folder, name = operation.source
        if entries[folder].get(name) == operation.target:
            del entries[folder][name]


@dataclass(slots=True)
class Open:
    """An open file: shared by the descriptors that were made of one another."""

    inode: int
    append: bool
    synced: bool
    position: int = 0


class Process:
    """What threads share: descriptors and the working folder."""

    def __init__(self, files, cwd):
        self.files, self.cwd = files, cwd


BEGUN = re.compile(r"(\d+) +(\w+)\((.*)$", re.S)
RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)$", re.S)
UNFINISHED = " <unfinished ...>"
RESULT = re.compile(r"\) += (-?\d+|\?)(?:<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?)?[^\"<>]*$")
DESCRIPTOR = re.compile(r"(\d+)(?:<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?)?")
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
AT = re.compile(r"(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})*)>(?:\(deleted\))?, \"((?:\\x[0-9a-f]{2})*)\"")


def unhex(text):
    return bytes.fromhex(text.replace("\\x", ""))


class Reader:
    """Reads a log into a recording."""

    def __init__(self, recording, answer):
        self.recording, self.answer = recording, answer
        self.entries = {number: dict(inode.entries) for number, inode in enumerate(recording.inodes) if inode.folder}
        self.sizes = {number: inode.size for number, inode in enumerate(recording.inodes) if not inode.folder}
        self.prefixes = [(str(folder), root) for folder, root in zip(recording.folders, recording.roots)]
        # by thread; and who is born by the call that began at a place
        self.processes, self.births = {}, {}

    def read(self, log):
        with open(log, encoding="ascii") as lines:
            self._find_births(lines)
        unfinished = {}
        with open(log, encoding="ascii") as lines:
            for place, line in enumerate(lines):
                line = line.rstrip("\n")
                if resumed := RESUMED.match(line):
                    thread, name, rest = resumed.groups()
                    begun, text = unfinished.pop(thread)
                    self._end(thread, name, text + rest, begun, place)
                elif called := BEGUN.match(line):
                    thread, name, text = called.groups()
                    if text.endswith(UNFINISHED):
                        text = text.removesuffix(UNFINISHED)
                        unfinished[thread] = place, text
                        self._begin(thread, name, text, place)
                    else:
                        self._begin(thread, name, text, place)
                        self._end(thread, name, text, place, place)
                self.recording.places = place + 1
        for _, text in unfinished.values():
            if (number := DESCRIPTOR.match(text)) and self._inside(unhex(number[2] or "").decode()):
                raise ValueError(f"a call never ended: {text[:200]}")
        self.recording.operations.sort(key=lambda operation: operation.ended)

    def _find_births(self, lines):
        """A child may be seen before the call that made it ends."""
        cut = {}
        for place, line in enumerate(lines):
            if "clone" not in line[:40] and "fork" not in line[:40]:
                continue
            if resumed := RESUMED.match(line):
                begun, text = cut.pop(resumed[1])
                text += resumed[3]
            elif called := BEGUN.match(line):
                begun, text = place, called[3]
                if text.rstrip("\n").endswith(UNFINISHED):
                    cut[called[1]] = begun, text
                    continue
            else:
                continue
            made = RESULT.search(text.rstrip("\n"))
            if made and int(made[1]) > 0:
                self.births[begun] = made[1], "CLONE_THREAD" in text

    def _process(self, thread):
        return self.processes.setdefault(thread, Process({}, None))

    def _begin(self, thread, name, text, place):
        process = self._process(thread)
        if place in self.births:
            child, shares = self.births[place]
            self.processes[child] = process if shares else Process(dict(process.files), process.cwd)
        elif name == "close":
            # another may get the number before this call is seen to end
            process.files.pop(DESCRIPTOR.match(text)[1], None)
        elif name in ("sendto", "sendmsg", "write", "writev") and (sent := STRING.search(text)):
            request = self.answer(unhex(sent[1][: 4 * 2048]))
            if request is not None:
                self.recording.answers.setdefault(request, place)

    def _end(self, thread, name, text, begun, ended):
        result = RESULT.search(text)
        if result is None or result[1] == "?" or int(result[1]) < 0:
            return
        method = getattr(self, f"_{name}", None)
        if method:
            method(self._process(thread), text, int(result[1]), result, begun, ended)

    # --- paths

    def _inside(self, path):
        return any(path == prefix or path.startswith(prefix + "/") for prefix, _ in self.prefixes)

    def _resolve(self, path):
        """(folder, name, what it leads to); None outside the folders."""
        for prefix, root in self.prefixes:
            if path == prefix:
                return None, "", root
            if path.startswith(prefix + "/"):
                folder, *names = root, *(part for part in path[len(prefix) + 1 :].split("/") if part and part != ".")
                for name in names[:-1]:
                    folder = self.entries[folder][name]
                return folder, names[-1], self.entries[folder].get(names[-1])
        return None

    def _paths(self, process, text):
        """The absolute paths of the arguments."""
        found = [(unhex(folder).decode(), unhex(path).decode()) for folder, path in AT.findall(text)]
        if not found:
            found = [(process.cwd, unhex(path).decode()) for path, _ in STRING.findall(text)]
        absolute = []
        for folder, path in found:
            if not path.startswith("/"):
                if folder is None:
                    folder = "/nowhere"
                path = f"{folder}/{path}".replace("/./", "/")
            if ".." in path.split("/") and self._inside(path):
                raise ValueError(f"a path that goes up: {path}")
            absolute.append(path.rstrip("/"))
        return absolute

    def _file(self, process, text):
        """The open file of the first argument, if it is in the folders."""
        number, path, deleted = DESCRIPTOR.match(text).groups()
        file = process.files.get(number)
        path = unhex(path or "").decode()
        if self._inside(path) and not deleted:
            found = self._resolve(path)
            if file is None or found[2] != file.inode:
                raise ValueError(f"the descriptor {number} of {path} is not known as that")
        return file

    def _add(self, kind, begun, ended, inode, **rest):
        self.recording.operations.append(Operation(kind, begun, ended, inode, **rest))

    # --- calls: (process, text, result, its match, begun, ended)

    def _openat(self, process, text, result, match, begun, ended):
        path = unhex(match[2] or "").decode()
        flags = re.search(r"O_[A-Z_|]+", text)[0].split("|")
        process.files.pop(str(result), None)
        if not self._inside(path):
            return
        if match[3]:
            raise ValueError(f"{path} was removed while it was opened")
        folder, name, target = self._resolve(path)
        if target is None:
            if "O_CREAT" not in flags:
                raise ValueError(f"{path} was opened, and nothing is known to have made it")
            target = self._make(False, folder, name, begun, ended)
        elif "O_TRUNC" in flags and self.sizes[target]:
            self._add("resize", begun, ended, target, offset=0)
            self.sizes[target] = 0
        synced = "O_SYNC" in flags or "O_DSYNC" in flags
        process.files[str(result)] = Open(target, "O_APPEND" in flags, synced)

    _open = _openat2 = _creat = _openat

    def _make(self, is_folder, folder, name, begun, ended):
        number = len(self.recording.inodes)
        self.recording.inodes.append(Inode(is_folder, self.recording.inodes[folder].root))
        if is_folder:
            self.entries[number] = {}
        else:
            self.sizes[number] = 0
        self.entries[folder][name] = number
        self._add("link", begun, ended, folder, name=name, target=number)
        return number

    def _mkdir(self, process, text, result, match, begun, ended):
        (path,) = self._paths(process, text)
        if self._inside(path):
            folder, name, target = self._resolve(path)
            assert target is None, path
            self._make(True, folder, name, begun, ended)

    _mkdirat = _mkdir

    def _unlink(self, process, text, result, match, begun, ended):
        (path,) = self._paths(process, text)
        if self._inside(path):
            folder, name, target = self._resolve(path)
            if target is None:
                raise ValueError(f"{path} was removed, and nothing is known to have made it")
            del self.entries[folder][name]
            self._add("unlink", begun, ended, folder, name=name, target=target)

    _unlinkat = _rmdir = _unlink

    def _rename(self, process, text, result, match, begun, ended):
        source, target = self._paths(process, text)
        if not self._inside(source) and not self._inside(target):
            return
        old_folder, old_name, inode = self._resolve(source)
        folder, name, _ = self._resolve(target)
        del self.entries[old_folder][old_name]
        self.entries[folder][name] = inode
        self._add("rename", begun, ended, folder, name=name, target=inode, source=(old_folder, old_name))

    _renameat = _renameat2 = _rename

    def _link(self, process, text, result, match, begun, ended):
        source, target = self._paths(process, text)
        if self._inside(target):
            folder, name, _ = self._resolve(target)
            inode = self._resolve(source)[2]
            self.entries[folder][name] = inode
            self._add("link", begun, ended, folder, name=name, target=inode)

    _linkat = _link

    def _chdir(self, process, text, result, match, begun, ended):
        (process.cwd,) = self._paths(process, text)

    def _fchdir(self, process, text, result, match, begun, ended):
        process.cwd = unhex(DESCRIPTOR.match(text)[2]).decode()

    def _write_at(self, file, text, result, offset, begun, ended):
        parts = STRING.findall(text)
        if any(cut for _, cut in parts):
            raise ValueError("a write is longer than what is recorded of it")
        data = b"".join(unhex(part) for part, _ in parts)[:result]
        if len(data) != result:
            raise ValueError(f"{result} bytes were written and {len(data)} are recorded: {text[:200]}")
        if file.append:
            offset = self.sizes[file.inode]
        self.sizes[file.inode] = max(self.sizes[file.inode], offset + result)
        self._add("write", begun, ended, file.inode, offset=offset, data=data, durable=file.synced)
        return offset + result

    def _write(self, process, text, result, match, begun, ended):
        if file := self._file(process, text):
            file.position = self._write_at(file, text, result, file.position, begun, ended)

    _writev = _write

    def _pwrite64(self, process, text, result, match, begun, ended):
        if file := self._file(process, text):
            self._write_at(file, text, result, int(re.search(r", (\d+)\) += \d+$", text[-200:])[1]), begun, ended)

    _pwritev = _pwrite64

    def _pwritev2(self, process, text, result, match, begun, ended):
        if file := self._file(process, text):
            # (fd, iov, count, offset, flags)
            offset, flags = re.search(r"\], \d+, (\d+), (\w+)\) += ", text[-200:]).groups()
            if flags != "0":
                raise ValueError(f"a write with flags: {text[-200:]}")
            self._write_at(file, text, result, int(offset), begun, ended)

    def _ftruncate(self, process, text, result, match, begun, ended):
        if file := self._file(process, text):
            size = int(re.search(r", (\d+)\) += 0", text)[1])
            self.sizes[file.inode] = size
            self._add("resize", begun, ended, file.inode, offset=size)

    def _truncate(self, process, text, result, match, begun, ended):
        (path,) = self._paths(process, text)
        if self._inside(path):
            inode, size = self._resolve(path)[2], int(re.search(r", (\d+)\) += 0", text)[1])
            self.sizes[inode] = size
            self._add("resize", begun, ended, inode, offset=size)

    def _fallocate(self, process, text, result, match, begun, ended):
        if file := self._file(process, text):
            mode, offset, length = re.search(r", (\w+), (\d+), (\d+)\) += 0", text).groups()
            if mode != "0":
                raise ValueError(f"fallocate with mode {mode}")
            size = int(offset) + int(length)
            if size > self.sizes[file.inode]:
                self.sizes[file.inode] = size
                self._add("resize", begun, ended, file.inode, offset=size)

    def _fsync(self, process, text, result, match, begun, ended):
        if file := self._file(process, text):
            self._add("sync", begun, ended, file.inode)

    _fdatasync = _fsync

    def _unknown(self, process, text, result, match, begun, ended):
        if any(self._inside(unhex(path).decode()) for path in re.findall(r"<((?:\\x[0-9a-f]{2})+)>", text)):
            raise ValueError(f"a call that is not understood: {text[:200]}")

    _copy_file_range = _sendfile = _splice = _syncfs = _unknown

    def _symlink(self, process, text, result, match, begun, ended):
        if any(self._inside(path) for path in self._paths(process, text)):
            raise ValueError(f"a symbolic link: {text[:200]}")

    _symlinkat = _symlink

    def _mmap(self, process, text, result, match, begun, ended):
        path = re.search(r"\d+<((?:\\x[0-9a-f]{2})+)>", text)
        if path and "MAP_SHARED" in text and "PROT_WRITE" in text:
            path = unhex(path[1]).decode()
            if self._inside(path) and not is_mapped(path):
                raise ValueError(f"{path} is changed through memory, which is not seen")

    def _lseek(self, process, text, result, match, begun, ended):
        if file := self._file(process, text):
            file.position = result

    def _dup(self, process, text, result, match, begun, ended):
        number = DESCRIPTOR.match(text)[1]
        process.files.pop(str(result), None)
        if number in process.files:
            process.files[str(result)] = process.files[number]

    _dup2 = _dup3 = _dup

    def _fcntl(self, process, text, result, match, begun, ended):
        if "F_DUPFD" in text:
            self._dup(process, text, result, match, begun, ended)


def copy(folder, to):
    """A copy of a folder with its owners."""
    subprocess.run(["cp", "-a", str(folder), str(to)], check=True)


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
