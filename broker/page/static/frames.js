// Untrusted HTML, in a sandbox of its own origin. What it may do is said by the policy that the sandbox comes with.

import { h } from "./dom.js";

const LOWEST = 24, HIGHEST = 640;
const SCRIPTS = /<script|\son\w+\s*=/i;

/** Show HTML in an element, in the frame that is there already if there is one. */
export function frame(element, html, title) {
  const there = element.querySelector(":scope > iframe");
  if (there) {
    there.html = html;
    if (there.ready) send(there);
    return;
  }
  const quiet = sandbox("page/frame.html", html, title);
  element.replaceChildren(quiet);
  if (!SCRIPTS.test(html)) return;
  const button = h("button", { className: "quiet scripts", title: "They cannot see this page, the token, or the network" }, "Run its scripts");
  button.addEventListener("click", () => {
    const current = element.querySelector(":scope > iframe");
    current.replaceWith(sandbox("page/scripts.html", current.html, title));
    button.remove();
  });
  element.append(button);
}

function sandbox(src, html, title) {
  // Without `allow-same-origin`: it has no origin, so none of this page's storage, and nothing of its documents.
  const made = h("iframe", { sandbox: "allow-scripts", loading: "lazy", title: `Output: ${title}`.slice(0, 200), src });
  made.html = html;
  // Once: what is in it might load it again, and again.
  made.addEventListener("load", () => { made.ready = true; send(made); }, { once: true });
  return made;
}

const send = (frame) => frame.contentWindow?.postMessage({ html: frame.html }, "*");
const frames = () => [...document.querySelectorAll(".output iframe")];

// All that a frame can say is how high it would like to be.
addEventListener("message", ({ source, data }) => {
  const height = data?.height;
  if (typeof height !== "number" || !Number.isFinite(height)) return;
  const from = frames().find((frame) => frame.contentWindow === source);
  if (from) from.style.height = `${Math.min(Math.max(height + 2, LOWEST), HIGHEST)}px`;
});

// And all that its scripts can do to the reader is to take the focus: not while a person types, it may be a password.
// What is not displayed cannot have it; `inert` is not enough, for a frame's own document does not know of it.
const isTyping = (element) => element?.matches?.("input, textarea") ?? false;

function guard(typing) {
  for (const frame of frames().filter(({ src }) => src.endsWith("/scripts.html"))) {
    if (typing && !frame.hidden) frame.parentElement.style.minHeight = `${frame.parentElement.offsetHeight}px`;
    if (!typing) frame.parentElement.style.minHeight = "";
    frame.hidden = typing;
    frame.parentElement.classList.toggle("paused", typing);
  }
}

addEventListener("focusin", ({ target }) => guard(isTyping(target)));
addEventListener("focusout", ({ target }) => setTimeout(() => {
  const { activeElement } = document;
  // A frame that is hidden was not clicked; it was quicker than that it became so.
  if (isTyping(target) && activeElement?.tagName === "IFRAME" && activeElement.hidden) target.focus();
  else if (!isTyping(activeElement)) guard(false);
}));
