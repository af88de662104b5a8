"""``helm test``: the sentinel's two questions, asked once by somebody who waits for the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from trailgate.ledger.record import ControlTest, TestOutcome
from trailgate.model.errors import TrailgateError
from trailgate_kube.api import Writer
from trailgate_operator.sentinel_probe import IMAGES, PROBE, Answer, ask


class TrialError(TrailgateError):
    """The gate did not refuse, or did not let in; says which, and what came instead."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Asks until each answer is as it must be, or the time is over."""

    kube: Writer
    seconds: float = 120
    """After an installation it takes a moment until the gate is armed."""
    pause: float = 2
    monotonic: Callable[[], float] = time.monotonic

    async def run(self) -> str:
        """Return what was seen; raises ``TrialError``."""
        deadline = self.monotonic() + self.seconds
        return "\n\n".join([await self._until(deadline, test) for test in ControlTest])

    async def _until(self, deadline: float, test: ControlTest) -> str:
        while True:
            answer = await ask(self.kube, test)
            if answer.outcome is TestOutcome.PASSED:
                return f"{test.value} of {IMAGES[test]}: as it must be\n{answer.text}".rstrip()
            if self.monotonic() >= deadline:
                raise TrialError(_words(answer))
            await asyncio.sleep(self.pause)


def _words(answer: Answer) -> str:
    got = "no answer of the gate" if answer.got is None else answer.got.value
    return (
        f"{answer.test.value} of {IMAGES[answer.test]} in {PROBE}: got {got} {answer.text}".rstrip()
        + "; look at: kubectl get validatingwebhookconfiguration,dpol"
    )
