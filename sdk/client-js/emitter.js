/* SPDX-License-Identifier: Apache-2.0 */

export class Emitter {
	#listeners = new Map();

	/* Returns a function that takes it off again. */
	on(name, listener) {
		const all = this.#listeners.get(name) ?? new Set();
		this.#listeners.set(name, all.add(listener));
		return () => all.delete(listener);
	}

	/* A listener that throws is told of, and hurts no other. */
	emit(name, value) {
		for (const listener of [...(this.#listeners.get(name) ?? [])]) {
			try {
				listener(value);
			} catch (error) {
				queueMicrotask(() => {
					throw error;
				});
			}
		}
	}
}
