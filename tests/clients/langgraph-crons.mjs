// Crons: of a thread and without one.
import { client, status, unknown, says } from './langgraph.mjs';
import { print } from './session.mjs';

const { crons, threads } = client;
const thread = (await threads.create()).thread_id;
const schedule = '0 3 1 1 *';
const own = await crons.createForThread(thread, 'chat', { schedule, input: says('a'), metadata: { mine: 1 } });
const free = await crons.create('chat', { schedule, input: says('b') });
const found = await crons.search({ threadId: thread });
const report = {
  own: { thread: own.thread_id === thread, schedule: own.schedule, next: typeof own.next_run_date },
  found: found.map((cron) => cron.cron_id === own.cron_id),
  count: await crons.count({ threadId: thread }),
  nonsense: await status(crons.create('chat', { schedule: 'often' })),
  unknown: await status(crons.delete(unknown)),
};
const changed = await crons.update(free.cron_id, { schedule: '0 4 1 1 *', enabled: false });
report.changed = { schedule: changed.schedule, enabled: changed.enabled };
for (const cron of [own, free]) await crons.delete(cron.cron_id);
report.left = (await crons.search({ threadId: thread })).length;
print(report);
