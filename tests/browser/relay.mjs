// A relay before the server whose connections can be cut, as a network does.
import { createServer, connect } from 'node:net';

export class Relay {
  /** Before the server at this address; `url` is the relay's own. */
  static async before(address) {
    const relay = Object.assign(new Relay(), { sockets: new Set() });
    const { hostname, port, pathname } = new URL(address);
    relay.server = createServer((client) => {
      const upstream = connect(port, hostname);
      for (const [one, other] of [[client, upstream], [upstream, client]]) {
        relay.sockets.add(one);
        one.on('error', () => {}).on('close', () => other.destroy());
        one.pipe(other);
      }
    });
    await new Promise((resolve) => relay.server.listen(0, '127.0.0.1', resolve));
    relay.url = `http://127.0.0.1:${relay.server.address().port}${pathname.replace(/\/$/, '')}`;
    return relay;
  }

  /** Breaks off every connection; new ones are taken. */
  cut() {
    for (const socket of this.sockets) socket.resetAndDestroy();
    this.sockets.clear();
  }

  close() {
    this.server.close();
    this.cut();
  }
}
