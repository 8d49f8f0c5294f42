"""`agentmodel check`: find what differs from the design, and repair the items where that is safe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from agentmodel._runtime.lease import WAIT
from agentmodel.access.pagination import read_cursor, write_cursor
from agentmodel.cli._doctor import Problem, check_declarations, check_items, check_table, repair, summary
from agentmodel.cli._model import open_model
from agentmodel.cli._options import Json, Wait, stack_of
from agentmodel.cli._output import Output
from agentmodel.client import AgentModel

__all__ = ["add"]

_ADVICE = ("T204", "T205", "I301")  # printed, but they do not make the check fail: what is stored is right
_AT_ONCE = 500  # problems that are printed and repaired before the check goes on
_CURSOR_OF = ("check",)  # a --start token is accepted only if this command printed it

Fix = Annotated[bool, typer.Option("--fix", help="Repair items where that is safe; each is printed first.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation before repairing.")]
Start = Annotated[
    str | None, typer.Option("--start", metavar="TOKEN", help="Continue a stopped check, from the token it printed.")
]


@dataclass(slots=True)
class _CheckResults:
    problems: list[Problem] = field(default_factory=list)  # those that were not repaired
    repaired: int = 0
    checked: int = 0
    last: dict[str, Any] | None = None  # the last item that needs no second look: its problems were dealt with

    def how_to_continue(self) -> str:
        if self.last is None:
            return "Run it again."
        return f"Continue it with --start {write_cursor(_CURSOR_OF, self.last)}"


def check(
    ctx: typer.Context,
    *,
    fix: Fix = False,
    yes: Yes = False,
    start: Start = None,
    wait: Wait = WAIT,
    as_json: Json = False,
) -> None:
    """Check the table and its items; repair them with --fix.

    Compares the entity declarations with each other, the live table with the design, and every item with its class.
    The whole table is read. With --fix, items that are safe to repair are printed and then repaired. A check can be
    stopped at any moment and run again. It exits with 1 while a problem is left.
    """
    after = None if start is None else read_cursor(_CURSOR_OF, start)
    out = Output(as_json=as_json)
    results = _CheckResults(last=after)
    with (
        open_model(stack_of(ctx)) as model,
        model.table.lease(doing="check --fix", wait=wait) if fix else nullcontext(),
    ):
        results.problems += check_declarations()
        results.problems += check_table(model.table)
        for problem in results.problems:
            _show(out, problem)
        model.table.check_format()
        try:
            for problems in _item_problems(model, results, after):
                _show_and_repair(model, out, results, problems, fix=fix, ask=not yes)
        except (KeyboardInterrupt, typer.Abort):
            out.note(f"The check was stopped after {results.checked} items. {results.how_to_continue()}")
            raise
    _show_results(out, results, fix=fix)


def _item_problems(model: AgentModel, results: _CheckResults, after: Any) -> Iterator[list[Problem]]:
    """Yield the problems of the items, some at a time; a stopped check continues before the first not dealt with."""
    waiting: list[Problem] = []

    def progress(number: int, last: dict[str, Any]) -> None:
        results.checked = number
        if not waiting:
            results.last = last

    for problem in check_items(model.table, start=after, progress=progress):
        waiting.append(problem)
        if len(waiting) == _AT_ONCE:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _show_and_repair(
    model: AgentModel, out: Output, results: _CheckResults, problems: list[Problem], *, fix: bool, ask: bool
) -> None:
    for problem in problems:
        _show(out, problem)
    repairable = [problem for problem in problems if problem.repair is not None] if fix else []
    question = f"Repair the items above that can be repaired safely ({len(repairable)})?"
    if repairable and ask and sys.stdin.isatty() and not typer.confirm(question, err=True):
        repairable = []
    repaired = {id(problem) for problem in repairable if repair(model.table, problem)}
    results.repaired += len(repaired)
    results.problems += [problem for problem in problems if id(problem) not in repaired]


def _show(out: Output, problem: Problem) -> None:
    if not out.as_json:
        out.line(str(problem))


def _show_results(out: Output, results: _CheckResults, *, fix: bool) -> None:
    left = [problem for problem in results.problems if problem.code not in _ADVICE]
    if out.as_json:
        rows = [
            {
                "code": p.code,
                "location": p.location,
                "reason": p.reason,
                "remedy": p.remedy,
                "repairable": p.repair is not None,
            }
            for p in results.problems
        ]
        out.data({"items": results.checked, "repaired": results.repaired, "problems": rows})
    else:
        counts = ", ".join(f"{code} × {number}" for code, number in summary(results.problems).items())
        told = "Items checked: {checked}, repaired: {repaired}. Problems left: {left}."
        if not fix:
            told = "Items checked: {checked}. Problems left: {left}."
        values = {"repaired": results.repaired} if fix else {}
        out.tell(told, checked=results.checked, left=counts or out.say("none"), **values)
        if not fix and any(problem.repair is not None for problem in results.problems):
            out.tell("Run `agentmodel check --fix` to repair the items where that is safe.")
    if left:
        raise typer.Exit(1)


def add(app: typer.Typer) -> None:
    """Add the command `check` to the application."""
    app.command()(check)
