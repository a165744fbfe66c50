// Words, durations and counts for people; and what is left of a terminal's text in one line.

import type { Run } from './api';

export const SAYS: Record<Run, string> = {
  queued: 'queued', running: 'running', awaiting_input: 'asks for input', completed: 'completed',
  failed: 'failed', interrupted: 'interrupted', killed: 'killed', lost: 'lost',
};

export const count = (number: number, word: string): string =>
  `${number.toLocaleString('en')} ${word}${number === 1 ? '' : 's'}`;

/** Seconds as people say them. Tenths only of what is over: what runs would flicker. */
export function duration(seconds: number | null, over: boolean): string {
  if (seconds === null) return '';
  if (over && seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${String(rest).padStart(2, '0')} s`;
}

// Escape sequences (ECMA-48: CSI, OSC and the other strings, the two-character ones), and what has no picture.
const CONTROL = /\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g;

/** The last line with anything on it, as a terminal would show it: what follows the last carriage return. */
export function lastLine(text: string): string {
  const lines = text.replace(CONTROL, '').split('\n');
  const seen = (line: string) => line.replace(/\r+$/, '').split('\r').at(-1)!.trim();
  return lines.map(seen).findLast(Boolean) ?? '';
}
