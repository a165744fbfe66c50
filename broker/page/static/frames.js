// Untrusted HTML, in a sandbox of its own origin. What it may do is said by the policy that `frame.html` comes with.

const LOWEST = 24, HIGHEST = 640;

/** Show HTML in an element, in the frame that is there already if there is one. */
export function frame(element, html, title) {
  const there = element.querySelector(":scope > iframe");
  if (there) {
    there.html = html;
    if (there.ready) send(there);
    return;
  }
  const made = document.createElement("iframe");
  // Without `allow-same-origin`: it has no origin, so none of this page's storage, and nothing of its documents.
  made.setAttribute("sandbox", "allow-scripts");
  made.loading = "lazy";
  made.title = `Output: ${title}`.slice(0, 200);
  made.src = "page/frame.html";
  made.html = html;
  made.inert = isTyping(document.activeElement);
  // Once: what is in it might load it again, and again.
  made.addEventListener("load", () => { made.ready = true; send(made); }, { once: true });
  element.replaceChildren(made);
}

const send = (frame) => frame.contentWindow?.postMessage({ html: frame.html }, "*");

// All that a frame can say is how high it would like to be.
addEventListener("message", ({ source, data }) => {
  const height = data?.height;
  if (typeof height !== "number" || !Number.isFinite(height)) return;
  const from = [...document.querySelectorAll(".output iframe")].find((frame) => frame.contentWindow === source);
  if (from) from.style.height = `${Math.min(Math.max(height + 2, LOWEST), HIGHEST)}px`;
});

// And all that it can do to the reader is to take the focus: not while a person types, it may be a password.
const isTyping = (element) => element?.matches?.("input, textarea") ?? false;
const guard = (inert) => { for (const frame of document.querySelectorAll(".output iframe")) frame.inert = inert; };
addEventListener("focusin", ({ target }) => guard(isTyping(target)));
addEventListener("focusout", ({ relatedTarget }) => { if (!isTyping(relatedTarget)) guard(document.hasFocus() && isTyping(document.activeElement)); });
