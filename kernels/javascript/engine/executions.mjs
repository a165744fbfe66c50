// Executions: side by side in one context, each with what it prints, awaits and asks, and each interrupted by itself.
//
// V8 evaluates code as its inspector's REPL does (`Runtime.evaluate` with `replMode`): declarations stay, `await` is
// allowed at the top. Which execution the code at hand belongs to, AsyncLocalStorage knows. The kernel has put a call
// of `wait` around whatever the code awaits (javascript_kernel/rewriting.py), so an interrupt can reject it.
//
// A loop that never yields is terminated. V8 then also drops what was about to run next; hence what others wait for is
// subscribed to again, and while there are others, each goes on in a turn of the event loop of its own.

import { AsyncLocalStorage } from 'node:async_hooks';
import inspector from 'node:inspector';
import { promiseHooks } from 'node:v8';
import { isProtected, protect, tell } from './channel.mjs';
import { describe, inspectError, trimmed } from './showing.mjs';

const { setImmediate, setTimeout } = globalThis;
const now = performance.now.bind(performance);
const TURN = 10; // ms after which what only ever awaits things that are there already lets others have a turn
const SETTLING = 20; // ms that an interrupted execution has to end by itself

const storage = new AsyncLocalStorage();
const session = new inspector.Session();
session.connect();

/** By id: those that are not over. */
const live = new Map();
/** The promise of each execution's end, which is the first that its code makes. One that never comes, for the code was
 * terminated, is kept for good: the inspector would say when it is collected, in the middle of a collection, where
 * Node.js cannot hear it. */
const kept = new Map();
const waits = new Set();
const prompts = new Map();
let promptCount = 0;
let latest = null;
let receiver; // the inspector's name for `taken`
const taken = { value: undefined, take: (value) => void (taken.value = value) };

export class KeyboardInterrupt extends Error {
    constructor(where) {
        super('interrupted');
        if (where) this.stack = `KeyboardInterrupt: interrupted\n${where}`;
    }
}
Object.defineProperty(KeyboardInterrupt.prototype, 'name', { value: 'KeyboardInterrupt', configurable: true });

class Execution {
    constructor({ id, name, allowStdin, shows }) {
        Object.assign(this, { id, name, allowStdin, shows });
        this.interrupts = 0;
        this.abandoned = false; // whatever of it still waits never goes on
        this.terminated = false; // and not told yet
        this.where = null; // the stack where it was terminated
    }
}

/** The execution that the code at hand belongs to: the latest one, if it came from nowhere. */
export const current = () => storage.getStore() ?? latest;

function post(method, parameters, callback) {
    return session.post(method, parameters, callback);
}

/** Begin one. */
export function execute({ code, ...about }) {
    const execution = new Execution(about);
    live.set(execution.id, execution);
    latest = execution;
    const parameters = { expression: code, replMode: true, awaitPromise: true, objectGroup: 'cell' };
    const stop = promiseHooks.onInit((promise) => {
        stop();
        kept.set(execution, promise);
    });
    storage.run(execution, () => {
        post('Runtime.evaluate', parameters, (error, answer) => storage.exit(() => settle(execution, error, answer)));
    });
    stop();
}

function settle(execution, error, answer) {
    kept.delete(execution);
    if (!live.has(execution.id)) return;
    if (error || !answer) return finishInterrupted(execution);
    const thrown = answer.exceptionDetails;
    const remote = thrown ? thrown.exception : answer.result;
    const value = remote && valueOf(remote);
    // Showing it may run user code.
    const shown = storage.run(execution, () =>
        thrown ? describeThrown(thrown, value, execution) : execution.shows ? { data: describe(value) } : {},
    );
    finish(execution, shown);
}

function valueOf({ type, objectId, value, unserializableValue }) {
    if (type === 'undefined') return undefined;
    if (objectId === undefined && unserializableValue === undefined) return value;
    if (receiver === undefined) {
        globalThis.__jb.taken = taken;
        post('Runtime.evaluate', { expression: '__jb.taken' }, (_, { result }) => (receiver = result.objectId));
    }
    post('Runtime.callFunctionOn', {
        objectId: receiver,
        functionDeclaration: 'function (value) { this.take(value); }',
        arguments: [objectId === undefined ? { unserializableValue } : { objectId }],
    });
    const found = taken.value;
    taken.value = undefined;
    post('Runtime.releaseObjectGroup', { objectGroup: 'cell' });
    return found;
}

function describeThrown(thrown, value, execution) {
    const shown = inspectError(value);
    const place = /\bcell-\d+:(\d+:\d+)/.exec(shown.traceback)?.[1];
    // What V8 cannot compile has no frame of the user's; what it cannot declare has one, at the very beginning.
    const nothingRan = value instanceof SyntaxError && (place === undefined || place === '1:1');
    if (place === undefined && (nothingRan || thrown.url === execution.name)) {
        shown.traceback += `\n    at ${execution.name}:${thrown.lineNumber + 1}:${thrown.columnNumber + 1}`;
    }
    return { error: { ...shown, nothingRan } };
}

function finish(execution, ending) {
    if (!live.delete(execution.id)) return;
    tell({ type: 'done', id: execution.id, ...ending });
}

function finishInterrupted(execution) {
    execution.abandoned = true;
    const { ename, evalue, traceback } = inspectError(new KeyboardInterrupt(execution.where));
    finish(execution, { error: { ename, evalue, traceback } });
}

// Interrupts

/** Terminate the code that runs, if it is this execution's; or if it is nobody's any more, and keeps this one waiting.
 *
 * The control thread calls it, through the inspector, wherever that code is.
 */
export function stop(id) {
    const running = storage.getStore();
    const wanted = live.get(id);
    if (running === undefined || wanted === undefined) return;
    if (running !== wanted && live.has(running.id)) return;
    if (running === wanted) {
        wanted.terminated = true;
        wanted.where = trimmed(new Error().stack).split('\n').slice(1).join('\n');
    }
    if (!isProtected(terminate)) terminate();
}

const terminate = () => post('Runtime.terminateExecution');

/** Interrupt an execution: what it awaits is rejected. The second time, what it awaits never comes. */
export function interrupt({ id }) {
    for (const wait of waits) if (!wait.left) subscribe(wait);
    const execution = live.get(id);
    if (execution === undefined) return;
    execution.interrupts++;
    execution.terminated = false;
    if (execution.interrupts > 1) execution.abandoned = true;
    for (const [number, prompt] of prompts) if (prompt.execution === execution) closePrompt(number);
    for (const wait of waits) {
        if (wait.execution === execution) {
            waits.delete(wait);
            wait.left = true;
            if (!execution.abandoned) wait.reject(new KeyboardInterrupt(`    at ${wait.where}`));
            else execution.where ??= `    at ${wait.where}`;
        }
    }
    setTimeout(() => {
        // Neither did it end, nor does it await anything new: it was terminated, or what it awaits is not ours to reject.
        if (live.has(id) && (execution.abandoned || !isAwaiting(execution))) finishInterrupted(execution);
    }, SETTLING);
}

function isAwaiting(execution) {
    for (const wait of waits) if (wait.execution === execution) return true;
    return false;
}

// Awaiting

let turn = null;

/** Whether no other turn of the event loop has come for long. */
function isOverdue() {
    if (turn === null) {
        turn = now();
        setImmediate(() => (turn = null));
        return false;
    }
    return now() - turn > TURN;
}

/** What `await value` awaits in a cell. `where` is its place there. */
export function wait(value, where) {
    const execution = storage.getStore();
    if (execution?.abandoned) return new Promise(() => {});
    const thenable = value !== null && (typeof value === 'object' || typeof value === 'function') && 'then' in value;
    if (!thenable && !isOverdue()) return value;
    return new Promise((resolve, reject) => {
        const wait = { execution, where, resolve, reject, left: false, source: null };
        waits.add(wait);
        wait.source = Promise.resolve(value);
        subscribe(wait);
    });
}

function subscribe(wait) {
    wait.source.then(
        (value) => leave(wait, wait.resolve, value),
        (error) => leave(wait, wait.reject, error),
    );
}

function leave(wait, settle, outcome) {
    if (wait.left) return;
    wait.left = true;
    const go = () => {
        if (waits.delete(wait)) settle(outcome);
    };
    const { execution } = wait;
    if (execution?.terminated) wait.left = false; // it is about to be rejected
    else if (live.size > 1 || isOverdue()) setImmediate(go);
    else go();
}

/** What `for await (… of iterable)` iterates over in a cell. */
export function each(iterable, where) {
    const asynchronous = iterable[Symbol.asyncIterator];
    const iterator = asynchronous ? asynchronous.call(iterable) : iterable[Symbol.iterator]();
    const next = asynchronous
        ? () => wait(iterator.next(), where)
        : async () => {
              const { done, value } = iterator.next();
              return { done, value: done ? value : await wait(value, where) };
          };
    const end = async (value) => (iterator.return ? await iterator.return(value) : { done: true, value });
    return { [Symbol.asyncIterator]: () => ({ next: async () => next(), return: end }) };
}

// Input

/** Ask for a line of input. null: there is no more. `id` is of no account: a prompt is of the execution that asks. */
export function readStdin(_id, { prompt = '', password = false } = {}) {
    const execution = current();
    if (!execution.allowStdin) {
        return Promise.reject(new Error('readStdin: this client does not answer prompts (allow_stdin is false)'));
    }
    const number = ++promptCount;
    tell({ type: 'input', id: execution.id, number, prompt: String(prompt), password: Boolean(password) });
    return new Promise((resolve) => prompts.set(number, { execution, resolve }));
}

function closePrompt(number) {
    prompts.delete(number);
    tell({ type: 'input_closed', number });
}

/** The kernel has the answer to a prompt. */
export function answer({ number, value }) {
    const prompt = prompts.get(number);
    prompts.delete(number);
    prompt?.resolve(value);
}

/** Have code be the engine's, of no execution. */
export const outside = (run) => storage.exit(() => protect(run));

/** The names that cells have declared with let, const and class. */
export function declaredNames() {
    let names = [];
    post('Runtime.globalLexicalScopeNames', {}, (_, answer) => (names = answer.names));
    return [...new Set(names)];
}

/** Evaluate the engine's own code in the context of the cells. */
export const evaluate = (expression) => post('Runtime.evaluate', { expression, replMode: true });
