"""Ship to Valkey what plans need of all mappings: the requests of all users, and the best mappings of large categories.

A publish has seen every mapping. It compares their rows with those that are in the log of requests, and appends what
differs, so that a publish that was killed is finished by the next one. Signatures are made of new requests only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from agentmodel._erasure_marks import user_key
from agentmodel._log import logger
from agentmodel.access.repository import Repository
from agentmodel.cache import ChangeLog
from agentmodel.config import Ranking
from agentmodel.dynamo.models import UserToolMapping
from agentmodel.exceptions import CacheUnavailable
from agentmodel.suggest._request_rows import mapping_of, request_row, row_name
from agentmodel.suggest.plan import best_of_category

__all__ = ["ship_mappings"]

_ONE_PAGE = 100  # mappings of a category from which a reader chooses by itself
_log = logger(__name__)


def ship_mappings(
    repository: Repository,
    mappings: Collection[UserToolMapping],
    ranking: Ranking,
    erased_users: Callable[[], Collection[str]],
) -> None:
    """Ship what differs from what is in Valkey; where Valkey does not take it, the next publish does.

    Args:
        repository: Has the log, and caches the best mappings.
        mappings: All mappings as they are stored now.
        ranking: What orders mappings.
        erased_users: Returns the keys of the users who were erased since the mappings were read.
    """
    log = repository.request_log
    if log is None:
        return
    try:
        _ship_requests(log, mappings)
        for category, same in _large_categories(mappings):
            repository.cache_best_mappings(category, ranking, best_of_category(same, ranking))
        if erased := erased_users():  # looked at after the writes: a later erasure finds them by itself
            log.erase(lambda name: user_key(mapping_of(name)[0]) in erased)
            repository.invalidate(each for each in mappings if user_key(each.user_id) in erased)
    except CacheUnavailable as error:
        _log.warning(
            "publish.not_shipped: requests of all users were not shipped to Valkey, so plans may not find the newest "
            "ones until the next publish does it: %s", error,
        )  # fmt: skip


def _ship_requests(log: ChangeLog, mappings: Iterable[UserToolMapping]) -> None:
    known: dict[str, Any] = {}
    records, exists = 0, False
    for changes in log.read():
        exists = True
        records += len(changes.rows)
        known.update(changes.rows)
    wanted = {}
    for mapping in mappings:
        if mapping.requests:
            name = row_name(mapping)
            wanted[name] = request_row(mapping, known.get(name))
    changed: dict[str, Any] = {name: row for name, row in wanted.items() if known.get(name) != row}
    changed |= {name: None for name, row in known.items() if row is not None and name not in wanted}
    keeps = exists and records + len(changed) <= 2 * len(wanted) + 1_000  # not most of its rows were replaced since
    if not (keeps and (not changed or log.append(changed))):
        log.rewrite(wanted.items())


def _large_categories(mappings: Iterable[UserToolMapping]) -> Iterator[tuple[str, list[UserToolMapping]]]:
    by_category: dict[str, list[UserToolMapping]] = defaultdict(list)
    for mapping in mappings:
        by_category[mapping.category].append(mapping)
    return ((category, same) for category, same in by_category.items() if len(same) > _ONE_PAGE)
