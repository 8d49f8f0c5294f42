"""Griffe extension: attributes are documented by what is written beside them.

An attribute of an entity has its docstring and then what its specifier says. Any other attribute without a docstring
takes its text from the first of these: the ``Attributes:`` of its class; the
description of a pydantic field; the specifier of an entity's attribute or of a warehouse column, with the comment
beside it; that comment alone; the argument of the same name; the same attribute of a base class. A comment stands at
the end of the line, or above a group of attributes. Errors get a table of their codes, and settings the names of their
environment variables.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import griffe

_COMMENT = re.compile(r"""^[^"'#]*(?:(?:"[^"]*"|'[^']*')[^"'#]*)*\#\s*(?P<text>.+?)\s*$""")
_MARKER = re.compile(r"\s*(?:noqa|type|fmt|pragma):.*")
_KEYS = {
    "partition": "Partition key (`PK`)",
    "sort": "Sort key (`SK`)",
    "index_partition": "Partition key of the index (`GSI1_PK`)",
    "index_sort": "Sort key of the index (`GSI1_SK`)",
}
_LIMITS = {
    "gt": "be above {}",
    "ge": "be at least {}",
    "lt": "be below {}",
    "le": "be at most {}",
    "min_length": "have {} or more characters",
    "pattern": "match `{}`",
}


class Fields(griffe.Extension):
    """Documents attributes, settings and error codes."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Write the missing docstrings once everything is loaded."""
        classes = list(_classes(pkg))
        for cls in classes:
            _take_listed(cls)
            for attribute in _own(cls):
                _describe(cls, attribute)
        _repeat_settings(pkg)
        for cls in classes:  # once the base classes have their texts
            for attribute in _untold(cls):
                _inherit(cls, attribute)
        for module in _modules(pkg):
            for attribute in _untold(module):
                if text := _key_format(attribute) or _comment(attribute):
                    _tell(attribute, text)
        if "exceptions" in pkg.modules:
            _list_codes(pkg.modules["exceptions"])


def _repeat_settings(pkg: griffe.Module) -> None:
    """Give the settings as keyword arguments the texts of the settings."""
    if "config" in pkg.modules:
        config = pkg.modules["config"]
        for attribute in _untold(config["SettingsOptions"]):
            _tell(attribute, config[f"Settings.{attribute.name}"].docstring.value)


def _modules(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for member in module.modules.values():
        if not member.is_alias:
            yield from _modules(member)


def _classes(scope: griffe.Module | griffe.Class) -> Iterator[griffe.Class]:
    for member in scope.members.values():
        if member.is_alias:
            continue
        if isinstance(member, griffe.Class):
            yield member
        if isinstance(member, griffe.Module | griffe.Class):
            yield from _classes(member)


def _own(scope: griffe.Module | griffe.Class) -> list[griffe.Attribute]:
    """The public attributes that are defined here."""
    found = [each for each in scope.members.values() if not each.is_alias and not each.name.startswith("_")]
    return [each for each in found if isinstance(each, griffe.Attribute)]


def _untold(scope: griffe.Module | griffe.Class) -> list[griffe.Attribute]:
    """The public attributes that have no docstring, and are defined here."""
    return [each for each in _own(scope) if each.docstring is None]


def _tell(attribute: griffe.Attribute, text: str) -> None:
    attribute.docstring = griffe.Docstring(text, lineno=attribute.lineno, parent=attribute)


def _take_listed(cls: griffe.Class) -> None:
    """Give each attribute what the class docstring lists under ``Attributes:``; the page shows it there only."""
    for section in [] if cls.docstring is None else cls.docstring.parse("google"):
        if isinstance(section, griffe.DocstringSectionAttributes):
            for listed in section.value:
                member = cls.members.get(listed.name)
                if member is None:
                    member = griffe.Attribute(listed.name, annotation=listed.annotation, parent=cls, lineno=cls.lineno)
                    member.labels.add("instance-attribute")
                    cls.set_member(listed.name, member)
                if isinstance(member, griffe.Object) and member.docstring is None:
                    member.docstring = griffe.Docstring(listed.description, lineno=cls.lineno, parent=member)


def _describe(cls: griffe.Class, attribute: griffe.Attribute) -> None:
    call = _call(attribute.value)
    name = "" if call is None else ast.unparse(call.func)
    text = None
    if attribute.docstring is not None:
        if call is not None and str(attribute.annotation or "").startswith("Attr["):
            _tell(attribute, f"{attribute.docstring.value} {_entity(cls.package, name, call)}")
        return
    if call is not None and name == "Field":
        text = _pydantic(cls, attribute, call)
    elif call is not None and str(attribute.annotation or "").startswith("Attr["):
        text = _entity(cls.package, name, call)
    elif call is not None and name == "mapped_column":
        text = _column(attribute.name, call)
    elif call is not None and name == "_related":
        text = _relationship(call)
    elif call is not None and name in {"key", "lookup"} and cls.docstring is not None:
        text = _key(attribute.name, name, call)
    comment = _comment(attribute) if name != "Field" or text is None else None
    if told := " ".join(filter(None, (text, comment))):
        _tell(attribute, told)


def _call(value: Any) -> ast.Call | None:
    try:
        tree = ast.parse(str(value), mode="eval").body
    except SyntaxError:
        return None
    return tree if isinstance(tree, ast.Call) else None


def _pydantic(cls: griffe.Class, attribute: griffe.Attribute, call: ast.Call) -> str | None:
    """Describe a field: what it means, its bounds, and, of a setting, its variable; its default becomes its value."""
    told = {each.arg: each.value for each in call.keywords if each.arg}
    limits = [text.format(ast.literal_eval(told[name])) for name, text in _LIMITS.items() if name in told]
    lines = [ast.literal_eval(told["description"])] if "description" in told else []
    lines += [f"It must {' and '.join(limits)}."] if limits else []
    if "default" in told:
        attribute.value = ast.unparse(told["default"])
    elif "default_factory" in told:
        attribute.value = f"{ast.unparse(told['default_factory'])}()"
    else:
        attribute.value = None
    config = cls.members.get("model_config")
    prefix = re.search(r"env_prefix='(\w+)'", str(getattr(config, "value", "")).replace('"', "'"))
    if prefix is not None:
        default = "" if attribute.value in (None, "None") else f" Default: `{attribute.value}`."
        lines.append(f"Environment variable: `{prefix[1]}{attribute.name.upper()}`.{default or ' Not set by default.'}")
    return "\n\n".join(lines) or None


def _entity(package: griffe.Module, specifier: str, call: ast.Call) -> str:
    """Describe an attribute of an entity by its specifier."""
    told = package[f"dynamo.attributes.{specifier}"].docstring
    kind = re.split(r"[;\n]", str(told.value))[0].removeprefix("Declare ").rstrip(".") if told else specifier
    first = call.args[0] if call.args else None
    stored = str(first.value) if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
    if specifier == "identifier":
        return f"Id that starts with `{stored}`; a part of a key."
    if specifier in {"key_text", "key_count"}:
        return f"{kind[0].upper()}{kind[1:]}."
    optional = any(each.arg == "default" and ast.unparse(each.value) == "None" for each in call.keywords)
    return f"Stored as `{stored}`: {kind}{'; may be None' if optional else ''}."


def _relationship(call: ast.Call) -> str:
    """Describe a relationship by the columns that are equal."""
    pairs = " and ".join(f"`{ast.literal_eval(pair)}`" for pair in call.args)
    return f"{'Rows' if call.keywords else 'The row'} with {pairs}; to read only."


def _key(name: str, kind: str, call: ast.Call) -> str:
    parts = [f"`{ast.unparse(each)}`" for each in (call.args if kind == "lookup" else call.args[1:])]
    made = " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
    if kind == "lookup":
        return f"Make the key of an item from {made}."
    where = f"in the format `{ast.unparse(call.args[0])}`"
    return f"{_KEYS.get(name, 'Key')}, {f'made of {made}, ' if made else ''}{where}."


def _key_format(attribute: griffe.Attribute) -> str | None:
    """Describe a key of `agentmodel.keys` by its parts."""
    call = _call(attribute.value)
    if call is None or ast.unparse(call.func) != "KeyFormat":
        return None
    name, *parts = call.args
    shown = [_part(part) for part in parts]
    return f"The {ast.literal_eval(name)}: `{'#'.join(shown)}`."


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    return f"<{ast.literal_eval(part.args[0]) if isinstance(part, ast.Call) and part.args else 'score'}>"


def _column(name: str, call: ast.Call) -> str:
    kinds = list(call.args)
    if kinds and isinstance(kinds[0], ast.Constant):
        name = str(ast.literal_eval(kinds.pop(0)))
    kind = "".join(f", `{ast.unparse(each)}`" for each in kinds)
    primary = any(each.arg == "primary_key" for each in call.keywords)
    return f"Column `{name}`{kind}{'; a part of the primary key' if primary else ''}."


def _comment(attribute: griffe.Attribute) -> str | None:
    """The comment at the end of an attribute's lines, else the one above its group, as a sentence."""
    if attribute.lineno is None or isinstance(attribute.filepath, list):
        return None
    lines = attribute.lines_collection[attribute.filepath]
    for number in {attribute.endlineno or attribute.lineno, attribute.lineno}:
        if text := _text_of(lines[number - 1]):
            return _sentence(text)
    above: list[str] = []
    indent = len(lines[attribute.lineno - 1]) - len(lines[attribute.lineno - 1].lstrip())
    for line in reversed(lines[: attribute.lineno - 1]):
        if not line.strip() or len(line) - len(line.lstrip()) < indent:
            break
        if line.strip().startswith("# "):
            above.insert(0, line.strip()[2:])
        elif above:
            break
    return _sentence(" ".join(above)) if above and not above[0].startswith("-") else None


def _text_of(line: str) -> str | None:
    found = _COMMENT.match(line)
    text = _MARKER.sub("", found["text"]).strip() if found else ""
    return None if not text or line.strip().startswith("#") else text


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."


def _inherit(cls: griffe.Class, attribute: griffe.Attribute) -> None:
    for section in [] if cls.docstring is None else cls.docstring.parse("google"):
        if isinstance(section, griffe.DocstringSectionParameters):
            for listed in section.value:
                if listed.name == attribute.name:
                    _tell(attribute, listed.description)
                    return
    for base in cls.mro():
        above = base.members.get(attribute.name)
        if above is not None and not above.is_alias and above.docstring is not None:
            _tell(attribute, above.docstring.value)
            return


def _list_codes(module: griffe.Module) -> None:
    """Write the table of errors by their codes below the module's text."""
    rows = []
    for name, cls in module.classes.items():
        code = cls.members.get("code")
        if isinstance(code, griffe.Attribute) and cls.docstring is not None:
            when = " ".join(cls.docstring.value.partition("\n\n")[0].split())
            rows.append((ast.literal_eval(str(code.value)), name, when))
    if rows and module.docstring is not None:
        table = [f"| `{code}` | [{name}][agentmodel.exceptions.{name}] | {when} |" for code, name, when in sorted(rows)]
        module.docstring.value += "\n".join(["", "", "| Code | Error | When |", "|---|---|---|", *table])
