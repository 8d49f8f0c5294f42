"""Which revision of each agent runs: as the application says, or a digest of its prompt, model and tools."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

from agentmodel._runtime.process import ForkSafeLock
from agentmodel._values.text import NAME_BYTES, json_text, storable_text
from agentmodel.exceptions import ValidationError

__all__ = ["Revisions", "RevisionsGiven", "fingerprint"]

RevisionsGiven: TypeAlias = Literal["auto"] | Mapping[str, str] | None
"""The revision of each agent by its name; ``auto`` for a digest of what the framework shows of it; None for none."""


class Revisions:
    """The present revisions of a tracker's agents, by their names.

    Args:
        given: As the application gives them.

    Raises:
        ValidationError: It is neither ``auto`` nor a mapping of names.
    """

    def __init__(self, given: RevisionsGiven) -> None:
        known = {} if given in (None, "auto") else given
        if not isinstance(known, Mapping) or not all(isinstance(one, str) for pair in known.items() for one in pair):
            raise ValidationError(
                "revisions", given, "must be auto, or map names of agents to their revisions, such as {'finder': 'v3'}"
            )
        self.auto = given == "auto"
        self._lock = ForkSafeLock()
        self._of: dict[str, str | None] = {name: storable_text(one, limit=NAME_BYTES) for name, one in known.items()}

    def of(self, agent: str) -> str | None:
        """Return the revision of an agent; None where it is not known."""
        with self._lock:
            return self._of.get(agent)

    def see(self, agent: str, *, prompt: Any, model: Any, tools: Callable[[], Iterable[Any]]) -> None:
        """Note what an agent is made of now, if a digest of it is wanted.

        Args:
            agent: Its name.
            prompt: Its instructions; a function that makes them counts by its name.
            model: Names the model.
            tools: Returns a description of each tool: name, description and schema.
        """
        if self.auto:
            seen = fingerprint(prompt, model, tools())
            with self._lock:
                self._of[agent] = seen


def fingerprint(prompt: Any, model: Any, tools: Iterable[Any]) -> str:
    """Return a digest of what an agent is made of; the order of its tools does not matter.

    >>> fingerprint("Find cafés.", "gpt", ["search", "book"]) == fingerprint("Find cafés.", "gpt", ["book", "search"])
    True
    """
    prompt = getattr(prompt, "__qualname__", None) or prompt if callable(prompt) else prompt
    parts = [json_text(prompt), json_text(model), *sorted(map(json_text, tools))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
