"""Wait for what another task or thread is about to do."""

import asyncio
import time


async def until(probe, seconds=10.0):
    """Poll until ``probe()``; fails where that never comes."""
    deadline = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.01)
