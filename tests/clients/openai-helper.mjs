// `.stream()`: the strictest reader of chunks; it throws where the role, a finish reason or `choices` is missing.
import OpenAI from 'openai';
import { baseURL, key, print } from './session.mjs';

const client = new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
const tool = { type: 'function', function: { name: 'weather', parameters: { type: 'object' } } };

async function report(content, tools) {
  const events = [];
  const stream = client.chat.completions.stream({ model: 'actor', messages: [{ role: 'user', content }], ...(tools && { tools }) });
  for (const name of ['connect', 'chunk', 'content.delta', 'content.done', 'tool_calls.function.arguments.delta', 'tool_calls.function.arguments.done', 'finalChatCompletion', 'end'])
    stream.on(name, () => events.push(name));
  const completion = await stream.finalChatCompletion();
  return { completion, events: [...new Set(events)] };
}

print({ text: await report('say Hel lo'), call: await report('client weather {"city": "Bonn"}', [tool]) });
