// How LibreChat calls its engine for a custom endpoint.
import { Providers, Run } from '@librechat/agents';
import { baseURL, key } from './session.mjs';

export const conversation = crypto.randomUUID();
export const configuration = { baseURL, defaultHeaders: { 'X-Thread-Id': conversation } };
export const config = { configurable: { thread_id: conversation }, streamMode: 'values', version: 'v2' };

export function engine(model, more = {}, customHandlers = {}) {
  const llmConfig = { provider: Providers.OPENAI, model, apiKey: key, streaming: true, streamUsage: true, user: 'user-1', maxRetries: 0, configuration };
  return Run.create({
    runId: crypto.randomUUID(),
    graphConfig: { type: 'standard', llmConfig, instructions: 'You are terse.', ...more },
    returnContent: true,
    customHandlers,
  });
}
