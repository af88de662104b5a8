"""What the demo leaves behind: demo-out/, to look at and to verify by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

from e2e.demo import manifests, tampering
from e2e.demo.pipeline import trailgate
from e2e.demo.world import World

_OUT = Path(__file__).parents[2] / "demo-out"
_README = """\
# What the demo left here

`changes.csv`: every entry, one row a change. `change.html`: the release's entry as a page.
`ledger.db`: the ledger, copied. `log.vkey`: the log's public key. `checkpoint`: the
signed checkpoint that was kept outside the ledger.
`entry-N.json` and `entry-N.tlog-proof`: one entry's bytes and its receipt.

Verify the whole ledger, against the key and the checkpoint:

    {command} ledger verify --ledger sqlite:ledger.db --vkey log.vkey --checkpoint checkpoint

Verify one entry without the ledger:

    {command} ledger verify-receipt entry-{index}.tlog-proof \\
        --entry entry-{index}.json --vkey log.vkey

Read it:

    {command} ledger list --ledger sqlite:ledger.db
    {command} ledger show {index} --ledger sqlite:ledger.db
"""


def write(world: World) -> Path:
    """Write demo-out/ anew; returns the directory."""
    shutil.rmtree(_OUT, ignore_errors=True)
    ledger, _ = tampering.snapshot(world.ledger, world.checkpoint, _OUT)
    shutil.copy(world.vkey, _OUT / "log.vkey")
    at = f"sqlite:{ledger}"
    listed = trailgate("ledger", "list", "--ledger", at, "-o", "csv").stdout
    (_OUT / "changes.csv").write_text(listed, newline="")
    changes = world.rows("-n", manifests.SHOP, "--kind", "admitted", ledger=ledger)
    index = changes[0]["index"]
    (_OUT / "change.html").write_text(
        trailgate("ledger", "show", str(index), "--ledger", at, "-o", "html").stdout
    )
    for change in {changes[0]["index"], changes[-1]["index"]}:
        name = _OUT / f"entry-{change}"
        trailgate(
            "ledger", "receipt", str(change), "--ledger", at,
            "--out", f"{name}.tlog-proof", "--entry", f"{name}.json",
        )  # fmt: skip
    command = Path("..") / ".venv" / "bin" / "trailgate"
    (_OUT / "README.md").write_text(_README.format(command=command, index=index))
    return _OUT
