import json
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def vectors():
    """What Go's golang.org/x/mod/sumdb says: written by oracle/main.go."""
    return json.loads((Path(__file__).parent / "vectors.json").read_text())
