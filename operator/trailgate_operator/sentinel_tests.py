"""When the control is tested, and what is told of it.

Both ways on a timer and after each arming; sooner again while an answer is wrong, which is
told when it begins and then at each turn of the timer. While nothing is armed nothing is
tested: that the gate isn't asked then is known, and told otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from trailgate.ledger.form import stamp
from trailgate.ledger.record import Context, ControlTest, TestOutcome, Through, control_test
from trailgate_kube import logs
from trailgate_kube.api import Kube, Object
from trailgate_kube.errors import NotFoundError
from trailgate_kube.policies import Policies
from trailgate_kube.resources import VALIDATING_WEBHOOKS
from trailgate_kube.webhooks import CONFIGURATION
from trailgate_operator.sentinel_metrics import SentinelMetrics
from trailgate_operator.sentinel_policy import ProbePolicy
from trailgate_operator.sentinel_probe import IMAGES, PROBE, Answer, ask
from trailgate_operator.trail import Statement, Tell

_LOOK: Final = 30.0
_UNARMED: Final = 5.0


@dataclass(frozen=True, slots=True)
class Timer:
    """Seconds."""

    every: float = 3600.0
    settle: float = 30.0
    """After arming, or a new policy, until every API server and gate must know it."""
    pause: float = 2.0
    """Between questions in that time."""
    again: float = 60.0
    """Until an answer that was not right is asked for again."""


@dataclass(frozen=True, slots=True)
class TestParts:
    """What the tests work with."""

    __test__ = False  # for pytest

    kube: Kube
    policies: Policies
    armed: Callable[[], bool | None]
    """Whether the gate is armed, as far as the loop that arms it knows."""
    tell: Tell
    context: Context
    metrics: SentinelMetrics


class ControlTests:
    """Both tests. ``look`` is one pass of a ``Routine``."""

    def __init__(
        self,
        parts: TestParts,
        timer: Timer,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._parts, self._timer = parts, timer
        self._clock, self._monotonic = clock, monotonic
        self._policy = ProbePolicy(parts.kube, parts.policies)
        self._since: float | None = None
        """Since when what decides is as it is; None: not armed."""
        self._due = 0.0
        self._told: tuple[float, Mapping[ControlTest, TestOutcome]] | None = None
        """When what was told last; None: nothing since it was armed."""
        self._note: str | None = None

    def note(self) -> str | None:
        """Say which test did not pass at the last look, and what came back; None: both did."""
        return self._note

    def renew(self) -> None:
        """Test now: what decides has changed."""
        self._due = self._since = self._monotonic()
        self._told = None

    async def look(self) -> float | None:
        """One pass; returns the seconds until the next. Raises as ``Routine`` takes it."""
        if await self._policy.keep():
            self.renew()
        configuration = await self._configuration()
        if configuration is None:
            self._since = None
            return _UNARMED
        now = self._monotonic()
        if self._since is None:
            self.renew()
        if now < self._due:
            return min(self._due - now, _LOOK)
        answers = [await ask(self._parts.kube, test) for test in ControlTest]
        if await self._configuration() != configuration:
            return self._timer.pause  # disarmed or changed meanwhile: they show nothing
        return await self._judge(answers)

    async def _configuration(self) -> tuple[str, str] | None:
        """(uid, version) of the webhook configuration, if it is there and as it should be."""
        if self._parts.armed() is not True:
            return None
        try:
            found: Object = await self._parts.kube.get(VALIDATING_WEBHOOKS, CONFIGURATION)
        except NotFoundError:
            return None
        return str(found["metadata"]["uid"]), str(found["metadata"]["resourceVersion"])

    async def _judge(self, answers: Sequence[Answer]) -> float:
        assert self._since is not None
        now = self._monotonic()
        wrong = [one for one in answers if one.outcome is not TestOutcome.PASSED]
        if wrong and now < self._since + self._timer.settle:
            return self._timer.pause
        outcomes = {one.test: one.outcome for one in answers}
        if self._is_news(outcomes, now):
            await self._tell(answers)
            self._told = now, outcomes
        for one in answers:
            self._parts.metrics.tested(one.test, one.outcome, self._clock())
        self._note = "; ".join(map(self._words, wrong)) or None
        wait = min(self._timer.every, self._timer.again) if wrong else self._timer.every
        self._due = now + wait
        return min(wait, _LOOK)

    def _is_news(self, outcomes: Mapping[ControlTest, TestOutcome], now: float) -> bool:
        if self._told is None:
            return True
        at, before = self._told
        return outcomes != before or now - at >= self._timer.every

    async def _tell(self, answers: Sequence[Answer]) -> None:
        now = self._clock()
        statements = [
            Statement(
                f"control-test/{one.test.value}/{stamp(now)}",
                control_test(
                    self._parts.context, now, one.test, one.got,
                    through=Through.API_SERVER, code=one.code, policy=PROBE, namespace=PROBE,
                    image=IMAGES[one.test],
                ),
            )
            for one in answers
        ]  # fmt: skip
        await self._parts.tell(statements)
        for one in answers:
            passed = one.outcome is TestOutcome.PASSED
            logs.write(
                logging.INFO if passed else logging.ERROR, "control tested",
                test=one.test.value, outcome=one.outcome.value, detail=one.text[:500],
            )  # fmt: skip

    def _words(self, one: Answer) -> str:
        got = "no answer of the gate" if one.got is None else f"{one.got.value}"
        others = self._policy.others() if one.test is ControlTest.ADMISSION else ()
        also = f"; {', '.join(others)} is for {PROBE}, too" if others else ""
        return f"{one.test.value} {one.outcome.value}, got {got}{also}"
