import OpenAI from 'openai';
import { baseURL, key, print } from './session.mjs';

const client = new OpenAI({ baseURL, apiKey: key });
const stream = await client.chat.completions.create({ model: 'gpt', messages: [{ role: 'user', content: 'Hello' }], stream: true });
let text = '';
for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? '';
print({ text });
