// What the scripts of LangGraph's client share: `node langgraph-SCRIPT.mjs URL KEY GATES LINE`. LINE is the line of
// the SDK: `1`, the one that is kept up, or `2`.
import { randomUUID } from 'node:crypto';
import { existsSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { plain } from './session.mjs';

export const [url, key, gates, line] = process.argv.slice(2);
export const { Client } = await import(line === '2' ? 'langgraph-sdk-2' : '@langchain/langgraph-sdk');
export const client = new Client({ apiUrl: url, apiKey: key || null, callerOptions: { maxRetries: 0 } });

export const says = (content) => ({ messages: [{ role: 'user', content }] });
export const texts = (values) => values.messages.map((message) => message.content);
export const unknown = '00000000-0000-7000-8000-000000000000';

/** What a call was refused with: its status. */
export async function status(promise) {
  try {
    await promise;
    return 'fine';
  } catch (error) {
    return plain(error).status ?? plain(error).message;
  }
}

export async function read(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

/** A gate for graphs to wait at. */
export class Gate {
  name = randomUUID();
  word = `@${this.name}`;

  open() {
    writeFileSync(join(gates, this.name), '');
  }

  /** Waits until a graph has come to it, or was cancelled there. */
  async once(what = 'reached') {
    const file = join(gates, `${this.name}.${what}`);
    const watcher = watch(gates);
    while (!existsSync(file)) await new Promise((resolve) => watcher.once('change', resolve));
    watcher.close();
  }
}

/** A run that waits at a gate, begun. */
export async function begun(thread, more = {}) {
  const gate = new Gate();
  const run = await client.runs.create(thread, 'chat', { input: says(`Hel ${gate.word} lo`), ...more });
  await gate.once();
  return { gate, run };
}
