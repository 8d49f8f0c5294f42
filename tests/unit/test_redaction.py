"""What the redactors find and leave, in plain texts and in JSON."""

from __future__ import annotations

import json
import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from agentmodel._log import logger
from agentmodel._redaction import LEFT_OUT, Redaction, redaction_of, restored
from agentmodel._values.text import storable_text
from agentmodel.config import Settings
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import ConfigurationError, MissingExtraError, ValidationError
from agentmodel.privacy import PatternRedactor, PresidioRedactor
from tests.secret_texts import FORMS, ORDINARY

KEY = "a secret of sixteen characters"


@pytest.mark.parametrize("around", ["{}", "It is {}.", "저장된 값은 {}입니다", "a\n{}\tb", '"{}"', "({})", "x={}"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found(form: str, around: str) -> None:
    """A find of each kind is replaced wherever it stands, and nothing of it is left."""
    kind, secret = FORMS[form]

    redacted = PatternRedactor()(around.format(secret))

    assert f"[{kind}]" in redacted
    assert secret not in redacted
    assert around.split("{}", maxsplit=1)[0] == redacted[: len(around.split("{}", maxsplit=1)[0])]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_texts_stay(text: str) -> None:
    """Ids, times, numbers and words that look a little like a find stay as they are."""
    assert text == PatternRedactor()(text)


@pytest.mark.parametrize("form", FORMS)
def test_redacting_twice_changes_nothing(form: str) -> None:
    """What stands in the place of a find is none."""
    for redactor in (PatternRedactor(), PatternRedactor(action="token", key=KEY), PatternRedactor(action="drop")):
        once = redactor(f"it is {FORMS[form][1]} here")

        assert once == redactor(once)


@pytest.mark.parametrize("form", ["Visa", "mobile telephone", "business number", "resident number", "e-mail"])
@pytest.mark.parametrize("around", ["1,{},2", "{},{}", "[1,{},3]", '{{"a":[7,{}]}}', "{}.", "{}.0"])
def test_finds_between_commas_and_before_decimals_are_found(form: str, around: str) -> None:
    """A number in CSV, in compact JSON, or with the decimals that a data frame gives it is found as any other."""
    _, secret = FORMS[form]

    assert secret not in Redaction(PatternRedactor()).text(around.format(secret, secret))


def test_other_spellings_of_ascii_are_the_same() -> None:
    """Wide and Arabic digits, blanks and hyphens of typography make no difference, not to a token either."""
    wide = {ord(char): ord(char) + 0xFEE0 for char in "0123456789-+@.()"}
    arabic = {48 + digit: 0x0660 + digit for digit in range(10)}
    thin, minus = {32: 0x202F, 45: 0x2212}, {32: 0x2009, 45: 0x2011}
    token = PatternRedactor(action="token", key=KEY)
    for form in ("Visa", "Visa in groups", "Mastercard", "mobile telephone", "resident number", "e-mail"):
        kind, secret = FORMS[form]
        for spelling in (wide, arabic, thin, minus):
            assert f"값 [{kind}]." == PatternRedactor()(f"값 {secret.translate(spelling)}.")
            assert token(secret) == token(secret.translate(spelling))


@pytest.mark.parametrize(
    "text",
    [
        'answer: {"token": "hunter2"}',
        "answer: {'authorization': 'hunter2', 'n': 1}",
        '{"a": 1}\n{"token": "hunter2"}',
        '{"token": "hunter2",}',
        '\ufeff{"token": "hunter2"}',
        "Session(token='hunter2', n=1)",
        'token: "x \\"hunter2"',
        'sent {\\"password\\": \\"x&hunter2\\"}',
        "https://example.com/a?x=1&token=hunter2&b=2",
        "https://bucket.example.com/a?X-Amz-Signature=hunter2&X-Amz-Security-Token=hunter2",
        "https://blob.example.com/a?sv=1&sig=hunter2",
        "Authorization: hunter2",
        "Authorization: Basic hunter:",
        "Cookie: sid=hunter2; b=hunter2",
        "redis://u:p'hunter2@host",
        "password=[x]hunter2",
        "password=<hunter2",
        "password=a@example.com-hunter2",
        '{"db_pwd": "hunter2", "newPassword2": "hunter2", "api_keys": ["hunter2"], "비밀번호": "hunter2"}',
    ],
)
def test_members_are_found_outside_of_json_too(text: str) -> None:
    """What stands beside a name that says that it is secret is redacted in any notation, and twice as once."""
    for redactor in (PatternRedactor(), PatternRedactor(action="token", key=KEY), PatternRedactor(action="drop")):
        redaction = Redaction(redactor)
        once = redaction.text(text)

        assert "hunter" not in once
        assert once == redaction.text(once)


def test_equal_values_have_equal_tokens() -> None:
    """However a value is written, its token is the same for one key, and another one for another key."""
    ours, other = (PatternRedactor(action="token", key=key) for key in (KEY, KEY[::-1]))

    assert ours("4111 1111 1111 1111") == ours("4111-1111-1111-1111") == ours("4111111111111111")
    assert ours("Mina@Example.com") == ours("mina@example.com")
    assert ours("mina@example.com") != ours("nina@example.com")
    assert ours("mina@example.com") != other("mina@example.com")


def test_each_kind_has_its_own_action() -> None:
    """A kind can be kept, dropped, masked or made a token, whatever the others are."""
    redactor = PatternRedactor(kinds={"email": "keep", "card": "drop", "phone": "token"}, key=KEY)

    redacted = redactor("mina@example.com 4111111111111111 010-1234-5678 124-81-00998")

    assert redacted.startswith("mina@example.com  [phone:")
    assert redacted.endswith("] [business_number]")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"kinds": {"iris": "mask"}}, "kinds"),
        ({"action": "hide"}, "action"),
        ({"fields": {"pin": "hide"}}, "action"),
        ({"action": "token"}, "key"),
        ({"kinds": {"email": "token"}, "key": "short"}, "key"),
    ],
)
def test_a_policy_that_cannot_be_is_named(given: dict[str, Any], field: str) -> None:
    """A wrong kind, action or key is a `ValidationError` that names it, and never shows the key."""
    with pytest.raises(ValidationError) as caught:
        PatternRedactor(**given)

    assert field == caught.value.field
    assert "short" not in str(caught.value)


# JSON


def redacted(value: Any, **options: Any) -> Any:
    return json.loads(Redaction(PatternRedactor(**options)).text(json.dumps(value)))


def test_json_keeps_its_shape() -> None:
    """Strings and numbers within JSON are redacted; names and everything else stay, and it stays valid."""
    given = {"to": ["mina@example.com", {"n": 4111111111111111}], "at": 1718355600123, "ok": True, "no": None, "f": 1.5}

    assert given | {"to": ["[email]", {"n": "[card]"}]} == redacted(given)


def test_numbers_of_json_keep_their_digits() -> None:
    """A text of JSON is changed only where there is a find."""
    text = '{"price": 1.50,"big": 12345678901234567890123,  "to": "mina@example.com"}'

    assert text.replace("mina@example.com", "[email]") == Redaction(PatternRedactor()).text(text)


@pytest.mark.parametrize("name", ["password", "db_password", "X-API-Key", "clientSecret", "Authorization", "token"])
def test_members_are_redacted_by_their_names(name: str) -> None:
    """A member whose name says that it is secret is masked, whatever is in it, and its name stays."""
    given = {name: "hunter2", "in": {name: {"a": ["b", 7], "on": True}}}

    assert {name: "[redacted]", "in": {name: {"a": ["[redacted]", "[redacted]"], "on": True}}} == redacted(given)


def test_names_of_ones_own() -> None:
    """Members can be dropped, masked or made a token by name, and a built-in name can be taken out."""
    given = {"home_address": "Main St 5", "HomeAddress": 5, "nick": "m", "token": "page2", "x": {"nick": "m"}}
    fields: Any = {"home-address": "drop", "nick": "token", "token": "keep"}

    got = redacted(given, fields=fields, key=KEY)

    assert (None, None, "page2") == (got["home_address"], got["HomeAddress"], got["token"])
    assert got["nick"] == got["x"]["nick"] != "m"


@pytest.mark.parametrize(
    "text",
    [
        '{"body": "{\\"password\\": \\"hunter2\\"}"}',
        '{"a": "mina\\u0040example.com"}',
        '{"a": "x\\n4111111111111111"}',
        '{"a": "' + "é" * 40_000 + '", "password": "hunter2"}',
        '{"password": "hunter2' + "é" * 40_000 + '"}',
        '{"mina@example.com": 1}',
    ],
    ids=["within a string", "escaped", "after a line end", "cut", "cut within", "a name"],
)
def test_hidden_finds_in_json_are_found(text: str) -> None:
    """A find is found also in JSON within a string, behind an escape, and in JSON that was cut."""
    stored = storable_text(text)
    assert stored is not None

    got = Redaction(PatternRedactor()).text(stored)

    assert [] == [secret for secret in ("hunter2", "4111111111111111", "mina@", "mina\\u0040") if secret in got]


@pytest.mark.parametrize("secret", [secret for _, secret in FORMS.values()])
def test_no_beginning_of_a_find_is_left_before_a_cut(secret: str) -> None:
    """Wherever a text is cut, at least the half of a find that was cut through is left out."""
    redaction = Redaction(PatternRedactor())
    filler = "word " * 20
    for length in range(len(secret) // 2, len(secret)):
        limit = len(filler) + length + len("… [cut, 999 bytes]".encode())
        cut = storable_text(filler + secret + " " + "y" * 300, limit=limit)
        assert cut is not None
        got = redaction.text(cut)

        assert secret[: len(secret) // 2] not in got, got


def test_any_json_that_is_deep_is_redacted() -> None:
    """JSON too deep for Python's parser is redacted all the same."""
    text = "[" * 100_000 + '"mina@example.com"' + "]" * 100_000

    assert text.replace("mina@example.com", "[email]") == Redaction(PatternRedactor()).text(text)


# A redactor of the application


def test_ones_own_redactor_gets_the_texts_in_json() -> None:
    """A function of a text is asked for each text and number of JSON, and the JSON stays valid."""
    redaction = Redaction(lambda text: text.replace("mina", '"x"').replace("7", "seven"))

    assert {"who": ['"x"', "seven"]} == json.loads(redaction.text('{"who": ["mina", 7]}'))
    assert 'ask "x"' == redaction.text("ask mina")


class Fails:
    """A redactor that fails, or returns no text."""

    def __init__(self, gives: Any) -> None:
        self.gives = gives

    def __call__(self, text: str, /) -> Any:
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


@pytest.mark.parametrize(
    "gives", [ValueError("about mina"), None, 5, "mina \ud800"], ids=["raises", "None", "a number", "half a character"]
)
def test_a_redactor_that_fails_keeps_nothing(gives: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A text on which a redactor fails is left out with a mark, and one warning says so, without the text."""
    redaction = Redaction(Fails(gives))
    with caplog.at_level(logging.WARNING):
        texts = [redaction.text("about mina"), redaction.text('{"who": "mina"}'), redaction.text("mina")]

    assert LEFT_OUT == texts[0] == texts[2]
    assert [] == [text for text in texts if "mina" in text]
    assert ["redact.failed"] == [record.getMessage().partition(":")[0] for record in caplog.records]
    assert "mina" not in caplog.text


def test_an_interruption_passes() -> None:
    """Ctrl-C within a redactor is no failure of it."""

    def interrupted(text: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Redaction(interrupted).text("a")


# Settings


@pytest.mark.parametrize(
    ("settings", "redact", "expected"),
    [
        ({}, None, "mina@example.com"),
        ({}, True, "[email]"),
        ({}, "on", "[email]"),
        ({"redact": "on"}, None, "[email]"),
        ({"redact": "on"}, False, "mina@example.com"),
        ({"redact": "on"}, "off", "mina@example.com"),
        ({"redact": "on"}, str.upper, "MINA@EXAMPLE.COM"),
        ({"redact": "token", "redact_key": KEY}, None, "[email:mfmfipamgdgeapopnlnb]"),
    ],
)
def test_one_word_redacts(settings: dict[str, Any], redact: Any, expected: str) -> None:
    """It is off by default; an argument or a setting of one word puts it on, and the argument wins."""
    assert expected == redaction_of(Settings(**settings), redact).text("mina@example.com")


def test_a_redactor_that_is_made_of_the_built_in_one_is_asked_for_every_text() -> None:
    """What a subclass finds besides is found in JSON too, although nothing in it has a form that is known."""

    class Names(PatternRedactor):
        def __call__(self, text: str, /) -> str:
            return super().__call__(text).replace("Mina", "[name]")

    redaction = Redaction(Names())

    assert '{"who": "[name]", "card": "[card]"}' == redaction.text('{"who": "Mina", "card": "4111111111111111"}')
    assert '{"who": "[name]"}' == redaction.text('{"who": "Mina"}')


def test_tokens_without_a_key_say_which_setting_is_missing() -> None:
    """Who asks for tokens in the code is told the setting that their key comes from."""
    with pytest.raises(ValidationError, match=r"redact .*set AGENTMODEL_REDACT_KEY, or pass PatternRedactor"):
        redaction_of(Settings(), "token")


def test_the_setting_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """AGENTMODEL_REDACT=on redacts; a wrong word and tokens without a key are named."""
    monkeypatch.setenv("AGENTMODEL_REDACT", "on")
    assert "on" == Settings.load().redact

    monkeypatch.setenv("AGENTMODEL_REDACT", "yes")
    with pytest.raises(ConfigurationError, match=r"AGENTMODEL_REDACT \('yes'\)"):
        Settings.load()
    monkeypatch.setenv("AGENTMODEL_REDACT", "token")
    with pytest.raises(ConfigurationError, match="AGENTMODEL_REDACT_KEY must be set"):
        Settings.load()
    monkeypatch.setenv("AGENTMODEL_REDACT_KEY", "too short")
    with pytest.raises(ConfigurationError) as caught:
        Settings.load()
    assert "too short" not in str(caught.value)


def test_what_is_no_redactor_is_named() -> None:
    """Anything else than a word or a function is a `ValidationError`, and so is a function of asyncio."""

    async def later(text: str, /) -> str:
        return text

    wrong: list[Any] = [5, later]
    for each in wrong:
        with pytest.raises(ValidationError, match="redact"):
            redaction_of(Settings(), each)


# Logs


def test_log_lines_are_redacted(caplog: pytest.LogCaptureFixture) -> None:
    """While a table redacts, messages and tracebacks of the package's loggers are redacted; afterwards they are not."""
    log = logger("agentmodel.of_a_test")
    with caplog.at_level(logging.INFO), Table(Settings(redact="on")):
        log.info("asked %s", "mina@example.com")
        try:
            int("mina@example.com")
        except ValueError:
            log.exception("failed: %d", 5)
        log.info("asked %s", "nobody")
    assert "mina" not in caplog.text
    assert ["asked [email]", "failed: 5", "asked nobody"] == caplog.messages
    assert "ValueError: invalid literal for int() with base 10: '[email]'" in caplog.text
    assert ("nobody",) == caplog.records[-1].args

    with caplog.at_level(logging.INFO):
        log.info("asked %s", "mina@example.com")
    assert "mina@example.com" in caplog.text


def test_a_log_line_that_cannot_be_put_into_text_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """An error whose text raises is logged as such; whoever logs it goes on."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("mina@example.com")

    with Table(Settings(redact="on")):
        logger("agentmodel.of_a_test").warning("failed: %s", Odd())
    assert ["a line that cannot be put into text: RuntimeError"] == caplog.messages


def test_a_value_that_was_cut_in_a_message_is_left_out() -> None:
    """An error shows the beginning of a long value; of a find that was cut through, nothing is left."""
    error = ValidationError("values", "x" * 100 + " 4111 1111 1111 1111", "must be shorter")

    assert "4111" not in Redaction(PatternRedactor()).log_line(str(error))


# Edited arguments


def test_edited_arguments_get_their_values_back() -> None:
    """What a person left as it was shown has the original value again, at its own place."""
    original = {"to": ["mina@example.com", "nina@example.com"], "card": 4111111111111111, "n": 1, "password": "hunter2"}
    shown = redacted(original)

    assert original == restored(shown, shown=shown, original=original)
    assert original | {"n": 2} == restored(shown | {"n": 2}, shown=shown, original=original)
    edited = {"to": shown["to"][:1], "n": 3}
    assert {"to": ["mina@example.com"], "n": 3} == restored(edited, shown=shown, original=original)


# Presidio


def _presidio(monkeypatch: pytest.MonkeyPatch, finds: list[tuple[str, int, int, float]]) -> list[dict[str, Any]]:
    """Stand for Presidio, which is no dependency of the tests: its analyzer gives these finds."""
    asked: list[dict[str, Any]] = []

    class AnalyzerEngine:
        def analyze(self, text: str, **options: Any) -> list[Any]:
            asked.append({"text": text, **options})
            names = ("entity_type", "start", "end", "score")
            return [SimpleNamespace(**dict(zip(names, find, strict=True))) for find in finds]

    module = ModuleType("presidio_analyzer")
    module.AnalyzerEngine = AnalyzerEngine  # type: ignore[attr-defined]  # made here
    monkeypatch.setitem(sys.modules, "presidio_analyzer", module)
    return asked


def test_finds_of_presidio_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of finds that overlap the surest one counts, and what the patterns replaced is left alone."""
    finds = [("PERSON", 0, 4, 0.9), ("LOCATION", 2, 6, 0.6), ("URL", 10, 16, 0.9), ("DATE_TIME", 23, 28, 0.8)]
    asked = _presidio(monkeypatch, finds)
    redactor = PresidioRedactor(sys.modules["presidio_analyzer"].AnalyzerEngine(), entities=["PERSON"], score=0.4)

    assert "[person] saw at [email] on [date_time]" == redactor("Mina saw at mina@example.com on today")
    assert [
        {"text": "Mina saw at [email] on today", "language": "en", "entities": ["PERSON"], "score_threshold": 0.4}
    ] == asked


def test_presidio_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Presidio the error has the pip line."""
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)

    with pytest.raises(MissingExtraError, match=r"agentmodel\[presidio\]"):
        PresidioRedactor()


def test_with_the_real_presidio() -> None:
    """The real analyzer is asked, with recognizers of patterns and of known names, and no language model."""
    presidio = pytest.importorskip("presidio_analyzer", reason="the extra presidio is not installed")
    spacy = pytest.importorskip("spacy", reason="the extra presidio is not installed")
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    engine = SpacyNlpEngine()
    engine.nlp = {"en": spacy.blank("en")}
    analyzer = presidio.AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    analyzer.registry.add_recognizer(presidio.PatternRecognizer(supported_entity="PERSON", deny_list=["Mina Kim"]))
    redaction = Redaction(PresidioRedactor(analyzer, entities=["PERSON", "IP_ADDRESS"]))

    assert "[person], [email], [ip_address]" == redaction.text("Mina Kim, mina@example.com, 10.0.0.7")
    assert {"password": "[redacted]", "who": "[person]"} == json.loads(
        redaction.text('{"password": "hunter2", "who": "Mina Kim"}')
    )
