// What the engine says: text into a file that the kernel maps, everything else as lines of JSON.
//
// Text is in the file, which outlives both processes, before `print` returns. Its format is the one of text.py of the
// Python kernel: words of 8 bytes, the lowest first. The file's head is the epoch and where the entries end; an entry is
// a word (a byte for the stream, a byte for the length of the id, six for that of the text), the id and the text, and
// the next one begins at the next word. The kernel empties the file when the engine asks it to.

import fs from 'node:fs';

const CAPACITY = 1 << 18;
const WORD = 8;
const END = WORD; // the place of that word of the head
const HEAD = 2 * WORD;
const LONGEST = 1 << 14; // characters in one entry: at most three times as many bytes
const INTERVAL = 20; // ms. The kernel looks at the file again a little later than this after it was told.

const [file, frames, acks] = [fs.openSync(process.argv[2], 'r+'), Number(process.argv[3]), Number(process.argv[4])];
const { writeSync, readSync } = fs;
const now = performance.now.bind(performance);
const entry = Buffer.alloc(WORD + 256 + 3 * LONGEST);
const head = Buffer.alloc(4);
const ack = Buffer.alloc(1);
let end = HEAD;
let toldAt = -INTERVAL;

let depth = 0;
let later = null;

/** Whether this is the engine's own code, which must not be terminated. `then` is called when it is over. */
export function isProtected(then) {
    if (depth > 0) later = then;
    return depth > 0;
}

/** Run the engine's own code. */
export function protect(run) {
    depth++;
    try {
        return run();
    } finally {
        depth--;
        if (depth === 0 && later !== null) {
            const then = later;
            later = null;
            then();
        }
    }
}

/** Tell the kernel something. */
export function tell(frame) {
    const data = Buffer.from(`${JSON.stringify(frame)}\n`);
    protect(() => {
        for (let at = 0; at < data.length; ) at += writeSync(frames, data, at);
    });
}

/** Say text, under an execution's id. Streams: 0 is stdout, 1 is stderr. */
export function print(id, stream, text) {
    protect(() => {
        for (let at = 0; at < text.length; ) {
            let to = Math.min(at + LONGEST, text.length);
            // Both halves of a surrogate pair, or none.
            if (to < text.length && (text.charCodeAt(to - 1) & 0xfc00) === 0xd800) to--;
            put(id, stream, text.length <= LONGEST ? text : text.slice(at, to));
            at = to;
        }
        if (now() - toldAt >= INTERVAL) {
            toldAt = now();
            tell({ type: 'text' });
        }
    });
}

function put(id, stream, text) {
    const idLength = entry.write(id, WORD, 255, 'latin1');
    const length = entry.write(text, WORD + idLength);
    const size = WORD + idLength + length;
    entry[0] = stream;
    entry[1] = idLength;
    entry.writeUIntLE(length, 2, 6);
    let start = Math.ceil(end / WORD) * WORD;
    if (start + size > CAPACITY) {
        tell({ type: 'full' });
        readSync(acks, ack);
        start = HEAD;
    }
    writeSync(file, entry, 0, size, start);
    end = start + size;
    head.writeUInt32LE(end);
    // The head comes last: what it says is there, is.
    writeSync(file, head, 0, head.length, END);
}
