// A TCP proxy between a client and the server, for losing connections in every way there is.

import net from "node:net";

export class Proxy {
  static async start(server) {
    const proxy = new Proxy();
    Object.assign(proxy, { server, pairs: new Set(), open: true });
    proxy.listener = net.createServer((near) => proxy.accept(near));
    await new Promise((resolve) => proxy.listener.listen(0, "127.0.0.1", resolve));
    proxy.url = `http://127.0.0.1:${proxy.listener.address().port}`;
    return proxy;
  }

  accept(near) {
    if (!this.open) return near.destroy();
    const far = net.connect(this.server.port, "127.0.0.1");
    const pair = { near, far };
    this.pairs.add(pair);
    for (const [socket, other] of [[near, far], [far, near]]) {
      socket.on("error", () => {});
      socket.on("close", () => {
        if (!pair.kept) other.destroy();
        if (near.destroyed && far.destroyed) this.pairs.delete(pair);
      });
      socket.pipe(other);
    }
  }

  // Ends all connections; nobody new gets through until `restore`.
  cut() {
    this.open = false;
    for (const { near, far } of this.pairs) near.destroy(), far.destroy();
  }

  restore() {
    this.open = true;
  }

  // From now on the connections there are carry nothing, and neither side is told.
  freeze() {
    for (const { near, far } of this.pairs) {
      near.unpipe(far), far.unpipe(near);
      near.resume(), far.resume(); // taken from the kernel, given to nobody
    }
  }

  // The client's side of all connections ends; the server's side stays, silent.
  dropClients() {
    for (const pair of this.pairs) {
      pair.kept = true;
      pair.near.unpipe(pair.far), pair.far.unpipe(pair.near);
      pair.far.resume();
      pair.near.destroy();
    }
  }

  // Connections that the server still holds open.
  get held() {
    return [...this.pairs].filter(({ far }) => !far.destroyed).length;
  }

  stop() {
    this.cut();
    this.listener.close();
  }
}
