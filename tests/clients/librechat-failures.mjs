import { HumanMessage } from '@librechat/agents/langchain/messages';
import { config, engine } from './librechat.mjs';
import { print, rejection } from './session.mjs';

const ask = async (model, text) => rejection((await engine(model)).processStream({ messages: [new HumanMessage(text)] }, config));
print({ early: await ask('actor', 'fail'), late: await ask('actor', 'say Hello\nfail'), model: await ask('nobody', 'x') });
