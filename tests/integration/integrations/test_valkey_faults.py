"""Every way of recording while Valkey is full, or paused: everything is kept, once."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import redis

from agentmodel import AgentModel, Settings
from tests.integration.integrations.process_end import RECORDERS
from tests.integration.integrations.test_process_end import PACKAGES
from tests.integration.integrations.test_table_away import executions
from tests.integration.test_reads_in_outage import PausedServer, await_answers


@pytest.mark.parametrize("fault", ["full", "paused"])
@pytest.mark.parametrize("recorder", RECORDERS)
def test_every_call_is_kept_once(settings: Settings, tmp_path: Path, recorder: str, fault: str) -> None:
    """Calls before the fault, and in it by an old and a new user, are in the table once; the latter at once."""
    if recorder in PACKAGES:
        pytest.importorskip(PACKAGES[recorder], reason="the framework is an extra")
    with (
        closing(PausedServer(tmp_path / "valkey")) as server,
        AgentModel.from_settings(settings.model_copy(update={"valkey_url": None})) as far,
    ):
        changed = settings.model_copy(update={"valkey_url": server.url, "valkey_timeout": 0.1})
        with AgentModel.from_settings(settings.model_copy(update={"valkey_url": server.url})) as warm:
            warm.table.create()
            RECORDERS[recorder](warm)("before")
        with AgentModel.from_settings(changed) as model:
            run = RECORDERS[recorder](model)
            with closing(redis.Redis.from_url(server.url.replace("valkey:", "redis:", 1))) as direct:
                if fault == "full":
                    direct.config_set("maxmemory", 1)
                else:
                    server.pause()
                run("before")
                run("ada")
                for close in tuple(model.on_close):  # trackers and processors write what they have
                    close()
                meanwhile = [len(executions(far, user)) for user in ("USRbefore", "USRada")]
                server.resume()
                direct.config_set("maxmemory", 0)
            await_answers(model)
            model.drain()
        stored = {user: [one.call_id for one in executions(far, user)] for user in ("USRbefore", "USRada")}

    assert [1, 1] == meanwhile
    assert {"USRbefore": 2, "USRada": 1} == {user: len(calls) for user, calls in stored.items()}
    assert 3 == len({call for calls in stored.values() for call in calls})
