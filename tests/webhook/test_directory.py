"""The spool in a directory: whole files, names never reused, errors that mean what they say."""

import asyncio
import errno
import json
import os

import pytest

from trailgate_kube.admissions import (
    AlreadyExistsError,
    AmbiguousError,
    MemoryAdmissions,
    RefusedError,
    SpoolFullError,
)
from trailgate_webhook.directory import DirectoryAdmissions

SPEC = {"boot": "b", "seq": 0, "claims": ["ü"]}


@pytest.fixture(params=["memory", "directory"])
def admissions(request, tmp_path):
    """Both implementations that need no cluster: one contract."""
    if request.param == "memory":
        return MemoryAdmissions(limit=3)
    return DirectoryAdmissions(tmp_path, limit=3)


async def test_contract_a_name_is_written_once(admissions):
    await admissions.create("a", SPEC)
    with pytest.raises(AlreadyExistsError):
        await admissions.create("a", {"other": True})
    await admissions.create("b", SPEC)


async def test_contract_the_limit_is_spool_full_even_for_a_name_that_exists(admissions):
    for name in ("a", "b", "c"):
        await admissions.create(name, SPEC)
    for name in ("d", "a"):
        with pytest.raises(SpoolFullError, match="limit is 3"):
            await admissions.create(name, SPEC)


async def test_a_file_holds_the_specification_and_nothing_else_stays(tmp_path):
    await DirectoryAdmissions(tmp_path).create("boot-0000000000", SPEC)
    assert [path.name for path in tmp_path.iterdir()] == ["boot-0000000000.json"]
    path = tmp_path / "boot-0000000000.json"
    assert json.loads(path.read_bytes()) == SPEC
    assert path.stat().st_mode & 0o077 == 0


async def test_what_the_reader_deleted_makes_room(tmp_path):
    admissions = DirectoryAdmissions(tmp_path, limit=1)
    await admissions.create("a", SPEC)
    with pytest.raises(SpoolFullError):
        await admissions.create("b", SPEC)
    (tmp_path / "a.json").unlink()
    await admissions.create("b", SPEC)


async def test_files_of_an_earlier_process_count(tmp_path):
    await DirectoryAdmissions(tmp_path, limit=1).create("a", SPEC)
    with pytest.raises(SpoolFullError):
        await DirectoryAdmissions(tmp_path, limit=1).create("b", SPEC)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, SpoolFullError),
        (errno.EDQUOT, SpoolFullError),
        (errno.EIO, AmbiguousError),
        (errno.EROFS, RefusedError),
        (errno.EACCES, RefusedError),
    ],
)
async def test_what_the_disk_says_is_told_apart(tmp_path, monkeypatch, number, expected):
    admissions = DirectoryAdmissions(tmp_path)

    def fails(_descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(expected):
        await admissions.create("a", SPEC)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == []
    await admissions.create("a", SPEC)


async def test_a_directory_that_is_gone_is_refused(tmp_path):
    directory = tmp_path / "spool"
    directory.mkdir()
    admissions = DirectoryAdmissions(directory)
    directory.rmdir()
    with pytest.raises(RefusedError):
        await admissions.create("a", SPEC)


async def test_two_attempts_at_one_name_leave_one_whole_file(tmp_path):
    admissions = DirectoryAdmissions(tmp_path)
    results = await asyncio.gather(
        *(admissions.create("a", SPEC) for _ in range(16)), return_exceptions=True
    )
    assert results.count(None) == 1
    assert sum(isinstance(result, AlreadyExistsError) for result in results) == 15
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
