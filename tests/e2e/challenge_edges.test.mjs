// What surrounds a race: those who watch and take nothing, proxies in front, and clients that break rules.

import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { after, before, describe, it } from "node:test";
import { call } from "./lib/rest.mjs";
import {
  CHALLENGE, ask, closing, hears, join, newChallenge, newMembers, race, raceOn, ranking, record, statuses, watch,
} from "./lib/racers.mjs";
import { next, until } from "./lib/wait.mjs";
import { Server } from "./lib/server.mjs";

async function crowd(server, members, more) {
  const { challengeId: id } = await newChallenge(server, members[0], more);
  for (const member of members) await join(server, id, member);
  return { id, runners: await Promise.all(members.map((member) => race(server, id, member))) };
}

describe("somebody who watches and never reads", () => {
  let server, members;
  before(async () => {
    const limits = `[limits]\nkeep_alive_timeout = "3s"\n`;
    server = await Server.start({ workers: 1, tables: `${CHALLENGE}update_tick = "10ms"\n${limits}` });
    members = await newMembers(server, "seen", 40);
  });
  after(() => server?.stop());

  it("is let go, and nobody else waits or misses anything", async () => {
    const { id, runners } = await crowd(server, members);
    const good = await watch(server, id);
    const [worker] = server.processes("worker");
    const lazy = [];
    for (let at = 0; at < 10; at++) {
      const stream = net.connect(server.port, "127.0.0.1").on("error", () => {}).pause();
      await next(stream, "connect");
      stream.write(`GET /api/v1/challenges/${id}/stream HTTP/1.1\r\nHost: x\r\n\r\n`);
      lazy.push(stream);
    }
    const seen = [];
    const held = (stream) => server.workerOfPort(stream.localPort, [worker]) !== null;
    await until("they are connected", () => lazy.every(held));
    const before = server.processes("worker")[0].rss_bytes;
    // As fast as the one who reads takes it, until the others are behind.
    for (let round = 1; lazy.some(held); round++) {
      const kilometres = round / 1_000_000;
      for (const ws of runners) {
        ws.say(record(kilometres));
        ws.heard.length = 0;
      }
      await until("it is seen", () => good.events.some(({ userId, distance }) => userId === members[1].id && distance === kilometres));
      const way = good.events.splice(0).filter(({ event, userId }) => event === "running" && userId === members[1].id);
      seen.push(...way.map(({ distance }) => distance));
      assert.ok(round < 50_000, "they are still there");
    }
    // Everybody else goes on: the runners, and who reads.
    runners[0].say(record(0.2));
    await hears(runners[1], "USER_LEFT", ({ reason }) => reason === "FINISH");
    await until("finish", () => good.events.find(({ event, userId, rank }) => event === "finish" && userId === members[0].id && rank === 1));
    assert.equal(good.ended, false);
    assert.ok(runners.every((ws) => ws.closed === null));
    assert.ok(seen.length > 64, "more than may wait for one");
    assert.ok(seen.every((distance, at) => at === 0 || distance > seen[at - 1]));
    const grown = server.processes("worker")[0].rss_bytes - before;
    assert.ok(grown < 64 << 20, `${grown} bytes more`);
    for (const stream of lazy) stream.destroy();
    good.request.destroy();
    runners.forEach((ws) => ws.terminate());
  });
});

describe("the address that goes with a ticket", () => {
  let server, members, id;
  before(async () => {
    server = await Server.start({ top: 'trusted_proxies = ["127.0.0.8/29"]', tables: `${CHALLENGE}server_id = "run-1"\n` });
    members = await newMembers(server, "proxy", 1);
    ({ challengeId: id } = await newChallenge(server, members[0]));
    await join(server, id, members[0]);
  });
  after(() => server?.stop());

  function wsUrl(localAddress, headers) {
    return new Promise((resolve, reject) => {
      const path = `/api/v1/challenges/${id}/enter`;
      const authorization = `Bearer ${members[0].token}`;
      const options = { host: "127.0.0.1", port: server.port, localAddress, method: "POST", path, headers: { authorization, ...headers }, agent: false };
      http.request(options, (response) => {
        let text = "";
        response.on("data", (more) => (text += more)).on("end", () => resolve(JSON.parse(text).data.wsUrl));
      }).on("error", reject).end();
    });
  }
  const [PROXY, ANYBODY] = ["127.0.0.9", "127.0.0.1"];
  const FORWARDED = { host: "inside:4000", "x-forwarded-proto": "https", "x-forwarded-host": "run.example.org" };

  it("is what a trusted proxy says that its client asked for", async () => {
    assert.equal(await wsUrl(PROXY, FORWARDED), "wss://run.example.org/ws/run-1");
    const { "x-forwarded-host": _, ...kept } = FORWARDED;
    assert.equal(await wsUrl(PROXY, { ...kept, host: "run.example.org" }), "wss://run.example.org/ws/run-1");
    assert.equal(await wsUrl(PROXY, { ...FORWARDED, "x-forwarded-proto": "http" }), "ws://run.example.org/ws/run-1");
    const chain = { ...FORWARDED, "x-forwarded-proto": "https, http", "x-forwarded-host": "run.example.org, inside" };
    assert.equal(await wsUrl(PROXY, chain), "wss://run.example.org/ws/run-1");
    assert.equal(await wsUrl(PROXY, { host: "inside:4000", "x-forwarded-host": "" }), "ws://inside:4000/ws/run-1");
  });

  it("is not what anybody else says", async () => {
    assert.equal(await wsUrl(ANYBODY, FORWARDED), "ws://inside:4000/ws/run-1");
    assert.equal(await wsUrl(ANYBODY, {}), `ws://127.0.0.1:${server.port}/ws/run-1`);
  });
});

describe("a member who takes another nickname and picture", () => {
  let server, members;
  before(async () => {
    server = await Server.start({ workers: 3, tables: CHALLENGE });
    members = await newMembers(server, "looks", 4);
  });
  after(() => server?.stop());

  it("is seen so on every worker by whoever asks or comes from then on", async () => {
    const { id, runners } = await crowd(server, members.slice(0, 2));
    const [changing, gone] = members;
    runners[1].terminate();
    await hears(runners[0], "USER_LEFT");
    for (const member of members.slice(2)) await join(server, id, member);
    for (let round = 0; round < 5; round++) {
      const looks = { nickname: `새 이름 ${round}`, profileImage: round % 2 ? null : `http://img/${round}` };
      for (const member of [changing, gone]) {
        const { status, body } = await call(server, "PATCH", "/api/users/me", { token: member.token, payload: looks });
        assert.deepEqual([status, body], [200, { userId: member.id, username: member.name, ...looks }]);
      }
      for (let worker = 0; worker < 3; worker++) {
        const ws = await raceOn(server, worker, id, members[2]);
        const seen = ws.connected.participants.find(({ userId }) => userId === changing.id);
        assert.deepEqual([seen.nickname, seen.profileImage], [looks.nickname, looks.profileImage], `worker ${worker}`);
        ws.terminate();
        await hears(runners[0], "USER_LEFT", ({ userId }) => userId === members[2].id);
        runners[0].heard.length = 0;
      }
      const places = await ranking(server, id, members[3]);
      assert.equal(places.find(({ userId }) => userId === changing.id).nickname, looks.nickname);
      const { participants } = await ask(server, "GET", `/challenges/${id}`, members[3].token);
      for (const member of [changing, gone])
        assert.equal(participants.find(({ memberId }) => memberId === member.id).nickname, looks.nickname);
      // Who was in before comes back as the new one.
      const back = await race(server, id, gone);
      assert.equal(back.connected.me.nickname, looks.nickname);
      await hears(runners[0], "USER_ENTERED", ({ userId, nickname }) => userId === gone.id && nickname === looks.nickname);
      back.terminate();
      await hears(runners[0], "USER_LEFT", ({ userId }) => userId === gone.id);
    }
    assert.equal(runners[0].closed, null);
    runners[0].terminate();
  });
});

describe("a client that breaks the protocol", () => {
  let server, members;
  before(async () => {
    server = await Server.start({ workers: 2, tables: CHALLENGE });
    members = await newMembers(server, "error", 4);
  });
  after(() => server?.stop());

  const ways = {
    "a frame that is not masked": [1002, (ws) => ws._socket.write(Buffer.from([0x81, 0x00]))],
    "text that is not UTF-8": [1007, (ws) => ws.send(Buffer.from([0xff, 0xfe]), { binary: false })],
    "a message of more than 4 KiB": [1009, (ws) => ws.send("x".repeat(5_000))],
  };
  it("leaves with ERROR, and may come back to where it was", async () => {
    const { id, runners } = await crowd(server, members);
    const [witness, ...bad] = runners;
    for (const [at, [what, [code, misbehave]]] of Object.entries(ways).entries()) {
      const ws = bad[at];
      ws.say(record(0.01 * (at + 1)));
      misbehave(ws);
      const { timestamp, ...left } = await hears(witness, "USER_LEFT", ({ userId }) => userId === ws.member.id);
      assert.deepEqual(left, { type: "USER_LEFT", userId: ws.member.id, reason: "ERROR" }, what);
      assert.equal((await closing(ws)).code, code, what);
      assert.equal((await statuses(server, id, members[0]))[ws.member.id], "ERROR", what);
      const back = await race(server, id, ws.member);
      assert.equal(back.connected.me.distance, 0.01 * (at + 1));
      await hears(witness, "USER_ENTERED", ({ userId, distance }) => userId === ws.member.id && distance > 0);
      assert.equal((await statuses(server, id, members[0]))[ws.member.id], "RUNNING", what);
      bad[at] = back;
    }
    assert.equal(witness.closed, null);
    const places = await ranking(server, id, members[0]);
    assert.deepEqual(places.map(({ userId }) => userId), [3, 2, 1, 0].map((at) => members[at].id));
    // Those who know the protocol and say nonsense stay in: an ERROR is all they hear.
    bad[0].say("nonsense");
    await hears(bad[0], "ERROR");
    assert.equal(bad[0].closed, null);
    for (const ws of [witness, ...bad]) ws.terminate();
  });

  it("is not who only loses the connection", async () => {
    const { id, runners } = await crowd(server, members.slice(0, 2));
    runners[1].terminate();
    await hears(runners[0], "USER_LEFT", ({ reason }) => reason === "DISCONNECTED");
    assert.equal((await statuses(server, id, members[0]))[members[1].id], "DISCONNECTED");
    runners[0].terminate();
  });
});
