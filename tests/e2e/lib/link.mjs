// The way between the storage writer and workers that start from now on: what the writer says can be held
// back, so that a worker is behind for as long as a test wants.

import { renameSync, rmSync } from "node:fs";
import net from "node:net";
import path from "node:path";

export class Link {
  static async start(server) {
    const link = Object.assign(new Link(), { held: null, workers: new Set() });
    const place = path.join(server.dataDir, "run/storage.sock");
    link.real = path.join(server.dataDir, "run/real.sock");
    renameSync(place, link.real);
    link.listener = net.createServer((worker) => link.accept(worker));
    await new Promise((resolve, reject) => link.listener.listen(place, resolve).once("error", reject));
    return link;
  }

  accept(worker) {
    const writer = net.connect(this.real);
    this.workers.add(worker);
    for (const [socket, other] of [[worker, writer], [writer, worker]])
      socket.on("error", () => {}).on("close", () => other.destroy());
    worker.on("close", () => this.workers.delete(worker)).pipe(writer);
    writer.on("data", (bytes) => (this.held ? this.held.push([worker, bytes]) : worker.write(bytes)));
  }

  // From now on workers hear nothing of the writer.
  hold() {
    this.held = [];
  }

  release() {
    for (const [worker, bytes] of this.held) worker.write(bytes);
    this.held = null;
  }

  stop() {
    for (const worker of this.workers) worker.destroy();
    this.listener.close();
    rmSync(this.real, { force: true });
  }
}
