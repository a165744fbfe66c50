// What a person can do from the panel: in Lab, and to an execution.

import type { JupyterFrontEnd } from '@jupyterlab/application';
import { Dialog, showDialog } from '@jupyterlab/apputils';
import type { ISessionContext } from '@jupyterlab/apputils';
import { ISignal, Signal } from '@lumino/signaling';
import type { Widget } from '@lumino/widgets';

import type { Execution, Session } from './api';
import { SAYS } from './text';
import type { Wire } from './wire';

const SAID_FOR = 8_000;
/** Milliseconds for a character of a long one. */
const READ_IN = 80;

export class Actions {
  private timer = 0;
  private _said = '';
  private _saidChanged = new Signal<this, string>(this);

  constructor(private readonly app: JupyterFrontEnd, private readonly wire: Wire) {}

  /** A sentence about what was last done, for a while. */
  get said(): string {
    return this._said;
  }

  get saidChanged(): ISignal<this, string> {
    return this._saidChanged;
  }

  canOpenNotebook(session: Session): boolean {
    return Boolean(session.notebook_path) && this.app.commands.hasCommand('docmanager:open');
  }

  canOpenConsole(session: Session): boolean {
    return Boolean(session.kernel_id) && this.app.commands.hasCommand('console:create');
  }

  /** Open a session's notebook on its kernel, if there is one, at the cell of an execution, if one is named. */
  async openNotebook({ notebook_path, kernel_id }: Session, execution?: string): Promise<void> {
    await this.attempt(async () => {
      const kernel = kernel_id ? { kernel: { id: kernel_id } } : { kernelPreference: { shouldStart: false } };
      const widget = await this.app.commands.execute('docmanager:open', { path: notebook_path!, ...kernel });
      if (execution) widget?.setFragment?.(`#cell-id=${execution}`);
    });
  }

  /** Show the console on a session's kernel, or make one. */
  async openConsole({ kernel_id, name }: Session): Promise<void> {
    for (const widget of this.app.shell.widgets('main')) {
      if (consoleKernel(widget) === kernel_id) {
        this.app.shell.activateById(widget.id);
        return;
      }
    }
    await this.attempt(() =>
      this.app.commands.execute('console:create', { kernelPreference: { id: kernel_id! }, name, activate: true })
    );
  }

  /** Answer an open prompt; null ends its input. Returns whether the broker took it. */
  async answer(execution: Execution, value: string | null): Promise<boolean> {
    const { execution_id } = execution;
    const input = value === null ? { eof: true } : { data: value };
    return (await this.attempt(() => this.wire.call('send_stdin', { execution_id, ...input }))) !== undefined;
  }

  async interrupt({ execution_id }: Execution): Promise<void> {
    const after = await this.attempt(() => this.wire.call<Execution>('interrupt', { execution_id }));
    if (after?.hint) this.say(after.hint);
  }

  async kill(execution: Execution): Promise<void> {
    const { button } = await showDialog({
      title: `Kill “${execution.title.slice(0, 60)}”?`,
      body:
        'It is interrupted. If that does not end it, its kernel is ended too: with all its variables, and all else that runs in it.',
      buttons: [Dialog.cancelButton({ label: 'Leave It Running' }), Dialog.warnButton({ label: 'Kill' })],
      defaultButton: 0
    });
    if (!button.accept) return;
    const { execution_id } = execution;
    const result = await this.attempt(() => this.wire.call<{ killed: Execution[] }>('kill', { execution_id }));
    const after = result?.killed[0];
    if (after) this.say(`It is ${SAYS[after.state]}; its variables are ${after.kernel_state ?? 'as they were'}.`);
  }

  /** Say it in the panel. */
  // Not by a notification of Lab's: it loads the code for those when the first is shown, which fails without a server.
  say(text: string): void {
    window.clearTimeout(this.timer);
    if (text) this.timer = window.setTimeout(() => this.say(''), Math.max(SAID_FOR, text.length * READ_IN));
    this._said = text;
    this._saidChanged.emit(text);
  }

  private async attempt<Result>(act: () => Promise<Result>): Promise<Result | undefined> {
    this.say('');
    try {
      return await act();
    } catch (error) {
      this.say(error instanceof Error ? error.message : String(error));
      return undefined;
    }
  }
}

function consoleKernel(widget: Widget): string | undefined {
  const { console } = widget as Widget & { console?: { sessionContext?: ISessionContext } };
  return console?.sessionContext?.session?.kernel?.id;
}
