// What a user does with the page, and what it then shows. Each scene gives what it saw; the tests judge it.

import { Relay } from './relay.mjs';

const answers = (talk) => [...new Set(talk.states.map((state) => state.answer).filter(Boolean))];
/** The messages without the names of gates. */
const texts = (state) => state.messages.map((message) => message.text.replace(/@(\w+)-[-\w]+/g, '@$1'));

export async function tokens(talk) {
  await talk.open('chat');
  await talk.send('Hel @one lo @two world');
  await talk.until((state) => state.loading && state.answer === 'Hel');
  await talk.openGate('one');
  await talk.until((state) => state.loading && state.answer === 'Hel lo');
  await talk.openGate('two');
  await talk.ended('Hel lo world');
  return { answers: answers(talk) };
}

export async function stop(talk) {
  await talk.open('chat');
  await talk.send('Hel @never lo');
  await talk.until((state) => state.loading && state.answer === 'Hel');
  await talk.click('stop');
  await talk.cancelledAt('never');
  const state = await talk.until((state) => !state.loading);
  return { error: state.error };
}

export async function interrupt(talk) {
  await talk.open('review');
  await talk.send('plan');
  const asked = await talk.until((state) => !state.loading && state.interrupt);
  await talk.type('yes');
  await talk.click('resume');
  const state = await talk.until((state) => !state.loading && !state.interrupt && state.answer === 'verdict: yes');
  return { asked: asked.interrupt, texts: texts(state) };
}

export async function interruptReopened(talk) {
  await talk.open('review');
  await talk.send('plan');
  await talk.until((state) => !state.loading && state.interrupt);
  await talk.reload();
  const asked = await talk.until((state) => !state.opening && state.interrupt);
  await talk.type('no');
  await talk.click('resume');
  const state = await talk.until((state) => !state.loading && !state.interrupt && state.answer === 'verdict: no');
  return { asked: asked.interrupt, texts: texts(state) };
}

export async function severalInterrupts(talk) {
  await talk.open('many');
  await talk.send('ask');
  const asked = await talk.until((state) => !state.loading && state.interrupts.length === 2);
  await talk.type('yes');
  await talk.click('resume-all');
  const done = (state) => state.answers.length === 2 && state.interrupts.length === 0;
  const state = await talk.until((state) => !state.loading && done(state));
  return { asked: asked.interrupts.sort(), answers: state.answers.sort() };
}

export async function branches(talk) {
  const settled = (like) => talk.until((state) => !state.loading && !state.opening && like(state));
  await talk.open('chat');
  await talk.send('first #');
  const first = await settled((state) => /^first \d+$/.test(state.answer));
  await talk.click('again');
  const second = await settled((state) => /^first \d+$/.test(state.answer) && state.answer !== first.answer);
  await talk.type('second #');
  await talk.click('edit');
  const edited = await settled((state) => /^second \d+$/.test(state.answer));
  return { first: texts(first), second: texts(second), edited: texts(edited) };
}

/** The classic hook alone knows branches that can be switched. */
export async function switching(talk) {
  const told = await branches(talk);
  await talk.until((state) => !state.loading && state.messages[0].branches === 2);
  await talk.click('branch', 0);
  const back = await talk.until((state) => state.answer === told.second[1] && state.messages[1].branches === 2);
  await talk.click('branch', 2);
  await talk.until((state) => state.answer === told.first[1]);
  await talk.click('branch', 1);
  const again = await talk.until((state) => state.answer === told.edited[1]);
  return { ...told, counts: back.messages.map((message) => message.branches), back: texts(back), again: texts(again) };
}

export async function reload(talk) {
  await talk.open('chat');
  await talk.send('Hel @one lo @two world');
  await talk.until((state) => state.loading && state.answer === 'Hel');
  const sent = talk.requests.length;
  await talk.reload();
  await talk.until((state) => state.loading && state.answer === 'Hel');
  await talk.openGate('one');
  await talk.until((state) => state.loading && state.answer === 'Hel lo');
  await talk.openGate('two');
  const state = await talk.ended('Hel lo world');
  return { texts: texts(state), after: talk.requests.slice(sent) };
}

export async function reopened(talk) {
  await talk.open('chat');
  await talk.send('one');
  await talk.ended('one');
  await talk.send('two');
  await talk.ended('two');
  const sent = talk.requests.length;
  await talk.reload();
  const state = await talk.until((state) => !state.opening && !state.loading && state.answer === 'two');
  return { texts: texts(state), after: talk.requests.slice(sent) };
}

export async function failure(talk) {
  await talk.open('chat');
  await talk.send('Hel *boom');
  const state = await talk.until((state) => !state.loading && state.error);
  return { error: state.error };
}

export async function unknown(talk) {
  await talk.open('nobody');
  await talk.send('Hel');
  const state = await talk.until((state) => !state.loading && state.error);
  return { error: state.error };
}

export async function custom(talk) {
  await talk.open('chat');
  await talk.send('!one Hel @one !two');
  const early = await talk.until((state) => state.loading && state.custom.length === 1);
  await talk.openGate('one');
  const state = await talk.until((state) => !state.loading && state.custom.length === 2);
  return { early: early.custom, custom: state.custom };
}

/** A page that is left cancels its run, unless it means to come back. */
export async function left(talk) {
  await talk.open('chat');
  await talk.send('Hel @never lo');
  await talk.until((state) => state.loading && state.answer === 'Hel');
  await talk.reload();
  await talk.cancelledAt('never');
  return {};
}

/** The network breaks off in mid-stream; the hook comes back by itself. */
export async function cut(talk) {
  const relay = await Relay.before(talk.place.url);
  try {
    talk.place = { ...talk.place, url: relay.url };
    await talk.open('chat');
    await talk.send('Hel @one lo @two world');
    await talk.until((state) => state.loading && state.answer === 'Hel');
    const sent = talk.requests.length;
    relay.cut();
    await talk.openGate('one');
    await talk.until((state) => state.answer === 'Hel lo');
    await talk.openGate('two');
    const state = await talk.ended('Hel lo world');
    return { answers: answers(talk), error: state.error, after: talk.requests.slice(sent) };
  } finally {
    relay.close();
  }
}
