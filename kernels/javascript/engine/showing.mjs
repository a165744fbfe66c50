// Values and errors as text, in the style of Node.js.

import util from 'node:util';

const { inspect } = util;
const DISPLAY = Symbol.for('Jupyter.display');
const HERE = new URL('.', import.meta.url).href;
const OURS = /^\s+at .*\(?node:(inspector|internal\/(async_local_storage|timers|process\/task_queues)):/;

Error.stackTraceLimit = 25;

/** A result as a MIME bundle; null if there is none. An object can bring its own, as `Symbol.for('Jupyter.display')`. */
export function describe(value) {
    if (value === undefined) return null;
    if (value !== null && typeof value === 'object' && typeof value[DISPLAY] === 'function') return value[DISPLAY]();
    return { 'text/plain': inspect(value) };
}

/** What `error` messages say of whatever was thrown. */
export function inspectError(value) {
    const isError = util.types.isNativeError(value) || value instanceof Error;
    let ename = isError ? 'Error' : 'Uncaught';
    let evalue = '';
    let traceback;
    try {
        if (isError) {
            ename = String(value.name);
            evalue = String(value.message);
        } else {
            evalue = inspect(value);
        }
        traceback = isError ? trimmed(inspect(value)) : `Uncaught ${evalue}`;
    } catch {
        traceback = `${ename}: ${evalue}`;
    }
    return { ename, evalue, traceback };
}

/** A stack without the engine's own frames. */
export function trimmed(stack) {
    let below = false;
    const kept = stack.split('\n').filter((line) => {
        if (!/^\s+at /.test(line)) {
            below = false;
            return true;
        }
        // All that is below the frame that began the evaluation.
        below ||= OURS.test(line);
        return !below && !line.includes(HERE) && !/at <anonymous>:1:\d+$/.test(line);
    });
    return kept.join('\n');
}
