// `useStream` of `@langchain/react`, over the event protocol.
import { useChannel, useMessageMetadata, useStream } from '@langchain/react';
import { useState } from 'react';
import { human, Row, View } from './view.jsx';

function Forkable({ stream, message }) {
  const meta = useMessageMetadata(stream, message.id);

  /** The checkpoint before this message: the hook knows it after a reload, else the history tells. */
  async function before() {
    if (message.getType() === 'ai' && meta?.parentCheckpointId) return meta.parentCheckpointId;
    const states = await stream.client.threads.getHistory(stream.threadId, { limit: 20 });
    const first = states.findLast((state) => state.values.messages?.some(({ id }) => id === message.id));
    return first.parent_checkpoint.checkpoint_id;
  }

  const from = async (input) => stream.submit(input, { forkFrom: await before() });
  return (
    <Row
      message={message}
      onAgain={() => from(null)}
      onEdit={() => from(human(document.querySelector('[data-testid=text]').value))}
    />
  );
}

/** A browser's WebSocket sends no headers: its key goes as a protocol, and that of all other requests past the hook. */
function overSocket({ apiKey, ...settings }) {
  const authorized = (url, init) => fetch(url, { ...init, headers: { ...init?.headers, 'x-api-key': apiKey } });
  const webSocketFactory = (url) => new WebSocket(url, [`x-api-key.${apiKey}`]);
  return { ...settings, webSocketFactory, callerOptions: { fetch: authorized } };
}

export function Events({ settings }) {
  const [given] = useState(() => (settings.transport === 'websocket' && settings.apiKey ? overSocket(settings) : settings));
  const stream = useStream({ ...given, threadId: settings.threadId });
  const events = useChannel(stream, ['custom']);
  return (
    <View
      stream={stream}
      rows={stream.messages.map((message, index) => (
        <Forkable key={message.id ?? index} stream={stream} message={message} />
      ))}
      custom={events.map((event) => event.params.data)}
      onSend={(text) => stream.submit(human(text))}
      onResume={(text) => stream.respond(text, { interruptId: stream.interrupt.id })}
      onResumeAll={(answers) => stream.respondAll(answers)}
    />
  );
}
