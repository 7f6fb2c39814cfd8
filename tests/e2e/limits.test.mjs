// Every limit answers a clear error, to the one who broke it only.

import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, it } from "node:test";
import { ask, closing, connect, connectSpread, hears, raw, refusal, say } from "./lib/clients.mjs";
import { Nginx } from "./lib/nginx.mjs";
import { call, newRoom, newUsers } from "./lib/rest.mjs";
import { Server } from "./lib/server.mjs";
import { next, until } from "./lib/wait.mjs";

describe("limits", () => {
  let server, users, roomId, watcher;
  before(async () => {
    const limits = "messages_per_second = 20\ncontent_chars = 100\nrooms_per_user = 3\nhandshake_timeout = \"3s\"\n";
    const socketio = "[socketio]\nmax_payload = 10000\n";
    server = await Server.start({ tables: `[limits]\n${limits}${socketio}` });
    users = await newUsers(server, "user", 4);
    roomId = await newRoom(server, users.slice(0, 2));
    watcher = await connect(server, users[1]);
  });
  after(async () => {
    watcher.disconnect();
    await server.stop();
  });

  it("messages per second: the sender is told, the others are served", async () => {
    const socket = await connect(server, users[0]);
    const acks = await Promise.all(Array.from({ length: 200 }, (_, at) => ask(socket, "send_message", { roomId, content: `${at}` })));
    const refused = acks.filter((ack) => !ack.ok);
    assert.ok(refused.length > 0 && refused.length < 200, `${refused.length} of 200 refused`);
    assert.deepEqual(new Set(refused.map((ack) => ack.code)), new Set(["RATE_LIMITED"]));
    await say(watcher, roomId, "not me");
    await until("the sender may speak again", async () => (await ask(socket, "send_message", { roomId, content: "again" })).ok);
    const stored = server.log().filter((m) => m.sender === users[0].username).length;
    assert.equal(stored, 200 - refused.length + 1, "what is refused leaves nothing behind");
    socket.disconnect();
  });

  it("content", async () => {
    const refused = await ask(watcher, "send_message", { roomId, content: "가".repeat(101) });
    assert.deepEqual([refused.ok, refused.code], [false, "CONTENT_TOO_LONG"]);
    await until("100 are taken", async () => (await ask(watcher, "send_message", { roomId, content: "가".repeat(100) })).ok);
  });

  it("payload", async () => {
    const ws = await raw(server, { token: users[0].token });
    assert.equal(ws.handshake.maxPayload, 10_000);
    ws.send("4".padEnd(10_001, "2"));
    assert.equal((await closing(ws)).code, 1009);
  });

  it("rooms per user", async () => {
    const create = (who, participants) =>
      call(server, "POST", "/api/chatrooms", { token: who.token, payload: { name: "r", participants } });
    for (let count = 0; count < 3; count++) assert.equal((await create(users[2])).status, 201);
    const over = await create(users[2]);
    assert.ok([400, 403, 409, 429].includes(over.status), `${over.status}`);
    assert.equal(over.body.code, "TOO_MANY_ROOMS");
    const pulled = await create(users[3], [users[2].username]);
    assert.equal(pulled.body.code, "TOO_MANY_ROOMS", "nobody can be pushed over it");
  });

  it("time to shake hands", async () => {
    const ws = await raw(server); // opened, but never asks to CONNECT
    await closing(ws);
  });
});

describe("a limit on connections", () => {
  it("turns away what is over it and takes the next once one has left", async () => {
    const server = await Server.start({ tables: "[limits]\nconnections_per_user = 2\n", workers: 1 });
    try {
      const [alice, bob] = await newUsers(server, "user", 2);
      const two = [await connect(server, alice), await connect(server, alice)];
      const refused = await refusal(server, { auth: { token: alice.token } });
      assert.ok(refused.message.length > 3, refused.message);
      (await connect(server, bob)).disconnect();
      two[0].disconnect();
      const again = await until("there is room again", () => connect(server, alice));
      [two[1], again].forEach((socket) => socket.disconnect());
    } finally {
      await server.stop();
    }
  });
});

describe("nginx with kept-alive upstream connections", () => {
  // nginx keeps a connection for its next request. Closed at that moment, it would answer 502: a POST is
  // not tried again.
  it("is never answered with a closed connection, however late the next request comes", async () => {
    const server = await Server.start({ tables: "[limits]\nhandshake_timeout = \"3s\"\n", workers: 1 });
    const nginx = await Nginx.start([server.port]);
    try {
      const [alice] = await newUsers(server, "user", 1);
      const through = { port: nginx.port };
      for (let round = 0; round < 3; round++) {
        const made = await call(through, "POST", "/api/chatrooms", { token: alice.token, payload: { name: "r" } });
        assert.equal(made.status, 201, JSON.stringify(made.body));
        // A connection that says nothing is closed by the server: so much later the next request comes.
        const silent = net.connect(server.port, "127.0.0.1").resume();
        await next(silent, "close");
        assert.ok(server.processes("worker")[0].report.http_connections >= 1, "nginx's connection is still open");
      }
    } finally {
      nginx.stop();
      await server.stop();
    }
  });
});

describe("a client that does not read", () => {
  it("is closed, and nobody else misses anything", async () => {
    const server = await Server.start({
      tables: "[limits]\nmessages_per_second = 0\n",
    });
    try {
      const users = await newUsers(server, "user", 4);
      const roomId = await newRoom(server, users);
      const [sender, reader, other] = await connectSpread(server, users.slice(0, 3));
      const deaf = await raw(server, { token: users[3].token });
      const held = () => server.processes("worker").reduce((sum, p) => sum + p.connections, 0);
      await until("four are connected", () => held() === 4);
      deaf._socket.pause();
      const content = "x".repeat(4_000);
      let sent = 0;
      // Far more than its bound and the kernel's buffers hold.
      while (held() === 4 && sent < 5_000) {
        // 200 KB at a time: who reads is never 1 MB behind, the default bound.
        await Promise.all(Array.from({ length: 50 }, () => say(sender, roomId, content)));
        sent += 50;
      }
      await until("it is closed", () => held() === 3);
      await say(sender, roomId, "the end");
      for (const socket of [sender, reader, other]) {
        await hears(socket, "the end");
        assert.equal(socket.heard.length, sent + 1);
        assert.equal(socket.connected, true);
        socket.disconnect();
      }
      assert.ok(server.processes("worker").every((p) => p.restarts === 0));
      deaf.terminate();
    } finally {
      await server.stop();
    }
  });
});
