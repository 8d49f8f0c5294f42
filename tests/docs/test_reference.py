"""The reference has every public name, and the navigation has every page."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import agentmodel
from agentmodel.exceptions import MissingExtraError

griffe = pytest.importorskip("griffe", reason="the docs' packages are not installed")
yaml = pytest.importorskip("yaml", reason="the docs' packages are not installed")

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "reference"
WITH_DOCSTRINGS = (types.FunctionType, staticmethod, classmethod, property, cached_property)


def public_modules() -> set[str]:
    """Each public module, and each package with public names."""
    return {
        module.name
        for module in pkgutil.walk_packages(agentmodel.__path__, "agentmodel.")
        if not any(part.startswith("_") for part in module.name.split("."))
        if not module.ispkg or has_names(module.name)
    }


def has_names(package: str) -> bool:
    """Whether a package has public names; one whose library has an environment of its own has."""
    try:
        return hasattr(importlib.import_module(package), "__all__")
    except MissingExtraError:
        return True


def documented_modules() -> set[str]:
    """The modules that a page of the reference asks for."""
    texts = [path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")]
    return {name for text in texts for name in re.findall(r"^::: (agentmodel\.[\w.]+)", text, re.MULTILINE)}


# What there is


def public_names(module: str) -> Iterator[str]:
    """The names of a module's `__all__`, and the members of its classes that have no underscore."""
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        value = getattr(loaded, name)
        yield f"{module}.{name}"
        if inspect.isclass(value) and value.__module__.startswith("agentmodel."):
            yield from (f"{module}.{name}.{member}" for member in members(value))


def members(kind: type) -> set[str]:
    """The public methods, properties and fields that a class itself defines."""
    defined = {name for name, value in vars(kind).items() if isinstance(value, WITH_DOCSTRINGS)}
    fields = set(vars(kind).get("__annotations__", ())) if is_dataclass(kind) or is_named_tuple(kind) else set()
    fields |= set(getattr(kind, "model_fields", ())) & set(vars(kind).get("__annotations__", ()))
    return {
        name
        for name in defined | fields
        if not name.startswith("_") and not is_made(kind, name) and not is_told_above(kind, name)
    }


def is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def is_made(kind: type, name: str) -> bool:
    """Whether a decorator or a base class made a method, such as NamedTuple's `_replace`."""
    value = vars(kind).get(name)
    return isinstance(value, types.FunctionType) and not (value.__module__ or "").startswith("agentmodel.")


def is_told_above(kind: type, name: str) -> bool:
    """Whether a member without a docstring only overrides one that a class above documents."""
    above = [base for base in kind.__mro__[1:] if base.__module__.startswith("agentmodel.") and name in vars(base)]
    value = vars(kind).get(name)
    return bool(above) and not (isinstance(value, WITH_DOCSTRINGS) and value.__doc__)


# What is shown


@pytest.fixture(scope="module")
def shown() -> set[str]:
    """The names on the pages: what Griffe finds with the extensions and filters of the site."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    handler = yaml.safe_load(text.replace("!ENV ", ""))  # MkDocs reads these from the environment
    (options,) = [
        plugin["mkdocstrings"]["handlers"]["python"]["options"]
        for plugin in handler["plugins"]
        if isinstance(plugin, dict) and "mkdocstrings" in plugin
    ]
    loader = griffe.GriffeLoader(
        extensions=griffe.load_extensions(*(str(ROOT / path) for path in options["extensions"])),
        search_paths=[str(Path(agentmodel.__file__).parents[1])],
        docstring_parser=griffe.Parser(options["docstring_style"]),
    )
    loader.load("agentmodel")
    loader.resolve_aliases(implicit=False)
    hidden = [re.compile(each.removeprefix("!")) for each in options["filters"] if each.startswith("!")]
    return {
        name
        for module in documented_modules()
        for name in shown_of(loader.modules_collection[module], hidden, options.get("show_if_no_docstring", False))
    }


def shown_of(thing: Any, hidden: list[re.Pattern[str]], bare: bool) -> Iterator[str]:
    """What mkdocstrings shows of an object: its members by its own rules, and what its docstring lists."""
    for section in thing.docstring.parsed if thing.docstring is not None else ():
        if section.kind is griffe.DocstringSectionKind.attributes:
            yield from (f"{thing.path}.{each.name}" for each in section.value)
    for name, member in thing.members.items():
        if any(pattern.search(name) for pattern in hidden) or (member.is_imported and not member.is_public):
            continue
        if not member.is_module and (bare or member.has_docstrings):
            yield f"{thing.path}.{name}"
            if member.is_class:
                yield from (
                    f"{thing.path}.{name}{each.removeprefix(member.final_target.path if member.is_alias else member.path)}"
                    for each in shown_of(member.final_target if member.is_alias else member, hidden, bare)
                )


# Tests


def test_every_public_module_has_a_page() -> None:
    """Each public module, and each package with public names, is documented on a page."""
    assert set() == public_modules() ^ documented_modules(), "run: python scripts/reference.py"


def test_guides_come_before_the_reference_in_the_search() -> None:
    """Each page of a module has the lower weight that scripts/reference.py writes."""
    weighed = re.compile(r"---\nsearch:\n  boost: 0\.002\n---\n::: ")
    pages = {page.name: page.read_text("utf-8") for page in PAGES.glob("*.md")}

    assert len(public_modules()) <= len([text for text in pages.values() if weighed.match(text)])
    assert [] == [name for name, text in pages.items() if "\n::: " in text and not weighed.match(text)]


@pytest.mark.parametrize("module", sorted(public_modules()))
def test_every_public_name_is_shown(module: str, shown: set[str]) -> None:
    """Each public class, function, constant, method, property and field is on the page of its module."""
    try:
        if not hasattr(importlib.import_module(module), "__all__"):
            pytest.skip("it has no `__all__`")
    except MissingExtraError as error:
        pytest.skip(str(error))

    missing = sorted(set(public_names(module)) - shown)

    assert [] == missing, "without a docstring: " + ", ".join(missing)


def test_every_page_is_in_the_navigation() -> None:
    """A page that the navigation lacks breaks the strict build, which is slower to say so."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    every = [page.relative_to(ROOT / "docs").as_posix() for page in sorted((ROOT / "docs").rglob("*.md"))]
    pages = [page for page in every if not page.startswith("ko/")]  # these have mkdocs.ko.yml

    assert pages
    assert [] == [page for page in pages if f": {page}\n" not in navigation]
