import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { jsonSchema, stepCountIs, streamText, tool } from 'ai';
import { baseURL, key, print } from './session.mjs';

const provider = createOpenAICompatible({ name: 'runwire', baseURL, apiKey: key });
const asked = [];
const weather = tool({
  description: 'Tells the weather.',
  inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string' } } }),
  execute: async (input) => (asked.push(input), 'sunny'),
});
const result = streamText({ model: provider('gpt'), prompt: 'use the tool', tools: { weather }, stopWhen: stepCountIs(3) });
await result.consumeStream();
const steps = await result.steps;
print({ asked, text: await result.text, finish: steps.map((step) => step.finishReason) });
