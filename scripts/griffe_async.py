"""Griffe extension: the asyncio methods are shown with the parameters and docstrings of those they are made of.

`agentmodel.aio` makes them of synchronous methods, which Griffe, reading the source, takes for attributes:

    domains = _awaited(Repository.domains)      an async method
    forget = _direct(Planner.forget)            a method
    id_of = staticmethod(Reviews.id_of)         a static method

    @_converted(AgentModel.guard)               the parameters of the original, the docstring and type of its own
    def guard(self, guard: Guard) -> AsyncGuard: ...
"""

from __future__ import annotations

import re
from typing import Any

import griffe

MODULE = "aio"
_EXAMPLE = re.compile(r"^( *)```pycon\n.*?^ *```\n?", re.MULTILINE | re.DOTALL)
LABELS = {"_awaited": {"async"}, "_direct": set[str](), "staticmethod": {"staticmethod"}}


class AsyncTwins(griffe.Extension):
    """Replaces what is made of a synchronous method by a function that reads like it."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite the classes of `agentmodel.aio`, once every module is loaded."""
        if MODULE not in pkg.members:
            return
        for cls in pkg[MODULE].classes.values():
            if cls.is_alias:
                continue
            for name, member in list(cls.members.items()):
                if member.is_attribute:
                    made = _made_of(cls, member)
                    if made is not None:
                        cls.set_member(name, made)
                elif member.is_function:
                    _take_parameters(cls, member)


def _made_of(cls: griffe.Class, attribute: griffe.Attribute) -> griffe.Function | None:
    """The function that an attribute's value makes; None where it makes none."""
    call = attribute.value
    if not isinstance(call, griffe.ExprCall) or str(call.function) not in LABELS:
        return None
    original = _original(cls, call)
    made = griffe.Function(
        attribute.name,
        lineno=attribute.lineno,
        endlineno=attribute.endlineno,
        parameters=original.parameters,
        returns=original.returns,
        docstring=_copied(original, awaited="async" in LABELS[str(call.function)]),
    )
    made.labels |= LABELS[str(call.function)]
    return made


def _take_parameters(cls: griffe.Class, function: griffe.Function) -> None:
    """Give a function the parameters of the method that its decorator names."""
    for decorator in function.decorators:
        call = decorator.value
        if isinstance(call, griffe.ExprCall) and str(call.function) == "_converted":
            function.parameters = _original(cls, call).parameters
            function.decorators = []


def _original(cls: griffe.Class, call: griffe.ExprCall) -> griffe.Function:
    """The method of another class that a call names, such as ``Repository.domains``."""
    owner, _, name = str(call.arguments[0]).partition(".")
    found = cls.module[owner]
    target = found.final_target if found.is_alias else found
    method: griffe.Function = target.all_members[name]
    return method


def _copied(original: griffe.Function, *, awaited: bool) -> griffe.Docstring | None:
    """The docstring of a method, with a link to its example, which is synchronous."""
    docstring = original.docstring
    if docstring is None:
        return None
    text, examples = _EXAMPLE.subn("", docstring.value)
    if examples:
        path = _path(original)
        text = f"{text.rstrip()}\n\nExample: [`{path.removeprefix('agentmodel.')}`][{path}]"
        text += ", here with `await`." if awaited else "."
    return griffe.Docstring(
        text,
        lineno=docstring.lineno,
        endlineno=docstring.endlineno,
        parser=docstring.parser,
        parser_options=docstring.parser_options,
    )


def _path(method: griffe.Function) -> str:
    """The path of a method on the page that shows it: that of the public module around its class."""
    names = method.path.split(".")
    return ".".join(name for name in names if not name.startswith("_"))
