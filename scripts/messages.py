"""Print every message of the package with its place: python scripts/messages.py [--kind KIND] [--under PATH].

Kinds: `error` (the arguments of every exception), `log` (log lines and warnings), `help` (command help, and what each
setting means), `model` (what a model reads: plans, guards, reviews, MCP tools, frameworks) and `text` (what a person
reads on a terminal or in a report). An expression inside a text is shown in braces. Read all of them in
one sitting: that shows whether they use the same words for the same things.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
KINDS = ("error", "log", "help", "model", "text")
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
FOR_MODELS = ("suggest/", "integrations/", "tools/")
FOR_PEOPLE = ("cli/", "_demo/", "redshift/report_html.py", "redshift/reports.py", "redshift/_charts.py")
BUILTIN_ERRORS = {
    name for name, found in vars(builtins).items() if isinstance(found, type) and issubclass(found, BaseException)
}


class Message(NamedTuple):
    """One text of the package.

    Attributes:
        kind: One of `KINDS`.
        path: The file, relative to the root of the repository.
        line: Where the text begins.
        text: The text; expressions in braces.
    """

    kind: str
    path: str
    line: int
    text: str


def text_of(node: ast.expr) -> str | None:
    """The text an expression gives, with inner expressions in braces; None when no text is in it."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(_part(value) for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            parts = (text_of(left), text_of(right))
            return None if parts == (None, None) else "".join(map(_either, parts, (left, right)))
        case ast.IfExp(body=body, orelse=other):
            parts = (text_of(body), text_of(other))
            return None if parts == (None, None) else " / ".join(map(_either, parts, (body, other)))
    return None


def _part(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    return f"{{{ast.unparse(node.value if isinstance(node, ast.FormattedValue) else node)}}}"


def _either(text: str | None, node: ast.expr) -> str:
    return f"{{{ast.unparse(node)}}}" if text is None else text


def error_names(trees: Sequence[ast.Module]) -> set[str]:
    """Names of exception classes: Python's own, and those that the package derives from them."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    names = set(BUILTIN_ERRORS) | {"BadParameter", "ToolError", "ResourceError"}
    while found := {each.name for each in classes if {_name(base) for base in each.bases} & names} - names:
        names |= found
    return names


def messages(path: str, tree: ast.Module, errors: set[str]) -> Iterator[Message]:
    """The messages of one file, in the order in which they stand there."""
    inner = path.removeprefix("agentmodel/")
    reader = "model" if inner.startswith(FOR_MODELS) else "text" if inner.startswith(FOR_PEOPLE) else None
    seen = _docstrings(tree)  # texts that have been printed, or are for readers of the code
    found: list[Message] = []
    for node in ast.walk(tree):  # a call comes before its arguments
        if isinstance(node, ast.Call) and (message := _of_call(path, node, errors)):
            found.append(message)
            seen.update(map(id, ast.walk(node)))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.extend(_of_definition(path, node, errors))
        elif reader and isinstance(node, ast.expr) and id(node) not in seen:
            text = text_of(node)
            if text is not None and len(re.sub(r"\{[^}]*\}", "", text).split()) > 2:  # words, not names or formats
                found.append(Message(reader, path, node.lineno, text))
                seen.update(map(id, ast.walk(node)))
    yield from sorted(found, key=lambda message: message.line)


def _docstrings(tree: ast.Module) -> set[int]:
    """Texts that stand by themselves: docstrings, also those of constants and attributes."""
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def _of_call(path: str, call: ast.Call, errors: set[str]) -> Message | None:
    name = _name(call.func)
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    shown = " | ".join(_either(text_of(each), each) for each in arguments)
    if name in errors and arguments:
        return Message("error", path, call.lineno, f"{name}: {shown}")
    if name in LEVELS and isinstance(call.func, ast.Attribute) and "log" in ast.unparse(call.func.value).lower():
        return Message("log", path, call.lineno, f"{name}: {shown}")
    if name == "warn" and arguments:
        return Message("log", path, call.lineno, f"warn: {shown}")
    for keyword in call.keywords:
        text = text_of(keyword.value)
        if text is not None and (keyword.arg == "help" or (keyword.arg == "description" and name == "Field")):
            kind = "model" if path.startswith("agentmodel/integrations/mcp/") else "help"
            return Message(kind, path, keyword.value.lineno, text)
    return None


def _of_definition(
    path: str, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, errors: set[str]
) -> Iterator[Message]:
    text = ast.get_docstring(node)
    if isinstance(node, ast.ClassDef):
        if {_name(base) for base in node.bases} & errors:
            yield from (
                Message("error", path, call.lineno, f"{node.name}: {shown}")
                for call in ast.walk(node)
                if isinstance(call, ast.Call) and _name(call.func) == "__init__"
                for shown in [" | ".join(filter(None, map(text_of, call.args)))]
                if shown
            )
        if text and path.startswith("agentmodel/integrations/mcp/") and node.bases and not node.name.startswith("_"):
            yield Message("model", path, node.lineno, text)  # the description of its schema
    elif text and any("command" in ast.unparse(one) or "callback" in ast.unparse(one) for one in node.decorator_list):
        yield Message("help", path, node.lineno, f"{node.name.strip('_')}: {text}")
    elif (
        text
        and path.startswith("agentmodel/integrations/mcp/")
        and not node.name.startswith("_")
        and "ctx" in {one.arg for one in node.args.args}
    ):
        yield Message("model", path, node.lineno, f"{node.name}: {text}")  # the description of a tool


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def collected(root: Path, under: str = "agentmodel") -> list[Message]:
    """Every message of the files under a path of the repository."""
    trees = {
        path.relative_to(root).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(root.glob("agentmodel/**/*.py"))
    }
    errors = error_names(list(trees.values()))
    return [
        message
        for path, tree in trees.items()
        if path == under or path.startswith(f"{under.rstrip('/')}/")
        for message in messages(path, tree, errors)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the messages, one kind after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kind", choices=KINDS, help="print this kind only")
    parser.add_argument("--under", default="agentmodel", metavar="PATH", help="a file or folder, from the root")
    given = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # some texts name characters that no terminal shows
    found = collected(ROOT, given.under)
    for kind in [given.kind] if given.kind else KINDS:
        print(f"== {kind} ==")
        for message in found:
            if message.kind == kind:
                print(f"{message.path}:{message.line}\n    {' '.join(message.text.split())}")
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
