// The way between the storage writer and workers that start from now on: what the writer says can be held
// back, so that a worker is behind for as long as a test wants. Or the writer is one of another version.

import { renameSync, rmSync } from "node:fs";
import net from "node:net";
import path from "node:path";

// Behind the length, the kind of frame and the version: which worker, of which life. Both are varints.
function nameIn(greeting) {
  let at = 6;
  for (let numbers = 0; numbers < 2; at++) if (greeting[at] < 0x80) numbers += 1;
  return greeting.subarray(6, at).toString("hex");
}

export class Link {
  static async start(server) {
    const link = Object.assign(new Link(), {
      held: null, holds: () => false, workers: new Set(), speaksOtherVersion: false, refused: new Set(),
    });
    const place = path.join(server.dataDir, "run/storage.sock");
    link.real = path.join(server.dataDir, "run/real.sock");
    renameSync(place, link.real);
    link.listener = net.createServer((worker) => link.accept(worker));
    await new Promise((resolve, reject) => link.listener.listen(place, resolve).once("error", reject));
    return link;
  }

  // The greeting decides: whoever was refused once stays so.
  accept(worker) {
    this.workers.add(worker);
    worker.on("error", () => {}).on("close", () => this.workers.delete(worker));
    worker.once("data", (greeting) => {
      const name = nameIn(greeting);
      if (this.speaksOtherVersion) this.refused.add(name);
      if (this.refused.has(name)) return worker.end(Buffer.from([2, 0, 0, 0, 1, 99]));
      worker.pause();
      worker.unshift(greeting);
      this.carry(worker);
    });
  }

  carry(worker) {
    const writer = net.connect(this.real);
    for (const [socket, other] of [[worker, writer], [writer, worker]])
      socket.on("error", () => {}).on("close", () => other.destroy());
    worker.pipe(writer);
    let unread = Buffer.alloc(0);
    writer.on("data", (bytes) => {
      unread = Buffer.concat([unread, bytes]);
      // A frame is its length and its body.
      while (unread.length >= 4 && unread.length >= 4 + unread.readUInt32LE(0)) {
        const frame = unread.subarray(0, 4 + unread.readUInt32LE(0));
        unread = unread.subarray(frame.length);
        if (!this.held && this.holds(frame.subarray(4))) this.hold();
        if (this.held) this.held.push([worker, frame]);
        else worker.write(frame);
      }
    });
  }

  // From now on workers hear nothing of the writer.
  hold() {
    this.held = [];
  }

  // The same, from the first frame on whose body fits.
  holdFrom(fits) {
    this.holds = fits;
  }

  // Workers lose the writer, and find it again.
  cut() {
    for (const worker of this.workers) worker.destroy();
  }

  release() {
    this.holds = () => false;
    for (const [worker, bytes] of this.held) worker.write(bytes);
    this.held = null;
  }

  stop() {
    for (const worker of this.workers) worker.destroy();
    this.listener.close();
    rmSync(this.real, { force: true });
  }
}
