// What user code finds: its console and streams, require and import, readStdin and clear_context.

import { Console } from 'node:console';
import { createRequire, isBuiltin } from 'node:module';
import path from 'node:path';
import { Writable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';
import { print, tell } from './channel.mjs';
import * as executions from './executions.mjs';
import { inspectError } from './showing.mjs';

class Stream extends Writable {
    constructor(number) {
        super({ decodeStrings: false });
        this.number = number;
        this.fd = number + 1;
    }

    _write(chunk, encoding, callback) {
        const text = typeof chunk === 'string' ? chunk : chunk.toString('utf8');
        print(executions.current()?.id ?? '', this.number, text);
        callback();
    }
}

/** Relative to the working directory, wherever that is by then. */
const here = () => path.join(process.cwd(), 'cell.js');
const made = new Map();

function ofDirectory(make) {
    const filename = here();
    const key = `${make.name} ${filename}`;
    if (!made.has(key)) made.set(key, make(filename));
    return made.get(key);
}

const requirer = (filename) => createRequire(filename);
const importer = (filename) =>
    // Only a script that was compiled with a file name imports relative to that.
    new vm.Script('(specifier, options) => import(specifier, options)', {
        filename,
        importModuleDynamically: vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    }).runInThisContext();

function makeRequire() {
    const require = (specifier) => ofDirectory(requirer)(specifier);
    require.resolve = (...specifier) => ofDirectory(requirer).resolve(...specifier);
    Object.defineProperties(require, {
        cache: { get: () => ofDirectory(requirer).cache },
        main: { get: () => undefined },
        extensions: { get: () => ofDirectory(requirer).extensions },
    });
    return require;
}

/** The exports that `import {…} from specifier` names. */
function named(module, specifier, names) {
    for (const name of names) {
        if (!(name in module)) {
            throw new SyntaxError(`The requested module '${specifier}' does not provide an export named '${name}'`);
        }
    }
    return module;
}

const meta = {
    get url() {
        return pathToFileURL(here()).href;
    },
    get filename() {
        return here();
    },
    get dirname() {
        return process.cwd();
    },
    resolve: (specifier) =>
        /^\.{0,2}\//.test(specifier)
            ? new URL(specifier, meta.url).href
            : isBuiltin(specifier)
              ? `node:${specifier.replace(/^node:/, '')}`
              : pathToFileURL(ofDirectory(requirer).resolve(specifier)).href,
};

let initial;

/** Forget what was declared and defined, and what was required from files. What still runs keeps what it holds. */
function clear_context() {
    const { cache } = ofDirectory(requirer);
    for (const file of Object.keys(cache)) delete cache[file];
    executions.outside(() => {
        const names = executions.declaredNames();
        if (names.length > 0) executions.evaluate(`let ${names.join(', ')};`);
        for (const name of Reflect.ownKeys(globalThis)) {
            if (initial.has(name)) continue;
            const { configurable } = Object.getOwnPropertyDescriptor(globalThis, name);
            // What var and function declare can be emptied, and not deleted.
            if (configurable) delete globalThis[name];
            else globalThis[name] = undefined;
        }
    });
}

function complain(error) {
    process.stderr.write(`Uncaught ${inspectError(error).traceback.replace(/^Uncaught /, '')}\n`);
}

export function install() {
    const streams = [new Stream(0), new Stream(1)];
    for (const [number, name] of ['stdout', 'stderr'].entries()) {
        Object.defineProperty(process, name, { value: streams[number], configurable: true, enumerable: true });
    }
    const console = new Console({ stdout: streams[0], stderr: streams[1], colorMode: false });
    console.Console = Console;
    const { wait, each, stop } = executions;
    const load = (specifier, options) => ofDirectory(importer)(specifier, options);
    const helpers = { wait, each, stop, named, meta, import: load, rename };
    for (const [name, value] of Object.entries({
        console,
        require: makeRequire(),
        readStdin: executions.readStdin,
        clear_context,
    })) {
        Object.defineProperty(globalThis, name, { value, configurable: true, writable: true, enumerable: false });
    }
    Object.defineProperty(globalThis, '__jb', { value: helpers });
    // Code that nobody awaits fails: that is the end of that code, and of nothing else.
    process.on('uncaughtException', complain);
    process.on('unhandledRejection', complain);
    // The control thread's inspector would be waited for. The kernel kills the engine, and ends with that status.
    process.reallyExit = (status) => {
        tell({ type: 'exit', status: status ?? process.exitCode ?? 0 });
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    };
    initial = new Set(Reflect.ownKeys(globalThis));
}

function rename(declared, name) {
    return Object.defineProperty(declared, 'name', { value: name, configurable: true });
}
