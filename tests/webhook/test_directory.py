"""The spool in a directory: whole files, names never reused, errors that mean what they say."""

import asyncio
import errno
import json
import os
import types

import pytest

from tests.webhook.memory_spool import MemoryAdmissions
from trailgate.ledger.spoolwriter import (
    SpoolAmbiguousError,
    SpoolFullError,
    SpoolRefusedError,
    Written,
)
from trailgate_webhook.directory import DirectoryAdmissions

SPEC = {"boot": "b", "seq": 0, "claims": ["ü"]}


def batch(name):
    """What a writer needs of a batch."""
    return types.SimpleNamespace(name=name, to_spec=lambda: SPEC)


@pytest.fixture(params=["memory", "directory"])
def admissions(request, tmp_path):
    """Both implementations that need no cluster: one contract."""
    if request.param == "memory":
        return MemoryAdmissions(limit=3)
    return DirectoryAdmissions(tmp_path, limit=3)


async def test_contract_a_name_is_written_once(admissions):
    assert await admissions.write(batch("a")) is Written.CREATED
    assert await admissions.write(batch("a")) is Written.ALREADY_THERE
    assert await admissions.write(batch("b")) is Written.CREATED


async def test_contract_the_limit_is_spool_full_even_for_a_name_that_exists(admissions):
    for name in ("a", "b", "c"):
        await admissions.write(batch(name))
    for name in ("d", "a"):
        with pytest.raises(SpoolFullError, match="limit is 3"):
            await admissions.write(batch(name))


async def test_a_file_holds_the_specification_and_nothing_else_stays(tmp_path):
    await DirectoryAdmissions(tmp_path).write(batch("boot-0000000000"))
    assert [path.name for path in tmp_path.iterdir()] == ["boot-0000000000.json"]
    path = tmp_path / "boot-0000000000.json"
    assert json.loads(path.read_bytes()) == SPEC
    assert path.stat().st_mode & 0o077 == 0


async def test_what_the_reader_deleted_makes_room(tmp_path):
    admissions = DirectoryAdmissions(tmp_path, limit=1)
    await admissions.write(batch("a"))
    with pytest.raises(SpoolFullError):
        await admissions.write(batch("b"))
    (tmp_path / "a.json").unlink()
    await admissions.write(batch("b"))


async def test_files_of_an_earlier_process_count(tmp_path):
    await DirectoryAdmissions(tmp_path, limit=1).write(batch("a"))
    with pytest.raises(SpoolFullError):
        await DirectoryAdmissions(tmp_path, limit=1).write(batch("b"))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, SpoolFullError),
        (errno.EDQUOT, SpoolFullError),
        (errno.EIO, SpoolAmbiguousError),
        (errno.EROFS, SpoolRefusedError),
        (errno.EACCES, SpoolRefusedError),
    ],
)
async def test_what_the_disk_says_is_told_apart(tmp_path, monkeypatch, number, expected):
    admissions = DirectoryAdmissions(tmp_path)

    def fails(_descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(expected):
        await admissions.write(batch("a"))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == []
    await admissions.write(batch("a"))


async def test_a_directory_that_is_gone_is_refused(tmp_path):
    directory = tmp_path / "spool"
    directory.mkdir()
    admissions = DirectoryAdmissions(directory)
    directory.rmdir()
    with pytest.raises(SpoolRefusedError):
        await admissions.write(batch("a"))


async def test_two_attempts_at_one_name_leave_one_whole_file(tmp_path):
    admissions = DirectoryAdmissions(tmp_path)
    results = await asyncio.gather(
        *(admissions.write(batch("a")) for _ in range(16)), return_exceptions=True
    )
    assert results.count(Written.CREATED) == 1
    assert results.count(Written.ALREADY_THERE) == 15
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
