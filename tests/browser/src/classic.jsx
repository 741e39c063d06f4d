// `useStream` of `@langchain/langgraph-sdk/react`, over the endpoints of runs and threads.
import { useStream } from '@langchain/langgraph-sdk/react';
import { useState } from 'react';
import { human, Row, View } from './view.jsx';

export function Classic({ settings }) {
  const [custom, setCustom] = useState([]);
  const stream = useStream({
    ...settings,
    fetchStateHistory: true,
    onCustomEvent: (event) => setCustom((all) => [...all, event]),
  });

  /** Starts anew from the checkpoint before this message. */
  function from(message, input) {
    const checkpoint = stream.getMessagesMetadata(message)?.firstSeenState?.parent_checkpoint;
    return stream.submit(input, { checkpoint });
  }

  const rows = stream.messages.map((message, index) => {
    const meta = stream.getMessagesMetadata(message, index);
    return (
      <Row
        key={message.id ?? index}
        message={message}
        onAgain={() => from(message, undefined)}
        onEdit={() => from(message, human(document.querySelector('[data-testid=text]').value))}
        branches={meta?.branchOptions}
        onBranch={stream.setBranch}
      />
    );
  });
  return (
    <View
      stream={stream}
      rows={rows}
      custom={custom}
      onSend={(text) => stream.submit(human(text))}
      onResume={(text) => stream.submit(undefined, { command: { resume: text } })}
      onResumeAll={(answers) => stream.submit(undefined, { command: { resume: answers } })}
    />
  );
}
