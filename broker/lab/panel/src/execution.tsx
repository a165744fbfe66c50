// One execution: how it stands, its last line, what stops it, and its prompt.

import { closeIcon, stopIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { Actions } from './actions';
import { ended, type Session } from './api';
import { IconButton } from './button';
import { Sign } from './icons';
import { lastLineOf, type Row, type Store } from './store';
import { count, duration, SAYS } from './text';

interface Props {
  row: Row;
  /** Its session, if that has a notebook to open. */
  session: Session | null;
  store: Store;
  actions: Actions;
}

export const ExecutionRow = React.memo(function ExecutionRow({ row, session, store, actions }: Props): JSX.Element {
  const unread = row.tail === null;
  React.useEffect(() => void (unread && store.readTail(row.execution_id)), [store, row.execution_id, unread]);
  const over = ended(row);
  const title = row.title || '(no code)';
  const line = lastLineOf(row);
  const word = over ? (row.state === 'completed' ? '' : SAYS[row.state]) : row.detached ? 'detached' : '';
  const body = (
    <>
      <Sign state={row.state} />
      <span className="jp-Broker-title">{title}</span>
      <Elapsed row={row} store={store} />
      <span className="jp-Broker-line">{line}</span>
      <span className="jp-Broker-facts">
        {word && <span className="jp-Broker-word">{row.lines ? `${word} · ` : word}</span>}
        {row.lines > 0 && count(row.lines, 'line')}
      </span>
    </>
  );
  return (
    <li className="jp-Broker-execution" data-state={row.state} data-execution={row.execution_id}>
      <div className="jp-Broker-row">
        {session ? (
          <button
            className="jp-Broker-item" title={`${title}\nOpen it in the notebook`}
            onClick={() => void actions.openNotebook(session, row.execution_id)}
          >
            {body}
          </button>
        ) : (
          <div className="jp-Broker-item" tabIndex={-1} title={title}>{body}</div>
        )}
        {!over && (
          <span className="jp-Broker-actions">
            <IconButton icon={stopIcon} label="Interrupt" onClick={() => void actions.interrupt(row)} />
            <IconButton icon={closeIcon} label="Kill" onClick={() => void actions.kill(row)} />
          </span>
        )}
      </div>
      {row.input_request && <Prompt key={row.asked} row={row} actions={actions} />}
    </li>
  );
});

/** The time that it has run so far goes on by itself. */
function Elapsed({ row, store }: { row: Row; store: Store }): JSX.Element {
  const [, tick] = React.useReducer((ticks: number) => ticks + 1, 0);
  const runs = row.started_at !== null && !ended(row);
  React.useEffect(() => {
    if (!runs) return;
    const timer = window.setInterval(tick, 1000);
    return () => window.clearInterval(timer);
  }, [runs]);
  return <span className="jp-Broker-time">{duration(store.elapsed(row), !runs)}</span>;
}

/** One prompt. A new one is a new form: what was typed at a password never shows in the next. */
function Prompt({ row, actions }: { row: Row; actions: Actions }): JSX.Element {
  const { prompt, password } = row.input_request!;
  const [value, setValue] = React.useState('');
  const [sending, setSending] = React.useState(false);
  const id = React.useId();
  const send = async (answer: string | null) => {
    setSending(true);
    if (await actions.answer(row, answer)) setValue('');
    setSending(false);
  };
  return (
    <form
      className="jp-Broker-prompt"
      onSubmit={event => {
        event.preventDefault();
        if (!sending) void send(value);
      }}
    >
      <label htmlFor={id}>{prompt || 'It asks for input.'}</label>
      <input
        id={id} className="jp-mod-styled" type={password ? 'password' : 'text'} value={value}
        autoComplete={password ? 'new-password' : 'off'} spellCheck={false} autoCapitalize="off" enterKeyHint="send"
        onChange={({ target }) => setValue(target.value)}
      />
      <button className="jp-mod-styled jp-mod-accept" type="submit" disabled={sending}>Send</button>
      <button
        className="jp-mod-styled jp-mod-reject" type="button" disabled={sending}
        title="End its input: input() raises EOFError" onClick={() => void send(null)}
      >
        EOF
      </button>
    </form>
  );
}
