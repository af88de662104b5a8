"""Durable appends and verification, measured: `python -m tests.bench.ledger [--seconds N]`.

Every append is acknowledged after fsync, with leaf hash, tree, signed checkpoint and
dedupe key in the same commit. Two loads:

- `opaque`: records of 1,500 bytes without people, to compare with anchors of other logs;
- `real`: admissions as the gate records them (about 7.5 KB, with 10 or so texts beside
  each); `index s` is what the query tables over all of them cost afterwards.

The figures of a shared machine vary by a factor of two: compare within one run.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.core.ledger import example_records as examples
from trailgate.ledger import record as rec
from trailgate.ledger import sqlite
from trailgate.ledger.index import Index
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.store import Entry
from trailgate.ledger.verify import verify
from trailgate.tlog.note import SigningKey

CALLERS = (1, 16, 256)
RECORD_BYTES = 1_500
MADE_BEFOREHAND = 2_000

Make = Callable[[], Entry]
say = functools.partial(print, flush=True)


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    load: str
    callers: int
    appends_per_second: int
    p50_ms: float
    p99_ms: float
    appended: int
    bytes_per_entry: int
    index_seconds: float | None


def opaque() -> Make:
    """Make records that need nothing but to be stored."""
    numbers: Iterator[int] = iter(range(10**12))

    def make() -> Entry:
        number = next(numbers)
        return Entry(b'{"n":%d,"x":"' % number + b"x" * RECORD_BYTES + b'"}', f"{number:012d}")

    return make


def real() -> Make:
    """Make real admissions; committed to beforehand, because that is the recorder's work."""
    claim = rec.admitted(examples.release(), examples.CONTEXT)
    vault = rec.Vault()
    made = []
    for number in range(MADE_BEFOREHAND):
        change = {**claim, "changeId": f"sha256:{number:064x}"}
        # Told again and again, they have no place in any process's order.
        made.append(rec.commit(change, vault, recorded_at=examples.NOW, position=None))
    encoded = [(rec.encode(record), rows) for record, rows in made]
    numbers: Iterator[int] = iter(range(10**12))

    def make() -> Entry:
        number = next(numbers)
        record, rows = encoded[number % MADE_BEFOREHAND]
        return Entry(record, f"{number:012d}", rows)

    return make


async def appends(store: SqliteStore, make: Make, callers: int, seconds: float) -> list[float]:
    """Keep so many callers busy for so long; return how long each append took."""
    end = time.perf_counter() + seconds
    times: list[float] = []

    async def call() -> None:
        while True:
            start = time.perf_counter()
            if start > end:
                return
            await asyncio.wrap_future(store.submit([make()]))
            times.append(time.perf_counter() - start)

    await asyncio.gather(*(call() for _ in range(callers)))
    return times


def measure(load: str, make: Make, callers: int, seconds: float, folder: Path) -> Line:
    """Measure one line, in a ledger of its own."""
    path, key = folder / f"{load}-{callers}.db", SigningKey.generate("bench.example/ledger")
    sqlite.create(path, key)
    with SqliteStore(path, key) as store:
        start = time.perf_counter()
        times = asyncio.run(appends(store, make, callers, seconds))
        elapsed = time.perf_counter() - start
    index_seconds = None
    if load == "real":
        with SqliteReader(path) as reader:
            start = time.perf_counter()
            Index(reader).close()
            index_seconds = round(time.perf_counter() - start, 2)
    return Line(
        load,
        callers,
        round(len(times) / elapsed),
        round(statistics.median(times) * 1000, 2),
        round(statistics.quantiles(times, n=100)[98] * 1000, 2),
        len(times),
        round(path.stat().st_size / len(times)),
        index_seconds,
    )


def disk(folder: Path, count: int = 300) -> int:
    """Return how often a second this disk takes 4 KB and says that they are safe."""
    with (folder / "disk").open("wb", buffering=0) as file:
        start = time.perf_counter()
        for _ in range(count):
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
        return round(count / (time.perf_counter() - start))


def verification(entries: int, folder: Path, load: str, make: Make) -> dict[str, object]:
    """Measure the verifier over a ledger of so many entries."""
    path, key = folder / f"verify-{load}.db", SigningKey.generate("bench.example/ledger")
    sqlite.create(path, key)
    with SqliteStore(path, key) as store:
        for start in range(0, entries, 1000):
            store.append([make() for _ in range(min(1000, entries - start))])
    with SqliteReader(path) as reader:
        start_at = time.perf_counter()
        result = verify(reader, [key.verifier])
        seconds = time.perf_counter() - start_at
    assert result.holds, result.problems
    return {
        "load": load,
        "entries": entries,
        "seconds": round(seconds, 2),
        "per_second": round(entries / seconds),
    }


def main() -> int:
    """Run all of it, print a table and, with --json, the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line")
    parser.add_argument("--verify", type=int, default=20_000, help="entries to verify")
    parser.add_argument("--folder", type=Path, help="on the disk to measure [default: /var/tmp]")
    parser.add_argument("--json", type=Path, help="where the figures go")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder or "/var/tmp") as name:
        folder = Path(name)
        syncs = disk(folder)
        say(f"disk: {syncs} fdatasync of 4 KB a second")
        heads = ("callers", "appends/s", "p50 ms", "p99 ms", "B/entry", "index s")
        say("load    " + "".join(head.rjust(10) for head in heads))
        lines = []
        for load, maker in (("opaque", opaque), ("real", real)):
            for callers in CALLERS:
                line = measure(load, maker(), callers, asked.seconds, folder)
                lines.append(line)
                index = "-" if line.index_seconds is None else f"{line.index_seconds:.2f}"
                say(
                    f"{line.load:8}{line.callers:10}{line.appends_per_second:10,}"
                    f"{line.p50_ms:10.2f}{line.p99_ms:10.2f}{line.bytes_per_entry:10,}{index:>10}"
                )
        checks = [
            verification(asked.verify, folder, load, maker())
            for load, maker in (("opaque", opaque), ("real", real))
        ]
        for check in checks:
            say(f"verify {check['load']}: {check['entries']:,} entries in {check['seconds']} s")
        if asked.json is not None:
            figures = {"fdatasync": syncs, "appends": [asdict(one) for one in lines]}
            asked.json.write_text(json.dumps(figures | {"verify": checks}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
