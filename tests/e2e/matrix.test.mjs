// Every stock client over every transport, directly and behind a round-robin nginx, with one, two and
// four workers: one scenario for all, and a table of what held.

import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { after, before, describe, it } from "node:test";
import { connect, say } from "./lib/clients.mjs";
import { TRANSPORTS, families } from "./lib/families.mjs";
import { Nginx } from "./lib/nginx.mjs";
import { newRoom, newUsers } from "./lib/rest.mjs";
import { Server, alive } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const WORKERS = [1, 2, 4];
const WAYS = ["direct", "nginx"];
const FAMILIES = ["socket.io-client 3.1", "socket.io-client 4.0", "socket.io-client 4.6", "socket.io-client latest",
  "python-socketio sync", "python-socketio async", "rust_socketio"];
const CONTENT = "안녕하세요 \u{1F389}\u{1F468}\u200D\u{1F469}\u200D\u{1F467} \"\\ \u2028";

// What held, by family, then `transport way workers`.
const held = new Map(FAMILIES.map((family) => [family, new Map()]));
const column = (transport, way, workers) => `${transport} ${way} ${workers}`;

function table() {
  const lines = ["client".padEnd(26) + Object.keys(TRANSPORTS).flatMap((transport) => WAYS.map((way) => `${transport} ${way}`.padEnd(18))).join("")];
  for (const [family, cells] of held)
    lines.push(family.padEnd(26) + Object.keys(TRANSPORTS).flatMap((transport) => WAYS.map((way) =>
      WORKERS.map((workers) => `${workers}:${cells.get(column(transport, way, workers)) ? "ok" : "NO"}`).join(" ").padEnd(18))).join(""));
  return `${lines.join("\n")}\n(workers: result)`;
}

// A REST call that this very worker receives.
async function callAt(server, worker, method, path, token, payload) {
  for (;;) {
    const socket = net.connect(server.port, "127.0.0.1");
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    let receiver;
    await until("the connection is taken", () => (receiver = server.workerOfPort(socket.localPort, server.first)) !== null);
    if (receiver !== worker) {
      socket.destroy();
      continue;
    }
    const body = JSON.stringify(payload);
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json", "content-length": Buffer.byteLength(body), connection: "close" };
    const status = await new Promise((resolve, reject) => {
      const request = http.request({ createConnection: () => socket, method, path, headers }, (response) => {
        response.resume().on("end", () => resolve(response.statusCode));
      });
      request.on("error", reject).end(body);
    });
    assert.equal(status, 200);
    return;
  }
}

const contents = (client) => client.heard.map(([message]) => message.content);
const hears = (client, content) => until(`"${content}" is heard; heard ${contents(client)}`, () => contents(client).includes(content));
const event = (client, name) => until(`the event ${name}`, () => client.events.find((told) => told.name === name && told.args[0]?.roomId !== undefined));

function comesIn(client, sessions = 1) {
  return until("it is let in", () => {
    if (client.failed && sessions === 1) throw new Error(`it was not let in: ${client.failed.message}`, { cause: client.failed });
    return client.sessions.length >= sessions;
  });
}

// Everything that one client does while nothing breaks. Answers the client, which stays.
async function scenario({ server, way, alice, user, family, transport }) {
  const room = await newRoom(server, [server.alice, user]);
  const options = { url: way.url, transport, token: user.token };
  for (const place of ["query", "header"]) {
    const client = family.open({ ...options, place });
    await comesIn(client);
    await say(alice, room, place);
    await hears(client, place);
    client.close();
  }

  const client = family.open({ ...options, place: "auth" });
  await comesIn(client);
  await until("the transport it is meant to have", () => client.settled());

  // Messages of both, with an ack and without.
  for (let at = 0; at < 3; at++) {
    await say(alice, room, `from alice ${at} ${CONTENT}`);
    const ack = await client.ask("send_message", { roomId: room, content: `acked ${at} ${CONTENT}` });
    assert.deepEqual([ack.ok, Object.keys(ack).sort()], [true, ["id", "ok", "seq", "timestamp"]]);
    client.emit("send_message", { roomId: room, content: `unacked ${at} ${CONTENT}` });
    await hears(client, `unacked ${at} ${CONTENT}`);
    assert.equal(client.heard.find(([message]) => message.seq === ack.seq)[0].id, ack.id);
  }
  const words = [0, 1, 2].flatMap((at) => ["from alice", "acked", "unacked"].map((who) => `${who} ${at} ${CONTENT}`));
  assert.deepEqual(contents(client), words);
  assert.deepEqual(new Set(client.heard.map(([message]) => message.sender)), new Set(["alice0", user.username]));

  // Refusals.
  client.emit("send_message", { roomId: room });
  const refused = await until("the error", () => client.events.find((told) => told.name === "error" && told.args[0]?.code));
  assert.equal(refused.args[0].message, "roomId and content are required");
  assert.equal((await client.ask("send_message", { roomId: "nowhere", content: "x" })).ok, false);

  // Typing.
  const heardByAlice = new Promise((resolve) => {
    alice.on("typing", (told) => told.roomId === room && resolve(told));
  });
  client.emit("typing", { roomId: room });
  assert.deepEqual(await heardByAlice, { roomId: room, username: user.username });
  alice.emit("typing", { roomId: room });
  assert.deepEqual((await event(client, "typing")).args, [{ roomId: room, username: "alice0" }]);

  // Away from the room for a message.
  client.emit("leave_room", { roomId: room });
  assert.deepEqual((await event(client, "left_room")).args, [{ roomId: room }]);
  const unheard = await say(alice, room, "not for this socket");
  const joined = await client.ask("join_room", { roomId: room });
  assert.deepEqual([joined.ok, joined.roomId, joined.lastSeq], [true, room, unheard.seq]);
  assert.deepEqual((await event(client, "joined_room")).args[0].roomId, room);
  await say(alice, room, "here again");
  await hears(client, "here again");
  words.push("here again");
  const history = await client.ask("get_messages", { roomId: room, limit: 3 });
  assert.deepEqual(history.messages.map(({ content }) => content), [words[8], "not for this socket", "here again"]);

  // Invited at two workers, one of which at least is not the client's.
  for (let worker = 0; worker < Math.min(2, server.workers); worker++) {
    const later = await newRoom(server, [server.alice]);
    await callAt(server, worker, "POST", `/api/chatrooms/${later}/invite`, server.alice.token, { participants: [user.username] });
    await say(alice, later, `invited at worker ${worker}`);
    await hears(client, `invited at worker ${worker}`);
    words.push(`invited at worker ${worker}`);
  }
  assert.deepEqual(contents(client), words);
  return client;
}

for (const workers of WORKERS) describe(`stock clients of ${workers} worker${workers > 1 ? "s" : ""}`, () => {
  const cells = FAMILIES.flatMap((name) => Object.keys(TRANSPORTS).flatMap((transport) => WAYS.map((way) => ({ name, transport, way }))));
  let server, nginx, stock, alice, users, hall, aside;
  before(async () => {
    server = await Server.start({ workers, extraArgs: ["--listen", "127.0.0.1:0"], tables: '[limits]\nmessages_per_second = 0\n[socketio]\nping_interval = "5s"\nping_timeout = "5s"\n' });
    server.first = server.processes("worker"); // until they are killed
    nginx = await Nginx.start(server.ports);
    stock = await families();
    [server.alice] = await newUsers(server, "alice", 1);
    users = await newUsers(server, "user", cells.length);
    hall = await newRoom(server, [server.alice, ...users], "hall");
    aside = await newRoom(server, [server.alice], "aside");
    alice = await connect(server, server.alice, { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 });
    alice.setMaxListeners?.(0);
  });
  after(async () => {
    for (const family of Object.values(stock)) family.stop();
    alice.disconnect();
    nginx.stop();
    await server.stop();
  });

  describe("each", { concurrency: 8 }, () => {
    for (const [at, cell] of cells.entries()) it(`${cell.name}, ${cell.transport}, ${cell.way}`, async () => {
      const way = { direct: server, nginx }[cell.way];
      cell.client = await scenario({ server, way, alice, user: users[at], family: stock[cell.name], transport: cell.transport });
    });
  });

  it("come back after each worker was killed, and have missed nothing", async () => {
    const here = cells.filter((cell) => cell.client);
    for (const cell of here) cell.before = cell.client.heard.length;
    const wanted = [];
    const post = (roomId, content) => until("an ack", async () =>
      (await alice.timeout(5_000).emitWithAck("send_message", { roomId, content, clientId: `${roomId} ${content}` })).seq);
    const insist = async (content) => wanted.push(await post(hall, content));
    await insist("before");
    // Two at a time of four, so that some stay.
    const all = server.processes("worker");
    const half = Math.ceil(all.length / 2);
    for (const killed of [all.slice(0, half), all.slice(half)].filter((some) => some.length > 0)) {
      for (const { pid } of killed) process.kill(pid, "SIGKILL");
      await until("they are gone", () => !killed.some(({ pid }) => alive(pid)));
      // What is published reaches every worker: the others have heard now that requests they were passed are gone. A
      // poll answered in the moment before is lost to clients whose requests can't be told from repeated ones.
      await post(aside, `without worker ${killed[0].id}`);
      // More than one payload may bring to clients that take few packets at once.
      for (let at = 0; at < 20; at++) await insist(`without worker ${killed[0].id}: ${at}`);
      await server.ready();
      await insist(`with worker ${killed[0].id} again`);
      for (const cell of here) {
        const whole = () => cell.client.heard.length >= cell.before + wanted.length && cell.client.settled();
        cell.back = await until("all is heard", whole).then(() => true, (error) => error);
      }
    }
    const wrong = [];
    for (const { name, transport, way, client, back, before } of here) {
      try {
        if (back !== true) throw back;
        assert.deepEqual(client.heard.slice(before).map(([message]) => message.seq), wanted);
        assert.ok(client.sessions.length > 1, "it lost its connection");
        // Those that recover by themselves get the place to go on from; nobody else gets a second argument.
        assert.deepEqual(new Set(client.heard.map((args) => args.length)), new Set([stock[name].recovers ? 2 : 1]));
        if (stock[name].recovers) assert.ok(client.sessions.slice(1).every(({ recovered }) => recovered), "recovered");
        held.get(name).set(column(transport, way, workers), true);
      } catch (error) {
        wrong.push(`${name}, ${transport}, ${way}: ${error.message}`);
      }
    }
    assert.deepEqual(wrong, []);
  });

  it("leave, and nothing of them stays", async () => {
    for (const { client } of cells) client?.close();
    // rust_socketio says goodbye and keeps the connection open.
    stock.rust_socketio.stop();
    await until("only alice is there", () => server.processes("worker").reduce((sum, worker) => sum + worker.connections, 0) === 1);
  });
});

after(() => console.log(table()));
