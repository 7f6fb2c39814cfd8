// Logging out everywhere ends what a member's tickets let in, and the tickets (contract §5).

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { call } from "./lib/rest.mjs";
import {
  CHALLENGE, ask, closing, enter, hears, join, newChallenge, newMembers, race, raceOn, ranking, record, socket, statuses,
} from "./lib/racers.mjs";
import { Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

describe("logging out everywhere", () => {
  let server, members;
  before(async () => {
    server = await Server.start({ workers: 3, tables: CHALLENGE });
    members = await newMembers(server, "out", 40);
  });
  after(() => server?.stop());

  async function ready(joined) {
    const { challengeId } = await newChallenge(server, members[0]);
    for (const member of joined) await join(server, challengeId, member);
    return challengeId;
  }
  const login = async (member) =>
    ({ ...member, token: (await ask(server, "POST", `/auth/test-login?memberId=${member.id}`)).accessToken });
  async function isLoggedOut(ws) {
    assert.equal((await closing(ws)).code, 1008);
    const { timestamp, errorMessage, ...error } = ws.heard.at(-1);
    assert.deepEqual(error, { type: "ERROR", errorCode: "UNAUTHORIZED" });
  }

  const ways = {
    "logout-all": (member) => call(server, "POST", "/api/auth/logout-all", { token: member.token }),
    "a new password": (member) => call(server, "POST", "/api/auth/password",
      { token: member.token, payload: { currentPassword: "p", newPassword: "q" } }),
  };
  for (const [at, [way, end]] of Object.entries(ways).entries())
    it(`by ${way} ends the member's races on every worker, and what tickets there were`, async () => {
      const [member, other] = [members[2 * at + 1], members[2 * at + 2]];
      const ids = [];
      for (let worker = 0; worker < 3; worker++) ids.push(await ready([member, other]));
      const sockets = [], others = [];
      for (const [worker, id] of ids.entries()) {
        others.push(await raceOn(server, (worker + 1) % 3, id, other));
        sockets.push(await raceOn(server, worker, id, member));
      }
      const waiting = await ready([member, other]);
      const { ticket } = await enter(server, waiting, member);
      sockets[0].say(record(0.05));
      await hears(others[0], "PARTICIPANT_UPDATE");
      assert.equal((await end(member)).status, 200);
      const late = socket(server, `?ticket=${ticket}`);
      assert.equal((await closing(late)).code, 1008);
      assert.deepEqual(late.heard.map(({ errorCode }) => errorCode), ["INVALID_TICKET"]);
      for (const ws of sockets) await isLoggedOut(ws);
      for (const ws of others) {
        const { timestamp, ...left } = await hears(ws, "USER_LEFT");
        assert.deepEqual(left, { type: "USER_LEFT", userId: member.id, reason: "DISCONNECTED" });
        assert.equal(ws.closed, null);
      }
      await ask(server, "POST", `/challenges/${ids[0]}/enter`, member.token, undefined, 401);
      for (const id of ids) assert.equal((await statuses(server, id, other))[member.id], "DISCONNECTED");
      assert.equal((await statuses(server, waiting, other))[member.id], "WAITING");
      // With a good token again it is as after any lost connection.
      const again = await login(member);
      const back = await race(server, ids[0], again);
      assert.equal(back.connected.me.distance, 0.05);
      await hears(others[0], "USER_ENTERED", ({ userId, distance }) => userId === member.id && distance === 0.05);
      const places = await ranking(server, ids[0], other);
      assert.deepEqual(places.map(({ userId }) => userId), [member.id, other.id]);
      for (const ws of [...others, back]) ws.terminate();
    });

  it("leaves nobody in who comes at that very moment", async () => {
    const coming = members.slice(10);
    const id = await ready([members[0], ...coming]);
    const witness = await race(server, id, members[0]);
    let [entered, refused] = [0, 0];
    await Promise.all(coming.map(async (member, at) => {
      const { ticket } = await enter(server, id, member);
      const ws = socket(server, `?ticket=${ticket}`);
      // Before, while and after its ticket is looked at.
      if (at % 3 === 0) await hears(ws, "CONNECTED");
      if (at % 3 === 1) await until("it is open", () => ws.readyState === ws.OPEN);
      assert.equal((await call(server, "POST", "/api/auth/logout-all", { token: member.token })).status, 200);
      assert.equal((await closing(ws)).code, 1008);
      assert.equal(ws.heard.at(-1).type, "ERROR");
      if (ws.heard[0].type === "CONNECTED") entered += 1;
      else refused += 1;
    }));
    assert.equal(entered + refused, coming.length);
    assert.ok(entered >= 10);
    await until("none of them is in", async () => {
      const known = await statuses(server, id, members[0]);
      return coming.every(({ id }) => ["WAITING", "DISCONNECTED"].includes(known[id]));
    });
    const places = await ranking(server, id, members[0]);
    assert.deepEqual(places.map(({ userId }) => userId), [members[0].id]);
    const alone = await race(server, id, await login(coming[0]));
    assert.deepEqual(alone.connected.participants.map(({ userId }) => userId), [members[0].id]);
    for (const ws of [witness, alone]) ws.terminate();
  });
});
