"""What a cell's code is turned into before V8 evaluates it. No line is added or removed, so line numbers stay.

- ``await x`` becomes ``await __jb.wait(x, "cell-1:2:3")``, so that an interrupt can reject it; ``for await`` likewise.
- ``import … from "x"`` becomes a declaration; ``import("x")`` and ``import.meta`` are relative to the working
  directory.
- ``const`` at the top becomes ``let``: V8's REPL lets a ``let`` be declared again as often as one likes, but a
  ``const`` only as ``const``.
- Where a name was declared as another kind of thing before, its declaration is turned into one that V8 allows.
- ``{a: 1}`` is the object that it looks like.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

import tree_sitter_javascript
from tree_sitter import Language, Node, Parser, Query, QueryCursor

_LANGUAGE = Language(tree_sitter_javascript.language())
_INNER = Query(
    _LANGUAGE,
    """
    (await_expression (_) @awaited)
    (for_in_statement "await" right: (_) @iterated)
    (call_expression function: (import) @import)
    (meta_property) @meta
    """,
)
_FUNCTIONS = frozenset({"function_declaration", "generator_function_declaration"})
_SCOPES = _FUNCTIONS | {
    "function_expression",
    "generator_function",
    "arrow_function",
    "method_definition",
    "class_body",
}
_PLACE = r"\bcell-(\d+):(\d+)(?::(\d+))?"


class Edit(NamedTuple):
    """Bytes from ``start`` to ``end`` are replaced."""

    start: int
    end: int
    new: str


class Cell:
    """One cell's code, as written and as evaluated.

    ``anew``: names whose declarations V8 refuses as they stand.
    """

    def __init__(self, code: str, count: int, anew: frozenset[str] = frozenset()) -> None:
        self.code, self.name = code, f"cell-{count}"
        source = code.encode("utf-8", "surrogatepass")
        tree = Parser(_LANGUAGE).parse(source)
        root, self._source, self._shift = tree.root_node, source, 0
        if source.lstrip().startswith(b"{") and source.rstrip().endswith(b"}"):
            wrapped = Parser(_LANGUAGE).parse(b"(" + source + b"\n)")
            if not wrapped.root_node.has_error:
                # An object, and not a block.
                self._source, root, self._shift = b"(" + source + b"\n)", wrapped.root_node, 1
        statements = [node for node in root.named_children if node.type not in ("comment", "hash_bang_line")]
        self.shows = root.has_error or bool(statements and statements[-1].type == "expression_statement")
        """Whether its value is a result: it ends with an expression."""
        # What is not understood here is left to V8, which may, or says what is wrong.
        edits = [] if root.has_error else sorted(self._edits(root, anew))
        self._edited = edits
        self.evaluated = self._apply(edits) + f"\n//# sourceURL={self.name}"

    def _edits(self, root: Node, anew: frozenset[str]) -> Iterator[Edit]:
        for name, nodes in QueryCursor(_INNER).captures(root).items():
            for node in nodes:
                if name == "awaited":
                    if node.type == "comment":
                        continue
                    yield Edit(node.start_byte, node.start_byte, "__jb.wait(")
                    yield Edit(node.end_byte, node.end_byte, f', "{self._place(node.parent or node)}")')
                elif name == "iterated":
                    yield Edit(node.start_byte, node.start_byte, "__jb.each(")
                    yield Edit(node.end_byte, node.end_byte, f', "{self._place(node)}")')
                elif name == "import":
                    yield Edit(node.start_byte, node.end_byte, "__jb.import")
                elif node.text == b"import.meta":
                    yield Edit(node.start_byte, node.end_byte, "__jb.meta")
        for node in root.children:
            if node.type == "import_statement":
                yield Edit(node.start_byte, node.end_byte, self._import(node))
            elif node.type == "export_statement" and (declaration := node.child_by_field_name("declaration")):
                yield Edit(node.start_byte, declaration.start_byte, " " * (declaration.start_byte - node.start_byte))
        yield from self._declarations(root, anew)

    # Declarations

    def _declarations(self, root: Node, anew: frozenset[str]) -> Iterator[Edit]:
        for node in root.children:
            declared = node.child_by_field_name("declaration") if node.type == "export_statement" else node
            if declared is None:
                continue
            again = not anew.isdisjoint(_names(declared))
            if declared.type == "lexical_declaration":
                keyword = declared.children[0]
                yield Edit(keyword.start_byte, keyword.end_byte, "var" if again else "let")
            elif again and declared.type == "class_declaration":
                (name,) = _names(declared)
                yield Edit(declared.start_byte, declared.start_byte, f"var {name} = ")
                yield Edit(declared.end_byte, declared.end_byte, ";")
            elif again and declared.type in _FUNCTIONS:
                # It is there before the first line runs, as any function that is declared.
                name_node = declared.child_by_field_name("name")
                assert name_node is not None
                name = _text(name_node)
                yield Edit(0, 0, f'let {name} = __jb.rename({name}__jb, "{name}"); ')
                yield Edit(name_node.start_byte, name_node.end_byte, f"{name}__jb")
        if anew:
            for node in _variables(root):
                if not anew.isdisjoint(_names(node)):
                    yield Edit(node.start_byte, node.start_byte + len("var"), "let")

    # Imports

    def _import(self, node: Node) -> str:
        source = node.child_by_field_name("source")
        assert source is not None
        specifier = _text(source)
        options = "".join(f", {{with: {_text(part.named_children[0])}}}" for part in _of(node, "import_attribute"))
        module = f'await __jb.wait(__jb.import({specifier}{options}), "{self._place(node)}")'
        clause = next(_of(node, "import_clause"), None)
        lines = "\n" * (node.end_point[0] - node.start_point[0])
        if clause is None:
            return f"{module};{lines}"
        names: list[tuple[str, str]] = []
        namespace = None
        for part in clause.named_children:
            if part.type == "identifier":
                names.append(("default", _text(part)))
            elif part.type == "namespace_import":
                namespace = _text(part.named_children[0])
            else:
                for each in _of(part, "import_specifier"):
                    name, alias = each.child_by_field_name("name"), each.child_by_field_name("alias")
                    assert name is not None
                    names.append((_text(name), _text(alias or name)))
        if namespace is not None:
            first = f"let {namespace} = {module};"
            module = namespace
        else:
            first = ""
        if names or namespace is None:
            wanted = ", ".join(f'"{name}"' if name[0] not in "\"'" else name for name, _ in names)
            targets = ", ".join(f"{name}: {alias}" for name, alias in names)
            first += f" let {{{targets}}} = __jb.named({module}, {specifier}, [{wanted}]);"
        return first.strip() + lines

    # Places

    def _place(self, node: Node) -> str:
        row, column = node.start_point
        line = self._source.split(b"\n")[row][:column].decode("utf-8", "replace")
        return f"{self.name}:{row + 1}:{_width(line) + 1 - (self._shift if row == 0 else 0)}"

    def _apply(self, edits: list[Edit]) -> str:
        parts, at = [], 0
        for edit in edits:
            parts += [self._source[at : edit.start], edit.new.encode()]
            at = max(at, edit.end)
        return b"".join([*parts, self._source[at:]]).decode("utf-8", "surrogatepass")

    def column(self, line: int, column: int) -> int:
        """The column, in the code as written, of a place in the code as evaluated. Both count from 1."""
        lines = self._source.split(b"\n")
        if not 1 <= line <= len(lines):
            return column
        start = sum(len(each) + 1 for each in lines[: line - 1])
        end = start + len(lines[line - 1])
        here = [edit for edit in self._edited if start <= edit.start <= end]
        # Where in the line as evaluated each edit's text begins and ends, and the place in the line as written.
        gained, points = 0, [(0, 0)]
        for edit in here:
            before = _width(self._source[start : edit.start].decode("utf-8", "replace"))
            old = _width(self._source[edit.start : min(edit.end, end)].decode("utf-8", "replace"))
            new = _width(edit.new.split("\n")[0])
            points += [(before + gained, before), (before + gained + new, before + old)]
            gained += new - old
        at = bisect_right(points, (column - 1, 1 << 60)) - 1
        evaluated, written = points[at]
        inside = at % 2 == 1
        found = written if inside else written + column - 1 - evaluated
        return max(1, found + 1 - (self._shift if line == 1 else 0))

    def excerpt(self, line: int, column: int | None) -> list[str]:
        """A line, and a mark below the column, as Node.js shows them."""
        lines = self.code.split("\n")
        if not 1 <= line <= len(lines):
            return []
        shown = lines[line - 1].expandtabs(1)
        mark = [" " * (column - 1) + "^"] if column is not None and column <= len(shown) + 1 else []
        return [f"{self.name}:{line}", shown, *mark, ""]


class Cells:
    """The cells that tracebacks may speak of."""

    def __init__(self) -> None:
        self._cells: dict[int, Cell] = {}

    def add(self, count: int, cell: Cell) -> None:
        self._cells[count] = cell
        if len(self._cells) > 1000:
            del self._cells[next(iter(self._cells))]

    def traceback(self, traceback: str) -> list[str]:
        """A stack as V8 has it, with the columns of the code as written, below the line that it begins with."""

        def written(match: re.Match[str]) -> str:
            cell = self._cells.get(int(match[1]))
            if cell is None or match[3] is None:
                return match[0]
            return f"{cell.name}:{match[2]}:{cell.column(int(match[2]), int(match[3]))}"

        # A wait's own place is as written already.
        mended = traceback if traceback.startswith("KeyboardInterrupt") else re.sub(_PLACE, written, traceback)
        first = re.search(_PLACE, mended)
        cell = self._cells.get(int(first[1])) if first else None
        above = cell.excerpt(int(first[2]), int(first[3]) if first[3] else None) if cell and first else []
        return [*above, *mended.split("\n")]


def completeness(code: str) -> str:
    """``complete``, ``incomplete`` or ``invalid``."""
    source = code.encode("utf-8", "surrogatepass")
    root = Parser(_LANGUAGE).parse(source).root_node
    if not root.has_error:
        return "complete"
    end = len(source.rstrip())
    last = root
    while last.children:
        last = last.children[-1]
    if last.is_missing or _open(code):
        return "incomplete"
    return "incomplete" if last.is_error and last.end_byte >= end and not last.text else "invalid"


def _open(code: str) -> bool:
    """Whether brackets, a template or a comment are open at the end, as far as a glance tells."""
    bare = re.sub(
        r"//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"|`(?:\\.|[^`\\])*`", "", code, flags=re.S
    )
    return any(bare.count(a) > bare.count(b) for a, b in ("()", "[]", "{}")) or "`" in bare or "/*" in bare


def _of(node: Node, type: str) -> Iterator[Node]:
    return (child for child in node.children if child.type == type)


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _width(text: str) -> int:
    """How many columns V8 counts: UTF-16 units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _variables(node: Node) -> Iterator[Node]:
    """The ``var`` declarations of a scope."""
    if node.type == "variable_declaration":
        yield node
    for child in node.children:
        if child.type not in _SCOPES:
            yield from _variables(child)


def _names(node: Node) -> set[str]:
    """What a declaration declares."""
    if node.type in _FUNCTIONS or node.type == "class_declaration":
        name = node.child_by_field_name("name")
        return {_text(name)} if name is not None else set()
    if node.type in ("lexical_declaration", "variable_declaration"):
        declared: set[str] = set()
        for each in _of(node, "variable_declarator"):
            if (name := each.child_by_field_name("name")) is not None:
                declared |= _bound(name)
        return declared
    return set()


def _bound(pattern: Node) -> set[str]:
    """The names that a pattern binds."""
    if pattern.type in ("identifier", "shorthand_property_identifier_pattern"):
        return {_text(pattern)}
    if pattern.type == "pair_pattern":
        value = pattern.child_by_field_name("value")
        return _bound(value) if value is not None else set()
    if pattern.type in ("assignment_pattern", "object_assignment_pattern"):
        left = pattern.child_by_field_name("left")
        return _bound(left) if left is not None else set()
    return set().union(*(_bound(child) for child in pattern.named_children)) if pattern.named_children else set()
