"""What an editor shows, by asking the language server that editors ask (pyright's)."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import agentmodel
from agentmodel.config import Settings, SettingsOptions
from agentmodel.dynamo import models
from agentmodel.dynamo.entity import Entity

pytest.importorskip("pyright", reason="the type checkers are not installed here")

ROOT = Path(agentmodel.__file__).parents[1]
SERVER = Path(sys.executable).parent / "pyright-langserver"
ENTITIES = {
    name: kind
    for name in models.__all__
    if isinstance(kind := getattr(models, name), type) and issubclass(kind, Entity)
}
USED = f"""
from agentmodel import AgentModel, AsyncAgentModel
from agentmodel.dynamo.models import {", ".join(ENTITIES)}
model = AgentModel.local(ra)
opened = AgentModel.from_settings(ra)
async_model = AsyncAgentModel.local(ra)
{"".join(f"{name}(sc)" + chr(10) for name in ENTITIES)}
agent = Agent(agent_id="AGT001", domain_id="DMN001", name="finder")
agent.score
agent.
"""


class Editor:
    """A file that is open in an editor."""

    def __init__(self, folder: Path, text: str) -> None:
        self._lines = text.splitlines()
        self._uri = (folder / "used.py").as_uri()
        self._server = subprocess.Popen([str(SERVER), "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._asked = 0
        self.ask("initialize", processId=None, rootUri=folder.as_uri(), capabilities={
            "workspace": {"configuration": True},
            "textDocument": {"hover": {"contentFormat": ["plaintext"]}, "signatureHelp": {"signatureInformation": {}}},
        })  # fmt: skip
        self._send(method="initialized", params={})
        opened = {"uri": self._uri, "languageId": "python", "version": 1, "text": text}
        self._send(method="textDocument/didOpen", params={"textDocument": opened})

    def close(self) -> None:
        self._server.kill()
        self._server.communicate()

    def _send(self, **message: Any) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._server.stdin is not None
        self._server.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._server.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        out = self._server.stdout
        assert out is not None
        length = 0
        while line := out.readline().strip():
            name, _, value = line.partition(b": ")
            length = int(value) if name == b"Content-Length" else length
        assert length, "the language server has ended"
        found: dict[str, Any] = json.loads(out.read(length))
        return found

    def ask(self, method: str, **params: Any) -> Any:
        self._asked += 1
        self._send(id=self._asked, method=method, params=params)
        while True:
            message = self._receive()
            if "method" not in message and message["id"] == self._asked:
                return message["result"]
            if "method" in message and "id" in message:  # the server asks for its settings
                sections = message["params"].get("items", []) if isinstance(message["params"], dict) else []
                settings = {"python": {"pythonPath": sys.executable, "analysis": {"extraPaths": [str(ROOT)]}},
                            "python.analysis": {"extraPaths": [str(ROOT)]}}  # fmt: skip
                self._send(id=message["id"], result=[settings.get(each.get("section"), {}) for each in sections])

    def at(self, method: str, text: str, *, before: str = "") -> Any:
        """Ask about the end of a text in the file, or about the place in it before another text."""
        line = next(number for number, line in enumerate(self._lines) if text in line and not line[0].isspace())
        end = text.index(before) - 1 if before else len(text)
        place = {"line": line, "character": self._lines[line].index(text) + end}
        return self.ask(f"textDocument/{method}", textDocument={"uri": self._uri}, position=place)

    def shown(self, text: str, *, before: str = "") -> str:
        """What hovering over a text shows."""
        return str(self.at("hover", text, before=before)["contents"]["value"])

    def offered(self, text: str) -> set[str]:
        """What completion offers after a text."""
        return {each["label"] for each in self.at("completion", text)["items"]}


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    """An editor with a file that uses the package."""
    made = Editor(tmp_path_factory.mktemp("editor"), USED)
    yield made
    made.close()


@pytest.mark.parametrize("name", ENTITIES)
def test_an_entity_shows_its_own_signature(editor: Editor, name: str) -> None:
    """Hovering over a class shows its attributes in their order, `version` and `expires_at` last; PynamoDB's are gone."""
    shown = editor.shown(f"{name}(sc)", before="(")
    help_ = editor.at("signatureHelp", f"{name}(sc")["signatures"][0]["label"]

    for text in (shown, help_):
        places = [re.search(rf"\b{each}: ", text) for each in ENTITIES[name].layout.fields]
        starts = [place.start() for place in places if place is not None]
        assert len(places) == len(starts)
        assert sorted(starts) == starts
        assert ["version", "expires_at"] == list(ENTITIES[name].layout.fields)[-2:]
        assert "hash_key" not in text
    assert "attributes" in shown


def test_attributes_and_arguments_are_completed(editor: Editor) -> None:
    """After a dot there are the attributes, in a call the arguments that are not given."""
    assert {"agent_id", "score", "version", "expires_at", "gsi1"} <= editor.offered("agent.")
    assert "score=" in editor.offered("Agent(sc")


def test_an_attribute_shows_its_meaning(editor: Editor) -> None:
    """Hovering over an attribute shows its type and what it means."""
    shown = editor.shown("agent.score")

    assert "score: float" in shown
    assert "What the agents of a domain are ordered by" in shown


@pytest.mark.parametrize("name", ENTITIES)
def test_every_attribute_says_what_it_means(name: str) -> None:
    """Each attribute that a class declares has a docstring of its own, which editors and the reference show."""
    tree = ast.parse(Path(models.__file__).read_text(encoding="utf-8"))
    (declared,) = [each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == name]
    told = {
        one.target.id
        for one, after in zip(declared.body, declared.body[1:], strict=False)
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and str(after.value.value).strip()
    }

    assert set(ENTITIES[name].layout.fields) == told


@pytest.mark.parametrize("call", ["AgentModel.local(ra", "AgentModel.from_settings(ra", "AsyncAgentModel.local(ra"])
def test_settings_are_completed(editor: Editor, call: str) -> None:
    """The settings are arguments that an editor offers, with their types."""
    assert {"ranking=", "redact="} <= editor.offered(call)
    label = editor.at("signatureHelp", call)["signatures"][0]["label"]
    for name in Settings.model_fields:
        assert f"{name}: " in label


def test_the_arguments_are_the_settings() -> None:
    """The dictionary that editors complete from has each setting; `redact` is an argument of its own."""
    offered = get_type_hints(SettingsOptions)

    assert set(Settings.model_fields) == {*offered, "redact"}
    assert Settings.model_fields["ranking"].annotation == offered["ranking"]
    assert Settings.load(**dict.fromkeys(("region", "table"), "abc")).region == "abc"
