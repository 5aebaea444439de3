"""From the lexer's tokens to the parser's: where statements begin and end, and which names are keywords there.

What comes out has balanced braces, an _END after every statement, and no line end inside a statement. Faults found on
the way (brackets, characters, statements out of place) are reported here, and mended where the meaning is plain, so
that the parser can go on to the next.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

from lark import Token

from irc.grammar import absent, words
from irc.grammar.diagnostic import Diagnostic, Note
from irc.grammar.places import Places
from irc.grammar.source import Span

CLOSING: Final = {"(": ")", "[": "]", "{": "}"}
TERMINAL: Final = {"(": "LPAR", ")": "RPAR", "[": "LSQB", "]": "RSQB", "{": "LBRACE", "}": "RBRACE"}
ENDS: Final = frozenset({"NAME", "NUMBER", "RSQB", "RPAR"})
"""What an operand ends with."""
SOFT: Final = {
    "core": "over",
    "assume": "over",
    "=": "over",
    "drop": "seed",
    **dict.fromkeys(words.NORMALISERS, "with"),
}


def lay_out(raw: Sequence[Token], places: Places) -> tuple[list[Token], list[Diagnostic]]:
    """The tokens for the parser, and what was wrong with the text so far."""
    layout = _Layout(raw, places)
    for index, token in enumerate(raw):
        layout.take(index, token)
    layout.finish()
    return layout.out, layout.diagnostics


class _Layout:
    def __init__(self, raw: Sequence[Token], places: Places) -> None:
        self.raw = raw
        self.places = places
        self.out: list[Token] = []
        self.diagnostics: list[Diagnostic] = []
        self.brackets: list[Token] = []  # open ( and [
        self.blocks: list[tuple[str, Token]] = []  # open {, each with the word that began its statement
        self.word = ""  # the word that began the present statement, "=" for an assignment
        kinds = [token.type for token in raw]
        self.strange_seen = False  # in the present statement
        self.missing_braces = kinds.count("LBRACE") - kinds.count("RBRACE")

    # tokens out

    def emit(self, kind: str, text: str, at: Token) -> None:
        self.out.append(Token(kind, text, start_pos=at.start_pos, end_pos=at.end_pos))

    def emit_after(self, kind: str, text: str) -> None:
        """A token that was not written, just behind the last one that was."""
        end = self.out[-1].end_pos if self.out else 0
        self.out.append(Token(kind, text, start_pos=end, end_pos=end))

    def at_start(self) -> bool:
        return not self.out or self.out[-1].type in ("_END", "LBRACE")

    def end_statement(self) -> None:
        if not self.at_start():
            self.emit_after("_END", "")
        self.word = ""
        self.strange_seen = False

    def close_block(self) -> None:
        self.end_statement()
        self.blocks.pop()

    def context(self) -> str:
        return self.blocks[-1][0] if self.blocks else "file"

    def report(
        self,
        code: str,
        message: str,
        first: Token,
        last: Token | None = None,
        *,
        note: Note | None = None,
        help: str | None = None,
    ) -> None:
        span = self.span(first, last or first)
        self.diagnostics.append(Diagnostic(code, message, span, notes=(note,) if note else (), help=help))

    def span(self, first: Token, last: Token) -> Span:
        return self.places.span(first.start_pos or 0, last.end_pos or 0)

    # tokens in

    def take(self, index: int, token: Token) -> None:
        following = self.raw[index + 1] if index + 1 < len(self.raw) else None
        if self.brackets and self.leaves_brackets(index, token, following):
            self.drop_brackets()
            if token.type != "LBRACE":
                self.end_statement()
        match token.type:
            case "NEWLINE":
                if not self.brackets and not self.brace_follows(index):
                    self.end_statement()
            case "FOREIGN":
                self.foreign(token)
            case "STRANGE":
                self.strange(token)
            case "LPAR" | "LSQB":
                self.brackets.append(token)
                self.out.append(token)
            case "RPAR" | "RSQB":
                self.close_bracket(token)
            case "LBRACE":
                self.out.append(token)
                self.blocks.append((self.word if self.word in words.BLOCKS else "?", token))
                self.word = ""
                self.strange_seen = False
            case "RBRACE" if self.blocks:
                self.close_block()
                self.out.append(token)
                self.emit_after("_END", "")
            case "RBRACE":
                self.report("E003", "`}` closes nothing that was opened", token)
            case "NAME" if self.at_start():
                self.begin(token, following)
            case "NAME":
                self.name(token, following)
            case _:
                if token.type == "NUMBER" and following is not None:
                    self.number(token, following)
                self.out.append(token)

    def finish(self) -> None:
        if self.brackets:
            self.drop_brackets()
        while self.blocks:
            word, brace = self.blocks[-1]
            named = f" of `{word}`" if word in words.BLOCKS else ""
            self.report("E003", f"the `{{`{named} is never closed", brace)
            self.close_block()
            self.emit_after("RBRACE", "}")
            self.emit_after("_END", "")
        self.end_statement()

    # one kind of token each

    def begin(self, token: Token, following: Token | None) -> None:
        """The first name of a statement: a keyword where it may stand, a diagnostic where it may not."""
        word, kind = str(token), following.type if following is not None else "NEWLINE"
        context = self.context()
        indexed = kind in ("LSQB", "ASSIGN")
        if context in ("project", "merge") and (indexed or (word == "let" and kind != "NAME")):
            self.word = "="
            self.out.append(token)
            return
        if word not in words.STATEMENTS.get(context, ()) and word in words.ALL_STATEMENTS:
            self.leave_blocks(token)
            context = self.context()
        self.word = word
        allowed = words.STATEMENTS.get(context, ())
        if word in allowed:
            self.emit(word.upper(), word, token)
            return
        guess = None if indexed else words.nearest(word, allowed)
        if context == "?":
            pass  # the brace itself was out of place, and the parser says so
        elif word == "mask":
            self.report(
                "E004",
                "`mask` does not say whether it keeps or removes",
                token,
                help="write `allow p` for what may be seen or `block p` for what may not",
            )
        elif word in words.ALL_STATEMENTS:
            places = " or ".join(f"`{where}`" for where, inside in words.STATEMENTS.items() if word in inside)
            here = "outside `attention`" if context == "file" else f"inside `{context}`"
            self.report("E001", f"`{word}` cannot stand {here}", token, help=f"it is a statement of {places}")
        elif (left_out := absent.instead(word)) is not None and not indexed:
            self.report("E001", f"there is no statement `{word}`", token, help=left_out)
        elif guess is not None:
            self.report("E001", f"there is no statement `{word}`", token, help=f"did you mean `{guess}`?")
            self.word = guess
            self.emit(guess.upper(), word, token)
            return
        elif context == "file":
            help = "a program begins with `attention name {`"
            self.report("E001", f"expected `attention`, found `{word}`", token, help=help)
        elif context in ("attention", "core"):
            named = " in `core`" if context == "core" else ""
            help = f"one of {', '.join(f'`{w}`' for w in allowed)}"
            if indexed:
                help = "an index assignment stands in `project { … }` or `merge { … }`; a named part is `let name = …`"
            self.report("E001", f"expected a statement{named}, found `{word}`", token, help=help)
        self.out.append(token)

    def name(self, token: Token, following: Token | None) -> None:
        """`over`, `with`, `seed` and `nondecreasing` are words only where a name could not stand."""
        kind = "NAME"
        operand_ended = self.out[-1].type in ENDS
        if not self.brackets and operand_ended and SOFT.get(self.word) == token:
            kind = token.upper()
        if token == "nondecreasing" and self.word == "assume" and following is not None and following.type == "NAME":
            kind = "NONDECREASING"
        self.emit(kind, str(token), token)

    def number(self, token: Token, following: Token) -> None:
        if following.type in ("NAME", "NUMBER") and following.start_pos == token.end_pos:
            if following.type == "NAME":
                help = f"for a product write `{token} * {following}`, in a product axis `{token} {following}`"
            else:
                help = "put an operator or a space between them"
            self.report("E001", f"`{token}{following}` is neither a number nor a name", token, following, help=help)

    def foreign(self, token: Token) -> None:
        if token == ";":
            self.report("E002", "statements are not separated by `;`", token, help="end the line instead")
            if not self.brackets:
                self.end_statement()
            return
        kind, ours = words.FOREIGN[str(token)]
        self.report("E002", f"there is no operator `{token}`", token, help=f"write `{ours}`")
        self.emit(kind, ours, token)

    def strange(self, token: Token) -> None:
        if self.strange_seen:
            return  # one a statement: the rest is likely to be more of the same
        self.strange_seen = True
        shown = f"`{token}`" if token.isprintable() else f"U+{ord(token):04X}"
        help = None
        if token.isalpha():
            help = "names are made of the letters a to z, digits and `_`"
        elif token.isspace() or unicodedata.category(token) == "Cf":
            help = "it looks like a blank or like nothing: write a blank, or leave it out"
        elif token == "√":
            help = "write `sqrt(x)`"
        elif token in "\"'“”‘’":
            help = "there are no strings; a comment begins with `#`"
        elif token == "." and self.out and self.out[-1].type in ENDS and self.out[-1].end_pos == token.start_pos:
            help = "functions stand by themselves, as in `sqrt(D)`, and values have no methods"
        elif token == "?":
            help = "write `where(condition, a, b)`"
        elif token == ".":
            help = "every index is written, as in `q[b,h,i,c]`"
        elif token == "@":
            help = "a matrix product is written with its indices: `x[b,s,e] * W[e,f]`"
        self.report("E002", f"unexpected character {shown}", token, help=help)
        self.out.append(token)

    # brackets and braces

    def close_bracket(self, token: Token) -> None:
        if not self.brackets:
            self.report("E003", f"`{token}` closes nothing that was opened", token)
            return
        opening = self.brackets.pop()
        closing = CLOSING[opening]
        if token != closing:
            note = Note("opened here", self.span(opening, opening))
            self.report("E003", f"expected `{closing}` to close `{opening}`, found `{token}`", token, note=note)
        self.emit(TERMINAL[closing], closing, token)

    def leaves_brackets(self, index: int, token: Token, following: Token | None) -> bool:
        """Whether the text has plainly gone on to something else, the open bracket being forgotten."""
        if token.type in ("LBRACE", "RBRACE"):
            return True
        if token.type != "NAME" or token not in words.ALL_STATEMENTS or following is None:
            return False
        # A statement word and then an operand: two operands in a row, which only a product axis may hold.
        return self.raw[index - 1].type == "NEWLINE" and following.type in ("NAME", "NUMBER", "LBRACE")

    def drop_brackets(self) -> None:
        innermost = self.brackets[-1]
        self.report(
            "E003", f"`{innermost}` is never closed", innermost, help=f"write the `{CLOSING[innermost]}` that closes it"
        )
        self.brackets.clear()

    def brace_follows(self, index: int) -> bool:
        """Whether the block of the present statement opens on a later line."""
        if self.word not in words.BLOCKS:
            return False
        rest = (token.type for token in self.raw[index + 1 :] if token.type != "NEWLINE")
        return next(rest, None) == "LBRACE"

    def leave_blocks(self, token: Token) -> None:
        """Closes the blocks that stand open before a statement of an outer one, when braces are missing."""
        inward = ["file", *(word for word, _ in self.blocks)]
        depth = next((n for n in reversed(range(len(inward))) if token in words.STATEMENTS.get(inward[n], ())), None)
        if depth is None or not 0 < len(self.blocks) - depth <= self.missing_braces:
            return
        while len(self.blocks) > depth:
            word, brace = self.blocks[-1]
            note = Note(f"`{token}` is a statement outside it", self.span(token, token))
            self.report("E003", f"the `{{` of `{word}` is never closed", brace, note=note)
            self.missing_braces -= 1
            self.close_block()
            self.emit_after("RBRACE", "}")
            self.emit_after("_END", "")
