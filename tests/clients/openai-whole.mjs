import OpenAI from 'openai';
import { baseURL, key, person, print } from './session.mjs';

const client = new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
const { data: answer, response, request_id: requestId } = await client.chat.completions
  .create({ model: 'actor', messages: [{ role: 'user', content: 'say Hello\nusage 3 2' }] })
  .withResponse();
const raw = await client.chat.completions.create({ model: 'actor', messages: [{ role: 'user', content: 'say Raw' }] }).asResponse();
const parsed = await client.chat.completions.parse({
  model: 'gpt',
  messages: [{ role: 'user', content: 'Who?' }],
  response_format: { type: 'json_schema', json_schema: { name: 'person', strict: true, schema: person } },
});
const models = [];
for await (const model of client.models.list()) models.push(model.id);
print({
  answer,
  requestId,
  headers: Object.fromEntries(response.headers),
  raw: { status: raw.status, body: await raw.json() },
  parsed: JSON.parse(parsed.choices[0].message.content),
  models,
  one: await client.models.retrieve('up/org/small'),
});
