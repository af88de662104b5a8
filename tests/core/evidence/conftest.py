import pytest

from trailgate.model.evidence import EvidenceFormat


@pytest.fixture(params=list(EvidenceFormat), ids=str)
def stored(request) -> EvidenceFormat:
    return request.param
