"""Tile kernels on warpgroups, for sm_90a: what warpgroups.cu.j2 needs of them."""

from __future__ import annotations

from dataclasses import dataclass

from irc.codegen.cuda_forms import FLOAT, Form, draws, form, of_pairs, padded, read_panels, reads_twice, widths
from irc.codegen.cuda_fragments import Stage, Values, ahead, live, values_of
from irc.codegen.cuda_hoist import Hoists
from irc.codegen.cuda_launch import Arrays, Box, Launch, rendered
from irc.codegen.cuda_roles import REGISTERS, roles
from irc.codegen.cuda_tiles import walk_context
from irc.codegen.expr import Load, integer, op
from irc.codegen.kernel import Dot, OnlineSoftmax, Panel, RowProduct, RowReduce, Side, TileKernel
from irc.codegen.names import identifier
from irc.codegen.panels import row_text, width
from irc.codegen.positions import extent, size, tiles_of
from irc.codegen.printer import print_scalar

ARCHITECTURE = "sm_90a"
ROWS = 128  # of a block: 64 of each of two warpgroups
THREADS = 3 * 128
SHARED, OTHER = 227 << 10, 8 << 10  # bytes that a block may take, and of these at least for what is no panel
CONTROL = 1 << 10  # of which this for barriers, and what is told of tiles
COLUMNS = (128, 64, 48, 32)  # of a tile, the more the better
ALIGNED = 1024  # bytes on which every panel lies
STAGES = (4, 3, 2)
MOST_AXES, WIDEST = 5, 256  # of a tensor map, and of a product


@dataclass(frozen=True, slots=True)
class PanelText:
    """A panel in shared memory, as Swizzled of warpgroups.cuh has it: `chunk` features lie together, `chunk_bytes` of
    all tokens; `bytes` of one tile. `others` are its tensor's indices but token and feature."""

    name: str
    side: str
    padded: int
    chunk: int
    chunk_bytes: int
    bytes: int
    others: tuple[str, ...]
    box: Box


def launch(kernel: TileKernel, name: str, side: Side, otherwise: Launch) -> Launch | None:
    """A kernel of row results alone, whose rows are that side of the program's, as a launch for layouts that bulk
    copies take; None where `otherwise`, for all layouts, is the form for it."""
    kernel = live(kernel)
    kept_as = form(kernel)
    if kept_as is None or kept_as is FLOAT or any(p.side == "distance" for p in read_panels(kernel)):
        return None
    hoisted, hoists, values = values_of(kernel, kept_as, factored=True)
    chosen = _tile(kernel, hoisted, hoists)
    if chosen is None:
        return None
    kernel = hoisted
    columns, stages, (producer, consumer), pipelined = chosen
    found = [_panel(p, kernel, kept_as, columns) for p in read_panels(kernel)]
    panels = [p for p in found if p is not None]
    if len(panels) < len(found) or values.wide:  # tiles of any size take tf32, whose panels wgmma reads as floats alone
        return None
    row_panels, column_panels = ([p for p in panels if p.side == side] for side in ("row", "column"))
    guarded = [p for p in column_panels if p.name in values.summed and kernel.support is not None]
    # What lanes find together takes whole warps: values of tokens, and ends of tables.
    producers = 4 if hoists.row or hoists.column or kernel.summaries or kernel.searches else 1
    shared = Arrays()
    for panel in panels:
        shared.add("unsigned char", panel.name, panel.bytes * (1 if panel.side == "row" else stages), 1)
    shared.add("uint64_t", "barriers", (4 if pipelined else 2) * stages + 2, 8)
    shared.add("int32_t", "begins", stages, 4)
    shared.add("int32_t", "is_whole", stages, 4)
    if guarded:
        shared.add("uint32_t", "odd_tokens", 2 * stages * len(guarded) * -(-columns // 32), 4)
    hoists.reserve(shared, ROWS, stages * columns)
    tasks = op("mul", size(kernel.batch), tiles_of(kernel.rows, ROWS))
    source = rendered(
        "warpgroups",
        name,
        kernel,
        **walk_context(kernel, hoists.narrow),
        **({"first": None} | values.context | ({} if pipelined else _ahead(kernel, values))),
        batch_extent=extent(kernel.batch) if kernel.batch else "1",
        shared=shared.arrays,
        ROWS=ROWS,
        COLUMNS=columns,
        STAGES=stages,
        registers=REGISTERS,
        producer_registers=producer,
        consumer_registers=consumer,
        producers=producers,
        early_rows_first=side == "column",
        to_and_fro=not draws(kernel),
        row_panels=row_panels,
        column_panels=column_panels,
        maps=[f"map_{p.name}" for p in row_panels + column_panels],
        row_bytes=sum(p.bytes for p in row_panels),
        pipelined=pipelined,
        dot_panels=[p for p in column_panels if p.name not in values.summed],
        other_panels=[p for p in column_panels if not pipelined or p.name in values.summed],
        guarded=guarded,
    )
    return Launch(
        name,
        tasks,
        1,
        THREADS,
        shared.bytes,
        source,
        REGISTERS,
        boxes=tuple(p.box for p in row_panels + column_panels),
        widths=tuple(sorted({columns for _ in values.dots} | {padded(r.width) for r in values.products})),
        suits=op("lt", integer(ROWS // 2), size(kernel.rows)),
        otherwise=otherwise,
        bounded=(tasks, *hoists.narrow.bounded),
    )


def _ahead(kernel: TileKernel, values: Values) -> dict[str, object]:
    """What is made of the first dot while the others are summed, and what is left."""
    early, arrays = values.context["early"], values.context["arrays"]
    assert isinstance(early, Stage) and isinstance(arrays, list)
    parts = ahead(kernel, early)
    if parts is None:
        return {}
    first, rest = parts
    types = {step.name: step.type for step in first.steps}
    return {
        "first": first,
        "dots": sorted(values.dots, key=lambda dot: dot.name not in first.given),
        "first_arrays": [(types[name], name) for name in first.kept],
        "early": rest,
        "arrays": [(type, name) for type, name in arrays if name not in first.kept],
    }


def _tile(kernel: TileKernel, hoisted: TileKernel, hoists: Hoists) -> tuple[int, int, tuple[int, int], bool] | None:
    """The most columns of a tile whose fragments fit into registers, how many tiles shared memory then holds, how
    registers are shared out, and whether dots go on beside products; None where no tile fits."""
    panels = {p.name: p for p in kernel.panels}
    products = [s for s in kernel.body if isinstance(s, RowProduct)]
    sums = sum(padded(width(panels[s.panel])) // 2 for s in products)
    tiles = max(sum(isinstance(s, Dot) for s in kernel.body), len({s.tile for s in products}))
    bytes = {s: [2 * padded(width(p)) for p in read_panels(kernel) if p.side == s] for s in ("row", "column")}
    # At the widest, ptxas has too many of two reads under way, one after the other.
    for columns in widths(kernel, COLUMNS[reads_twice(of_pairs(kernel)) :]):
        aligned = not any(columns * token % ALIGNED for token in bytes["column"])
        chosen = roles(kernel, hoisted, sums + tiles * columns // 2, columns // 4 if _apart(kernel) else 0)
        for stages in STAGES:
            others = max(OTHER, hoists.bytes(ROWS, columns * stages) + CONTROL)
            shared = sum(bytes["row"]) * ROWS + sum(bytes["column"]) * columns * stages + others
            if chosen and aligned and shared <= SHARED:
                return columns, stages, *chosen
    return None


def _apart(kernel: TileKernel) -> bool:
    """Whether there are dots and products, and no panel of columns is of both. Where values are summed along the rows
    without a softmax, ptxas makes products wait for what is evaluated: dots beside them win nothing."""
    dots = {s.column for s in kernel.body if isinstance(s, Dot)}
    products = {s.panel for s in kernel.body if isinstance(s, RowProduct)}
    sums = any(isinstance(s, RowReduce) for s in kernel.body) and not any(
        isinstance(s, OnlineSoftmax) for s in kernel.body
    )
    return bool(dots and products) and not dots & products and not sums


def _panel(panel: Panel, kernel: TileKernel, kept_as: Form, columns: int) -> PanelText | None:
    """The panel, where bulk copies can bring it: rows of a tensor, one for each token, that lie in memory as they are
    kept here."""
    side = kernel.rows if panel.side == "row" else kernel.columns
    storage = {t.name: t.storage for t in kernel.tensors}
    load, features = panel.value, padded(width(panel))
    if not isinstance(load, Load) or storage[load.tensor] != kept_as.storage or features > WIDEST:
        return None
    row = row_text(load, panel.features, side)
    if row is None or row.step is None or not 2 <= len(load.indices) <= MOST_AXES:
        return None
    token, feature = load.indices.index(side[0].index), len(load.indices) - 1
    others = tuple(d for d in range(feature) if d != token)
    tokens = ROWS if panel.side == "row" else columns
    chunk = next(n for n in (64, 32, 16) if features % n == 0)
    return PanelText(
        f"panel_{identifier(panel.name)}",
        panel.side,
        features,
        chunk,
        2 * chunk * tokens,
        2 * features * tokens,
        tuple(print_scalar(load.indices[d]) for d in others),
        Box(load.tensor, (feature, token, *others), (panel.features[0].size, side[0].size), (chunk, tokens), 2 * chunk),
    )
