import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, streamText } from 'ai';
import { baseURL, key, plain, print, rejection } from './session.mjs';

const provider = createOpenAICompatible({ name: 'runwire', baseURL, apiKey: key });

async function parts(model, prompt) {
  const errors = [];
  const seen = [];
  const result = streamText({ model: provider(model), prompt, maxRetries: 0, onError: ({ error }) => errors.push(plain(error)) });
  for await (const part of result.fullStream) seen.push({ type: part.type, text: part.text, finish: part.finishReason });
  return { seen, errors };
}

print({
  late: await parts('actor', 'say Hello\nfail'),
  early: await parts('actor', 'fail'),
  model: await rejection(generateText({ model: provider('nobody'), prompt: 'x', maxRetries: 0 })),
});
