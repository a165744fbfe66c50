// The extension: a panel in the left sidebar, and a command that shows it.

import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { ServerConnection } from '@jupyterlab/services';

import { Actions } from './actions';
import { brokerIcon } from './icons';
import { BrokerPanel } from './panel';
import { showRefusals } from './refusals';
import { Store } from './store';
import { Wire } from './wire';

const SHOW = 'broker:show';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-broker:panel',
  description: 'Shows the sessions and executions of the broker, and lets a person answer and stop them.',
  autoStart: true,
  optional: [ICommandPalette, ILayoutRestorer],
  activate: (app: JupyterFrontEnd, palette: ICommandPalette | null, restorer: ILayoutRestorer | null) => {
    const wire = new Wire(ServerConnection.makeSettings());
    const actions = new Actions(app, wire);
    const panel = new BrokerPanel(new Store(wire), actions);
    app.shell.add(panel, 'left', { rank: 250, type: 'Broker' });
    restorer?.add(panel, panel.id);
    app.commands.addCommand(SHOW, {
      label: 'Show Broker',
      caption: 'Show the sessions and executions of the broker',
      icon: brokerIcon,
      describedBy: { args: { type: 'object', properties: {} } },
      execute: () => app.shell.activateById(panel.id)
    });
    palette?.addItem({ command: SHOW, category: 'Broker' });
    const showMore = (why: string) => {
      actions.say(why);
      app.shell.activateById(panel.id);
    };
    showRefusals(app.serviceManager.events.stream, () => app.shell.widgets('main'), showMore);
    wire.connect();
  }
};

export default plugin;
