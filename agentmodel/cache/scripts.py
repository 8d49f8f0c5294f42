"""The Lua scripts: each does in one step what must not be seen half done.

All keys of a call are passed as keys and lie in one slot. Versions are compared as the fixed-width text the codec
writes in front of every value. Every script may be sent twice: the second time changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeAlias

__all__ = ["ADOPT", "BURY", "CLAIM", "DROP", "FILL", "KNOWN", "NOTE", "OPEN", "PUT", "RECORD", "RELEASE", "RETIRE"]
__all__ += ["RETRY", "SETTLE", "STORE", "SWAP", "TAKE", "Command", "Plain", "Script", "plain_of", "text_of"]

Command: TypeAlias = tuple[Any, ...]
"""One command as redis-py's ``execute_command`` takes it."""

KNOWN = "\x00known"
"""Field that says a hash holds all of its partition. No sort key holds a control character."""

Plain: TypeAlias = Callable[[Any, list[str], list[bytes]], Any]
"""Gets a `agentmodel.cache.plain.Try`, keys and arguments, and gives the script's answer."""

_texts: dict[str, str] = {}
_plains: dict[str, Plain] = {}


class Script:
    """A Lua text and its SHA-1, by which it is called.

    Args:
        text: The script.
        plain: Does the same where there is no Lua; see `agentmodel.cache.plain`, which has those of this module.
        frees: It makes room in the end, so it may run on a server that is out of memory.
    """

    def __init__(self, text: str, *, plain: Plain | None = None, frees: bool = False) -> None:
        self.text = ("#!lua flags=allow-oom" if frees else "") + text.replace("KNOWN", "'\\0known'")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        _texts[self.sha] = self.text
        if plain is not None:
            _plains[self.sha] = plain

    def on(self, keys: list[str], *args: Any) -> Command:
        """The command that runs the script on ``keys``."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


def text_of(sha: str) -> str:
    """The text of a script, for a server that has lost it."""
    return _texts[sha]


def plain_of(sha: str) -> Plain | None:
    """What was given to do a script's work without Lua."""
    return _plains.get(sha)


RECORD = Script("""
-- KEYS: journal, then (overlay, numbers) of each partition. ARGV: limit, TTL of the numbers, the partitions, then 8
-- values of each entry: place of its partition, sort key, fixed, expiry, data, family, call, number or ''.
-- Answers the depth, then (code, number) of each entry, which are left out when all of them were appended:
-- 0 appended, 1 was there already, 2 number taken, 3 the call has another number, 4 numbers unknown, 5 journal full.
local depth, limit, parts = redis.call('XLEN', KEYS[1]), tonumber(ARGV[1]), (#KEYS - 1) / 2
local out, all, asked = {0}, true, {}
for a = 3 + parts, #ARGV, 8 do
  local part, sk, fixed, data, number = tonumber(ARGV[a]), ARGV[a + 1], ARGV[a + 2], ARGV[a + 4], ARGV[a + 7]
  local overlay, numbers, code, free = KEYS[part * 2], KEYS[part * 2 + 1], 0, 0
  local family, mine, place, had, most
  if number ~= '' then
    family = ARGV[a + 5]
    mine, place = 'c' .. family .. '\\0' .. ARGV[a + 6], 'n' .. family .. '\\0' .. number
    local found = redis.call('HMGET', numbers, KNOWN, mine, 'm' .. family, place)
    had, most = found[2], tonumber(found[3] or '0')
    if not found[1] then
      code = 4
    else
      asked[part] = true
      if had and string.match(had, '^%d+') ~= number then
        code, free = 3, tonumber(string.match(had, '^%d+'))
      elseif had and fixed == '1' and string.sub(had, -1) ~= '?' then
        code = 1
      elseif not had and found[4] then
        code, free = 2, most + 1
      end
    end
  end
  if code == 0 then
    local held = redis.call('HGET', overlay, sk)
    if held and string.sub(held, 1, 20) >= string.sub(data, 1, 20) then
      code = 1
    elseif depth >= limit then
      code = 5
    else
      redis.call('XADD', KEYS[1], '*', 'k', ARGV[2 + part], 'm', sk, 'i', fixed, 'x', ARGV[a + 3], 'd', data)
      redis.call('HSET', overlay, sk, data)
      depth = depth + 1
    end
    if number ~= '' then
      local kept = number .. (code == 5 and '?' or '')
      if had then
        redis.call('HSET', numbers, mine, kept)
      elseif tonumber(number) > most then
        redis.call('HSET', numbers, mine, kept, place, '1', 'm' .. family, number)
      else
        redis.call('HSET', numbers, mine, kept, place, '1')
      end
    end
  end
  all = all and code == 0
  out[#out + 1], out[#out + 2] = code, free
end
for part = 1, parts do
  if asked[part] then redis.call('EXPIRE', KEYS[part * 2 + 1], ARGV[2]) end
end
if all then return {depth} end
out[1] = depth
return out
""")
"""Appends entries: journal, overlay and attempt numbers. A claimed number whose entry found no room ends in ``?``."""

OPEN = Script("""
-- KEYS: numbers, copy. ARGV: TTL of the numbers, TTL of an empty copy or '', then (family, call, number).
for i = 3, #ARGV, 3 do
  local most = tonumber(redis.call('HGET', KEYS[1], 'm' .. ARGV[i]) or '0')
  if tonumber(ARGV[i + 2]) > most then redis.call('HSET', KEYS[1], 'm' .. ARGV[i], ARGV[i + 2]) end
  redis.call('HSETNX', KEYS[1], 'c' .. ARGV[i] .. '\\0' .. ARGV[i + 1], ARGV[i + 2])
  redis.call('HSET', KEYS[1], 'n' .. ARGV[i] .. '\\0' .. ARGV[i + 2], '1')
end
redis.call('HSET', KEYS[1], KNOWN, '1')
redis.call('EXPIRE', KEYS[1], ARGV[1])
if ARGV[2] ~= '' and redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('HSET', KEYS[2], KNOWN, '1')
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return 1
""")
"""Says which attempt numbers a partition has; what was recorded meanwhile stays."""

TAKE = Script(
    """
-- KEYS: journal. ARGV: group, consumer, count, idle in ms, deliveries from which an entry is suspect.
-- Answers the number of suspects seen, then each entry taken as {id, deliveries, fields}; or, one text to parse being
-- quicker than fourteen, as 'id NUL deliveries NUL k NUL m NUL i NUL x NUL d' when it is such a one.
if redis.call('XLEN', KEYS[1]) == 0 then return {0} end
local out, suspects = {0}, 0
local count, suspect = tonumber(ARGV[3]), tonumber(ARGV[5])
local function put(id, deliveries, f)
  if #f == 10 and f[1] == 'k' and f[3] == 'm' and f[5] == 'i' and f[7] == 'x' and f[9] == 'd'
    and not string.find(f[2] .. f[4] .. f[6] .. f[8], '%z') then
    out[#out + 1] = table.concat({id, deliveries, f[2], f[4], f[6], f[8], f[10]}, '\0')
  else
    out[#out + 1] = {id, deliveries, f}
  end
end
local waiting = redis.pcall('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[4], '-', '+', count)
if waiting.err then
  if not string.find(waiting.err, 'NOGROUP', 1, true) then return redis.error_reply(waiting.err) end
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0')
  waiting = {}
end
for _, one in ipairs(waiting) do
  if one[4] >= suspect then
    suspects = suspects + 1
  else
    local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[4], one[1])
    if claimed[1] then put(one[1], one[4] + 1, claimed[1][2]) end
  end
end
local room = count - (#out - 1)
if room > 0 then
  local fresh = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', room, 'STREAMS', KEYS[1], '>')
  if fresh and fresh[1] then
    for _, entry in ipairs(fresh[1][2]) do put(entry[1], 1, entry[2]) end
  end
end
out[1] = suspects
return out
""",
    frees=True,
)
"""Takes entries: those a dead drainer left (XPENDING does not raise delivery counts, XAUTOCLAIM would), then new."""

ADOPT = Script("""
-- KEYS: journal. ARGV: group, consumer, idle in ms, suspect from. Answers one suspect as {id, deliveries, fields}.
for _, one in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1000)) do
  if one[4] >= tonumber(ARGV[4]) then
    local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], one[1])
    if claimed[1] then return {one[1], one[4] + 1, claimed[1][2]} end
  end
end
return {}
""")
"""Takes one entry that may have killed its drainers, alone."""

RELEASE = Script("""
-- KEYS: journal. ARGV: group, consumer, then (id, deliveries before).
for i = 3, #ARGV, 2 do
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', 86400000, 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
end
return 1
""")
"""Hands entries back that could not be written now: next to be taken, and not counted as a delivery that killed."""

SETTLE = Script(
    """
-- KEYS: journal, then (overlay, copy) of each partition. ARGV: group, then of each partition how many entries, and each
-- as 'id version expiry stale sort-key', of which the expiry may be empty.
local ids, at = {}, 2
for k = 2, #KEYS, 2 do
  local overlay, copy, last = KEYS[k], KEYS[k + 1], at + tonumber(ARGV[at])
  for a = at + 1, last do
    local id, version, expiry, stale, sk = string.match(ARGV[a], '^(%S+) (%d+) (%d*) (%d) (.*)$')
    ids[#ids + 1] = id
    local held = redis.call('HGET', overlay, sk)
    if held and string.sub(held, 1, 20) == version then
      redis.call('HDEL', overlay, sk)
      if stale == '1' then
        redis.call('UNLINK', copy)
      elseif redis.call('EXISTS', copy) == 1 then
        local had = redis.call('HGET', copy, sk)
        if not had or string.sub(had, 1, 20) < version then redis.call('HSET', copy, sk, held) end
        if expiry ~= '' then redis.call('EXPIREAT', copy, expiry, 'LT') end
      end
    end
  end
  at = last + 1
end
redis.call('XACK', KEYS[1], ARGV[1], unpack(ids))
return redis.call('XDEL', KEYS[1], unpack(ids))
""",
    frees=True,
)
"""Acknowledges entries that are in the table: out of journal and overlay, into the near copy, in one step."""

BURY = Script(
    """
-- KEYS: journal, dead letters. ARGV: group, id, reason, then the entry's fields.
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if redis.call('XDEL', KEYS[1], ARGV[2]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', 'reason', ARGV[3], unpack(ARGV, 4))
return 1
""",
    frees=True,
)
"""Moves an entry to the dead letters with its reason. Its overlay stays until it is retried or dropped."""

RETRY = Script("""
-- KEYS: dead letters, journal. ARGV: id.
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not found then return 0 end
local fields = {}
for i = 1, #found[2], 2 do
  if found[2][i] ~= 'reason' then
    fields[#fields + 1] = found[2][i]
    fields[#fields + 1] = found[2][i + 1]
  end
end
redis.call('XADD', KEYS[2], '*', unpack(fields))
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
""")
"""Puts a dead letter back into the journal."""

DROP = Script("""
-- KEYS: dead letters, overlay. ARGV: id, sort key, version.
local held = redis.call('HGET', KEYS[2], ARGV[2])
if held and string.sub(held, 1, 20) == ARGV[3] then redis.call('HDEL', KEYS[2], ARGV[2]) end
return redis.call('XDEL', KEYS[1], ARGV[1])
""")
"""Gives a dead letter up."""

RETIRE = Script("""
-- KEYS: journal. ARGV: group, consumer. A consumer with pending entries stays: deleting it would lose them.
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err then return 0 end
for _, one in ipairs(consumers) do
  local named = {}
  for i = 1, #one, 2 do named[one[i]] = one[i + 1] end
  if named.pending == 0 and (named.name == ARGV[2] or named.idle > 86400000) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], named.name)
  end
end
return 1
""")
"""Takes a consumer's name out of a group, and the names of those that did nothing for a day."""

CLAIM = Script("""
-- KEYS: copy. ARGV: token, seconds. Leaves the token in a copy that is not complete.
if redis.call('HEXISTS', KEYS[1], KNOWN) == 1 then return 0 end
redis.call('HSET', KEYS[1], '\\0' .. ARGV[1], '1')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
""")
"""Begins a fill: from now on settled entries go into the copy, and a `forget` takes the token away."""

FILL = Script("""
-- KEYS: copy. ARGV: token, seconds to live, then (sort key, value).
if redis.call('HDEL', KEYS[1], '\\0' .. ARGV[1]) == 0 then return 0 end
for i = 3, #ARGV, 2 do
  local had = redis.call('HGET', KEYS[1], ARGV[i])
  if not had or string.sub(had, 1, 20) < string.sub(ARGV[i + 1], 1, 20) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('HSET', KEYS[1], KNOWN, '1')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
""")
"""Ends a fill: what was loaded joins what was settled meanwhile, newer versions win; refused without the token."""

NOTE = Script("""
-- KEYS: copy. ARGV: (sort key, value, expiry or '').
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for i = 1, #ARGV, 3 do
  local had = redis.call('HGET', KEYS[1], ARGV[i])
  if not had or string.sub(had, 1, 20) < string.sub(ARGV[i + 1], 1, 20) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
  if ARGV[i + 2] ~= '' then redis.call('EXPIREAT', KEYS[1], ARGV[i + 2], 'LT') end
end
return 1
""")
"""Puts items that were written straight to the table into a copy that exists."""

STORE = Script("""
-- KEYS: value, lock. ARGV: token, value, ms to live, version seen before loading or '', negative.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[2])
local had = redis.call('GET', KEYS[1])
local version = had and string.sub(had, 1, 20)
if had and ARGV[5] == '1' and version ~= ARGV[4] then return 0 end
if had and ARGV[5] ~= '1' and version > string.sub(ARGV[2], 1, 20) then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""")
"""Fills a read-through value: refused when it was invalidated meanwhile, or when what is there is newer."""

PUT = Script("""
-- KEYS: value. ARGV: value, ms to live. 1 unless a newer version is there.
local had = redis.call('GET', KEYS[1])
if had and string.sub(had, 21, 21) == 'P' and string.sub(had, 1, 20) > string.sub(ARGV[1], 1, 20) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")
"""Puts a value that was just written, unless a newer one is there."""

SWAP = Script("""
-- KEYS: ranking, its replacement, its head. ARGV: run as 20 digits, head.
local first = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
local run = first and string.sub(first, 2)
if run and run > ARGV[1] then
  redis.call('UNLINK', KEYS[2])
  return 0
end
if redis.call('EXISTS', KEYS[2]) == 0 then return run == ARGV[1] and 1 or 0 end
redis.call('PERSIST', KEYS[2])
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('SET', KEYS[3], ARGV[2])
return 1
""")
"""Replaces a ranking at once; an older run never replaces a newer one."""
