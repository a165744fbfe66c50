// One execution: how it stands, its code, its output, its prompt, what stops it; and a box to run code beside it.

import { $, SAYS, count, duration, ended, h, setText, sign } from "./dom.js";
import { Output } from "./output.js";
import { Offline } from "./wire.js";

const PAGE = 1000;
/** Characters of output above which only its end is read at first. */
const LARGE = 8_000_000;
const END = 2_000_000;
const NEAR = 40;

export class Detail {
  #store; #wire; #say; #run;
  #id = null;
  #output = new Output();
  #loading = null;
  #waiting = [];
  #following = true;
  #dirty = false;
  #prompt = null;
  #busy = false;

  /** `wire()` is the connection, `say` shows a sentence for a while, `run` runs code in a session. */
  constructor(store, wire, say, run) {
    this.#store = store;
    this.#wire = wire;
    this.#say = say;
    this.#run = run;
    this.#build();
  }

  get id() { return this.#id; }

  #build() {
    const button = (text, properties) => h("button", properties, text);
    this.state = h("span", { className: "badge" });
    this.title = h("h1");
    this.facts = h("p", { className: "facts" });
    this.interruptButton = button("Interrupt", { title: "Stop it; its kernel and variables stay (i)", onclick: () => this.interrupt() });
    this.killButton = button("Kill", { className: "danger", title: "End it, with its kernel if nothing less helps (x)", onclick: () => this.kill() });
    this.header = h("header", {},
      h("a", { className: "back", href: "#/", "aria-label": "Back to the list", title: "Back (Esc)" }, "‹"),
      h("div", { className: "what" }, this.title, this.facts),
      this.state,
      h("div", { className: "actions" }, this.interruptButton, this.killButton));
    this.code = h("pre", { className: "code" });
    this.codeBox = h("details", { className: "code-box", open: true }, h("summary", {}, "Code"), this.code);
    this.earlier = button("Load earlier output", { className: "quiet earlier", hidden: true, onclick: () => this.#loadEarlier() });
    this.content = h("div", { className: "content" });
    this.scroller = h("div", { className: "scroller", tabIndex: 0, role: "region", "aria-label": "Code and output" }, this.codeBox, this.earlier, this.content);
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#keepUp()).observe(this.content);
    new ResizeObserver(() => this.#keepUp()).observe(this.scroller);
    this.endButton = button("Follow ↓", { className: "to-end", hidden: true, title: "Go to the end and follow it (e)", onclick: () => this.toEnd() });
    this.answer = h("input", { id: "answer", autocomplete: "off", spellcheck: false, autocapitalize: "off", enterKeyHint: "send" });
    this.promptText = h("label", { htmlFor: "answer" });
    this.promptForm = h("form", { className: "prompt", hidden: true, onsubmit: (event) => { event.preventDefault(); this.#send({ data: this.answer.value }); } },
      this.promptText, this.answer, button("Send", { className: "primary" }),
      button("EOF", { type: "button", title: "End its input: input() raises EOFError", onclick: () => this.#send({ eof: true }) }));
    this.cellSession = h("input", { id: "cell-session", value: "default", spellcheck: false, autocomplete: "off", "aria-label": "Session", maxLength: 200 });
    this.cell = h("textarea", { id: "cell", rows: 1, spellcheck: false, autocapitalize: "off", placeholder: "Run a cell", "aria-label": "Code to run" });
    this.cell.addEventListener("input", () => { this.cell.rows = Math.min(12, this.cell.value.split("\n").length); });
    this.cell.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey || event.shiftKey)) { event.preventDefault(); this.#runCell(); }
    });
    this.cellForm = h("form", { className: "cell", onsubmit: (event) => { event.preventDefault(); this.#runCell(); } },
      h("span", { className: "in" }, "in ", this.cellSession), this.cell, button("Run", { className: "primary", title: "Ctrl+Enter" }));
    this.nothing = h("div", { className: "nothing" }, h("p", {}, "Choose an execution, or run a cell below."), h("p", {}, h("kbd", {}, "?"), " shows the keys."));
    this.article = h("article", { hidden: true }, this.header, h("div", { className: "middle" }, this.scroller, this.endButton), this.promptForm);
    $("detail").append(this.nothing, this.article, this.cellForm);
  }

  /** Show an execution; null for none. */
  async open(id, after = null, kept = 0) {
    this.#id = id;
    this.#loading = null;
    this.#waiting = [];
    this.#prompt = null;
    this.article.hidden = id === null;
    this.nothing.hidden = id !== null;
    this.codeBox.open = true;
    this.#show(new Output(after ?? 0, kept));
    this.#following = after === null;
    this.refresh();
    if (id === null) return;
    const session = this.#store.sessions.get(this.#store.executions.get(id)?.session_id);
    if (session) this.cellSession.value = session.name;
    await this.load(after === null);
  }

  /** Read on, from where it is, to the end of what there is. Called with every new connection. */
  async load(first = false) {
    const id = this.#id;
    if (id === null) return;
    const mine = (this.#loading = Symbol());
    const still = () => this.#loading === mine;
    this.content.dataset.loading = "";
    try {
      if (!this.code.dataset.of || this.code.dataset.of !== id) await this.#loadCode(id, still);
      if (first && still() && (this.#store.executions.get(id)?.bytes ?? 0) > LARGE) {
        const { truncated } = await this.#wire().call("get_progress", { execution_id: id, after: 0, max_output: END });
        if (truncated && still()) this.#show(new Output(truncated.to_seq - 1));
      }
      for (let eof = false; still() && !eof; ) {
        const page = await this.#wire().call("get_async_log", { execution_id: id, after: this.#output.seq, limit: PAGE });
        if (!still()) return;
        for (const event of page.events) this.#output.feed(event);
        eof = page.eof;
        this.#changed();
      }
      if (!still()) return;
      this.#loading = null;
      delete this.content.dataset.loading;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const event of waiting) this.event(event);
    } catch (error) {
      if (!still()) return;
      this.#loading = null;
      delete this.content.dataset.loading;
      if (!(error instanceof Offline)) this.#say(error.message);
    }
  }

  async #loadCode(id, still) {
    this.code.textContent = "";
    const { events: [first] } = await this.#wire().call("get_async_log", { execution_id: id, after: 0, limit: 1 });
    if (!still() || !first) return;
    this.code.dataset.of = id;
    this.code.textContent = first.code ?? "";
  }

  /** An event of any execution, as it happens. */
  event(event) {
    if (event.execution_id !== this.#id) return;
    if (this.#loading) this.#waiting.push(event);
    else if (this.#output.feed(event)) this.#changed();
    else this.load();
  }

  async #loadEarlier() {
    const { from, rows } = this.#output;
    const id = this.#id;
    try {
      for (let span = 20_000; ; span *= 4) {
        const after = Math.max(0, from - span);
        const { events: [event] } = await this.#wire().call("get_async_log", { execution_id: id, after, limit: 1 });
        if (this.#id !== id) return;
        if (after > 0 && !(event && event.seq <= from)) continue;
        const below = this.scroller.scrollHeight - this.scroller.scrollTop;
        await this.open(id, after, rows + 10 * span);
        requestAnimationFrame(() => { this.scroller.scrollTop = this.scroller.scrollHeight - below; });
        return;
      }
    } catch (error) {
      this.#say(error.message);
    }
  }

  #show(output) {
    this.#output = output;
    this.content.replaceChildren(output.element);
    this.#changed();
  }

  #changed() {
    if (this.#dirty) return;
    this.#dirty = true;
    const render = () => {
      if (!this.#dirty) return;
      this.#dirty = false;
      this.#output.render();
      this.earlier.hidden = this.#output.from === 0;
      this.#keepUp();
    };
    if (document.hidden) setTimeout(render, 500);
    else requestAnimationFrame(render);
  }

  // Following

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const above = scrollHeight - clientHeight - scrollTop;
    // What grew below since is no scrolling up.
    if (above < NEAR) this.#following = true;
    else if (scrollTop < this.#top) this.#following = false;
    this.#top = scrollTop;
    this.endButton.hidden = this.#following;
  }
  #top = 0;

  #keepUp() {
    if (this.#following) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#top = this.scroller.scrollTop;
    this.endButton.hidden = this.#following || this.scroller.scrollHeight - this.scroller.clientHeight - this.scroller.scrollTop < NEAR;
  }

  toEnd() {
    this.#following = true;
    this.#keepUp();
  }

  // How it stands

  refresh() {
    const execution = this.#store.executions.get(this.#id);
    if (!execution) {
      if (this.#id) setText(this.title, "There is no such execution");
      for (const element of [this.state, this.facts]) element.replaceChildren();
      this.promptForm.hidden = this.interruptButton.hidden = this.killButton.hidden = true;
      return;
    }
    const { state, title, label, execution_count } = execution;
    setText(this.title, title || "(no code)");
    if (this.state.dataset.state !== state) {
      this.state.dataset.state = state;
      this.state.replaceChildren(sign(state), SAYS[state]);
    }
    const kept = { preserved: "variables kept", lost: "variables lost" }[execution.kernel_state];
    const session = this.#store.sessions.get(execution.session_id);
    setText(this.facts, [
      `${this.#store.sessionName(execution.session_id) ?? "…"}${execution_count ? ` [${execution_count}]` : ""}${session ? "" : " (closed)"}`,
      duration(this.#store.elapsed(execution)), count(execution.lines, "line"),
      execution.origin === "jupyter" ? "run in Jupyter" : execution.detached && !ended(execution) ? "detached" : "", ended(execution) && state !== "completed" && kept,
      label ? execution.execution_id : "",
    ].filter(Boolean).join(" · "));
    const over = ended(execution);
    this.interruptButton.hidden = this.killButton.hidden = over;
    this.content.classList.toggle("over", over);
    this.#refreshPrompt(execution);
  }

  #refreshPrompt({ input_request: request }) {
    if (!request && this.promptForm.contains(document.activeElement)) this.scroller.focus({ preventScroll: true });
    this.promptForm.hidden = !request;
    if (request === this.#prompt) return;
    this.#prompt = request;
    // Another prompt: what was typed was for the one before.
    this.answer.value = "";
    if (!request) return;
    setText(this.promptText, request.prompt.trim().split("\n").at(-1) || "It asks for input");
    this.answer.type = request.password ? "password" : "text";
    const { activeElement } = document;
    const elsewhere = activeElement?.matches("input, textarea") && activeElement.value;
    if (!elsewhere && document.body.dataset.view === "detail") this.answer.focus();
  }

  // What a person does

  focusAnswer() { if (!this.promptForm.hidden) this.answer.focus(); }
  focusCell() { this.cell.focus(); }
  focus() { (this.promptForm.hidden ? this.scroller : this.answer).focus({ preventScroll: true }); }
  focusSession() { this.cellSession.focus(); this.cellSession.select(); }

  async #send(input) {
    this.answer.value = "";
    await this.#ask("send_stdin", input);
  }

  async interrupt() {
    if (this.#busy || this.interruptButton.hidden) return;
    this.#say("Interrupting…");
    const execution = await this.#ask("interrupt");
    if (execution) this.#say(execution.hint ?? `It is ${SAYS[execution.state]}; its variables are ${execution.kernel_state ?? "as they were"}.`);
  }

  async kill() {
    const id = this.#id;
    if (this.killButton.hidden) return;
    const dialog = $("ask");
    setText($("ask-title"), `Kill “${this.title.textContent.slice(0, 60)}”?`);
    setText($("ask-text"), "It is interrupted. If that does not end it, its kernel is ended too: with all its variables, and all else that runs in it.");
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (dialog.returnValue !== "yes" || id !== this.#id) return;
    this.#say("Ending it…");
    const ended = await this.#ask("kill");
    if (ended?.killed[0]) this.#say(`It is ${SAYS[ended.killed[0].state]}; its variables are ${ended.killed[0].kernel_state ?? "as they were"}.`);
  }

  async #ask(method, params = {}) {
    this.#busy = true;
    try {
      return await this.#wire().call(method, { execution_id: this.#id, ...params });
    } catch (error) {
      this.#say(error.message);
      return null;
    } finally {
      this.#busy = false;
    }
  }

  async #runCell() {
    const code = this.cell.value;
    if (!code.trim()) return;
    const id = await this.#run(this.cellSession.value.trim() || "default", code);
    if (!id) return;
    this.cell.value = "";
    this.cell.rows = 1;
    location.hash = `#/${id}`;
  }
}
