// Participants whose worker loses the storage writer: which of them are still in is told anew, in pieces.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Link } from "./lib/link.mjs";
import { CHALLENGE, closing, hears, join, newChallenge, newMembers, race, raceOn, ranking, record } from "./lib/racers.mjs";
import { Server, alive } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

// Where the frames stand that begin and end what is told anew: `first` and `last` of a `Live`. Which number
// goes before them is learnt from the first one of a worker that comes: it names no challenge and nobody.
function liveFrames() {
  let arena = null;
  const learn = (body) => {
    if (body.length === 6 && body.subarray(1).equals(Buffer.from([0, 1, 0, 0, 0]))) arena = body[0];
    return false;
  };
  const isLast = (body) => body[0] === arena && body.subarray(1, 4).equals(Buffer.from([0, 0, 1]));
  return { learn, isLast, known: () => arena !== null };
}

describe("a worker that loses the storage writer", () => {
  let server, link, members, frames;
  before(async () => {
    server = await Server.start({ workers: 2, tables: CHALLENGE });
    members = await newMembers(server, "link", 3);
    link = await Link.start(server);
    frames = liveFrames();
    link.holdFrom(frames.learn);
    const [, { pid }] = server.processes("worker");
    process.kill(pid, "SIGKILL"); // its successor is behind the link
    await until("the worker is gone", () => !alive(pid));
    await server.ready();
    assert.ok(frames.known());
  });
  after(async () => {
    await server?.stop();
    link?.stop();
  });

  async function crowd() {
    const { challengeId: id } = await newChallenge(server, members[0]);
    for (const member of members) await join(server, id, member);
    const near = await raceOn(server, 0, id, members[2]);
    const far = [await raceOn(server, 1, id, members[0]), await raceOn(server, 1, id, members[1])];
    for (const member of members.slice(0, 2)) await hears(near, "USER_ENTERED", ({ userId }) => userId === member.id);
    return { id, near, far };
  }

  it("lets go of nobody who is still in, however long it takes to be told so", async () => {
    for (let attempt = 1; ; attempt++) {
      const { near, far } = await crowd();
      link.holdFrom(frames.isLast);
      link.cut();
      await until("all but the last piece", () => link.held);
      const since = Date.now();
      await until("any time has gone by", () => Date.now() - since > 3_000);
      assert.deepEqual(far.map(({ closed }) => closed), [null, null]);
      link.release();
      far[0].say(record(0.01));
      const isGone = () => near.heard.some(({ type }) => type === "USER_LEFT");
      await until("news of the far one", () => isGone() || near.heard.some(({ distance }) => distance === 0.01));
      if (!isGone()) {
        near.say(record(0.02));
        for (const ws of far) await hears(ws, "PARTICIPANT_UPDATE", ({ distance }) => distance === 0.02);
        assert.ok(!isGone());
      }
      for (const ws of [near, ...far]) ws.terminate();
      // On a machine with much else to do it may have been away for longer than a worker may.
      if (near.heard.some(({ type }) => type === "PARTICIPANT_UPDATE")) break;
      assert.ok(attempt < 10, "it was given up ten times");
    }
  });

  it("lets go of those who are not", async () => {
    const { id, near, far } = await crowd();
    const [{ pid }] = server.processes("storage");
    process.kill(pid, "SIGKILL");
    for (const ws of [near, ...far]) assert.deepEqual(await closing(ws), { code: 1013, reason: "enter again" });
    const again = [];
    for (const member of members) again.push(await until("it can re-enter", () => race(server, id, member)));
    const users = (await ranking(server, id, members[0])).map(({ userId }) => userId);
    assert.deepEqual(users.sort((one, two) => one - two), members.map(({ id }) => id));
    again.forEach((ws) => ws.terminate());
  });
});
