/* What arrived, in order, for a test to take one by one. */

export class Inbox {
	#items = [];
	#waiting = [];
	#name;

	constructor(name) {
		this.#name = name;
	}

	push(item) {
		const waiter = this.#waiting.shift();
		if (waiter) {
			waiter(item);
		} else {
			this.#items.push(item);
		}
	}

	get size() {
		return this.#items.length;
	}

	/* The next one, within `ms`. */
	next(ms = 30000) {
		if (this.#items.length > 0) {
			return Promise.resolve(this.#items.shift());
		}
		return new Promise((resolve, reject) => {
			const waiter = (item) => {
				clearTimeout(timer);
				resolve(item);
			};
			const timer = setTimeout(() => {
				this.#waiting = this.#waiting.filter((w) => w !== waiter);
				reject(new Error(`nothing arrived at ${this.#name} within ${ms} ms`));
			}, ms);
			this.#waiting.push(waiter);
		});
	}

	/* The next one that `fits`; others are dropped. */
	async find(fits, ms = 30000) {
		const deadline = Date.now() + ms;
		for (;;) {
			const item = await this.next(Math.max(1, deadline - Date.now()));
			if (fits(item)) {
				return item;
			}
		}
	}

	async take(n, ms = 40000) {
		const taken = [];
		const deadline = Date.now() + ms;
		while (taken.length < n) {
			taken.push(await this.next(Math.max(1, deadline - Date.now())));
		}
		return taken;
	}

	/* All that is there now. */
	drain() {
		return this.#items.splice(0);
	}
}
