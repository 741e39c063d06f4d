// Runs in the background, their ends, and how they push each other aside.
import { begun, client, Gate, says, status, texts, unknown } from './langgraph.mjs';
import { print } from './session.mjs';

const { threads, runs } = client;
const fresh = async () => (await threads.create()).thread_id;
const report = {};

let id = await fresh();
const first = await runs.create(id, 'chat', { input: says('one'), metadata: { mine: 1 } });
report.first = { status: first.status, thread: first.thread_id === id, mine: first.metadata.mine };
report.joined = texts(await runs.join(id, first.run_id));
report.got = (await runs.get(id, first.run_id)).status;
report.listed = (await runs.list(id, { limit: 5 })).map((run) => run.status);
report.none = (await runs.list(id, { status: 'error' })).length;
report.unknown = [await status(runs.get(id, unknown)), await status(runs.list(unknown)), await status(runs.create(unknown, 'chat', {}))];
report.nobody = await status(runs.create(id, 'nobody', {}));
report.finished = await status(runs.cancel(id, first.run_id));
await runs.delete(id, first.run_id);
report.deleted = await status(runs.get(id, first.run_id));

for (const [wait, action] of [[false, 'interrupt'], [true, 'interrupt'], [true, 'rollback']]) {
  id = await fresh();
  const { gate, run } = await begun(id);
  await runs.cancel(id, run.run_id, wait, action);
  await gate.once('cancelled');
  await status(runs.join(id, run.run_id));
  report[`${action} ${wait}`] = {
    run: await runs.get(id, run.run_id).then((kept) => kept.status, (error) => error.status),
    free: (await threads.get(id)).status !== 'busy',
    values: (await threads.getState(id)).values.messages?.length ?? 0,
  };
}

id = await fresh();
let { gate, run } = await begun(id);
report.busy = (await threads.get(id)).status;
report.refused = await status(runs.create(id, 'chat', { input: says('no'), multitaskStrategy: 'reject' }));
const queued = await runs.create(id, 'chat', { input: says('two'), multitaskStrategy: 'enqueue' });
report.queued = (await runs.get(id, queued.run_id)).status;
gate.open();
report.after = texts(await runs.join(id, queued.run_id));

for (const strategy of ['interrupt', 'rollback']) {
  id = await fresh();
  ({ gate, run } = await begun(id));
  const second = await runs.wait(id, 'chat', { input: says('two'), multitaskStrategy: strategy });
  await gate.once('cancelled');
  report[strategy] = { old: await runs.get(id, run.run_id).then((kept) => kept.status, (error) => error.status), texts: texts(second).filter((text) => !text.includes('@')) };
}

const failed = await fresh();
report.failed = await runs.wait(failed, 'breaks', { input: { n: 0, log: [] }, raiseError: false });
report.raised = await status(runs.wait(await fresh(), 'breaks', { input: { n: 0, log: [] } }));
report.failedThread = (await threads.get(failed)).status;

id = await fresh();
const asked = await runs.wait(id, 'review', { input: says('plan') });
report.asked = { question: asked.__interrupt__.map((one) => one.value), thread: (await threads.get(id)).status, next: (await threads.getState(id)).next };
report.answered = texts(await runs.wait(id, 'review', { command: { resume: 'yes' } }));
id = await fresh();
const many = (await runs.wait(id, 'many', { input: { answers: [] } })).__interrupt__;
report.many = many.map((one) => one.value).sort();
report.manyAnswered = (await runs.wait(id, 'many', { command: { resume: Object.fromEntries(many.map((one) => [one.id, `to ${one.value}`])) } })).answers.sort();

report.stateless = texts(await runs.wait(null, 'chat', { input: says('alone') }));
const batch = await runs.createBatch([{ assistantId: 'chat', input: says('one') }, { assistantId: 'count', input: { n: 0, log: [] } }]);
report.batch = batch.map((each) => each.status);
id = await fresh();
const later = await runs.create(id, 'chat', { input: says('later'), afterSeconds: 3600 });
report.later = (await runs.get(id, later.run_id)).status;
if (runs.cancelMany) {
  await runs.cancelMany({ threadId: id, runIds: [later.run_id] });
  report.laterCancelled = (await runs.get(id, later.run_id)).status;
}
print(report);
