// The list: each session with its executions, the latest first.

import { $, SAYS, count, duration, ended, h, setText, sign } from "./dom.js";

const SHOWN = 20;

export class List {
  #store;
  #rows = new Map();
  #groups = new Map();
  #more = new Map(); // session -> how many of its executions are shown
  #found = null; // while searched: id -> what was found

  constructor(store) { this.#store = store; }

  /** Show only what was found; null for all. */
  filter(found) {
    this.#found = found;
    this.render();
  }

  render() {
    const groups = this.#grouped();
    const wanted = new Set(groups.map(([id]) => id));
    for (const [id, group] of this.#groups) if (!wanted.has(id)) { group.element.remove(); this.#groups.delete(id); }
    const container = $("sessions");
    groups.forEach(([id, executions], at) => {
      const group = this.#group(id);
      this.#fill(group, id, executions);
      if (container.children[at] !== group.element) container.insertBefore(group.element, container.children[at] ?? null);
    });
    container.querySelector(".empty")?.remove();
    if (!groups.length) container.append(h("p", { className: "empty" }, this.#found ? "Nothing has it." : "Nothing has run yet. Agents’ code appears here by itself."));
  }

  /** Let the durations go on. */
  tick() {
    for (const [id, row] of this.#rows) {
      const execution = this.#store.executions.get(id);
      if (execution && !ended(execution)) this.#fillRow(row, execution);
    }
  }

  mark(id) {
    for (const [other, { link }] of this.#rows) {
      if (other === id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  /** Move the focus, by so many rows. */
  move(by) {
    const links = [...$("sessions").querySelectorAll("a")];
    const from = links.indexOf(document.activeElement);
    const current = from >= 0 ? from : links.findIndex((link) => link.hasAttribute("aria-current"));
    const next = links[current < 0 ? 0 : Math.min(Math.max(current + by, 0), links.length - 1)];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  }

  #grouped() {
    const groups = new Map();
    if (!this.#found) for (const id of this.#store.sessions.keys()) groups.set(id, []);
    for (const execution of this.#store.executions.values()) {
      if (this.#found && !this.#found.has(execution.execution_id)) continue;
      if (!groups.has(execution.session_id)) groups.set(execution.session_id, []);
      groups.get(execution.session_id).push(execution);
    }
    const latest = (id, executions) => executions[0]?.created_at ?? this.#store.sessions.get(id)?.created_at ?? "";
    const open = (id) => this.#store.sessions.has(id);
    for (const executions of groups.values()) executions.reverse();
    return [...groups].sort(([a, ofA], [b, ofB]) => open(b) - open(a) || latest(b, ofB).localeCompare(latest(a, ofA)));
  }

  #group(id) {
    if (!this.#groups.has(id)) {
      const name = h("h2"), kernel = h("span", { className: "kernel" }), rows = h("ul");
      const more = h("button", { className: "quiet more", hidden: true, onclick: () => {
        this.#more.set(id, (this.#more.get(id) ?? SHOWN) * 4);
        this.render();
      } });
      const element = h("section", {}, h("div", { className: "session" }, name, kernel), rows, more);
      this.#groups.set(id, { element, name, kernel, rows, more });
    }
    return this.#groups.get(id);
  }

  #fill({ name, kernel, rows, more, element }, id, executions) {
    const session = this.#store.sessions.get(id);
    setText(name, this.#store.sessionName(id) ?? "…");
    setText(kernel, session ? `${session.kernel} · ${session.kernel_state}` : "closed");
    element.classList.toggle("closed", !session);
    const shown = executions.slice(0, this.#more.get(id) ?? SHOWN);
    const wanted = new Set(shown.map((execution) => execution.execution_id));
    for (const element of [...rows.children]) {
      if (wanted.has(element.dataset.id)) continue;
      element.remove();
      this.#rows.delete(element.dataset.id);
    }
    shown.forEach((execution, at) => {
      const row = this.#row(execution.execution_id);
      this.#fillRow(row, execution);
      if (rows.children[at] !== row.element) rows.insertBefore(row.element, rows.children[at] ?? null);
    });
    more.hidden = shown.length === executions.length;
    setText(more, `${count(executions.length - shown.length, "earlier one")}`);
  }

  #row(id) {
    if (!this.#rows.has(id)) {
      const state = h("span", { className: "state" }), title = h("span", { className: "title" });
      const time = h("span", { className: "time" }), line = h("span", { className: "line" }), facts = h("span", { className: "facts" });
      const link = h("a", { href: `#/${id}` }, state,
        h("span", { className: "first" }, title, time), h("span", { className: "second" }, line, facts));
      const element = h("li", { "data-id": id }, link);
      if (location.hash === `#/${id}`) link.setAttribute("aria-current", "page");
      this.#rows.set(id, { element, link, state, title, time, line, facts });
    }
    return this.#rows.get(id);
  }

  #fillRow({ state, title, time, line, facts, link }, execution) {
    if (state.dataset.of !== execution.state) {
      state.dataset.of = execution.state;
      state.replaceChildren(sign(execution.state));
    }
    link.dataset.state = execution.state;
    setText(title, execution.title || "(no code)");
    setText(time, duration(this.#store.elapsed(execution)));
    const found = this.#found?.get(execution.execution_id);
    if (found) line.replaceChildren(...found);
    else setText(line, execution.input_request ? execution.input_request.prompt || "It asks for input." : this.#store.lastLine(execution));
    const words = [ended(execution) && execution.state !== "completed" ? SAYS[execution.state] : "", execution.lines ? count(execution.lines, "line") : "",
      execution.origin === "jupyter" ? "run in Jupyter" : execution.detached && !ended(execution) ? "detached" : ""];
    setText(facts, words.filter(Boolean).join(" · "));
  }
}
