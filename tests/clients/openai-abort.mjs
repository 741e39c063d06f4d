// Leaves a run that never ends: in mid stream, by leaving the loop, before the first word, and while it waits for a whole answer.
import OpenAI from 'openai';
import { baseURL, key, print, rejection, told } from './session.mjs';

const how = process.argv[3];
const client = new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
const control = new AbortController();
const asking = client.chat.completions.create(
  { model: 'actor', messages: [{ role: 'user', content: how === 'stream' || how === 'break' ? 'say Hello\nwait' : 'wait' }], stream: how !== 'whole' },
  { signal: control.signal },
);

async function read() {
  let text = '';
  for await (const chunk of await asking) {
    text += chunk.choices[0]?.delta?.content ?? '';
    if (text && how === 'break') break;
    if (text) control.abort();
  }
  return text;
}

if (how === 'stream' || how === 'break') {
  print({ text: await read() });
} else {
  const failed = rejection(how === 'whole' ? asking : read());
  await told();
  control.abort();
  print(await failed);
}
