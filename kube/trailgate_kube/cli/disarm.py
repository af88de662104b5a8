"""``trailgate disarm``: make the gate stand aside, end that, or see whether it does."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from trailgate.cli.errors import ExitCode
from trailgate.cli.output import emit_json, emit_table, note, output_option
from trailgate.model.errors import TrailgateError
from trailgate.policy import syntax
from trailgate_kube.api import Object
from trailgate_kube.cli.cluster import kubeconfig_option, with_cluster
from trailgate_kube.client import KubeClient
from trailgate_kube.disarms import LONGEST, MAX_REASON, MAX_TICKET, Disarm, State
from trailgate_kube.errors import NotFoundError
from trailgate_kube.resources import DISARMS, VALIDATING_WEBHOOKS
from trailgate_kube.webhooks import CONFIGURATION

_COLUMNS = ("name", "state", "until", "reason", "ticket")
_LOOK = 0.5
_SKEW = timedelta(minutes=1)
_BY_HAND = f"kubectl delete validatingwebhookconfiguration {CONFIGURATION}"


class NotYetError(TrailgateError):
    """It was asked for, and hasn't happened so far."""

    exit_code = ExitCode.UNDETERMINED


@click.command("disarm")
@click.option(
    "--for", "length", metavar="DURATION", help="How long, such as 1h or 90m; 24h at most."
)
@click.option("--reason", help="Why; it stands in the ledger.")
@click.option("--ticket", help="Where it is dealt with.")
@click.option("--end", "ended", metavar="NAME", help="End this one now: the gate is armed again.")
@click.option(
    "--wait", type=click.FloatRange(0, 600), default=20.0, show_default=True,
    help="Seconds to wait until the operator has disarmed.",
)  # fmt: skip
@kubeconfig_option
@output_option("table", "json")
def command(
    *,
    length: str | None,
    reason: str | None,
    ticket: str | None,
    ended: str | None,
    wait: float,
    kubeconfig: Path | None,
    output: str,
) -> None:
    """Make the gate stand aside for a while, in an emergency.

    With --for and --reason it asks for that (a Disarm object, which only a cluster admin
    may make), and waits until it is so. It needs no gate that answers. With --end it
    ends one. With neither it only shows what is in effect.
    """
    if ended is not None and (length or reason or ticket):
        raise click.UsageError("got --end with --for, --reason or --ticket, expected it alone")
    if ended is not None:
        with_cluster(kubeconfig, lambda kube: kube.delete(DISARMS, ended))
        note(f"{ended} is ended: the operator arms as soon as a gate answers")
    elif length or reason or ticket:
        body = _body(length, reason, ticket)
        with_cluster(kubeconfig, lambda kube: _disarm(kube, body, wait))
    rows, there = with_cluster(kubeconfig, _shown)
    if output == "json":
        emit_json({"configuration": there, "disarms": rows})
    else:
        emit_table(_COLUMNS, rows)
        note(f"webhook configuration {CONFIGURATION}: {'there' if there else 'not there'}")


def _body(length: str | None, reason: str | None, ticket: str | None) -> Object:
    if not length or not reason or not reason.strip():
        raise click.UsageError("expected --for DURATION and --reason TEXT")
    problem = syntax.duration(length)
    if problem is not None:
        raise click.UsageError(f"--for: got {length!r}, expected {problem}")
    lasting = syntax.seconds(length)
    if lasting > LONGEST:
        raise click.UsageError(f"--for: got {length}, expected at most 24h")
    for option, text, most in (("--reason", reason, MAX_REASON), ("--ticket", ticket, MAX_TICKET)):
        if text is not None and len(text) > most:
            raise click.UsageError(f"{option}: got {len(text)} characters, expected at most {most}")
    now = datetime.now(UTC)
    # By the API server's clock not a moment more than 24 hours may be left.
    until = (now + min(lasting, LONGEST - _SKEW)).replace(microsecond=0)
    spec = {"reason": reason, "until": until.isoformat().replace("+00:00", "Z")}
    return {
        "apiVersion": DISARMS.api_version,
        "kind": DISARMS.kind,
        "metadata": {"name": f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"},
        "spec": spec | ({} if ticket is None else {"ticket": ticket}),
    }


async def _disarm(kube: KubeClient, body: Object, seconds: float) -> None:
    """Ask for it, and wait until the API server doesn't ask the gate any more."""
    made = await kube.create(DISARMS, body)
    name = made["metadata"]["name"]
    note(f"asked: Disarm {name} until {made['spec']['until']}")
    deadline = time.monotonic() + seconds
    while True:
        refused = await _refusal(kube, name)
        if refused:
            raise NotYetError(f"the operator refuses Disarm {name}: {refused}")
        if not await _there(kube):
            note("disarmed: the API server doesn't ask the gate")
            return
        if time.monotonic() > deadline:
            raise NotYetError(
                f"Disarm {name} is there, but nobody has disarmed within {seconds:.0f} s. If the "
                f"operator is dead too, run: {_BY_HAND}"
            )
        await asyncio.sleep(_LOOK)


async def _refusal(kube: KubeClient, name: str) -> str | None:
    item = await kube.get(DISARMS, name)
    for condition in item.get("status", {}).get("conditions") or ():
        if condition.get("type") == "Accepted" and condition.get("status") == "False":
            return str(condition.get("message"))
    return None


async def _there(kube: KubeClient) -> bool:
    try:
        await kube.get(VALIDATING_WEBHOOKS, CONFIGURATION)
    except NotFoundError:
        return False
    return True


async def _shown(kube: KubeClient) -> tuple[list[dict[str, Any]], bool]:
    """Return what is in effect, and whether the webhook configuration is there."""
    now, rows, following = datetime.now(UTC), [], ""
    while True:
        page = await kube.page(DISARMS, following=following)
        rows += [row for item in page.items if (row := _row(item, now))]
        following = page.following
        if not following:
            return rows, await _there(kube)


def _row(item: Object, now: datetime) -> dict[str, Any] | None:
    disarm = Disarm.of(item)
    if disarm.state(now) is not State.IN_EFFECT:
        return None
    conditions = item.get("status", {}).get("conditions") or ()
    told = [one.get("reason") for one in conditions if one.get("type") == "Active"]
    return {
        "name": disarm.name,
        "state": told[0] if told else None,
        "until": item["spec"]["until"],
        "reason": disarm.reason,
        "ticket": disarm.ticket,
    }
