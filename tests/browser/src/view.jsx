// What both hooks show: the messages, and what can be done with them.
import { useState } from 'react';

/** The text of a message, whose content is a string or a list of blocks. */
export function textOf(message) {
  if (typeof message.content === 'string') return message.content;
  return message.content.map((block) => block.text ?? '').join('');
}

export function human(text) {
  return { messages: [{ type: 'human', content: text }] };
}

/** The same answer to each question, by its id. */
function answersFor(interrupts, text) {
  return Object.fromEntries(interrupts.map((one) => [one.id, `${text} to ${one.value}`]));
}

export function View({ stream, rows, custom, onSend, onResume, onResumeAll }) {
  const [text, setText] = useState('');
  return (
    <main>
      <ol>{rows}</ol>
      <p data-testid="loading">{String(stream.isLoading)}</p>
      <p data-testid="opening">{String(stream.isThreadLoading)}</p>
      <p data-testid="interrupt">{stream.interrupt ? JSON.stringify(stream.interrupt.value) : ''}</p>
      <p data-testid="interrupts">{JSON.stringify(stream.interrupts.map((one) => one.value))}</p>
      <p data-testid="answers">{JSON.stringify(stream.values?.answers ?? [])}</p>
      <p data-testid="error">{stream.error ? String(stream.error?.message ?? stream.error) : ''}</p>
      <p data-testid="custom">{JSON.stringify(custom)}</p>
      <input data-testid="text" value={text} onChange={(event) => setText(event.target.value)} />
      <button data-testid="send" onClick={() => onSend(text)}>
        send
      </button>
      <button data-testid="stop" onClick={() => stream.stop()}>
        stop
      </button>
      <button data-testid="resume" onClick={() => onResume(text)}>
        resume
      </button>
      <button data-testid="resume-all" onClick={() => onResumeAll(answersFor(stream.interrupts, text))}>
        resume all
      </button>
    </main>
  );
}

/** One message. `onAgain` and `onEdit` start a branch; `branches` are those to switch between. */
export function Row({ message, onAgain, onEdit, branches, onBranch }) {
  const kind = message.type ?? message.getType();
  const own = kind === 'human';
  return (
    <li data-testid="message" data-type={kind}>
      <span data-testid="said">{textOf(message)}</span>
      {own && onEdit && (
        <button data-testid="edit" onClick={onEdit}>
          edit
        </button>
      )}
      {!own && onAgain && (
        <button data-testid="again" onClick={onAgain}>
          regenerate
        </button>
      )}
      {branches?.map((branch) => (
        <button data-testid="branch" key={branch} onClick={() => onBranch(branch)}>
          branch
        </button>
      ))}
    </li>
  );
}
