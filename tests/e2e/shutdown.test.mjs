// TERM drains: exit 0, nothing acked is lost, and clients are told in a way that lets them come back.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ask, client, connected, connectSpread, say } from "./lib/clients.mjs";
import { newRoom, newUsers } from "./lib/rest.mjs";
import { fixedPort, Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

describe("TERM", () => {
  it("with clients connected ends with 0; they come back to the next start by themselves", async () => {
    const server = await Server.start({ port: await fixedPort(), top: 'drain_timeout = "5s"' });
    try {
      const users = await newUsers(server, "user", 10);
      const roomId = await newRoom(server, users);
      const sockets = users.map((user) => client(server, {
        auth: { token: user.token }, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 500,
      }));
      const reasons = [];
      const heard = sockets.map(() => []);
      sockets.forEach((socket, at) => {
        socket.on("disconnect", (reason) => reasons.push(reason));
        socket.on("message", (message) => heard[at].push(message.content));
      });
      await Promise.all(sockets.map(connected));
      await say(sockets[0], roomId, "before");
      await server.stop({ keep: true });
      await until("all were disconnected", () => reasons.length === 10);
      assert.ok(reasons.every((reason) => reason === "transport close"), reasons.join());
      await server.serve();
      await until("all are back", () => sockets.every((socket) => socket.connected));
      await say(sockets[9], roomId, "after");
      for (const words of heard) await until("all hear it", () => words.includes("after"));
      const history = await ask(sockets[3], "get_messages", { roomId });
      assert.deepEqual(history.messages.map((m) => m.content), ["before", "after"]);
      assert.deepEqual(history.messages.map((m) => m.seq), [1, 2]);
      sockets.forEach((socket) => socket.disconnect());
    } finally {
      await server.stop();
    }
  });

  it("in the middle of traffic loses nothing that was acked, and leaves a clean log", async () => {
    const server = await Server.start({ tables: "[limits]\nmessages_per_second = 0\n" });
    const users = await newUsers(server, "user", 4);
    const roomId = await newRoom(server, users);
    const sockets = await connectSpread(server, users);
    const acked = new Map();
    let going = true;
    const senders = sockets.map(async (socket, who) => {
      for (let at = 0; going; at++) {
        const content = `${who} ${at}`;
        const ack = await ask(socket, "send_message", { roomId, content }).catch(() => (going = false));
        if (ack?.ok) acked.set(content, ack.seq);
      }
    });
    await until("traffic", () => acked.size > 500);
    await server.stop({ keep: true }); // with 0, so inside drain_timeout: whoever needs longer is killed, which is 1
    await Promise.all(senders);
    const stored = new Map(server.log().map((m) => [m.content, m.seq]));
    for (const [content, seq] of acked) assert.equal(stored.get(content), seq, content);
    assert.match(server.verify(), /\S/);
    sockets.forEach((socket) => socket.disconnect());
    server.destroy();
  });

  it("right after the start, and with nothing to drain, ends at once", async () => {
    for (let round = 0; round < 5; round++) await (await Server.start()).stop();
  });
});
