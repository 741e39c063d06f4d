import OpenAI from 'openai';
import { baseURL, key, print } from './session.mjs';

const client = new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
const { data: stream, response } = await client.chat.completions
  .create(
    {
      model: 'actor',
      messages: [{ role: 'user', content: 'think Hm\nsay Hel lo\nusage 3 2\nusage 4 1' }],
      stream: true,
      stream_options: { include_usage: true },
    },
    { headers: { 'X-Thread-Id': 'thread-of-node' } },
  )
  .withResponse();
const chunks = [];
for await (const chunk of stream) chunks.push(chunk);
const choices = chunks.flatMap((chunk) => chunk.choices);
print({
  role: choices[0].delta.role,
  text: choices.map((choice) => choice.delta.content ?? '').join(''),
  reasoning: choices.map((choice) => choice.delta.reasoning_content ?? '').join(''),
  finish: choices.map((choice) => choice.finish_reason).filter(Boolean),
  usage: chunks.at(-1).usage,
  ids: [...new Set(chunks.map((chunk) => chunk.id))],
  headers: Object.fromEntries(response.headers),
});
