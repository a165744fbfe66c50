// A kernel that was not shut down, and why. Lab shows nobody what the server answers to the button in its list of what
// runs, so the server says it as an event too.

import { Notification } from '@jupyterlab/apputils';
import type { Event } from '@jupyterlab/services';

const KERNEL_ACTIONS = 'https://events.jupyter.org/jupyter_server/kernel_actions/v1';
const SHOWN_FOR = 30_000;

/** Show a person each refusal. `more` shows all of it: a notification has but the beginning of a long text. */
export function showRefusals(events: Event.Stream, more: (why: string) => void): void {
  events.connect((_, { schema_id, action, status, status_code, msg }) => {
    if (schema_id !== KERNEL_ACTIONS || action !== 'shutdown' || status !== 'error' || status_code !== 409) return;
    const why = String(msg);
    const show = { label: 'Show Broker', caption: 'Show what runs there', callback: () => more(why) };
    Notification.warning(why, { autoClose: SHOWN_FOR, actions: [show] });
  });
}
