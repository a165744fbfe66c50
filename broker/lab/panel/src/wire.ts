// The broker's WebSocket at Lab's own server: calls, and events. Comes back by itself when the connection is lost.

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { ISignal, Signal } from '@lumino/signaling';

import { API, type BrokerStatus, type Event, type Report } from './api';

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 4_000;
/** Between attempts to reach what answered that it has no broker, or does not know who asks. */
const REFUSED_PAUSE = 30_000;
/** What a subprotocol may be made of (RFC 7230, section 3.2.6). Any other token is left to the cookie. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** `absent`: the server has no broker. `refused`: it does not know who asks. */
export type Connection = 'connecting' | 'open' | 'absent' | 'refused';

/** There is no connection, or it went away before the answer came. Whether the broker did it is not known. */
export class Offline extends Error {
  constructor() {
    super('There is no connection to the broker; what runs, runs on.');
  }
}

/** The broker's answer is an error. Its message is for people. */
export class Refused extends Error {}

interface Call {
  resolve: (result: any) => void;
  reject: (error: Error) => void;
}

export class Wire {
  private socket: WebSocket | null = null;
  private calls = new Map<number, Call>();
  private made = 0;
  private pause = FIRST_PAUSE;
  private timer = 0;
  private isDisposed = false;
  private _state: Connection = 'connecting';
  private _stateChanged = new Signal<this, Connection>(this);

  /** Awaited with every new connection, when its events have begun to come. */
  onopen: () => Promise<void> = async () => undefined;
  onevent: (event: Event) => void = () => undefined;
  onreport: (report: Report) => void = () => undefined;
  onstatus: (status: BrokerStatus) => void = () => undefined;

  constructor(private readonly settings: ServerConnection.ISettings) {
    window.addEventListener('online', this.now);
    document.addEventListener('visibilitychange', this.now);
  }

  get state(): Connection {
    return this._state;
  }

  get stateChanged(): ISignal<this, Connection> {
    return this._stateChanged;
  }

  connect(): void {
    const { token, wsUrl } = this.settings;
    const protocols = ['broker.v1'];
    if (TOKEN.test(token)) protocols.push(`broker.token.${token}`);
    const socket = new this.settings.WebSocket(URLExt.join(wsUrl, API, 'ws'), protocols);
    let opened = false;
    socket.onopen = () => {
      opened = true;
      void this.begin(socket);
    };
    socket.onmessage = ({ data }) => this.take(JSON.parse(data));
    socket.onclose = () => void this.closed(socket, opened);
    this.socket = socket;
  }

  /** Call a method. Rejects with `Refused` or `Offline`. */
  call<Result>(method: string, params: object = {}): Promise<Result> {
    if (this.socket?.readyState !== WebSocket.OPEN) return Promise.reject(new Offline());
    const id = ++this.made;
    this.socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
    return new Promise((resolve, reject) => this.calls.set(id, { resolve, reject }));
  }

  /** By how many milliseconds this machine's clock is ahead of the server's. Under two seconds is not worth saying. */
  async clockSkew(): Promise<number> {
    try {
      const { headers } = await this.get('health');
      const skew = Date.now() - Date.parse(headers.get('Date') ?? '');
      return Math.abs(skew) > 2000 ? skew : 0;
    } catch {
      return 0;
    }
  }

  dispose(): void {
    this.isDisposed = true;
    window.clearTimeout(this.timer);
    window.removeEventListener('online', this.now);
    document.removeEventListener('visibilitychange', this.now);
    this.socket?.close();
    Signal.clearData(this);
  }

  /** Try again now, if it waits for the next attempt. */
  now = (): void => {
    if (document.hidden || this.isDisposed || this.socket?.readyState !== WebSocket.CLOSED) return;
    window.clearTimeout(this.timer);
    this.connect();
  };

  private async begin(socket: WebSocket): Promise<void> {
    try {
      await this.call('subscribe', { after: null });
      await this.onopen();
      this.pause = FIRST_PAUSE;
      this.become('open');
    } catch (error) {
      if (!(error instanceof Offline)) console.error('The broker panel could not read what there is.', error);
      socket.close();
    }
  }

  private take(message: any): void {
    if (message.method === 'event') this.onevent(message.params.event);
    else if (message.method === 'execution_report') this.onreport(message.params);
    else if (message.method === 'broker_status') this.onstatus(message.params);
    else {
      const call = this.calls.get(message.id);
      this.calls.delete(message.id);
      if (message.error) call?.reject(new Refused(message.error.message));
      else call?.resolve(message.result);
    }
  }

  private async closed(socket: WebSocket, opened: boolean): Promise<void> {
    for (const { reject } of this.calls.values()) reject(new Offline());
    this.calls.clear();
    // A browser does not tell why a WebSocket was refused; HTTP does.
    const state = opened ? 'connecting' : await this.whyNot();
    if (this.isDisposed || socket !== this.socket) return;
    this.become(state);
    const pause = state === 'connecting' ? this.pause : REFUSED_PAUSE;
    this.timer = window.setTimeout(this.now, pause * (0.8 + 0.4 * Math.random()));
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
  }

  private async whyNot(): Promise<Connection> {
    try {
      const { status } = await this.get('openrpc.json');
      if (status === 404) return 'absent';
      return status === 401 || status === 403 ? 'refused' : 'connecting';
    } catch {
      return 'connecting';
    }
  }

  private get(path: string): Promise<Response> {
    return ServerConnection.makeRequest(URLExt.join(this.settings.baseUrl, API, path), {}, this.settings);
  }

  private become(state: Connection): void {
    if (state === this._state) return;
    this._state = state;
    this._stateChanged.emit(state);
  }
}
