// Every kind of attacker at once, while others chat. `node hostile.mjs` does the same for longer.

import assert from "node:assert/strict";
import { it } from "node:test";
import { bound, describeSiege, siege } from "./hostile.mjs";

it("attackers of every kind cost those who chat nothing, and the server bounded memory", async () => {
  const result = await siege({ seconds: 8 });
  console.log(describeSiege(result));
  assert.ok(result.verdict.clean, `${result.verdict} ${JSON.stringify(result.verdict.examples)}`);
  assert.equal(result.disconnected, 0, "no well-behaved client was let go");
  assert.equal(result.restarts, 0, "no process died");
  for (const { kind, count } of result.did) assert.ok(count > 0, `${kind}: ${count}`);
  for (const [name, curve] of result.sizes) assert.ok(Math.max(...curve) < bound(), `${name}: ${curve}`);
});
