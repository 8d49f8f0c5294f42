"""Define the Lua scripts; each makes, in one step, changes that no reader may see half done.

All keys of a call are passed as keys and lie in one slot. Versions are compared as the fixed-width text that the codec
writes in front of every value. Every script may be sent twice: the second time changes nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeAlias

__all__ = [
    "ACKNOWLEDGE", "APPEND", "BEGIN_FILL", "CLAIM_SUSPECT", "COMPARE_AND_SET", "COMPLETE", "DEAD_LETTER",
    "DROP_DEAD_LETTER", "END_FILL", "ERASE_ENTRIES", "PUT_IF_NEWER", "READ_ENTRIES", "REGISTER_NUMBERS", "RELEASE",
    "REMOVE_CONSUMER",
    "RETRY_DEAD_LETTER", "STORE_LOADED", "SWAP_RANKING", "UPDATE_COPY", "Command", "Script", "text_of",
]  # fmt: skip

Command: TypeAlias = tuple[Any, ...]
"""One command as redis-py's ``execute_command`` takes it."""

COMPLETE = "\x00known"
"""The field that marks a hash as holding its whole partition. No sort key holds a control character."""

_texts: dict[str, str] = {}


class Script:
    """Hold the text of a Lua script and the SHA-1 it is called by.

    Args:
        text: The script; ``COMPLETE`` in it stands for the marker of that name.
        frees_memory: The script frees more memory than it takes, so it may run on a server that is out of memory.
    """

    def __init__(self, text: str, *, frees_memory: bool = False) -> None:
        self.text = ("#!lua flags=allow-oom" if frees_memory else "") + text.replace("COMPLETE", "'\\0known'")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        _texts[self.sha] = self.text

    def on(self, keys: list[str], *args: Any) -> Command:
        """Return the command that runs the script on ``keys``."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


def text_of(sha: str) -> str:
    """Return the text of the script with this SHA-1, for a server that no longer has it."""
    return _texts[sha]


APPEND = Script("""
-- KEYS: journal, then (overlay, numbers) of each partition. ARGV: limit, TTL of the numbers, the partitions, then 8
-- values of each entry: index of its partition, sort key, immutable, expiry, data, family, call, number or ''.
-- Returns the depth, then (code, number) of each entry, which are left out when all of them were appended:
-- 0 appended, 1 already there, 2 number taken, 3 the call has another number, 4 numbers unknown, 5 journal full.
-- The numbers may lack what the overlay has, such as after an eviction; so the overlay is asked as well.
local function call_of(item) return string.match(item, '"CallID":{"S":"(.-)"') end
local depth, limit, parts = redis.call('XLEN', KEYS[1]), tonumber(ARGV[1]), (#KEYS - 1) / 2
local out, all, used = {0}, true, {}
for a = 3 + parts, #ARGV, 8 do
  local part, sk, immutable, data, number = tonumber(ARGV[a]), ARGV[a + 1], ARGV[a + 2], ARGV[a + 4], ARGV[a + 7]
  local overlay, numbers, code, free = KEYS[part * 2], KEYS[part * 2 + 1], 0, 0
  local family, call, taken, claimed, highest
  if number ~= '' then
    family = ARGV[a + 5]
    call, taken = 'c' .. family .. '\\0' .. ARGV[a + 6], 'n' .. family .. '\\0' .. number
    local found = redis.call('HMGET', numbers, COMPLETE, call, 'm' .. family, taken, 'f')
    claimed, highest = found[2], tonumber(found[3] or '0')
    local floor = found[5] and family <= found[5] and tonumber(string.match(found[5], '%d+$')) or 0
    if not found[1] then
      code = 4
    else
      used[part] = true
      if claimed and string.match(claimed, '^%d+') ~= number then
        code, free = 3, tonumber(string.match(claimed, '^%d+'))
      elseif claimed and immutable == '1' and string.sub(claimed, -1) ~= '?' then
        code = 1
      elseif not claimed and (found[4] or tonumber(number) <= floor) then
        code, free = 2, math.max(highest, floor) + 1
      end
    end
  end
  if code == 0 then
    local current = redis.call('HGET', overlay, sk)
    if current and number ~= '' and call_of(current) ~= call_of(data) then
      highest = math.max(highest, tonumber(number))
      redis.call('HSET', numbers, taken, '1', 'm' .. family, highest)
      code, free = 2, highest + 1
    elseif current and string.sub(current, 1, 20) >= string.sub(data, 1, 20) then
      code = 1
    elseif depth >= limit then
      code = 5
    else
      redis.call('XADD', KEYS[1], '*', 'k', ARGV[2 + part], 'm', sk, 'i', immutable, 'x', ARGV[a + 3], 'd', data)
      redis.call('HSET', overlay, sk, data)
      depth = depth + 1
    end
    if number ~= '' and code ~= 2 then
      local claim = number .. (code == 5 and '?' or '')
      if claimed then
        redis.call('HSET', numbers, call, claim)
      elseif tonumber(number) > highest then
        redis.call('HSET', numbers, call, claim, taken, '1', 'm' .. family, number)
      else
        redis.call('HSET', numbers, call, claim, taken, '1')
      end
    end
  end
  all = all and code == 0
  out[#out + 1], out[#out + 2] = code, free
end
for part = 1, parts do
  if used[part] then redis.call('EXPIRE', KEYS[part * 2 + 1], ARGV[2]) end
end
if all then return {depth} end
out[1] = depth
return out
""")
"""Append entries to the journal and the overlay, and claim their attempt numbers.

A claimed number ends in ``?`` when the journal had no room for its entry. The field ``f`` of the numbers is there when
the table could not be asked which are taken: it is the id of a process, and numbers up to the one in it are given to no
new call, but for the calls of processes with a higher id, which are new.
"""

REGISTER_NUMBERS = Script("""
-- KEYS: numbers, copy. ARGV: TTL of the numbers, TTL of an empty copy or '', the floor or '', then (family, call,
-- number).
for i = 4, #ARGV, 3 do
  local highest = tonumber(redis.call('HGET', KEYS[1], 'm' .. ARGV[i]) or '0')
  if tonumber(ARGV[i + 2]) > highest then redis.call('HSET', KEYS[1], 'm' .. ARGV[i], ARGV[i + 2]) end
  redis.call('HSETNX', KEYS[1], 'c' .. ARGV[i] .. '\\0' .. ARGV[i + 1], ARGV[i + 2])
  redis.call('HSET', KEYS[1], 'n' .. ARGV[i] .. '\\0' .. ARGV[i + 2], '1')
end
redis.call('HSET', KEYS[1], COMPLETE, '1')
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], 'f') else redis.call('HSET', KEYS[1], 'f', ARGV[3]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
if ARGV[2] ~= '' and redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('HSET', KEYS[2], COMPLETE, '1')
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return 1
""")
"""Register the attempt numbers that a partition has in the table; numbers claimed meanwhile stay."""

READ_ENTRIES = Script(
    """
-- KEYS: journal. ARGV: group, consumer, count, idle in ms, deliveries from which an entry is suspect.
-- Returns the number of suspect entries found, then each entry read as {id, deliveries, fields}. An entry with exactly
-- the fields k, m, i, x, d comes as one text, 'id NUL deliveries NUL k NUL m NUL i NUL x NUL d': one text is parsed
-- faster than fourteen.
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
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[4], '-', '+', count)
if pending.err then
  if not string.find(pending.err, 'NOGROUP', 1, true) then return redis.error_reply(pending.err) end
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0')
  pending = {}
end
for _, one in ipairs(pending) do
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
    frees_memory=True,
)
"""Claim the idle entries that a dead drainer left, then read new ones.

XPENDING leaves the delivery counts as they are; XAUTOCLAIM would raise them.
"""

CLAIM_SUSPECT = Script("""
-- KEYS: journal. ARGV: group, consumer, idle in ms, deliveries from which an entry is suspect.
-- Returns one suspect entry as {id, deliveries, fields}, or {}.
for _, one in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1000)) do
  if one[4] >= tonumber(ARGV[4]) then
    local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], one[1])
    if claimed[1] then return {one[1], one[4] + 1, claimed[1][2]} end
  end
end
return {}
""")
"""Claim one entry that may have killed its drainers, so that it is processed alone."""

RELEASE = Script("""
-- KEYS: journal. ARGV: group, consumer, then (id, delivery count to restore).
for i = 3, #ARGV, 2 do
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', 86400000, 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
end
return 1
""")
"""Release entries that could not be written now: they are read next, and this delivery does not count."""

ACKNOWLEDGE = Script(
    """
-- KEYS: journal, then (overlay, copy) of each partition. ARGV: group, then for each partition the number of its
-- entries and each entry as 'id version expiry stale sort-key'; the expiry may be empty.
local ids, at = {}, 2
for k = 2, #KEYS, 2 do
  local overlay, copy, last = KEYS[k], KEYS[k + 1], at + tonumber(ARGV[at])
  for a = at + 1, last do
    local id, version, expiry, stale, sk = string.match(ARGV[a], '^(%S+) (%d+) (%d*) (%d) (.*)$')
    ids[#ids + 1] = id
    local item = redis.call('HGET', overlay, sk)
    if item and string.sub(item, 1, 20) == version then
      redis.call('HDEL', overlay, sk)
      if stale == '1' then
        redis.call('UNLINK', copy)
      elseif redis.call('EXISTS', copy) == 1 then
        local cached = redis.call('HGET', copy, sk)
        if not cached or string.sub(cached, 1, 20) < version then redis.call('HSET', copy, sk, item) end
        if expiry ~= '' then redis.call('EXPIREAT', copy, expiry, 'LT') end
      end
    end
  end
  at = last + 1
end
redis.call('XACK', KEYS[1], ARGV[1], unpack(ids))
return redis.call('XDEL', KEYS[1], unpack(ids))
""",
    frees_memory=True,
)
"""Acknowledge entries that are in the table: delete them from journal and overlay, and move the items to the copy.

The copy of a stale entry's partition is deleted instead, as the table has another version of the item.
"""

DEAD_LETTER = Script(
    """
-- KEYS: journal, dead letters. ARGV: group, id, reason, then the entry's fields.
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if redis.call('XDEL', KEYS[1], ARGV[2]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', 'reason', ARGV[3], unpack(ARGV, 4))
return 1
""",
    frees_memory=True,
)
"""Move an entry to the dead letters with its reason; its item stays in the overlay until it is retried or dropped."""

RETRY_DEAD_LETTER = Script("""
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
"""Move a dead letter back into the journal."""

DROP_DEAD_LETTER = Script("""
-- KEYS: dead letters, overlay. ARGV: id, sort key, version.
local item = redis.call('HGET', KEYS[2], ARGV[2])
if item and string.sub(item, 1, 20) == ARGV[3] then redis.call('HDEL', KEYS[2], ARGV[2]) end
return redis.call('XDEL', KEYS[1], ARGV[1])
""")
"""Delete a dead letter, and its item from the overlay unless a newer version is there."""

ERASE_ENTRIES = Script(
    """
-- KEYS: stream, then overlays. ARGV: group or '', idle in ms, most entries, user, version before which a record is
-- erased, version before which one of an open session is, number of open sessions, their SHA-1, partition of each
-- overlay.
-- Returns entries removed, entries that a drainer holds, items removed from overlays, entries left.
local user, before, till, sessions, open = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), {}
for i = 8, 7 + sessions do open[ARGV[i]] = true end
local function erased(part, sk, version)
  local session = part == user and sk or string.sub(part, #user + 2)
  return version < before or (version < till and open[redis.sha1hex(session)] == true)
end
local removed, held, items, live, pending = 0, 0, 0, {}, {}
for i = 2, #KEYS do
  local flat = redis.call('HGETALL', KEYS[i])
  for f = 1, #flat, 2 do
    if erased(ARGV[6 + sessions + i], flat[f], string.sub(flat[f + 1], 1, 20)) then
      items = items + redis.call('HDEL', KEYS[i], flat[f])
    end
  end
end
local length = redis.call('XLEN', KEYS[1])
if length == 0 or length > tonumber(ARGV[3]) then return {0, 0, items, length} end
local groups, last = redis.call('XINFO', 'GROUPS', KEYS[1]), redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #groups do
  if groups[i][2] == ARGV[1] then
    for _, one in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000000)) do pending[one[1]] = one end
  end
end
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
  local f, one = {}, pending[entry[1]]
  for i = 1, #entry[2], 2 do f[entry[2][i]] = entry[2][i + 1] end
  local part = f.k or ''
  local own = part == user or string.sub(part, 1, #user + 1) == user .. '#'
  if not own or not erased(part, f.m or '', string.sub(f.d or '', 1, 20)) then
    live[#live + 1] = entry
  elseif one and one[3] < tonumber(ARGV[2]) then
    held, live[#live + 1] = held + 1, entry
  else
    removed = removed + 1
  end
end
redis.call('DEL', KEYS[1])
if #live == 0 then return {removed, held, items, 0} end
for _, entry in ipairs(live) do redis.call('XADD', KEYS[1], entry[1], unpack(entry[2])) end
for i = 1, #last, 2 do
  if last[i] == 'last-generated-id' then redis.call('XSETID', KEYS[1], last[i + 1]) end
end
for _, group in ipairs(groups) do redis.call('XGROUP', 'CREATE', KEYS[1], group[2], group[8]) end
for _, entry in ipairs(live) do
  local one = pending[entry[1]]
  if one then
    redis.call('XCLAIM', KEYS[1], ARGV[1], one[2], 0, one[1], 'IDLE', one[3], 'RETRYCOUNT', one[4], 'FORCE', 'JUSTID')
  end
end
return {removed, held, items, #live}
""",
    frees_memory=True,
)
"""Remove a user's entries from a stream and the user's items from overlays, unless they are newer than an erasure.

The stream is written anew, because XDEL leaves the bytes of an entry in memory and in the append-only file as long as
one of its neighbours is there. Ids, groups and pending entries stay as they are.
"""

REMOVE_CONSUMER = Script("""
-- KEYS: journal. ARGV: group, consumer. A consumer with pending entries is kept: deleting it would lose them.
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
"""Remove a consumer from its group, and the consumers that did nothing for a day."""

BEGIN_FILL = Script("""
-- KEYS: copy. ARGV: token, seconds. Puts the token into a copy that is not complete.
if redis.call('HEXISTS', KEYS[1], COMPLETE) == 1 then return 0 end
redis.call('HSET', KEYS[1], '\\0' .. ARGV[1], '1')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
""")
"""Begin to fill a copy: from now on acknowledged items join it, and deleting the copy deletes the token."""

END_FILL = Script("""
-- KEYS: copy. ARGV: token, seconds to live, then (sort key, value).
if redis.call('HDEL', KEYS[1], '\\0' .. ARGV[1]) == 0 then return 0 end
for i = 3, #ARGV, 2 do
  local cached = redis.call('HGET', KEYS[1], ARGV[i])
  if not cached or string.sub(cached, 1, 20) < string.sub(ARGV[i + 1], 1, 20) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('HSET', KEYS[1], COMPLETE, '1')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
""")
"""End a fill: add what was loaded unless the copy has a newer version; without the token nothing changes."""

UPDATE_COPY = Script("""
-- KEYS: copy. ARGV: (sort key, value, expiry or '').
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for i = 1, #ARGV, 3 do
  local cached = redis.call('HGET', KEYS[1], ARGV[i])
  if not cached or string.sub(cached, 1, 20) < string.sub(ARGV[i + 1], 1, 20) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
  if ARGV[i + 2] ~= '' then redis.call('EXPIREAT', KEYS[1], ARGV[i + 2], 'LT') end
end
return 1
""")
"""Put items that were written straight to the table into a copy, if the copy exists."""

STORE_LOADED = Script("""
-- KEYS: value, lock. ARGV: token, value, ms to live, version read before loading or '', negative.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[2])
local current = redis.call('GET', KEYS[1])
local version = current and string.sub(current, 1, 20)
if current and ARGV[5] == '1' and version ~= ARGV[4] then return 0 end
if current and ARGV[5] ~= '1' and version > string.sub(ARGV[2], 1, 20) then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""")
"""Store a loaded value, unless it was invalidated while it was loaded or a newer one is there."""

PUT_IF_NEWER = Script("""
-- KEYS: value. ARGV: value, ms to live. Returns 0 when a newer version is there, else 1.
local current = redis.call('GET', KEYS[1])
if current and string.sub(current, 21, 21) == 'P' and string.sub(current, 1, 20) > string.sub(ARGV[1], 1, 20) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")
"""Store a value that was just written, unless a newer one is there."""

SWAP_RANKING = Script("""
-- KEYS: ranking, its draft, its best agents. ARGV: run as 20 digits, best agents.
local first = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
local run = first and string.match(first, '^%z(%d+)$')
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
"""Replace a ranking by its draft in one step; an older run never replaces a newer one."""

COMPARE_AND_SET = Script("""
-- KEYS: value. ARGV: expected value ('' for none), new value, seconds to live.
-- Returns the current value when it differs from the expected one, and changes nothing then.
local current = redis.call('GET', KEYS[1]) or ''
if current ~= ARGV[1] then
  if current == '' then
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
    return false
  end
  return current
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return false
""")
"""Set a value if the key holds the expected one, or none."""
