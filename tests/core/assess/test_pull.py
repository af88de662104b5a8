"""Pull secrets: who may use which, in which order, and that what one saw is nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.core.assess.support import IMAGE, assessor, request, workload
from tests.core.assess.world import HOST, Clock, World, key, policy
from trailgate.assess.gather import RegistryEvidence
from trailgate.assess.images import DEPLOYMENT, POD
from trailgate.assess.pull import NO_SECRETS, PullSecrets, pull_secrets
from trailgate.model.digest import Digest
from trailgate.model.evidence import Evidence, Unavailable
from trailgate.model.image import ImageReference
from trailgate.oci.errors import (
    CredentialsError,
    NotFoundError,
    OciError,
    UnauthorizedError,
    UnavailableError,
)
from trailgate.oci.registry import Descriptor, Manifest, Registry

BUILD = (key("build").public,)
SHOP = PullSecrets("shop", ("regcred",))
OTHER = PullSecrets("other", ("regcred",))
Make = Callable[..., RegistryEvidence]


@dataclass
class View:
    """The world's registry as one account sees it."""

    world: World
    refuses: OciError | None = None
    """Raised for everything."""
    hides: bool = False
    calls: int = 0

    def _pass(self) -> None:
        self.calls += 1
        if self.refuses is not None:
            raise self.refuses
        if self.hides:
            raise NotFoundError("hidden")

    async def resolve(self, image: ImageReference) -> Digest:
        self._pass()
        return await self.world.resolve(image)

    async def manifest(self, image: ImageReference) -> Manifest:
        self._pass()
        return await self.world.manifest(image)

    async def blob(self, image: ImageReference, digest: Digest, limit: int) -> bytes:
        self._pass()
        return await self.world.blob(image, digest, limit)

    async def referrers(self, image: ImageReference) -> tuple[Descriptor, ...]:
        self._pass()
        return await self.world.referrers(image)


@dataclass
class Accounts:
    """``pull.Accounts`` as the test says."""

    views: dict[str, Registry | OciError | None] = field(default_factory=dict)
    own_covers: bool = False
    opened: list[str] = field(default_factory=list)

    def listed(self, secrets: PullSecrets) -> tuple[str, ...]:
        names = (f"{secrets.namespace}/{name}" for name in secrets.names)
        return tuple(name for name in names if name in self.views)

    def covers(self, image: ImageReference) -> bool:
        return self.own_covers

    async def open(self, account: str, image: ImageReference) -> Registry | None:
        self.opened.append(account)
        found = self.views[account]
        if isinstance(found, OciError):
            raise found
        return found


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[RegistryEvidence] = []

    def build(own: View, accounts: Accounts, **changes: Any) -> RegistryEvidence:
        given: dict[str, Any] = {"named": lambda: {HOST}} | changes
        made.append(RegistryEvidence(own, accounts=accounts, **given))
        return made[-1]

    yield build
    for source in made:
        await source.close()


def refused(who: str) -> UnauthorizedError:
    return UnauthorizedError(f"{HOST}: 401, tried {who}")


def signed(found: Any) -> bool:
    return isinstance(found, Evidence) and bool(found.statements)


async def test_a_listed_secret_opens_what_we_may_not_see(world: World, make: Make) -> None:
    image = await world.image("web", "signature")
    shop = View(world)
    source = make(View(world, refused("nothing")), Accounts({"shop/regcred": shop}))
    assert isinstance(await source.gather(image, BUILD), Unavailable)
    assert signed(await source.gather(image, BUILD, SHOP))
    assert shop.calls > 0


async def test_what_one_namespace_may_read_answers_no_other(world: World, make: Make) -> None:
    image = await world.image("web", "signature")
    accounts = Accounts({"shop/regcred": View(world), "other/regcred": View(world, refused("it"))})
    source = make(View(world, refused("nothing")), accounts)
    assert signed(await source.gather(image, BUILD, SHOP))
    assert source.peek(image, BUILD, SHOP) is not None
    for secrets in (NO_SECRETS, OTHER, PullSecrets("shop", ("another",))):
        assert source.peek(image, BUILD, secrets, running=True) is None
        assert await source.recall(image, BUILD, secrets) is None
        assert isinstance(await source.gather(image, BUILD, secrets), Unavailable)
    assert signed(await source.recall(image, BUILD, SHOP))


async def test_what_we_may_read_ourselves_answers_everybody(world: World, make: Make) -> None:
    image = await world.image("web", "signature")
    shop = View(world, refused("never asked"))
    source = make(View(world), Accounts({"shop/regcred": shop}))
    assert signed(await source.gather(image, BUILD))
    assert signed(await source.gather(image, BUILD, SHOP))
    assert shop.calls == 0


@pytest.mark.parametrize("own_covers", [True, False])
async def test_our_own_entry_goes_first_and_without_one_the_secret_does(
    world: World, make: Make, *, own_covers: bool
) -> None:
    image = await world.image("web", "signature")
    own, shop = View(world), View(world)
    source = make(own, Accounts({"shop/regcred": shop}, own_covers=own_covers))
    assert signed(await source.gather(image, BUILD, SHOP))
    assert (own.calls > 0, shop.calls > 0) == (own_covers, not own_covers)


@pytest.mark.parametrize("own", ["refused", "hidden"])
async def test_where_our_own_entry_sees_nothing_the_secret_is_tried(
    world: World, make: Make, own: str
) -> None:
    image = await world.image("web", "signature")
    ours = View(world, refused("ours") if own == "refused" else None, hides=own == "hidden")
    source = make(ours, Accounts({"shop/regcred": View(world)}, own_covers=True))
    assert signed(await source.gather(image, BUILD, SHOP))


async def test_a_secret_without_an_entry_is_as_none(world: World, make: Make) -> None:
    image = await world.image("web", "signature")
    source = make(View(world), Accounts({"shop/regcred": None}))
    assert signed(await source.gather(image, BUILD, SHOP))


async def test_all_that_was_tried_is_named_and_what_was_not_read_too(
    world: World, make: Make
) -> None:
    image = await world.image("web", "signature")
    accounts = Accounts({"shop/regcred": View(world, refused("secret shop/regcred"))})
    source = make(View(world, refused("config.json")), accounts)
    found = await source.gather(image, BUILD, PullSecrets("shop", ("regcred", "unlisted")))
    assert isinstance(found, Unavailable)
    assert "secret shop/regcred" in found.detail
    assert "config.json" in found.detail
    assert found.detail.endswith("not read: shop/unlisted (--image-pull-secret)")
    assert accounts.opened == ["shop/regcred"]


async def test_who_was_turned_away_can_t_say_that_nothing_is_there(
    world: World, make: Make
) -> None:
    image = await world.image("web", "signature")
    for own, shop in (
        (View(world, hides=True), View(world, refused("secret"))),
        (View(world, refused("own")), View(world, hides=True)),
    ):
        source = make(own, Accounts({"shop/regcred": shop}))
        for _ in range(2):  # warm as cold
            assert isinstance(await source.gather(image, BUILD, SHOP), Unavailable)


async def test_who_sees_the_image_can_say_that_nothing_is_attached(
    world: World, make: Make
) -> None:
    image = await world.image("web")
    for own, shop in (
        (View(world), View(world, refused("secret"))),
        (View(world, refused("own")), View(world)),
    ):
        source = make(own, Accounts({"shop/regcred": shop}))
        for _ in range(2):  # warm as cold
            found = await source.gather(image, BUILD, SHOP)
            assert isinstance(found, Evidence)
            assert not found.statements


async def test_an_image_that_no_account_sees_is_not_there(world: World, make: Make) -> None:
    image = await world.image("web", "signature")
    own, shop = View(world, hides=True), View(world, hides=True)
    source = make(own, Accounts({"shop/regcred": shop}))
    found = await source.gather(image, BUILD, SHOP)
    assert isinstance(found, Evidence)
    assert not found.statements
    before = own.calls, shop.calls
    assert source.peek(image, BUILD, SHOP) == found
    assert await source.gather(image, BUILD, SHOP) == found
    assert (own.calls, shop.calls) == before


async def test_that_we_saw_nothing_does_not_answer_who_may_see_more(
    world: World, make: Make
) -> None:
    image = await world.image("web", "signature")
    source = make(View(world, hides=True), Accounts({"shop/regcred": View(world)}))
    assert not signed(await source.gather(image, BUILD))
    assert source.peek(image, BUILD, SHOP) is None
    assert signed(await source.gather(image, BUILD, SHOP))


async def test_a_registry_that_is_away_is_not_asked_once_per_account(
    world: World, make: Make
) -> None:
    image = await world.image("web", "signature")
    own = View(world, UnavailableError("no connection"))
    shop = View(world, UnavailableError("no connection"))
    source = make(own, Accounts({"shop/regcred": shop}))
    assert isinstance(await source.gather(image, BUILD, SHOP), Unavailable)
    assert own.calls == 0


async def test_a_secret_that_can_t_be_read_is_told_and_the_rest_is_tried(
    world: World, make: Make
) -> None:
    image = await world.image("web", "signature")
    gone = CredentialsError("secret shop/regcred is not there")
    source = make(View(world), Accounts({"shop/regcred": gone}))
    assert signed(await source.gather(image, BUILD, SHOP))
    source = make(View(world, refused("nothing")), Accounts({"shop/regcred": gone}))
    found = await source.gather(image, BUILD, SHOP)
    assert isinstance(found, Unavailable)
    assert "secret shop/regcred is not there" in found.detail


async def test_old_facts_of_a_running_release_are_its_own_account_s(
    world: World, make: Make
) -> None:
    clock = Clock()
    image = await world.image("web", "signature")
    accounts = Accounts({"shop/regcred": View(world)})
    source = make(View(world, refused("nothing")), accounts, clock=clock)
    assert signed(await source.gather(image, BUILD, SHOP))
    clock.now += 10_000
    assert source.peek(image, BUILD, SHOP) is None
    assert source.peek(image, BUILD, SHOP, running=True) is not None
    assert source.peek(image, BUILD, OTHER, running=True) is None


async def test_the_assessor_hands_on_what_the_pod_names(world: World, make: Make) -> None:
    image = await world.image("web", "signature")
    accounts = Accounts({"shop/regcred": View(world)})
    gate = assessor(policy(), facts=make(View(world, refused("nothing")), accounts))
    item: Any = workload(DEPLOYMENT, str(image))
    assert not (await gate.assess(request(item))).decision.allowed
    item["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": "regcred"}]
    assert (await gate.assess(request(item))).decision.allowed


def test_what_a_pod_names_is_read_from_its_spec_alone() -> None:
    item: Any = workload(DEPLOYMENT, IMAGE)
    assert pull_secrets(request(item)) == NO_SECRETS
    spec = item["spec"]["template"]["spec"]
    spec["serviceAccountName"] = "puller"
    assert pull_secrets(request(item)) == NO_SECRETS
    spec["imagePullSecrets"] = [{"name": "b"}, {"name": "a"}, {"name": "b"}, {}]
    assert pull_secrets(request(item)) == PullSecrets("shop", ("b", "a"))
    bare: Any = workload(POD, IMAGE)
    bare["spec"]["imagePullSecrets"] = [{"name": "c"}]
    assert pull_secrets(request(bare)) == PullSecrets("shop", ("c",))
