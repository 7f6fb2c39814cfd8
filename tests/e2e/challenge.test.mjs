// Live challenges (contract §5): REST, tickets, and races of stock `ws` clients over several workers.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { call } from "./lib/rest.mjs";
import {
  CHALLENGE, ask, closing, enter, hears, join, later, newChallenge, newMembers, race, raceOn, ranking, record, socket, watch,
  whyNot,
} from "./lib/racers.mjs";
import { Server, alive } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const ISO_LOCAL = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

describe("challenges over REST", () => {
  let server, members;
  before(async () => {
    server = await Server.start({ workers: 2, top: 'admins = ["rest0"]', tables: CHALLENGE.replace("1h", "5m") });
    members = await newMembers(server, "rest", 4);
  });
  after(() => server?.stop());

  it("makes one and shows it, alone and in pages", async () => {
    const start = new Date(Math.ceil(Date.now() / 1_000) * 1_000 + 3_600_000);
    const made = await newChallenge(server, members[0], { title: "처음", maxParticipants: 7, startAt: start.toISOString() });
    assert.deepEqual(Object.keys(made).sort(), [
      "challengeId", "createdAt", "currentParticipants", "description", "distance", "endAt", "isBroadcast", "isPrivate",
      "joined", "maxParticipants", "participants", "startAt", "status", "title", "updatedAt",
    ]);
    const seoul = (ms) => new Date(ms + 9 * 3_600_000).toISOString().slice(0, 19);
    assert.equal(made.startAt, seoul(start.getTime()));
    assert.equal(made.endAt, seoul(start.getTime() + 300_000));
    for (const time of [made.createdAt, made.updatedAt]) assert.match(time, ISO_LOCAL);
    assert.deepEqual(
      [made.title, made.status, made.currentParticipants, made.maxParticipants, made.distance, made.joined, made.participants],
      ["처음", "RECRUITING", 0, 7, "M100", false, []]);
    // Without an offset it is a time of the zone.
    const local = await newChallenge(server, members[0], { startAt: made.startAt });
    assert.equal(local.startAt, made.startAt);

    await join(server, made.challengeId, members[1]);
    const one = await ask(server, "GET", `/challenges/${made.challengeId}`, members[1].token);
    assert.deepEqual([one.joined, one.currentParticipants], [true, 1]);
    assert.deepEqual(one.participants.map(({ memberId, nickname, profileImage, status, rank }) => [memberId, nickname, profileImage, status, rank]),
      [[members[1].id, "닉1", "http://img/rest1", "WAITING", null]]);
    const page = await ask(server, "GET", "/challenges?page=1&size=1", members[2].token);
    assert.deepEqual([page.content.length, page.page, page.size, page.content[0].challengeId], [1, 1, 1, made.challengeId]);
    assert.equal(page.totalElements, page.totalPages);
    await ask(server, "GET", "/challenges/999999", members[0].token, undefined, 404);
    await ask(server, "GET", "/challenges/x", members[0].token, undefined, 404);
    await ask(server, "GET", "/challenges?size=0", members[0].token, undefined, 400);
  });

  it("says of each wrong field what it must be", async () => {
    const fields = { title: "", distance: "MARATHON", maxParticipants: 0, startAt: "tomorrow", isPrivate: true, isBroadcast: 1 };
    const mistakes = await ask(server, "POST", "/admin/challenges", members[0].token, fields, 400);
    assert.deepEqual(Object.keys(mistakes).sort(), ["distance", "isBroadcast", "maxParticipants", "password", "startAt", "title"]);
    for (const [field, text] of Object.entries(mistakes)) assert.ok(text.includes(field), text);
    await ask(server, "POST", "/admin/challenges", members[0].token, "{", 400);
    await ask(server, "POST", "/admin/challenges", undefined, {}, 401);
    await ask(server, "GET", "/challenges", "a.b.c", undefined, 401);
    await ask(server, "PUT", "/challenges", members[0].token, {}, 405);
    await ask(server, "POST", "/admin/challenges", members[0].token, Buffer.alloc(3 << 20, " "), 413);
  });

  it("lets members join, not twice and not too many, and leave", async () => {
    const { challengeId } = await newChallenge(server, members[0], { maxParticipants: 2 });
    const first = await join(server, challengeId, members[0]);
    const { participantId } = first;
    assert.ok(participantId > 0);
    assert.deepEqual(first, { participantId, challengeId, memberId: members[0].id, status: "WAITING", rank: null, averagePace: null });
    await ask(server, "POST", `/challenges/${challengeId}/join`, members[0].token, {}, 409);
    await join(server, challengeId, members[1]);
    await ask(server, "POST", `/challenges/${challengeId}/join`, members[2].token, undefined, 400);
    // Not yet: it is RECRUITING. And not at all without having joined.
    assert.match(await whyNot(server, challengeId, members[0]), /cannot be entered yet/);
    assert.match(await whyNot(server, challengeId, members[2]), /have not joined/);
    const left = await ask(server, "DELETE", `/challenges/${challengeId}/join`, members[0].token, undefined, 200);
    assert.deepEqual([left.status, left.memberId], ["LEFT", members[0].id]);
    await ask(server, "DELETE", `/challenges/${challengeId}/join`, members[3].token, undefined, 404);
    await join(server, challengeId, members[2]);
    await ask(server, "POST", "/challenges/999999/join", members[0].token, {}, 404);
    await ask(server, "POST", "/challenges/999999/enter", members[0].token, undefined, 404);
  });

  it("asks for the password of a private one", async () => {
    const { challengeId, isPrivate } = await newChallenge(server, members[0], { isPrivate: true, password: "열려라" });
    assert.equal(isPrivate, true);
    for (const payload of [undefined, {}, { password: "x" }, { password: 1 }])
      await ask(server, "POST", `/challenges/${challengeId}/join`, members[1].token, payload, 403);
    await join(server, challengeId, members[1], { password: "열려라" });
  });

  it("describes the calls in the OpenAPI document", async () => {
    const { body } = await call(server, "GET", "/api/openapi.json");
    for (const path of ["auth/test-login", "admin/challenges", "challenges", "challenges/{challengeId}/join",
      "challenges/{challengeId}/enter", "challenges/{challengeId}/ranking", "challenges/{challengeId}/stream"])
      assert.ok(body.paths[`/api/v1/${path}`], path);
  });

  it("lets nobody stay whose account is deleted", async () => {
    const { challengeId: id } = await newChallenge(server, members[0], { startAt: later(250_000) });
    await join(server, id, members[1]);
    const ws = await race(server, id, members[1]);
    const payload = { confirmationCode: "DELETE_ALL_USERS_CONFIRM" };
    const { status } = await call(server, "DELETE", "/api/auth/delete-all-users", { token: members[0].token, payload });
    assert.equal(status, 200);
    assert.deepEqual(await closing(ws), { code: 1008, reason: "user deleted" });
    await ask(server, "GET", "/challenges", members[1].token, undefined, 401);
  });
});

describe("races over two workers", () => {
  let server, members;
  before(async () => {
    server = await Server.start({ workers: 2, tables: `${CHALLENGE}server_id = "run-1"\n` });
    members = await newMembers(server, "race", 6);
  });
  after(() => server?.stop());

  // A challenge that these members have joined; READY.
  async function ready(joined, more) {
    const { challengeId } = await newChallenge(server, members[0], more);
    for (const member of joined) await join(server, challengeId, member);
    return challengeId;
  }

  it("gives a ticket and says where to go with it", async () => {
    const id = await ready([members[0]]);
    const admission = await enter(server, id, members[0]);
    assert.match(admission.ticket, UUID);
    const { ticket } = admission;
    assert.deepEqual(admission,
      { ticket, wsUrl: `ws://127.0.0.1:${server.port}/ws/run-1`, challengeId: id, userId: members[0].id, expiresIn: 30 });
    const ws = socket(server, `?ticket=${ticket}`, { path: "/ws/run-1" });
    await hears(ws, "CONNECTED");
    const again = socket(server, `?ticket=${ticket}`);
    const { code } = await closing(again);
    assert.deepEqual([code, again.heard[0].type, again.heard[0].errorCode], [1008, "ERROR", "INVALID_TICKET"]);
    ws.close();
  });

  it("turns sockets away that have no good ticket", async () => {
    for (const [query, errorCode] of [["", "UNAUTHORIZED"], ["?ticket=", "INVALID_TICKET"], ["?ticket=x", "INVALID_TICKET"],
      ["?ticket=00000000-0000-4000-8000-000000000000", "INVALID_TICKET"], [`?token=${members[0].token}`, "UNAUTHORIZED"]]) {
      const ws = socket(server, query, { path: "/ws" });
      assert.equal((await closing(ws)).code, 1008, query);
      assert.deepEqual(Object.keys(ws.heard[0]).sort(), ["errorCode", "errorMessage", "timestamp", "type"]);
      assert.deepEqual([ws.heard.length, ws.heard[0].type, ws.heard[0].errorCode], [1, "ERROR", errorCode]);
    }
    const id = await ready([members[0]]);
    const { ticket } = await enter(server, id, members[0]);
    // A ticket of a challenge opens no chat, and the other way round.
    const { body } = await call(server, "POST", "/api/auth/ticket", { token: members[0].token });
    const ws = socket(server, `?ticket=${body.ticket}`);
    assert.equal((await closing(ws)).code, 1008);
    const foreign = await call(server, "GET", "/ws", { headers: { origin: "http://evil.example" } });
    assert.equal(foreign.status, 403);
    const good = socket(server, `?ticket=${ticket}`);
    await hears(good, "CONNECTED");
    good.close();
  });

  it("shows them to each other across workers, until each has gone in its own way", async () => {
    const runners = members.slice(0, 5);
    const id = await ready(runners);
    const [quick, slow, quits, kicked, drops] = await runners.reduce(async (before, member, at) =>
      [...await before, await raceOn(server, at % 2, id, member)], Promise.resolve([]));
    const me = (at) => ({ userId: runners[at].id, nickname: `닉${at}`, profileImage: `http://img/race${at}`, distance: 0, pace: 0 });
    assert.deepEqual(Object.keys(quick.connected).sort(), ["challengeId", "me", "participants", "timestamp", "type", "userId"]);
    assert.deepEqual([quick.connected.me, quick.connected.participants], [me(0), []]);
    assert.deepEqual(slow.connected.participants, [me(0)]);
    assert.deepEqual(drops.connected.participants.map(({ userId }) => userId).sort(), runners.slice(0, 4).map(({ id }) => id).sort());
    const { timestamp, ...seen } = await hears(quick, "USER_ENTERED", ({ userId }) => userId === runners[1].id);
    assert.deepEqual(seen, { type: "USER_ENTERED", ...me(1) });
    assert.ok(Math.abs(Date.now() - timestamp) < 60_000);

    const said = record(0.05, 5.5);
    quick.say(said);
    assert.deepEqual(await hears(slow, "PARTICIPANT_UPDATE"),
      { type: "PARTICIPANT_UPDATE", userId: runners[0].id, distance: 0.05, pace: 5.5, timestamp: said.timestamp });
    slow.say(record(0.02));
    await hears(quick, "PARTICIPANT_UPDATE", ({ userId }) => userId === runners[1].id);
    quick.say({ type: "PING" });
    assert.deepEqual(Object.keys(await hears(quick, "PONG")).sort(), ["timestamp", "type"]);
    const places = await until("both are ranked", async () => {
      const places = await ranking(server, id, members[5]);
      return places[0].distance === 0.05 && places[1].distance === 0.02 && places;
    });
    assert.deepEqual(places.slice(0, 2).map(({ rank, userId, status }) => [rank, userId, status]),
      [[1, runners[0].id, "RUNNING"], [2, runners[1].id, "RUNNING"]]);

    for (const [text, errorCode] of [["nonsense", "MESSAGE_PROCESSING_ERROR"], ["[]", "MESSAGE_PROCESSING_ERROR"],
      ['{"type":"DANCE"}', "INVALID_MESSAGE_TYPE"], ["{}", "INVALID_MESSAGE_TYPE"],
      ['{"type":"RECORD"}', "RECORD_PROCESSING_ERROR"], ['{"type":"RECORD","distance":-1,"pace":1}', "RECORD_PROCESSING_ERROR"]]) {
      slow.heard.length = 0;
      slow.say(text);
      assert.equal((await hears(slow, "ERROR")).errorCode, errorCode, text);
    }

    quits.say({ type: "QUIT" });
    assert.equal((await closing(quits)).code, 1000);
    kicked.say({ type: "KICKED" });
    assert.equal((await closing(kicked)).code, 1008);
    drops.terminate();
    quick.say(record(0.1));
    for (const [member, reason] of [[runners[2], "QUIT"], [runners[3], "KICKED"], [runners[4], "DISCONNECTED"], [runners[0], "FINISH"]]) {
      const { timestamp, ...left } = await hears(slow, "USER_LEFT", ({ userId }) => userId === member.id);
      assert.deepEqual(left, { type: "USER_LEFT", userId: member.id, reason });
    }
    // Nobody hears of themselves.
    assert.ok(!quick.heard.some(({ type, userId }) => type !== "CONNECTED" && userId === runners[0].id));
    // Who has finished stays ahead of whoever claims more, and keeps the connection.
    slow.say(record(0.09));
    await hears(quick, "PARTICIPANT_UPDATE", ({ distance }) => distance === 0.09);
    const final = await ranking(server, id, members[5]);
    assert.deepEqual(final.map(({ rank, userId, status }) => [rank, userId, status]),
      [[1, runners[0].id, "COMPLETED"], [2, runners[1].id, "RUNNING"]]);
    assert.match(await whyNot(server, id, runners[2]), /has ended/); // who has quit
    assert.match(await whyNot(server, id, runners[0]), /has ended/); // who has finished
    const back = await race(server, id, runners[4]); // who was lost
    await hears(slow, "USER_ENTERED", ({ userId }) => userId === runners[4].id);
    for (const ws of [quick, slow, back]) ws.close();
  });

  it("closes the older socket of a member who comes with another ticket, on any worker", async () => {
    const id = await ready(members.slice(0, 2));
    const other = await raceOn(server, 0, id, members[1]);
    const [one, two] = [await enter(server, id, members[0]), await enter(server, id, members[0])];
    const older = socket(server, `?ticket=${one.ticket}`);
    await hears(older, "CONNECTED");
    await hears(other, "USER_ENTERED");
    const newer = socket(server, `?ticket=${two.ticket}`);
    await hears(newer, "CONNECTED");
    await closing(older);
    newer.say(record(0.03));
    await hears(other, "PARTICIPANT_UPDATE");
    assert.deepEqual(other.heard.map(({ type }) => type), ["CONNECTED", "USER_ENTERED", "PARTICIPANT_UPDATE"]);
    for (const ws of [other, newer]) ws.close();
  });

  it("lets exactly one of two sockets in that race with one ticket, a thousand times", async () => {
    const racers = await newMembers(server, "pair", 1_000);
    const id = await ready(racers, { maxParticipants: 1_000 });
    for (let at = 0; at < racers.length; at += 50) {
      await Promise.all(racers.slice(at, at + 50).map(async (member) => {
        const { ticket } = await enter(server, id, member);
        const pair = [socket(server, `?ticket=${ticket}`), socket(server, `?ticket=${ticket}`)];
        const first = await Promise.all(pair.map((ws) => until("an answer", () => ws.heard[0], 60_000)));
        assert.deepEqual(first.map(({ type }) => type).sort(), ["CONNECTED", "ERROR"]);
        pair.forEach((ws) => ws.terminate());
      }));
    }
  });

  it("shows a broadcast race to those who watch, and no other", async () => {
    const closed = await ready([members[0]], { isBroadcast: false });
    await ask(server, "GET", `/challenges/${closed}/stream`, undefined, undefined, 403);
    await ask(server, "GET", "/challenges/999999/stream", undefined, undefined, 404);
    const id = await ready(members.slice(0, 3));
    const runners = [];
    for (const member of members.slice(0, 3)) runners.push(await race(server, id, member));
    const { events, request } = await watch(server, id);
    runners[0].say(record(0.01));
    await until("running", () => events.find(({ event, userId }) => event === "running" && userId === members[0].id));
    runners[1].say(record(0.2));
    await until("finish", () => events.find(({ event, userId, rank }) => event === "finish" && userId === members[1].id && rank === 1));
    runners[2].say({ type: "QUIT" });
    await until("leave", () => events.find(({ event, reason }) => event === "leave" && reason === "QUIT"));
    request.destroy();
    runners.forEach((ws) => ws.terminate());
  });
});

describe("silence and sudden death", () => {
  let server, members;
  before(async () => {
    server = await Server.start({ workers: 2, tables: `${CHALLENGE}idle_timeout = "8s"\n` });
    members = await newMembers(server, "dies", 8);
  });
  after(() => server?.stop());

  it("ends in TIMEOUT for who is silent, and they can come back", async () => {
    const { challengeId: id } = await newChallenge(server, members[0]);
    for (const member of members.slice(0, 2)) await join(server, id, member);
    const silent = await race(server, id, members[0]);
    const lively = await race(server, id, members[1]);
    const pings = setInterval(() => lively.say({ type: "PING" }), 200);
    try {
      await hears(lively, "USER_LEFT", ({ userId, reason }) => userId === members[0].id && reason === "TIMEOUT");
      await closing(silent);
      const back = await race(server, id, members[0]);
      assert.equal(lively.closed, null);
      back.terminate();
    } finally {
      clearInterval(pings);
      lively.terminate();
    }
  });

  // Keeps a member in: whenever the connection is lost, another ticket and another connection.
  function runner(id, member) {
    const self = { member, distance: 0, entered: 0, going: true, ws: null };
    self.ended = (async () => {
      while (self.going) {
        try {
          const ws = (self.ws = await race(server, id, member));
          self.entered += 1;
          const steps = setInterval(() => {
            self.distance += 0.0001;
            ws.say(record(self.distance));
          }, 50);
          await until("it is over", () => ws.closed || !self.going, 600_000);
          clearInterval(steps);
        } catch {
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      }
      self.ws?.terminate();
    })();
    return self;
  }

  it("loses and doubles nobody when a worker and the storage writer are killed in the middle", async () => {
    const { challengeId: id } = await newChallenge(server, members[0]);
    for (const member of members) await join(server, id, member);
    const runners = members.map((member) => runner(id, member));
    let doubled = 0;
    const everybody = async () => {
      const places = await ranking(server, id, members[0]);
      const users = places.map(({ userId }) => userId);
      doubled += users.length - new Set(users).size;
      return users.length === members.length && places.every(({ distance, status }) => distance > 0 && status === "RUNNING");
    };
    try {
      await until("everybody runs", everybody, 60_000);
      for (const role of ["worker", "storage", "worker"]) {
        const before = runners.map(({ entered }) => entered);
        const at = role === "worker" ? await until("a runner's worker", () => `${server.workerOfPort(runners[0].ws._socket.localPort) ?? ""}`) : 0;
        const { pid } = server.processes(role)[at];
        process.kill(pid, "SIGKILL");
        await until("it is gone", () => !alive(pid));
        await server.ready();
        await until(`some had to come again after the ${role}`, () => runners.some(({ entered }, at) => entered > before[at]), 60_000);
        await until(`everybody runs again after the ${role}`, everybody, 60_000);
      }
      assert.equal(doubled, 0, "somebody was there twice");
      const one = await ask(server, "GET", `/challenges/${id}`, members[0].token);
      assert.deepEqual([one.currentParticipants, one.participants.length], [8, 8]);
    } finally {
      runners.forEach((runner) => (runner.going = false));
      await Promise.all(runners.map(({ ended }) => ended));
    }
  });
});

describe("the clock", () => {
  // A clock that the test sets.
  const directory = mkdtempSync(path.join(os.tmpdir(), "minitalk-clock-"));
  const clock = path.join(directory, "clock");
  const set = (time) => {
    writeFileSync(`${clock}.new`, time);
    renameSync(`${clock}.new`, clock);
  };
  const library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"]
    .map((dir) => `${dir}/faketime/libfaketimeMT.so.1`).find((file) => existsSync(file));
  let server, members;
  before(async () => {
    assert.ok(library, "this test needs the package libfaketime");
    set("+0");
    const env = { LD_PRELOAD: library, FAKETIME_TIMESTAMP_FILE: clock, FAKETIME_NO_CACHE: "1", DONT_FAKE_MONOTONIC: "1", FAKETIME_DONT_FAKE_MONOTONIC: "1" };
    server = await Server.start({ workers: 2, env, tables: `[challenge]\ntest_login = true\n` });
    members = await newMembers(server, "clock", 4);
  });
  after(async () => {
    await server?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it("brings a challenge from RECRUITING to DONE, and those in it to their end, also across a restart", async () => {
    const { challengeId: id, status } = await newChallenge(server, members[0], { startAt: later(3_600_000) });
    assert.equal(status, "RECRUITING");
    const [first, second, never, late] = members;
    for (const member of members.slice(0, 3)) await join(server, id, member);
    const show = () => ask(server, "GET", `/challenges/${id}`, first.token);
    const turns = (status) => until(`it is ${status}`, async () => (await show()).status === status);

    set("+56m"); // four minutes before the start
    await turns("READY");
    const runners = [await until("it can be entered", () => race(server, id, first)), await race(server, id, second)];
    const watched = await watch(server, id);
    set("+61m");
    await turns("RUNNING");
    await until("start", () => watched.events.find(({ event }) => event === "start"));
    assert.match(await whyNot(server, id, never), /has started/);
    await ask(server, "POST", `/challenges/${id}/join`, late.token, {}, 409);
    await ask(server, "DELETE", `/challenges/${id}/join`, never.token, undefined, 409);
    for (const [at, distance] of [[0, 0.02], [1, 0.03]]) runners[at].say({ type: "RECORD", distance, pace: 6 });
    await until("they are ranked", async () => (await ranking(server, id, first)).map(({ distance }) => distance).join() === "0.03,0.02");

    set("+66m"); // M100 has five minutes
    await turns("DONE");
    for (const ws of runners) assert.equal((await closing(ws)).reason, "EXPIRED");
    const statuses = async () => Object.fromEntries((await show()).participants.map(({ memberId, status }) => [memberId, status]));
    await until("the end", () => watched.ended && watched.events.at(-1).event === "end");
    await until("the end is noted", async () => (await statuses())[never.id] === "NOT_STARTED");
    const ends = { [first.id]: "EXPIRED", [second.id]: "EXPIRED", [never.id]: "NOT_STARTED" };
    const final = (await ranking(server, id, first)).map(({ rank, userId, distance }) => [rank, userId, distance]);
    assert.deepEqual([await statuses(), final], [ends, [[1, second.id, 0.03], [2, first.id, 0.02]]]);
    await server.stop({ keep: true });
    await server.serve();
    assert.deepEqual([(await show()).status, await statuses()], ["DONE", ends]);
    assert.deepEqual((await ranking(server, id, first)).map(({ rank, userId, distance }) => [rank, userId, distance]), final);
    assert.match(await whyNot(server, id, first), /is over/);
    await ask(server, "GET", `/challenges/${id}/stream`, undefined, undefined, 404);
  });
});
