"""Whoever lists the workload kinds lists those of the one table."""

import pytest

from trailgate.assess import delta, images
from trailgate.ledger import admitted
from trailgate.model.admission import Kind
from trailgate.model.workload import WORKLOADS


def test_each_kind_and_each_plural_stands_once():
    assert len({one.kind for one in WORKLOADS}) == len({one.plural for one in WORKLOADS}) == 8
    assert all(one.plural == f"{one.kind.kind.lower()}s" for one in WORKLOADS)


def test_the_images_are_looked_for_in_these_kinds():
    assert {one.kind for one in WORKLOADS} == images.WORKLOADS


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one.plural)
def test_the_images_are_looked_for_where_the_template_is(workload):
    thing = {"spec": {"containers": [{"name": "web", "image": "registry.example/web"}]}}
    for name in reversed(workload.template or ()):
        thing = {name: thing}
    (found,) = images.find_images(workload.kind, thing)
    assert found.image == "registry.example/web"


def test_what_is_scaled_is_told_as_what_it_is():
    scaled = {one.plural: one.kind for one in WORKLOADS if one.scaled}
    assert {plural: Kind(*kind) for plural, kind in admitted._SCALED.items()} == scaled
    assert frozenset(scaled.values()) == delta._SCALED
