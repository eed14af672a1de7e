"""What a disk holds after the power was cut at some place of a recording.

Of a file's data that is sure which was synced: by a sync that began after the write had ended and had returned before the cut.
Of the later writes any may have reached the disk, whole or in some of their sectors, in any order. A name is sure when its
folder was synced after it changed; that its file was synced does not count. Of the later changes of names:

* `ordered`: a file system with a journal keeps their order: all up to some point, which is not before the last sure one;
* `adversarial`: any may have reached the disk, as POSIX allows, apart from changes of the same name, which keep their order. When
  a file was moved to another folder and that one was synced, its old name may still be there beside the new one.

A folder that belongs to PostgreSQL is always `ordered`, and a sync of a file there makes its name sure as it does on ext4, xfs and
btrfs: PostgreSQL counts on it (it syncs no folder when it makes a relation's file).
"""

import os
from dataclasses import dataclass, replace

from recording import apply_data, apply_name, is_mapped

ORDERED, ADVERSARIAL = "ordered", "adversarial"
SECTOR, PAGE = 512, 4096


@dataclass
class Cut:
    """Where, under which model, and how much of what was not synced is there all the same (0 to 1)."""

    place: int
    model: str
    kept: float

    def __str__(self):
        return f"at {self.place}, {self.model}, {self.kept:.0%} of what was not synced kept"


class Disk:
    """The content of the disk. `trusting` are the numbers of the folders that belong to PostgreSQL."""

    def __init__(self, recording, cut, random, trusting=()):
        self.recording, self.cut, self.random, self.trusting = recording, cut, random, set(trusting)
        self.pending = self.dropped = 0
        begun = [operation for operation in recording.operations if operation.begun <= cut.place]
        self._find_synced(begun)
        self.changes = {}
        for operation in begun:
            if operation.kind in ("write", "resize"):
                self.changes.setdefault(operation.inode, []).append(operation)
        self.entries = {number: dict(inode.entries) for number, inode in enumerate(recording.inodes) if inode.folder}
        names = [operation for operation in begun if operation.kind in ("link", "unlink", "rename")]
        for root in recording.roots:
            number = recording.inodes[root].root
            mine = [operation for operation in names if recording.inodes[operation.inode].root == number]
            if cut.model == ORDERED or number in self.trusting:
                self._names_in_order(mine, number in self.trusting)
            else:
                self._names_in_any_order(mine)

    def _find_synced(self, begun):
        """Up to where what was done to an inode is sure."""
        self.synced = {}
        for operation in begun:
            if operation.kind == "sync" and operation.ended <= self.cut.place:
                self.synced[operation.inode] = max(self.synced.get(operation.inode, -1), operation.begun)

    def _is_sure(self, operation, inode):
        return operation.ended <= self.synced.get(inode, -1)

    def _keeps(self):
        return self.random.random() < self.cut.kept

    def _count(self, applied):
        self.pending += 1
        self.dropped += not applied

    # --- names

    def _names_in_order(self, names, trusting):
        sure = 0
        for number, operation in enumerate(names, start=1):
            by_folder = self._is_sure(operation, operation.inode) or (
                operation.source and self._is_sure(operation, operation.source[0])
            )
            if by_folder or (trusting and self._is_sure(operation, operation.target)):
                sure = number
        end = {0: sure, 1: len(names)}.get(self.cut.kept, self.random.randint(sure, len(names)))
        for number, operation in enumerate(names):
            if number < end:
                apply_name(self.entries, operation)
            if number >= sure:
                self._count(number < end)

    def _names_in_any_order(self, names):
        lost = set()
        for operation in names:
            places = {(operation.inode, operation.name)} | ({operation.source} if operation.source else set())
            if self._is_sure(operation, operation.inode):
                if operation.source and not self._is_sure(operation, operation.source[0]) and not self._keeps():
                    # the new name is there, and the old one still is
                    self.entries[operation.inode][operation.name] = operation.target
                    lost.add(operation.source)
                    self._count(False)
                else:
                    apply_name(self.entries, operation)
            elif operation.source and self._is_sure(operation, operation.source[0]):
                apply_name(self.entries, operation)
            else:
                applied = not places & lost and self._keeps()
                if applied:
                    apply_name(self.entries, operation)
                else:
                    lost |= places
                self._count(applied)

    # --- data

    def content(self, number):
        """What a file holds."""
        data = self.recording.content(number)
        sector = PAGE if self.cut.model == ORDERED else SECTOR
        for change in self.changes.get(number, ()):
            if self._is_sure(change, number) or (change.durable and change.ended <= self.cut.place):
                apply_data(data, change)
            elif change.kind == "resize" or len(change.data) <= sector:
                applied = self._keeps()
                if applied:
                    apply_data(data, change)
                self._count(applied)
            else:
                self._count(self._apply_torn(data, change, sector))
        return data

    def _apply_torn(self, data, change, sector):
        """A write of which some sectors reached the disk; whether all did."""
        style = self.random.random()
        if style < 0.5:  # all or nothing
            kept = self._keeps()
            if kept:
                apply_data(data, change)
            return kept
        end = change.offset + len(change.data)
        start = change.offset
        whole = True
        while start < end:
            stop = min((start // sector + 1) * sector, end)
            if self._keeps():
                if len(data) < start:
                    data.extend(bytes(start - len(data)))
                data[start:stop] = change.data[start - change.offset : stop - change.offset]
            else:
                whole = False
            start = stop
        return whole

    # --- the folders

    def write(self, folders, owners):
        """Puts what the disk holds into empty folders."""
        for root, folder, owner in zip(self.recording.roots, folders, owners):
            self._write(root, folder, owner)

    def _write(self, number, path, owner):
        os.makedirs(path, mode=0o700, exist_ok=True)
        if owner:
            os.chown(path, *owner)
        for name, target in self.entries[number].items():
            below = f"{path}/{name}"
            if self.recording.inodes[target].folder:
                self._write(target, below, owner)
                continue
            # what memory held of a mapped file is lost, and anything may be in its place
            data = self.random.randbytes(32768) if is_mapped(name) else self.content(target)
            with open(os.open(below, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data)
            if owner:
                os.chown(below, *owner)


def without_syncs(recording, of):
    """The recording as if the calls that sync what `of(path, is_folder)` chooses had done nothing: to see that a test notices."""
    chosen = _chosen(recording, of)
    return _changed(recording, [op for op in recording.operations if not (op.kind == "sync" and op.inode in chosen)])


def with_late_syncs(recording, of, places=400):
    """The recording as if those syncs had happened so many calls later, as when nobody waits for them."""
    chosen = _chosen(recording, of)
    late = lambda op: replace(op, begun=op.begun + places, ended=op.ended + places)
    operations = [late(op) if op.kind == "sync" and op.inode in chosen else op for op in recording.operations]
    return _changed(recording, sorted(operations, key=lambda operation: operation.ended))


def _changed(recording, operations):
    changed = object.__new__(type(recording))
    changed.__dict__.update(recording.__dict__)
    changed.operations = operations
    return changed


def _chosen(recording, of):
    """The inodes that a choice by path means."""
    paths = {}
    for root, folder in zip(recording.roots, recording.folders):
        _name(recording, root, str(folder), paths)
    for operation in recording.operations:
        if operation.kind in ("link", "rename"):
            paths[operation.target] = f"{paths[operation.inode]}/{operation.name}"
    return {number for number, path in paths.items() if of(path, recording.inodes[number].folder)}


def _name(recording, number, path, paths):
    paths[number] = path
    for name, target in recording.inodes[number].entries.items():
        _name(recording, target, f"{path}/{name}", paths)

