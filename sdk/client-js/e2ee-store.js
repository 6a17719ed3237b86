/* SPDX-License-Identifier: Apache-2.0 */
/* Where a device keeps its keys: get(name), list(prefix), and change({name: value, other: undefined}), which puts and
 * removes all at once or nothing. Keys of WebCrypto are kept as such, so that they cannot be read out. */

export class MemoryStore {
	#all = new Map();

	async get(name) {
		return this.#all.get(name);
	}

	/* [name, value] of all that begin so, by name. */
	async list(prefix) {
		return [...this.#all].filter(([name]) => name.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));
	}

	async change(changes) {
		for (const [name, value] of Object.entries(changes)) {
			if (value === undefined) {
				this.#all.delete(name);
			} else {
				this.#all.set(name, value);
			}
		}
	}

	async destroy() {
		this.#all.clear();
	}
}

const TABLE = "keys";
const done = (request) =>
	new Promise((resolve, reject) => {
		request.onsuccess = () => resolve(request.result);
		request.onerror = () => reject(request.error);
	});

/* One database a user: two accounts in one browser are two devices. */
export class IndexedDbStore {
	#name;
	#db;

	constructor(user) {
		this.#name = `chatd-e2ee-${user}`;
	}

	#open() {
		this.#db ??= new Promise((resolve, reject) => {
			const request = indexedDB.open(this.#name, 1);
			request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
			request.onerror = () => reject(request.error);
			request.onsuccess = () => {
				/* Another tab forgets this user: what is open here must not hold it up. */
				request.result.onversionchange = () => this.#close(request.result);
				resolve(request.result);
			};
		});
		return this.#db;
	}

	#close(db) {
		db.close();
		this.#db = undefined;
	}

	async #table(mode) {
		return (await this.#open()).transaction(TABLE, mode).objectStore(TABLE);
	}

	async get(name) {
		return done((await this.#table("readonly")).get(name));
	}

	async list(prefix) {
		const table = await this.#table("readonly");
		const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
		const [names, values] = await Promise.all([done(table.getAllKeys(range)), done(table.getAll(range))]);
		return names.map((name, i) => [name, values[i]]);
	}

	async change(changes) {
		const table = await this.#table("readwrite");
		for (const [name, value] of Object.entries(changes)) {
			if (value === undefined) {
				table.delete(name);
			} else {
				table.put(value, name);
			}
		}
		await new Promise((resolve, reject) => {
			table.transaction.oncomplete = resolve;
			table.transaction.onerror = () => reject(table.transaction.error);
			table.transaction.onabort = () => reject(table.transaction.error);
		});
	}

	async destroy() {
		if (this.#db) {
			this.#close(await this.#db);
		}
		await done(indexedDB.deleteDatabase(this.#name));
	}
}
