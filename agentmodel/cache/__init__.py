"""Cache what is read often in Valkey, and keep what is written there until it is in the table.

This package knows neither the entities nor the table. It stores plain item maps and writes to a sink that it is given.
"""

from agentmodel.cache._change_log import ChangeLog as ChangeLog
from agentmodel.cache._change_log import Position as Position
from agentmodel.cache._drainer import DeadLetter, Drained, Drainer
from agentmodel.cache._drainer import SharedSink as SharedSink
from agentmodel.cache._journal import Entry as Entry
from agentmodel.cache._journal import Journal as Journal
from agentmodel.cache._journal import JournalReceipt as JournalReceipt
from agentmodel.cache._journal import JournalStats
from agentmodel.cache._journal import NumberClaim as NumberClaim
from agentmodel.cache._journal import NumbersUnknown as NumbersUnknown
from agentmodel.cache._journal import NumberTaken as NumberTaken
from agentmodel.cache._journal import encode as encode
from agentmodel.cache._leaderboard import Leaderboard as Leaderboard
from agentmodel.cache._newest_sessions import MOST_SESSIONS as MOST_SESSIONS
from agentmodel.cache._newest_sessions import NewestSession as NewestSession
from agentmodel.cache._newest_sessions import NewestSessions as NewestSessions
from agentmodel.cache._read_through import CachedPage as CachedPage
from agentmodel.cache._read_through import Counts
from agentmodel.cache._read_through import ReadThrough as ReadThrough
from agentmodel.cache._stats import CacheStats
from agentmodel.cache._stats import cache_stats as cache_stats
from agentmodel.cache._user_cache import UserCache as UserCache
from agentmodel.cache._valkey import Credentials, Valkey

__all__ = ["CacheStats", "Counts", "Credentials", "DeadLetter", "Drained", "Drainer", "JournalStats", "Valkey"]
