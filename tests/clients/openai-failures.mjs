import OpenAI from 'openai';
import { baseURL, key, print, rejection } from './session.mjs';

const client = new OpenAI({ baseURL, apiKey: key, maxRetries: 2 });
const ask = (model, content, more) => client.chat.completions.create({ model, messages: [{ role: 'user', content }], ...more });

async function read(stream, seen = '') {
  try {
    for await (const chunk of await stream) seen += chunk.choices[0].delta.content ?? '';
  } catch (error) {
    return { seen, code: error.code, message: error.message };
  }
  return { seen };
}

print({
  model: await rejection(ask('nobody', 'x')),
  key: await rejection(new OpenAI({ baseURL, apiKey: 'sk-wrong' }).models.list()),
  field: await rejection(ask('actor', 'x', { temperature: 'hot' })),
  early: await rejection(ask('actor', 'fail', { stream: true })),
  whole: await rejection(ask('actor', 'say Hello\nfail')),
  late: await read(ask('actor', 'say Hello\nfail', { stream: true })),
});
