// A client of the workflow dialect that is as strict as the strictest of ModelRelay's SDKs in every point (TypeScript
// about fields, Rust about ids, enums, integers and pieces of a stream, Go about scopes and the form of errors), for
// none of them can be installed. `node workflows.mjs URL KEY SCENE` prints what it saw; anything odd is an error.

import { print } from './session.mjs';

const [, , url, key, scene] = process.argv;
const base = `${url}/api/v1`;

class Odd extends Error {}

function must(holds, what) {
  if (!holds) throw new Odd(what);
}

// Shapes: each takes a value and throws. `fields` is closed: no other key, and no null for what may be absent.

const text = (value) => must(typeof value === 'string', `no text: ${value}`);
const said = (value) => must(typeof value === 'string' && value.length > 0, `no words: ${value}`);
const flag = (value) => must(typeof value === 'boolean', `no flag: ${value}`);
const count = (value) => must(Number.isSafeInteger(value) && value >= 0, `no count: ${value}`);
const positive = (value) => must(Number.isSafeInteger(value) && value > 0, `no number from 1: ${value}`);
const is = (...words) => (value) => must(words.includes(value), `${value} is none of ${words}`);
const like = (pattern) => (value) => must(typeof value === 'string' && pattern.test(value), `${value} is not ${pattern}`);
const list = (shape, least = 0) => (value) => {
  must(Array.isArray(value) && value.length >= least, `no list of ${least}: ${value}`);
  value.forEach(shape);
};
const fields = (required, optional = {}) => (value) => {
  must(value !== null && typeof value === 'object' && !Array.isArray(value), `no object: ${value}`);
  for (const name of Object.keys(required)) must(name in value, `\`${name}\` is missing`);
  for (const [name, inner] of Object.entries(value)) {
    const shape = required[name] ?? optional[name];
    must(Object.hasOwn({ ...required, ...optional }, name), `\`${name}\` is unknown`);
    must(inner !== null, `\`${name}\` is null`);
    shape(inner);
  }
};
const anything = () => {};

const uuid = (value) => {
  like(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)(value);
  must(/[1-9a-f]/.test(value), 'the nil UUID');
};
const nodeId = like(/^[a-z][a-z0-9_]{0,63}$/);
const hash = like(/^[0-9a-f]{64}$/);
const moment = (value) => {
  like(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/)(value);
  must(Date.parse(value) > 0, `no moment: ${value}`);
};
const toolId = like(/^[^]{1,256}$/);
const provider = is('anthropic', 'openai', 'xai', 'google-ai-studio');
const model = like(/^[^]{1,128}$/);

const asked = { step: count, request_id: uuid };
const call = fields({ id: toolId, name: said, arguments: text });
const problem = fields({ message: said }, { code: said });
const pending = list(fields({ tool_call: call }), 1);
const usage = fields({}, { input_tokens: count, output_tokens: count, total_tokens: count });
const artifact = (name) =>
  fields({ artifact_key: is(name), info: fields({ bytes: count, sha256: hash, included: is(false) }) });
const llmCall = fields(asked, { provider, model, response_id: text, stop_reason: text, usage });
const kinds = ['message_start', 'message_delta', 'message_stop', 'tool_use_start', 'tool_use_delta', 'tool_use_stop'];
const result = { ...asked, tool_call: fields({ id: toolId, name: said }, { arguments: text }), output: text };

const ofRuns = {
  run_compiled: {},
  run_started: {},
  run_completed: { outputs: artifact('run_outputs.v0') },
  run_failed: { error: problem },
  run_canceled: { error: problem },
};
const ofNodes = {
  node_started: {},
  node_output_delta: { delta: fields({ kind: is(...kinds) }, { text_delta: text, response_id: text, model: text }) },
  node_llm_call: { llm_call: llmCall },
  node_tool_call: { tool_call: fields({ ...asked, tool_call: call }) },
  node_user_ask: {
    user_ask: fields(
      { ...asked, tool_call: call, question: said, allow_freeform: flag },
      { options: list(fields({ label: said }, { description: text })) },
    ),
  },
  node_waiting: { waiting: fields({ ...asked, pending_tool_calls: pending, reason: is('tool_results') }) },
  node_user_answer: {
    user_answer: fields({
      ...asked,
      tool_call: fields({ id: toolId, name: said }),
      answer: like(/\S/),
      is_freeform: flag,
    }),
  },
  node_tool_result: { tool_result: fields(result, { error: text }) },
  node_output: { output: artifact('node_output.v0') },
  node_succeeded: {},
  node_failed: { error: problem },
};
const head = { envelope_version: is('v2'), run_id: uuid, seq: positive, ts: moment };

/** An event of its line. Numbers are looked at as they are written: for JSON.parse 1.0, 1e0 and 1 are the same. */
export function parsed(line) {
  must(/^[\x20-\x7e]+$/.test(line), 'a line is ASCII');
  for (const [number] of line.replace(/"(?:[^"\\]|\\.)*"/g, '""').matchAll(/-?[0-9][0-9.eE+-]*/g)) {
    must(/^(0|[1-9][0-9]*)$/.test(number), `${number} is no whole number`);
    must(BigInt(number) <= BigInt(Number.MAX_SAFE_INTEGER), `${number} is too large`);
  }
  const event = JSON.parse(line);
  const own = Object.hasOwn(ofRuns, event.type)
    ? { plan_hash: hash, ...ofRuns[event.type] }
    : { node_id: nodeId, ...(ofNodes[event.type] ?? must(false, `no event: ${event.type}`)) };
  fields({ ...head, type: said, ...own })(event);
  return event;
}

/** The lines of a body, whatever it is cut into: each byte is decoded by itself, and a tail without an end is lost. */
async function* lines(pieces) {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let rest = '';
  for await (const piece of pieces) {
    for (const byte of piece) {
      const letter = decoder.decode(Uint8Array.of(byte));
      if (letter !== '\n') rest += letter;
      else {
        if (rest) yield rest;
        rest = '';
      }
    }
  }
  must(rest === '', 'the last line has no end');
}

/** Server-sent events as the standard reads them, however they are cut. */
async function* frames(pieces) {
  let event = '', data = [], id = '';
  for await (const line of split(pieces)) {
    if (line === '') {
      if (data.length) yield { event: event || 'message', data: data.join('\n'), id };
      [event, data] = ['', []];
      continue;
    }
    const [, field, value] = /^([^:]*)(?:: ?([^]*))?$/.exec(line);
    if (field === 'event') event = value;
    else if (field === 'data') data.push(value);
    else if (field === 'id') id = value;
    else must(field === '', `no field of an event: ${field}`);
  }
}

async function* split(pieces) {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let rest = '';
  for await (const piece of pieces) {
    rest += decoder.decode(piece, { stream: true });
    const found = rest.split(/\r\n|\r|\n/);
    rest = found.pop();
    yield* found;
  }
}

const wireError = fields(
  { error: said, code: said, message: said },
  { fields: list(fields({ field: said, message: said })), request_id: said, issues: list(anything, 1) },
);

async function ask(method, path, body, headers = {}) {
  const answer = await fetch(base + path, {
    method,
    headers: { 'x-modelrelay-api-key': key, 'x-modelrelay-client': 'test/1', 'content-type': 'application/json', ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  must(answer.headers.get('x-modelrelay-request-id'), 'an answer without an id');
  return answer;
}

async function told(method, path, body) {
  const answer = await ask(method, path, body);
  const found = await answer.json();
  if (answer.ok) return found;
  wireError(found);
  if (found.issues) {
    must(answer.status === 400, 'issues with another status');
    found.issues.forEach(fields({ code: said, path: like(/^\$/), message: said }));
  }
  return { refused: answer.status, ...found };
}

/** The events of a run as they come, numbered without a gap. */
async function* events(run, after = 0, query = '') {
  const answer = await ask('GET', `/runs/${run}/events?after_seq=${after}${query}`, undefined, {
    accept: 'application/x-ndjson',
  });
  must(answer.status === 200, `status ${answer.status}`);
  must(answer.headers.get('content-type').startsWith('application/x-ndjson'), 'another content type');
  let seen = after;
  for await (const line of lines(answer.body)) {
    const event = parsed(line);
    must(event.seq === ++seen, `${event.seq} follows ${seen - 1}`);
    must(event.run_id === run, 'of another run');
    yield event;
  }
}

const types = ['llm.responses', 'join.all', 'join.any', 'join.collect', 'transform.json', 'map.fanout'];
const snapshot = fields(
  {
    run_id: uuid,
    status: is('running', 'waiting', 'succeeded', 'failed', 'canceled'),
    plan_hash: hash,
    cost_summary: fields({
      total_usd_cents: count,
      line_items: list(
        fields({ provider_id: provider, model, requests: count, input_tokens: count, output_tokens: count, usd_cents: count }),
      ),
    }),
    nodes: list(
      fields(
        { id: nodeId, type: is(...types), status: is('pending', 'running', 'waiting', 'succeeded', 'failed', 'canceled') },
        { started_at: moment, ended_at: moment, output: fieldsOfAny, error: fields({ message: said }, { code: said, detail: anything }) },
      ),
    ),
    outputs: fieldsOfAny,
    summary: fields(
      Object.fromEntries(
        ['steps', 'llm_calls', 'tool_calls', 'input_tokens', 'output_tokens', 'cost_cents'].map((name) => [`total_${name}`, count]),
      ),
    ),
  },
  { steps: list(fields({ node_id: nodeId, steps: list(anything) })) },
);

function fieldsOfAny(value) {
  must(value !== null && typeof value === 'object' && !Array.isArray(value), `no object: ${value}`);
}

async function shown(run) {
  const found = await told('GET', `/runs/${run}`);
  snapshot(found);
  return found;
}

function spec(nodes, from = nodes.at(-1).id) {
  return { kind: 'workflow', model: 'actor', nodes, outputs: [{ name: 'result', from, pointer: '' }] };
}

async function started(...nodes) {
  const made = await told('POST', '/runs', { spec: spec(nodes), stream: true });
  fields({ run_id: uuid, status: is('running', 'waiting'), plan_hash: hash })(made);
  return made.run_id;
}

const look = { tools: [{ type: 'function', function: { name: 'look' } }], tool_execution: { mode: 'client' } };

const scenes = {
  /** Text of any script in pieces, read whole, from the middle on, and as server-sent events. */
  async text() {
    const run = await started({ id: 'a', type: 'llm', user: 'say Grüße 🎈 日本' }, { id: 'b', type: 'llm', user: 'say {{a}}' });
    const whole = [];
    for await (const event of events(run)) whole.push(event);
    const later = [];
    for await (const event of events(run, 3)) later.push(event);
    must(JSON.stringify(later) === JSON.stringify(whole.slice(3)), 'another log from the middle on');
    const pieces = [];
    const sse = await ask('GET', `/runs/${run}/events`, undefined, { accept: 'text/event-stream' });
    for await (const frame of frames(sse.body)) {
      const event = parsed(frame.data);
      must(frame.event === event.type && frame.id === String(event.seq), 'a frame of another event');
      pieces.push(event);
    }
    must(JSON.stringify(pieces) === JSON.stringify(whole), 'another log as server-sent events');
    const text = whole.map((event) => (event.node_id === 'a' && event.delta?.text_delta) || '').join('');
    return { types: whole.map((event) => event.type), text, snapshot: await shown(run) };
  },

  /** Tools are answered while one stream is read, as SDKs do it; the snapshot is final once the last event is seen. */
  async tools() {
    const run = await started({ id: 'a', type: 'llm', user: 'client look {}', ...look });
    const seen = [];
    let answered;
    for await (const event of events(run)) {
      seen.push(event.type);
      if (event.type !== 'node_waiting') continue;
      must((await shown(run)).status === 'waiting', 'a run that does not wait');
      if (answered) {
        await told('POST', `/runs/${run}/cancel`, {});
        continue;
      }
      const { step, request_id, pending_tool_calls } = event.waiting;
      const results = pending_tool_calls.map(({ tool_call }) => ({ tool_call, output: 'a tree' }));
      answered = await told('POST', `/runs/${run}/tool-results`, { node_id: event.node_id, step, request_id, results });
      fields({ accepted: count, status: is('running', 'waiting') })(answered);
    }
    return { types: seen, answered, snapshot: await shown(run) };
  },

  /** What is refused, and a run that fails. */
  async failures() {
    const run = await started({ id: 'a', type: 'llm', user: 'say x\nfail' }, { id: 'b', type: 'llm', user: '{{a}}' });
    const seen = [];
    for await (const event of events(run)) seen.push(event.type);
    return {
      types: seen,
      snapshot: await shown(run),
      issues: await told('POST', '/workflows/compile', { kind: 'workflow', nodes: [{ id: 'A', type: 'llm' }] }),
      missing: await told('GET', `/runs/${crypto.randomUUID()}`),
      input: await told('POST', '/runs', { spec: spec([{ id: 'a', type: 'llm', user: '{{who}}' }]) }),
    };
  },

  /** That the parser is strict: real lines, each spoilt in one way. Tells what it did not refuse. */
  async strict() {
    const run = await started({ id: 'a', type: 'llm', user: 'say Hi\nclient look {}', ...look });
    const known = {};
    for await (const event of events(run)) {
      known[event.type] ??= JSON.stringify(event);
      if (event.type === 'node_waiting') await told('POST', `/runs/${run}/cancel`, {});
    }
    const { node_started: node, run_started: started_, node_llm_call: called, node_output_delta: delta } = known;
    const spoilt = {
      'an extra key': node.replace('}', ',"x":1}'),
      'a null': node.replace('}', ',"plan_hash":null}'),
      'an extra key further down': called.replace('"step":', '"x":1,"step":'),
      'an unknown type': node.replace('node_started', 'task_list_updated'),
      'an unknown delta': delta.replace('message_start', 'ping'),
      'a request that is no UUID': called.replace(/"request_id":"[^"]+"/, '"request_id":"req-1"'),
      'the nil UUID': called.replace(/"request_id":"[^"]+"/, '"request_id":"00000000-0000-0000-0000-000000000000"'),
      'a node with capitals': node.replace('"node_id":"a"', '"node_id":"A"'),
      'a plan on a node': node.replace('"node_id"', `"plan_hash":"${'a'.repeat(64)}","node_id"`),
      'a node on a run': started_.replace('"plan_hash"', '"node_id":"a","plan_hash"'),
      'no version': node.replace('"envelope_version":"v2",', ''),
      'another provider': called.replace('"provider":"openai"', '"provider":"local"'),
      'a fraction': node.replace(/"seq":(\d+)/, '"seq":$1.0'),
      'an exponent': node.replace(/"seq":(\d+)/, '"seq":$1e0'),
      'more than a double holds': node.replace(/"seq":\d+/, '"seq":9007199254740993'),
      'a number as text': node.replace(/"seq":(\d+)/, '"seq":"$1"'),
      'no zone': node.replace(/Z"/, '"'),
      'the zero time': node.replace(/"ts":"[^"]+"/, '"ts":"0001-01-01T00:00:00Z"'),
      'letters beyond ASCII': node.replace('"a"', '"ä"'),
    };
    const passed = Object.entries(spoilt).filter(([, line]) => {
      try {
        parsed(line);
        return true;
      } catch (error) {
        return !(error instanceof Odd);
      }
    });
    const unchanged = Object.values(known).includes.bind(Object.values(known));
    return {
      spoilt: Object.keys(spoilt).length,
      passed: passed.map(([name]) => name),
      same: Object.entries(spoilt).filter(([, line]) => unchanged(line)).map(([name]) => name),
      whole: Object.values(known).map(parsed).length === Object.keys(known).length,
    };
  },
};

print(await scenes[scene]());
