"""The Lua scripts of this station; as all scripts they may be sent twice, the second time changes nothing."""

from __future__ import annotations

from typing import Any

from agentmodel.cache.scripts import Script

__all__ = ["REPLACE"]


def _replace(go: Any, keys: list[str], argv: list[bytes]) -> bytes | None:
    """The same where there is no Lua."""
    wanted, value, seconds = argv
    go.watch(keys[0])
    held: bytes | None = go.ask("GET", keys[0])
    if held and held != wanted:
        return held
    go.do("SET", keys[0], value, "EX", seconds)
    return None


REPLACE = Script(
    """
-- KEYS: value. ARGV: what is expected to be held ('' for nothing), what to hold, seconds to keep it.
-- Answers what is held instead where that differs.
local held = redis.call('GET', KEYS[1]) or ''
if held ~= ARGV[1] then
  if held == '' then
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
    return false
  end
  return held
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return false
""",
    plain=_replace,
)
"""Compares and sets."""
