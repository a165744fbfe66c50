// An execution's events as what is to be seen: terminals, and displays between them. See broker/views/rendering.py.

import { h } from "./dom.js";
import { frame } from "./frames.js";
import { markdown } from "./markdown.js";
import { Screen } from "./screen.js";

/** Rows that are kept. The journal has the others. */
const KEPT = 120_000;
const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const BASE64 = /^[A-Za-z0-9+/=\s]+$/;

export class Output {
  element = h("div", { className: "output" });
  seq = 0; // of the last event taken
  n = 0;
  from = 0; // all after this seq is here
  #blocks = [];
  #stale = new Set();
  #displays = new Map();
  #clearing = false;
  #whole;
  #kept = KEPT;

  /** Everything `after` a seq, which is 0 for all. */
  constructor(after = 0, kept = KEPT) {
    this.from = this.seq = after;
    this.#whole = after === 0;
    this.#kept = Math.max(KEPT, kept);
  }

  get rows() { return this.#blocks.reduce((sum, block) => sum + block.height, 0); }

  /** Take an event. One that was taken already changes nothing. Returns false if there is a hole before it. */
  feed(event) {
    if (event.seq <= this.seq) return true;
    if (this.n && event.n !== this.n + 1) return false;
    this.seq = event.seq;
    this.n = event.n;
    switch (event.type) {
      case "output": this.#message(event.msg_type, event.content); break;
      case "input_request": this.#print(event.prompt, "asked"); break;
      case "input_reply": this.#print(`${this.#typed(event)}\n`, "typed"); break;
      case "execution_started":
        if (event.state_was_lost) this.#note(`This is a new kernel, with none of the former one’s variables: ${event.state_was_lost}`);
        break;
      case "history_cleared":
        this.#clear();
        this.#note("The output before this was cleared.");
        break;
      case "gap": this.#note(`Output may be missing here: ${event.reason}`); break;
      case "execution_finished":
        if (event.reason) this.#note(event.reason);
    }
    return true;
  }

  /** Bring the elements up to date, and drop what is more than is kept. */
  render() {
    for (const screen of this.#stale) screen.render();
    this.#stale.clear();
    for (let over = this.rows - this.#kept; over > 0; ) {
      const [first] = this.#blocks;
      const cut = first.dropChunk?.();
      if (cut) {
        over -= cut.dropped;
        this.from = Math.max(this.from, cut.seq - 1);
      } else {
        if (this.#blocks.length < 2) break;
        over -= first.height;
        first.element.remove();
        this.#blocks.shift();
        this.from = Math.max(this.from, this.#blocks[0].seq - 1);
      }
    }
  }

  #typed({ value, password, eof, interrupted }) {
    return password ? "••••••" : eof ? "^D" : interrupted ? "^C" : value ?? "";
  }

  #message(type, content) {
    if (type === "clear_output") {
      if (content.wait) this.#clearing = true;
      else this.#clear();
      return;
    }
    if (type === "update_display_data") {
      this.#update(content);
      return;
    }
    if (!["stream", "display_data", "execute_result", "error"].includes(type)) return;
    if (this.#clearing) this.#clear();
    if (type === "stream") this.#print(String(content.text ?? ""), content.name === "stderr" ? "stderr" : "");
    else if (type === "error") this.#error(content);
    else this.#display(content);
  }

  #clear() {
    this.#clearing = false;
    this.#blocks = [];
    this.#stale.clear();
    this.#displays.clear();
    this.element.replaceChildren();
  }

  #add(block) {
    block.seq = this.seq;
    this.#blocks.push(block);
    this.element.append(block.element);
  }

  #print(text, kind) {
    let screen = this.#blocks.at(-1);
    if (!(screen instanceof Screen) || screen.closed) this.#add((screen = new Screen()));
    screen.seq = this.seq;
    screen.write(text, kind);
    this.#stale.add(screen);
  }

  #error({ ename = "", evalue = "", traceback = [] }) {
    const screen = new Screen();
    screen.closed = true;
    screen.element.classList.add("error");
    this.#add(screen);
    screen.write(traceback.length ? traceback.join("\n") : `${ename}: ${evalue}`);
    this.#stale.add(screen);
  }

  #note(text) { this.#add({ element: h("p", { className: "note" }, text), height: 1 }); }

  #display(content) {
    const block = { element: h("div", { className: "display" }), height: 1 };
    fill(block.element, content);
    const id = content.transient?.display_id;
    if (id) this.#displays.set(id, [...(this.#displays.get(id) ?? []), block]);
    this.#add(block);
  }

  #update(content) {
    const places = this.#displays.get(content.transient?.display_id);
    if (places) for (const { element } of places) fill(element, content);
    else if (!this.#whole) this.#display(content);
  }
}

const joined = (value) => (Array.isArray(value) ? value.join("") : value);

/** Show the richest form of a display that can be shown without trusting it. */
function fill(element, { data = {}, metadata = {} }) {
  const text = (type) => { const value = joined(data[type]); return typeof value === "string" ? value : null; };
  const alternative = text("text/plain") ?? "";
  for (const type of ["text/html", "image/svg+xml", "text/markdown"]) {
    const source = text(type);
    if (source == null) continue;
    frame(element, type === "text/markdown" ? markdown(source) : source, alternative || type);
    return;
  }
  for (const type of IMAGES) {
    const source = text(type);
    if (source == null || !BASE64.test(source)) continue;
    const { width, height } = metadata[type] ?? {};
    const image = h("img", { src: `data:${type};base64,${source.replace(/\s/g, "")}`, alt: alternative || "An image" });
    if (width > 0) image.width = width;
    if (height > 0) image.height = height;
    element.replaceChildren(image);
    return;
  }
  const json = data["application/json"];
  const shown = text("text/plain") ?? text("text/latex") ?? (json !== undefined ? JSON.stringify(json, null, 2) : null)
    ?? Object.entries(data).map(([type, value]) => `[${type}, ${JSON.stringify(value).length.toLocaleString("en")} characters]`).join(" ");
  const screen = new Screen();
  screen.write(shown);
  screen.render();
  element.replaceChildren(screen.element);
}
