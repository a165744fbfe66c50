// The engine: what runs user code. Start reading here.
//
// The kernel (javascript_kernel/engine.py) starts it with a file for text and three descriptors: `frames`, a pipe to
// the kernel; `acks`, a pipe from it; `commands`, a socket to and from it. A thread of its own (control.mjs) reads the
// commands, for this one may be busy with a loop that never ends.

import { Worker } from 'node:worker_threads';
import * as executions from './executions.mjs';
import * as globals from './globals.mjs';
import { tell } from './channel.mjs';

const commands = {
    execute: executions.execute,
    interrupt: executions.interrupt,
    input: executions.answer,
    configure({ cwd, env }) {
        Object.assign(process.env, env);
        if (cwd) process.chdir(cwd);
    },
};

globals.install();

const control = new Worker(new URL('./control.mjs', import.meta.url), { argv: [process.argv[5]], execArgv: [] });
control.on('message', (command) => commands[command.type](command));

process.argv = [process.argv[0]];
tell({ type: 'ready', version: process.versions.node });
