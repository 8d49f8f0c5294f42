"""Griffe extension that shows the examples of the reference.

The doctests of docstrings become code blocks; Markdown would take their ``>>>`` for quotations and printed lists for
references. The pages of frameworks begin with whole programs, which are files of ``docs/examples``. A name without an
example of its own gets a link to the first one of its page that uses it. The tests run all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import griffe

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
PROGRAMS = {
    "console": ["console_mounted"],
    "integrations.claude_agent_sdk": ["claude_agent_sdk_quickstart"],
    "integrations.crewai": ["crewai_quickstart"],
    "integrations.google_adk": ["google_adk_quickstart"],
    "integrations.langchain": ["langchain_quickstart", "langchain_middleware_quickstart"],
    "integrations.mcp": ["mcp_quickstart"],
    "integrations.openai_agents": ["openai_agents_quickstart", "openai_agents_guard"],
    "integrations.opentelemetry": ["opentelemetry_quickstart"],
    "integrations.pydantic_ai": ["pydantic_ai_quickstart"],
    "integrations.strands": ["strands_quickstart"],
    "testing.plugin": ["test_application"],
}
"""The programs that the page of a module begins with."""

_DOCTEST = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*|\n(?P=indent) +\S.*)*", re.MULTILINE)
_HISTORY = re.compile(r"\bmodel\.|\bfolder /|\(model\b")
_LINK = "Example: "
_SHOWN = re.compile(r"^ *```(?:pycon|python)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def _fenced(found: re.Match[str]) -> str:
    indent = found["indent"]
    return f"{indent}```pycon\n{found[0]}\n{indent}```"


class Doctests(griffe.Extension):
    """Puts code fences around doctests, and programs and links where there are none."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite the docstrings once everything is loaded."""
        _fence(pkg)
        for name, programs in PROGRAMS.items():
            pkg[name].docstring.value += "".join(map(_program, programs))
        for module in public_modules(pkg):
            _link(module)
            _lead_to_history(module)


def _fence(thing: griffe.Object) -> None:
    """Put a code fence around the doctests of an object and of its members."""
    if thing.docstring is not None and "```" not in thing.docstring.value:
        thing.docstring.value = _DOCTEST.sub(_fenced, thing.docstring.value)
    for member in thing.members.values():
        if isinstance(member, griffe.Object):
            _fence(member)


def _program(name: str) -> str:
    shown = f"\n\n```python\n{(EXAMPLES / f'{name}.py').read_text(encoding='utf-8')}```"
    output = EXAMPLES / f"{name}.out"
    return f"{shown}\n\nIt prints:\n\n```text\n{output.read_text(encoding='utf-8')}```" if output.exists() else shown


def public_modules(module: griffe.Module) -> Iterator[griffe.Module]:
    """The public modules: those that list their names."""
    if module.exports is not None and not any(part.startswith("_") for part in module.path.split(".")):
        yield module
    for member in module.modules.values():
        if not member.is_alias:
            yield from public_modules(member)


def public(module: griffe.Module) -> dict[str, griffe.Object]:
    """The public names of a module, each with what it names."""
    found = {str(name): module[str(name)] for name in module.exports or ()}
    return {name: each.final_target if each.is_alias else each for name, each in found.items()}


class Example(NamedTuple):
    """An example of a page.

    Attributes:
        path: The path of what shows it.
        text: Its code, with what comes back.
        types: The types of what it is about: of parameters, results and attributes.
    """

    path: str
    text: str
    types: str

    def uses(self, name: str) -> bool:
        """Whether the code has a name."""
        return re.search(rf"\b{re.escape(name)}\b", self.text) is not None

    def is_about(self, name: str) -> bool:
        """Whether what it is about takes, returns or has something of a type."""
        return re.search(rf"\b{re.escape(name)}\b", self.types) is not None


def examples(module: griffe.Module) -> list[Example]:
    """The examples of a module's page, in their order."""
    found: list[tuple[str, griffe.Object | griffe.Alias]] = [(module.path, module)]
    for name, thing in public(module).items():
        found.append((f"{module.path}.{name}", thing))
        if thing.is_class:
            own = [each for each in thing.members.values() if not each.is_alias and not each.name.startswith("_")]
            found += [(f"{module.path}.{name}.{each.name}", each) for each in own]
    return [Example(path, shown(thing), _types(thing)) for path, thing in found if shown(thing)]


def _types(thing: griffe.Object | griffe.Alias) -> str:
    """The types of a function's parameters and result, or of a class's attributes and methods."""
    if isinstance(thing, griffe.Function):
        return " ".join(str(each) for each in (thing.returns, *(each.annotation for each in thing.parameters)))
    if isinstance(thing, griffe.Attribute):
        return str(thing.annotation)
    return " ".join(_types(each) for each in thing.members.values() if thing.is_class and not each.is_alias)


def shown(thing: griffe.Object | griffe.Alias) -> str:
    """The code of the examples in a docstring."""
    return "" if thing.docstring is None else "\n".join(_SHOWN.findall(thing.docstring.value))


def has_example(thing: griffe.Object | griffe.Alias) -> bool:
    """Whether the entry of a name shows an example, or leads to one."""
    return bool(shown(thing)) or (thing.docstring is not None and _LINK in thing.docstring.value)


def _link(module: griffe.Module) -> None:
    """Lead from each public name without an example to the first one that uses it, or is about its type."""
    of_page = examples(module)
    for name, thing in public(module).items():
        if not has_example(thing):
            fitting = [*(e for e in of_page if e.uses(name)), *(e for e in of_page if e.is_about(name))]
            if fitting:
                path = fitting[0].path
                link = f"{_LINK}[`{path.removeprefix('agentmodel.')}`][{path}]."
                before = "" if thing.docstring is None else f"{thing.docstring.value}\n\n"
                thing.docstring = griffe.Docstring(before + link, parent=thing, lineno=thing.lineno)


def _lead_to_history(module: griffe.Module) -> None:
    """Say what `model` and `folder` are, on a page whose examples use them."""
    if any(_HISTORY.search(each.text) for each in examples(module)) and module.docstring is not None:
        module.docstring.value += (
            "\n\n`model` and `folder` in the examples are those of [this history][reference-history]."
        )
