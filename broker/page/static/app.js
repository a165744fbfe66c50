// The page: how one comes in, what its keys do, and how its parts hang together.

import { Detail } from "./detail.js";
import { $, SAYS, h, setText } from "./dom.js";
import { List } from "./list.js";
import { Search } from "./search.js";
import { Store } from "./store.js";
import { Wire, admission } from "./wire.js";

const TOKEN = "broker.token";
const SAID_FOR = 6000;

let wire = null;
const store = new Store({ onchange, onstate });
const list = new List(store);
const detail = new Detail(store, () => wire, say, run);
const search = new Search(store, () => wire, {
  onfound: (found) => list.filter(found),
  onstatus: (text) => { $("search-status").hidden = !text; setText($("search-status"), text); },
});

// Coming in. A fragment is sent nowhere; it is taken out of the address at once, and kept for this tab alone.

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1));
  const token = given.get("token");
  if (!token) return false;
  const execution = given.get("execution");
  history.replaceState(null, "", location.pathname + (execution ? `#/${execution}` : ""));
  sessionStorage.setItem(TOKEN, token);
  return true;
}

async function enter() {
  wire?.close();
  const token = sessionStorage.getItem(TOKEN);
  const known = Boolean(token) || (await admission(null)) === true;
  if (sessionStorage.getItem(TOKEN) !== token) return; // meanwhile one came
  $("entrance").hidden = known;
  $("app").hidden = !known;
  if (!known) {
    $("token").focus();
    return;
  }
  let first = true;
  wire = new Wire(token, {
    onopen: async () => {
      await store.load(wire);
      list.render();
      if (first) route();
      else detail.load();
      first = false;
    },
    onevent: (event) => { store.apply(event); detail.event(event); },
    onreport: (report) => store.report(report),
    onstate: (state) => connection(state),
  });
  wire.connect();
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  enter();
});

function connection(state) {
  if (state === "unauthorized") {
    setText($("token-why"), sessionStorage.getItem(TOKEN)
      ? "The broker does not know this token: it may be a new broker."
      : "The server does not know you any longer. Log in to it again, or give its token here.");
    sessionStorage.removeItem(TOKEN);
    enter();
    return;
  }
  $("connection").dataset.state = state;
  setText($("connection"), state === "open" ? "live" : "connecting");
}

// Where one is: `#/ID` is an execution, `#/` the list. On a phone they are two pages.

function route() {
  const id = location.hash.startsWith("#/") && location.hash.length > 2 ? location.hash.slice(2) : null;
  const from = document.activeElement, before = document.body.dataset.view;
  document.body.dataset.view = id || location.hash === "#/new" ? "detail" : "list";
  const shown = id === "new" ? null : id;
  if (shown !== detail.id) detail.open(shown);
  if (!id && before === "detail" && !from?.matches("input, textarea")) list.move(0); // to where one came from
  list.mark(shown);
  if (id === "new") detail.focusSession();
  else if (shown && !from?.matches("input, textarea")) detail.focus();
}

addEventListener("hashchange", () => { if (takeToken()) enter(); else if (wire) route(); });

function onchange() {
  list.render();
  detail.refresh();
}

setInterval(() => { if (!document.hidden) { list.tick(); detail.refresh(); } }, 500);

// Saying things: to those who hear them, and to those who see them.

let said = 0;

function say(text) {
  document.querySelector(".toast")?.remove();
  const toast = h("div", { className: "toast", role: "status" }, text);
  document.body.append(toast);
  clearTimeout(said);
  said = setTimeout(() => toast.remove(), SAID_FOR);
}

function onstate(execution) {
  const asks = execution.state === "awaiting_input";
  if (execution.execution_id !== detail.id && !asks) return;
  setText($("live"), `${execution.title}: ${SAYS[execution.state]}${asks ? `. ${execution.input_request?.prompt ?? ""}` : ""}`);
  document.title = `${{ running: "● ", awaiting_input: "? " }[execution.state] ?? ""}${execution.execution_id === detail.id ? `${execution.title} – ` : ""}Broker`;
}

async function run(session, code) {
  try {
    const { execution_id } = await wire.call("execute", { code, session, wait: 0, request_id: `page-${crypto.randomUUID()}` });
    return execution_id;
  } catch (error) {
    say(error.message);
    return null;
  }
}

// Keys

const KEYS = {
  j: () => list.move(1), ArrowDown: () => list.move(1),
  k: () => list.move(-1), ArrowUp: () => list.move(-1),
  "/": () => { location.hash = "#/"; $("search").focus(); $("search").select(); },
  "?": () => $("help").showModal(),
  i: () => detail.interrupt(), x: () => detail.kill(),
  a: () => detail.focusAnswer(), e: () => detail.toEnd(), c: () => detail.focusCell(),
  n: () => { location.hash = "#/new"; },
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("app").hidden || document.querySelector("dialog[open]")) return;
  const { target } = event;
  const types = target.matches("input, textarea");
  if (event.key === "Escape") {
    if (target === $("search") && target.value) return;
    if (types) target.blur();
    else location.hash = "#/";
    return;
  }
  if (target === $("search") && (event.key === "ArrowDown" || event.key === "Enter")) {
    event.preventDefault();
    list.move(0);
    return;
  }
  // In the output the arrows scroll.
  if (types || (event.key.startsWith("Arrow") && target.closest("#detail"))) return;
  const does = KEYS[event.key];
  if (!does) return;
  event.preventDefault();
  does();
});

let typing = 0;
$("search").addEventListener("input", ({ target }) => {
  clearTimeout(typing);
  typing = setTimeout(() => search.start(target.value), 200);
});
$("help-button").addEventListener("click", KEYS["?"]);
$("new").addEventListener("click", KEYS.n);

takeToken();
enter();
