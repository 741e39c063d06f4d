import { HumanMessage } from '@librechat/agents/langchain/messages';
import { config, engine } from './librechat.mjs';
import { print, rejection, told } from './session.mjs';

const control = new AbortController();
const run = await engine('actor');
const reading = rejection(run.processStream({ messages: [new HumanMessage('wait')] }, { ...config, signal: control.signal }));
await told();
control.abort();
print(await reading);
