import type { LabIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

interface Props {
  icon: LabIcon;
  label: string;
  onClick: () => void;
}

/** A button that is only an icon, as Lab's sidebars have them. */
export function IconButton({ icon, label, onClick }: Props): JSX.Element {
  return (
    <button className="jp-Broker-button" type="button" title={label} aria-label={label} onClick={onClick}>
      <icon.react tag={null} width="16px" height="16px" />
    </button>
  );
}
