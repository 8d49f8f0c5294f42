"""Ship what requests are routed by: the newest different requests of each domain, as numbers, and what scores mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentmodel.access.repository import Repository
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import Conflict
from agentmodel.suggest._request_index import calibrated
from agentmodel.suggest._routing_store import Request, RoutingStore, digest_of, domains_of, newest, profile_of
from agentmodel.suggest.publish._fencing import PublishLease

if TYPE_CHECKING:
    from agentmodel.redshift.warehouse import Warehouse

__all__ = ["newest_requests", "ship"]


def newest_requests(warehouse: Warehouse) -> dict[str, list[Request]]:
    """Return the newest different requests of each domain, newest first; those of domains with fewer than five are not.

    Where a session has no request of its own, the prompt of its first process counts as one.
    """
    from agentmodel.redshift import reports  # loads SQLAlchemy, so not at the top

    return newest(reports.domain_requests(warehouse))


def ship(requests: dict[str, list[Request]], repository: Repository, table: Table, lease: PublishLease) -> int:
    """Write the requests of the domains of the catalogue into the table, unless it has them; return of how many.

    An installation with one domain needs none.

    Raises:
        Superseded: A newer run has begun.
    """
    domains = {each.domain_id: profile_of(repository, each).texts() for each in domains_of(repository)}
    shipped = {domain_id: own for domain_id, own in requests.items() if domain_id in domains and len(domains) > 1}
    store = RoutingStore(table)
    stored = store.digest()
    same = stored == digest_of(shipped) and not lease.fencing  # then an older run, which is stopped, may write later
    if same or not (shipped or stored):
        return 0
    calibration = calibrated({name: [one.text for one in own] for name, own in shipped.items()}, domains)
    lease.enter()
    try:
        store.write(shipped, calibration, run=lease.run.text)
    except Conflict:
        lease.check()
        raise
    return len(shipped)
