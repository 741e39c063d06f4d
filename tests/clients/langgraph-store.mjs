// The store, and what a graph keeps there.
import { randomUUID } from 'node:crypto';
import { client, status } from './langgraph.mjs';
import { print } from './session.mjs';

const { store } = client;
const root = randomUUID();
const found = async (...asked) => (await store.searchItems(...asked)).items.map((item) => item.key).sort();
await store.putItem([root, 'a'], 'one', { kind: 'x', n: 1 });
await store.putItem([root, 'a'], 'two', { kind: 'y' });
await store.putItem([root, 'b'], 'three', { kind: 'x' });
const item = await store.getItem([root, 'a'], 'one');
const report = {
  item: { value: item.value, namespace: item.namespace.slice(1), key: item.key, created: typeof item.createdAt },
  absent: (await store.getItem([root, 'a'], 'none')) ?? null,
  all: await found([root]),
  some: await found([root, 'a']),
  filtered: await found([root], { filter: { kind: 'x' } }),
  page: await found([root], { limit: 1, offset: 2 }).then((keys) => keys.length),
  namespaces: (await store.listNamespaces({ prefix: [root] })).namespaces.map((each) => each.slice(1)).sort(),
  shallow: (await store.listNamespaces({ prefix: [root], maxDepth: 1 })).namespaces.length,
  ending: (await store.listNamespaces({ suffix: ['b'], prefix: [root] })).namespaces.length,
  dotted: await status(store.putItem(['a.b'], 'key', {})),
};
await store.putItem([root, 'a'], 'one', { kind: 'z' });
report.over = (await store.getItem([root, 'a'], 'one')).value;
await store.deleteItem([root, 'a'], 'one');
report.left = await found([root]);
report.graph = (await client.runs.wait(null, 'looks', { input: {} })).kept.length;
report.seen = (await store.getItem(['graph', 'notes'], 'one')).value;
print(report);
