"""A real registry behind a login: basic authentication, tokens, and what a wrong one says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.core.oci.logins import (
    BASIC,
    PASSWORD,
    basic_registry,
    credentials,
    token_registry,
)
from tests.core.oci.peers import App
from tests.core.oci.support import Place, push_image
from trailgate.oci.attached import fetch_attached
from trailgate.oci.client import RegistryClient
from trailgate.oci.errors import UnauthorizedError
from trailgate.oci.guard import Guard

pytestmark = pytest.mark.registry


@dataclass(frozen=True)
class Guarded:
    address: str
    tokens: App | None

    def client(self, password: str | None) -> RegistryClient:
        held = None if password is None else credentials(self.address, password)
        plain = {self.address} | ({self.tokens.address} if self.tokens else set())
        return RegistryClient(Guard(lambda: {self.address}, insecure=frozenset(plain)), held)


@pytest.fixture(params=["basic", "token"])
async def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Guarded]:
    if request.param == "basic":
        with basic_registry(tmp_path) as address:
            yield Guarded(address, None)
    else:
        async with token_registry(tmp_path) as (address, tokens):
            yield Guarded(address, tokens)


async def test_the_right_login_reads_and_writes(guarded: Guarded) -> None:
    async with guarded.client(PASSWORD) as client:
        place = Place(client, guarded.address, "acme/web", referrers=False)
        image = await push_image(place)
        attached = await fetch_attached(client, image)
        assert attached.artifacts == ()
        assert attached.unread == ()
    if guarded.tokens is not None:
        assert set(guarded.tokens.headers("Authorization")) == {BASIC}


@pytest.mark.parametrize("password", [None, "wrong"])
async def test_no_login_and_a_wrong_one_name_what_was_tried_and_no_password(
    guarded: Guarded, password: str | None
) -> None:
    async with guarded.client(PASSWORD) as client:
        image = await push_image(Place(client, guarded.address, "acme/web", referrers=False))
    async with guarded.client(password) as client:
        with pytest.raises(UnauthorizedError) as failed:
            await fetch_attached(client, image)
    text = str(failed.value)
    if password is None:
        assert "no credentials configured" in text
    else:
        assert f"tried config.json entry {guarded.address}" in text
        assert password not in text
    assert PASSWORD not in text


async def test_many_requests_at_once_sign_in_once(guarded: Guarded) -> None:
    async with guarded.client(PASSWORD) as client:
        image = await push_image(Place(client, guarded.address, "acme/web", referrers=False))
    async with guarded.client(PASSWORD) as client:
        before = len(guarded.tokens.seen) if guarded.tokens else 0
        await asyncio.gather(*(fetch_attached(client, image) for _ in range(10)))
    if guarded.tokens is not None:
        assert len(guarded.tokens.seen) == before + 1
