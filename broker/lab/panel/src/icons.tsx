import { checkIcon, circleEmptyIcon, closeIcon, errorIcon, LabIcon, offlineBoltIcon, stopIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import type { Run } from './api';
import { SAYS } from './text';

/** What one types at, and what answers: the broker's own sign, in the theme's colour. */
export const brokerIcon = new LabIcon({
  name: 'jupyter-broker:broker',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-icon3" fill="#616161" fill-rule="evenodd" d="M5.5 3h13A2.5 2.5 0 0 1 21 5.5v13a2.5 2.5 0 0 1-2.5 2.5h-13A2.5 2.5 0 0 1 3 18.5v-13A2.5 2.5 0 0 1 5.5 3zM6.3 8.2l3.8 3.8-3.8 3.8 1.7 1.7 5.5-5.5L8 6.5zM16.5 14a1.8 1.8 0 1 0 0 3.6 1.8 1.8 0 0 0 0-3.6z"/>
</svg>`
});

const asksIcon = new LabIcon({
  name: 'jupyter-broker:asks',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <path d="M8.2 8.9a3.8 3.8 0 1 1 6 3.1c-1.1.8-1.2 1.2-1.2 2.5h-2c0-2 .4-2.9 2-4.1A1.8 1.8 0 1 0 10.2 8.9z"/>
    <circle cx="12" cy="17.6" r="1.4"/>
  </g>
</svg>`
});

const SIGNS: Record<Run, LabIcon | null> = {
  queued: circleEmptyIcon, running: null, awaiting_input: asksIcon, completed: checkIcon,
  failed: errorIcon, interrupted: stopIcon, killed: closeIcon, lost: offlineBoltIcon
};

/** A small sign of a state. What runs has a ring that turns. The word is there for those who do not see it. */
export function Sign({ state }: { state: Run }): JSX.Element {
  const icon = SIGNS[state];
  return (
    <span className="jp-Broker-sign" data-state={state} role="img" aria-label={SAYS[state]} title={SAYS[state]}>
      {icon ? <icon.react tag={null} width="16px" height="16px" /> : <span className="jp-Broker-ring" />}
    </span>
  );
}
