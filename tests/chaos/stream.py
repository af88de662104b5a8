"""A stream of changes whose answers are all written down."""

from __future__ import annotations

import asyncio
import collections
import copy
import itertools
from dataclasses import dataclass

import aiohttp

from tests.chaos.stage import MERGE
from trailgate.model.canonical import fingerprint


@dataclass
class Attempt:
    """One request. Its marker is its own, so its specification's digest is, too."""

    mark: int
    uid: str
    outcome: str = "unknown"
    """accepted (2xx), refused (the API server said no), unknown (no answer came)."""
    generation: int | None = None
    text: str = ""


class Books:
    """Every attempt by the digest of the specification that it asked for."""

    def __init__(self):
        self.attempts = {}
        self.denied = 0
        """Of the refused stream: denials by the gate."""

    def count(self):
        return collections.Counter(one.outcome for one in self.attempts.values())

    @property
    def accepted(self):
        return {d: one for d, one in self.attempts.items() if one.outcome == "accepted"}


class Stream:
    """Changes Deployments, one request at a time on each, several in parallel."""

    def __init__(self, stage, books, *, namespace=None, pause=0.0):
        self.stage, self.books, self.pause = stage, books, pause
        self.namespace = namespace or stage.shop
        self._marks = itertools.count(1)
        self._running = True

    @property
    def _path(self):
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments"

    def _container(self, name, mark):
        return {
            "name": name,
            "image": self.stage.image,
            "env": [{"name": "MARK", "value": str(mark)}],
        }

    async def create(self, name):
        """Make a Deployment as the deployer; returns what the API server made of it."""
        labels = {"app": name}
        status, answer = await self.stage.api(
            "POST",
            self._path,
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {
                    "replicas": 0,
                    "paused": True,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [self._container(name, 0)]},
                    },
                },
            },
            who="deployer",
        )
        assert status == 201, answer
        attempt = Attempt(0, answer["metadata"]["uid"], "accepted", 1)
        self.books.attempts[str(fingerprint(answer["spec"]))] = attempt
        return answer

    def expected(self, made, mark):
        """The specification that this marker asks for, with the API server's defaults."""
        spec = copy.deepcopy(made["spec"])
        spec["template"]["spec"]["containers"][0]["env"][0]["value"] = str(mark)
        return str(fingerprint(spec))

    async def patch(self, made, mark, who="deployer"):
        name = made["metadata"]["name"]
        body = {"spec": {"template": {"spec": {"containers": [self._container(name, mark)]}}}}
        return await self.stage.api(
            "PATCH", f"{self._path}/{name}", body, who=who, content_type=MERGE
        )

    async def change(self, made):
        """One change, and what became of it."""
        mark = next(self._marks)
        digest = self.expected(made, mark)
        attempt = self.books.attempts[digest] = Attempt(mark, made["metadata"]["uid"])
        try:
            status, answer = await self.patch(made, mark)
        except (aiohttp.ClientError, TimeoutError) as error:
            attempt.text = repr(error)
            await self._settle(made, attempt)
            return attempt
        if status == 200:
            assert str(fingerprint(answer["spec"])) == digest
            attempt.outcome, attempt.generation = "accepted", answer["metadata"]["generation"]
        else:
            attempt.outcome, attempt.text = "refused", f"{status} {answer}"
        return attempt

    async def _settle(self, made, attempt):
        """No answer came: see whether the change is there, as its author would."""
        while True:
            try:
                status, now = await self.stage.api(
                    "GET", f"{self._path}/{made['metadata']['name']}"
                )
            except (aiohttp.ClientError, TimeoutError):
                status = 0
            if status == 200:
                break
            await asyncio.sleep(0.2)
        value = now["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
        if value == str(attempt.mark):
            attempt.outcome, attempt.generation = "accepted", now["metadata"]["generation"]

    async def work(self, name):
        """Change one Deployment until ``stop``."""
        made = await self.create(name)
        while self._running:
            await self.change(made)
            await asyncio.sleep(self.pause)

    async def be_refused(self, name):
        """Try as somebody who may not, until ``stop``."""
        made = await self.create(name)
        while self._running:
            try:
                status, answer = await self.patch(made, next(self._marks), "laptop")
            except (aiohttp.ClientError, TimeoutError):
                status, answer = 0, ""
            assert status != 200, "a laptop's change went through"
            if status == 403 and "CallerNotAllowed" in str(answer):
                self.books.denied += 1
            await asyncio.sleep(self.pause)

    def stop(self):
        self._running = False


@dataclass(frozen=True)
class Reckoning:
    """What the ledger says, held against what was answered."""

    accepted: int
    entries: int
    unanswered: int
    """Admitted entries of a change that was not accepted: the gate's answer was lost."""
    reviewed_again: int
    """Admitted entries of a review that the API server made anew, as it had looked at an
    old form of the object: the change is there under its later generation."""
    refusals: int
    kinds: dict


def reckon(records, books, namespaces):
    """Hold recorded against accepted; raises ``AssertionError`` for any difference.

    A change is named as the ledger names it: object uid, generation, specification.
    """
    mine = [
        r for r in records if r["kind"] == "admitted" and r["object"]["namespace"] in namespaces
    ]
    places = collections.Counter(
        (r["spool"]["boot"], r["spool"]["seq"], r["spool"]["index"]) for r in mine
    )
    assert [one for one, n in places.items() if n > 1] == [], "a claim is in the ledger twice"
    found = collections.Counter(
        (r["object"]["uid"], r["object"]["generation"], r["object"]["specDigest"]) for r in mine
    )
    assert [one for one, n in found.items() if n > 1] == [], "a change is in the ledger twice"
    accepted = {(one.uid, one.generation, digest) for digest, one in books.accepted.items()}
    assert accepted - set(found) == set(), "accepted, and not in the ledger"
    unanswered = reviewed_again = 0
    for uid, generation, digest in set(found) - accepted:
        attempt = books.attempts[digest]
        assert uid == attempt.uid
        if attempt.outcome == "accepted":
            assert generation < attempt.generation
            reviewed_again += 1
        else:
            unanswered += 1
    refusals = sum(
        r["count"] for r in records
        if r["kind"] == "refused" and r.get("namespace") in namespaces
    )  # fmt: skip
    kinds = collections.Counter(r["kind"] for r in records)
    return Reckoning(len(accepted), len(mine), unanswered, reviewed_again, refusals, dict(kinds))
