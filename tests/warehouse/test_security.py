"""Row level security: who forgets to say WHERE sees no other organisation's rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ProgrammingError

from feature_repo.schema import create_tables
from turnout.errors import ConfigurationError
from turnout.settings import Settings
from turnout.warehouse import security
from turnout.warehouse.partitions import ensure_months
from turnout.warehouse.tables import email_event, event, metadata, plan
from turnout.warehouse.views import VIEWS

TODAY = date(2026, 11, 25)


@contextmanager
def acting(engine: Engine, organisation: str | None) -> Iterator[Connection]:
    """A transaction as the service has it."""
    with engine.begin() as connection:
        connection.execute(sa.text(f"SET LOCAL ROLE {security.SERVICE_ROLE}"))
        if organisation is not None:
            name(connection, organisation)
        yield connection


def name(connection: Connection, organisation: str) -> None:
    connection.execute(
        sa.text("SELECT set_config(:name, :value, true)"), {"name": security.ORGANISATION, "value": organisation}
    )


def plan_of(organisation: str) -> dict[str, object]:
    return {
        "plan_id": uuid4(), "organisation": organisation, "event_id": "evt_1", "brief": {},
        "answer": {"of": organisation}, "model_versions": [], "created_at": datetime.now(UTC),
    }  # fmt: skip


def event_of(organisation: str) -> dict[str, object]:
    return {
        "organisation": organisation, "event_id": f"evt_{organisation}", "name": "AI", "event_date": TODAY,
        "category": "ai_data", "format": "online", "time_zone": "Asia/Tokyo", "currency": "JPY",
        "source": "spreadsheet", "account": "", "run_id": uuid4(), "fetched_at": datetime.now(UTC),
    }  # fmt: skip


@pytest.fixture
def two(engine: Engine) -> Engine:
    """The same event and a plan of two organisations."""
    with engine.begin() as connection:
        for table, row in ((plan, plan_of), (event, event_of)):
            connection.execute(sa.insert(table), [row("ours"), row("theirs")])
    return engine


def test_every_table_with_an_organisation_is_protected(engine: Engine):
    with engine.begin() as connection:
        create_tables(connection)
        unprotected = connection.scalars(
            sa.text("""
                SELECT n.nspname || '.' || c.relname FROM pg_class c
                JOIN pg_namespace n ON n.oid = c.relnamespace
                JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organisation' AND NOT a.attisdropped
                WHERE n.nspname IN ('turnout', 'features') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                  AND NOT (c.relrowsecurity AND EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = c.oid))""")
        ).all()
    assert unprotected == []
    assert sum("organisation" in t.c for t in metadata.sorted_tables) >= 20


def test_a_query_without_where_sees_only_the_own_organisation(two: Engine):
    for organisation in ("ours", "theirs"):
        with acting(two, organisation) as connection:
            assert connection.scalars(sa.select(plan.c.organisation)).all() == [organisation]
            assert connection.scalars(sa.text("SELECT organisation FROM turnout.event")).all() == [organisation]
            assert connection.scalars(sa.text("SELECT organisation FROM turnout.event_summary")).all() == [organisation]


@pytest.mark.parametrize("organisation", [None, "", "nobody", "ours' OR 'a'='a"])
def test_who_names_no_organisation_sees_nothing(two: Engine, organisation: str | None):
    with acting(two, organisation) as connection:
        for table in (plan, event):
            assert connection.execute(sa.select(table.c.organisation)).all() == []
        for view in VIEWS:
            assert connection.execute(sa.text(f"SELECT * FROM turnout.{view}")).all() == []


def test_the_name_is_gone_with_the_transaction(two: Engine):
    with two.connect() as connection:
        for organisation, seen in (("ours", ["ours"]), (None, [])):
            with connection.begin():
                connection.execute(sa.text(f"SET LOCAL ROLE {security.SERVICE_ROLE}"))
                if organisation:
                    name(connection, organisation)
                assert connection.scalars(sa.select(plan.c.organisation)).all() == seen


def test_rows_cannot_be_written_for_somebody_else(two: Engine):
    with acting(two, "ours") as connection:
        connection.execute(sa.insert(plan), plan_of("ours"))
    with pytest.raises(ProgrammingError, match="row-level security"), acting(two, "ours") as connection:
        connection.execute(sa.insert(plan), plan_of("theirs"))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM turnout.plan", "UPDATE turnout.plan SET organisation = 'ours'", "TRUNCATE turnout.plan",
        "ALTER TABLE turnout.plan DISABLE ROW LEVEL SECURITY", "SELECT secret_hash FROM turnout.api_key",
        "INSERT INTO turnout.event SELECT * FROM turnout.event", "CREATE TABLE turnout.mine (a int)",
        "DROP POLICY own_organisation ON turnout.plan", "SELECT * FROM features.tactic_stats",
        "SELECT * FROM turnout.email_event_2026_11", "SELECT * FROM turnout.ad_performance_default",
    ],
)  # fmt: skip
def test_the_service_may_do_no_more_than_it_needs(two: Engine, statement: str):
    with two.begin() as connection:
        create_tables(connection)
        ensure_months(connection, email_event, TODAY, TODAY)
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"), acting(two, "ours") as connection:
        connection.execute(sa.text(statement))


def test_the_owner_still_works_for_everybody(two: Engine):
    with two.connect() as connection:
        assert sorted(connection.scalars(sa.select(plan.c.organisation))) == ["ours", "theirs"]


def test_securing_again_changes_nothing(engine: Engine, settings: Settings):
    state = sa.text(
        "SELECT relname, xmin::text, relacl::text FROM pg_class WHERE relnamespace = 'turnout'::regnamespace ORDER BY 1"
    )
    with engine.begin() as connection:
        security.secure(connection, settings)
    with engine.begin() as connection:
        before = connection.execute(state).all()
        security.secure(connection, settings)
        assert connection.execute(state).all() == before


@pytest.fixture
def login(engine: Engine, settings: Settings) -> Iterator[Settings]:
    """Settings with a log-in of the service's own."""
    assert settings.database_url is not None
    url = make_url(settings.database_url)
    url = url.set(username=f"web_{url.database}", password="word';DROP--")
    yield settings.model_copy(update={"service_database_url": url.render_as_string(hide_password=False)})
    with engine.begin() as connection:
        connection.execute(sa.text(f'DROP ROLE IF EXISTS "{url.username}"'))


def test_the_services_own_login_is_made_and_can_do_nothing_without_the_role(two: Engine, login: Settings):
    assert login.service_database_url is not None
    for _ in range(2):
        with two.begin() as connection:
            security.secure(connection, login)
    own = sa.create_engine(make_url(login.service_database_url).set(drivername="postgresql+psycopg"))
    with acting(own, "ours") as connection:
        assert connection.scalars(sa.select(plan.c.organisation)).all() == ["ours"]
        connection.execute(sa.text("RESET ROLE"))
        assert connection.scalars(sa.select(plan.c.organisation)).all() == ["ours"], "its own rights are no wider"
    with pytest.raises(ProgrammingError, match="permission denied"), own.begin() as connection:
        connection.execute(sa.text("SET ROLE postgres"))
    own.dispose()


def test_a_login_that_no_policy_binds_is_refused(engine: Engine, settings: Settings):
    owner = settings.model_copy(update={"service_database_url": settings.database_url})
    with engine.begin() as connection, pytest.raises(ConfigurationError, match="does not bind"):
        security.secure(connection, owner)


def test_an_owner_who_may_not_make_roles_is_told_what_to_run(engine: Engine):
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE ROLE plain_owner NOLOGIN"))
        connection.execute(sa.text("SET LOCAL ROLE plain_owner"))
        with pytest.raises(ConfigurationError, match='GRANT turnout_service TO "plain_owner"'):
            security._ensure_role(connection)
        connection.rollback()
