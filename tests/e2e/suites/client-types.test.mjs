/* SPDX-License-Identifier: Apache-2.0 */
/* sdk/client-js: what its declarations name is there, and what is there is declared. Names alone, read without a compiler
 * of TypeScript: the declarations are ours, each member on a line of its own. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { describe, test } from "node:test";
import { REPO } from "../lib/harness.mjs";
import { Conversation } from "../../../sdk/client-js/conversation.js";
import { E2ee } from "../../../sdk/client-js/e2ee.js";
import { ChatClient } from "../../../sdk/client-js/index.js";

const CLIENT = path.join(REPO, "sdk/client-js");

/* {exported names of values, members by class}; a class that is declared to inherit has its own members alone. */
async function declared(file) {
	const text = (await readFile(path.join(CLIENT, file), "utf8")).replace(/\/\*.*?\*\//gs, "");
	const values = [...text.matchAll(/^export (?:declare )?(?:class|function|const) (\w+)/gm)].map((m) => m[1]);
	const classes = {};
	for (const [, name, body] of text.matchAll(/^export class (\w+)[^{]*\{\n(.*?)^\}/gms)) {
		const own = [...body.matchAll(/^\t(readonly )?(\w+)\??(?:<[^>]*>)?[:(]/gm)];
		classes[name] = own.map((m) => m[2]).filter((member) => member !== "constructor");
	}
	return { values, classes };
}

/* What a class of ours has: its methods, accessors and the fields of `made`; `inherited` from Emitter: `on` alone is meant
 * for others. */
function membersOf(type, made) {
	const own = Object.getOwnPropertyNames(type.prototype).filter((name) => name !== "constructor");
	const fields = made ? Object.keys(made) : [];
	return [...new Set([...own, ...fields, ...("on" in type.prototype ? ["on"] : [])])];
}

/* What only the library's other modules call. */
const INTERNAL = {
	Conversation: ["arrived", "lost", "resume", "resumed", "target"],
};

const nobody = async () => ({});
const MADE = {
	ChatClient: () => new ChatClient({ url: "http://127.0.0.1:1", login: { token: nobody }, storage: null, Client: class {}, WebSocket: class {} }),
	Conversation: () => new Conversation({}, "room", "lobby"),
	E2ee: () => new E2ee({ user: "somebody", rest: nobody }),
};

describe("the declarations of sdk/client-js", () => {
	for (const [types, code] of [["index.d.ts", "index.js"], ["e2ee.d.ts", "e2ee.js"]]) {
		test(`${types} and ${code} export the same`, async () => {
			const { values } = await declared(types);
			const module = await import(path.join(CLIENT, code));
			/* Only its type is for others: one is had by room() and direct(). */
			const made = values.filter((name) => name !== "Conversation");
			assert.deepEqual(made.sort(), Object.keys(module).sort());
		});

		test(`the classes of ${types} have what those of ${code} have`, async () => {
			const { classes } = await declared(types);
			const module = { Conversation, ...(await import(path.join(CLIENT, code))) };
			assert.ok(Object.values(classes).flat().length > 10, "something was read");
			for (const [name, members] of Object.entries(classes)) {
				if (module[name].prototype instanceof Error) {
					continue; /* fields alone, set as each error has them */
				}
				const real = membersOf(module[name], MADE[name]?.()).filter((member) => !INTERNAL[name]?.includes(member));
				const inherited = Object.getOwnPropertyNames(Object.getPrototypeOf(module[name].prototype) ?? {});
				const missing = members.filter((member) => !real.includes(member) && !inherited.includes(member));
				assert.deepEqual(missing, [], `${name} declares what is not there`);
				const untold = real.filter((member) => !members.includes(member) && !inherited.includes(member));
				assert.deepEqual(untold, [], `${name} has what is not declared`);
			}
		});
	}
});
