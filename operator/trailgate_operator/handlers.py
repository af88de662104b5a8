"""kopf's part: tell the loops that something happened. The truth is read by the loops.

Handlers write nothing: no annotation, no finalizer and no Event of kopf's lands on
an Admission, whose specification is evidence.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import kopf

from trailgate_kube.resources import ADMISSIONS

_RETRIES = (1, 1, 2, 3, 5, 5, 5, 5, 5, 5)
"""Seconds between attempts at a request; after the last one kopf gives up, and is started anew."""


def registry(admission_seen: Callable[[], None]) -> kopf.OperatorRegistry:
    """Make the handlers; ``admission_seen`` is called for what is there, comes or changes."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    def login(**how: Any) -> kopf.ConnectionInfo | None:
        # A registry of one's own has no login of kopf's: the pod's account, else KUBECONFIG.
        account = kopf.login_with_service_account(**how)
        return _by_address(account) if account else kopf.login_with_kubeconfig(**how)

    @kopf.on.startup(registry=handlers)
    def settle(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.posting.level = logging.CRITICAL
        settings.scanning.disabled = True
        settings.networking.request_timeout = 30
        settings.networking.error_backoffs = _RETRIES
        settings.watching.server_timeout = 300
        settings.watching.client_timeout = 330
        # Else kopf kills this whole process some minutes after it failed.
        settings.process.ultimate_exiting_timeout = None

    @kopf.on.event(ADMISSIONS.group, ADMISSIONS.version, ADMISSIONS.plural, registry=handlers)
    def seen(event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] != "DELETED":  # that was most likely the recorder itself
            admission_seen()

    return handlers


def _by_address(found: kopf.ConnectionInfo) -> kopf.ConnectionInfo:
    """Reach the API server as everything else of ours does: without the cluster's DNS."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{part}") for part in ("HOST", "PORT"))
    if not host or not port:
        return found
    address = f"[{host}]" if ":" in host else host
    return replace(found, server=f"https://{address}:{port}")
