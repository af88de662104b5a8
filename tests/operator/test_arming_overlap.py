"""Authorities in a file that change under the gates: before and after, until one has the new."""

import pytest

from trailgate_kube.errors import ForbiddenError
from trailgate_operator.arming_overlap import FileAuthorities, Overlap


def pem(name):
    return f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n".encode()


OLD, NEW, OTHER = pem("b2xk"), pem("bmV3"), pem("b3RoZXI=")


class Place:
    """A file, what is published, and a gate with a certificate of one authority."""

    def __init__(self, path):
        self.path, self.published, self.has, self.asked = path / "ca.crt", None, OLD, []
        self.path.write_bytes(OLD)
        self.restart()

    def restart(self):
        self.overlap = Overlap(FileAuthorities(self.path), lambda: self.published, self)

    async def problem(self, bundle):
        self.asked.append(bundle)
        if isinstance(self.has, Exception):
            raise self.has
        return None if self.has in bundle else "unknown authority"

    async def look(self):
        """What arming does: prove, then publish."""
        await self.overlap.prove()
        self.published = self.overlap.bundle()
        return self.published


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


async def test_a_change_keeps_the_ones_before_until_a_gate_has_the_new(place):
    assert await place.look() == OLD
    assert place.asked == []
    place.path.write_bytes(NEW)
    assert [await place.look(), await place.look()] == [OLD + NEW] * 2
    place.has = NEW
    assert [await place.look(), await place.look()] == [NEW] * 2
    assert place.asked == [NEW] * 3  # the new alone, and no more once it was enough


async def test_a_restart_between_forgets_none(place):
    await place.look()
    place.restart()
    place.path.write_bytes(NEW)
    assert await place.look() == OLD + NEW
    place.restart()
    assert await place.look() == OLD + NEW
    place.has = NEW
    assert await place.look() == NEW


async def test_a_gate_that_cannot_be_asked_has_not_answered(place):
    await place.look()
    place.path.write_bytes(NEW)
    place.has = ForbiddenError("no right")
    assert await place.look() == OLD + NEW


async def test_what_somebody_publishes_is_not_taken_for_one_before(place):
    await place.look()
    place.published = OLD + OTHER
    assert await place.look() == OLD
    place.path.write_bytes(NEW)
    place.published = OTHER
    assert await place.look() == OLD + NEW


async def test_a_second_change_keeps_both_before(place):
    await place.look()
    place.path.write_bytes(NEW)
    await place.look()
    place.path.write_bytes(OTHER)
    assert await place.look() == OLD + NEW + OTHER
    place.has = OTHER
    assert await place.look() == OTHER


@pytest.mark.parametrize("broken", ["gone", "empty", "directory"])
async def test_a_file_that_cannot_be_read_changes_nothing(place, broken):
    await place.look()
    place.path.unlink()
    if broken == "empty":
        place.path.write_bytes(b"")
    elif broken == "directory":
        place.path.mkdir()  # an OSError that isn't FileNotFoundError
    assert place.overlap.bundle() is None
    await place.overlap.prove()
    assert place.asked == []
