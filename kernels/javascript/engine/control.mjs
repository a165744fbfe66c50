// Reads the kernel's commands in a thread that user code never runs in.
//
// They go to the main thread as messages, which it sees when it comes round to its event loop; an interrupt goes there
// through the inspector besides, which V8 lets in wherever the code is.

import inspector from 'node:inspector';
import net from 'node:net';
import { parentPort } from 'node:worker_threads';

const PATIENCE = 300; // ms. A main thread that does not answer so long waits for something that is not JavaScript.

const session = new inspector.Session();
session.connectToMainThread();
const socket = new net.Socket({ fd: Number(process.argv[2]), readable: true, writable: true });

function interrupt(id) {
    const stuck = setTimeout(() => socket.write(`${JSON.stringify({ type: 'stuck', id })}\n`), PATIENCE);
    session.post('Runtime.evaluate', { expression: `__jb.stop(${JSON.stringify(id)})` }, () => clearTimeout(stuck));
}

let rest = '';
socket.setEncoding('utf8');
socket.on('data', (data) => {
    const lines = (rest + data).split('\n');
    rest = lines.pop();
    for (const line of lines) {
        const command = JSON.parse(line);
        if (command.type === 'interrupt') interrupt(command.id);
        parentPort.postMessage(command);
    }
});
// The kernel is gone, and nobody is left who could hear anything.
for (const end of ['end', 'error', 'close']) socket.on(end, () => process.kill(process.pid, 'SIGKILL'));
