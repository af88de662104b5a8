"""The shop in operation: a stream of deploys beside whatever a story does to the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from e2e.cluster.provider import Cluster
from e2e.demo.pipeline import trailgate
from e2e.stories.deployer import Deployer
from e2e.stories.installation import Installation, wait_for
from e2e.stories.say import say
from e2e.stories.shop import Shop, deployment
from e2e.stories.stream import Account, Stream


@dataclass(frozen=True)
class Stand:
    """An enforced policy, a good and a bad image, and who deploys them."""

    release: Installation
    cluster: Cluster
    shop: Shop
    deployer: Deployer
    good: str
    bad: str

    def enforce(self) -> None:
        """Write the shop's policy, and wait until the gate holds to it."""
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(self.shop.policy()))
        wait_for("the policy to be enforced", self.is_enforced, 60)

    def is_enforced(self) -> bool:
        """Whether a bad image is refused, by dry run."""
        return "SignatureMissing" in self.deployer.try_out(deployment(self.bad, name="try"))

    def disarm(self, reason: str, ticket: str = "INC-7") -> str:
        """Run ``trailgate disarm`` as the administrator; returns what it printed."""
        said = self._trailgate("disarm", "--for", "30m", "--reason", reason, "--ticket", ticket)
        wait_for("the gate to stand aside", lambda: not self.release.is_armed(), 30)
        return said

    def arm(self) -> None:
        """End what ``disarm`` began, and wait until the gate decides again."""
        for one in json.loads(self._trailgate("disarm", "-o", "json"))["disarms"]:
            self._trailgate("disarm", "--end", one["name"])
        self.release.wait_until_armed(60)
        wait_for("the gate to hold", self.is_enforced, 60)

    def _trailgate(self, *arguments: str) -> str:
        return trailgate(*arguments, "--kubeconfig", self.cluster.kubeconfig).stdout

    @contextmanager
    def deploying(self, what: str) -> Iterator[Account]:
        """Deploy good and bad beside the block; afterwards nothing bad is in, nothing missing."""
        uid = self.cluster.kubectl(
            "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}"
        ).stdout
        good = deployment(self.good, name="stream", replicas=0)
        stream = Stream(self.deployer.kubeconfig, uid, good, self.bad)
        with stream.flowing() as account:
            yield account
        say(f"{what}: {account}")
        for text, times in (account.errors + account.unanswered).items():
            say(f"  {times} times {text}")
        assert account.entered == [], f"bad deploys got in: {account}"
        assert account.bad == sum(account.refused.values())
        assert account.admitted, f"no good deploy got in: {account}"
        assert self.missing(account) == set(), "admitted, and not in the ledger"

    def missing(self, account: Account) -> set[str]:
        """Which of the admitted changes the ledger doesn't know."""
        self.release.wait_until_recorded(120)
        rows = self.release.rows("--workload", "Deployment/stream")
        known = {row["changeId"] for row in rows}
        return account.admitted - known
