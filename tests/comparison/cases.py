"""The cases. Each runs code on a peer, looks, and says what was seen; the same words for the same observation."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .code import LANGUAGES, Code
from .installs import Installs
from .looking import SOON, Cell, Verdict, appears, made, make, numbered, of, soon
from .peer import NoSuchCall, Peer, Refused, Result, Run

TICKS = 100
MILLION = 1_000_000


@dataclass
class Case:
    """A row of the table."""

    name: str
    title: str
    question: str
    """What a good answer would be."""
    run: Callable[[Peer, Code, Path], Coroutine[Any, Any, Cell]]
    bound: float = 60
    """Seconds after which it is "no answer", beside the seconds for which its code runs."""


async def busy(peer: Peer, code: Code, place: Path) -> Cell:
    lasts = peer.patience + (5 if peer.settable else 6)
    began = time.monotonic()
    begun, ended = place / "begun", place / "ended"
    try:
        run = await peer.call(code.busy(lasts, begun, ended))
    except Refused as refused:
        took = time.monotonic() - began
        await asyncio.sleep(max(0.0, lasts + 2 - took))
        fate = "the loop ran on, what it printed later is lost" if made(ended) else "the loop was ended"
        words, brief = f"{refused} after {took:.1f} s; {fate}", f"given up after {took:.0f} s"
        if peer.beside is None:
            return Cell("no", words, brief)
        begun, ended = place / "begun-2", place / "ended-2"
        began = time.monotonic()
        run = await peer.begin(code.busy(lasts, begun, ended))
        second = await _handed_over(peer, run, time.monotonic() - began, lasts, begun)
        verdict: Verdict = "no" if second.verdict == "no" else "partly"
        return Cell(verdict, f"{words}. {peer.beside}: {second.words}", f"{brief}. {peer.beside}: {second.brief}")
    took = time.monotonic() - began
    if took > peer.patience + 2 or made(ended):
        return Cell("no", f"answered after {took:.0f} s, when the loop was over", f"answered after {took:.0f} s")
    return await _handed_over(peer, run, took, lasts, begun)


async def _handed_over(peer: Peer, run: Run, took: float, lasts: float, begun: Path) -> Cell:
    control = f"control after {took:.1f} s"
    await appears(begun)
    read = False
    # The first line may be on its way; it is given a second.
    for _ in range(10):
        read = read or "begun" in await _so_far(peer, run)
        await asyncio.sleep(0.1)
    result = await soon(peer.result(run), lasts + SOON)
    if isinstance(result, str):
        return Cell("no", f"{control}; then {result}", result)
    whole = "begun" in result.text and "ended" in result.text
    middle = "its output so far readable" if read else "nothing to read until its end"
    end = "all of it at the end" if whole else f"at the end {result.error or 'not all of it'}"
    verdict: Verdict = "yes" if whole and read else "partly" if whole else "no"
    return Cell(verdict, f"{control}; {middle}; {end}", control + ("" if read else ", output at the end"))


async def stdin_after(peer: Peer, code: Code, place: Path) -> Cell:
    touch = place / "begun"
    run = await peer.begin(code.ask(peer.next_name(), touch, None))
    await appears(touch)
    return await _greeting(peer, run, prompt=True)


async def stdin_before(peer: Peer, code: Code, place: Path) -> Cell:
    touch, gate = place / "begun", place / "gate"
    run = await peer.begin(code.ask(peer.next_name(), touch, gate))
    await appears(touch)
    return await _greeting(peer, run, prompt=False, gate=gate)


async def _greeting(peer: Peer, run: Run, *, prompt: bool, gate: Path | None = None) -> Cell:
    told, sent, brief = "", "the line was taken", "did not arrive"
    if prompt:
        try:
            await asyncio.wait_for(peer.asked(run), SOON)
        except NoSuchCall:
            pass
        except Refused as refused:
            told = f"{refused}; "
        except TimeoutError:
            told = f"no prompt was told of in {SOON:g} s; "
    try:
        await peer.send(run, "Ada")
    except Refused as refused:
        sent, brief = str(refused), "no such call" if isinstance(refused, NoSuchCall) else "refused"
    if gate is not None:
        make(gate)
    result = await soon(peer.result(run))
    if isinstance(result, str):
        return Cell("no", f"{told}{sent}; {result}", brief)
    if "Hello, Ada" in result.text:
        return Cell("yes", "`Hello, Ada`", "`Hello, Ada`")
    end = f"the code got {result.error}" if result.error else "the code ended without it"
    return Cell("no", f"{told}{sent}; {end}", brief)


async def two_writers(peer: Peer, code: Code, place: Path) -> Cell:
    count = 1000
    files = {mark: (place / f"{mark}-begun", place / f"{mark}-ended") for mark in "AB"}
    runs = await asyncio.gather(
        *(peer.begin(code.marked(mark, count, *files[mark])) for mark in files), return_exceptions=True
    )
    said: list[str] = []
    right = True
    for run, mark, other in zip(runs, "AB", "BA", strict=True):
        result = str(run) if isinstance(run, BaseException) else await soon(peer.result(run), 40)
        if isinstance(result, str):
            said.append(f"{mark}: {result}")
            right = False
            continue
        own, ordered = numbered(result.text, mark, count)
        foreign, _ = numbered(result.text, other, count)
        right = right and own == count and ordered and foreign == 0
        said.append(f"{mark}: {own:,} of its own, {foreign:,} of the other's")
    if not all(path.exists() for pair in files.values() for path in pair):
        manner = "not both ran"
    else:
        begins = max(pair[0].stat().st_mtime for pair in files.values())
        ends = min(pair[1].stat().st_mtime for pair in files.values())
        manner = "side by side" if begins < ends else "one after the other"
    if right:
        return Cell("yes", f"each its own {count:,} lines, {manner}", f"each its own, {manner}")
    return Cell("no", f"{'; '.join(said)}; {manner}", "mixed or lost")


async def much_output(peer: Peer, code: Code, place: Path) -> Cell:
    run = await peer.begin(code.much(MILLION))
    result = await soon(peer.result(run), 240)
    if isinstance(result, str):
        return Cell("no", result, result)
    lines = [line for line in result.text.splitlines() if len(line) == 99 and line.isdigit()]
    found = len(set(lines))
    if found == MILLION and lines == sorted(lines) and len(lines) == found:
        return Cell("yes", f"all {MILLION:,} lines, in order", f"all {MILLION:,} lines")
    end = f"; {result.error}" if result.error else ""
    if found == MILLION:
        repeats = max(Counter(lines).values())
        how = f"up to {repeats} times each" if repeats > 1 else "out of order"
        return Cell("partly", f"all {MILLION:,} lines, {how}{end}", f"all lines, {how}")
    # Rounded, for how much is lost is another number each time.
    share = f"{100 * found / MILLION:.0f}%" if found else "none"
    return Cell("no", f"{found:,} of {MILLION:,} lines{end}", f"{share} of the lines")


async def client_gone(peer: Peer, code: Code, place: Path) -> Cell:
    at, ended = place / "tick-20", place / "ended"
    run = await peer.begin(code.ticks(TICKS, at, 20, ended))
    await appears(at)
    await peer.leave()
    # For the time of some forty ticks nobody is there.
    await asyncio.sleep(2)
    return await _found_again(peer.come_back, peer, run, ended)


async def server_killed(peer: Peer, code: Code, place: Path) -> Cell:
    at, ended = place / "tick-20", place / "ended"
    run = await peer.begin(code.ticks(TICKS, at, 20, ended))
    await appears(at)
    await peer.kill()
    await asyncio.sleep(2)
    return await _found_again(peer.revive, peer, run, ended)


async def _found_again(back: Callable[[], Awaitable[None]], peer: Peer, run: Run, ended: Path) -> Cell:
    try:
        await back()
    except Refused as refused:
        result: Result | str = str(refused)
    else:
        result = await soon(peer.result(run), 20)
    try:
        await appears(ended, 10)
        fate = "the code ran on"
    except TimeoutError:
        fate = "the code was ended"
    if isinstance(result, str):
        return Cell("no", f"{fate}; {result}", f"{fate}, its output is gone")
    found, exact = numbered(result.text, "tick", TICKS)
    if found == TICKS and exact:
        return Cell("yes", f"{fate}; all {TICKS} lines, once, in order", f"all {TICKS} lines")
    how = "" if exact else ", some twice or out of order"
    end = f"; {result.error}" if result.error else ""
    verdict: Verdict = "partly" if found == TICKS else "no"
    return Cell(verdict, f"{fate}; {of(found, TICKS)}{how}{end}", f"{of(found, TICKS)}{how}")


async def kernel_killed(peer: Peer, code: Code, place: Path) -> Cell:
    count = 100
    began = time.monotonic()
    run = await peer.begin(code.die(count))
    result = await soon(peer.result(run), 30)
    took = time.monotonic() - began
    text = await _so_far(peer, run) if isinstance(result, str) else result.text
    found, exact = numbered(text, "line", count)
    # What is lost depends on when the kernel last flushed, so less than all is not counted out.
    kept = f"all {count} lines" if found == count and exact else f"{found} of {count} lines"
    if isinstance(result, str):
        told = result
    else:
        told = f"told after {took:.0f} s: {result.error}" if result.error else "no word of it"
    after = await _works(peer, code)
    good = found == count and exact and not isinstance(result, str) and bool(result.error)
    verdict: Verdict = "yes" if good and after == "the next call ran" else "partly" if good or found == count else "no"
    brief = f"told, {kept}" if not isinstance(result, str) and result.error else f"not told, {kept}"
    return Cell(verdict, f"{told}; {kept}; {after}", brief)


async def _so_far(peer: Peer, run: Run) -> str:
    try:
        return await asyncio.wait_for(peer.so_far(run), SOON)
    except (Refused, TimeoutError):
        return ""


async def _works(peer: Peer, code: Code) -> str:
    """Whether the peer's next call runs."""
    try:
        run = await asyncio.wait_for(peer.begin(code.recall()), SOON)
    except (Refused, TimeoutError) as why:
        return f"the next call: {why or 'no answer'}"
    result = await soon(peer.result(run))
    if isinstance(result, str):
        return f"the next call: {result}"
    return "the next call ran" if "nothing" in result.text else f"the next call: {result.error}"


async def interrupt_await(peer: Peer, code: Code, place: Path) -> Cell:
    begun = place / "begun"
    await soon(peer.result(await peer.begin(code.remember())))
    run = await peer.begin(code.sleep(begun))
    await appears(begun)
    began = time.monotonic()
    refusal = ""
    try:
        await asyncio.wait_for(peer.interrupt(run), SOON)
    except Refused as refused:
        refusal = f"{refused}; "
    except TimeoutError:
        refusal = f"the call did not return in {SOON:g} s; "
    result = await soon(peer.result(run))
    took = time.monotonic() - began
    if isinstance(result, str):
        return Cell("no", f"{refusal}{result}", "it slept on")
    ended = f"{refusal}ended after {took:.1f} s ({result.error or 'no error'})"
    recalled = await soon(peer.result(await peer.begin(code.recall())))
    if isinstance(recalled, str):
        # What was ended is the wait for it: the kernel is not free.
        return Cell("no", f"{ended}; the next call: {recalled}", "it slept on")
    kept = "kept" in recalled.text
    words = f"{ended}; variables {'kept' if kept else 'lost'}"
    return Cell("yes" if kept else "partly", words, "ended" + ("" if kept else ", variables lost"))


async def interrupt_queued(peer: Peer, code: Code, place: Path) -> Cell:
    begun, gate, ended = place / "begun", place / "gate", place / "ended"
    begun2, ended2 = place / "begun-2", place / "ended-2"
    first = await peer.begin(code.gated(begun, gate, ended))
    await appears(begun)
    gate2 = place / "gate-2"
    gate2.touch()
    second = await peer.begin(code.gated(begun2, gate2, ended2), queue=True)
    await asyncio.sleep(1)
    beside = begun2.exists()
    refusal = ""
    try:
        await asyncio.wait_for(peer.interrupt(second), SOON)
    except Refused as refused:
        refusal = f"{refused}; "
    except TimeoutError:
        refusal = f"the call did not return in {SOON:g} s; "
    await asyncio.sleep(2)
    gate.touch()
    one = await soon(peer.result(first))
    two = await soon(peer.result(second))
    ran_on, ran = ended.exists(), ended2.exists()
    other = "the running one ran to its end" if ran_on else f"the running one was ended ({_word(one)})"
    if beside:
        named = "the queued one did not wait: it ran beside"
    else:
        named = "the queued one ran" if ran else f"the queued one never ran ({_word(two)})"
    verdict: Verdict = "yes" if ran_on and not ran and not beside else "partly" if ran_on else "no"
    if beside:
        brief = "there is no queue"
    elif not ran_on:
        brief = "ended the running one"
    else:
        brief = "the queued one ran" if ran else "only the queued one"
    return Cell(verdict, f"{refusal}{other}; {named}", brief)


def _word(result: Result | str) -> str:
    return result if isinstance(result, str) else result.error or "no error"


async def same_key(peer: Peer, code: Code, place: Path) -> Cell:
    file = place / "count"
    program = code.count(file)
    runs = [await peer.begin(program, key="the-same-key"), await peer.begin(program, key="the-same-key")]
    ends = [await soon(peer.result(run)) for run in runs]
    times = len(file.read_bytes()) if file.exists() else 0
    how = f"key: {peer.key}" if peer.key else "no call takes a key"
    ran = {0: "never ran", 1: "ran once"}.get(times, f"ran {times} times")
    both = all(not isinstance(end, str) and "ran" in end.text for end in ends)
    answers = "both calls have its result" if both else "; ".join(_word(end) for end in ends)
    verdict: Verdict = "yes" if times == 1 and both else "partly" if times == 1 else "no"
    return Cell(verdict, f"{ran} ({how}); {answers}", ran)


async def read_twice(peer: Peer, code: Code, place: Path) -> Cell:
    run = await peer.begin(code.marked("A", 10, place / "begun", place / "ended"))
    first = await soon(peer.result(run))
    if isinstance(first, str):
        return Cell("no", f"the first time: {first}", "not even once")
    second = await soon(peer.again(run))
    if isinstance(second, str):
        return Cell("no", f"the second time: {second}", "once")
    same = numbered(first.text, "A", 10) == numbered(second.text, "A", 10) == (10, True)
    return Cell("yes" if same else "no", "the same both times" if same else "not the same", "twice" if same else "once")


def _cases() -> list[Case]:
    return [
        Case(
            "busy",
            "A busy loop past the handover time",
            "control comes back on time, and the loop runs on with nothing lost",
            busy,
            90,
        ),
        Case("stdin-after", "A line of input after the prompt", "the code gets it", stdin_after),
        Case("stdin-before", "A line of input before the prompt", "the code gets it", stdin_before),
        Case("two-writers", "Two writers at once", "each has its own 1,000 lines and no other", two_writers, 120),
        Case("output", "100 MB of output", "all 1,000,000 lines, once, in order", much_output, 300),
        Case("client-gone", "The client gone and back mid-run", "all 100 lines, once, in order", client_gone, 90),
        Case(
            "kernel-killed",
            "The kernel killed mid-run",
            "the caller is told; what was printed is there; the next call works",
            kernel_killed,
            90,
        ),
        Case("interrupt-await", "An interrupt under `await`", "it ends, and the variables live", interrupt_await),
        Case(
            "interrupt-queued",
            "An interrupt that names a queued execution",
            "that one never runs, and the running one runs on",
            interrupt_queued,
        ),
        Case("key", "The same call twice with one idempotency key", "the code runs once", same_key),
        Case("read-twice", "A result read twice", "the same both times", read_twice),
        Case("server-killed", "The broker killed mid-run", "the code runs on; all 100 lines, once", server_killed, 90),
    ]


CASES = {case.name: case for case in _cases()}


async def observe(kind: type[Peer], case: Case, installs: Installs) -> Cell:
    """Run a case on a peer of its own. What goes wrong with that is a cell too."""
    try:
        async with kind.started(installs) as peer:
            place = peer.root / "case"
            place.mkdir()
            try:
                async with asyncio.timeout(case.bound):
                    return await case.run(peer, LANGUAGES[peer.language], place)
            except TimeoutError:
                return Cell("no", f"no answer in {case.bound:g} s", "no answer")
            except NoSuchCall as none:
                return Cell("no", str(none), "no such call")
            except Refused as refused:
                return Cell("no", str(refused), "refused")
    except Exception as broken:
        return Cell("not run", f"the case broke: {type(broken).__name__}: {broken}", "not run")
