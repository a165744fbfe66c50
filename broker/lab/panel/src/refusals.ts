// A kernel that was not shut down, and why. Lab shows nobody what the server answers to the button in its list of what
// runs, so the server says it as an event too.

import { type ISessionContext, Notification } from '@jupyterlab/apputils';
import type { Event } from '@jupyterlab/services';
import type { Widget } from '@lumino/widgets';

const KERNEL_ACTIONS = 'https://events.jupyter.org/jupyter_server/kernel_actions/v1';
const SHOWN_FOR = 30_000;

/**
 * Show a person each refusal. `more` shows all of it: a notification has but its first line. `widgets` are those that
 * may have the kernel.
 */
export function showRefusals(events: Event.Stream, widgets: () => Iterable<Widget>, more: (why: string) => void): void {
  const shown = new Map<unknown, string>();
  events.connect((_, { schema_id, action, status, status_code, msg, kernel_id }) => {
    if (schema_id !== KERNEL_ACTIONS || action !== 'shutdown' || status !== 'error' || status_code !== 409) return;
    const why = String(msg);
    const show = { label: 'Show Broker', caption: 'Show what runs there', callback: () => more(why) };
    // “Shut Down All Kernels” asks once for each of a kernel's entries in the list.
    Notification.dismiss(shown.get(kernel_id) ?? '');
    shown.set(kernel_id, Notification.warning(why.split('\n')[0], { autoClose: SHOWN_FOR, actions: [show] }));
    for (const widget of widgets()) {
      const { sessionContext } = widget as Widget & { sessionContext?: ISessionContext };
      if (sessionContext?.session?.kernel?.id === kernel_id) keep(sessionContext);
    }
  });
}

/** Give a document whose kernel was to be shut down its kernel again: Lab thinks from the request on that it has none. */
function keep(context: ISessionContext): void {
  if (!context.isTerminating) return void restore(context);
  const settled = () => {
    if (context.isTerminating) return;
    context.statusChanged.disconnect(settled);
    void restore(context);
  };
  context.statusChanged.connect(settled);
}

async function restore(context: ISessionContext): Promise<void> {
  const kernel = context.session?.kernel;
  if (kernel && context.hasNoKernel) await context.changeKernel({ id: kernel.id, name: kernel.name });
}
