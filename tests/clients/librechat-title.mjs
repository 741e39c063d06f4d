import { Providers } from '@librechat/agents';
import { configuration, engine } from './librechat.mjs';
import { key, print } from './session.mjs';

const run = await engine('gpt');
print(
  await run.generateTitle({
    provider: Providers.OPENAI,
    inputText: 'Hello',
    contentParts: [{ type: 'text', text: 'Hello to you.' }],
    titleMethod: process.argv[3],
    clientOptions: { model: 'gpt', apiKey: key, configuration, streaming: false, maxRetries: 0 },
    skipLanguage: true,
    chainOptions: {},
  }),
);
