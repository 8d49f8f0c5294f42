"""Fixtures of the integration tests."""

from __future__ import annotations

from contextlib import closing

import pytest
import redis

NO_SCRIPTS = ["-eval", "-evalsha", "-eval_ro", "-evalsha_ro", "-@scripting"]


@pytest.fixture
def url_without_scripts(valkey_url: str) -> str:
    """URL of the empty Valkey for a user who may not run scripts."""
    with closing(redis.Redis.from_url(valkey_url.replace("valkey:", "redis:", 1))) as client:
        client.execute_command(  # type: ignore[no-untyped-call,unused-ignore]  # typed in some versions of redis-py
            "ACL", "SETUSER", "plain", "reset", "on", ">pw", "~*", "&*", "+@all", *NO_SCRIPTS
        )
    return valkey_url.replace("//", "//plain:pw@", 1)


@pytest.fixture(params=["scripts", "no scripts"])
def either_url(request: pytest.FixtureRequest, valkey_url: str) -> str:
    """URL of an empty Valkey: once with scripts, once without."""
    if request.param == "scripts":
        return valkey_url
    url: str = request.getfixturevalue("url_without_scripts")
    return url


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave long runs out unless they are asked for by their mark."""
    if "long" in str(config.getoption("-m")):
        return
    for item in items:
        if item.get_closest_marker("long") is not None:
            item.add_marker(pytest.mark.skip(reason="a long run: ask for it with `pytest -m long`"))
