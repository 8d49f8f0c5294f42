"""What the runs of each user and category wrote, as mappings keep it for the check of a run.

Only the runs of a category that changed are read: a mapping has the digest of the runs that it was made of, and how
often the calls of each tool repeated each other. Which tools vary is learned from the sums of a whole domain, so where
another tool varies now, all runs of the domain are read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from agentmodel.dynamo.models import UserToolMapping
from agentmodel.suggest._run_check import ToolUses, WriteHistory, tool_uses, varying

if TYPE_CHECKING:
    from agentmodel.redshift.warehouse import Warehouse

__all__ = ["run_writes"]

_SEEN, _USES = "seen", "uses"  # beside what `WriteHistory.packed` returns


def run_writes(
    warehouse: Warehouse,
    stored: Iterable[UserToolMapping | None],
    *,
    rates: Mapping[str, float],
    read_only: Callable[[str], set[str]],
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return what the newest runs of each domain, user and category wrote.

    Args:
        warehouse: A refreshed warehouse.
        stored: The mappings as they are stored; what they have of unchanged runs is returned again.
        rates: Success rate of each domain.
        read_only: Returns the names of the tools of a domain that only read.

    Raises:
        WarehouseUnavailable: The warehouse does not answer.
    """
    from agentmodel.redshift.score import domain_rate  # loads SQLAlchemy, so not at the top
    from agentmodel.suggest.publish._warehouse_queries import run_calls, run_digests

    had = {(each.user_id, each.category): each.writes or {} for each in stored if each is not None}
    with warehouse.snapshot():
        digests = run_digests(warehouse)
        kept = {scope: own for scope, digest in digests.items() if _are_of(own := had.get(scope[1:], {}), digest)}
        runs = run_calls(warehouse, digests.keys() - kept.keys())
        uses: dict[str, list[Mapping[str, ToolUses]]] = defaultdict(list)
        of_scopes = {scope: each[_USES] for scope, each in kept.items()}
        of_scopes |= {scope: tool_uses(own) for scope, own in runs.items()}
        for (domain_id, _, _), own in of_scopes.items():
            uses[domain_id].append(own)
        ignored = {domain_id: read_only(domain_id) | varying(of_domain) for domain_id, of_domain in uses.items()}
        outdated = {scope for scope, each in kept.items() if {*each["ignored"]} != ignored[scope[0]]}
        runs |= run_calls(warehouse, outdated)
    found = {}
    for scope, digest in digests.items():
        domain_id, user_id, _ = scope
        rate = rates.get(domain_id, domain_rate(0, 0))
        if scope in runs:
            history = WriteHistory.of(runs[scope], ignored=ignored[domain_id], rate=rate, whose=user_id)
            found[scope] = history.packed() | {_SEEN: digest, _USES: of_scopes[scope]}
        else:
            found[scope] = kept[scope] | {"rate": round(rate, 6)}
    return found


def _are_of(writes: Mapping[str, Any], digest: str) -> bool:
    """Return whether the writes that a mapping has are those of these runs, and whole."""
    whole = isinstance(writes.get(_USES), dict) and isinstance(writes.get("ignored"), list)
    return whole and writes.get(_SEEN) == digest
