// The event protocol: `client.threads.stream`, which the kept-up line alone has. The last argument is the transport.
import { randomUUID } from 'node:crypto';
import { client, Gate, says } from './langgraph.mjs';
import { print } from './session.mjs';

const transport = process.argv[6];
const report = {};

async function talk(assistantId, input, channels, until) {
  const stream = client.threads.stream(randomUUID(), { assistantId, transport });
  const heard = await stream.subscribe(channels);
  const events = [];
  const reading = (async () => {
    for await (const event of heard) {
      events.push(event);
      if (until(event)) return;
    }
  })();
  const started = await stream.submitRun({ input });
  await reading;
  return { stream, events, started };
}

const ended = (...words) => (event) => event.method === 'lifecycle' && event.params.namespace.length === 0 && words.includes(event.params.data.event);
const chat = await talk('chat', says('Hel !one lo'), ['lifecycle', 'messages', 'values', 'custom'], ended('completed'));
report.run = typeof chat.started.run_id;
report.methods = chat.events.map((event) => event.method);
report.pieces = chat.events.filter((event) => event.method === 'messages').map((event) => event.params.data.event);
report.text = chat.events.map((event) => event.params.data.delta?.text ?? '').join('');
report.rising = chat.events.every((event, i) => i === 0 || event.seq > chat.events[i - 1].seq);
await chat.stream.close();

const review = await talk('review', says('plan'), ['lifecycle', 'input'], ended('interrupted'));
const asked = review.events.find((event) => event.method === 'input.requested');
report.asked = asked.params.data.payload;
const values = await review.stream.subscribe(['values', 'lifecycle']);
await review.stream.respondInput({ namespace: [], interrupt_id: asked.params.data.interrupt_id, response: 'yes' });
let last;
for await (const event of values) {
  if (event.method === 'values') last = event.params.data;
  if (ended('completed')(event)) break;
}
report.answered = last.messages.map((message) => (typeof message.content === 'string' ? message.content : message.content.map((block) => block.text).join('')));
await review.stream.close();

const failed = await talk('breaks', { n: 0, log: [] }, ['lifecycle'], ended('failed'));
report.failed = failed.events.at(-1).params.data.error;
await failed.stream.close();
print(report);
process.exit(0);
