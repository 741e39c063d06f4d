import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { streamText } from 'ai';
import { baseURL, key, print, told } from './session.mjs';

const how = process.argv[3];
const control = new AbortController();
const provider = createOpenAICompatible({ name: 'runwire', baseURL, apiKey: key });
const result = streamText({
  model: provider('actor'),
  prompt: how === 'stream' ? 'say Hello\nwait' : 'wait',
  abortSignal: control.signal,
  maxRetries: 0,
  onError: () => {},
});
const types = [];
const reading = (async () => {
  for await (const part of result.fullStream) {
    types.push(part.type);
    if (part.type === 'text-delta') control.abort();
  }
})();
if (how === 'silence') {
  await told();
  control.abort();
}
await reading;
print({ types });
