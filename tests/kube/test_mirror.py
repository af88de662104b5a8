"""The mirror against servers that end every watch: it goes on, and never hammers them."""

import asyncio
import contextlib

import pytest

from trailgate_kube import mirror
from trailgate_kube.api import Event, EventType, Page
from trailgate_kube.errors import GoneError
from trailgate_kube.mirror import Mirror
from trailgate_kube.resources import DEPLOY_POLICIES

MOMENT = 0.8
#: Waits of 0.2, 0.4 and 0.8 seconds, each a fifth less at least.
MOST = 4


class Ending:
    """A reader whose watches end at once: normally, or with an error."""

    def __init__(self, error=None, lasting=0.0):
        self.error, self.lasting = error, lasting
        self.lists = self.watches = 0

    async def page(self, resource, namespace=None, *, limit=500, following=""):
        self.lists += 1
        return Page((), str(self.lists), "")

    async def watch(self, resource, namespace=None, *, resource_version, seconds=120):
        self.watches += 1
        await asyncio.sleep(self.lasting)
        if self.error is not None:
            raise self.error
        yield Event(EventType.BOOKMARK, {"metadata": {"resourceVersion": resource_version}})


async def followed(reader, seconds=MOMENT):
    """Let a mirror run for some time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await Mirror(reader, DEPLOY_POLICIES).run()


async def test_watches_that_end_at_once_are_begun_less_and_less_often():
    reader = Ending()
    await followed(reader)
    assert 2 <= reader.watches <= MOST
    assert reader.lists == 1


async def test_a_history_that_is_always_gone_is_listed_less_and_less_often():
    reader = Ending(GoneError("410"))
    await followed(reader)
    assert 2 <= reader.watches <= MOST
    assert reader.lists == reader.watches


@pytest.mark.parametrize("error", [None, GoneError("410")])
async def test_a_watch_that_lasted_makes_the_next_one_come_soon_again(monkeypatch, error):
    monkeypatch.setattr(mirror, "_LASTING", 0.04)
    reader = Ending(error, lasting=0.05)
    await followed(reader, 2.2)
    # 0.05 and 0.24 seconds at most each; growing waits would let four begin.
    assert reader.watches >= 5
