// Participants whose worker leaves, in a reload and at the end of the service (contract §5, §8): they are
// told to come again and can, and until then their place is as good as any.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import {
  CHALLENGE, enter, hears, join, newChallenge, newMembers, race, raceOn, ranking, record, socket, statuses, watch,
} from "./lib/racers.mjs";
import { fixedPort, Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

const ON_EACH = 6;
const DRAIN_S = 30;
const WHOLE_DRAIN_MS = 180_000;

describe("a worker that leaves", () => {
  let server, members, id;
  before(async () => {
    server = await Server.start({ workers: 2, port: await fixedPort(), top: `drain_timeout = "${DRAIN_S}s"`, tables: CHALLENGE });
    members = await newMembers(server, "leaves", 2 * ON_EACH + 1);
    ({ challengeId: id } = await newChallenge(server, members[0]));
    for (const member of members) await join(server, id, member);
  });
  after(() => server?.stop());

  const places = async () => (await ranking(server, id, members[0])).map(({ userId, distance }) => [userId, distance]);
  const kilometres = (member) => (members.indexOf(member) + 1) / 1_000;
  // Its place in the ranking by how far it said it was.
  const everybody = (except = []) => members.filter((member) => !except.includes(member))
    .map((member) => [member.id, kilometres(member)]).reverse();
  const isRanked = (expected) => until("the ranking", async () => JSON.stringify(await places()) === JSON.stringify(expected));
  const closes = (ws) => until("its worker sends it away", () => ws.closed, WHOLE_DRAIN_MS);

  it("sends each away in its time, to come back with its place; nobody is lost or doubled", async () => {
    // In the order in which they will go.
    const old = [];
    for (const [at, member] of members.slice(0, -1).entries()) old.push(await raceOn(server, at % 2, id, member));
    for (const ws of old) ws.say(record(kilometres(ws.member)));
    const late = members.at(-1);
    await isRanked(everybody([late]));
    const watched = await watch(server, id);

    const { number } = server.status().change;
    process.kill(server.child.pid, "SIGHUP");
    await until("the successors", () => {
      const { change } = server.status();
      return change.number > number && change.state === "done";
    }, WHOLE_DRAIN_MS);
    const leaving = server.processes("worker").filter((p) => p.leaving);
    const working = server.processes("worker").filter((p) => !p.leaving);
    assert.deepEqual([leaving.length, working.length], [2, 2]);
    const isOn = (ws, workers) => server.workerOfPort(ws._socket.localPort, workers) !== null;

    // Both generations are one crowd.
    const fresh = await race(server, id, late);
    const last = old.slice(-2);
    assert.ok(isOn(fresh, working));
    for (const ws of last) assert.ok(isOn(ws, leaving));
    assert.deepEqual(fresh.connected.participants.map(({ userId }) => userId).sort((one, two) => one - two),
      (await ranking(server, id, late)).map(({ userId }) => userId).filter((user) => user !== late.id).sort((one, two) => one - two));
    for (const ws of last) await hears(ws, "USER_ENTERED", ({ userId }) => userId === late.id);
    for (const ws of last) {
      ws.say(record(kilometres(ws.member), 7));
      await hears(fresh, "PARTICIPANT_UPDATE", ({ userId, pace }) => userId === ws.member.id && pace === 7);
    }
    fresh.say(record(kilometres(late)));
    for (const ws of last)
      await hears(ws, "PARTICIPANT_UPDATE", ({ userId, distance }) => userId === late.id && distance === kilometres(late));
    await hears(last[0], "PARTICIPANT_UPDATE", ({ userId, pace }) => userId === last[1].member.id && pace === 7);
    assert.ok(last.every((ws) => ws.closed === null && isOn(ws, leaving)), "they were on the old workers all the time");

    // Each comes back as soon as it is sent away.
    const times = [];
    const back = await Promise.all(old.map(async (ws) => {
      const { code, reason } = await closes(ws);
      assert.deepEqual([code, reason], [1012, "a successor has taken over"]);
      times.push(Date.now());
      await hears(fresh, "USER_LEFT", ({ userId, reason }) => userId === ws.member.id && reason === "DISCONNECTED");
      const again = await until("it can re-enter", () => race(server, id, ws.member));
      assert.equal(again.connected.me.distance, kilometres(ws.member));
      await hears(fresh, "USER_ENTERED", ({ userId, distance }) => userId === ws.member.id && distance === kilometres(ws.member));
      return again;
    }));
    assert.ok(Math.max(...times) - Math.min(...times) > (DRAIN_S * 1_000) / 10, "spread over the time there is");
    assert.ok(back.every((ws) => isOn(ws, working)));
    await isRanked(everybody());
    await until("who watches is sent away as well", () => watched.ended, WHOLE_DRAIN_MS);
    await until("the old ones have gone", () => !server.status().processes.some((p) => p.leaving), WHOLE_DRAIN_MS);
    assert.ok([...back, fresh].every((ws) => ws.closed === null));
    const count = (ws, type) => ws.heard.filter((message) => message.type === type).length;
    assert.deepEqual([count(fresh, "USER_LEFT"), count(fresh, "USER_ENTERED")], [old.length, old.length]);

    // Then the service itself ends.
    const spare = await watch(server, id);
    back[0].say({ type: "QUIT" });
    await closes(back[0]);
    back[1].say(record(0.1));
    await hears(fresh, "USER_LEFT", ({ userId, reason }) => userId === members[1].id && reason === "FINISH");
    await server.stop({ keep: true });
    for (const ws of [...back.slice(1), fresh]) assert.deepEqual(await closes(ws), { code: 1012, reason: "server shutting down" });
    assert.ok(spare.ended);
    await server.serve();
    const ends = { [members[0].id]: "QUIT", [members[1].id]: "COMPLETED" };
    const expected = members.map((member) => [member.id, ends[member.id] ?? "DISCONNECTED"]);
    assert.deepEqual(await statuses(server, id, members[0]), Object.fromEntries(expected));
    const again = [];
    for (const member of members.slice(2)) again.push(await race(server, id, member));
    await isRanked([[members[1].id, 0.1], ...everybody(members.slice(0, 2))]);
    again.forEach((ws) => ws.terminate());
    await server.stop({ keep: true });
    assert.match(server.verify(), /challenge records/);
  });

  it("takes nobody with it who shows a ticket at that moment", async () => {
    await server.serve();
    const { challengeId } = await newChallenge(server, members[0]);
    for (const member of members) await join(server, challengeId, member);
    const tickets = [];
    for (const member of members) tickets.push(await enter(server, challengeId, member));
    const sockets = tickets.map(({ ticket }) => socket(server, `?ticket=${ticket}`));
    await Promise.all(sockets.map((ws) => until("it is connected", () => ws.readyState !== ws.CONNECTING)));
    await server.stop({ keep: true });
    for (const ws of sockets) assert.ok([1012, 1006].includes((await closes(ws)).code));
    await server.serve();
    const known = await statuses(server, challengeId, members[0]);
    for (const [at, ws] of sockets.entries())
      if (ws.heard.length) assert.equal(known[members[at].id], "DISCONNECTED", JSON.stringify(ws.heard[0]));
    const again = [];
    for (const member of members) again.push(await race(server, challengeId, member));
    assert.equal((await ranking(server, challengeId, members[0])).length, members.length);
    again.forEach((ws) => ws.terminate());
  });
});
