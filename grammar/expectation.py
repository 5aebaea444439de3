"""Says what the parser expected where it stopped, what it found, and what was probably meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lark import Token

from irc.grammar import words
from irc.grammar.diagnostic import Diagnostic
from irc.grammar.places import Places

OPERATORS: Final = frozenset(
    {"OR", "AND", "COMPARATOR", "EQUAL", "PLUS", "MINUS", "STAR", "SLASH", "FLOOR", "PERCENT", "CARET"}
)
OPERAND: Final = frozenset({"NUMBER", "NAME", "LPAR", "MINUS", "NOT", "TRUE", "FALSE", "NONDECREASING"})
SHOWN: Final = {
    "NAME": "a name",
    "NUMBER": "a number",
    "COMMA": "`,`",
    "COLON": "`:`",
    "ASSIGN": "`=`",
    "EQUAL": "`==`",
    "LPAR": "`(`",
    "LSQB": "`[`",
    "RPAR": "`)`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "OVER": "`over`",
    "WITH": "`with`",
    "_END": "end of line",
}


def unexpected(tokens: Sequence[Token], start: int, index: int, accepted: set[str], places: Places) -> Diagnostic:
    """The diagnostic for `tokens[index]`, in the statement that begins at `start`, where only `accepted` may stand."""
    token = tokens[index]
    previous = tokens[index - 1] if index > start else None
    after = f" after `{previous}`" if previous is not None else ""
    message = f"expected {expected(accepted)}{after}, found {_found(tokens, index, places)}"
    span = places.span(token.start_pos or 0, token.end_pos or 0)
    return Diagnostic("E001", message, span, help=_help(tokens[start:], index - start, accepted))


def expected(accepted: set[str]) -> str:
    """What may come next, in words."""
    if "LET" in accepted:
        return "an index assignment" if "NAME" in accepted else "a statement"
    if "ATTENTION" in accepted:
        return "`attention`"
    parts = []
    rest = accepted
    if {"NUMBER", "LPAR"} <= accepted:
        parts.append("an expression")
        rest = accepted - OPERAND
    elif "PLUS" in accepted:
        parts.append("an operator")
        # What could follow a bare name is left unsaid: brackets, an argument list, more of a product axis.
        rest = accepted - OPERATORS - {"LPAR", "LSQB", "NAME", "NUMBER", "COLON"}
    parts += [text for kind, text in SHOWN.items() if kind in rest]
    if not parts:
        return "something else"
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"


def _found(tokens: Sequence[Token], index: int, places: Places) -> str:
    token = tokens[index]
    if token.type != "_END":
        return f"`{token}`"
    end = token.end_pos or 0
    # An _END that no line end made stands for the brace behind it.
    brace = next((t for t in tokens[index + 1 : index + 2] if t.type == "RBRACE"), None)
    if brace is not None and brace and places.source.text[end : brace.start_pos].strip(" \t") == "":
        return f"`{brace}`" if brace.start_pos != brace.end_pos else "end of file"
    return "end of line"


def _help(statement: Sequence[Token], index: int, accepted: set[str]) -> str | None:
    """What to write in place of the token of that `index`."""
    token, first = statement[index], statement[0]
    previous, before = (statement[at] if at >= 0 else None for at in (index - 1, index - 2))
    following = statement[index + 1].type if index + 1 < len(statement) else ""
    after_operand = "PLUS" in accepted
    match token.type:
        case "NUMBER" | "ASSIGN" if first.type == "ENSURE" and previous is not None and previous.type == "NAME":
            return "what a property is told stands in parentheses, as in `window(8)`"
        case "ASSIGN" if "EQUAL" in accepted and before is not None and before.type == "COMMA":
            return "arguments have no names; write `==` to compare"
        case "ASSIGN" if "EQUAL" in accepted:
            return "write `==` to compare"
        case "ASSIGN" if "LSQB" in accepted and previous is not None and previous.type == "NAME":
            return f"write the indices, `{previous}[…] = …`, or name a part: `let {previous} = …`"
        case "ASSIGN" if previous is first and first.type.lower() in words.STATEMENTS["core"]:
            return "leave the `=` out"
        case "ASSIGN" if first.type == "SCALAR":
            return f"a call gives its value; a number that never changes is `let {statement[1]} = …`"
        case "EQUAL" if "ASSIGN" in accepted:
            return "write `=` to define"
        case "NAME" if token == "if" and after_operand:
            return "write `where(condition, a, b)`"
        case "NAME" if token == "in" and after_operand:
            return "write `low <= j < high`; of documents, `doc[b,i] == doc[b,j]`"
        case "NAME" if token == "is" and after_operand:
            return "write `==` to compare"
        case "NAME" if after_operand and any(t.type == "FLOOR" for t in statement[:index]):
            return "write `*` between factors; a comment begins with `#`"
        case "NAME" | "NUMBER" | "LPAR" if after_operand:
            return "write `*` between factors"
        case "RPAR" if accepted <= {"NAME", "NUMBER"}:
            return "a product axis has two indices or more; one stands without parentheses"
        case "RPAR" | "COMMA" if "COLON" in accepted and not after_operand:
            return "arguments are separated by `,`"
        case _ if first.type.lower() in words.NORMALISERS and all(t.type != "WITH" for t in statement[:index]):
            return f"name the index of the keys, `{first} j`, or all of them, `{first} (n m)`"
        case "PLUS" if following == "ASSIGN" and previous is first and first.type == "SCORE":
            return "what is added to the score is a `bias`"
        case "PLUS" if "MINUS" in accepted and not after_operand:
            return "leave the `+` out"
        case "FLOOR" if previous is None:
            return "a comment begins with `#`"
        case kind if kind in OPERATORS and previous is None:
            return "a statement ends with its line; to go on, put the expression in ( )"
        case "COLON" if "RSQB" in accepted or ("LSQB" not in accepted and not after_operand):
            return "an index without bounds runs over the whole axis: write its name"
        case "_END" if "SEED" in accepted:
            return "what is dropped follows from a seed: `drop 0.1 seed s`, with `scalar s: int`"
        case "_END" if previous is not None and (previous.type in OPERATORS or previous.type == "COMMA"):
            return "a statement ends with its line; inside ( ) and [ ] it goes on"
        case _:
            return None
