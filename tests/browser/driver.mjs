// Plays scenes in Chromium. Reads one JSON line a scene, {scene, hook, place}, and writes one line with its report:
// {report} or {failed}. Serves the page that was built in a folder, on a port of its own. `node driver.mjs CHROMIUM FOLDER`.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';
import * as scenes from './scenes.mjs';
import { Talk } from './talk.mjs';

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };
const FLAGS = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];
const MORE = ['--disable-component-update', '--disable-sync', '--no-sandbox'];
const [program, folder] = process.argv.slice(2);

const server = createServer(async (request, response) => {
  const path = new URL(request.url, 'http://x').pathname;
  const name = path === '/' ? '/index.html' : path;
  try {
    const content = await readFile(join(folder, name));
    response.writeHead(200, { 'content-type': TYPES[extname(name)] ?? 'text/plain' }).end(content);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const site = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({ executablePath: program, headless: true, args: [...FLAGS, ...MORE] });

async function play({ scene, hook, place }) {
  const context = await browser.newContext();
  const faults = [];
  let talk;
  try {
    talk = await Talk.begin(context, site, place, hook);
    talk.page.on('pageerror', (error) => faults.push(String(error)));
    const told = await scenes[scene](talk);
    return { report: { ...told, thread: talk.state?.thread, requests: talk.requests, faults } };
  } catch (error) {
    return { failed: `${error.stack ?? error} ${faults.join(' ')}` };
  } finally {
    await context.close();
    await talk?.openGates();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await play(JSON.parse(line))));
}
await browser.close();
server.close();
