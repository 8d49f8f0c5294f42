"""What requests are routed by: the texts of each domain, and its newest requests as a publish left them in the table.

A request is stored as the numbers of its trigrams, not as text, with a digest of its user's id, by which an erasure
finds it. An item of each domain has its requests; the main item of the partition has a digest of all, by which a
process knows whether it has read them already.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import zlib
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from sys import byteorder

from agentmodel import keys
from agentmodel._erasure_marks import user_key
from agentmodel._log import logger
from agentmodel.access.pagination import every
from agentmodel.access.repository import Repository
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.models import Domain, Tool
from agentmodel.dynamo.table import Query, Table
from agentmodel.exceptions import Conflict
from agentmodel.suggest._request_index import LEAST_REQUESTS, Calibration, trigrams

__all__ = ["Profile", "Request", "RoutingData", "RoutingStore", "digest_of", "domains_of", "newest", "profile_of"]

_REQUESTS = 150  # of a domain; with more, new ways to ask were recognised no better
_ALL_REQUESTS = 1500  # of all domains, which every process reads and keeps
_KIND = "Routing"
_PARTITION = keys.ROUTING.build()
_HEAD: Item = {"PK": {"S": _PARTITION}, "SK": {"S": keys.METADATA.build()}}
_OWNER = 16  # bytes of the digest of a user's id
_ATTEMPTS = 5  # of an erasure, while a publish writes
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")  # between the words of a name such as findPlace
_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Profile:
    """A domain of the catalogue and its tools, the first 100 by name.

    Attributes:
        domain: The domain.
        tools: Its tools.
    """

    domain: Domain
    tools: tuple[Tool, ...]

    @property
    def examples(self) -> list[str]:
        """Return the requests that the application gave."""
        return self.domain.examples or []

    def texts(self) -> list[frozenset[int]]:
        """Return what is known of the domain without any request: name, description, names of tools, examples."""
        domain = self.domain
        named = " ".join(_HUMP.sub(" ", name) for name in dict.fromkeys(tool.name for tool in self.tools))
        texts = (f"{domain.name} {domain.description or ''}", domain.name, named, *self.examples)
        return [found for text in texts if (found := trigrams(text))]


def profile_of(repository: Repository, domain: Domain) -> Profile:
    """Return a domain with its tools."""
    return Profile(domain, tuple(repository.domain_tools(domain.domain_id)))


def domains_of(repository: Repository) -> Iterator[Domain]:
    """Return every domain of the catalogue."""
    return every(repository.domains)


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a user.

    Attributes:
        owner: The digest of the user's id, see `agentmodel._erasure_marks.user_key`.
        text: The request, as `trigrams` returns it.
    """

    owner: str
    text: frozenset[int]


def newest(requests: Iterable[tuple[str, str, str]]) -> dict[str, list[Request]]:
    """Return the newest different requests of each domain, newest first; those of domains with fewer than five are not.

    Args:
        requests: The domain, the user and the request of each, newest first.
    """
    found: dict[str, dict[frozenset[int], Request]] = defaultdict(dict)
    for domain_id, user_id, text in requests:
        grams = trigrams(text)
        if grams:
            found[domain_id].setdefault(grams, Request(user_key(user_id), grams))
    known = {domain_id: list(own.values()) for domain_id, own in found.items() if len(own) >= LEAST_REQUESTS}
    most = max(LEAST_REQUESTS, min(_REQUESTS, _ALL_REQUESTS // max(1, len(known))))
    return {domain_id: own[:most] for domain_id, own in known.items()}


@dataclass(frozen=True, slots=True)
class RoutingData:
    """What a publish ships.

    Attributes:
        requests: The newest different requests of each domain.
        calibration: What scores mean.
        digest: Changes whenever something of it does; None where nothing was published.
    """

    requests: Mapping[str, Sequence[Request]] = field(default_factory=dict)
    calibration: Calibration = Calibration({}, 1.0)  # noqa: RUF009  # it is frozen
    digest: str | None = None


class RoutingStore:
    """Reads and writes the items of the partition.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def digest(self) -> str | None:
        """Return the digest of what is stored; one read of a small item."""
        item: Item = self._table.call("GetItem", TableName=self._table.name, Key=_HEAD).get("Item", {})
        return item.get("Digest", {}).get("S")

    def load(self) -> RoutingData:
        """Return what is stored; an item that cannot be read is left out."""
        requests: dict[str, Sequence[Request]] = {}
        thresholds: dict[str, float] = {}
        sharpness, digest = 1.0, None
        for item in self._items():
            try:
                if item["SK"] == _HEAD["SK"]:
                    sharpness, digest = float(item["Sharpness"]["N"]), item["Digest"]["S"]
                else:
                    domain_id, found = item["SK"]["S"], _unpacked(item["RequestList"]["S"])
                    thresholds[domain_id] = float(item["Threshold"]["N"])
                    requests[domain_id] = found
            except (LookupError, TypeError, ValueError, zlib.error) as error:
                _log.warning(
                    "routing.damaged: %s cannot be read; the next publish writes it anew: %r", item["SK"], error
                )
        return RoutingData(requests, Calibration(thresholds, sharpness), digest)

    def write(self, requests: Mapping[str, Sequence[Request]], calibration: Calibration, *, run: str) -> None:
        """Replace what is stored, unless a newer run wrote it.

        Args:
            requests: The newest different requests of each domain.
            calibration: What scores mean.
            run: The run that publishes; text order is the order of runs.

        Raises:
            Conflict: A newer run wrote it.
        """
        data = {domain_id: _packed(found) for domain_id, found in requests.items()}
        for domain_id, packed in data.items():
            threshold = repr(round(calibration.thresholds[domain_id], 6))
            self._put(domain_id, run, {"Threshold": {"N": threshold}, "RequestList": {"S": packed}})
        for item in self._items():
            if item["SK"] != _HEAD["SK"] and item["SK"]["S"] not in data:
                self._table.call("DeleteItem", TableName=self._table.name, Key={"PK": item["PK"], "SK": item["SK"]})
        told = {"Digest": {"S": digest_of(requests)}, "Sharpness": {"N": repr(round(calibration.sharpness, 6))}}
        self._put(keys.METADATA.build(), run, told)

    def erase(self, owners: Collection[str]) -> int:
        """Delete the requests of users, by the digests of their ids; return how many there were.

        Raises:
            Conflict: Publishes wrote all the time.
        """
        erased = 0
        for _ in range(_ATTEMPTS):
            try:
                erased += sum(self._erase_from(item, owners) for item in self._items() if "RequestList" in item)
            except Conflict:
                continue
            if erased:  # so that every process reads it again, and the next publish writes it anew
                self._table.call(
                    "UpdateItem", TableName=self._table.name, Key=_HEAD, UpdateExpression="SET Digest = :digest",
                    ExpressionAttributeValues={":digest": {"S": secrets.token_hex(8)}},
                )  # fmt: skip
            return erased
        raise Conflict(f"the routing data was written by others {_ATTEMPTS} times in a row: erase again")

    def _erase_from(self, item: Item, owners: Collection[str]) -> int:
        try:
            found = _unpacked(item["RequestList"]["S"])
            kept = [request for request in found if request.owner not in owners]
        except (LookupError, ValueError, zlib.error):
            found, kept = (), []  # whatever it holds may be the user's
        if found and len(kept) == len(found):
            return 0
        self._table.call(
            "UpdateItem", TableName=self._table.name, Key={"PK": item["PK"], "SK": item["SK"]},
            UpdateExpression="SET RequestList = :kept", ConditionExpression="RequestList = :found",
            ExpressionAttributeValues={":kept": {"S": _packed(kept)}, ":found": item["RequestList"]},
        )  # fmt: skip
        return len(found) - len(kept)

    def _items(self) -> list[Item]:
        return self._table.query(Query(_PARTITION), consistent=True).items

    def _put(self, sort: str, run: str, values: Item) -> None:
        item = {"PK": _HEAD["PK"], "SK": {"S": sort}, "EntityType": {"S": _KIND}, "RunID": {"S": run}, **values}
        self._table.call(
            "PutItem", TableName=self._table.name, Item=item,
            ConditionExpression="attribute_not_exists(RunID) OR RunID <= :run",
            ExpressionAttributeValues={":run": {"S": run}},
        )  # fmt: skip


def digest_of(requests: Mapping[str, Sequence[Request]]) -> str:
    """Return the digest of the requests of all domains."""
    found = hashlib.sha256()
    for domain_id in sorted(requests):
        found.update(f"{domain_id} {_packed(requests[domain_id])} ".encode())
    return found.hexdigest()[:16]


def _packed(requests: Sequence[Request]) -> str:
    data = b""
    for request in requests:
        grams = array("H", sorted(request.text))
        if byteorder == "big":
            grams.byteswap()
        data += bytes.fromhex(request.owner) + len(grams).to_bytes(2, "little") + grams.tobytes()
    return base64.b64encode(zlib.compress(data)).decode()


def _unpacked(text: str) -> tuple[Request, ...]:
    data, found, at = zlib.decompress(base64.b64decode(text, validate=True)), [], 0
    while at < len(data):
        start = at + _OWNER + 2
        end = start + 2 * int.from_bytes(data[at + _OWNER : start], "little")
        grams = array("H", data[start:end])
        if byteorder == "big":
            grams.byteswap()
        if end > len(data):
            raise ValueError("the last request is cut")
        found.append(Request(data[at : at + _OWNER].hex(), frozenset(grams)))
        at = end
    return tuple(found)
