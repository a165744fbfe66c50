// What the broker's API says, as far as the panel reads it. docs/api.md explains it.

export const API = 'api/broker/v1';

export type Run =
  | 'queued' | 'running' | 'awaiting_input'
  | 'completed' | 'failed' | 'interrupted' | 'killed' | 'lost';

export interface InputRequest {
  prompt: string;
  password: boolean;
}

export interface Execution {
  execution_id: string;
  session_id: string;
  title: string;
  state: Run;
  detached: boolean;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  lines: number;
  bytes: number;
  input_request: InputRequest | null;
  kernel_state: string | null;
  hint?: string | null;
}

export interface Session {
  session_id: string;
  name: string;
  kernel: string;
  kernel_id: string | null;
  kernel_state: string;
  created_at: string;
  /** Where its notebook is, from Lab's root; null if Lab does not show that folder. */
  notebook_path?: string | null;
}

export interface Event {
  seq: number;
  execution_id: string | null;
  session_id: string;
  time: string;
  type: string;
  [field: string]: any;
}

export interface Report {
  executions: { execution_id: string; lines: number; bytes: number }[];
}

/** Whether what happens can be written down. `stalled` says why not. */
export interface BrokerStatus {
  stalled: string | null;
}

const ENDED: ReadonlySet<Run> = new Set(['completed', 'failed', 'interrupted', 'killed', 'lost']);

export const ended = ({ state }: { state: Run }): boolean => ENDED.has(state);
