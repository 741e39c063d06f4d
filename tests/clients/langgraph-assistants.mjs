// Assistants: the ones of the server, and one of our own from its making to its end.
import { client, status, unknown } from './langgraph.mjs';
import { print } from './session.mjs';

const { assistants } = client;
const [own] = await assistants.search({ graphId: 'looks', metadata: { created_by: 'system' } });
const made = await assistants.create({ graphId: 'looks', name: 'mine', context: { tone: 'dry' }, metadata: { mine: 'node' } });
const id = made.assistant_id;
const page = await assistants.search({ limit: 2, offset: 0, includePagination: true });
const report = {
  own: { name: own.name, graph: own.graph_id, version: own.version },
  got: (await assistants.get(id)).context,
  found: (await assistants.search({ metadata: { mine: 'node' } })).map((one) => one.name),
  count: await assistants.count({ metadata: { mine: 'node' } }),
  page: { size: page.assistants.length, next: page.next },
  graph: (await assistants.getGraph(id)).nodes.map((node) => node.id),
  schemas: Object.keys(await assistants.getSchemas(id)).sort(),
  context: (await assistants.getSchemas(id)).context_schema?.properties,
  subgraphs: await assistants.getSubgraphs((await assistants.search({ graphId: 'nested' }))[0].assistant_id, { recurse: true }).then(Object.keys),
  twice: await status(assistants.create({ graphId: 'looks', assistantId: id })),
  again: (await assistants.create({ graphId: 'looks', assistantId: id, ifExists: 'do_nothing' })).assistant_id === id,
  unknown: await status(assistants.get(unknown)),
  nothing: await status(assistants.create({ graphId: 'nobody' })),
};
const changed = await assistants.update(id, { name: 'ours', context: { tone: 'wet' } });
report.changed = { name: changed.name, version: changed.version };
report.versions = (await assistants.getVersions(id)).map((version) => version.version);
report.seen = (await client.runs.wait(null, id, { input: {} })).tone;
const latest = await assistants.setLatest(id, 1);
report.latest = { name: latest.name, version: latest.version };
report.seenThen = (await client.runs.wait(null, id, { input: {} })).tone;
await assistants.delete(id);
report.deleted = await status(assistants.get(id));
print(report);
