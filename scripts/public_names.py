"""Write tests/unit/public_names.txt: every public module with its names, as a reviewer sees them change.

A module is public when no part of its path has an underscore; a folder counts when it has an ``__all__``. Its public
names are its ``__all__``. What a public module defines besides has an underscore, or is shared inside the package:
another file of the project imports it, and the end of the list names it.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import agentmodel

ROOT = Path(__file__).parents[1]
PACKAGE = Path(agentmodel.__file__).parent  # the source, or the wheel where that is what is tested
LIST = ROOT / "tests" / "unit" / "public_names.txt"


@cache
def public_modules() -> dict[str, Path]:
    """The public modules and their files, in the order of their names."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
            if declared(path) is None:
                continue
        if not any(part.startswith("_") for part in parts):
            found[".".join(parts)] = path
    return dict(sorted(found.items()))


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def declared(path: Path) -> list[str] | None:
    """The ``__all__`` of a file; None where it has none."""
    for node in _parsed(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def defined(path: Path) -> set[str]:
    """The names without an underscore that a file defines, or imports under the same name to pass them on."""
    names: set[str] = set()
    for node in _parsed(path).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names.update(each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.ImportFrom(names=aliases):
                names.update(alias.name for alias in aliases if alias.asname == alias.name)
    return {name for name in names if not name.startswith(("_", "pytest_"))}  # pytest finds its hooks by their names


@cache
def used() -> dict[str, set[str]]:
    """What each module of the package is asked for by the other files, and by the scripts of the project."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for module, name in _asked(_parsed(path)):
            found[module].add(name)
    return found


def _asked(tree: ast.Module) -> Iterator[tuple[str, str]]:
    modules = {}  # by the names that a file gives them
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agentmodel"):
            for alias in node.names:
                yield str(node.module), alias.name
                modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield modules[node.value.id], node.attr


def shared() -> dict[str, list[str]]:
    """What public modules define for other files of the package, but not for applications."""
    asked = used()
    return {name: names for name in public_modules() if (names := sorted(_besides(name) & asked[name]))}


def leaking() -> dict[str, list[str]]:
    """What public modules define without an underscore, although no other file imports it."""
    asked = used()
    return {name: names for name in public_modules() if (names := sorted(_besides(name) - asked[name]))}


def _besides(module: str) -> set[str]:
    path = public_modules()[module]
    return defined(path).difference(declared(path) or ())


def text() -> str:
    """The list, as the file has it."""
    public = {name: sorted(declared(path) or ()) for name, path in public_modules().items()}
    lines = [
        f"# {len(public)} public modules with {sum(map(len, public.values()))} names.",
        "# Written by `python scripts/public_names.py`; what changes here changes for applications.",
        *_listed(public),
        "",
        "# Shared inside the package: without an underscore, but not for applications.",
        *_listed(shared()),
    ]
    return "\n".join(lines) + "\n"


def _listed(modules: dict[str, list[str]]) -> list[str]:
    return [line for module, names in modules.items() for line in ("", module, *(f"    {name}" for name in names))]


if __name__ == "__main__":
    LIST.write_text(text(), encoding="utf-8")
