// What there is: sessions and executions, as the broker lists them and as events change them. An execution that
// changes is replaced, so that only its row is drawn anew.

import { ISignal, Signal } from '@lumino/signaling';

import { type BrokerStatus, type Event, type Execution, ended, type Report, type Session } from './api';
import { lastLine } from './text';
import type { Connection, Wire } from './wire';

/** Of what an execution printed, so many characters are kept to find its last line in. */
const TAIL = 400;
/** Milliseconds between two drawings at most, however much is printed. */
const CALM = 100;
const SESSIONS_REST = 250;

/** An execution, the end of what it printed, and at which event it asked. */
export interface Row extends Execution {
  tail: string | null;
  asked: number;
}

export interface Group {
  id: string;
  /** Null until it is known: of a closed session only its executions are listed. */
  session: Session | null;
  open: boolean;
  /** The latest first. */
  rows: Row[];
}

export class Store {
  private sessions = new Map<string, Session>();
  private closed = new Map<string, Session | null>();
  private executions = new Map<string, Row>();
  private skew = 0;
  private drawing = 0;
  private refreshing = 0;
  private loaded = false;
  private reading = new Set<string>();
  private _stalled: string | null = null;
  private _changed = new Signal<this, void>(this);

  constructor(readonly wire: Wire) {
    wire.onopen = () => this.load();
    wire.onevent = event => this.apply(event);
    wire.onreport = report => this.report(report);
    wire.onstatus = status => this.status(status);
    wire.stateChanged.connect((_, state) => {
      if (state !== 'open') this._stalled = null; // a new connection is told at once
      this.change();
    });
  }

  /** Something is another than before. Emitted at most every tenth of a second. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get connection(): Connection {
    return this.wire.state;
  }

  /** There was a connection, so that what is shown is what there was last. */
  get isLoaded(): boolean {
    return this.loaded;
  }

  /** Why nothing can be written down at present, or null. */
  get stalled(): string | null {
    return this._stalled;
  }

  get running(): number {
    return [...this.executions.values()].filter(({ state }) => state === 'running').length;
  }

  get asking(): number {
    return [...this.executions.values()].filter(({ input_request }) => input_request).length;
  }

  /** Sessions with their executions: the open ones first, and among them those where something began last. */
  groups(): Group[] {
    const groups = new Map<string, Group>();
    const group = (id: string) => {
      const session = this.sessions.get(id) ?? null;
      const made = { id, session: session ?? this.closed.get(id) ?? null, open: session !== null, rows: [] };
      groups.set(id, made);
      return made as Group;
    };
    for (const id of this.sessions.keys()) group(id);
    for (const row of this.executions.values()) (groups.get(row.session_id) ?? group(row.session_id)).rows.push(row);
    for (const { rows } of groups.values()) rows.reverse();
    const latest = ({ rows, session }: Group) => rows[0]?.created_at ?? session?.created_at ?? '';
    return [...groups.values()].sort(
      (a, b) => Number(b.open) - Number(a.open) || latest(b).localeCompare(latest(a))
    );
  }

  /** The seconds that an execution has run, until now or its end. */
  elapsed({ started_at, finished_at }: Execution): number | null {
    if (!started_at) return null;
    const until = finished_at ? Date.parse(finished_at) : Date.now() - this.skew;
    return (until - Date.parse(started_at)) / 1000;
  }

  /** Read the end of what an execution printed, if that is not known. */
  async readTail(id: string): Promise<void> {
    const row = this.executions.get(id);
    if (!row || row.tail !== null || this.reading.has(id)) return;
    this.reading.add(id);
    try {
      const { text } = await this.wire.call<{ text: string }>('get_progress', {
        execution_id: id, after: 0, max_output: 500
      });
      const now = this.executions.get(id);
      if (now?.tail === null) this.replace(now, { tail: text.slice(-TAIL) });
    } catch {
      // It is shown without its last line; the next connection reads it again.
    } finally {
      this.reading.delete(id);
    }
  }

  /** Read the name of a session that is closed. */
  async readSession(id: string): Promise<void> {
    if (this.sessions.has(id) || this.closed.has(id)) return;
    this.closed.set(id, null);
    try {
      this.closed.set(id, await this.wire.call<Session>('get_session', { session: id }));
      this.change();
    } catch {
      this.closed.delete(id);
    }
  }

  dispose(): void {
    window.clearTimeout(this.drawing);
    window.clearTimeout(this.refreshing);
    Signal.clearData(this);
  }

  private async load(): Promise<void> {
    const [skew, { sessions }, { executions }] = await Promise.all([
      this.wire.clockSkew(),
      this.wire.call<{ sessions: Session[] }>('list_sessions'),
      this.wire.call<{ executions: Execution[] }>('list_executions')
    ]);
    this.skew = skew;
    this.sessions = new Map(sessions.map(session => [session.session_id, session]));
    const before = this.executions;
    this.executions = new Map();
    for (const execution of executions) {
      const id = execution.execution_id;
      const known = before.get(id);
      // What ended before has printed nothing since.
      const tail = execution.bytes === 0 ? '' : known && known.bytes === execution.bytes ? known.tail : null;
      // Nor is what somebody has begun to type at the same prompt lost.
      const { input_request } = execution;
      const same = JSON.stringify(known?.input_request) === JSON.stringify(input_request);
      this.executions.set(id, { ...execution, tail, asked: same ? (known?.asked ?? 0) : 0 });
    }
    this.loaded = true;
    this.change();
  }

  private status({ stalled }: BrokerStatus): void {
    this._stalled = stalled;
    this.change();
  }

  /** A report has what is exact; counts made here from events may begin a little early or late. */
  private report({ executions }: Report): void {
    for (const { execution_id, lines, bytes } of executions) {
      const row = this.executions.get(execution_id);
      if (row) this.replace(row, { lines, bytes });
    }
  }

  private apply(event: Event): void {
    if (event.execution_id === null) {
      this.refreshSessions();
      return;
    }
    if (event.type === 'execution_queued') this.queued(event, event.execution_id);
    const row = this.executions.get(event.execution_id);
    if (row) this.fold(row, event);
  }

  private queued({ session_id, code, label, time }: Event, id: string): void {
    if (this.executions.has(id)) return;
    const title = label || code.trim().split('\n')[0];
    this.executions.set(id, {
      execution_id: id, session_id, title, state: 'queued', detached: false, created_at: time, started_at: null,
      finished_at: null, lines: 0, bytes: 0, input_request: null, kernel_state: null, tail: '', asked: 0
    });
    if (!this.sessions.has(session_id)) this.refreshSessions();
    this.change();
  }

  private fold(row: Row, event: Event): void {
    switch (event.type) {
      case 'execution_started':
        this.refreshSessions();
        return this.replace(row, { state: 'running', started_at: event.time });
      case 'output':
        return this.output(row, event);
      case 'input_request': {
        const { prompt, password } = event;
        return this.replace(row, { state: 'awaiting_input', input_request: { prompt, password }, asked: event.seq });
      }
      case 'input_reply':
        return this.replace(row, { state: 'running', input_request: null });
      case 'handover':
        return this.replace(row, { detached: true });
      case 'history_cleared':
        return this.replace(row, { lines: 0, bytes: 0, tail: '' });
      case 'execution_finished': {
        const { state, kernel_state, time } = event;
        this.refreshSessions();
        void this.count(row.execution_id, event.seq);
        return this.replace(row, { state, kernel_state, finished_at: time, input_request: null });
      }
    }
  }

  private output(row: Row, { msg_type, content }: Event): void {
    const data = content.data?.['text/plain'];
    const error = [content.ename, content.evalue].filter(Boolean).join(': ');
    const text = msg_type === 'stream' ? content.text : msg_type === 'error' ? `${error}\n` : data ? `${data}\n` : '';
    if (typeof text !== 'string' || !text) return;
    const tail = ((row.tail ?? '') + text.slice(-TAIL)).slice(-TAIL);
    this.replace(row, { tail, bytes: row.bytes + text.length, lines: row.lines + text.split('\n').length - 1 });
  }

  /** What was counted here is not exact if the first events came while the list was read. */
  private async count(id: string, seq: number): Promise<void> {
    try {
      const exact = await this.wire.call<{ lines: number; bytes: number }>('get_progress', {
        execution_id: id, after: seq, max_output: 200
      });
      const row = this.executions.get(id);
      if (row) this.replace(row, { lines: exact.lines, bytes: exact.bytes });
    } catch {
      // The next connection takes everything anew.
    }
  }

  private replace(row: Row, change: Partial<Row>): void {
    this.executions.set(row.execution_id, { ...row, ...change });
    this.change();
  }

  private refreshSessions(): void {
    this.refreshing ||= window.setTimeout(async () => {
      this.refreshing = 0;
      try {
        const { sessions } = await this.wire.call<{ sessions: Session[] }>('list_sessions');
        this.sessions = new Map(sessions.map(session => [session.session_id, session]));
        this.change();
      } catch {
        // The same.
      }
    }, SESSIONS_REST);
  }

  private change(): void {
    this.drawing ||= window.setTimeout(() => {
      this.drawing = 0;
      this._changed.emit();
    }, CALM);
  }
}

export const lastLineOf = ({ tail }: Row): string => lastLine(tail ?? '');

export const isActive = (row: Row): boolean => !ended(row);
