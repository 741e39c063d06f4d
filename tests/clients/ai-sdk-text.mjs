import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, Output, jsonSchema, streamText } from 'ai';
import { baseURL, key, person, print } from './session.mjs';

const provider = createOpenAICompatible({ name: 'runwire', baseURL, apiKey: key, includeUsage: true, supportsStructuredOutputs: true });
const result = streamText({
  model: provider('actor'),
  prompt: 'think Hm\nsay Hel lo\nusage 3 2\nusage 4 1',
  headers: { 'X-Thread-Id': 'thread-in-a-header' },
});
const parts = [];
for await (const part of result.fullStream) parts.push(part);
const whole = await generateText({
  model: provider('actor'),
  prompt: 'think Hm\nsay Hello\nusage 3 2',
  providerOptions: { runwire: { runwire: { thread_id: 'thread-in-the-body' } } },
});
const structured = await generateText({ model: provider('gpt'), prompt: 'Who?', output: Output.object({ schema: jsonSchema(person) }) });
print({
  types: parts.map((part) => part.type),
  text: await result.text,
  reasoning: await result.reasoningText,
  finish: await result.finishReason,
  usage: await result.usage,
  headers: (await result.response).headers,
  whole: { text: whole.text, reasoning: whole.reasoningText, usage: whole.usage, headers: whole.response.headers },
  structured: structured.output,
});
