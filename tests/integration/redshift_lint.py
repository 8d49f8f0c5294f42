"""What Redshift would take differently than the engines the tests have, found in its text by a parser of its grammar.

sqlglot is the parser, and nothing else: nothing it writes is used. Each rule has a sentence, which is its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import TokenType, exp

from agentmodel.redshift import models as m

FUNCTIONS = {
    "avg", "cast", "coalesce", "count", "dateadd", "datediff", "exp", "extract", "greatest", "least", "left", "listagg",
    "ltrim", "max", "md5", "min", "mod", "nullif", "percentile_cont", "power", "rank", "row_number", "rpad",
    "split_part", "sqrt", "sum", "to_char", "to_date", "to_timestamp",
}  # fmt: skip
"""Functions the statements call; each is in Redshift's reference, and runs on its compute nodes."""

CLOCKS = {"getdate", "sysdate", "now", "timeofday", "current_date", "current_time", "current_timestamp",
          "localtime", "localtimestamp", "clock_timestamp", "statement_timestamp"}  # fmt: skip
NOT_CALLED = {"in", "over", "values", "exists", "group", "and", "or", "not", "on", "using", "as", "then", "when", "key",
              "distkey", "sortkey", "varchar", "decimal", "numeric", "union", "by", "select", "from", "where", "into", "insert",
              "join"}  # fmt: skip
WHOLE = {exp.DataType.Type.INT, exp.DataType.Type.BIGINT, exp.DataType.Type.SMALLINT}
DOUBLES = {
    column.name
    for table in m.Base.metadata.sorted_tables
    for column in table.columns
    if column.type.python_type is float
}

Tree = Any  # sqlglot's trees are of many classes
Rule = Callable[[Tree, str], bool]


def bare(tree: Tree) -> Tree:
    """An expression without its parentheses."""
    while isinstance(tree, exp.Paren):
        tree = tree.this
    return tree


def is_double(tree: Tree) -> bool:
    """Whether an expression is of double precision, by its looks."""
    tree = bare(tree)
    if isinstance(tree, exp.Cast):
        return bool(tree.to.this == exp.DataType.Type.DOUBLE)
    return isinstance(tree, exp.Column) and tree.name in DOUBLES


def tokens(statement: str) -> list[Any]:
    """The statement's words as Redshift reads them."""
    return list(sqlglot.tokenize(statement, read="redshift"))


def called(statement: str) -> set[str]:
    """Names of the functions that a statement calls."""
    found, words = set(), tokens(statement)
    for before, word, after in zip([None, *words], words, words[1:], strict=False):
        names_a_table = before is not None and before.text.lower() in ("into", "exists", "table", ".")
        quoted = word.token_type in (TokenType.IDENTIFIER, TokenType.STRING)
        if after.token_type == TokenType.L_PAREN and word.text.isidentifier() and not names_a_table and not quoted:
            found.add(word.text.lower())
    return found - NOT_CALLED


def divides(tree: Tree, _statement: str) -> bool:
    return any(not (is_double(one.this) and is_double(one.expression)) for one in tree.find_all(exp.Div))


def decimal(tree: Tree, _statement: str) -> bool:
    kinds = (exp.DataType.Type.DECIMAL, exp.DataType.Type.BIGDECIMAL)
    return any(one.this in kinds and not one.expressions for one in tree.find_all(exp.DataType))


def cuts(tree: Tree, _statement: str) -> bool:
    """Whether a fraction is cast to fewer digits."""
    fractions = (exp.Div, exp.Exp, exp.Pow, exp.Sqrt, exp.Avg)
    for cast in tree.find_all(exp.Cast):
        inner = bare(cast.this)
        fewer = cast.to.this in WHOLE or cast.to.this == exp.DataType.Type.DECIMAL
        if not fewer or isinstance(inner, exp.Round | exp.Floor | exp.Ceil):
            continue
        for one in inner.walk():
            literal = isinstance(one, exp.Literal) and not one.is_string and "." in one.this
            if literal or isinstance(one, fractions) or is_double(one):
                return True
    return False


def lost_side(tree: Tree, _statement: str) -> bool:
    """Whether a DELETE names a table that it neither deletes from nor uses."""
    if not isinstance(tree, exp.Delete):
        return False
    using = tree.args.get("using") or []
    known = {one.alias_or_name for one in [tree.this, *using] if one is not None}
    columns = tree.args["where"].find_all(exp.Column) if tree.args.get("where") else []
    return any(one.table and one.table not in known and one.find_ancestor(exp.Select) is None for one in columns)


def averages(tree: Tree, _statement: str) -> bool:
    return any(not is_double(one.this) for one in tree.find_all(exp.Avg))


def two_orders(tree: Tree, _statement: str) -> bool:
    for select in tree.find_all(exp.Select):
        groups = [one for column in select.expressions for one in column.find_all(exp.WithinGroup)]
        lists = [one for one in groups if not isinstance(one.this, exp.PercentileCont)]
        if len({one.expression.sql() for one in lists}) > 1:
            return True
    return False


def untyped(tree: Tree, _statement: str) -> bool:
    """Whether a subquery hands a literal on that has no type."""
    for select in tree.find_all(exp.Select):
        if isinstance(select.parent, exp.Subquery | exp.Union):
            for column in select.expressions:
                literal = bare(column.unalias())
                if isinstance(literal, exp.Null) or (isinstance(literal, exp.Literal) and literal.is_string):
                    return True
    return False


def half_merge(tree: Tree, statement: str) -> bool:
    if not isinstance(tree, exp.Merge):
        return False
    both = "WHEN MATCHED THEN" in statement and "WHEN NOT MATCHED THEN" in statement
    return not both or not isinstance(tree.args["using"], exp.Table)


def words(*names: str) -> Rule:
    """A rule that refuses words, wherever they are no names in quotes."""

    def found(_tree: Tree, statement: str) -> bool:
        unquoted = [one for one in tokens(statement) if one.token_type not in (TokenType.IDENTIFIER, TokenType.STRING)]
        return any(one.text.lower() in names for one in unquoted)

    return found


RULES: Mapping[str, Rule] = {
    "divides only double precision": divides,
    "averages only double precision": averages,
    "has no bare DECIMAL, which has no fraction": decimal,
    "casts no fraction to fewer digits without ROUND": cuts,
    "has no TEXT, which is VARCHAR(256)": words("text"),
    "gives every VARCHAR its bytes": lambda tree, _: any(
        one.this == exp.DataType.Type.VARCHAR and not one.expressions for one in tree.find_all(exp.DataType)
    ),
    "holds no clock": words(*CLOCKS),
    "calls only functions of Redshift": lambda _, statement: bool(called(statement) - FUNCTIONS - CLOCKS),
    "keeps the other side of DELETE": lost_side,
    "has no RETURNING, index, foreign key or serial": words(
        "returning", "index", "references", "serial", "bigserial", "conflict"
    ),
    "leaves the order of NULLs to nobody": words("nulls"),
    "leaves no parameter": lambda tree, statement: (
        any(tree.find_all(exp.Placeholder, exp.Parameter)) or "%s" in statement
    ),
    "is no INSERT behind a WITH": lambda _, statement: statement.upper().startswith("WITH"),
    "orders the LISTAGGs of a SELECT alike": two_orders,
    "gives literals of subqueries a type": untyped,
    "merges from a table, both ways": half_merge,
    "is known to the grammar": lambda tree, statement: (
        isinstance(tree, exp.Command) and not statement.upper().startswith("SET ")
    ),
}


@lru_cache(maxsize=4096)
def broken(statement: str) -> tuple[str, ...]:
    """The rules that a statement breaks."""
    tree = sqlglot.parse_one(statement, read="redshift")
    return tuple(name for name, rule in RULES.items() if rule(tree, statement))
