// `.runTools()`: the SDK's own loop, streamed and whole.
import OpenAI from 'openai';
import { baseURL, key, print } from './session.mjs';

const client = new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });

async function loop(stream) {
  const asked = [];
  const runner = client.chat.completions.runTools({
    model: 'gpt',
    stream,
    messages: [{ role: 'user', content: 'use the tool' }],
    tools: [
      {
        type: 'function',
        function: {
          name: 'weather',
          description: 'Tells the weather.',
          parameters: { type: 'object', properties: { city: { type: 'string' } } },
          parse: JSON.parse,
          function: (args) => (asked.push(args), 'sunny'),
        },
      },
    ],
  });
  const content = await runner.finalContent();
  return { asked, content, roles: runner.messages.map((message) => message.role) };
}

print({ streamed: await loop(true), whole: await loop(false) });
