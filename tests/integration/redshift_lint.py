"""What Redshift would take differently than the engines the tests have, found in its text by a parser of its grammar.

sqlglot is the parser, and nothing else: nothing it writes is used. Each rule has a sentence, which is its name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import TokenType, exp

from agentmodel.redshift import models as m

FUNCTIONS = {
    "avg", "cast", "coalesce", "count", "dateadd", "datediff", "exp", "extract", "floor", "greatest", "least", "left", "length", "listagg",
    "ln", "ltrim", "max", "md5", "min", "mod", "nullif", "percentile_cont", "power", "rank", "row_number", "right", "rpad",
    "split_part", "sqrt", "sum", "to_char", "to_date", "to_timestamp",
}  # fmt: skip
"""Functions the statements call; each is in Redshift's reference, and runs on its compute nodes."""

CLOCKS = {"getdate", "sysdate", "now", "timeofday", "current_date", "current_time", "current_timestamp",
          "localtime", "localtimestamp", "clock_timestamp", "statement_timestamp"}  # fmt: skip
NOT_CALLED = {"in", "distinct", "over", "values", "exists", "group", "and", "or", "not", "on", "using", "as", "then", "when", "else", "key",
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


# -- bounds: what one item of the table could otherwise stop every refresh with -----------------------------------------

WIDEST = 65_535
ONE_OF = (exp.Coalesce, exp.Max, exp.Min, exp.Nullif, exp.Greatest, exp.Least)


@lru_cache(maxsize=1)
def widths() -> dict[str, dict[str, float]]:
    """The bytes that each column of each table holds."""
    landed = {"PK": 2_048, "SK": 1_024}
    found: dict[str, dict[str, float]] = {"AgentTable": dict(landed)}
    for table in m.Base.metadata.sorted_tables:
        lengths = {column.name: getattr(column.type, "length", None) for column in table.columns}
        found[table.name] = {name: math.inf if length is None else length for name, length in lengths.items()}
    return found


def source(column: Tree) -> tuple[Tree, dict[str, float]] | None:
    """Where a column comes from: the subquery, CTE or table of its alias, looked for from the inside out."""
    ctes = {one.alias: one for one in column.root().find_all(exp.CTE)}
    select = column.find_ancestor(exp.Select, exp.Delete, exp.Merge)
    while select is not None:
        parts = [select.args.get("from_") or select.args.get("from"), *(select.args.get("joins") or [])]
        for part in parts:
            if part is not None and part.this.alias_or_name == column.table:
                return ctes.get(part.this.name, part.this), widths().get(part.this.name, {})
        select = select.find_ancestor(exp.Select, exp.Delete, exp.Merge)
    return None


def projections(tree: Tree) -> list[list[Tree]]:
    """The columns of a select, or of each branch of a union."""
    tree = bare(tree)
    if isinstance(tree, exp.Subquery):
        return projections(tree.this)
    if isinstance(tree, exp.Union):
        return projections(tree.left) + projections(tree.right)
    return [list(tree.expressions)]


def origins(column: Tree) -> list[Tree]:
    """The expressions that a column of a subquery stands for."""
    found = source(column)
    if found is None or not isinstance(found[0], exp.Subquery | exp.CTE):
        return []
    first, *others = projections(found[0].this)
    names = [each.alias_or_name for each in first]
    if column.name not in names:
        return []
    place = names.index(column.name)
    return [branch[place].unalias() for branch in (first, *others)]


def most(tree: Tree) -> int | None:
    """How many rows of a group an expression keeps, by a condition such as ``place <= 100``."""
    limits = [each.expression for each in tree.find_all(exp.LTE) if isinstance(each.expression, exp.Literal)]
    return min((int(limit.this) for limit in limits), default=None)


def list_bytes(tree: Tree) -> float:
    """The most bytes of a LISTAGG; without a number of rows there is no bound."""
    rows, text = most(tree.this), tree.this
    separator = tree.args.get("separator")
    return math.inf if rows is None else rows * (bytes_of(text) + (0 if separator is None else len(separator.this)))


def bytes_of(tree: Tree) -> float:  # noqa: C901, PLR0911  # a case for each kind of expression
    """The most bytes that a text can have, by its expression; infinite where nothing bounds it."""
    tree = bare(tree)
    if isinstance(tree, exp.Literal):
        return len(tree.this.encode())
    if isinstance(tree, exp.Null):
        return 0
    if isinstance(tree, exp.Cast):
        length = next((int(each.this.this) for each in tree.to.expressions), math.inf)
        return min(length, bytes_of(tree.this)) if isinstance(bare(tree.this), exp.Literal) else length
    if isinstance(tree, exp.Left):
        return 4 * int(tree.expression.this)
    if isinstance(tree, exp.Case):
        results = [each.args["true"] for each in tree.args["ifs"]] + [tree.args.get("default") or exp.Null()]
        ascii_only = any(each.expression.this == "^[ -~]*$" for each in tree.find_all(exp.RegexpLike))
        return max(bytes_of(each) for each in results) / (4 if ascii_only else 1)
    if isinstance(tree, ONE_OF):
        return max(bytes_of(each) for each in [tree.this, *tree.expressions] if each is not None)
    if isinstance(tree, exp.DPipe | exp.Concat):
        return sum(map(bytes_of, tree.flatten() if isinstance(tree, exp.DPipe) else tree.expressions))
    if isinstance(tree, exp.WithinGroup):
        return list_bytes(tree.this)
    if isinstance(tree, exp.GroupConcat):
        return list_bytes(tree)
    if isinstance(tree, exp.MD5):
        return 32
    if isinstance(tree, exp.Column):
        inner = origins(tree)
        if inner:
            return max(map(bytes_of, inner))
        found = source(tree)
        return math.inf if found is None else found[1].get(tree.name, math.inf)
    inner_text = tree.args.get("this")  # split_part, ltrim
    return bytes_of(inner_text) if isinstance(inner_text, exp.Expression) else bytes_of(tree.expressions[0])


def too_wide(tree: Tree, _statement: str) -> bool:
    """Whether an INSERT puts more bytes into a column than it holds."""
    if not isinstance(tree, exp.Insert) or not isinstance(tree.this, exp.Schema):
        return False
    table = widths().get(tree.this.this.name, {})
    for branch in projections(tree.expression):
        for column, text in zip(tree.this.expressions, branch, strict=False):
            held = table.get(column.name, math.inf)
            if held < math.inf and bytes_of(text.unalias()) > held:
                return True
    return False


def long_list(tree: Tree, _statement: str) -> bool:
    return any(list_bytes(each) > WIDEST for each in tree.find_all(exp.GroupConcat))


def adds_doubles(tree: Tree) -> bool:
    """Whether what is added is of double precision, wherever it comes from."""
    tree = bare(tree)
    if is_double(tree) or (isinstance(tree, exp.Mul | exp.Add | exp.Sub) and adds_doubles(tree.this)):
        return True
    if isinstance(tree, exp.Sum | exp.Window | exp.Coalesce):
        return adds_doubles(tree.this)
    return isinstance(tree, exp.Column) and any(map(adds_doubles, origins(tree)))


def unbounded_sum(tree: Tree, _statement: str) -> bool:
    """Whether a sum of whole numbers is cast to fewer digits than it may have."""
    return any(not adds_doubles(each.this) and each.find_ancestor(exp.Least) is None for each in tree.find_all(exp.Sum))


def unbounded_super(_tree: Tree, statement: str) -> bool:
    return bool(re.search(r'"value"(?:\."\w+")++(?! AS VARCHAR\(\d)', " ".join(statement.split())))


RULES: Mapping[str, Rule] = {
    "lists at most as many entries as fit": long_list,
    "keeps every sum of whole numbers in its type": unbounded_sum,
    "reads every SUPER value as VARCHAR of a width": unbounded_super,
    "puts no more bytes into a column than it holds": too_wide,
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
    "is no INSERT behind a WITH": lambda tree, statement: (
        isinstance(tree, exp.Insert) and statement.upper().startswith("WITH")
    ),
    "orders the LISTAGGs of a SELECT alike": two_orders,
    "gives literals of subqueries a type": untyped,
    "merges from a table, both ways": half_merge,
    "is known to the grammar": lambda tree, statement: (
        isinstance(tree, exp.Command) and not statement.upper().startswith(("SET ", "LOCK TABLE "))
    ),
}


def unbounded_on_duckdb(statement: str) -> bool:
    """Whether DuckDB's text of a statement has a list or a sum without a bound; a DuckDB text has no width."""
    tree = sqlglot.parse_one(statement, read="duckdb")
    return long_list(tree, statement) or unbounded_sum(tree, statement)


@lru_cache(maxsize=4096)
def broken(statement: str) -> tuple[str, ...]:
    """The rules that a statement breaks."""
    tree = sqlglot.parse_one(statement, read="redshift")
    return tuple(name for name, rule in RULES.items() if rule(tree, statement))
