"""Verifies a ledger's file, trusting nothing in it: every record, node, checkpoint, person.

What is recomputed: each record's leaf hash and the whole tree over them; each stored
checkpoint's signature and root; each commitment to a person or text, and each row that
opens one; whether the batches of every process are all there, or a gap tells of them;
and the dedupe keys and positions that the writer goes by. What is compared from outside:
checkpoints that somebody else has kept. What is not covered, because nothing that an
auditor reads rests on it: a dedupe key that is lacking (a claim that comes twice is
told), and bytes that SQLite doesn't use. The query index beside the file is held against
the entries where it is given: the ledger holds or doesn't, whatever the index says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from trailgate.ledger.errors import LedgerCorruptError
from trailgate.ledger.index_check import IndexCheck, IndexState, IndexVerdict
from trailgate.ledger.people_check import PeopleCheck
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.taken import Taken, contradictions, fits
from trailgate.ledger.walk import Difference, Walk, chunks
from trailgate.tlog import checkpoint
from trailgate.tlog.checkpoint import Checkpoint
from trailgate.tlog.errors import TlogError
from trailgate.tlog.note import VerifierKey

#: Problems that are listed; more are counted.
MAX_PROBLEMS: Final = 100

Progress = Callable[[int, int], None]


class Part(StrEnum):
    """What a problem is about."""

    LOG = "log"
    """The entries, their tree, the checkpoints, the file itself: what everything rests on."""
    SPOOL = "spool"
    """Claims that should be entries and aren't, or are twice."""
    PEOPLE = "people"
    """What stands beside the entries and opens them."""
    WRITER = "writer"
    """What the writer goes by. Derived: ``trailgate ledger repair`` makes it anew."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that does not hold."""

    index: int | None
    """The first entry that is concerned; None where it is not about entries."""
    what: str
    expected: str | None = None
    found: str | None = None
    part: Part = Part.LOG


@dataclass(frozen=True, slots=True)
class Outside:
    """A checkpoint that was kept elsewhere."""

    name: str
    """Where it comes from: a file's name, for the report."""
    signed: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict on a ledger."""

    origin: str
    size: int
    """Entries that are there."""
    root: str
    """Of the tree over them, hexadecimal."""
    authenticated: bool
    """Whether the log's key was given from outside. If not, whoever made the file may
    have made it up."""
    checkpoints: int
    """Stored checkpoints that hold."""
    anchored: int | None
    """The largest size that a checkpoint from outside vouches for."""
    problems: tuple[Problem, ...]
    more: int = 0
    """Problems beyond those that are listed."""
    notes: tuple[str, ...] = ()
    parts: frozenset[Part] = frozenset()
    """What the problems are about, also those that are not listed."""
    index: IndexVerdict | None = None
    """How the query index compares; None where that wasn't asked."""

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def findable(self) -> bool:
        """Whether a list of the ledger has all that is in it, as far as the index goes."""
        return self.index is None or self.index.state is not IndexState.DISAGREES

    @property
    def repairable(self) -> bool:
        """Whether ``trailgate ledger repair`` has something to mend, and what to mend it from."""
        return Part.WRITER in self.parts and Part.LOG not in self.parts


def verify(
    reader: SqliteReader,
    vkeys: Sequence[VerifierKey] = (),
    outside: Sequence[Outside] = (),
    *,
    progress: Progress | None = None,
    index: IndexCheck | None = None,
) -> Verification:
    """Verify the ledger as it is now, and hold it against checkpoints from outside.

    ``vkeys`` are the log's public keys as known from elsewhere; without any, the key
    that the file names is used and nothing is authenticated. A file that can't be read
    is a problem like any other; ``LedgerUnavailableError`` is raised where it can't be
    read just now (busy, no permission). ``index`` is compared with the entries on the way.
    """
    run = _Run(reader, tuple(vkeys), progress, index)
    try:
        with reader.snapshot():
            run.all(outside)
    except LedgerCorruptError as error:
        run.problem(run.walk.size, f"the file is damaged: {error}")
    return run.verdict()


class _Run:
    def __init__(
        self,
        reader: SqliteReader,
        vkeys: tuple[VerifierKey, ...],
        progress: Progress | None,
        index: IndexCheck | None,
    ) -> None:
        self._reader, self._index = reader, index
        self._pinned = bool(vkeys)
        self._vkeys = vkeys
        self._progress = progress
        self._problems: list[Problem] = []
        self._good: dict[int, Checkpoint] = {}
        self._anchored: int | None = None
        self._notes: list[str] = []
        self._origin = vkeys[0].name if vkeys else "unknown"
        self.walk = Walk(reader)

    def problem(
        self,
        index: int | None,
        what: str,
        expected: str | None = None,
        found: str | None = None,
        *,
        part: Part = Part.LOG,
    ) -> None:
        self._problems.append(Problem(index, what, expected, found, part))

    def verdict(self) -> Verification:
        # What names an entry comes first, and the first entry before the others.
        ordered = sorted(self._problems, key=lambda p: (p.index is None, p.index or 0))
        return Verification(
            self._origin,
            self.walk.size,
            self.walk.root().hex(),
            self._pinned,
            len(self._good),
            self._anchored,
            tuple(ordered[:MAX_PROBLEMS]),
            max(0, len(ordered) - MAX_PROBLEMS),
            tuple(self._notes),
            frozenset(one.part for one in ordered),
            None if self._index is None else self._index.verdict(),
        )

    def all(self, outside: Sequence[Outside]) -> None:
        answer = self._reader.integrity_check()
        if answer != "ok":
            self.problem(None, "the file's structure is damaged", "ok", answer)
        self._name()
        stored = self._stored_checkpoints()
        kept = self._outside_checkpoints(outside)
        self.walk.wanted = {head.size for head in [*stored, *(head for _, head in kept)]}
        people, taken = PeopleCheck(self._reader), Taken()
        total = self._reader.count()
        for chunk in chunks(self._records(total)):
            start = self.walk.size
            self.walk.add(chunk)
            people.check(start, chunk)
            if self._index is not None:
                self._index.check(start, chunk)
            self._judge_batches(start, chunk, taken)
            if self._progress is not None:
                self._progress(self.walk.size, total)
        self._judge_tree(stored)
        self._judge_outside(kept)
        self._judge_writer(taken)
        for index, text in people.problems():
            self.problem(index, text, part=Part.PEOPLE)
        self._notes += people.notes()

    def _records(self, total: int) -> Iterator[bytes]:
        for expected, (index, record) in enumerate(self._reader.entries(0, total)):
            if index != expected:
                self.problem(
                    expected, "the entry is missing", f"entry {expected}", f"entry {index}"
                )
                return
            yield record

    def _judge_batches(self, start: int, records: Sequence[bytes], taken: Taken) -> None:
        for index, record in enumerate(records, start):
            wrong = taken.note(record)
            if wrong is not None:
                what = f"the claims that were spooled are not all here: {wrong}"
                self.problem(index, what, part=Part.SPOOL)

    def _judge_writer(self, taken: Taken) -> None:
        """Hold what the writer goes by against the entries."""
        for key, index, record in self._reader.dedupe():
            if record is None:
                what = f"the dedupe key {key} names entry {index}, which is not there"
                self.problem(None, what, part=Part.WRITER)
            elif not fits(key, record):
                what = f"the dedupe key {key} names this entry, and is not its own"
                self.problem(index, what, part=Part.WRITER)
        for text in contradictions(self._reader.positions(), taken.last):
            self.problem(None, text, part=Part.WRITER)

    def _name(self) -> None:
        log = self._reader.log()
        if not self._pinned:
            try:
                self._vkeys = (VerifierKey.parse(log.vkey),)
            except TlogError as error:
                self.problem(None, f"the file names no usable key: {error}")
                return
            self._origin = self._vkeys[0].name
        elif log.vkey not in {str(key) for key in self._vkeys}:
            keys = " or ".join(str(key) for key in self._vkeys)
            self.problem(None, "the file names another key than the one given", keys, log.vkey)
        if log.origin not in {key.name for key in self._vkeys}:
            self.problem(None, "the file names another log", self._origin, log.origin)

    def _stored_checkpoints(self) -> list[Checkpoint]:
        heads = []
        for size, signed in self._reader.checkpoints():
            try:
                head = checkpoint.verify(signed, self._vkeys)
            except TlogError as error:
                self.problem(
                    None, f"the stored checkpoint of size {size} is not the log's: {error}"
                )
                continue
            if head.size != size:
                self.problem(
                    None, "a checkpoint is filed under another size", str(head.size), str(size)
                )
            heads.append(head)
        if not heads:
            self.problem(None, "no stored checkpoint is the log's: nothing vouches for the entries")
        return sorted(heads, key=lambda head: head.size)

    def _outside_checkpoints(self, outside: Sequence[Outside]) -> list[tuple[str, Checkpoint]]:
        kept = []
        for item in outside:
            try:
                kept.append((item.name, checkpoint.verify(item.signed, self._vkeys)))
            except TlogError as error:
                self.problem(None, f"the checkpoint {item.name} is not this log's: {error}")
        return sorted(kept, key=lambda pair: pair[1].size)

    def _root(self, size: int) -> bytes | None:
        return self.walk.root() if size == self.walk.size else self.walk.roots.get(size)

    def _judge_tree(self, heads: list[Checkpoint]) -> None:
        """Find what the signed roots and the stored nodes say about the records."""
        leaves = [d for d in self.walk.differences if d.level == 0]
        trusted = 0
        for head in heads:
            if self._root(head.size) == head.root:
                self._good[head.size] = head
                trusted = max(trusted, head.size)
        for head in heads:
            root = self._root(head.size)
            if head.size in self._good:
                continue
            if root is None:
                self._behind(head, "its own checkpoint")
                break
            if not any(trusted <= leaf.position < head.size for leaf in leaves):
                self.problem(
                    trusted,
                    f"an entry from {trusted} to {head.size - 1} was changed, and the tree with it",
                    f"root {head.root.hex()} of size {head.size}",
                    f"root {root.hex()}",
                )
            break
        self._judge_nodes(leaves, trusted)
        last = max((head.size for head in heads), default=0)
        if self.walk.size > last and heads:
            self.problem(
                last, "entries that no checkpoint covers", f"{last} entries", f"{self.walk.size}"
            )

    def _judge_nodes(self, leaves: list[Difference], trusted: int) -> None:
        for leaf in leaves:
            stored = "nothing" if leaf.stored is None else leaf.stored.hex()
            if leaf.position < trusted:
                what = "the stored leaf hash is damaged; the entry itself is intact"
                self.problem(leaf.position, what, leaf.computed.hex(), stored)
            else:
                what = "the entry does not hash to its leaf in the tree"
                self.problem(leaf.position, what, stored, leaf.computed.hex())
        for node in self.walk.differences:
            first = node.position << node.level
            end = first + (1 << node.level)
            if node.level == 0 or any(first <= leaf.position < end for leaf in leaves):
                continue
            stored = "nothing" if node.stored is None else node.stored.hex()
            what = f"the stored tree node {node.level}/{node.position} is damaged"
            self.problem(first, what, node.computed.hex(), stored)
        count = self._reader.count_nodes()
        if count != self.walk.count and not self.walk.differences:
            self.problem(None, "the tree has nodes too many", str(self.walk.count), str(count))

    def _judge_outside(self, kept: list[tuple[str, Checkpoint]]) -> None:
        agreed = 0
        for name, head in kept:
            root = self._root(head.size)
            if root is None:
                self._behind(head, f"the checkpoint {name}")
            elif root == head.root:
                agreed = max(agreed, head.size)
                self._anchored = agreed
            else:
                self._diverged(name, head, agreed, root)

    def _diverged(self, name: str, head: Checkpoint, agreed: int, root: bytes) -> None:
        """Tell that the ledger has another history than a checkpoint, from where if known."""
        named = [p.index for p in self._problems if p.index is not None]
        first = min((index for index in named if agreed <= index < head.size), default=agreed)
        which = f"entry {first}" if named else f"an entry from {agreed} to {head.size - 1}"
        self.problem(
            first,
            f"the ledger has diverged from the checkpoint {name}: {which} "
            "is not the one that was there (the history was rewritten)",
            f"root {head.root.hex()} of size {head.size}",
            f"root {root.hex()}",
        )

    def _behind(self, head: Checkpoint, whose: str) -> None:
        size = self.walk.size
        self.problem(
            size,
            f"the ledger is behind {whose}: entries {size} to {head.size - 1} are missing "
            "(rolled back to an older state, or the last ones dropped)",
            f"{head.size} entries",
            f"{size} entries",
        )
