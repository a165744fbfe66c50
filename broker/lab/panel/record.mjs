// Records what the build was made from. tests/lab/test_panel_build.py compares it with the sources as they stand.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

const FOLDERS = ['src', 'style'];
const FILES = ['package.json', 'package-lock.json', 'tsconfig.json'];

const names = [...FOLDERS.flatMap(folder => readdirSync(folder).map(name => `${folder}/${name}`)), ...FILES].sort();
const hash = createHash('sha256');
for (const name of names) {
  const content = readFileSync(name);
  hash.update(`${name}\0${content.length}\0`).update(content);
}
writeFileSync('../labextension/sources.sha256', `${hash.digest('hex')}\n`);
