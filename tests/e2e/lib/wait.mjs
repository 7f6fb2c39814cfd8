// Waiting for a condition, never for a time. The deadline only ends a test that has already failed.

import { setTimeout as pause } from "node:timers/promises";

export const DEADLINE_MS = 30_000;

// Answers the condition's first truthy value. A throw counts as "not yet".
export async function until(what, condition, deadlineMs = DEADLINE_MS) {
  const end = Date.now() + deadlineMs;
  let last;
  do {
    try {
      const value = await condition();
      if (value) return value;
      last = undefined;
    } catch (error) {
      last = error;
    }
    await pause(20);
  } while (Date.now() < end);
  throw new Error(`waited ${deadlineMs} ms in vain: ${what}`, { cause: last });
}

// The arguments of the emitter's next event of that name.
export function next(emitter, event, deadlineMs = DEADLINE_MS) {
  return new Promise((resolve, reject) => {
    const heard = (...args) => {
      clearTimeout(late);
      resolve(args);
    };
    const late = setTimeout(() => {
      emitter.off(event, heard);
      reject(new Error(`waited ${deadlineMs} ms in vain for the event ${event}`));
    }, deadlineMs);
    late.unref();
    emitter.once(event, heard);
  });
}
