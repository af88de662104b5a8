"""The recorded commands once more, on a live control plane: nothing has become another class."""

from __future__ import annotations

import pytest

from tests.core.assess.recording import play
from tests.core.assess.support import Recorded, request_of
from tests.core.assess.test_classify import BY_PEOPLE, CHILD, NO_DELTA, NOT_QUIET
from trailgate.assess import templates
from trailgate.assess.callers import CHILD_KIND
from trailgate.assess.classify import classify
from trailgate.assess.images import find_images
from trailgate.model.admission import Kind, Operation


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_live_control_plane_sends_what_the_design_says(control_plane_with_controllers):
    seen = [
        Recorded(review["step"], request_of(review["request"]))
        for review in play(control_plane_with_controllers, "assess-live")
    ]
    expected = BY_PEOPLE | NOT_QUIET
    wrong, unmatched = [], []
    known: dict[tuple[Kind, str], list[templates.Template]] = {}
    for item in seen:
        asked, found = item.request, classify(item.request)
        classes = expected.get((item.step, item.what), {CHILD, NO_DELTA})
        if found.change_class not in (classes if isinstance(classes, set) else {classes}):
            wrong.append((item.step, item.what, found.change_class))
        if found.claim is not None and asked.operation is Operation.CREATE:
            child = templates.of_child(
                asked.kind, asked.object, find_images(asked.kind, asked.object)
            )
            if child.template not in known.get((found.claim.kind, found.claim.uid), []):
                unmatched.append((item.step, item.what))
        if asked.kind in CHILD_KIND and asked.object and not asked.subresource:
            owner = templates.of_owner(asked.kind, asked.object)
            known.setdefault((asked.kind, asked.object["metadata"]["uid"]), []).append(owner)
    assert wrong == []
    assert unmatched == []
    assert expected.keys() <= {(item.step, item.what) for item in seen}
