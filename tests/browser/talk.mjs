// One tab with the page, as its user sees it: every state that it ever showed, in order, and every request it sent.
import { randomUUID } from 'node:crypto';
import { access, watch, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const PATIENCE = 30_000;

/** Runs in the page: tells each state it shows. */
function tellStates() {
  const one = (name) => document.querySelector(`[data-testid=${name}]`)?.textContent ?? '';
  const shown = () => ({
    messages: [...document.querySelectorAll('[data-testid=message]')].map((item) => ({
      type: item.dataset.type,
      text: item.querySelector('[data-testid=said]').textContent.trim(),
      branches: item.querySelectorAll('[data-testid=branch]').length,
    })),
    loading: one('loading') === 'true',
    opening: one('opening') === 'true',
    interrupt: one('interrupt'),
    interrupts: JSON.parse(one('interrupts') || '[]'),
    answers: JSON.parse(one('answers') || '[]'),
    error: one('error'),
    custom: JSON.parse(one('custom') || '[]'),
    born: performance.timeOrigin,
    thread: new URLSearchParams(location.search).get('threadId'),
  });
  new MutationObserver(() => {
    if (document.querySelector('main')) globalThis.tell(shown());
  }).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
}

export class Talk {
  /** `place` is the server: `{url, key, gates}`. `hook` is the query that the page is opened with. */
  static async begin(context, site, place, hook) {
    const talk = Object.assign(new Talk(), { site, place, hook, states: [], requests: [], waiting: new Set() });
    Object.assign(talk, { gone: new Set(), names: new Map() });
    talk.page = await context.newPage();
    await talk.page.exposeFunction('tell', (state) => talk.tell(state));
    await talk.page.addInitScript(tellStates);
    talk.page.on('request', (request) => talk.heard(request.method(), request.url(), request.postData()));
    talk.page.on('websocket', (socket) => {
      talk.heard('WS', socket.url());
      socket.on('framesent', (frame) => talk.heard('WS', socket.url(), frame.payload));
    });
    return talk;
  }

  heard(method, address, body) {
    const url = new URL(address);
    if (address.includes(new URL(this.place.url).host) && method !== 'OPTIONS')
      this.requests.push({ method, path: url.pathname, query: url.search, body: body ? JSON.parse(body) : null });
  }

  tell(state) {
    if (this.gone.has(state.born)) return;
    state.answer = state.messages.findLast((message) => message.type === 'ai')?.text ?? '';
    this.state = state;
    this.states.push(state);
    for (const check of this.waiting) check();
  }

  open(assistant, more = {}) {
    const own = { apiUrl: this.place.url, assistant, ...(this.place.key && { apiKey: this.place.key }) };
    return this.page.goto(`${this.site}/?${new URLSearchParams({ ...own, ...this.hook, ...more })}`);
  }

  /** Opens the page again. What the old one still tells is not heard. */
  async reload() {
    this.gone.add(this.state.born);
    this.state = undefined;
    await this.page.reload();
  }

  /** Waits until the page shows a state like this, and gives it. */
  until(like, what = like.toString()) {
    return new Promise((resolve, reject) => {
      const settle = (end, value) => {
        clearTimeout(timer);
        this.waiting.delete(check);
        end(value);
      };
      const check = () => this.state && like(this.state) && settle(resolve, this.state);
      const last = () => JSON.stringify({ state: this.state, requests: this.requests.slice(-6) });
      const timer = setTimeout(() => settle(reject, new Error(`never shown: ${what}; last: ${last()}`)), PATIENCE);
      this.waiting.add(check);
      check();
    });
  }

  async click(name, index = 0) {
    await this.page.getByTestId(name).nth(index).click({ timeout: PATIENCE });
  }

  async type(text) {
    await this.page.getByTestId('text').fill(text, { timeout: PATIENCE });
  }

  /** Sends a message; `@name` in it becomes a gate of this talk's own. */
  async send(text) {
    await this.type(text.replace(/@(\w+)/g, (_, name) => `@${this.gate(name)}`));
    await this.click('send');
  }

  async ended(answer) {
    return this.until((state) => !state.loading && state.answer === answer, `the end with ${answer}`);
  }

  gate(name) {
    if (!this.names.has(name)) this.names.set(name, `${name}-${randomUUID()}`);
    return this.names.get(name);
  }

  openGate(name) {
    return writeFile(join(this.place.gates, this.gate(name)), '');
  }

  /** Lets go on what this talk still holds. */
  openGates() {
    return Promise.all([...this.names.keys()].map((name) => this.openGate(name)));
  }

  /** Waits until the graph that waits at the gate was cancelled there. */
  async cancelledAt(name) {
    const file = `${this.gate(name)}.cancelled`;
    const there = () => access(join(this.place.gates, file)).then(() => true, () => false);
    const signal = AbortSignal.timeout(PATIENCE);
    try {
      const changes = watch(this.place.gates, { signal });
      const seen = (async () => {
        for await (const change of changes) if (change.filename === file) return;
      })();
      if (!(await there())) await seen;
      else seen.catch(() => {});
    } catch (error) {
      throw new Error(`the run was never cancelled at ${name}: ${JSON.stringify(this.state)}`, { cause: error });
    }
  }

  /** One question to the server, past the page. */
  async ask(path, init = {}) {
    const headers = { 'content-type': 'application/json', ...(this.place.key && { 'x-api-key': this.place.key }) };
    const response = await fetch(this.place.url + path, { ...init, headers });
    return response.json();
  }
}
