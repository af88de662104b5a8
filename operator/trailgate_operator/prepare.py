"""What must be there before the operator starts: its keys, and a ledger that belongs to them.

Level-triggered: look at what is there, take one step, look again. So it may be killed
between any two steps (and in one), and two of it may run at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from trailgate.ledger.errors import LedgerLockedError, LedgerUnavailableError
from trailgate_kube import logs
from trailgate_kube.backoff import Backoff
from trailgate_kube.errors import ConfigurationError as KubeConfigurationError
from trailgate_kube.errors import KubeError, NotFoundError
from trailgate_operator.keyring import (
    GATE,
    GATE_PUB,
    LOG,
    LOG_KEY,
    RECORDER,
    RECORDER_KEY,
    REVIEW_TOKEN,
    Create,
    LogState,
    MakeLedger,
    PutAside,
    Replace,
    Step,
    log_key,
    log_step,
    review_token,
    spool_step,
)
from trailgate_operator.keyring_secret import Secret, SecretBox
from trailgate_operator.prepare_places import Places

_SAYS: dict[type[Step], str] = {
    Create: "made a Secret",
    Replace: "finished a Secret",
    MakeLedger: "made an empty ledger",
    PutAside: "put aside what is left of the log that is given up",
}


@dataclass(frozen=True, slots=True)
class Preparation:
    """Make what is missing, refuse what doesn't fit, and hand the keys over."""

    secrets: SecretBox
    places: Places
    origin: str
    """Name of a log that is made; one that is there keeps its own."""
    give_up: str | None = None

    async def run(self, seconds: float) -> str:
        """Prepare, and return the log's vkey.

        What may pass (the API server, its rights, the disk, another writer) is waited out
        for ``seconds``, then raised: ``KubeError``, ``LedgerUnavailableError`` or
        ``LedgerLockedError``. ``SecretError``, ``ConfigurationError`` and the other kinds of
        ``LedgerError`` at once.
        """
        deadline, backoff = time.monotonic() + seconds, Backoff()
        while True:
            try:
                while await self.step():
                    backoff.reset()
                return await self._hand_over()
            except KubeConfigurationError:
                raise
            except (KubeError, LedgerUnavailableError, LedgerLockedError) as error:
                # Also where somebody else was faster: look again at what is there now.
                if deadline - time.monotonic() <= backoff.next:
                    raise
                logs.write(logging.WARNING, "not prepared yet; trying again", detail=str(error))
            await backoff.sleep()

    async def step(self) -> bool:
        """Take the next step; False where there is none left."""
        step = await self._next()
        if step is None:
            return False
        if isinstance(step, Create):
            await self.secrets.create(step.secret)
        elif isinstance(step, Replace):
            await self.secrets.replace(step.secret)
        elif isinstance(step, MakeLedger):
            await asyncio.to_thread(self.places.make_ledger, step.key)
        else:
            await asyncio.to_thread(self.places.put_aside, step.what, step.id)
        logs.write(logging.INFO, _SAYS[type(step)], **_about(step))
        return True

    async def _next(self) -> Step | None:
        spool = spool_step(await self.secrets.get(GATE), await self.secrets.get(RECORDER))
        if spool is not None:
            return spool
        state = LogState(await self.secrets.get(LOG), *await asyncio.to_thread(self._files))
        return log_step(state, self.origin, self.give_up)

    def _files(self) -> tuple[str | None, str | None]:
        return self.places.ledger_vkey(), self.places.known_id()

    async def _hand_over(self) -> str:
        """Write the files that the main process takes; whatever vanished meanwhile is missed."""
        recorder, log = await self._there(RECORDER), await self._there(LOG)
        gate = await self._there(GATE)
        key = log_key(log)
        if key.name != self.origin:
            logs.write(
                logging.WARNING, "the log keeps the name that it was made with", log=key.name,
                origin=self.origin,
            )  # fmt: skip
        self.places.write_keys(
            {
                RECORDER_KEY: recorder.data[RECORDER_KEY],
                GATE_PUB: recorder.data[GATE_PUB],
                LOG_KEY: log.data[LOG_KEY],
                REVIEW_TOKEN: review_token(gate),
            }
        )
        return str(key.verifier)

    async def _there(self, name: str) -> Secret:
        found = await self.secrets.get(name)
        if found is None:
            raise NotFoundError(f"Secret {name} was deleted while the operator was prepared")
        return found


def _about(step: Step) -> dict[str, str]:
    if isinstance(step, Create | Replace):
        return {"secret": step.secret.name}
    if isinstance(step, MakeLedger):
        return {"log": str(step.key.verifier)}
    return {"what": step.what, "log": step.id}
