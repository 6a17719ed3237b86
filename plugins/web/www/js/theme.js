/* SPDX-License-Identifier: Apache-2.0 */
/* Runs before the first paint, so that a chosen theme does not flash; hence a classic script in the head. */
(function () {
	"use strict";
	try {
		var theme = localStorage.getItem("chatd.theme");
		if (theme === "light" || theme === "dark") {
			document.documentElement.dataset.theme = theme;
		}
	} catch (e) {
		/* Storage may be off (private windows, policies): the system's colours then. */
	}
})();
