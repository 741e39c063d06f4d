// Threads and their state, from a thread's making to its end.
import { randomUUID } from 'node:crypto';
import { client, says, status, texts, unknown } from './langgraph.mjs';
import { print } from './session.mjs';

const { threads, runs } = client;
const mark = randomUUID();
const id = randomUUID();
const made = await threads.create({ threadId: id, metadata: { mark }, graphId: 'chat' });
const report = {
  made: { id: made.thread_id === id, status: made.status, graph: made.metadata.graph_id },
  twice: await status(threads.create({ threadId: id })),
  again: (await threads.create({ threadId: id, ifExists: 'do_nothing' })).metadata.mark === mark,
  empty: await threads.getState(id).then((state) => ({ values: state.values, next: state.next, checkpoint: state.checkpoint })),
  unknown: await status(threads.get(unknown)),
  malformed: await status(threads.get('nonsense')),
};
await runs.wait(id, 'chat', { input: says('one') });
await runs.wait(id, 'chat', { input: says('two') });
const states = await threads.getHistory(id);
const state = await threads.getState(id);
const first = states.find((each) => each.values.messages.length === 2);
const thread = await threads.get(id);
Object.assign(report, {
  thread: { status: thread.status, texts: texts(thread.values), graph: thread.metadata.graph_id },
  state: { texts: texts(state.values), next: state.next, step: state.metadata.step, source: state.metadata.source },
  history: states.map((each) => [each.metadata.step, each.metadata.source, each.next]),
  chained: states.slice(0, -1).every((each, i) => each.parent_checkpoint.checkpoint_id === states[i + 1].checkpoint.checkpoint_id),
  root: states.at(-1).parent_checkpoint,
  limited: (await threads.getHistory(id, { limit: 2 })).length,
  before: (await threads.getHistory(id, { before: { configurable: { checkpoint_id: first.checkpoint.checkpoint_id } } })).length,
  loops: (await threads.getHistory(id, { metadata: { source: 'loop' } })).length,
  there: texts((await threads.getState(id, first.checkpoint)).values),
  byId: texts((await threads.getState(id, first.checkpoint.checkpoint_id)).values),
});
const forked = await threads.updateState(id, { values: says('put in'), asNode: 'speak' });
report.put = { texts: texts((await threads.getState(id)).values), checkpoint: typeof forked.configurable?.checkpoint_id };
report.nowhere = await status(threads.updateState(id, { values: {}, asNode: 'nobody' }));
const fork = await runs.wait(id, 'chat', { input: says('fork'), checkpointId: first.checkpoint.checkpoint_id });
report.fork = texts(fork);
const copy = await threads.copy(id);
report.copy = { other: copy.thread_id !== id, mark: copy.metadata.mark === mark, texts: texts((await threads.getState(copy.thread_id)).values) };
const changed = await threads.update(id, { metadata: { mark, more: 1 } });
report.changed = changed.metadata.more;
const found = await threads.search({ metadata: { mark }, limit: 10 });
report.found = { both: found.length, ids: (await threads.search({ ids: [id] })).length, idle: (await threads.search({ metadata: { mark }, status: 'idle' })).length };
report.page = (await threads.search({ metadata: { mark }, limit: 1, offset: 1 })).length;
report.picked = Object.keys((await threads.search({ ids: [id], select: ['thread_id', 'status'] }))[0]).sort();
report.count = await threads.count({ metadata: { mark } });
if (threads.prune) report.pruned = (await threads.prune([copy.thread_id], { strategy: 'delete' })).pruned_count;
else await threads.delete(copy.thread_id);
await threads.delete(id);
report.deleted = await Promise.all([id, copy.thread_id].map((each) => status(threads.get(each))));
const puts = [
  { values: says('put'), asNode: '__input__' },
  { values: { messages: [{ role: 'ai', content: 'said' }] }, asNode: 'speak' },
];
const steps = await threads.create({ graphId: 'chat', supersteps: puts.map((update) => ({ updates: [update] })) });
report.steps = texts((await threads.getState(steps.thread_id)).values);
print(report);
