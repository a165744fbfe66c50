// Search in the history: titles and labels, the code, and the output as text. Of an output of more than a million
// characters, its first and its last half million. It runs here; what was read of a finished execution is kept.

import { count, ended, h } from "./dom.js";
import { Offline } from "./wire.js";

const LONGEST_OUTPUT = 1_000_000;
const AT_ONCE = 4;
const KEPT = 64_000_000;
const AROUND = 36;

export class Search {
  #texts = new Map();
  #kept = 0;
  #run = 0;

  /** `onfound` gets what was found so far (null for no search), `onstatus` a sentence on how far it is. */
  constructor(store, wire, { onfound, onstatus }) {
    Object.assign(this, { store, wire, onfound, onstatus });
  }

  async start(query) {
    const run = ++this.#run;
    const wanted = query.trim().toLowerCase();
    if (!wanted) {
      this.onfound(null);
      this.onstatus("");
      return;
    }
    const found = new Map();
    const waiting = [...this.store.executions.values()].reverse();
    const total = waiting.length;
    let done = 0, shown = 0;
    const show = (force) => {
      if (run !== this.#run || (!force && Date.now() - shown < 150)) return;
      shown = Date.now();
      this.onfound(found);
      this.onstatus(done < total ? `${found.size} found; ${done} of ${count(total, "execution")} read` : `${found.size} of ${count(total, "execution")} ${found.size === 1 ? "has" : "have"} it`);
    };
    const work = async () => {
      for (let execution; run === this.#run && (execution = waiting.shift()); ) {
        try {
          const match = await this.#match(execution, wanted);
          if (match) found.set(execution.execution_id, match);
        } catch (error) {
          if (error instanceof Offline) return;
        }
        done += 1;
        show(false);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    show(true);
  }

  async #match(execution, wanted) {
    const { session_id, title, label } = execution;
    const head = [title, label, this.store.sessionName(session_id)].filter(Boolean).join("\n");
    for (const text of [head, await this.#text(execution)]) {
      const at = text.toLowerCase().indexOf(wanted);
      if (at >= 0) return excerpt(text, at, wanted.length);
    }
    return null;
  }

  async #text(execution) {
    const { execution_id } = execution;
    const known = this.#texts.get(execution_id);
    if (known !== undefined) return known;
    const [log, progress] = await Promise.all([
      this.wire().call("get_async_log", { execution_id, after: 0, limit: 1 }),
      execution.lines || execution.bytes || !ended(execution)
        ? this.wire().call("get_progress", { execution_id, after: 0, max_output: LONGEST_OUTPUT }) : { text: "" },
    ]);
    const text = `${log.events[0]?.code ?? ""}\n${progress.text}`;
    if (ended(execution) && (this.#kept += text.length) < KEPT) this.#texts.set(execution_id, text);
    return text;
  }
}

function excerpt(text, at, length) {
  const start = Math.max(text.lastIndexOf("\n", at - 1) + 1, at - AROUND);
  const newline = text.indexOf("\n", at);
  const end = Math.min(newline < 0 ? text.length : Math.max(newline, at + length), at + length + 3 * AROUND);
  return [text.slice(start, at), h("mark", {}, text.slice(at, at + length)), text.slice(at + length, end)];
}
