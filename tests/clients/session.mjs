// What all scripts share. Each is run as `node SCRIPT.mjs URL` and prints one line of JSON, which the test reads.

import { createInterface } from 'node:readline';

export const url = process.argv[2];
export const baseURL = `${url}/v1`;
export const key = 'sk-test';

export function print(report) {
  console.log(JSON.stringify(report));
}

/** Waits until the test says that it has seen what it waited for. */
export function told() {
  const lines = createInterface({ input: process.stdin });
  return new Promise((resolve) => lines.once('line', () => resolve(lines.close())));
}

/** What a promise was rejected with, as plain data. */
export async function rejection(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return plain(error);
  }
}

export function plain(error) {
  return { name: error?.name, kind: error?.constructor?.name, status: error?.status ?? error?.statusCode, code: error?.code, message: String(error?.message ?? error) };
}

export const person = {
  type: 'object',
  properties: { name: { type: 'string' }, age: { type: 'integer' } },
  required: ['name', 'age'],
  additionalProperties: false,
};
