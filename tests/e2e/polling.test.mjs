// The chat over HTTP long polling and through upgrades, with any number of workers and no sticky
// sessions: every request may arrive at any worker, directly or through a round-robin nginx.

import assert from "node:assert/strict";
import { statSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { connect, connected, client, refusal, say } from "./lib/clients.mjs";
import { Nginx } from "./lib/nginx.mjs";
import { newRoom, newUsers } from "./lib/rest.mjs";
import { Server, alive } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const POLLING = { transports: ["polling"] };
const UPGRADE = { transports: ["polling", "websocket"] };

// Talks in a room from every client at once and checks that everybody hears all of it in one order.
async function conversation(sockets, roomId, each) {
  await Promise.all(sockets.map(async (socket, who) => {
    for (let at = 0; at < each; at++) await say(socket, roomId, `${who}: ${at} 안녕`);
  }));
  const wanted = sockets.length * each;
  for (const socket of sockets) {
    await until(`${wanted} messages, got ${socket.heard.length}`, () => socket.heard.length >= wanted);
    assert.deepEqual(socket.heard.map(({ seq, content }) => [seq, content]),
      sockets[0].heard.map(({ seq, content }) => [seq, content]));
  }
  const seqs = sockets[0].heard.map(({ seq }) => seq);
  assert.deepEqual(seqs, seqs.map((_, at) => seqs[0] + at), "each once, without a gap");
}

function workersOf(server) {
  return server.processes("worker").filter((worker) => worker.connections > 0).length;
}

for (const workers of [1, 2, 4]) {
  describe(`long polling with ${workers} worker${workers > 1 ? "s" : ""}`, () => {
    let server, users, roomId;
    before(async () => {
      server = await Server.start({ workers });
      users = await newUsers(server, "poller", 6);
      roomId = await newRoom(server, users);
    });
    after(() => server.stop());

    it("carries a conversation", async () => {
      const sockets = await Promise.all(users.map((user) => connect(server, user, POLLING)));
      await conversation(sockets, roomId, 15);
      sockets.forEach((socket) => {
        assert.equal(socket.io.engine.transport.name, "polling");
        socket.disconnect();
      });
      await until("everybody is gone", () => workersOf(server) === 0);
    });

    it("goes on over a WebSocket in the middle of a conversation", async () => {
      const sockets = await Promise.all(users.map((user) => connect(server, user, UPGRADE)));
      await conversation(sockets, roomId, 15);
      for (const socket of sockets) {
        await until("upgraded", () => socket.io.engine.transport.name === "websocket");
        socket.disconnect();
      }
    });

    it("mixes with WebSockets", async () => {
      const options = [POLLING, { transports: ["websocket"] }, UPGRADE];
      const sockets = await Promise.all(users.map((user, at) => connect(server, user, options[at % 3])));
      await conversation(sockets, roomId, 10);
      sockets.forEach((socket) => socket.disconnect());
    });

    it("refuses as a WebSocket does", async () => {
      assert.equal((await refusal(server, { ...POLLING, auth: { token: "garbage" } })).message, "Authentication error");
      assert.equal((await refusal(server, { ...POLLING, query: { token: "garbage" } })).message, "Authentication error");
      assert.equal((await refusal(server, POLLING, "/nowhere")).message, "Invalid namespace");
    });
  });
}

describe("requests at the wrong worker", () => {
  let server, users, roomId;
  before(async () => {
    server = await Server.start({ workers: 4, tables: '[socketio]\nping_interval = "1s"\nmax_payload = 100000\n' });
    users = await newUsers(server, "wanderer", 2);
    roomId = await newRoom(server, users);
  });
  after(() => server.stop());

  // Every request on a connection of its own: the kernel deals them to all the workers.
  const agent = new http.Agent({ keepAlive: false });
  const ask = (method, sid, body) => new Promise((resolve, reject) => {
    const session = sid ? `&sid=${sid}` : "";
    const url = `${server.url}/socket.io/?EIO=4&transport=polling${session}`;
    const request = http.request(url, { method, agent, headers: body ? { "content-length": Buffer.byteLength(body) } : {} });
    request.on("error", reject).on("response", async (response) => {
      const text = (await response.setEncoding("utf8").toArray()).join("");
      resolve({ status: response.statusCode, text, type: response.headers["content-type"] });
    });
    request.end(body);
  });
  const open = async () => JSON.parse((await ask("GET")).text.slice(1)).sid;

  it("are answered by the session's owner, with several packets in a payload", async () => {
    for (let round = 0; round < 10; round++) {
      const sid = await open();
      const entered = await ask("POST", sid, `40{"token":"${users[0].token}"}`);
      assert.deepEqual(entered, { status: 200, text: "ok", type: "text/html" });
      const packets = [];
      const fetchUntil = async (count) => {
        while (packets.length < count) {
          const { status, text, type } = await ask("GET", sid);
          assert.deepEqual([status, type], [200, "text/plain; charset=UTF-8"]);
          for (const packet of text.split("\x1e"))
            if (packet === "2") await ask("POST", sid, "3");
            else packets.push(packet);
        }
      };
      await fetchUntil(1);
      assert.match(packets[0], /^40\{"sid":/);
      const send = (id, content) => `42${id}["send_message",${JSON.stringify({ roomId, content })}]`;
      const payload = [send(1, "one"), send(2, "둘"), send(3, "three")].join("\x1e");
      assert.equal((await ask("POST", sid, payload)).status, 200);
      await fetchUntil(7);
      assert.deepEqual(packets.filter((packet) => packet.startsWith("43")).map((packet) => packet.slice(0, 3)), ["431", "432", "433"]);
      assert.equal((await ask("POST", sid, "1")).text, "ok");
      assert.deepEqual(JSON.parse((await ask("GET", sid)).text), { code: 1, message: "Session ID unknown" });
    }
  });

  it("are refused for what is over the limit or broken, and end the session", async () => {
    for (const [payload, status] of [["4".padEnd(100_001, "x"), 413], ["abc", 400], ["4\x1e", 400]])
      for (let round = 0; round < 6; round++) {
        const sid = await open();
        assert.equal((await ask("POST", sid, payload)).status, status);
        assert.equal((await ask("GET", sid)).status, 400);
      }
  });

  it("that come again after they were answered end the session, whichever worker gets them", async () => {
    for (let round = 0; round < 10; round++) {
      const sid = await open();
      await ask("POST", sid, `40{"token":"${users[0].token}"}`);
      // As a proxy does it whose connection broke before it had the answer.
      const repeated = `${sid}&t=1795272124.53768${round}`;
      assert.match((await ask("GET", repeated)).text, /^40\{/);
      await ask("POST", sid, `420["get_messages",{"roomId":"${roomId}"}]`);
      assert.equal((await ask("GET", repeated)).status, 400);
      assert.deepEqual(JSON.parse((await ask("GET", sid)).text), { code: 1, message: "Session ID unknown" });
    }
  });

  it("that wait end their session when they go away", async () => {
    for (let round = 0; round < 6; round++) {
      const sid = await open();
      const request = `GET /socket.io/?EIO=4&transport=polling&sid=${sid} HTTP/1.1\r\nHost: x\r\n\r\n`;
      await until("the session is over", async () => {
        const left = net.connect(server.port, "127.0.0.1");
        await new Promise((resolve) => left.write(request, resolve));
        left.destroy();
        const { status, text } = await ask("GET", sid);
        // It went away before the session's owner heard of it: the session lives, and another goes.
        if (text === "2") await ask("POST", sid, "3");
        return status === 400;
      });
    }
  });

  it("go over sockets that are for the server's user alone", () => {
    const run = path.join(server.dataDir, "run");
    for (let worker = 0; worker < 4; worker++)
      assert.equal(statSync(path.join(run, `worker-${worker}.sock`)).mode & 0o777, 0o600);
    assert.equal(statSync(run).mode & 0o077, 0, "nor does anybody else look into the directory");
  });

  it("know no session of a worker that never was", async () => {
    const sid = Buffer.from(await open(), "base64url");
    sid.writeUInt16LE(999, 0);
    const forged = sid.toString("base64url");
    for (let round = 0; round < 6; round++)
      assert.deepEqual(JSON.parse((await ask("GET", forged)).text), { code: 1, message: "Session ID unknown" });
  });

  it("survive the death of a worker: its clients come back by themselves", async () => {
    const sockets = [];
    for (let at = 0; at < 12; at++)
      sockets.push(await connect(server, users[at % 2], { ...POLLING, reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 }));
    const victim = server.processes("worker").find((worker) => worker.connections > 0);
    process.kill(victim.pid, "SIGKILL");
    await until("the worker is gone", () => !alive(victim.pid));
    await server.ready();
    await until("everybody is connected again", () => sockets.every((socket) => socket.connected));
    // A client may not have noticed yet: its session was the dead worker's.
    const said = [];
    await until("a message reaches everybody", async () => {
      said.push(`still here ${said.length}`);
      await say(sockets.find((socket) => socket.connected), roomId, said.at(-1));
      const heard = sockets.map((socket) => new Set(socket.heard.map(({ content }) => content)));
      return said.some((content) => heard.every((contents) => contents.has(content)));
    });
    sockets.forEach((socket) => socket.disconnect());
  });

  it("don't keep a leaving worker waiting", async () => {
    const sockets = await Promise.all(Array.from({ length: 8 }, (_, at) => connect(server, users[at % 2], POLLING)));
    await server.stop();
    sockets.forEach((socket) => socket.disconnect());
  });
});

describe("connections counted by address", () => {
  it("are given back after upgrades, whichever workers they went through", async () => {
    const server = await Server.start({ workers: 4, tables: "[limits]\nconnections_per_address = 12\n" });
    try {
      const [user] = await newUsers(server, "counted", 1);
      for (let round = 0; round < 15; round++) {
        const sockets = [await connect(server, user, UPGRADE), await connect(server, user, UPGRADE)];
        for (const socket of sockets) {
          await until("upgraded", () => socket.io.engine.transport.name === "websocket");
          socket.disconnect();
        }
        await until("they are gone", () => workersOf(server) === 0);
      }
      // And they were counted: as many again as are allowed is too many.
      const held = [];
      await until("the limit is reached", async () => {
        held.push(await connect(server, user, UPGRADE).catch(() => null));
        return held.includes(null) && held.length < 14;
      });
      held.forEach((socket) => socket?.disconnect());
    } finally {
      await server.stop();
    }
  });
});

describe("behind a round-robin nginx with kept-alive connections", () => {
  let server, nginx, users, roomId;
  before(async () => {
    server = await Server.start({ workers: 2, extraArgs: ["--listen", "127.0.0.1:0"] });
    nginx = await Nginx.start(server.ports);
    users = await newUsers(server, "behind", 8);
    roomId = await newRoom(server, users);
  });
  after(async () => {
    nginx?.stop();
    await server.stop();
  });

  for (const [what, options] of [["long polling", POLLING], ["upgrades", UPGRADE]])
    it(`carries a conversation over ${what}`, async () => {
      const sockets = await Promise.all(users.map((user) => connect(nginx, user, options)));
      await conversation(sockets, roomId, 15);
      if (options === UPGRADE)
        for (const socket of sockets) await until("upgraded", () => socket.io.engine.transport.name === "websocket");
      sockets.forEach((socket) => socket.disconnect());
    });

  it("lets a client in again after a refusal", async () => {
    const socket = client(nginx, { ...POLLING, auth: { token: "garbage" } });
    await assert.rejects(connected(socket), { message: "Authentication error" });
    socket.auth = { token: users[0].token };
    await connected(socket);
    socket.disconnect();
  });
});
