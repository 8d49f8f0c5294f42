"""An attribute of an entity, as type checkers see it and at run time, and a change of one.

At run time an attribute is a PynamoDB attribute (a `Field`); type checkers see an `Attr`, which exists for them only.
Each kind of attribute defines checking, writing and reading twice: as methods for single values, and as lines of source
(``check_source``, ``encode_source``, ``decode_source``) from which `agentmodel.dynamo._codegen` generates a class's
code. The kinds are in `agentmodel.dynamo.attributes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, Never, TypeVar, overload

from pynamodb.attributes import Attribute
from pynamodb.expressions.operand import _Operand  # of paths, values and what is computed of them

from agentmodel.exceptions import ValidationError

__all__ = ["Attr", "Change", "CodeScope", "Comparable", "Field", "bind", "text_of"]

_T = TypeVar("_T")

Redact = Literal["values", "schema", "text", "plain", "none"]
"""How a value is redacted: ``values`` its texts, and members of JSON by their names; ``schema`` likewise, where only
defaults and examples are values; ``text`` its texts; ``plain`` the texts in lists and maps of DynamoDB; ``none``
nothing, because it is an id or a number."""

CodeScope = dict[str, Any]
"""The objects that generated code uses, by the names that it has for them."""

if TYPE_CHECKING:
    from pynamodb.expressions.condition import BeginsWith, Between, Comparison, Condition

    class _Compared(Attribute[_T]):
        # as PynamoDB's, which take anything
        def __lt__(self, other: _T) -> Comparison: ...
        def __le__(self, other: _T) -> Comparison: ...
        def __gt__(self, other: _T) -> Comparison: ...
        def __ge__(self, other: _T) -> Comparison: ...
        def between(self, lower: _T, upper: _T) -> Between: ...
        # documented at `Field`, which is what these are at run time
        def eq(self, other: _T) -> Condition: ...  # as said
        def ne(self, other: _T) -> Condition: ...  # as said
        def lt(self, other: _T) -> Condition: ...  # as said
        def le(self, other: _T) -> Condition: ...  # as said
        def gt(self, other: _T) -> Condition: ...  # as said
        def ge(self, other: _T) -> Condition: ...  # as said

    class KeyAttr(_Compared[str], Generic[_T]):
        """A key as type checkers see it: its text on an entity, what PynamoDB compares on the class."""

        @overload  # type: ignore[override]  # an index key may be None
        def __get__(self, instance: None, owner: Any) -> KeyAttr[_T]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> _T: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...  # pyright: ignore[reportIncompatibleMethodOverride]  # likewise
        def __set__(self, instance: Any, value: Never) -> None: ...  # type: ignore[override]  # keys are made of attributes

    class Attr(_Compared[_T]):
        """An attribute as type checkers see it: its value on an entity, the attribute itself on the class."""

        @overload
        def __get__(self, instance: None, owner: Any) -> Attr[_T]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> _T: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...
        def __set__(self, instance: Any, value: _T) -> None: ...  # type: ignore[override]  # narrower on purpose
        def startswith(self: Attr[str] | Attr[str | None], prefix: str) -> BeginsWith: ...
        def to(self, value: _T) -> Change: ...  # as said
        def plus(self, amount: int) -> Change: ...  # as said

else:

    class Attr(Generic[_T]):
        """The annotation of an attribute. Type checkers see a descriptor; at run time it has no effect."""


class Change:
    """A change of one attribute in an update; made by ``Agent.score.to(3.0)`` and ``Agent.executions.plus(1)``.

    Attributes:
        field: The attribute.
        value: The new value, checked (None removes the attribute), or the amount to add.
        adds: Whether the value is added to the stored one, atomically.

    >>> from agentmodel import Agent
    >>> change = Agent.executions.plus(1)
    >>> change.value, change.adds
    (1, True)
    >>> model.repository.put(Agent(agent_id="AGT901", domain_id="DMN901", name="booker", executions=2))
    >>> model.repository.update(Agent.at("AGT901"), change).executions
    3
    """

    __slots__ = ("adds", "field", "value")

    def __init__(self, field: Field, value: Any, *, adds: bool = False) -> None:
        self.field = field
        self.value = value
        self.adds = adds

    def __repr__(self) -> str:
        return f"{self.field.name}.{'plus' if self.adds else 'to'}({self.value!r})"


def bind(scope: CodeScope, word: str, helper: Any) -> str:
    """Add ``helper`` to the scope and return its name there; it begins with an underscore, as no attribute does."""
    name = f"_{word}{len(scope)}"
    scope[name] = helper
    return name


class Comparable(Attribute[Any]):
    """An attribute with comparisons whose operands type checkers can check, as they cannot those of ``==``."""

    def accept(self, value: Any) -> Any:
        """Check a value."""
        return text_of(self.attr_name, value)

    def serialize(self, value: Any) -> Any:
        """Return the stored form of a value, which PynamoDB's conditions and changes take as it is given."""
        return text_of(self.attr_name, value)

    def eq(self, other: Any) -> Any:
        """``attribute = value``, as a condition."""
        return self == self.accept(other)

    def ne(self, other: Any) -> Any:
        """``attribute <> value``, as a condition."""
        return self != self.accept(other)

    def lt(self, other: Any) -> Any:
        """``attribute < value``, as a condition."""
        return self < self.accept(other)

    def le(self, other: Any) -> Any:
        """``attribute <= value``, as a condition."""
        return self <= self.accept(other)

    def gt(self, other: Any) -> Any:
        """``attribute > value``, as a condition."""
        return self > self.accept(other)

    def ge(self, other: Any) -> Any:
        """``attribute >= value``, as a condition."""
        return self >= self.accept(other)

    __hash__ = Attribute.__hash__


class Field(Comparable):
    """An attribute at run time. It checks, writes and reads one value.

    Attributes:
        required: Whether a constructor call and a stored item must have the attribute.
        stored: Its name in the table; empty for a part of a key that is not stored on its own.
        reads: The names under which it is read: the stored one, then its older spellings.
        default_value: The default, or a function that returns it.
        in_primary_key: Whether the attribute is a part of PK or SK; set by the entity.
        checked_ids: Ids that were checked before, when the attribute is an id.
        attr_type: DynamoDB's type of the stored value.
        name: Its name in Python.
        redact: How its value is redacted.
        holds_json: Whether its value is one of JSON, and stored as text.
    """

    attr_type = "S"
    checked_ids: dict[str, str] | None = None
    redact: Redact = "none"
    holds_json = False

    def __init__(self, stored: str, *, required: bool, default: Any = None, reads: tuple[str, ...] = ()) -> None:
        super().__init__(null=not required, attr_name=stored or None)
        self.required = required
        self.stored = stored
        self.reads = (stored, *reads) if stored else ()
        self.default_value = default
        self.name = ""
        self.in_primary_key = False

    def __set_name__(self, owner: type[Any], name: str) -> None:
        super().__set_name__(owner, name)
        self.name = name

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self
        return instance.attribute_values.get(self.name)

    def __set__(self, instance: Any, value: Any) -> None:
        accepted = self.accept(value)
        if self.in_primary_key and instance.attribute_values.get(self.name) != accepted:
            raise ValidationError(
                self.name,
                value,
                "cannot be changed because it is in the primary key: copy the item to the new key and delete this one",
            )
        instance.attribute_values[self.name] = accepted

    def accept(self, value: Any) -> Any:
        """Check a value and return it in the form in which an entity holds it.

        Raises:
            ValidationError: The value is None although the attribute is required, or its type or form is wrong.
        """
        if value is None:
            if self.required:
                raise ValidationError(self.name, None, "must be given")
            return None
        return self.check(value)

    def check_stored(self, value: Any) -> Any:
        """Check a value that was read from a key."""
        return self.accept(value)

    def check(self, value: Any) -> Any:
        """Check a value, which is not None, and return it normalised."""
        return text_of(self.name, value)

    def serialize(self, value: Any) -> Any:
        """Return the stored form of a value."""
        return text_of(self.name, value)

    # The same as source, for the generated code of a class; values without the usual form go to the methods

    def check_source(self, scope: CodeScope) -> list[str]:
        """Return statements that check the variable with the attribute's name and assign the result to it.

        They are run where the attribute is required or the variable is not None.
        """
        return [f"{self.name} = {bind(scope, 'accept', self.accept)}({self.name})"]

    def _unless(self, usual: str, scope: CodeScope) -> list[str]:
        """Return statements that call `accept` on the variable, unless it has the usual form."""
        return [f"if not ({usual}):", f"    {self.name} = {bind(scope, 'accept', self.accept)}({self.name})"]

    def encode_source(self, value: str, scope: CodeScope) -> str:
        """Return an expression for the stored form of the variable ``value``, which is not None."""
        return f"{{{self.attr_type!r}: {bind(scope, 'serialize', self.serialize)}({value})}}"

    def decode_source(self, wire: str, scope: CodeScope) -> str:
        """Return an expression for the value whose stored form is the variable ``wire``; another form raises."""
        return f"{bind(scope, 'deserialize', self.deserialize)}({wire}[{self.attr_type!r}])"

    def startswith(self, prefix: Any) -> Any:
        """``begins_with(attribute, prefix)``, as a condition.

        Raises:
            ValidationError: The attribute is not text, or the prefix is not.
        """
        if type(self).deserialize is not Attribute.deserialize or self.attr_type != "S":
            raise ValidationError(self.name, prefix, "cannot be compared by its beginning, because it is not text")
        return super().startswith(text_of(self.name, prefix))

    # Changes of PynamoDB's, for an entity's `update`; an operand, such as ``Tool.version + 1``, is DynamoDB's to check

    def set(self, value: Any) -> Any:
        """Return PynamoDB's change that sets the attribute; None removes it."""
        if value is None:
            return self.remove()
        return super().set(value if isinstance(value, _Operand | Attribute) else self.accept(value))

    def remove(self) -> Any:
        """Return PynamoDB's change that removes the attribute.

        Raises:
            ValidationError: The attribute is required, and the item could not be read without it.
        """
        self.accept(None)
        return super().remove()

    # Typed changes, for `Writer.update`

    def to(self, value: Any) -> Change:
        """Return the change that sets the attribute; None removes it."""
        return Change(self, self.accept(value))

    def plus(self, amount: int) -> Change:
        """Return the change that adds to the stored whole number, which counts as 0 when it is missing."""
        raise ValidationError(
            self.name, amount, "cannot be added because the attribute is not a whole number: set it with .to(…)"
        )


def text_of(field: str, value: Any) -> str:
    """Check that a value is text and return it as plain `str`."""
    if not isinstance(value, str):
        raise ValidationError(field, value, "must be text")
    return value if type(value) is str else str.__str__(value)  # a subclass, such as an Enum, may print differently
