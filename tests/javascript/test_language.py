"""What a cell of JavaScript means: what it leaves behind, what it results in, and how it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ..running import Wire


async def run(wire: Wire, session: str, code: str) -> dict[str, Any]:
    execution: dict[str, Any] = await wire.execute(code, session=session)
    return execution


async def result(wire: Wire, session: str, code: str) -> str:
    execution = await run(wire, session, code)
    assert execution["state"] == "completed", execution["error"]
    (found,) = [each for each in execution["outputs"] if each["output_type"] == "execute_result"]
    assert found["execution_count"] == execution["execution_count"]
    return str(found["data"]["text/plain"])


async def test_what_is_declared_stays_and_can_be_declared_again(wire: Wire, session: str) -> None:
    await run(wire, session, "const a = 1; let b = 2; class C { m() { return 'C1' } }\nfunction f() { return g() }")
    await run(wire, session, "var v = 4; function g() { return a + b }")
    assert await result(wire, session, "[f(), new C().m(), v]") == "[ 3, 'C1', 4 ]"
    await run(wire, session, "let a = 10; const b = 20; class C { m() { return 'C2' } }")
    assert await result(wire, session, "b += 0; [f(), new C().m()]") == "[ 30, 'C2' ]"


@pytest.mark.parametrize("first", ["const", "let", "var", "function", "class"])
async def test_a_name_can_become_another_kind_of_thing(wire: Wire, session: str, first: str) -> None:
    declarations = {
        "const": ("const thing = 1", "1"),
        "let": ("let thing = 2; thing++", "3"),
        "var": ("var thing = 4", "4"),
        "function": ("const called = thing();\nfunction thing() { return 5 }", "[Function: thing]"),
        "class": ("class thing {}", "[class thing]"),
    }
    for kind, (code, shown) in declarations.items():
        await run(wire, session, declarations[first][0])
        changed = await run(wire, session, code)
        assert changed["state"] == "completed", (first, kind, changed["error"])
        assert await result(wire, session, "thing") == shown


async def test_await_at_the_top_and_the_last_expression_is_the_result(wire: Wire, session: str) -> None:
    later = "new Promise(resolve => setTimeout(resolve, 5, 21))"
    assert await result(wire, session, f"const half = await {later};\nhalf * 2 // twice") == "42"
    assert await result(wire, session, f"({{a: [await {later}], b: 'text'}})") == "{ a: [ 21 ], b: 'text' }"
    assert await result(wire, session, "{a: 1, n: -0, big: 2n ** 64n}") == "{ a: 1, n: -0, big: 18446744073709551616n }"
    assert await result(wire, session, "'Done'") == "'Done'"
    assert await result(wire, session, "new Map([[1, {two: 3}]])") == "Map(1) { 1 => { two: 3 } }"
    for silent in ("undefined", "const c = 1", "if (half) { 5 }", "for (const i of [1]) i", "// nothing", ""):
        execution = await run(wire, session, silent)
        assert (execution["state"], execution["outputs"]) == ("completed", [])
    code = "async function* count() { yield 1; yield 2 }\nfor await (const i of count()) console.log(i)\n"
    code += "for await (const i of [Promise.resolve(3), 4]) console.log(i)"
    assert (await run(wire, session, code))["text"] == "1\n2\n3\n4\n"


async def test_an_object_can_bring_its_own_mime_bundle(wire: Wire, session: str) -> None:
    code = "({[Symbol.for('Jupyter.display')]() { return {'text/html': '<b>x</b>', 'text/plain': 'x'} }})"
    (shown,) = (await run(wire, session, code))["outputs"]
    assert shown["data"] == {"text/html": "<b>x</b>", "text/plain": "x"}


async def test_the_console_goes_to_both_streams(wire: Wire, session: str) -> None:
    code = "console.log('%s is %d', 'log', 1); console.info({a: 1}); console.debug('debug')\n"
    code += "process.stdout.write('raw\\n')\n"
    code += "console.error('error'); console.warn('warn'); process.stderr.write('raw\\n'); undefined"
    execution = await run(wire, session, code)
    streams = {output["name"]: output["text"] for output in execution["outputs"]}
    assert streams == {"stdout": "log is 1\n{ a: 1 }\ndebug\nraw\n", "stderr": "error\nwarn\nraw\n"}


async def test_an_error_points_at_the_line_and_column_as_written(wire: Wire, session: str) -> None:
    code = (
        "const deep = () => {\n  throw new TypeError('on purpose');\n};\nawait 0; const é = [await 1, await 2]; deep();"
    )
    execution = await run(wire, session, code)
    assert execution["state"] == "failed"
    error = execution["error"]
    assert (error["ename"], error["evalue"]) == ("TypeError", "on purpose")
    assert error["traceback"] == [
        "cell-1:2",
        "  throw new TypeError('on purpose');",
        "        ^",
        "",
        "TypeError: on purpose",
        "    at deep (cell-1:2:9)",
        "    at cell-1:4:40",
    ]
    syntax = (await run(wire, session, "let ok = 1;\nlet 5 = ok"))["error"]
    assert syntax["ename"] == "SyntaxError"
    assert syntax["traceback"][:3] == ["cell-2:2", "let 5 = ok", "    ^"]
    thrown = (await run(wire, session, "throw {code: 7}"))["error"]
    assert (thrown["ename"], thrown["evalue"]) == ("Uncaught", "{ code: 7 }")
    rejected = await run(
        wire, session, "const inner = new Error('why');\nawait Promise.reject(new Error('no', {cause: inner}))"
    )
    assert "[cause]: Error: why" in "\n".join(rejected["error"]["traceback"])
    assert "cell-4:2:22" in "\n".join(rejected["error"]["traceback"])


async def test_an_error_that_nobody_awaits_is_said_and_ends_nothing(wire: Wire, session: str) -> None:
    pause = "await new Promise(resolve => setTimeout(resolve, 50))"
    execution = await run(wire, session, f"setTimeout(() => nope(), 1); Promise.reject(new Error('alone')); {pause}")
    assert execution["state"] == "completed"
    assert "Uncaught ReferenceError: nope is not defined\n    at Timeout._onTimeout (cell-1:1:18)" in execution["text"]
    assert "Uncaught Error: alone" in execution["text"]
    assert await result(wire, session, "1 + 1") == "2"


async def test_require_and_import_find_builtins_files_and_packages(wire: Wire, session: str, directory: Path) -> None:
    (directory / "common.js").write_text("exports.name = 'common'; exports.times = (global.times ?? 0) + 1")
    (directory / "module.mjs").write_text("export default 'the default'; export const named = 'named'")
    package = directory / "node_modules" / "only-esm"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "only-esm", "type": "module", "exports": {"import": "./i.js"}}')
    (package / "i.js").write_text("export const from = 'a package'")
    assert await result(wire, session, "const fs = require('fs'); require('./common.js').name") == "'common'"
    code = "import whole, { named as other } from './module.mjs';\nimport * as path from 'node:path'\n"
    code += "import {\n  from\n} from 'only-esm';\nimport 'node:util'; [whole, other, path.basename('/a/b'), from]"
    assert await result(wire, session, code) == "[ 'the default', 'named', 'b', 'a package' ]"
    assert await result(wire, session, "(await import('./module.mjs')).named + whole") == "'namedthe default'"
    assert await result(wire, session, "import.meta.dirname") == repr(str(directory))
    missing = (await run(wire, session, "import { absent } from './module.mjs'"))["error"]
    assert missing["evalue"] == "The requested module './module.mjs' does not provide an export named 'absent'"
    nowhere = (await run(wire, session, "const ok = 1;\nimport x from 'no-such-package'"))["error"]
    assert "no-such-package" in nowhere["evalue"]


async def test_clear_context_forgets_and_the_session_goes_on(wire: Wire, session: str, directory: Path) -> None:
    (directory / "counted.js").write_text("globalThis.loads = (globalThis.loads ?? 0) + 1; module.exports = loads")
    await run(
        wire, session, "const a = 1; let b = 2; function f() {} var v; class C {}; implicit = 3; require('./counted')"
    )
    await run(wire, session, "clear_context()")
    kinds = "[typeof a, typeof b, typeof f, typeof v, typeof C, typeof implicit, typeof loads]"
    assert await result(wire, session, f"[...new Set({kinds})]") == "[ 'undefined' ]"
    assert (
        await result(wire, session, "const a = 'new'; function b() { return a }\nb() + require('./counted')")
        == "'new1'"
    )
