// Who stays in: one-time tickets, tokens that end or are renewed while a socket lives, and being logged
// out everywhere.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { ask, client, connect, connectOn, connected, refusal, say, workerOf } from "./lib/clients.mjs";
import { claimsOf, sign } from "./lib/jwt.mjs";
import { call, newUsers, ok } from "./lib/rest.mjs";
import { SECRET, Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const REFUSED = "Authentication error";

async function ticketFor(server, user) {
  const { ticket, expiresIn } = await ok(server, "POST", "/api/auth/ticket", user.token);
  assert.match(ticket, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.ok(expiresIn > 0);
  return ticket;
}

// Whether a client gets in.
function getsIn(socket) {
  return connected(socket).then(() => true, (error) => {
    if (error.message !== REFUSED) throw error;
    return false;
  });
}

describe("a ticket", () => {
  let server, alice;
  before(async () => {
    server = await Server.start({ workers: 3 });
    [alice] = await newUsers(server, "alice", 1);
  });
  after(() => server.stop());

  const places = {
    "the CONNECT payload": (ticket) => ({ auth: { ticket } }),
    "the CONNECT payload, as a token": (token) => ({ auth: { token } }),
    "the query": (ticket) => ({ query: { ticket } }),
    "the query, as a token": (token) => ({ query: { token } }),
    "the Authorization header": (ticket) => ({ extraHeaders: { Authorization: `Bearer ${ticket}` } }),
  };
  const ways = { WebSocket: ["websocket"], polling: ["polling"], both: ["polling", "websocket"] };
  for (const [place, options] of Object.entries(places)) for (const [way, transports] of Object.entries(ways))
    it(`lets one socket in, in ${place}, over ${way}`, async () => {
      const ticket = await ticketFor(server, alice);
      const first = client(server, { ...options(ticket), transports });
      assert.equal(await getsIn(first), true);
      if (way === "both") await until("the upgrade", () => first.io.engine.transport.name === "websocket");
      for (const again of Object.values(places))
        assert.equal((await refusal(server, { ...again(ticket), transports })).message, REFUSED);
      assert.ok(first.connected);
      first.disconnect();
    });

  it("opens nothing else, and only to whom it belongs", async () => {
    const ticket = await ticketFor(server, alice);
    assert.equal((await call(server, "GET", "/api/chatrooms", { token: ticket })).status, 401);
    assert.equal((await call(server, "POST", "/api/auth/ticket", { token: ticket })).status, 401);
    assert.equal((await call(server, "POST", "/api/auth/ticket")).status, 401);
    for (const bad of ["", "x", 5, null, ["a"], ticket.slice(1), `${ticket} `, ticket.replace(/.$/, (c) => (c === "0" ? "1" : "0"))])
      assert.equal((await refusal(server, { auth: { ticket: bad } })).message, REFUSED, JSON.stringify(bad));
    const socket = client(server, { auth: { ticket } });
    assert.equal(await getsIn(socket), true);
    const { username } = alice;
    const other = await connect(server, alice);
    const { roomId } = await ok(server, "POST", "/api/chatrooms", alice.token, { name: "room" });
    const typed = new Promise((resolve) => other.once("message", resolve));
    await socket.timeout(30_000).emitWithAck("send_message", { roomId, content: "by ticket" });
    assert.equal((await typed).sender, username);
    for (const each of [socket, other]) each.disconnect();
  });

  it("is won by exactly one of fifty sockets on all workers, a hundred times", async () => {
    const workers = new Set();
    for (let round = 0; round < 100; round++) {
      const ticket = await ticketFor(server, alice);
      const sockets = Array.from({ length: 50 }, (_, at) =>
        client(server, at % 3 === 0 ? { query: { ticket } } : { auth: { ticket }, transports: at % 3 === 1 ? ["websocket"] : ["polling"] }));
      const won = await Promise.all(sockets.map(getsIn));
      assert.equal(won.filter(Boolean).length, 1, `round ${round}`);
      const winner = sockets[won.indexOf(true)];
      if (winner.io.engine.transport.name === "websocket") workers.add(workerOf(server, winner));
      for (const socket of sockets) socket.disconnect();
    }
    assert.ok(workers.size > 1, "winners on one worker only");
  });

  it("is lost with the storage writer, and the next one is good", async () => {
    const lost = await ticketFor(server, alice);
    const [{ pid }] = server.processes("storage");
    process.kill(pid, "SIGKILL");
    await until("another storage writer", () => server.processes("storage").some((p) => p.pid > 0 && p.pid !== pid));
    assert.equal((await refusal(server, { auth: { ticket: lost } })).message, REFUSED);
    const socket = client(server, { auth: { ticket: await ticketFor(server, alice) } });
    assert.equal(await getsIn(socket), true);
    socket.disconnect();
  });
});

describe("a ticket that nobody uses", () => {
  it("is good no more after auth.ticket_ttl", async () => {
    const server = await Server.start({ auth: 'ticket_ttl = "1s"\n' });
    const [alice] = await newUsers(server, "alice", 1);
    const { ticket, expiresIn } = await ok(server, "POST", "/api/auth/ticket", alice.token);
    assert.equal(expiresIn, 1);
    const made = Date.now();
    await until("its time is over", () => Date.now() - made > 1_000);
    assert.equal((await refusal(server, { auth: { ticket } })).message, REFUSED);
    await server.stop();
  });
});

function watch(socket) {
  Object.assign(socket, { ends: [], errors: [], heard: [], warnings: [] });
  socket.on("disconnect", (reason) => socket.ends.push(reason));
  socket.on("error", (error) => socket.errors.push(error));
  socket.on("message", (message) => socket.heard.push(message));
  socket.on("auth_expiring", (warning) => socket.warnings.push(warning));
}

// A connected client that collects what it is told, and how it ended: the reasons of `disconnect`.
async function stayer(server, user, options = {}) {
  const socket = client(server, { auth: { token: user.token }, ...options });
  watch(socket);
  await connected(socket);
  return socket;
}

// The same on that worker.
async function stayerOn(server, worker, user) {
  const socket = await connectOn(server, worker, user);
  socket.ends = [];
  socket.on("disconnect", (reason) => socket.ends.push(reason));
  return socket;
}

function isEnded(socket, code) {
  return until(`it is ended with ${code}`, () => {
    if (!socket.ends.length) return false;
    assert.deepEqual(socket.ends, ["io server disconnect"]);
    assert.deepEqual(socket.errors.map((error) => error.code), [code]);
    return true;
  });
}

// Every worker's answer to a call, told apart by trying until each has answered.
async function onEveryWorker(server, token) {
  const statuses = new Set();
  for (let call_ = 0; call_ < 40; call_++) statuses.add((await call(server, "GET", "/api/chatrooms", { token })).status);
  return [...statuses];
}

describe("a token that ends", () => {
  const SHORT = 'token_ttl = "10s"\nexpiry_warning = "8s"\n';
  let server;
  before(async () => {
    server = await Server.start({ auth: SHORT });
  });
  after(() => server.stop());
  const fresh = async () => {
    const { username, password } = { username: `user${Math.random()}`, password: "password" };
    await ok(server, "POST", "/api/auth/signup", undefined, { username, password });
    return { login: () => ok(server, "POST", "/api/auth/login", undefined, { username, password }) };
  };
  const ends = (token) => new Date(claimsOf(token).exp * 1000).toISOString();

  for (const [way, transports] of Object.entries({ WebSocket: ["websocket"], polling: ["polling"] }))
    it(`is announced, and ends its socket, over ${way}`, async () => {
      const user = await (await fresh()).login();
      const socket = await stayer(server, user, { transports });
      await until("the warning", () => socket.warnings.length);
      await isEnded(socket, "TOKEN_EXPIRED");
      assert.deepEqual(socket.warnings, [{ expiresAt: ends(user.token) }]);
      assert.ok(Date.now() >= claimsOf(user.token).exp * 1000, "ended no earlier than said");
      assert.equal((await refusal(server, { auth: { token: user.token } })).message, REFUSED);
    });

  it("is announced at once enough to one with less than the warning's time left", async () => {
    const user = await (await fresh()).login();
    const claims = claimsOf(user.token);
    const now = Math.floor(Date.now() / 1000);
    const token = sign({ ...claims, exp: now + 5 }, SECRET);
    const socket = await stayer(server, { ...user, token });
    await isEnded(socket, "TOKEN_EXPIRED");
    assert.deepEqual(socket.warnings, [{ expiresAt: ends(token) }]);
  });

  it("is replaced in place, again and again, and nothing is lost meanwhile", async () => {
    const account = await fresh();
    let user = await account.login();
    const socket = await stayer(server, user);
    const { roomId } = await ok(server, "POST", "/api/chatrooms", user.token, { name: "room" });
    const { id } = socket;
    for (let round = 0; round < 3; round++) {
      await until("another warning", () => socket.warnings.length > round);
      const old = user;
      user = await account.login();
      assert.deepEqual(await ask(socket, "auth_refresh", { token: user.token }), { ok: true, expiresAt: ends(user.token) });
      await until("the old token's end is over", () => Date.now() > claimsOf(old.token).exp * 1000 + 500);
      await say(socket, roomId, `round ${round}`);
    }
    assert.deepEqual([socket.id, socket.ends, socket.errors], [id, [], []]);
    await isEnded(socket, "TOKEN_EXPIRED");
    assert.deepEqual(socket.heard.map((m) => m.content), ["round 0", "round 1", "round 2"]);
  });

  it("is replaced by nothing that is no good token of the same user", async () => {
    const [login, other] = [await (await fresh()).login(), await (await fresh()).login()];
    const claims = { ...claimsOf(login.token), exp: claimsOf(login.token).exp + 3_600 };
    const user = { ...login, token: sign(claims, SECRET) };
    const long = sign({ ...claimsOf(other.token), exp: claims.exp }, SECRET);
    const socket = await stayer(server, user);
    const bad = {
      UNAUTHORIZED: ["", "x", `${user.token}x`, sign({ ...claims, exp: claims.iat - 1 }, SECRET), sign(claims, "another secret of good length, 32+"),
        (await ok(server, "POST", "/api/auth/ticket", user.token)).ticket],
      FORBIDDEN: [long],
      INVALID_REQUEST: [undefined, null, 5, {}],
    };
    for (const [code, tokens] of Object.entries(bad)) for (const token of tokens) {
      const ack = await ask(socket, "auth_refresh", { token });
      assert.deepEqual([ack.ok, ack.code, typeof ack.message], [false, code, "string"], String(token));
    }
    socket.emit("auth_refresh", { token: "x" });
    await until("the error event", () => socket.errors.length === 1);
    assert.equal(socket.errors.pop().code, "UNAUTHORIZED");
    assert.equal((await ask(socket, "auth_refresh")).code, "INVALID_REQUEST");
    assert.deepEqual(socket.ends, []);
    socket.disconnect();
  });

  it("is the end of a socket that came by its ticket as well", async () => {
    const user = await (await fresh()).login();
    const socket = await stayer(server, user, { auth: { ticket: await ticketFor(server, user) } });
    await isEnded(socket, "TOKEN_EXPIRED");
    assert.deepEqual(socket.warnings, [{ expiresAt: ends(user.token) }]);
    await until("it is counted", () => server.processes("worker").some((p) => p.report.tokens_expired_total > 0));
  });
});

describe("a name in open mode", () => {
  it("has no end, and may take one", async () => {
    const server = await Server.start({ auth: 'mode = "open"\ntoken_ttl = "8s"\n' });
    const [alice] = await newUsers(server, "alice", 1);
    const socket = await stayer(server, alice, { auth: {}, query: { username: alice.username } });
    await until("a token would have ended", () => Date.now() > claimsOf(alice.token).exp * 1000 + 1_000);
    assert.deepEqual(socket.ends, []);
    const login = await ok(server, "POST", "/api/auth/login", undefined, { username: alice.username, password: "password" });
    assert.equal((await ask(socket, "auth_refresh", { token: login.token })).ok, true);
    await isEnded(socket, "TOKEN_EXPIRED");
    await server.stop();
  });
});

describe("logging out everywhere", () => {
  const WAYS = { WebSocket: ["websocket"], polling: ["polling"], both: ["polling", "websocket"] };
  let server, users, at = 0;
  before(async () => {
    server = await Server.start({ workers: 3 });
    users = await newUsers(server, "user", 15);
  });
  after(() => server.stop());
  const login = ({ username }, password = "password") =>
    ok(server, "POST", "/api/auth/login", undefined, { username, password });
  const logoutAll = (user) => ok(server, "POST", "/api/auth/logout-all", user.token);

  it("ends the user's sockets on every worker and by every transport, and nobody else's", async () => {
    const [alice, bob] = [users[at++], users[at++]];
    const sockets = [await stayer(server, bob)];
    for (const worker of [0, 1, 2]) {
      sockets.push(await stayerOn(server, worker, alice));
    }
    for (const transports of Object.values(WAYS)) for (let more = 0; more < 4; more++)
      sockets.push(await stayer(server, alice, { transports, reconnection: true, reconnectionDelay: 1 }));
    const message = await logoutAll(alice);
    assert.equal(typeof message.message, "string");
    const [other, ...own] = sockets;
    for (const socket of own) await isEnded(socket, "LOGGED_OUT");
    assert.ok(other.connected);
    other.disconnect();
    const counted = () => server.processes("worker").reduce((sum, p) => sum + p.report.logged_out_total, 0);
    await until("they are counted", () => counted() === own.length);
  });

  // Where an end can meet a client that goes over from long polling to a WebSocket. The client lets its
  // last request end, says over the WebSocket that it has, and only then listens there.
  const MOMENTS = {
    "when the WebSocket works": (engine, entered, end) =>
      engine.once("upgrading", () => entered.then(end)),
    "when no request is under way any more": (engine, entered, end) =>
      engine.once("upgrading", () => {
        const pause = engine.transport.pause.bind(engine.transport);
        engine.transport.pause = (then) => entered.then(() => pause(() => end().then(then)));
      }),
    "when it has gone over": (engine, entered, end) => engine.once("upgrade", () => entered.then(end)),
  };
  for (const [moment, meet] of Object.entries(MOMENTS))
    it(`tells those why who are on their way from long polling to a WebSocket, ${moment}`, async () => {
      const alice = users[at++];
      for (let round = 0; round < 10; round++) {
        const user = await login(alice);
        const socket = client(server, { auth: { token: user.token }, transports: ["polling", "websocket"], reconnection: true, reconnectionDelay: 1 });
        watch(socket);
        const entered = new Promise((resolve) => socket.once("connect", resolve));
        socket.io.once("open", () => meet(socket.io.engine, entered, () => logoutAll(user)));
        await connected(socket);
        await isEnded(socket, "LOGGED_OUT");
      }
    });

  it("holds on every worker from the answer on, for calls, sockets, tickets and renewals", async () => {
    const alice = users[at++];
    for (let round = 0; round < 10; round++) {
      const user = await login(alice);
      const ticket = await ticketFor(server, user);
      assert.deepEqual(await onEveryWorker(server, user.token), [200]);
      await logoutAll(user);
      assert.deepEqual(await onEveryWorker(server, user.token), [401]);
      const tries = [];
      for (let each = 0; each < 10; each++)
        for (const auth of [{ token: user.token }, { token: user.token, recovery: true }]) tries.push(refusal(server, { auth }));
      tries.push(refusal(server, { auth: { ticket } }), refusal(server, { query: { token: user.token } }));
      for (const refused of await Promise.all(tries)) assert.equal(refused.message, REFUSED);
      assert.equal((await call(server, "POST", "/api/auth/logout-all", { token: user.token })).status, 401);
      // In the same second, most likely.
      const again = await login(alice);
      assert.deepEqual(await onEveryWorker(server, again.token), [200]);
      const socket = await stayer(server, again);
      assert.equal((await ask(socket, "auth_refresh", { token: user.token })).code, "UNAUTHORIZED");
      assert.deepEqual([socket.connected, socket.errors], [true, []]);
      socket.disconnect();
    }
  });

  it("spares who logged in anew, however fast", async () => {
    const alice = users[at++];
    for (let round = 0; round < 20; round++) {
      const old = await login(alice);
      const before = await stayer(server, old);
      await logoutAll(old);
      const user = await login(alice);
      const sockets = await Promise.all([1, 2, 3, 4].map(() => stayer(server, user)));
      await isEnded(before, "LOGGED_OUT");
      for (const socket of sockets) {
        assert.deepEqual([socket.connected, socket.ends, socket.errors], [true, [], []], `round ${round}`);
        socket.disconnect();
      }
    }
  });

  it("judges tokens that others sign by their second", async () => {
    const alice = users[at++];
    const claims = claimsOf(alice.token);
    const foreign = (iat) => sign({ sub: claims.sub, username: claims.username, iat, exp: claims.exp, jti: "x" }, SECRET);
    const before = Math.floor(Date.now() / 1000);
    assert.deepEqual(await onEveryWorker(server, foreign(before)), [200]);
    await logoutAll(alice);
    const after = Math.floor(Date.now() / 1000);
    assert.deepEqual(await onEveryWorker(server, foreign(before)), [401]);
    await until("the next second", () => Date.now() / 1000 >= after + 1);
    assert.deepEqual(await onEveryWorker(server, foreign(after + 1)), [200]);
  });

  it("leaves no way back by an old pid, with the old token or a new one", async () => {
    const alice = users[at++];
    const old = await login(alice);
    const socket = await stayer(server, old);
    const { roomId } = await ok(server, "POST", "/api/chatrooms", old.token, { name: "room" });
    await say(socket, roomId, "before");
    await until("it is heard", () => socket.heard.length === 1);
    const pid = socket._pid;
    assert.ok(pid);
    await logoutAll(old);
    await isEnded(socket, "LOGGED_OUT");
    // The same socket object still has its pid and offset, and brings both.
    await assert.rejects(connected(socket), { message: REFUSED });
    const user = await login(alice);
    socket.auth = { token: user.token };
    await connected(socket);
    assert.deepEqual([Boolean(socket.recovered), socket._pid === pid, socket.heard.length], [false, false, 1]);
    // And the new session is one to come back to.
    const next_ = socket._pid;
    socket.io.engine.close();
    await until("it is away", () => !socket.connected);
    await connected(socket);
    assert.deepEqual([socket.recovered, socket._pid], [true, next_]);
    socket.disconnect();
  });

  it("stays after kill -9 of the storage writer, of a worker and of everything", async () => {
    const alice = users[at++];
    const revoked = [];
    for (const role of ["storage", "worker"]) {
      const user = await login(alice);
      await logoutAll(user);
      revoked.push(user.token);
      const [{ id, pid }] = server.processes(role);
      process.kill(pid, "SIGKILL");
      await until(`another ${role}`, () => server.processes(role).some((p) => (p.id ?? 0) === (id ?? 0) && p.pid > 0 && p.pid !== pid));
      await server.ready();
      for (const token of revoked) assert.deepEqual(await onEveryWorker(server, token), [401], role);
      const socket = await stayer(server, await login(alice));
      socket.disconnect();
    }
    await server.killSupervisor();
    await server.serve();
    await server.ready();
    for (const token of revoked) {
      assert.deepEqual(await onEveryWorker(server, token), [401]);
      assert.equal((await refusal(server, { auth: { token } })).message, REFUSED);
    }
    const user = await login(alice);
    assert.deepEqual(await onEveryWorker(server, user.token), [200]);
    server.verify();
  });

  it("reaches sockets while the storage writer comes and goes", async () => {
    const alice = users[at++];
    for (let round = 0; round < 5; round++) {
      const user = await login(alice);
      const sockets = await Promise.all([1, 2, 3, 4, 5, 6].map(() => stayer(server, user)));
      const [{ pid }] = server.processes("storage");
      const done = logoutAll(user);
      process.kill(pid, "SIGKILL");
      await done;
      for (const socket of sockets) await isEnded(socket, "LOGGED_OUT");
      assert.deepEqual(await onEveryWorker(server, user.token), [401]);
    }
  });
});

describe("changing the password", () => {
  let server, users, at = 0;
  before(async () => {
    server = await Server.start({ workers: 2 });
    users = await newUsers(server, "user", 4);
  });
  after(() => server.stop());
  const login = ({ username }, password) => call(server, "POST", "/api/auth/login", { payload: { username, password } });
  const change = (token, currentPassword, newPassword) =>
    call(server, "POST", "/api/auth/password", { token, payload: { currentPassword, newPassword } });

  it("ends sockets and tokens, and gives a new one", async () => {
    const alice = users[at++];
    const sockets = [await stayer(server, alice), await stayer(server, alice, { transports: ["polling"] })];
    for (const worker of [0, 1]) {
      sockets.push(await stayerOn(server, worker, alice));
    }
    const { status, body } = await change(alice.token, "password", "another one");
    assert.equal(status, 200, JSON.stringify(body));
    assert.deepEqual(Object.keys(body).sort(), ["message", "token"]);
    assert.deepEqual(await onEveryWorker(server, alice.token), [401]);
    assert.deepEqual(await onEveryWorker(server, body.token), [200]);
    for (const socket of sockets) await isEnded(socket, "LOGGED_OUT");
    const socket = await stayer(server, { ...alice, token: body.token });
    assert.equal((await login(alice, "password")).status, 401);
    const again = await login(alice, "another one");
    assert.equal(again.status, 200);
    assert.deepEqual(await onEveryWorker(server, again.body.token), [200]);
    assert.deepEqual([socket.connected, socket.ends], [true, []]);
    socket.disconnect();
  });

  it("is refused for a wrong password, a bad new one, or no token, and changes nothing", async () => {
    const alice = users[at++];
    const socket = await stayer(server, alice);
    for (const [answer, expected] of [
      [await change(alice.token, "wrong", "new"), "403 WRONG_PASSWORD"],
      [await change(alice.token, "", "new"), "403 WRONG_PASSWORD"],
      [await change(alice.token, "password", ""), "400 INVALID_REQUEST"],
      [await change(alice.token, "password", "x".repeat(1_025)), "400 INVALID_REQUEST"],
      [await change(alice.token, "password", 5), "400 INVALID_REQUEST"],
      [await change(alice.token, undefined, "new"), "400 INVALID_REQUEST"],
      [await change(undefined, "password", "new"), "401 UNAUTHORIZED"],
      [await change("x", "password", "new"), "401 UNAUTHORIZED"],
    ]) assert.equal(`${answer.status} ${answer.body.code}`, expected);
    assert.deepEqual([(await login(alice, "password")).status, socket.connected, socket.ends], [200, true, []]);
    assert.deepEqual(await onEveryWorker(server, alice.token), [200]);
    socket.disconnect();
  });

  it("is done by exactly one of many at the same time", async () => {
    const alice = users[at++];
    const answers = await Promise.all([..."abcdefgh"].map((password) => change(alice.token, "password", password)));
    const done = answers.findIndex((answer) => answer.status === 200);
    assert.deepEqual(answers.map((answer) => answer.status).sort(), [200, ...Array(7).fill(401)]);
    assert.equal((await login(alice, "abcdefgh"[done])).status, 200);
    assert.deepEqual(await onEveryWorker(server, answers[done].body.token), [200]);
  });
});
