// Streams: modes, who joins, who comes back, and the end of them.
import { begun, client, Gate, read, says, status } from './langgraph.mjs';
import { print } from './session.mjs';

const { threads, runs } = client;
const report = {};
const names = (events) => events.map((event) => event.event);
const tokens = (events) => events.filter((event) => event.event === 'messages').map((event) => event.data[0].content).join('');

let id = (await threads.create()).thread_id;
let created;
const modes = ['values', 'updates', 'messages-tuple', 'custom'];
const all = await read(runs.stream(id, 'chat', { input: says('Hel !one lo'), streamMode: modes, streamResumable: true, onRunCreated: (run) => (created = run) }));
report.all = { names: names(all), tokens: tokens(all), run: all[0].data.run_id === created.run_id, thread: created.thread_id === id };
report.status = (await runs.get(id, created.run_id)).status;
report.again = names(await read(runs.joinStream(id, created.run_id, { lastEventId: '-1' })));
report.rest = names(await read(runs.joinStream(id, created.run_id, { lastEventId: all[1].id })));
report.ids = new Set(all.slice(1).map((event) => event.id)).size === all.length - 1;

const { gate, run } = await begun(id, { streamMode: ['messages-tuple', 'values'], streamResumable: true });
const listeners = [1, 2].map(() => read(runs.joinStream(id, run.run_id, { lastEventId: '-1' })));
const chosen = read(runs.joinStream(id, run.run_id, { lastEventId: '-1', streamMode: ['values'] }));
gate.open();
report.joined = (await Promise.all(listeners)).map(tokens);
report.chosen = [...new Set(names(await chosen))];

report.nested = [...new Set(names(await read(runs.stream(null, 'nested', { input: says('a b'), streamMode: ['values', 'messages-tuple'], streamSubgraphs: true }))).map((name) => name.split(':')[0]))].sort();
report.stateless = tokens(await read(runs.stream(null, 'chat', { input: says('a b'), streamMode: 'messages-tuple' })));
report.failure = await read(runs.stream(null, 'breaks', { input: { n: 0, log: [] }, streamMode: 'updates' })).then((events) => [events.at(-1).event, events.at(-1).data]);
report.nobody = await status(read(runs.stream(null, 'nobody', { input: {} })));

// A client that goes away on purpose ends the run.
id = (await threads.create()).thread_id;
const silent = new Gate();
const control = new AbortController();
const leaving = read(runs.stream(id, 'chat', { input: says(`Hel ${silent.word}`), streamMode: 'values', onDisconnect: 'cancel', signal: control.signal }));
await silent.once();
control.abort();
await status(leaving);
await silent.once('cancelled');
report.left = await left(id);

async function left(thread) {
  const [kept] = await runs.list(thread);
  await status(runs.join(thread, kept.run_id));
  return (await runs.get(thread, kept.run_id)).status;
}

// All runs of a thread in one stream, for as long as one listens.
id = (await threads.create()).thread_id;
const hearing = new AbortController();
const heard = [];
const thread = (async () => {
  for await (const event of threads.joinStream(id, { signal: hearing.signal, streamMode: 'run_modes', lastEventId: '-' })) {
    heard.push(event);
    if (heard.filter((each) => each.data?.status === 'run_done').length === 2) return;
  }
})();
for (const text of ['one', 'two']) await runs.wait(id, 'chat', { input: says(text), streamMode: ['values'], streamResumable: true });
await thread;
hearing.abort();
report.thread = heard.map((event) => event.data.status ?? event.event);
print(report);
