// SPDX-License-Identifier: Apache-2.0
// schema: do these values (JSON on standard input) fit the chart's values.schema.json?
import fs from "node:fs";
import Ajv from "ajv";

const ajv = new Ajv({ allErrors: true, allowUnionTypes: true });
const check = ajv.compile(JSON.parse(fs.readFileSync(process.argv[2], "utf8")));
if (!check(JSON.parse(fs.readFileSync(0, "utf8")))) {
	for (const e of check.errors) {
		console.error(`${e.instancePath || "values"}: ${e.message}`);
	}
	process.exit(1);
}
