import { HumanMessage } from '@librechat/agents/langchain/messages';
import { ChatModelStreamHandler, createContentAggregator, GraphEvents, ModelEndHandler } from '@librechat/agents';
import { config, conversation, engine } from './librechat.mjs';
import { print } from './session.mjs';

const usage = [];
const { contentParts, aggregateContent } = createContentAggregator();
const aggregate = { handle: (event, data) => aggregateContent({ event, data }) };
const run = await engine('actor', {}, {
  [GraphEvents.CHAT_MODEL_STREAM]: new ChatModelStreamHandler(),
  [GraphEvents.CHAT_MODEL_END]: new ModelEndHandler(usage),
  [GraphEvents.ON_RUN_STEP]: aggregate,
  [GraphEvents.ON_RUN_STEP_DELTA]: aggregate,
  [GraphEvents.ON_MESSAGE_DELTA]: aggregate,
  [GraphEvents.ON_REASONING_DELTA]: aggregate,
});
const content = await run.processStream({ messages: [new HumanMessage('think Hm\nsay Hel lo\nusage 3 2')] }, config);
print({ conversation, content, shown: contentParts, usage: usage.map(({ input_tokens, output_tokens }) => [input_tokens, output_tokens]) });
