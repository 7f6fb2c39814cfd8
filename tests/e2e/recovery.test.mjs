// Nothing missed on reconnect: stock clients with nothing but Socket.IO's own connection-state recovery,
// through two workers, away in every way there is.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { io } from "socket.io-client";
import { closing, connect, frame, raw, refusal, say } from "./lib/clients.mjs";
import { Nginx } from "./lib/nginx.mjs";
import { Proxy } from "./lib/proxy.mjs";
import { newRoom, newUsers, ok } from "./lib/rest.mjs";
import { alive, fixedPort, Server } from "./lib/server.mjs";
import { next, until } from "./lib/wait.mjs";

const FAST = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100, forceNew: true };
const UNLIMITED = "[limits]\nmessages_per_second = 0\n";

// A client that reconnects by itself, over a proxy of its own. `heard` has the message events of its
// whole life, `gaps` the gap events, `sessions` a line for each connection.
async function wanderer(server, user, { auth = {}, ...options } = {}) {
  const proxy = await Proxy.start(server);
  const socket = io(proxy.url, { transports: ["websocket"], ...FAST, auth: { token: user.token, ...auth }, ...options });
  Object.assign(socket, { proxy, heard: [], extra: [], gaps: [], sessions: [] });
  socket.on("connect", () => socket.sessions.push({ id: socket.id, recovered: socket.recovered, pid: socket._pid }));
  socket.on("gap", (gap) => socket.gaps.push(gap));
  socket.on("message", (message, ...extra) => {
    socket.heard.push(message);
    socket.extra.push(extra);
  });
  await next(socket, "connect");
  return socket;
}

const last = (socket) => socket.sessions.at(-1);
const seqs = (socket) => socket.heard.map((m) => m.seq);
const contents = (socket) => socket.heard.map((m) => m.content);

async function away(socket) {
  // A stock client whose connections are lost in the middle of an upgrade notices by its heartbeat only.
  if (socket.io.opts.transports.length > 1)
    await until("the upgrade", () => socket.io.engine.transport.name === "websocket" && !socket.io.engine.upgrading);
  socket.proxy.cut();
  await until("the client is away", () => !socket.connected);
}

async function back(socket, sessions = socket.sessions.length + 1) {
  socket.proxy.restore();
  await until("the client is back", () => socket.connected && socket.sessions.length >= sessions);
}

function end(...sockets) {
  for (const socket of sockets) {
    socket.disconnect();
    socket.proxy?.stop();
  }
}

// Says `count` messages, as fast as they are acked; answers their seqs.
async function sayMany(socket, roomId, words, count) {
  const acks = await Promise.all(Array.from({ length: count }, (_, at) => say(socket, roomId, `${words} ${at}`)));
  return acks.map((ack) => ack.seq);
}

// The same by somebody whose own connection may be lost meanwhile.
async function insist(socket, roomId, words, count) {
  const seqs = [];
  for (let at = 0; at < count; at++) {
    const message = { roomId, content: `${words} ${at}`, clientId: `${words} ${at} ${Math.random()}` };
    seqs.push(await until("an ack", async () => (await socket.timeout(5_000).emitWithAck("send_message", message)).seq));
  }
  return seqs;
}

async function hearsAll(socket, wanted) {
  await until(`${wanted.length} messages are heard`, () => socket.heard.length >= wanted.length);
  assert.deepEqual(seqs(socket), wanted);
}

const WAYS = { "WebSocket": ["websocket"], "long polling": ["polling"], "both": ["polling", "websocket"] };

for (const [way, transports] of Object.entries(WAYS)) describe(`a client that comes back over ${way}`, () => {
  let server, users, alice, room, other;
  const leaver = (user) => wanderer(server, user, { transports });
  before(async () => {
    server = await Server.start({ port: await fixedPort(), tables: `${UNLIMITED}[socketio]\nrecovery_messages = 5000\nping_interval = "5s"\nping_timeout = "10s"\n` });
    users = await newUsers(server, "user", 6);
    alice = await connect(server, users[0], FAST);
    room = await newRoom(server, users.slice(0, 4), "theirs");
    other = await newRoom(server, [users[0], users[4]], "another");
  });
  after(async () => {
    end(alice);
    await server.stop();
  });

  it("after thousands of messages of other rooms has missed nothing, in order and before what is new", async () => {
    const bob = await leaver(users[1]);
    const wanted = await sayMany(alice, room, "before", 3);
    await hearsAll(bob, wanted);
    await away(bob);
    for (let at = 0; at < 5; at++) {
      wanted.push((await say(alice, room, `missed ${at}`)).seq);
      await sayMany(alice, other, "not his", 1_000);
    }
    const returned = back(bob);
    const live = sayMany(alice, room, "new", 50);
    await returned;
    wanted.push(...(await live), (await say(alice, room, "the last")).seq);
    await hearsAll(bob, wanted);
    assert.equal(last(bob).recovered, true);
    assert.deepEqual(contents(bob).slice(3, 8), [0, 1, 2, 3, 4].map((at) => `missed ${at}`));
    end(bob);
  });

  it("without having heard anything before has missed nothing", async () => {
    const bob = await leaver(users[1]);
    await away(bob);
    const wanted = await sayMany(alice, room, "missed", 20);
    await back(bob);
    await hearsAll(bob, wanted);
    assert.equal(last(bob).recovered, true);
    end(bob);
  });

  it("goes on with one session any number of times", async () => {
    const bob = await leaver(users[1]);
    const wanted = [];
    for (let round = 0; round < 3; round++) {
      await away(bob);
      wanted.push(...(await sayMany(alice, room, `missed ${round}`, 5)));
      await back(bob);
      wanted.push(...(await sayMany(alice, room, `new ${round}`, 5)));
      await hearsAll(bob, wanted);
    }
    await away(bob); // and once with nothing missed
    await back(bob);
    wanted.push((await say(alice, room, "the last")).seq);
    await hearsAll(bob, wanted);
    assert.deepEqual(bob.sessions.map((s) => s.recovered ?? false), [false, true, true, true, true]);
    for (const name of ["pid", "id"]) assert.equal(new Set(bob.sessions.map((s) => s[name])).size, 1, name);
    end(bob);
  });

  it("and speaks gets what it says itself in its place", async () => {
    const bob = await leaver(users[1]);
    await away(bob);
    const wanted = await sayMany(alice, room, "missed", 30);
    bob.emit("send_message", { roomId: room, content: "mine" });
    await back(bob);
    await until("its own", () => contents(bob).includes("mine"));
    assert.deepEqual(seqs(bob), [...wanted, bob.heard.at(-1).seq]);
    assert.equal(bob.heard.at(-1).content, "mine");
    end(bob);
  });

  it("after more pieces than fit one step has missed nothing", async () => {
    const bob = await leaver(users[1]);
    await away(bob);
    const long = "x".repeat(3_900);
    const wanted = await sayMany(alice, room, long, 400); // 1.6 MB
    const returned = back(bob);
    wanted.push(...(await sayMany(alice, room, "new", 20)));
    await returned;
    await hearsAll(bob, wanted);
    assert.equal(last(bob).recovered, true);
    end(bob);
  });

  it("before the server has noticed that it was gone is told all, and the dead connection hurts nobody", async () => {
    const bob = await leaver(users[1]);
    const wanted = await sayMany(alice, room, "before", 2);
    await hearsAll(bob, wanted);
    for (let round = 0; round < 8; round++) { // dealt to either worker
      bob.proxy.dropClients();
      await until("the client is back", () => bob.connected && bob.sessions.length === round + 2);
      wanted.push((await say(alice, room, `after ${round}`)).seq);
      await hearsAll(bob, wanted);
      assert.equal(last(bob).recovered, true);
    }
    // At least those that came back to the same worker have had their old connection closed.
    if (way === "WebSocket") await until("old connections are closed", () => bob.proxy.held < 9);
    end(bob);
  });

  it("with an offset that somebody changed begins anew and is told nothing old", async () => {
    const bob = await leaver(users[1]);
    const wanted = await sayMany(alice, room, "before", 2);
    await hearsAll(bob, wanted);
    await away(bob);
    await sayMany(alice, room, "missed", 5);
    const { _pid: pid, id } = bob;
    bob._lastOffset = bob._lastOffset.replace(/.$/, (digit) => (digit === "0" ? "1" : "0"));
    await back(bob);
    wanted.push((await say(alice, room, "new")).seq);
    await hearsAll(bob, wanted);
    assert.ok(!last(bob).recovered && last(bob).pid && last(bob).pid !== pid && last(bob).id !== id);
    // The new session can be recovered, although the client still had the bad offset when it began.
    await away(bob);
    wanted.push((await say(alice, room, "missed again")).seq);
    await back(bob);
    await hearsAll(bob, wanted);
    assert.equal(last(bob).recovered, true);
    end(bob);
  });

  it("with a pid that somebody changed, or with somebody else's, begins anew and hears nothing that is not its own", async () => {
    const carol = await leaver(users[2]);
    const stranger = await leaver(users[5]);
    await sayMany(alice, room, "before", 2);
    await until("carol hears", () => carol.heard.length === 2);
    await away(stranger);
    const { _pid: pid, _lastOffset: offset } = carol;
    await sayMany(alice, room, "missed", 5);
    for (const [own, stolen] of [[pid.replace(/.$/, (digit) => (digit === "0" ? "1" : "0")), offset], [pid, offset], ["", ""], [{}, 7]]) {
      const socket = await connect(server, users[5], { auth: { token: users[5].token, pid: own, offset: stolen } });
      assert.notEqual(socket._pid, own);
      assert.ok(socket._pid);
      await say(alice, room, "not for the stranger");
      assert.deepEqual(socket.heard, []);
      socket.disconnect();
    }
    stranger._pid = pid;
    stranger._lastOffset = offset;
    await back(stranger);
    assert.ok(!last(stranger).recovered);
    assert.deepEqual(stranger.heard, []);
    end(carol, stranger);
  });

  it("to rooms that changed meanwhile hears of each what was said while its user was in it", async () => {
    const dave = await leaver(users[3]);
    const call = (path, user, body = {}) => ok(server, "POST", path, user.token, body);
    const kept = await newRoom(server, [users[0], users[3]], "kept");
    const [left, again, joined, gone] = [
      await newRoom(server, [users[0], users[3]], "left"), await newRoom(server, [users[0], users[3]], "again"),
      await newRoom(server, [users[0]], "joined"), await newRoom(server, [users[3]], "gone"),
    ];
    const wanted = await sayMany(alice, kept, "live", 2);
    await hearsAll(dave, wanted);
    await away(dave);
    const due = async (roomId, words) => wanted.push((await say(alice, roomId, words)).seq);
    await due(left, "before he left");
    await due(again, "before he left");
    await say(alice, joined, "before he joined");
    await call(`/api/chatrooms/${left}/leave`, users[3]);
    await call(`/api/chatrooms/${again}/leave`, users[3]);
    await call(`/api/chatrooms/${gone}/leave`, users[3]);
    await due(kept, "kept");
    await say(alice, left, "after he left");
    await say(alice, again, "while he was out");
    await call(`/api/chatrooms/${joined}/invite`, users[0], { participants: [users[3].username] });
    await call(`/api/chatrooms/${again}/invite`, users[0], { participants: [users[3].username] });
    await due(joined, "after he joined");
    await due(again, "in again");
    await say(alice, left, "still without him");
    await due(kept, "kept too");
    await back(dave);
    await due(kept, "live");
    await due(joined, "live");
    await hearsAll(dave, wanted);
    assert.equal(last(dave).recovered, true);
    end(dave);
  });

  it("after a killed worker has missed nothing", async () => {
    const sockets = [await leaver(users[1]), await leaver(users[2]), await leaver(users[3])];
    const wanted = await sayMany(alice, room, "before", 2);
    for (const socket of sockets) await hearsAll(socket, wanted);
    for (const { pid } of server.processes("worker")) {
      process.kill(pid, "SIGKILL");
      await until("the worker is gone", () => !alive(pid));
      wanted.push(...(await insist(alice, room, "meanwhile", 10)));
      await server.ready();
      wanted.push(...(await insist(alice, room, "later", 2)));
    }
    for (const socket of sockets) {
      await hearsAll(socket, wanted);
      assert.ok(socket.sessions.slice(1).every((session) => session.recovered));
      assert.ok(socket.sessions.length > 1, "both workers were killed");
    }
    end(...sockets);
  });

  it("after a killed storage writer has missed nothing", async () => {
    const bob = await leaver(users[1]);
    const wanted = await sayMany(alice, room, "before", 2);
    await away(bob);
    wanted.push(...(await sayMany(alice, room, "missed", 10)));
    const [{ pid }] = server.processes("storage");
    process.kill(pid, "SIGKILL");
    const returned = back(bob);
    const live = insist(alice, room, "during", 10);
    await returned;
    wanted.push(...(await live));
    await hearsAll(bob, wanted);
    assert.equal(last(bob).recovered, true);
    await server.ready();
    end(bob);
  });

  it("after the whole service was killed and started again has missed nothing", async () => {
    const bob = await leaver(users[1]);
    const carol = await leaver(users[2]);
    const wanted = await sayMany(alice, room, "before", 2);
    await away(carol);
    wanted.push(...(await sayMany(alice, room, "missed", 10)));
    await until("bob hears", () => bob.heard.length === wanted.length);
    await server.killSupervisor();
    await server.serve();
    await until("alice and bob are back", () => alice.connected && bob.connected);
    wanted.push(...(await sayMany(alice, room, "in the next life", 5)));
    await back(carol);
    for (const socket of [bob, carol]) {
      await hearsAll(socket, wanted);
      assert.equal(last(socket).recovered, true);
    }
    end(bob, carol);
  });

  it("can leave the namespace and come back over the same connection", async () => {
    const bob = await leaver(users[1]);
    bob.disconnect();
    const wanted = await sayMany(alice, room, "missed", 3);
    bob.connect();
    await hearsAll(bob, wanted);
    end(bob);
  });
});

describe("a client whose connection is half open", () => {
  for (const [way, transports] of Object.entries(WAYS)) it(`over ${way} has missed nothing of what was written into it`, async () => {
    const tables = `${UNLIMITED}[socketio]\nping_interval = "1s"\nping_timeout = "2s"\n`;
    const server = await Server.start({ tables });
    const users = await newUsers(server, "user", 2);
    const alice = await connect(server, users[0], FAST);
    const room = await newRoom(server, users);
    const bob = await wanderer(server, users[1], { transports });
    if (way === "both") await until("the upgrade", () => bob.io.engine.transport.name === "websocket");

    const wanted = await sayMany(alice, room, "before", 2);
    await hearsAll(bob, wanted);
    bob.proxy.freeze();
    wanted.push(...(await sayMany(alice, room, "into the void", 200)));
    await hearsAll(bob, wanted);
    assert.equal(bob.sessions.length, 2);
    assert.equal(last(bob).recovered, true);
    if (way === "WebSocket") await until("the dead connection is closed", () => bob.proxy.held === 1);
    end(bob, alice);
    await server.stop();
  });
});

describe("a client that has missed more than the limit", () => {
  let server, users, alice, room;
  before(async () => {
    server = await Server.start({ tables: `${UNLIMITED}[socketio]\nrecovery_messages = 20\n` });
    users = await newUsers(server, "user", 2);
    alice = await connect(server, users[0]);
    room = await newRoom(server, users);
  });
  after(async () => {
    end(alice);
    await server.stop();
  });

  it("is told of the gap and begins anew; at the limit it is not", async () => {
    const bob = await wanderer(server, users[1]);
    let wanted = await sayMany(alice, room, "before", 2);
    await hearsAll(bob, wanted);
    const { pid } = last(bob);

    await away(bob);
    wanted.push(...(await sayMany(alice, room, "exactly", 20)));
    await back(bob);
    await hearsAll(bob, wanted);
    assert.deepEqual([last(bob).recovered, last(bob).pid, bob.gaps], [true, pid, []]);

    await away(bob);
    const missed = await sayMany(alice, room, "too many", 21);
    await back(bob);
    await until("the gap", () => bob.gaps.length === 1);
    assert.deepEqual(bob.gaps, [{ from: missed[0], to: missed[20] }]);
    assert.ok(!last(bob).recovered && last(bob).pid !== pid);
    wanted.push((await say(alice, room, "new")).seq);
    await hearsAll(bob, wanted);

    await away(bob);
    wanted.push((await say(alice, room, "missed")).seq);
    await back(bob);
    await hearsAll(bob, wanted);
    assert.deepEqual([last(bob).recovered, bob.gaps.length], [true, 1]);
    end(bob);
  });

  it("in `since` is told of the gap as well", async () => {
    const seqs = await sayMany(alice, room, "many", 40);
    const ws = await raw(server);
    ws.send(`40${JSON.stringify({ token: users[1].token, since: seqs[0] })}`);
    const gap = JSON.parse((await frame(ws, '42["gap"')).slice(2))[1];
    assert.deepEqual(gap, { from: seqs[0] + 1, to: seqs[39] });
    ws.close();
  });
});

describe("since", () => {
  let server, users, alice, room, said;
  before(async () => {
    server = await Server.start({ tables: UNLIMITED });
    users = await newUsers(server, "user", 2);
    alice = await connect(server, users[0]);
    room = await newRoom(server, users);
    said = await sayMany(alice, room, "said", 30);
  });
  after(async () => {
    end(alice);
    await server.stop();
  });

  it("brings what came after that message, as a number or in digits, and then what is new", async () => {
    for (const since of [said[9], `${said[9]}`, 0, said[29], said[29] + 1_000]) {
      const bob = await connect(server, users[1], { auth: { token: users[1].token, since } });
      const missed = said.filter((seq) => seq > since);
      const { seq } = await say(alice, room, `after ${since}`);
      said.push(seq);
      await until("all is heard", () => bob.heard.at(-1)?.seq === seq);
      assert.deepEqual(seqs(bob), [...missed, seq]);
      bob.disconnect();
    }
  });

  it("that is no message's number is refused in words", async () => {
    for (const since of [-1, 1.5, "x", "", true, {}, "1e3"]) {
      const refused = await refusal(server, { auth: { token: users[1].token, since } });
      assert.equal(refused.message, "since must be the seq of a message, a whole number", JSON.stringify(since));
    }
    const refused = await refusal(server, { auth: { token: users[1].token, recovery: "yes" } });
    assert.equal(refused.message, "recovery must be true or false");
  });
});

describe("the offset", () => {
  const modes = {
    auto: { browserless: true, unknown: false },
    explicit: { browserless: false, unknown: false },
    always: { browserless: true, unknown: true },
  };
  for (const [mode, expected] of Object.entries(modes)) {
    it(`under recovery = "${mode}" goes to whom it should`, async () => {
      const server = await Server.start({ tables: `${UNLIMITED}[socketio]\nrecovery = "${mode}"\n` });
      const users = await newUsers(server, "user", 2);
      const room = await newRoom(server, users);
      const alice = await connect(server, users[0]);
      const heardBy = async (ws) => {
        const before = ws.frames.length;
        await say(alice, room, "hello");
        const text = await until("the message", () => ws.frames.slice(before).find((frame) => frame.startsWith('42["message"')));
        return JSON.parse(text.slice(2)).length;
      };
      // Stock clients on Node: those that don't say what they want, and those that do.
      for (const [asked, marked] of [[{}, expected.browserless], [{ recovery: true }, true], [{ recovery: false }, false]]) {
        const bob = await wanderer(server, users[1], { auth: asked });
        await say(alice, room, "hello");
        await until("it is heard", () => bob.extra.length === 1);
        assert.deepEqual([bob.extra[0].length, Boolean(bob._pid)], [marked ? 1 : 0, marked], JSON.stringify(asked));
        await away(bob);
        await say(alice, room, "missed");
        await back(bob);
        const { seq } = await say(alice, room, "new");
        await until("the new one", () => bob.heard.at(-1).seq === seq);
        assert.deepEqual([Boolean(last(bob).recovered), bob.heard.length], [marked, marked ? 3 : 2]);
        end(bob);
      }
      // A client that shows nothing of who it is.
      for (const [asked, marked] of [[{}, expected.unknown], [{ recovery: true }, true], [{ pid: "x" }, true], [{ recovery: false, pid: "x" }, false]]) {
        const ws = await raw(server);
        ws.send(`40${JSON.stringify({ token: users[1].token, ...asked })}`);
        const answer = JSON.parse((await frame(ws, "40{")).slice(2));
        assert.deepEqual([await heardBy(ws), "pid" in answer], [marked ? 3 : 2, marked], JSON.stringify(asked));
        ws.close();
        await closing(ws);
      }
      end(alice);
      await server.stop();
    });
  }
});

describe("behind an nginx that rewrites what is between two hops", () => {
  it("the JavaScript client is recognised, whatever it connects by, and comes back", async () => {
    const server = await Server.start({ tables: UNLIMITED });
    const nginx = await Nginx.start([server.port]);
    try {
      const users = await newUsers(server, "user", 2);
      const alice = await connect(server, users[0]);
      const room = await newRoom(server, users);
      for (const transports of Object.values(WAYS)) {
        const bob = await wanderer(nginx, users[1], { transports });
        const wanted = await sayMany(alice, room, "before", 2);
        await hearsAll(bob, wanted);
        await away(bob);
        wanted.push(...(await sayMany(alice, room, "missed", 5)));
        await back(bob);
        await hearsAll(bob, wanted);
        assert.equal(last(bob).recovered, true);
        end(bob);
      }
      end(alice);
    } finally {
      nginx.stop();
      await server.stop();
    }
  });
});
