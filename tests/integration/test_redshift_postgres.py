"""The rendered Redshift text, run on a real PostgreSQL, against the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import pytest

pytest.importorskip("sqlalchemy_redshift", reason="sqlalchemy-redshift renders the statements")
pytest.importorskip("sqlglot", reason="sqlglot parses Redshift's grammar")

from agentmodel._erasure_marks import user_key
from agentmodel.redshift import export, render_sql
from agentmodel.redshift._refresh_sql import erase_user
from agentmodel.redshift.render_sql import rendered
from agentmodel.redshift.warehouse import Warehouse
from tests.integration.redshift_histories import Feed, corrected, deletions, told
from tests.integration.redshift_lint import broken
from tests.integration.redshift_oracle import derived_categories, expected, held
from tests.integration.redshift_postgres import (
    LANDED,
    Server,
    created,
    landed,
    statements,
    tables,
    translated,
    warehouse_in,
)

DAY = date(2025, 6, 14)
"""The day that the rendered terms hold."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


def script(files: dict[str, str], *names: str) -> str:
    return "".join(f"{translated(one)};\n" for name in names for one in statements(files[name]))


def assigned(feed: Feed) -> str:
    """A script that stores the derived category of every request."""
    rows = ", ".join(
        f"('{user}', md5('{request}'), '', '', '{category}', NULL, 0)"
        for user, request, category in derived_categories(feed.present())
    )
    return f"DELETE FROM derived_category; INSERT INTO derived_category VALUES {rows};\n"


def test_the_rendered_text_gives_the_oracles_tables(server: Server) -> None:
    """Built from nothing, brought up to date and built anew, every table is the oracle's; every report runs."""
    files = rendered(LANDED)
    refresh = [name for name in sorted(files) if "10" <= name[:2] <= "19"]
    path, feed = warehouse_in("whole"), told()
    server.run(created("whole") + path + script(files, "02_tables.sql", "03_staging_view.sql", "04_terms.sql"))
    server.run(path + landed(feed.rows()) + assigned(feed) + script(files, *refresh))
    assert expected(feed.present(), DAY) == tables(server, "whole")

    corrected(feed)
    server.run(path + landed(feed.rows()) + assigned(feed) + script(files, *refresh))
    assert expected(feed.present(), DAY) == tables(server, "whole")

    server.run(path + script(files, "full_build.sql"))
    assert expected(feed.present(), DAY) == tables(server, "whole")
    for name in sorted(files):
        if name.startswith("3"):
            server.run(path + script(files, name))


def test_an_erased_user_leaves_the_tables(server: Server) -> None:
    """Erased, a user is in no table and no count, also after a full build of what zero-ETL landed of the user."""
    files = rendered(LANDED)
    refresh = [name for name in sorted(files) if "10" <= name[:2] <= "19"]
    path, feed = warehouse_in("erased"), told()
    user = min(pk.partition("#")[0] for pk, _ in feed.present() if pk.startswith("USR") and "#" in pk)
    digest = user_key(user)
    server.run(created("erased") + path + script(files, "02_tables.sql", "03_staging_view.sql", "04_terms.sql"))
    server.run(path + landed(feed.rows()) + script(files, *refresh))
    parameters = replace(render_sql._parameters(LANDED), since=None)
    erase = [render_sql._text(step.statement, render_sql._redshift()) for step in erase_user(parameters, digest)]
    mark = f"INSERT INTO erased_user VALUES ('{digest}', {2**62})"
    others = {key: item for key, item in feed.present().items() if key[0].partition("#")[0] != user}

    server.run(path + ";\n".join(map(translated, [mark, *erase])) + ";")
    assert expected(others, DAY, derived=False) == tables(server, "erased")
    server.run(path + script(files, *refresh))
    assert expected(others, DAY, derived=False) == tables(server, "erased")
    server.run(path + script(files, "full_build.sql"))
    assert expected(others, DAY, derived=False) == tables(server, "erased")


def test_the_statements_of_an_export_run(server: Server) -> None:
    """Redshift's text of what an export asks keeps every rule of the lint, and PostgreSQL takes it."""
    files = rendered(LANDED)
    path, feed = warehouse_in("exported"), told()
    server.run(created("exported") + path + script(files, "02_tables.sql", "03_staging_view.sql", "04_terms.sql"))
    server.run(
        path + landed(feed.rows()) + script(files, *[name for name in sorted(files) if "10" <= name[:2] <= "19"])
    )
    asked = [export._signatures(each) for each in export._TABLES.values()]
    asked += [export._select(each, ("202506", None) if each.month else ()) for each in export._TABLES.values()]
    texts = [render_sql._text(each, render_sql._redshift()) for each in asked]

    assert [] == [(text, broken(text)) for text in texts if broken(text)]
    for text in texts:
        server.run(f"{path}{translated(text)};")


def test_a_persons_deletion_is_not_taken_for_an_expiry(server: Server) -> None:
    """Asked for before or after the expiry, shown early or late, a deletion takes a call out of the tables of both engines."""
    files = rendered(LANDED)
    refresh = [name for name in sorted(files) if "10" <= name[:2] <= "19"]
    path = warehouse_in("asked_for")
    server.run(created("asked_for") + path + script(files, "02_tables.sql", "03_staging_view.sql", "04_terms.sql"))
    counted = []
    with Warehouse.open("duckdb://", threads=1) as warehouse:
        warehouse.create()
        for feed in deletions():
            counted.append(sum(not key.startswith("DELETED#") for key, _ in feed.present()))
            server.run(path + landed(feed.rows()) + script(files, *refresh))
            feed.show(warehouse)
            warehouse.refresh(as_of=DAY)
            assert expected(feed.present(), DAY, derived=False) == tables(server, "asked_for")
            assert expected(feed.present(), DAY) == held(warehouse)
        server.run(path + script(files, "full_build.sql"))
        warehouse.refresh(as_of=DAY, full=True)
        assert expected(feed.present(), DAY, derived=False) == tables(server, "asked_for")
        assert expected(feed.present(), DAY) == held(warehouse)

    assert [4, 3, 3, 2, 3, 3] == counted


def test_a_session_that_ends_between_two_statements_changes_nothing(server: Server) -> None:
    """Wherever in the refresh the connection is lost, no table has changed, and the next run gives the oracle's."""
    files = rendered(LANDED)
    refresh = [one for name in sorted(files) if "10" <= name[:2] <= "19" for one in statements(files[name])]
    path, feed = warehouse_in("lost"), told()
    server.run(created("lost") + path + script(files, "02_tables.sql", "03_staging_view.sql", "04_terms.sql"))
    server.run(path + landed(feed.rows()) + ";\n".join(map(translated, refresh)) + ";")
    before = tables(server, "lost")
    corrected(feed)
    server.run(path + landed(feed.rows()))

    for count in range(1, len(refresh)):
        server.run(path + ";\n".join(map(translated, refresh[:count])) + ";")
        assert before == tables(server, "lost"), refresh[count - 1]
    server.run(path + ";\n".join(map(translated, refresh)) + ";")
    assert expected(feed.present(), DAY, derived=False) == tables(server, "lost")
