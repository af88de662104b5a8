"""The page "Locked out? Two commands", word for word, with gate and operator dead."""

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from tests.operator.armed import ROOT, SYSTEM, Site, start_plane, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]
PAGE = (ROOT / "docs" / "how-to" / "locked-out.md").read_text()
BLOCKS = [block.strip() for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)]
DISARM, END, DELETE = BLOCKS


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    plane = start_plane(tmp_path_factory.mktemp("locked-out") / "control-plane")
    yield plane
    plane.stop()


class Operator:
    """The real ``trailgate-operator --arm`` as a process."""

    def __init__(self, site, place):
        self._log = site.directory / "operator.log"
        options = place.options(
            kubeconfig=site.operator.kubeconfig, webhook_url=site.gate.url,
            webhook_ca=site.gate.world.certs / "ca.crt", namespace=SYSTEM,
        )  # fmt: skip
        self._command = [sys.executable, "-m", "trailgate_operator.main", "--arm", *options]
        self._process = None

    def start(self):
        path = os.pathsep.join(str(ROOT / part) for part in ("core", "kube", "operator", "."))
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stderr=output, env=os.environ | {"PYTHONPATH": path}, cwd=ROOT
            )

    def end(self, number=signal.SIGKILL):
        if self._process is not None:
            self._process.send_signal(number)
            status = self._process.wait(30)
            self._process = None
            return status
        return None

    def text(self):
        return self._log.read_text()


@pytest.fixture
def site(plane, tmp_path, place):
    site = Site(plane, tmp_path)
    site.process = Operator(site, place)
    yield site
    site.process.end()
    site.clear()


async def locked_out(site):
    """Armed and enforcing, and then the gate dies."""
    site.apply(site.policy())
    site.gate.start()
    site.process.start()
    await site.armed(seconds=60)
    await site.enforces(site.shop)
    site.gate.kill()
    assert "failed calling webhook" in site.deploy(site.shop).stderr


async def run(site, command, *more):
    """A command of the page, as a cluster admin."""
    words = shlex.split(command)
    if words[0] == "kubectl":
        return await asyncio.to_thread(site.plane.kubectl, site.plane.admin, *words[1:])
    assert words[0] == "trailgate"
    path = os.pathsep.join(str(ROOT / part) for part in ("core", "kube"))
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "trailgate.cli.main", *words[1:], *more],
        env=os.environ | {"KUBECONFIG": str(site.plane.admin.kubeconfig), "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def name_of(done):
    return re.search(r"asked: Disarm (\S+) until", done.stderr)[1]


async def test_with_the_gate_dead_the_first_command_is_enough(site):
    await locked_out(site)
    done = await run(site, DISARM)
    assert done.returncode == 0, done.stderr + site.process.text()
    assert site.deploy(site.shop).returncode == 0
    name = name_of(done)
    assert (await run(site, "trailgate disarm")).stdout.splitlines()[1].split()[:2] == [
        name, "InEffect",
    ]  # fmt: skip
    site.gate.start()
    ended = await run(site, END.replace("NAME", name))
    assert ended.returncode == 0
    await site.armed()
    refused = await asyncio.to_thread(site.deploy, site.shop, "second")
    assert "denied the request" in refused.stderr
    assert site.process.end(signal.SIGTERM) == 0


async def test_with_the_operator_dead_too_the_second_one_is(site):
    await locked_out(site)
    site.process.end()
    done = await run(site, DISARM, "--wait", "0")
    assert done.returncode == 3
    assert DELETE in done.stderr
    assert "failed calling webhook" in site.deploy(site.shop).stderr
    await run(site, DELETE)
    assert site.deploy(site.shop).returncode == 0
    # The operator comes back, the gate too: the Disarm is obeyed.
    site.gate.start()
    site.process.start()
    name = name_of(done)
    await until(lambda: "InEffect" in site.state_of(name), 60)
    assert await site.configuration() is None
    assert site.deploy(site.shop, "second").returncode == 0


async def test_the_second_one_alone_lasts_until_a_gate_answers(site):
    await locked_out(site)
    site.process.end()
    await run(site, DELETE)
    site.process.start()
    await until(lambda: "no gate answers" in site.process.text(), 60)
    assert await site.configuration() is None
    assert site.deploy(site.shop).returncode == 0
    site.gate.start()
    await site.armed()


def test_the_policy_can_always_be_edited(site):
    """The gate is asked about it, fails open, and decides nothing."""
    site.apply(site.policy())

    async def story():
        await locked_out(site)
        site.apply(site.policy(mode="Audit"))

        async def off():
            return site.shop not in (await site.expression() or site.shop)

        await until(off)
        assert site.deploy(site.shop).returncode == 0

    asyncio.run(story())
