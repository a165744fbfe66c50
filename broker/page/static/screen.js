// What a terminal would show: carriage returns, backspaces, cursor movements and colours carried out (ECMA-48).
// As wide as need be. The same as broker/views/screen.py, which leaves out the colours.

const CONTROL = /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;
const UNFINISHED = /\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?$/;
const LONGEST_SEQUENCE = 4096;
export const CHUNK = 200;

/** The text without control sequences, carriage returns excepted. */
export const plain = (text) => text.replace(CONTROL, (match) => (match === "\r" ? match : ""));

/** How text looks. There is one object for each look, so that two looks can be compared by `===`. */
const looks = new Map();
const NOTHING = { fg: null, bg: null, bold: false, dim: false, italic: false, underline: false, inverse: false, strike: false, kind: "" };

function look(style) {
  const key = Object.values(style).join();
  if (!looks.has(key)) looks.set(key, Object.freeze({ ...style }));
  return looks.get(key);
}
export const PLAIN = look(NOTHING);

function colour(number) {
  if (number < 16) return number;
  if (number > 231) { const grey = 8 + (number - 232) * 10; return `rgb(${grey},${grey},${grey})`; }
  const level = (step) => (step ? 55 + step * 40 : 0);
  number -= 16;
  return `rgb(${level(Math.floor(number / 36))},${level(Math.floor(number / 6) % 6)},${level(number % 6)})`;
}

/** Select Graphic Rendition (ECMA-48, 8.3.117), with the colours of xterm. */
function rendition(style, parameters) {
  const codes = parameters.split(/[;:]/).map(Number);
  let next = { ...style };
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at];
    if (code === 0) next = { ...NOTHING, kind: style.kind };
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 7) next.inverse = true;
    else if (code === 9) next.strike = true;
    else if (code === 22) next.bold = next.dim = false;
    else if (code === 23) next.italic = false;
    else if (code === 24) next.underline = false;
    else if (code === 27) next.inverse = false;
    else if (code === 29) next.strike = false;
    else if (code >= 30 && code <= 37) next.fg = code - 30;
    else if (code >= 90 && code <= 97) next.fg = code - 82;
    else if (code === 39) next.fg = null;
    else if (code >= 40 && code <= 47) next.bg = code - 40;
    else if (code >= 100 && code <= 107) next.bg = code - 92;
    else if (code === 49) next.bg = null;
    else if (code === 38 || code === 48) {
      const which = code === 38 ? "fg" : "bg";
      if (codes[at + 1] === 5) { next[which] = colour(codes[at + 2] & 255); at += 2; }
      else if (codes[at + 1] === 2) { next[which] = `rgb(${codes.slice(at + 2, at + 5).map((part) => part & 255).join()})`; at += 4; }
    }
  }
  return look(next);
}

/** A row is a string, if all of it is plain, or else a list of `[text, style]`. */
const runsOf = (row) => (typeof row === "string" ? (row ? [[row, PLAIN]] : []) : row);
const lengthOf = (row) => (typeof row === "string" ? row.length : row.reduce((sum, [text]) => sum + text.length, 0));

function cut(row, from, to = Infinity) {
  if (typeof row === "string") return row.slice(from, to);
  const kept = [];
  let at = 0;
  for (const [text, style] of row) {
    const part = text.slice(Math.max(0, from - at), Math.max(0, to - at));
    if (part) kept.push([part, style]);
    at += text.length;
  }
  return kept;
}

function join(left, text, style, right) {
  if (style === PLAIN && typeof left === "string" && typeof right === "string") return left + text + right;
  const runs = [];
  for (const run of [...runsOf(left), [text, style], ...runsOf(right)]) {
    const last = runs.at(-1);
    if (last?.[1] === run[1]) runs[runs.length - 1] = [last[0] + run[0], run[1]];
    else if (run[0]) runs.push(run);
  }
  return runs;
}

function span([text, style]) {
  const element = document.createElement("span");
  element.textContent = text;
  const [fg, bg] = style.inverse ? [style.bg ?? "page", style.fg ?? "text"] : [style.fg, style.bg];
  const classes = ["bold", "dim", "italic", "underline", "strike"].filter((name) => style[name]);
  if (style.kind) classes.push(style.kind);
  for (const [value, name, property] of [[fg, "fg", "color"], [bg, "bg", "backgroundColor"]]) {
    if (typeof value === "number" || value === "page" || value === "text") classes.push(`${name}-${value}`);
    else if (value) element.style[property] = value;
  }
  // A colour of its own behind text that has none: the text must be seen on it, whatever the page's is.
  if (fg === null && typeof bg === "string" && bg.startsWith("rgb")) {
    const [red, green, blue] = bg.match(/\d+/g).map(Number);
    element.style.color = red * 0.3 + green * 0.59 + blue * 0.11 > 140 ? "#111" : "#fff";
  }
  element.className = classes.join(" ");
  return element;
}

/** Rows with a cursor, and the elements that show them: a `pre` for each `CHUNK` rows, of which the browser lays out
 *  only those in sight. Text may be cut anywhere between two calls of `write`. */
export class Screen {
  element = document.createElement("div");
  #rows = [""];
  #base = 0; // how many rows were dropped from the top
  #row = 0;
  #column = 0;
  #style = PLAIN;
  #rest = "";
  #chunks = new Map(); // number -> {element, seq}
  #stale = new Set();
  seq = 0; // of the event that is being written

  constructor() { this.element.className = "screen"; }

  get height() { return this.#rows.length; }

  /** `kind` is a class of its own: "stderr", "asked" or "typed". */
  write(text, kind = "") {
    if (this.#style.kind !== kind) this.#style = look({ ...this.#style, kind });
    text = this.#rest + text;
    this.#rest = "";
    const start = text.lastIndexOf("\x1b");
    if (start >= 0 && start >= text.length - LONGEST_SEQUENCE && UNFINISHED.test(text.slice(start))) {
      this.#rest = text.slice(start);
      text = text.slice(0, start);
    }
    let at = 0;
    for (const match of text.matchAll(CONTROL)) {
      this.#put(text.slice(at, match.index));
      this.#obey(match);
      at = match.index + match[0].length;
    }
    this.#put(at ? text.slice(at) : text);
  }

  /** Bring the elements up to date. */
  render() {
    for (const number of [...this.#stale].sort((a, b) => a - b)) {
      const { element } = this.#chunks.get(number);
      const rows = this.#rows.slice(Math.max(0, number * CHUNK - this.#base), (number + 1) * CHUNK - this.#base);
      const last = (number + 1) * CHUNK - this.#base >= this.#rows.length;
      element.classList.toggle("full", !last);
      const parts = [];
      let text = "";
      rows.forEach((row, index) => {
        for (const run of runsOf(row)) {
          if (run[1] === PLAIN) text += run[0];
          else { parts.push(text, span(run)); text = ""; }
        }
        if (!last || index < rows.length - 1) text += "\n";
      });
      element.replaceChildren(...parts, text);
    }
    this.#stale.clear();
  }

  /** Drop the oldest rows, a whole chunk. Returns how many, and the seq from which on all is still there. */
  dropChunk() {
    const [first, second] = this.#chunks.keys();
    if (second === undefined || this.#row < second * CHUNK) return null;
    this.#chunks.get(first).element.remove();
    this.#chunks.delete(first);
    this.#stale.delete(first);
    const dropped = second * CHUNK - this.#base;
    this.#rows.splice(0, dropped);
    this.#base += dropped;
    return { dropped, seq: this.#chunks.get(second).seq };
  }

  #touch(row) {
    const number = Math.floor(row / CHUNK);
    // With the seq of the event that began it, which is not the last one that is in it when it is first rendered.
    if (!this.#chunks.has(number)) {
      const chunk = { element: document.createElement("pre"), seq: this.seq };
      this.#chunks.set(number, chunk);
      this.element.append(chunk.element);
      if (number > 0) this.#stale.add(number - 1);
    }
    this.#stale.add(number);
  }

  #put(text) {
    if (!text) return;
    const lines = text.split("\n");
    for (let index = 0; index < lines.length; index++) {
      if (index) { this.#row += 1; this.#column = 0; }
      this.#reach();
      if (lines[index]) this.#overwrite(lines[index]);
      this.#touch(this.#row);
    }
  }

  #overwrite(text) {
    const at = this.#row - this.#base;
    const row = this.#rows[at];
    const length = lengthOf(row);
    const end = this.#column + text.length;
    if (this.#column >= length) {
      const padding = " ".repeat(this.#column - length);
      this.#rows[at] = typeof row === "string" && this.#style === PLAIN ? row + padding + text
        : join(padding ? join(row, padding, PLAIN, "") : row, text, this.#style, "");
    } else this.#rows[at] = join(cut(row, 0, this.#column), text, this.#style, cut(row, end));
    this.#column = end;
  }

  #reach() {
    while (this.#row - this.#base >= this.#rows.length) {
      this.#rows.push("");
      this.#touch(this.#base + this.#rows.length - 1);
    }
  }

  #obey([whole, parameters, final]) {
    if (final === undefined) {
      if (whole === "\r") this.#column = 0;
      else if (whole === "\b") this.#column = Math.max(0, this.#column - 1);
      return;
    }
    if (final === "m") {
      this.#style = rendition(this.#style, parameters);
      return;
    }
    const number = parseInt(parameters, 10) || 0;
    const many = Math.min(Math.max(1, number), 10_000);
    switch (final) {
      case "F": this.#column = 0; // falls through
      case "A": this.#row = Math.max(this.#base, this.#row - many); break;
      case "E": this.#column = 0; // falls through
      case "B": this.#row += many; this.#reach(); break;
      case "C": this.#column += many; break;
      case "D": this.#column = Math.max(0, this.#column - many); break;
      case "G": this.#column = many - 1; break;
      case "K": this.#erase(number); break;
      case "J":
        if (number) break;
        this.#erase(0);
        for (let row = this.#row + 1; row < this.#base + this.#rows.length; row++) {
          this.#rows[row - this.#base] = "";
          this.#touch(row);
        }
    }
  }

  #erase(what) {
    const at = this.#row - this.#base;
    const row = this.#rows[at];
    if (what === 0) this.#rows[at] = cut(row, 0, this.#column);
    else if (what === 1) this.#rows[at] = join("", " ".repeat(Math.min(this.#column, lengthOf(row))), PLAIN, cut(row, this.#column));
    else if (what === 2) this.#rows[at] = "";
    this.#touch(this.#row);
  }
}
