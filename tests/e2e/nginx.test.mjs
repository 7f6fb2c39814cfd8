// The shipped nginx/minitalk.conf in front of a real server: TLS, both transports, what is kept from whom,
// what is in the logs, reloads under load, and a server that goes away.

import assert from "node:assert/strict";
import http from "node:http";
import https from "node:https";
import { after, before, describe, it } from "node:test";
import { ask, client, connect, connected, hears, say } from "./lib/clients.mjs";
import { BrokenUpstream, Nginx } from "./lib/nginx.mjs";
import { newRoom, newUsers, ok } from "./lib/rest.mjs";
import { fixedPort, Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

// An operator behind another proxy, which here is the test: it says who the client is.
const behindAnother = (text) => text
  .replace("#   set_real_ip_from 10.0.0.0/8;", "set_real_ip_from 127.0.0.1;")
  .replace("#   real_ip_header X-Forwarded-For;", "real_ip_header X-Forwarded-For;");
const OUTSIDER = { "x-forwarded-for": "203.0.113.7" };

let server, nginx, users, roomId;

const tls = () => ({ ca: nginx.certificate });
const front = () => ({ url: nginx.url });

// How many there are of each.
const counted = (values) => values.reduce((counts, value) => ({ ...counts, [value]: (counts[value] ?? 0) + 1 }), {});

function get(path, { headers = {}, method = "GET", body, port = nginx.port, secure = true, ca = nginx.certificate, agent = false, signal } = {}) {
  const options = { host: "127.0.0.1", port, path, method, headers, agent, signal, ...(secure ? { ca } : {}) };
  return new Promise((resolve, reject) => {
    const request = (secure ? https : http).request(options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (piece) => (text += piece)).on("error", reject)
        .on("end", () => resolve({ status: response.statusCode, headers: response.headers, text }));
    });
    request.on("error", reject);
    request.end(body);
  });
}

before(async () => {
  server = await Server.start({ top: 'trusted_proxies = ["127.0.0.1"]\n', tables: "[limits]\nconnections_per_address = 50\n" , port: await fixedPort() });
  await server.ready();
  nginx = await Nginx.shipped(server.port, behindAnother);
  users = await newUsers(server, "user", 4);
  roomId = await newRoom(server, users);
});

after(async () => {
  nginx?.stop();
  await server?.stop();
});

describe("nginx/minitalk.conf", () => {
  it("is taken by nginx without a warning", () => {
    assert.doesNotMatch(nginx.check(), /warn|emerg/);
  });

  it("sends plain HTTP to HTTPS, without what may be secret in the query", async () => {
    const { status, headers } = await get("/socket.io/?token=SECRET", { port: nginx.plain, secure: false, headers: { host: "localhost" } });
    assert.deepEqual([status, headers.location], [301, "https://localhost/socket.io/"]);
  });

  it("carries WebSocket, long polling and the upgrade from one to the other", async () => {
    const ways = [["websocket"], ["polling"], ["polling", "websocket"]];
    const sockets = [];
    for (const [at, transports] of ways.entries())
      sockets.push(await connect(front(), users[at], { transports, ...tls() }));
    await until("the upgrade", () => sockets[2].io.engine.transport.name === "websocket");
    for (const [at, socket] of sockets.entries()) await say(socket, roomId, `by way ${at}`);
    for (const socket of sockets)
      for (const at of ways.keys()) await hears(socket, `by way ${at}`);
    sockets.forEach((socket) => socket.disconnect());
  });

  it("lets pages of its own origin in", async () => {
    const { status } = await get("/socket.io/?EIO=4&transport=polling", { headers: { host: "localhost", origin: "https://localhost" } });
    assert.equal(status, 200);
  });

  it("keeps the operator's pages from everybody outside", async () => {
    for (const path of ["/api/stats", "/metrics", "/actuator/prometheus", "/api/websocket/stats", "/api/stats/"])
      assert.equal((await get(path, { headers: OUTSIDER })).status, 404, path);
    assert.match((await get("/api/stats", { headers: OUTSIDER })).text, /nginx/, "it is nginx who refuses");
    assert.equal((await get("/api/stats")).status, 200);
    assert.equal((await get("/health", { headers: OUTSIDER })).status, 200);
    assert.equal((await get("/ready", { headers: OUTSIDER })).status, 200);
  });

  it("tells the server the client's own address", async () => {
    const sockets = [];
    const from = (address) => connect(front(), users[0], { ...tls(), extraHeaders: { "x-forwarded-for": address } });
    for (let at = 0; at < 50; at++) sockets.push(await from("203.0.113.1"));
    await assert.rejects(from("203.0.113.1"));
    sockets.push(await from("203.0.113.2"));
    sockets.forEach((socket) => socket.disconnect());
  });

  it("writes no token, ticket or session into its logs", async () => {
    const { ticket } = await ok(server, "POST", "/api/auth/ticket", users[0].token);
    const secrets = [users[1].token, ticket, "NOT-A-TICKET", "A-REFERRED-SECRET"];
    for (const query of [{ token: users[1].token }, { ticket }]) {
      for (const transports of [["websocket"], ["polling"]]) {
        const socket = client(front(), { query, transports, ...tls() });
        await connected(socket).catch(() => {}); // a ticket lets in once
        if (socket.connected) secrets.push(socket.io.engine.id);
        socket.disconnect();
      }
    }
    await get(`/ws?ticket=NOT-A-TICKET`, { headers: { referer: "https://localhost/?token=A-REFERRED-SECRET" } });
    await get(`/api/chatrooms?token=${users[1].token}`);
    await get(`/mark`);
    await until("the last line is written", () => nginx.logs().includes("/mark"));
    assert.ok(secrets.length >= 7, "some of them were let in");
    for (const secret of secrets) assert.ok(!nginx.logs().includes(secret), secret);
  });

  it("holds up a flood of logins and says so", async () => {
    const body = JSON.stringify({ username: "nobody", password: "wrong" });
    const headers = { "content-type": "application/json", "x-forwarded-for": "203.0.113.99" };
    // Few connections, each used again: 120 handshakes may take a busy machine longer than nginx waits for a request.
    const agent = new https.Agent({ keepAlive: true, maxSockets: 8 });
    const one = () => get("/api/auth/login", { method: "POST", body, headers, agent });
    const isRefused = (answer) => answer.status === 429 && answer.text.includes("Too many requests");
    const answers = [];
    await until("the flood is held up", async () => {
      answers.push(...(await Promise.all(Array.from({ length: 120 }, one))));
      return answers.some(isRefused);
    }, 120_000);
    agent.destroy();
    const refused = answers.filter(isRefused);
    assert.ok(refused.length < answers.length, `${refused.length}`);
    assert.equal(refused[0].headers["retry-after"], "1");
    assert.equal(JSON.parse(refused[0].text).code, "RATE_LIMITED");
  });

  it("is reloaded under load and nobody notices", async () => {
    const sockets = [];
    for (const [at, user] of users.entries())
      sockets.push(await connect(front(), user, { transports: at % 2 ? ["polling"] : ["websocket"], ...tls() }));
    let stop = false;
    const sent = [];
    const talk = async (socket, who) => {
      for (let at = 0; !stop; at++) sent.push((await say(socket, roomId, `load ${who} ${at}`)).seq);
    };
    const knock = async () => {
      const statuses = [];
      while (!stop) statuses.push((await get("/health")).status);
      return statuses;
    };
    const talks = sockets.map(talk);
    const knocks = knock();
    for (let round = 0; round < 3; round++) {
      const heard = sent.length;
      await nginx.reload();
      await until("messages go on", () => sent.length > heard + 40);
    }
    stop = true;
    await Promise.all(talks);
    assert.deepEqual([...new Set(await knocks)], [200]);
    const wanted = sent.toSorted((a, b) => a - b);
    for (const socket of sockets) {
      const load = () => socket.heard.filter((m) => m.content.startsWith("load ")).map((m) => m.seq);
      await until("everything is heard", () => load().length >= wanted.length);
      assert.deepEqual(load(), wanted);
      assert.equal(socket.connected, true);
    }
    console.log(`${wanted.length} messages to 4 clients over 3 reloads of nginx: 0 lost, 0 repeated, 0 refused`);
    sockets.forEach((socket) => socket.disconnect());
  });

  it("counts clients that did not wait as 499, and answers that never came as 502", async () => {
    const broken = await BrokenUpstream.start();
    const front = await Nginx.shipped(broken.port);
    const status = (path, { signal } = {}) => get(path, { port: front.port, ca: front.certificate, signal }).then((answer) => answer.status);
    for (const way of ["/hangs-up", "/breaks-off", "/babbles"])
      for (let at = 0; at < 5; at++) assert.equal(await status(way), 502, way);
    for (let at = 0; at < 7; at++) {
      const patience = new AbortController();
      const asked = status("/is-silent", patience);
      await until("the request has come through", () => broken.silent.length > at);
      patience.abort();
      await assert.rejects(asked, { name: "AbortError" });
    }
    await broken.stop();
    for (let at = 0; at < 3; at++) assert.equal(await status("/is-away"), 502);
    await until("everything is logged", () => front.statuses().length >= 25);
    assert.deepEqual(counted(front.statuses()), { 502: 18, 499: 7 });
    front.stop();
  });

  // The last one: the server goes away and comes back.
  it("says 502 while the server is away, and goes on at once when it is back", async () => {
    const poller = await connect(front(), users[0], { transports: ["polling"], reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200, ...tls() });
    const talker = await connect(front(), users[1], { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200, ...tls() });
    await say(talker, roomId, "before");
    await hears(poller, "before");
    await server.killSupervisor();
    const away = await get("/api/chatrooms");
    assert.equal(away.status, 502);
    assert.equal(JSON.parse(away.text).code, "UNAVAILABLE");
    assert.equal((await get("/health")).status, 502);
    await server.serve();
    assert.equal((await get("/health")).status, 200, "the first request after the start");
    await until("both are back", () => poller.connected && talker.connected);
    assert.deepEqual([poller.recovered, talker.recovered], [true, true]);
    assert.equal((await ask(talker, "send_message", { roomId, content: "after" })).ok, true);
    await hears(poller, "after");
    const { 502: failed = 0, 504: late = 0, 499: gone = 0 } = counted(nginx.statuses());
    console.log(`while the server was away: ${failed} answers of 502, ${late} of 504, ${gone} clients that did not wait`);
    assert.ok(failed >= 1, "those of /health are not logged");
    poller.disconnect();
    talker.disconnect();
  });
});
