// Small tools: elements, durations, counts.

/** Make an element. `on…` are listeners, `data-…`, `aria-…` and what is no property are attributes; text is only text. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

export const $ = (id) => document.getElementById(id);

/** Set a text only if it is another one: a live region says it again otherwise, and a selection would be lost. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function duration(seconds) {
  if (seconds == null) return "";
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${String(rest).padStart(2, "0")} s`;
}

export const count = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;

export const SAYS = {
  queued: "queued", running: "running", awaiting_input: "asks for input", completed: "completed", failed: "failed",
  interrupted: "interrupted", killed: "killed", lost: "lost",
};
const ENDED = new Set(["completed", "failed", "interrupted", "killed", "lost"]);
export const ended = (execution) => ENDED.has(execution.state);

/** A small sign of a state. The word is there for those who do not see it. */
export const sign = (state) => h("span", { className: "sign", "data-state": state, role: "img", "aria-label": SAYS[state] });
