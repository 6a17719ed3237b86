/* SPDX-License-Identifier: Apache-2.0 */
/* Runs before anything else; hence a classic script in the head. Storage may be off (private windows, policies): then
 * there is the system's theme, and no second try. */
(function () {
	"use strict";
	const quietly = (work) => {
		try {
			work();
		} catch {
			/* see above */
		}
	};

	/* Before the first paint, so that a chosen theme does not flash. */
	quietly(() => {
		const theme = localStorage.getItem("chatd.theme");
		if (theme === "light" || theme === "dark") {
			document.documentElement.dataset.theme = theme;
		}
	});

	/* While servers are updated one after the other, one may be asked for a script that only another one has. */
	const TRIES = "chatd.tries";
	const AT_MOST = 5;
	const isTheApplication = (element) => element instanceof HTMLScriptElement && element.type === "module";
	addEventListener(
		"error",
		(event) =>
			isTheApplication(event.target) &&
			quietly(() => {
				const tries = Number(sessionStorage.getItem(TRIES)) + 1;
				if (tries <= AT_MOST) {
					sessionStorage.setItem(TRIES, String(tries));
					setTimeout(() => location.reload(), tries * 1000);
				}
			}),
		true,
	);
	addEventListener("load", () => document.body.dataset.view !== "loading" && quietly(() => sessionStorage.removeItem(TRIES)));
})();
