"""The rendered Redshift text, run on a real PostgreSQL, against the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from agentmodel.redshift.render import rendered
from tests.integration.redshift_histories import corrected, told
from tests.integration.redshift_oracle import expected
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

pytest.importorskip("sqlalchemy_redshift", reason="sqlalchemy-redshift renders the statements")

DAY = date(2025, 6, 14)
"""The day that the rendered terms hold."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


def script(files: dict[str, str], *names: str) -> str:
    return "".join(f"{translated(one)};\n" for name in names for one in statements(files[name]))


def test_the_rendered_text_gives_the_oracles_tables(server: Server) -> None:
    """Built from nothing, brought up to date and built anew, every table is the oracle's; every report runs."""
    files = rendered(LANDED)
    refresh = [name for name in sorted(files) if "10" <= name[:2] <= "19"]
    path, feed = warehouse_in("whole"), told()
    server.run(created("whole") + path + script(files, "02_tables.sql", "03_staging_view.sql", "04_terms.sql"))
    server.run(path + landed(feed.rows()) + script(files, *refresh))
    assert expected(feed.present(), DAY) == tables(server, "whole")

    corrected(feed)
    server.run(path + landed(feed.rows()) + script(files, *refresh))
    assert expected(feed.present(), DAY) == tables(server, "whole")

    server.run(path + script(files, "full_build.sql"))
    assert expected(feed.present(), DAY) == tables(server, "whole")
    for name in sorted(files):
        if name.startswith("3"):
            server.run(path + script(files, name))


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
    assert expected(feed.present(), DAY) == tables(server, "lost")
