"""The HTTP API over a real service process."""

from __future__ import annotations

import time

import pytest

from tests.serving.conftest import brief

pytestmark = pytest.mark.xdist_group("service")


def test_a_brief_becomes_a_plan(service):
    answer = service.http.post("/v1/plans", json=brief())
    assert answer.status_code == 201, answer.text
    plan = answer.json()
    assert answer.headers["location"] == f"/v1/plans/{plan['plan_id']}"
    assert {a["is_paid"] for a in plan["allocations"]} == {True, False}
