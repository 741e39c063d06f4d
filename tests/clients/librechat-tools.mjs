import { HumanMessage } from '@librechat/agents/langchain/messages';
import { tool } from '@librechat/agents/langchain/tools';
import { config, engine } from './librechat.mjs';
import { print } from './session.mjs';

const asked = [];
const schema = { type: 'object', properties: { city: { type: 'string' } } };
const weather = tool(async (input) => (asked.push(input), 'sunny'), { name: 'weather', description: 'Tells the weather.', schema });
const run = await engine('gpt', { tools: [weather] });
const content = await run.processStream({ messages: [new HumanMessage('use the tool')] }, config);
print({ asked, content });
