"""Prices of models, from a table that the application gives, and what calls cost by them.

    prices = Prices.read("model_prices_and_context_window.json")
    prices.cost(call)          # in the table's currency; None where it is not known

Two formats are read: that of LiteLLM's ``model_prices_and_context_window.json`` (prices of a token, by the name of the
model; a table of your own needs no more of it than ``input_cost_per_token`` and ``output_cost_per_token``), and that of
``data.json`` of pydantic's ``genai-prices`` (prices of a million tokens, with rules for names). No table comes with the
package, and nothing is fetched.

A price may depend on how much a request reads. Tokens of a request are divided over the calls that it asked for, so its
own length decides, not a call's share of it.

What has no price is unknown, never zero: a model that the table does not name, a call whose tokens were not told, a
price that depends on the time of day, or is of each request.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeAlias

from agentmodel.dynamo.models import ToolExecution
from agentmodel.exceptions import ValidationError

__all__ = ["ModelPrice", "Prices"]

_MILLION: Final = 1_000_000
_ABOVE = re.compile(r"^(\w+)_above_(\d+)(k?)_tokens$")
_PER_TOKEN: Final = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
}
_PER_MILLION: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}
_UNTOLD: Final = (
    "off_peak_pricing", "input_cost_per_request", "output_cost_per_request", "input_cost_per_query", "requests_kcount",
)  # fmt: skip
"""Prices by what calls do not tell, the time of day and the number of requests: what such a model costs is unknown."""


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What a token of a model costs, in the currency of the table.

    Attributes:
        input: A token that it reads.
        output: A token that it writes.
        cache_read: A token that it reads from its provider's cache; None: as any other that it reads.
        cache_write: A token that is written into that cache; None: as any other that it reads.
        reasoning: A token of its reasoning; None: as any other that it writes.
        above_input: Tokens of a request above which this holds; 0 from the first one.
        most_input: Tokens of a request up to which this holds; None without an end.
        since: The first day of which it holds; None from the beginning.
        until: The day from which it holds no more; None without an end.

    >>> from datetime import date
    >>> price = ModelPrice(input=2e-6, output=10e-6, above_input=200_000)
    >>> price.holds(date(2026, 1, 1), 1000), price.holds(date(2026, 1, 1), 300_000)
    (False, True)
    """

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None
    above_input: int = 0
    most_input: int | None = None
    since: date | None = None
    until: date | None = None

    def holds(self, day: date | None, request_tokens: int) -> bool:
        """Return whether it holds on a day for a request; on an unknown day only one that always holds does.

        Args:
            day: The day, in UTC.
            request_tokens: Tokens that the model read for the whole request.

        >>> from datetime import date
        >>> ModelPrice(2e-6, 10e-6, since=date(2026, 1, 1)).holds(date(2025, 12, 31), 1000)
        False
        """
        if self.above_input and request_tokens <= self.above_input:
            return False
        if self.most_input is not None and request_tokens > self.most_input:
            return False
        if day is None:
            return self.since is None and self.until is None
        return (self.since is None or self.since <= day) and (self.until is None or day < self.until)

    def cost(
        self, input_tokens: int, output_tokens: int, *, cached: int = 0, cache_write: int = 0, reasoning: int = 0
    ) -> float:
        """Return what tokens cost.

        Args:
            input_tokens: Tokens that the model read, those of the cache included.
            output_tokens: Tokens that it wrote, those of its reasoning included.
            cached: Of the input, those that were read from the provider's cache.
            cache_write: Of the input, those that were written into it.
            reasoning: Of the output, those of its reasoning.

        >>> ModelPrice(2e-6, 10e-6, cache_read=1e-6).cost(1000, 100, cached=500)
        0.0025
        """
        parts = (
            (max(input_tokens - cached - cache_write, 0), self.input),
            (cached, self.input if self.cache_read is None else self.cache_read),
            (cache_write, self.input if self.cache_write is None else self.cache_write),
            (max(output_tokens - reasoning, 0), self.output),
            (reasoning, self.output if self.reasoning is None else self.reasoning),
        )
        return math.fsum(tokens * price for tokens, price in parts)


class Prices:
    """A table of prices of models.

    Args:
        table: The parsed JSON of either format.
        source: Where it is from, for errors.

    Raises:
        ValidationError: It is of neither format, or a price is no number from 0 up.
    """

    def __init__(self, table: Any, *, source: str = "table") -> None:
        self._source = source
        providers: Any = table.get("providers") if isinstance(table, dict) else table
        is_list = isinstance(providers, list) and all(isinstance(one, dict) and "models" in one for one in providers)
        self._providers: list[dict[str, Any]] = providers if is_list else []
        self._named: dict[str, tuple[ModelPrice, ...]] = {}
        self._known: dict[str, tuple[ModelPrice, ...]] = {}
        if is_list:
            for provider in self._providers:
                self._check(provider, source)  # so that what is wrong is told at once
            return
        if not isinstance(table, dict) or not table or not all(isinstance(one, dict) for one in table.values()):
            raise ValidationError(
                "prices", source, "must be LiteLLM's object of models by name, or genai-prices' list of providers"
            )
        for name, told in table.items():
            if name != "sample_spec":
                self._named[name.lower()] = self._of_litellm(name, told)

    @classmethod
    def read(cls, path: str | Path) -> Prices:
        """Read a table from a file.

        Raises:
            ValidationError: The file cannot be read, is no JSON, or is of neither format.

        >>> prices = Prices.read(folder / "prices.json")
        >>> prices.of("gpt-5")[0].output
        1e-05
        """
        try:
            return cls(json.loads(Path(path).read_text(encoding="utf-8")), source=str(path))
        except OSError as error:
            raise ValidationError("prices", str(path), f"cannot be read: {error.strerror}") from None
        except ValueError as error:
            if isinstance(error, ValidationError):
                raise
            raise ValidationError("prices", str(path), f"must be JSON: {error}") from None

    def of(self, model_name: str) -> tuple[ModelPrice, ...]:
        """Return the prices of a model, of days and of lengths of requests; none where the table does not know it.

        A name may have its provider in front, such as ``openai/gpt-5``.

        >>> [price.output for price in model.prices.of("gpt-5")]
        [1e-05]
        """
        if model_name not in self._known:
            if len(self._known) >= 10_000:
                self._known.clear()
            self._known[model_name] = self._find(model_name.strip().lower())
        return self._known[model_name]

    def cost(self, call: ToolExecution) -> float | None:
        """Return what the model took for a call costs, in the currency of the table; None where it is not known.

        >>> call = model.repository.execution("USR001", "SESS1", "PRC001", "AGT001", "TL001")
        >>> round(model.prices.cost(call), 6)
        0.0012
        """
        if call.model_name is None or call.input_tokens is None or call.output_tokens is None:
            return None
        day = None if call.executed_at is None else call.executed_at.date()
        length = call.input_tokens if call.request_input_tokens is None else call.request_input_tokens
        price = next((one for one in self.of(call.model_name) if one.holds(day, length)), None)
        if price is None:
            return None
        return price.cost(
            call.input_tokens,
            call.output_tokens,
            cached=call.cached_tokens or 0,
            cache_write=call.cache_write_tokens or 0,
            reasoning=call.reasoning_tokens or 0,
        )

    def total(self, calls: Iterable[ToolExecution]) -> tuple[float | None, int]:
        """Return what calls cost together, and how many have a known cost; None where none has.

        >>> calls = model.repository.session_history("USR001", "SESS1").executions
        >>> total, known = model.prices.total(calls)
        >>> round(total, 6), known
        (0.0012, 1)
        """
        costs = [cost for call in calls if (cost := self.cost(call)) is not None]
        return (math.fsum(costs) if costs else None), len(costs)

    def _check(self, provider: Mapping[str, Any], source: str) -> None:
        """Raise an error if the prices or the rules of a provider cannot be read."""
        try:
            _check_rule(provider.get("model_match"))
            for model in provider["models"]:
                _check_rule(model.get("match"))
                self._dated(str(model.get("id")), model.get("prices"))
        except ValidationError:
            raise
        except (AttributeError, LookupError, TypeError, ValueError, re.error) as error:
            message = f"must be models as genai-prices has them: {type(error).__name__}: {error}"
            raise ValidationError(f"models of {provider.get('id')}", source, message) from None

    def _find(self, name: str) -> tuple[ModelPrice, ...]:
        if self._named:
            while name not in self._named and "/" in name:
                name = name.partition("/")[2]
            return self._named.get(name, ())
        provider_id, _, rest = name.replace(":", "/", 1).partition("/")
        for provider in self._providers:
            if rest and provider.get("id") == provider_id:
                return self._of_provider(provider, rest)
        for provider in self._providers:
            if _matches(provider.get("model_match"), name):
                return self._of_provider(provider, name)
        return ()

    def _of_provider(self, provider: Mapping[str, Any], name: str) -> tuple[ModelPrice, ...]:
        for model in provider["models"]:
            if _matches(model.get("match"), name):
                return self._dated(str(model.get("id")), model.get("prices"))
        return ()

    def _of_litellm(self, name: str, told: Mapping[str, Any]) -> tuple[ModelPrice, ...]:
        tiers: _Tiers = {each: {0: self._number(name, field, told.get(field))} for each, field in _PER_TOKEN.items()}
        each_of = {field: each for each, field in _PER_TOKEN.items()}
        for field, given in told.items():
            longer = _ABOVE.match(field)
            if longer is not None and longer[1] in each_of and given is not None:
                start = int(longer[2]) * (1000 if longer[3] else 1)
                tiers[each_of[longer[1]]][start] = self._number(name, field, given)
        for tier in told.get("tiered_pricing") or ():
            fields = _PER_TOKEN.items() if isinstance(tier, dict) else ()
            priced = {each: tier[field] for each, field in fields if tier.get(field) is not None}
            above = _start_of(tier) if priced else 0  # a search has tiers of results, without prices of tokens
            if not isinstance(tier, dict) or above is None:
                raise ValidationError(f"tiered_pricing of {name}", tier, "must be objects with a range and prices")
            for each, given in priced.items():
                tiers[each][above] = self._number(name, _PER_TOKEN[each], given)
        return () if any(map(told.get, _UNTOLD)) else _by_length(tiers)

    def _dated(self, name: str, told: Any) -> tuple[ModelPrice, ...]:
        """Return the prices of a model of genai-prices: one, or several of which a later one holds from a day on."""
        found: list[ModelPrice] = []
        for since, prices in self._of_days(name, told):
            found = [each if each.until else replace(each, until=since) for each in found]
            if not prices or any(map(prices.get, _UNTOLD)):
                return ()
            found += [replace(price, since=since) for price in _by_length(self._of_million(name, prices))]
        return tuple(found)

    def _of_days(self, name: str, told: Any) -> Iterator[tuple[date | None, Mapping[str, Any]]]:
        rows: Sequence[Any] = told if isinstance(told, list) else [{"prices": told}]
        for row in rows:
            constraint = (row.get("constraint") or {}) if isinstance(row, dict) else None
            if constraint is None or not isinstance(row.get("prices"), dict):
                raise ValidationError(f"prices of {name}", row, "must be an object of prices, or a list of such")
            if set(constraint) - {"start_date", "type"}:
                yield None, {}  # of a time of day, or of a tier that calls do not tell
                return
            given = constraint.get("start_date")
            try:
                yield (None if given is None else date.fromisoformat(given)), row["prices"]
            except (TypeError, ValueError):
                raise ValidationError(f"start_date of {name}", given, "must be a day such as 2026-03-13") from None

    def _of_million(self, name: str, told: Mapping[str, Any]) -> _Tiers:
        found: _Tiers = {}
        for each, field in _PER_MILLION.items():
            given = told.get(field)
            tiers = {0: given}
            if isinstance(given, dict):
                tiers = {0: given.get("base"), **{int(one["start"]): one["price"] for one in given.get("tiers") or ()}}
            numbers = {start: self._number(name, field, price) for start, price in tiers.items()}
            found[each] = {start: None if number is None else number / _MILLION for start, number in numbers.items()}
        return found

    def _number(self, name: str, field: str, given: Any) -> float | None:
        if given is None:
            return None
        if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given) or given < 0:
            raise ValidationError(f"{field} of {name} in {self._source}", given, "must be a number from 0 up")
        return float(given)


_Tiers: TypeAlias = dict[str, dict[int, float | None]]
"""The prices of each kind of token, by the tokens of a request above which each holds."""


def _start_of(tier: Mapping[str, Any]) -> int | None:
    """Return the tokens above which a tier of LiteLLM holds, which may be written 32000.0; None if it does not tell."""
    match tier.get("range"):
        case [int() | float() as start, *_] if not start % 1:
            return int(start)
    return None


def _by_length(tiers: _Tiers) -> tuple[ModelPrice, ...]:
    """Return a price for each range of lengths; a kind without one of its own keeps that of shorter requests."""
    starts = sorted({start for own in tiers.values() for start in own})
    found = []
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        held = {each: own[max(one for one in own if one <= start)] for each, own in tiers.items()}
        if held["input"] is not None and held["output"] is not None:  # else it is paid by the image, or the second
            found.append(ModelPrice(**held, above_input=start, most_input=end))  # type: ignore[arg-type]  # both are set
    return tuple(found)


def _check_rule(rule: Any) -> None:
    """Raise what is wrong with a rule of genai-prices: an expression that is none, or alternatives that are no list."""
    for kind, told in rule.items() if isinstance(rule, dict) else ():
        if kind == "regex":
            re.compile(str(told))
        for each in told or () if kind in ("or", "and") else ():
            _check_rule(each)


def _matches(rule: Any, name: str) -> bool:
    """Return whether a rule of genai-prices fits a name."""
    if not isinstance(rule, dict):
        return False
    texts = {kind: str(text).lower() for kind, text in rule.items() if kind not in ("or", "and")}
    return (
        ("equals" in rule and name == texts["equals"])
        or ("starts_with" in rule and name.startswith(texts["starts_with"]))
        or ("ends_with" in rule and name.endswith(texts["ends_with"]))
        or ("contains" in rule and texts["contains"] in name)
        or ("regex" in rule and re.search(str(rule["regex"]), name) is not None)
        or any(_matches(each, name) for each in rule.get("or") or ())
        or ("and" in rule and all(_matches(each, name) for each in rule["and"]))
    )
