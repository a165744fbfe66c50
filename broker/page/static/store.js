// What there is: sessions and executions, as the broker lists them and as events change them.

import { clockSkew } from "./wire.js";
import { ended } from "./dom.js";
import { plain } from "./screen.js";

const TAIL = 400;
/** Of so many executions that are over, the last line is read. */
const TAILS = 40;

export class Store {
  sessions = new Map();
  executions = new Map();
  #closed = new Map(); // id -> name
  #skew = 0;
  #dirty = false;
  #wire;

  /** `onchange` is called once a frame if anything changed; `onstate` for each execution that has a new state. */
  constructor({ onchange, onstate }) {
    Object.assign(this, { onchange, onstate });
  }

  /** Take everything anew. Called with every connection. */
  async load(wire) {
    this.#wire = wire;
    const [skew, { sessions }, { executions }] = await Promise.all([
      clockSkew(), wire.call("list_sessions"), wire.call("list_executions"),
    ]);
    this.#skew = skew;
    this.sessions = new Map(sessions.map((session) => [session.session_id, session]));
    const before = this.executions;
    this.executions = new Map();
    for (const summary of executions) this.#take(summary, before.get(summary.execution_id)?.tail);
    this.changed();
    const latest = [...this.executions.values()].reverse();
    for (const [at, execution] of latest.entries()) if (!ended(execution) || (at < TAILS && execution.bytes)) this.#loadTail(execution);
  }

  /** The milliseconds since the epoch, by this machine's clock, of a time that the broker says. */
  moment(time) { return Date.parse(time) + this.#skew; }

  /** The seconds that an execution has run, until now or its end. */
  elapsed(execution) {
    if (!execution.started_at) return null;
    return ((execution.finished_at ? this.moment(execution.finished_at) : Date.now()) - this.moment(execution.started_at)) / 1000;
  }

  lastLine(execution) {
    const lines = plain(execution.tail ?? "").split("\n");
    return lines.map((line) => line.replace(/\r+$/, "").split("\r").at(-1).trim()).findLast(Boolean) ?? "";
  }

  /** The name of a session; of one that is closed it comes later. */
  sessionName(id) {
    const open = this.sessions.get(id);
    if (open) return open.name;
    if (id && !this.#closed.has(id)) {
      this.#closed.set(id, null);
      this.#wire.call("get_session", { session: id })
        .then(({ name }) => { this.#closed.set(id, name); this.changed(); }, () => this.#closed.delete(id));
    }
    return this.#closed.get(id) ?? null;
  }

  changed() {
    if (this.#dirty) return;
    this.#dirty = true;
    // Not only a frame: in a tab that is not seen there is none.
    const once = () => { if (this.#dirty) { this.#dirty = false; this.onchange(); } };
    if (document.hidden) setTimeout(once, 200);
    else requestAnimationFrame(once);
  }

  apply(event) {
    if (!event.execution_id) {
      this.#refreshSessions();
      return;
    }
    if (event.type === "execution_queued") this.#queued(event);
    const execution = this.executions.get(event.execution_id);
    if (!execution) return;
    const before = execution.state;
    this.#fold(execution, event);
    if (execution.state !== before || event.type === "execution_queued") this.onstate(execution);
    this.changed();
  }

  /** A report has what is exact; counts made here from events may begin a little early or late. */
  report({ executions }) {
    for (const reported of executions) {
      const execution = this.executions.get(reported.execution_id);
      if (execution) Object.assign(execution, { lines: reported.lines, bytes: reported.bytes });
    }
    this.changed();
  }

  #queued({ execution_id, session_id, code, label, time, origin = "api" }) {
    if (this.executions.has(execution_id)) return;
    this.#take({
      execution_id, session_id, label, title: label || code.trim().split("\n")[0], state: "queued", origin,
      detached: origin === "jupyter",
      interactive: false, execution_count: null, created_at: time, started_at: null, finished_at: null, lines: 0,
      bytes: 0, input_request: null, kernel_state: null,
    });
    if (!this.sessions.has(session_id)) this.#refreshSessions();
  }

  #fold(execution, event) {
    switch (event.type) {
      case "execution_started":
        Object.assign(execution, { state: "running", started_at: event.time });
        this.#refreshSessions();
        break;
      case "execution_count":
        execution.execution_count = event.execution_count;
        break;
      case "output":
        this.#output(execution, event);
        break;
      case "input_request":
        Object.assign(execution, { state: "awaiting_input", input_request: { prompt: event.prompt, password: event.password } });
        break;
      case "input_reply":
        Object.assign(execution, { state: "running", input_request: null });
        break;
      case "interactive_session_started":
        execution.interactive = true;
        break;
      case "handover":
        execution.detached = true;
        break;
      case "history_cleared":
        Object.assign(execution, { lines: 0, bytes: 0, tail: "" });
        break;
      case "execution_finished":
        Object.assign(execution, { state: event.state, finished_at: event.time, input_request: null, kernel_state: event.kernel_state });
        this.#refreshSessions();
        this.#count(execution, event.seq);
    }
  }

  #output(execution, { msg_type, content }) {
    const data = content.data?.["text/plain"];
    const text = msg_type === "stream" ? content.text : msg_type === "error" ? `${[content.ename, content.evalue].filter(Boolean).join(": ")}\n`
      : typeof data === "string" ? `${data}\n` : "";
    if (typeof text !== "string") return;
    execution.tail = (execution.tail + text).slice(-TAIL);
    execution.bytes += text.length;
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) execution.lines += 1;
  }

  #take(summary, tail = "") { this.executions.set(summary.execution_id, { ...summary, tail }); }

  async #loadTail(execution) {
    try {
      const { text } = await this.#wire.call("get_progress", { execution_id: execution.execution_id, after: 0, max_output: 500 });
      execution.tail ||= text.slice(-TAIL);
      this.changed();
    } catch { /* It is shown without its last line. */ }
  }

  /** What was counted here is not exact if the first events came while the list was read. */
  async #count(execution, seq) {
    try {
      const { lines, bytes } = await this.#wire.call("get_progress", { execution_id: execution.execution_id, after: seq, max_output: 200 });
      Object.assign(execution, { lines, bytes });
      this.changed();
    } catch { /* The next connection takes everything anew. */ }
  }

  #refreshing = 0;

  #refreshSessions() {
    this.#refreshing ||= setTimeout(async () => {
      this.#refreshing = 0;
      try {
        const { sessions } = await this.#wire.call("list_sessions");
        this.sessions = new Map(sessions.map((session) => [session.session_id, session]));
        this.changed();
      } catch { /* The same. */ }
    }, 250);
  }
}
