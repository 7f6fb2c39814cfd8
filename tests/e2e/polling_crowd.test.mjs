// The crowd over long polling through nginx (polling_crowd.mjs), in a form that is over soon.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { it } from "node:test";
import { fileURLToPath } from "node:url";

const command = fileURLToPath(new URL("polling_crowd.mjs", import.meta.url));

it("three hundred sessions over long polling, through nginx to four workers, hear everything once and in order", async () => {
  const args = [command, "--sessions", "300", "--messages", "3000", "--room", "20"];
  const said = await new Promise((resolve, reject) => {
    execFile(process.execPath, args, (error, out, trouble) => (error ? reject(new Error(`${out}${trouble}`)) : resolve(out)));
  });
  console.log(said);
  assert.match(said, /^delivered +60000$/m);
  assert.match(said, /^ok$/m);
});
