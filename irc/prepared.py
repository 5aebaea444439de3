"""What every compilation needs alike, made once on a machine and kept: the parser's tables and the templates' code.

Both follow from files of ours and the library that reads them, and take half a second to make.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from irc.grammar import parser
from irc.grammar.source import Source
from irc.grammar.syntax import Attention
from irc.runtime import cache as store

TABLES, CODE = "tables", "code"


def parse(source: Source) -> tuple[Attention, ...]:
    """As `grammar/parser.py` has it, with tables that are kept."""
    return parser.parse(source, _tables)


def _tables(grammar: str, make: Callable[[], bytes]) -> bytes:
    from lark import __version__ as version  # slow to import, as in the parser

    def write(directory: Path) -> None:
        (directory / TABLES).write_bytes(make())

    return (store.get_or_build(store.key((TABLES, grammar, version)), write) / TABLES).read_bytes()


def keep_templates() -> None:
    """From now on, what jinja makes of a template is kept."""
    from jinja2 import BytecodeCache, __version__
    from jinja2.bccache import Bucket

    from irc.codegen.render import environment

    class Code(BytecodeCache):
        def load_bytecode(self, bucket: Bucket) -> None:
            entry = store.found(self.key(bucket))
            if entry is not None:
                bucket.bytecode_from_string((entry / CODE).read_bytes())

        def dump_bytecode(self, bucket: Bucket) -> None:
            store.get_or_build(self.key(bucket), lambda folder: write(folder / CODE, bucket))

        def key(self, bucket: Bucket) -> str:
            return store.key((CODE, bucket.key, bucket.checksum, __version__, sys.version))

    def write(path: Path, bucket: Bucket) -> None:
        path.write_bytes(bucket.bytecode_to_string())

    if environment().bytecode_cache is None:
        environment().bytecode_cache = Code()
