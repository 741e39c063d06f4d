// A page with one conversation. The query tells which hook holds it, and all that the hook is given:
// hook=classic|events, apiUrl, assistant, apiKey, threadId, reconnect=1, transport=sse|websocket.
import { useState } from 'react';
import { createRoot } from 'react-dom/client';
import { Classic } from './classic.jsx';
import { Events } from './events.jsx';

const query = new URLSearchParams(location.search);

function Page() {
  const [threadId, setThreadId] = useState(query.get('threadId'));
  const settings = {
    apiUrl: query.get('apiUrl'),
    assistantId: query.get('assistant'),
    apiKey: query.get('apiKey') ?? undefined,
    threadId,
    onThreadId: (id) => {
      // In the address, so that a reload opens it again.
      query.set('threadId', id);
      history.replaceState(null, '', `?${query}`);
      setThreadId(id);
    },
  };
  if (query.get('hook') === 'classic') {
    return <Classic settings={{ ...settings, reconnectOnMount: query.has('reconnect') }} />;
  }
  return <Events settings={{ ...settings, transport: query.get('transport') ?? 'sse' }} />;
}

createRoot(document.getElementById('root')).render(<Page />);
