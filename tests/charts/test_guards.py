"""The guards on a real API server, without a gate: each refuses, and each lets the rest be."""

import json
import time
import uuid

import pytest

from e2e.controlplane.helm import CHART
from e2e.controlplane.kubeconfig import User
from tests.charts.installing import eventually, installed
from tests.charts.rendering import NAMESPACE, at
from tests.kube.batches import PREV, SIGNED
from trailgate_kube.resources import WORKLOADS

pytestmark = [pytest.mark.cluster, pytest.mark.helm]
