// The panel: how the connection is, and each session with its executions.

import { caretDownIcon, caretRightIcon, consoleIcon, notebookIcon, ReactWidget } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import * as React from 'react';

import type { Actions } from './actions';
import type { Session } from './api';
import { IconButton } from './button';
import { ExecutionRow } from './execution';
import { brokerIcon } from './icons';
import { type Group, isActive, type Store } from './store';
import { count } from './text';

/** Of each session so many executions are shown at first, and what is not over always. */
const SHOWN = 10;
const CLOSED_SHOWN = 5;
const MORE = 4;

export class BrokerPanel extends ReactWidget {
  constructor(private readonly store: Store, private readonly actions: Actions) {
    super();
    this.id = 'jupyter-broker-panel';
    this.addClass('jp-Broker');
    this.title.icon = brokerIcon;
    this.title.caption = 'Broker';
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'Broker');
    this.node.tabIndex = -1;
    this.node.addEventListener('keydown', walk);
    store.changed.connect(this.refresh, this);
    actions.saidChanged.connect(this.refresh, this);
  }

  dispose(): void {
    if (this.isDisposed) return;
    this.store.dispose();
    this.store.wire.dispose();
    super.dispose();
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.store.wire.now();
    this.update();
  }

  protected onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    (items(this.node)[0] ?? this.node).focus();
  }

  protected render(): JSX.Element {
    return <Overview store={this.store} actions={this.actions} />;
  }

  private refresh(): void {
    const { asking } = this.store;
    // The tab says it too, for the panel may be closed.
    this.title.className = asking ? 'jp-Broker-tabAsks' : '';
    this.title.caption = asking ? `Broker: ${asking === 1 ? 'one asks' : `${asking} ask`} for input` : 'Broker';
    if (this.isVisible) this.update();
  }
}

function Overview({ store, actions }: { store: Store; actions: Actions }): JSX.Element {
  const [more, setMore] = React.useState(0);
  const groups = store.groups();
  const open = groups.filter(group => group.open);
  const closed = groups.filter(group => !group.open);
  const shown = closed.slice(0, more);
  return (
    <>
      <Status store={store} said={actions.said} />
      <div className="jp-Broker-sessions">
        {open.map(group => <SessionGroup key={group.id} group={group} store={store} actions={actions} />)}
        {store.isLoaded && groups.length === 0 && (
          <p className="jp-Broker-nothing">Nothing has run yet. What agents run appears here by itself.</p>
        )}
        {shown.map(group => <SessionGroup key={group.id} group={group} store={store} actions={actions} />)}
        {closed.length > shown.length && (
          <button className="jp-Broker-item jp-Broker-more" onClick={() => setMore(more ? more * MORE : CLOSED_SHOWN)}>
            {count(closed.length - shown.length, shown.length ? 'earlier session' : 'closed session')}
          </button>
        )}
      </div>
    </>
  );
}

const SAYS_CONNECTION = {
  connecting: 'Reconnecting…',
  absent: 'This server runs no broker. Its log says why, if “jupyter server extension list” has broker.lab enabled.',
  refused: 'The server does not know you any more. Reload this page to log in.'
};

function Status({ store, said }: { store: Store; said: string }): JSX.Element {
  const { connection, stalled, running, asking } = store;
  const facts = [running ? `${running} running` : '', asking ? `${asking} ask${asking === 1 ? 's' : ''} for input` : ''];
  const live = facts.filter(Boolean).join(' · ') || 'Nothing runs';
  const away = connection === 'connecting' && !store.isLoaded ? 'Connecting…' : connection !== 'open' && SAYS_CONNECTION[connection];
  return (
    <>
      <div className="jp-Broker-status" data-connection={connection} role="status">
        <span className="jp-Broker-dot" aria-hidden="true" />
        <span>{away || live}</span>
      </div>
      {stalled !== null && connection === 'open' && (
        <p className="jp-Broker-says" role="alert">Nothing can be written down at present: {stalled}</p>
      )}
      {said && <p className="jp-Broker-says" role="status">{said}</p>}
    </>
  );
}

interface GroupProps {
  group: Group;
  store: Store;
  actions: Actions;
}

function SessionGroup({ group, store, actions }: GroupProps): JSX.Element {
  const { id, session, rows, open } = group;
  const [expanded, setExpanded] = React.useState(open);
  const [limit, setLimit] = React.useState(SHOWN);
  React.useEffect(() => void (open || store.readSession(id)), [store, id, open]);
  const shown = rows.filter((row, at) => at < limit || isActive(row));
  const hidden = rows.length - shown.length;
  const toNotebook = session && actions.canOpenNotebook(session) ? session : null;
  const Caret = expanded ? caretDownIcon : caretRightIcon;
  const name = session?.name ?? '…';
  return (
    <section className="jp-Broker-session" data-open={open} aria-label={name}>
      <header>
        <button
          className="jp-Broker-item jp-Broker-sessionName"
          aria-expanded={expanded}
          title={session ? `${name}: ${session.kernel}, ${session.kernel_state}` : undefined}
          onClick={() => setExpanded(!expanded)}
        >
          <Caret.react tag="span" width="16px" height="16px" />
          <span className="jp-Broker-name">{name}</span>
          <span className="jp-Broker-kernel">{kernelFacts(session, open)}</span>
        </button>
        {toNotebook && (
          <IconButton icon={notebookIcon} label="Open Notebook" onClick={() => void actions.openNotebook(toNotebook)} />
        )}
        {session && open && actions.canOpenConsole(session) && (
          <IconButton icon={consoleIcon} label="Open Console" onClick={() => void actions.openConsole(session)} />
        )}
      </header>
      {expanded && (
        <ul>
          {shown.map(row => (
            <ExecutionRow key={row.execution_id} row={row} session={toNotebook} store={store} actions={actions} />
          ))}
          {hidden > 0 && (
            <li>
              <button className="jp-Broker-item jp-Broker-more" onClick={() => setLimit(limit * MORE)}>
                {count(hidden, 'earlier one')}
              </button>
            </li>
          )}
          {rows.length === 0 && <li className="jp-Broker-nothing">Nothing has run in it.</li>}
        </ul>
      )}
    </section>
  );
}

function kernelFacts(session: Session | null, open: boolean): string {
  if (!open) return 'closed';
  return session ? `${session.kernel} · ${session.kernel_state}` : '';
}

// Keys: the arrows walk over sessions and executions, and what can be done with one is a Tab away.

const items = (node: HTMLElement): HTMLElement[] => [...node.querySelectorAll<HTMLElement>('.jp-Broker-item')];

function walk(event: KeyboardEvent): void {
  const { key, currentTarget, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || (target as Element).matches('input')) return;
  const all = items(currentTarget as HTMLElement);
  const focused = (target as Element).closest('li, header')?.querySelector('.jp-Broker-item');
  const at = all.findIndex(item => item === focused);
  const to: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 };
  const item = all[Math.max(to[key] ?? NaN, 0)];
  const expanded = all[at]?.getAttribute('aria-expanded');
  if (item) {
    item.focus();
    item.scrollIntoView({ block: 'nearest' });
  } else if ((key === 'ArrowLeft' && expanded === 'true') || (key === 'ArrowRight' && expanded === 'false')) {
    all[at].click();
  } else return;
  event.preventDefault();
  event.stopPropagation();
}
