// The broker's WebSocket: calls, and events. Comes back by itself when the connection is lost.
//
// A token of null is none: then the cookie of the server that the broker runs in says who calls.

const API = "api/broker/v1/";
const LONGEST_PAUSE = 4000;

/** The connection is not there, or went away before the answer came. Whether the broker did it is not known. */
export class Offline extends Error {
  constructor() { super("There is no connection to the broker; what runs, runs on."); }
}

/** The broker's answer is an error. `type` is stable, the message is for people. */
export class Refused extends Error {
  constructor({ message, data }) { super(message); this.type = data?.type; }
}

export class Wire {
  #socket = null;
  #calls = new Map();
  #made = 0;
  #pause = 250;
  #timer = 0;
  #token;

  /**
   * `onopen` is awaited with every new connection, when events have begun to come; `onevent` gets each event once a
   * connection; `onstate` one of "connecting", "open", "unauthorized".
   */
  constructor(token, { onopen, onevent, onreport, onstate }) {
    this.#token = token;
    Object.assign(this, { onopen, onevent, onreport, onstate });
    addEventListener("online", () => this.#now());
    document.addEventListener("visibilitychange", () => document.hidden || this.#now());
  }

  connect() {
    this.onstate("connecting");
    const url = new URL(`${API}ws`, document.baseURI.split("#")[0]);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.#socket = new WebSocket(url, ["broker.v1", ...(this.#token ? [`broker.token.${this.#token}`] : [])]));
    socket.onopen = () => this.#opened(socket);
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = () => this.#closed(socket);
  }

  /** Call a method. Rejects with `Refused` or `Offline`. */
  call(method, params = {}) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return Promise.reject(new Offline());
    const id = ++this.#made;
    this.#socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    return new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }));
  }

  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  async #opened(socket) {
    try {
      await this.call("subscribe", { after: null });
      await this.onopen();
      this.#pause = 250;
      this.onstate("open");
    } catch (error) {
      if (!(error instanceof Offline)) console.error(error);
      socket.close();
    }
  }

  #take(message) {
    if (message.method === "event") this.onevent(message.params.event);
    else if (message.method === "execution_report") this.onreport(message.params);
    else {
      const call = this.#calls.get(message.id);
      this.#calls.delete(message.id);
      if (message.error) call?.reject(new Refused(message.error));
      else call?.resolve(message.result);
    }
  }

  async #closed(socket) {
    for (const { reject } of this.#calls.values()) reject(new Offline());
    this.#calls.clear();
    if (socket !== this.#socket) return;
    this.onstate("connecting");
    // A browser does not tell why a WebSocket was refused; HTTP does.
    if ((await admission(this.#token)) === false) {
      if (socket === this.#socket) this.onstate("unauthorized");
      return;
    }
    if (socket !== this.#socket) return;
    this.#timer = setTimeout(() => this.#now(), this.#pause * (0.8 + 0.4 * Math.random()));
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }

  #now() {
    if (!this.#socket || this.#socket.readyState !== WebSocket.CLOSED) return;
    clearTimeout(this.#timer);
    this.connect();
  }
}

/** Whether the broker lets this reader in; undefined where it cannot be asked. */
export async function admission(token) {
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const { ok, status } = await fetch(`${API}openrpc.json`, { headers, cache: "no-store" });
    return ok ? true : status === 401 ? false : undefined;
  } catch {
    return undefined;
  }
}

/** By how many milliseconds this machine's clock is ahead of the broker's. Less than two seconds is not worth saying. */
export async function clockSkew() {
  try {
    const { headers } = await fetch(`${API}health`, { cache: "no-store" });
    const skew = Date.now() - Date.parse(headers.get("Date"));
    return Math.abs(skew) > 2000 ? skew : 0;
  } catch {
    return 0;
  }
}
